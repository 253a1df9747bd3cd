# SPDX-License-Identifier: GPL-2.0-or-later
"""The entries of `command_table` that ask the daemon for its state, or have it do something."""

from __future__ import annotations

import argparse

from tandem.control.command import CONFIGURE, JSON, OPERATE, SEE, Command, arg, positive, seconds, switch

_COMMANDS = "tandem.control.commands:"
_GROUP = arg(
    "group",
    nargs="?",
    metavar="GROUP",
    help="sync group or single instance (default: all)",
    completes="group",
)
_FORCE = switch("--force", "also when nobody would take over")

DAEMON_COMMANDS = (
    Command(
        "status",
        "show who is active, whether the other router is ready, and what is wrong",
        """\
Three answers first: who is active, is the other router ready to take over, and
would connections survive that? Then the state of each group. With -v all that
is known of every virtual router follows.
MASTER: this router has the addresses. BACKUP: another one has them, this one
is ready. FAULT: this router can't take them; the reasons are listed.
"110 = 100 +10 script chk" is the configured priority and what trackers add.
Counters that are zero are left out.""",
        """\
  tandem status
  tandem status -v                   everything
  tandem status --watch 0.5          redraw twice a second, Ctrl-C ends
  tandem status --json               for scripts
  NO_COLOR=1 tandem status           without colours""",
        (
            arg("-v", "--verbose", action="store_true", help="everything, in the long form"),
            switch("--json", "print JSON; with --watch one line each time"),
            arg(
                "--watch",
                nargs="?",
                type=seconds,
                const=1.0,
                metavar="SECONDS",
                help="redraw every SECONDS (default: 1) until Ctrl-C, also while the daemon restarts",
            ),
        ),
        run=_COMMANDS + "status",
        request=("only",),
        access=SEE,
    ),
    Command(
        "why",
        "explain why the roles are as they are, and what would change them",
        "Sentences for each group, made from the status.",
        "  tandem why",
        run=_COMMANDS + "why",
    ),
    Command(
        "history",
        "show the last changes of roles, with their causes",
        """\
The latest comes first; times are those of this router's clock. For each change:
the cause, what saw it, and how long each step of a takeover took, from the
decision on. A restart of the daemon keeps the history, and with `option
history_file` a reboot does too.""",
        """\
  tandem history
  tandem history --json              for scripts""",
        (JSON,),
        run=_COMMANDS + "history",
        request=(),
        access=SEE,
    ),
    Command(
        "failover",
        "hand the active role to the other router",
        """\
The router stays ready and takes over again when the other one fails, but does
not preempt it until `tandem resume`. Run it on the router that is MASTER.""",
        """\
  tandem failover                    every group
  tandem failover G1                 only that group
  tandem failover --force            also when nobody would take over""",
        (_GROUP, _FORCE),
        run=_COMMANDS + "operate",
        request=("group", "force", "by"),
        access=OPERATE,
    ),
    Command(
        "standby",
        "take this router out of service",
        """\
It gives up the active role and does not take it again, even when the other
router fails, until `tandem resume`: a restart and a reboot do not end it. For
maintenance. `tandem status` says since when and by whom.""",
        """\
  tandem standby
  tandem standby G1                  only that group
  tandem standby --once              until the daemon ends, at the latest""",
        (_GROUP, _FORCE, switch("--once", "end the standby when the daemon ends or the router reboots")),
        run=_COMMANDS + "operate",
        request=("group", "force", "once", "by"),
        access=OPERATE,
    ),
    Command(
        "resume",
        "end standby, and let this router preempt again after a failover",
        "The election decides anew by priority.",
        """\
  tandem resume
  tandem resume G1                   only that group""",
        (_GROUP,),
        run=_COMMANDS + "operate",
        request=("group", "by"),
        access=OPERATE,
    ),
    Command(
        "reload",
        "use the edited configuration",
        """\
The daemon reads its file again. What did not change keeps its role and its
addresses. A file with errors changes nothing: they are printed, and the exit
status is 2.""",
        """\
  tandem reload
  tandem check && tandem reload""",
        run=_COMMANDS + "reload",
        request=(),
        access=CONFIGURE,
    ),
    Command(
        "conntrack",
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
        (JSON,),
        run=_COMMANDS + "conntrack",
        request=(),
        access=SEE,
    ),
    Command(
        "conntrack list",
        "print the flows, one a line",
        """\
Each line is like one of `conntrack -L`: protocol, its number, seconds until it
expires as last heard of, state, the addresses of the first packet and of its
answer (they show what NAT changes), mark. Without --own or --peer every table
is printed, each below a line that begins with "#".""",
        """\
  tandem conntrack list --own
  tandem conntrack list --peer r2 --limit 20
  tandem conntrack list --json | jq .reply.dst""",
        (
            switch("--own", "only those of this router itself", excludes="which"),
            arg("--peer", metavar="NAME", help="only those held for a peer", excludes="which"),
            arg("--limit", type=positive, metavar="N", help="at most N flows"),
            switch("--json", "one object a line", default=argparse.SUPPRESS),
        ),
        run=_COMMANDS + "conntrack_list",
        request=("peer", "cursor"),
        access=SEE,
        plugin={"peer": "", "search": "", "limit": 0},
    ),
    Command("examine", request=("listen",)),
)
