# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem`, the command line. Exit status: 0 done, 1 failed, 2 usage or configuration."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

from tandem import __version__
from tandem.control.client import ControlError, DeniedError, NoDaemonError, RefusedError, ask
from tandem.control.server import DEFAULT_SOCKET
from tandem.control.table import printable, render_status

DONE, FAILED, UNUSABLE = 0, 1, 2
DEFAULT_CONFIG = "/etc/config/tandem"
NOT_UNDERSTOOD = "the daemon's status is not understood; if it is of another version, restart it"
RELOAD_TIMEOUT_S = 70.0  # the server gives up after 60 s and says so


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; argparse exits by itself with 2."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            arguments = _parser().parse_args(argv)
            exit_status: int = arguments.run(arguments)
        finally:
            sys.stdout.flush()
    except RefusedError as error:
        _complain([*str(error).splitlines(), *error.problems])
        return UNUSABLE if error.problems else FAILED
    except ControlError as error:
        _complain([str(error)])
        return FAILED
    except BrokenPipeError:
        # Nobody reads any more; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return FAILED
    return exit_status


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
    return _page(render_status, result)


def _page(render: Callable[[Any, int, bool], str], result: Any) -> str:
    """The result as text for this screen."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    try:
        return render(result, shutil.get_terminal_size((80, 24)).columns, colour)
    except (KeyError, TypeError, AttributeError):
        raise ControlError(NOT_UNDERSTOOD) from None


def _no_status(arguments: argparse.Namespace, error: ControlError) -> str:
    what = "no daemon" if isinstance(error, NoDaemonError) else "no status"
    if arguments.json:
        return json.dumps({"error": str(error)}) + "\n"
    return f"{what} ({printable(error)})\n"


def _fit_screen(text: str) -> str:
    """As many lines as the screen holds, each erased to its end: it does not flicker nor scroll."""
    lines = text.splitlines()
    room = max(shutil.get_terminal_size((80, 24)).lines - 1, 1)
    if len(lines) > room:
        lines[room - 1 :] = [f"... {len(lines) - room + 1} more lines"]
    return "".join(f"{line}\x1b[K\n" for line in lines)


def conntrack(arguments: argparse.Namespace) -> int:
    """Print the state of connection replication."""
    from tandem.control.replication_page import render_replication

    result = ask(arguments.control, "conntrack")
    sys.stdout.write(
        json.dumps(result, indent=2) + "\n" if arguments.json else _page(render_replication, result)
    )
    return DONE


def conntrack_list(arguments: argparse.Namespace) -> int:
    """Print the flows of our own table, of what is held of a peer, or of all, one a line."""
    from tandem.control.flows import line

    tables: list[str | None] = [arguments.peer]
    if not (arguments.own or arguments.peer is not None):
        tables += ask(arguments.control, "conntrack")["held"]
    left = sys.maxsize if arguments.limit is None else arguments.limit
    for peer in tables:
        heading = not arguments.json and len(tables) > 1
        for number, flow in enumerate(_flows(arguments.control, peer, left)):
            if heading and not number:
                print("# own" if peer is None else f"# held for {printable(peer)}")
            print(json.dumps({"peer": peer} | flow) if arguments.json else printable(line(flow)))
            left -= 1
    return DONE


def _flows(control: str, peer: str | None, limit: int) -> Iterator[dict[str, Any]]:
    """At most `limit` flows, asked for little by little."""
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


def command(arguments: argparse.Namespace) -> int:
    """Have the daemon do `failover`, `standby` or `resume`."""
    _say(ask(arguments.control, arguments.command, group=arguments.group))
    return DONE


def reload(arguments: argparse.Namespace) -> int:
    """Have the daemon read its configuration again; wait until it has."""
    _say(ask(arguments.control, "reload", timeout_s=RELOAD_TIMEOUT_S))
    return DONE


def version(arguments: argparse.Namespace) -> int:
    """Print the version of this command and of the daemon, if one runs."""
    print(f"tandem {__version__}")
    try:
        result = ask(arguments.control, "version")
    except NoDaemonError:
        print("tandemd is not running")
        return DONE
    _say(result)
    return DONE


# Commands that need no daemon


def check(arguments: argparse.Namespace) -> int:
    """Print every error of a configuration, or what it means with all defaults."""
    from tandem.config.effective import render

    config = _load(arguments.file)
    if config is None:
        return UNUSABLE
    sys.stdout.write(render(config))
    return DONE


def capture(arguments: argparse.Namespace) -> int:
    """Print the advertisements that arrive at an interface, each with a verdict."""
    path = arguments.config or _running_config(arguments.control)
    config = _load(path) if arguments.config or os.path.exists(path) else None
    if config is None and arguments.config:
        return UNUSABLE
    try:
        from tandem.control.capture import capture as run

        run(arguments.interface, config, arguments.count, sys.stdout)
    except ModuleNotFoundError as error:
        _complain([f"capture needs the Python module {error.name}, which is not installed"])
        return FAILED
    except PermissionError:
        _complain(["only root may capture packets"])
        return FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        _complain([f"{arguments.interface}: {error.strerror or error}"])
        return FAILED
    except KeyboardInterrupt:
        pass
    return DONE


def _running_config(control: str) -> str:
    """The file that the running daemon has read, or the default one."""
    try:
        return str(ask(control, "status")["config_file"])
    except ControlError:
        return DEFAULT_CONFIG


def _load(path: str) -> Any:
    """The configuration of a file, or None after telling what is wrong with it."""
    from tandem.config.load import load_file

    loaded = load_file(path)
    _print(sys.stderr, map(str, loaded.errors))
    _print(sys.stderr, (f"warning: {problem}" for problem in loaded.warnings))
    return None if loaded.errors else loaded.config


# Output


def _say(result: object) -> None:
    """Print what the daemon has to say about a command."""
    match result:
        case {"groups": dict(groups)}:
            _print(sys.stdout, (f"{name}: {state}" for name, state in groups.items()))
        case {"version": running}:
            _print(sys.stdout, [f"tandemd {running}"])
        case str(sentence):
            _print(sys.stdout, [sentence])


def _complain(sentences: Iterable[object]) -> None:
    _print(sys.stderr, (f"tandem: {sentence}" for sentence in sentences))


def _print(stream: TextIO, lines: Iterable[object]) -> None:
    for line in lines:
        print(printable(line), file=stream)


# Usage


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("it takes 0.1 to 3600 seconds")
    return seconds


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("it takes a number of at least 1")
    return int(text)


def _add_control(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--control",
        metavar="SOCKET",
        default=default,
        help=f"control socket of the daemon (default: {DEFAULT_SOCKET})",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tandem",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Look after tandemd: several routers that share one gateway address.",
        epilog="""\
examples:
  tandem status              who is active, since when and why
  tandem status --watch      the same, redrawn every second
  tandem failover            hand every group over to the other router
  tandem conntrack           whether connections would survive that
  tandem check && tandem reload
                             use an edited configuration if it is sound

Every command has its own help: tandem COMMAND --help
exit status: 0 done, 1 failed, 2 usage or configuration""",
    )
    _add_control(parser, DEFAULT_SOCKET)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Any, summary: str, details: str, examples: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            description=f"{summary[0].upper()}{summary[1:]}.\n\n{details}",
            epilog=f"examples:\n{examples}",
        )
        _add_control(sub, argparse.SUPPRESS)  # without it, one that stands before the command holds
        sub.set_defaults(run=run, command=name)
        return sub

    sub = add(
        "status",
        status,
        "show the state of every group and virtual router",
        """\
MASTER: this router has the addresses. BACKUP: another one has them, this one
is ready. FAULT: this router can't take them; the reasons are listed.
"110 = 100 +10 script chk" is the configured priority and what trackers add.
Counters that are zero are left out.""",
        """\
  tandem status
  tandem status --watch 0.5          redraw twice a second, Ctrl-C ends
  tandem status --json               for scripts
  NO_COLOR=1 tandem status           without colours""",
    )
    sub.add_argument("--json", action="store_true", help="print JSON; with --watch one line each time")
    sub.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=1.0,
        metavar="SECONDS",
        help="redraw every SECONDS (default: 1) until Ctrl-C, also while the daemon restarts",
    )

    sub = add(
        "conntrack",
        conntrack,
        "show whether connections survive a takeover",
        """\
The replication of connections (config conntrack_sync). Own: the flows that this
router tracks while it is active. Held: those of the active router that this one
restores when it takes over. "in step": all of them are there. Lag: how far the
peer is behind. Lost: what the kernel or a full table could not take.
`tandem conntrack list` prints the flows themselves.""",
        """\
  tandem conntrack
  tandem conntrack --json            for scripts
  tandem conntrack list --limit 20   some flows""",
    )
    sub.add_argument("--json", action="store_true", help="print JSON")
    _add_list(sub)

    for name, summary, details, examples in _GROUP_COMMANDS:
        sub = add(name, command, summary, details, examples)
        sub.add_argument(
            "group", nargs="?", metavar="GROUP", help="sync group or single instance (default: all)"
        )

    add(
        "reload",
        reload,
        "use the edited configuration",
        """\
The daemon reads its file again. What did not change keeps its role and its
addresses. A file with errors changes nothing: they are printed, and the exit
status is 2.""",
        """\
  tandem reload
  tandem check && tandem reload""",
    )

    sub = add(
        "check",
        check,
        "check a configuration file",
        """\
Prints every error with file, line, section and option to the standard error and
exits with 2, or prints the effective configuration with all its defaults.
Needs no daemon and changes nothing.""",
        """\
  tandem check
  tandem check /tmp/tandem.new""",
    )
    sub.add_argument(
        "file",
        nargs="?",
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"the file (default: {DEFAULT_CONFIG})",
    )

    sub = add(
        "capture",
        capture,
        "watch the advertisements on an interface",
        """\
Prints each VRRP advertisement that arrives, decoded, with the reason why this
router accepts or drops it under its configuration. Ctrl-C ends.""",
        """\
  tandem capture br-lan
  tandem capture eth0 --count 1      wait for one advertisement""",
    )
    sub.add_argument("interface", metavar="IFACE", help="the network device, such as br-lan")
    sub.add_argument("--count", type=_positive, metavar="N", help="end after N advertisements")
    sub.add_argument("-c", "--config", metavar="FILE", help="configuration (default: the running daemon's)")

    add(
        "version",
        version,
        "print the version of this command and of the running daemon",
        "They differ after an upgrade until the daemon is restarted.",
        "  tandem version",
    )
    return parser


def _add_list(parser: argparse.ArgumentParser) -> None:
    """The command below `tandem conntrack`."""
    commands = parser.add_subparsers(title="commands", metavar="list")
    sub = commands.add_parser(
        "list",
        help="print the flows, one a line",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
Print the flows, one a line.

Each line is like one of `conntrack -L`: protocol, its number, seconds until it
expires as last heard of, state, the addresses of the first packet and of its
answer (they show what NAT changes), mark. Without --own or --peer every table
is printed, each below a line that begins with "#".""",
        epilog="""\
examples:
  tandem conntrack list --own
  tandem conntrack list --peer r2 --limit 20
  tandem conntrack list --json | jq .reply.dst""",
    )
    _add_control(sub, argparse.SUPPRESS)
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--own", action="store_true", help="only those of this router itself")
    which.add_argument("--peer", metavar="NAME", help="only those held for a peer")
    sub.add_argument("--limit", type=_positive, metavar="N", help="at most N flows")
    sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="one object a line")
    sub.set_defaults(run=conntrack_list)


_GROUP_COMMANDS = (
    (
        "failover",
        "hand the active role to the other router",
        """\
The router stays ready and takes over again when the other one fails, but does
not preempt it until `tandem resume`. Run it on the router that is MASTER.""",
        """\
  tandem failover                    every group
  tandem failover G1                 only that group""",
    ),
    (
        "standby",
        "take this router out of service",
        """\
It gives up the active role and does not take it again, even when the other
router fails, until `tandem resume`. For maintenance.""",
        """\
  tandem standby
  tandem standby G1                  only that group""",
    ),
    (
        "resume",
        "end standby, and let this router preempt again after a failover",
        "The election decides anew by priority.",
        """\
  tandem resume
  tandem resume G1                   only that group""",
    ),
)
