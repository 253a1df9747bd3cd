# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of Tandem: one table, from which everything that knows a command is made.

The command line is made from this table when it runs (`cli`). From this table, `make generated` writes the
requests of the resident daemon (`requests.py`, without the texts, which would cost the daemon memory), the
ACL files of rpcd, completion for bash, the links that ash completes, and docs/commands.md. A test compares
the committed files with this table.

A new command is one entry here. A command of the daemon also needs a method of
`handlers.Handlers`; a command of the command line needs the function that `run` names.
"""

from __future__ import annotations

import argparse

from tandem.control import DEFAULT_SOCKET
from tandem.control.command import Access, Command, arg, positive, seconds, switch
from tandem.control.service_commands import service_commands
from tandem.places import CONFIG, DEFAULT_ADVERT_INT, DEFAULT_VRID, DHCP, FIREWALL, NETWORK, SECRET_FILE

LISTEN_S = range(1, 31)  # seconds
VRIDS = range(1, 256)

PROGRAM = "Look after tandemd: several routers that share one gateway address."
EPILOG = """\
examples:
  tandem init                set up two routers that share a gateway address
  tandem doctor              what would break a takeover, and the cure
  tandem status              who is active, is the other router ready
  tandem why                 why that is so, and what would change it
  tandem status --watch      the same, redrawn every second
  tandem failover            hand every group over to the other router
  tandem conntrack           whether connections would survive that
  tandem check && tandem reload
                             use an edited configuration if it is sound
  tandem upgrade             upgrade both routers, one after the other

Every command has its own help: tandem COMMAND --help
exit status: 0 done, 1 failed, 2 usage or configuration"""

SEE = Access("tandem-status", "See the state of Tandem's virtual routers", "read")
OPERATE = Access("tandem-operate", "Hand Tandem's role over, take a router out of service and back", "write")
CONFIGURE = Access(
    "tandem-configure",
    "Configure Tandem: can run commands as root and read its secrets",
    "write",
    uci=("read", "write"),
)

CONTROL = arg(
    "--control",
    metavar="SOCKET",
    help=f"control socket of the daemon (default: {DEFAULT_SOCKET})",
    completes="files",
)
_COMMANDS = "tandem.control.commands:"
_JSON = switch("--json", "print JSON")
_GROUP = arg(
    "group",
    nargs="?",
    metavar="GROUP",
    help="sync group or single instance (default: all)",
    completes="group",
)
_FORCE = switch("--force", "also when nobody would take over")
_ANSWERS = {
    "networks": [],  # NAME=ADDRESS,...
    "peer": "",
    "sync": True,
    "track": True,
    "vrid": 0,
    "advert_int": "",
    "force": True,
    "line": "",
    "mac": "",
}
_RUNNING_CONFIG = arg(
    "-c", "--config", metavar="FILE", help="configuration (default: the running daemon's)", completes="files"
)
_CONFIG_FILE = arg(
    "-c",
    "--config",
    metavar="FILE",
    default=CONFIG,
    help=f"configuration (default: {CONFIG})",
    completes="files",
)
_FIREWALL_CONFIG = arg(
    "--firewall-config", default=FIREWALL, metavar="FILE", help=f"default: {FIREWALL}", completes="files"
)

TABLE = (
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
        (_JSON,),
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
    *service_commands(_JSON, SEE, OPERATE),
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
        (_JSON,),
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
    Command(
        "upgrade",
        "upgrade Tandem on both routers, one after the other",
        """\
Looks at both routers with the doctor, reads their feeds, and upgrades Tandem's
packages with apk or opkg: first on the router that is not active, then, when that
one is in step and has the role, on the other. Connections go on. It stops at the
first thing that is wrong, and says what to do; run it again afterwards.
The other router obeys only if its `option allow_upgrade` is 1.

The upgrade is a process of its own: it goes on when this terminal is closed, and
`tandem upgrade`, once more, shows it.

--sysupgrade is for this router only: it goes into standby when the other one has
the role, and gets IMAGE, which must have Tandem's packages. The router ends the
standby itself when it is back and in step.""",
        """\
  tandem upgrade --check             what would be upgraded, and what is wrong
  tandem upgrade
  tandem upgrade --sysupgrade /tmp/image.bin""",
        (
            switch("--check", "change nothing", excludes="what"),
            arg(
                "--sysupgrade",
                metavar="IMAGE",
                help="hand over, and install an image on this router",
                completes="files",
                excludes="what",
            ),
            switch("--force", "also when the doctor finds something"),
            arg("--job", metavar="ORDER", help=argparse.SUPPRESS),  # one job on this router
            arg("--by", metavar="WHO", default="", help=argparse.SUPPRESS),
            switch("--return", argparse.SUPPRESS, dest="returns"),  # by the init script, after a sysupgrade
        ),
        run="tandem.upgrade.command:run",
    ),
    Command("upgrade_peer", request=("peer", "order")),
    Command(
        "version",
        "print the version of this command and of the running daemon",
        "They differ after an upgrade until the daemon is restarted.",
        "  tandem version",
        run=_COMMANDS + "version",
        request=(),
    ),
    Command(
        "check",
        "check a configuration file",
        """\
Prints every error with file, line, section and option to the standard error and
exits with 2, or prints the effective configuration with all its defaults.
Needs no daemon and changes nothing.""",
        """\
  tandem check
  tandem check /tmp/tandem.new""",
        (
            arg(
                "file",
                nargs="?",
                default=CONFIG,
                metavar="FILE",
                help=f"the file (default: {CONFIG})",
                completes="files",
            ),
        ),
        run=_COMMANDS + "check",
        access=CONFIGURE,
        plugin={"text": ""},
    ),
    Command(
        "options",
        "explain the options of the configuration",
        """\
Prints what an option means, which values it takes and its default; for a section
all its options, and without a name the names of all. Needs no daemon.""",
        """\
  tandem options vrrp_instance
  tandem options conntrack_sync.hold
  tandem options --json              for programs that edit configurations""",
        (
            arg("name", nargs="?", metavar="SECTION[.OPTION]", help="what to explain (default: all)"),
            _JSON,
        ),
        run="tandem.control.options_command:run",
    ),
    Command(
        "import",
        "make a configuration from those of keepalived and conntrackd",
        """\
Reads keepalived.conf, OpenWrt's /etc/config/keepalived and dhcp,
conntrackd.conf and ucarp command lines (it finds out which), and prints a
configuration for Tandem. Without FILE it takes those of this router. What has
no equivalent is listed with file, line and reason, on the standard error and as
comments in the result. Changes nothing but the file of -o. Stop the other
programs before you start Tandem; routers may change over one after the other
(not with ucarp).

exit status: 0 the result can be used, 1 it can't yet, 2 usage""",
        """\
  tandem import
  tandem import keepalived.conf conntrackd.conf --peer 192.168.1.3
  tandem import -o /etc/config/tandem --force && tandem check
  tandem import --root /tmp/backup   from an unpacked backup of a router""",
        (
            arg(
                "files",
                nargs="*",
                metavar="FILE",
                help="what to import (default: this router's; -: standard input)",
                completes="files",
            ),
            arg(
                "-o",
                "--output",
                metavar="FILE",
                help="write there (mode 0600), not to the screen",
                completes="files",
            ),
            switch("--force", "replace the file of -o if there is one"),
            arg(
                "--id",
                metavar="NAME",
                help="keepalived's config-id, which decides about lines with @NAME"
                " (default: this host's name)",
            ),
            arg("--peer", metavar="ADDRESS", help="the other router, for conntrack_sync"),
            arg(
                "--secret-file",
                metavar="FILE",
                help="holds the secret for conntrack_sync, the same on both routers"
                f" (default: {SECRET_FILE}; without it, conntrack_sync comes out switched off)",
                completes="files",
            ),
            arg(
                "--root",
                metavar="DIR",
                default="",
                help="look for files of the router below DIR",
                completes="files",
            ),
        ),
        run="tandem.importer.command:run",
        package="tandem-import",
    ),
    Command(
        "capture",
        "watch the advertisements on an interface",
        """\
Prints each VRRP advertisement that arrives, decoded, with the reason why this
router accepts or drops it under its configuration. Ctrl-C ends.""",
        """\
  tandem capture br-lan
  tandem capture eth0 --count 1      wait for one advertisement""",
        (
            arg(
                "interface", metavar="IFACE", help="the network device, such as br-lan", completes="interface"
            ),
            arg("--count", type=positive, metavar="N", help="end after N advertisements"),
            _RUNNING_CONFIG,
        ),
        run=_COMMANDS + "capture",
        package="tandem-tools",
    ),
    Command(
        "init",
        "set up two routers that share a gateway address",
        """\
Asks which networks have a shared gateway address, which address that is, and
where the other router is; then writes /etc/config/tandem and /etc/tandem/secret
and prints the line to run on the other router, which needs no questions.
A configuration that is in use stays unless --force is given.

Where the way out has an address of the provider's (DHCP, PPPoE), a router
without it hands over to one that has it. With --one-line, both routers share
one line: with DHCP its address moves to the active router, with PPPoE the
active router dials. The network is put on a device that Tandem makes (`tandem
follow release` is the way back).

It looks whether the shared addresses and the virtual router id are taken in
these networks. Where dnsmasq serves a network, only the active router will
answer there. The same holds for router advertisements and DHCPv6, in an IPv6
instance beside the other one.

With --network nothing is asked; what is not given is what the question would
have proposed. --dry-run prints the configuration and changes nothing.

--join reads the token of the other router's line from the standard input, not
from the command line, which every user of a machine can see.""",
        """\
  tandem init
  tandem init --network lan=192.168.1.1 --network wan=192.168.0.4
  tandem init --network lan --dry-run
  tandem init --join                 then paste the token""",
        (
            arg(
                "--network",
                action="append",
                metavar="NAME[=ADDRESS,...]",
                help="a network of /etc/config/network, and the addresses that both routers share in it",
            ),
            arg("--peer", metavar="ADDRESS", help="the other router's own address"),
            arg(
                "--one-line",
                metavar="NAME",
                help="both routers share the line of this network (DHCP, PPPoE), which follows the role",
            ),
            switch("--no-sync", "do not replicate connections"),
            switch(
                "--no-track", "do not hand over when a way out that can't move along (DHCP, PPPoE) is down"
            ),
            arg(
                "--vrid",
                type=int,
                choices=VRIDS,
                metavar="ID",
                help=f"virtual router id, 1 to 255 (default: {DEFAULT_VRID}, or the next that nobody uses)",
            ),
            arg(
                "--advert-int",
                default=DEFAULT_ADVERT_INT,
                metavar="SECONDS",
                help=f"between signs of life; a takeover needs three to four (default: {DEFAULT_ADVERT_INT})",
            ),
            switch("--join", "be the second router: read the first one's token"),
            switch("--start", "then enable and restart the service"),
            switch("--dry-run", "print the configuration, change nothing"),
            switch("--force", "replace a configuration that is in use"),
            arg("--config", default=CONFIG, metavar="FILE", help=f"default: {CONFIG}", completes="files"),
            arg(
                "--network-config",
                default=NETWORK,
                metavar="FILE",
                help=f"default: {NETWORK}",
                completes="files",
            ),
            arg("--dhcp-config", default=DHCP, metavar="FILE", help=f"default: {DHCP}", completes="files"),
            _FIREWALL_CONFIG,
            arg(
                "--secret-file",
                default=SECRET_FILE,
                metavar="FILE",
                help=f"default: {SECRET_FILE}",
                completes="files",
            ),
        ),
        run="tandem.setup.steps:run",
    ),
    # The same in the browser: what the router knows, a draft, and then the files.
    Command("setup networks", access=CONFIGURE, plugin={}),
    Command("setup draft", access=CONFIGURE, plugin=_ANSWERS),
    Command("setup write", access=CONFIGURE, plugin=_ANSWERS),
    Command("setup join", access=CONFIGURE, plugin={"token": "", "write": True, "force": True}),
    Command(
        "doctor",
        "look for what would break a takeover",
        """\
Looks at this router, and at the other one over the replication channel, for
everything that breaks a takeover in practice, and says what to do about it.
It listens to the networks for some seconds and changes nothing.
The exit status is 1 if something is wrong.""",
        """\
  tandem doctor
  tandem doctor --json               for scripts: findings and notes""",
        (
            _JSON,
            _RUNNING_CONFIG,
            arg(
                "--listen",
                type=int,
                choices=LISTEN_S,
                default=4,
                metavar="SECONDS",
                help="how long to listen, 1 to 30 (default: 4, as long as dnsmasq takes for an offer)",
            ),
            arg("--facts", metavar="FILE", help=argparse.SUPPRESS),  # for the other router's doctor
        ),
        run="tandem.doctor.command:run",
        access=OPERATE,
        plugin={"start": True},
    ),
    Command(
        "witness",
        "give a vote to one router of a pair, on a third host",
        """\
Answers routers whose configuration has this host as `config witness`, so that of
two routers that are cut off from each other exactly one stays active. Runs until
SIGTERM; /etc/init.d/tandem-witness starts it where `config witness_server` is
enabled. It needs no other part of Tandem.""",
        """\
  tandem witness -c /etc/config/tandem""",
        (
            arg(
                "-c",
                "--config",
                default=CONFIG,
                metavar="FILE",
                help=f"with the section witness_server (default: {CONFIG})",
                completes="files",
            ),
        ),
        run="tandem.witness.command:run",
    ),
    Command("log", access=SEE, plugin={"lines": 0}),
    Command(
        "follow",
        "put networks that follow the role on their devices, or back",
        """\
apply: /etc/config/network puts each network that follows the role on the
device that Tandem makes on the active router, and /etc/config/firewall names
the device in the network's zone. `tandem init` does this for a line that both
share.
release: the networks are on their ports again, as without Tandem. The package
does this when it is removed.""",
        """\
  tandem follow apply                after `list follow` was written by hand
  tandem follow release              before Tandem is switched off for good""",
        (
            arg("what", choices=("apply", "release"), help="which of the two"),
            _CONFIG_FILE,
            arg(
                "--network-config",
                default=NETWORK,
                metavar="FILE",
                help=f"default: {NETWORK}",
                completes="files",
            ),
            _FIREWALL_CONFIG,
        ),
        run="tandem.setup.line_command:run",
    ),
    Command(
        "dhcp",
        "keep DHCP silent before the daemon starts, or let it go",
        """\
hold: instances with option dhcp '1' answer no DHCP request and send no router
advertisement until the daemon has been elected. It changes nothing where a
daemon has been at work already. The init script does this at boot.
release: DHCP on this router no longer asks Tandem: its nftables table and its
part of dnsmasq's configuration go, and dnsmasq is restarted.""",
        """\
  tandem dhcp hold
  tandem dhcp release                after `service tandem stop`""",
        (
            arg("what", choices=("hold", "release"), help="which of the two"),
            _CONFIG_FILE,
        ),
        run="tandem.dhcp.command:run",
    ),
)
