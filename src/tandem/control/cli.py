# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem`, the command line. Exit status: 0 done, 1 failed, 2 usage or configuration."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tandem.console import FAILED, UNUSABLE, complain
from tandem.control import DEFAULT_SOCKET
from tandem.control.client import ControlError, RefusedError
from tandem.control.command import CONTROL, Argument, Command
from tandem.control.command_table import EPILOG, PROGRAM, TABLE
from tandem.programs import find_program


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; argparse exits by itself with 2."""
    _open_streams()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            arguments = _parser().parse_args(_arguments() if argv is None else argv)
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except RefusedError as error:
        complain([*str(error).splitlines(), *error.problems])
        return UNUSABLE if error.problems else FAILED
    except ControlError as error:
        complain([str(error)])
        return FAILED
    except BrokenPipeError:
        # Nobody reads any more; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return FAILED


def _open_streams() -> None:
    """Open missing standard streams: procd starts a trigger's programs without descriptors 0 to 2."""
    if sys.stdout is not None and sys.stderr is not None:
        return
    null = os.open(os.devnull, os.O_RDWR)
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:  # its number may belong to the program's text, which Python 3.14 keeps open
            os.dup2(null, number)
    if null > 2:
        os.close(null)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _arguments() -> list[str]:
    """Return the arguments. The program's name may add a command, as in `tandem-status`."""
    _, dash, command = os.path.basename(sys.argv[0]).partition("tandem-")
    return [command, *sys.argv[1:]] if dash else sys.argv[1:]


def _run(arguments: argparse.Namespace) -> int:
    try:
        return _function(arguments.run)(arguments)
    except ModuleNotFoundError as error:
        if not arguments.package:
            raise
        needs = f"{arguments.command} requires the Python module {error.name}"
        complain([f"{needs}. On OpenWrt: {_install_line(arguments.package)}"])
        return FAILED


def _install_line(package: str) -> str:
    """Return the command that installs a package: with apk where it is, otherwise with opkg."""
    return f"apk add {package}" if os.access(find_program("apk"), os.X_OK) else f"opkg install {package}"


def _function(run: str) -> Callable[[argparse.Namespace], int]:
    """Import the function of a command; no other command's modules are loaded."""
    module, _, name = run.partition(":")
    found: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), name)
    return found


def _parser() -> argparse.ArgumentParser:
    """Make the parser from the table."""
    top = argparse.ArgumentParser(
        prog="tandem",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=PROGRAM,
        epilog=EPILOG,
    )
    _add_argument(top, CONTROL, default=DEFAULT_SOCKET)
    parsers = {"": top}
    below: dict[str, Any] = {"": top.add_subparsers(title="commands", metavar="COMMAND", required=True)}
    for command in TABLE:
        if command.summary:
            parent, _, name = command.name.rpartition(" ")
            if parent not in below:
                below[parent] = parsers[parent].add_subparsers(title="commands", metavar=name)
            parsers[command.name] = _add_command(below[parent], name, command)
    return top


def _add_command(subparsers: Any, name: str, command: Command) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=command.summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=f"{command.summary[0].upper()}{command.summary[1:]}.\n\n{command.details}",
        epilog=f"examples:\n{command.examples}",
    )
    _add_argument(parser, CONTROL, default=argparse.SUPPRESS)  # keeps a value given before the command
    parser.set_defaults(run=command.run, command=command.name, package=command.package)
    exclusive: dict[str, Any] = {"": parser}
    for argument in command.arguments:
        if argument.excludes not in exclusive:
            exclusive[argument.excludes] = parser.add_mutually_exclusive_group()
        _add_argument(exclusive[argument.excludes], argument)
    return parser


def _add_argument(parser: Any, argument: Argument, **more: Any) -> None:
    parser.add_argument(*argument.names, **argument.keywords, **more)
