# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem`, the command line. Exit status: 0 done, 1 failed, 2 usage or configuration."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from tandem.control import commands, import_command
from tandem.control.client import ControlError, RefusedError
from tandem.control.commands import DEFAULT_CONFIG, FAILED, UNUSABLE, complain
from tandem.control.server import DEFAULT_SOCKET
from tandem.dhcp import command as dhcp
from tandem.doctor import command as doctor
from tandem.setup import command as init


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; argparse exits by itself with 2."""
    _open_streams()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            arguments = _parser().parse_args(argv)
            exit_status: int = arguments.run(arguments)
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
    return exit_status


def _open_streams() -> None:
    """procd runs what a trigger starts without descriptors 0 to 2; Python then has no streams (None)."""
    if sys.stdout is not None and sys.stderr is not None:
        return
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


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
  tandem init                set up two routers that share a gateway address
  tandem doctor              what would break a takeover, and the cure
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
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Any, summary: str, details: str, examples: str) -> argparse.ArgumentParser:
        sub = subparsers.add_parser(
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
        commands.status,
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
        commands.conntrack,
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
        sub = add(name, commands.command, summary, details, examples)
        sub.add_argument(
            "group", nargs="?", metavar="GROUP", help="sync group or single instance (default: all)"
        )
        if name != "resume":
            sub.add_argument("--force", action="store_true", help="also when nobody would take over")

    add(
        "reload",
        commands.reload,
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
        commands.check,
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

    import_command.add_arguments(
        add(
            "import",
            import_command.run,
            import_command.SUMMARY,
            import_command.DETAILS,
            import_command.EXAMPLES,
        )
    )

    sub = add(
        "capture",
        commands.capture,
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
        commands.version,
        "print the version of this command and of the running daemon",
        "They differ after an upgrade until the daemon is restarted.",
        "  tandem version",
    )
    init.register(add)
    doctor.register(add)
    dhcp.register(add)
    return parser


def _add_list(parser: argparse.ArgumentParser) -> None:
    """The command below `tandem conntrack`."""
    subparsers = parser.add_subparsers(title="commands", metavar="list")
    sub = subparsers.add_parser(
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
    sub.set_defaults(run=commands.conntrack_list)


_GROUP_COMMANDS = (
    (
        "failover",
        "hand the active role to the other router",
        """\
The router stays ready and takes over again when the other one fails, but does
not preempt it until `tandem resume`. Run it on the router that is MASTER.""",
        """\
  tandem failover                    every group
  tandem failover G1                 only that group
  tandem failover --force            also when nobody would take over""",
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
