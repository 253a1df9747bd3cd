# SPDX-License-Identifier: GPL-2.0-or-later
"""The functions of the commands of `tandem`; `command_table` describes how users call them.

Each function gets argparse's namespace and returns the exit status.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tandem import __version__
from tandem.console import DONE, FAILED, UNUSABLE, complain, print_lines, printable
from tandem.control.client import ControlError, DeniedError, NoDaemonError, ask
from tandem.control.status_page import render_short, render_status
from tandem.places import CONFIG

NOT_UNDERSTOOD = "the daemon's status is not understood; if it is of another version, restart it"
RELOAD_TIMEOUT_S = 70.0  # the server gives up after 60 s and says so


# Commands that ask the daemon


def status(arguments: argparse.Namespace) -> int:
    """Print the status once, or again and again until Ctrl-C."""
    if arguments.watch is None:
        sys.stdout.write(_status_text(arguments))
        return DONE
    home, clear = ("\x1b[H", "\x1b[J") if sys.stdout.isatty() else ("", "")
    try:
        sys.stdout.write(home + clear)
        while True:
            try:
                text = _status_text(arguments)
            except DeniedError:
                raise
            except ControlError as error:  # it may be restarting
                text = _no_status(arguments, error)
            sys.stdout.write(home + (_fit_screen(text) if home else text) + clear)
            sys.stdout.flush()
            time.sleep(arguments.watch)
    except KeyboardInterrupt:
        return DONE


def _status_text(arguments: argparse.Namespace) -> str:
    result = ask(arguments.control, "status")
    if arguments.json:
        return json.dumps(result, indent=None if arguments.watch else 2) + "\n"
    return _page(render_status if arguments.verbose else render_short, result)


def _page(render: Callable[[Any, int, bool], str], result: Any) -> str:
    """Return the result as text for this screen."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    columns = shutil.get_terminal_size((80, 24)).columns
    text: str = understood(lambda found: render(found, columns, colour), result)
    return text


def _no_status(arguments: argparse.Namespace, error: ControlError) -> str:
    what = "no daemon" if isinstance(error, NoDaemonError) else "no status"
    if arguments.json:
        return json.dumps({"error": str(error)}) + "\n"
    return f"{what} ({printable(error)})\n"


def _fit_screen(text: str) -> str:
    """Return as many lines as the screen holds, each erased to its end: nothing flickers or scrolls."""
    lines = text.splitlines()
    room = max(shutil.get_terminal_size((80, 24)).lines - 1, 1)
    if len(lines) > room:
        lines[room - 1 :] = [f"... {len(lines) - room + 1} more lines"]
    return "".join(f"{line}\x1b[K\n" for line in lines)


def why(arguments: argparse.Namespace) -> int:
    """Print why the roles are as they are, and what would change them."""
    from tandem.control.why import explain

    print_lines(sys.stdout, understood(explain, ask(arguments.control, "status")))
    return DONE


def history(arguments: argparse.Namespace) -> int:
    """Print the last transitions, the latest first."""
    from tandem.control.history_page import render_history

    entries = ask(arguments.control, "history")["transitions"]
    sys.stdout.write(
        json.dumps(entries, indent=2) + "\n" if arguments.json else _page(render_history, entries)
    )
    return DONE


def understood(make: Callable[[Any], Any], result: Any) -> Any:
    """Apply `make` to an answer, which may come from another version."""
    try:
        return make(result)
    except (KeyError, TypeError, AttributeError):
        raise ControlError(NOT_UNDERSTOOD) from None


def conntrack(arguments: argparse.Namespace) -> int:
    """Print the state of connection replication."""
    from tandem.control.replication_page import render_replication

    result = ask(arguments.control, "conntrack")
    sys.stdout.write(
        json.dumps(result, indent=2) + "\n" if arguments.json else _page(render_replication, result)
    )
    return DONE


def conntrack_list(arguments: argparse.Namespace) -> int:
    """Print this router's own flows, the flows held of a peer, or all, one a line."""
    from tandem.control.flows import line

    tables: list[str | None] = [arguments.peer]
    if not (arguments.own or arguments.peer is not None):
        tables += ask(arguments.control, "conntrack")["held"]
    left = sys.maxsize if arguments.limit is None else arguments.limit
    for peer in tables:
        heading = not arguments.json and len(tables) > 1
        for number, flow in enumerate(flows(arguments.control, peer, left)):
            if heading and not number:
                print("# own" if peer is None else f"# held for {printable(peer)}")
            print(json.dumps({"peer": peer} | flow) if arguments.json else printable(line(flow)))
            left -= 1
    return DONE


def flows(control: str, peer: str | None, limit: int) -> Iterator[dict[str, Any]]:
    """Yield at most `limit` flows; several requests get them in parts."""
    from tandem.control.flows import decode

    cursor: str | None = "0"
    while limit > 0 and cursor is not None:
        answer = ask(control, "conntrack_list", peer=peer, cursor=cursor)
        try:
            found = [decode(bytes.fromhex(key), bytes.fromhex(body)) for key, body in answer["entries"]]
            cursor = answer["next"]
        except (KeyError, TypeError, ValueError):
            raise ControlError(NOT_UNDERSTOOD) from None
        yield from found[:limit]
        limit -= len(found)


def operate(arguments: argparse.Namespace) -> int:
    """Have the daemon do `failover`, `standby` or `resume`."""
    force, once = ("yes" if getattr(arguments, name, False) else None for name in ("force", "once"))
    answer = ask(
        arguments.control,
        arguments.command,
        timeout_s=RELOAD_TIMEOUT_S,  # services stop first
        group=arguments.group,
        force=force,
        once=once,
        by=who(),
    )
    say(answer)
    return DONE


def who() -> str:
    """Name the user of this command, for the log and for `tandem status`."""
    user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
    where = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
    name = f"{user} from {where}" if where else user
    return "".join(char for char in name if char.isprintable())[:64]


def reload(arguments: argparse.Namespace) -> int:
    """Have the daemon read its configuration again; wait until it has."""
    say(ask(arguments.control, "reload", timeout_s=RELOAD_TIMEOUT_S))
    return DONE


def version(arguments: argparse.Namespace) -> int:
    """Print the version of this command and of the daemon, if one runs."""
    print(f"tandem {__version__}")
    try:
        result = ask(arguments.control, "version")
    except NoDaemonError:
        print("tandemd is not running")
        return DONE
    say(result)
    return DONE


# Commands that need no daemon


def check(arguments: argparse.Namespace) -> int:
    """Print every error of a configuration, or its effective options with all defaults.

    Some errors only appear on this router, or when the messages for its kernel are made, which requires
    pyroute2.
    """
    from tandem.config.effective import render

    config = load_or_complain(arguments.file)
    if config is None:
        return UNUSABLE
    from tandem.plan.requirement import problem as unusable_here

    if why := unusable_here():
        complain([f"{arguments.file} is valid, but this router can't use it: {why}"])
        return FAILED
    from tandem.plan.process import problems

    if found := problems(config):
        print_lines(sys.stderr, (f"{arguments.file}: {problem}" for problem in found))
        return UNUSABLE
    sys.stdout.write(render(config))
    return DONE


def capture(arguments: argparse.Namespace) -> int:
    """Print the advertisements that arrive at an interface, each with a verdict."""
    path = arguments.config or running_config(arguments.control)
    config = load_or_complain(path) if arguments.config or os.path.exists(path) else None
    if config is None and arguments.config:
        return UNUSABLE
    networks = running_networks(arguments.control)
    try:
        from tandem.listen.adverts import on_devices
        from tandem.listen.capture import capture as run

        interface = networks.get(arguments.interface) or arguments.interface
        run(interface, on_devices(config, networks) if networks else config, arguments.count, sys.stdout)
    except PermissionError:
        complain(["only root may capture packets"])
        return FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        complain([f"{arguments.interface}: {error.strerror or error}"])
        return FAILED
    except KeyboardInterrupt:
        pass
    return DONE


def running_networks(control: str) -> dict[str, str | None]:
    """Return the networks of OpenWrt that the running daemon knows, with their devices."""
    try:
        return dict(ask(control, "status")["networks"])
    except (ControlError, KeyError, TypeError, ValueError):
        return {}


def running_config(control: str) -> str:
    """Return the path of the file that the running daemon has read, or the default path."""
    try:
        return str(ask(control, "status")["config_file"])
    except ControlError:
        return CONFIG


def load_or_complain(path: str) -> Any:
    """Return the configuration in a file, or None after printing its errors."""
    from tandem.config.load import load_file

    loaded = load_file(path)
    print_lines(sys.stderr, map(str, loaded.errors))
    print_lines(sys.stderr, (f"warning: {problem}" for problem in loaded.warnings))
    return None if loaded.errors else loaded.config


# Output


def say(result: object) -> None:
    """Print the daemon's sentences about a command."""
    match result:
        case {"groups": dict(groups)}:
            print_lines(sys.stdout, (f"{name}: {state}" for name, state in groups.items()))
        case {"version": running}:
            print_lines(sys.stdout, [f"tandemd {running}"])
        case str(sentence):
            print_lines(sys.stdout, [sentence])
