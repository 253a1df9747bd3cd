# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of Tandem: one table, from which everything that knows a command is made.

The command line is made from this table when it runs (`cli`). From this table, `make generated` writes the
requests of the resident daemon (`requests.py`, without the texts, which would cost the daemon memory), the
ACL files of rpcd, completion for bash, the links that ash completes, and docs/commands.md. A test compares
the committed files with this table.

Most entries stand in the modules of their kind (`daemon_commands`, `service_commands`,
`configuration_commands`), the others here. A new command is one entry. A command of the
daemon also needs a method of `handlers.Handlers`; a command of the command line needs the function that `run`
names.
"""

from __future__ import annotations

import argparse

from tandem.control.command import (
    CONFIG_FILE,
    JSON,
    OPERATE,
    RUNNING_CONFIG,
    SEE,
    Command,
    arg,
    positive,
    switch,
)
from tandem.control.configuration_commands import CONFIGURATION_COMMANDS
from tandem.control.daemon_commands import DAEMON_COMMANDS
from tandem.control.service_commands import SERVICE_COMMANDS
from tandem.places import CONFIG

LISTEN_S = range(1, 31)  # seconds

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

TABLE = (
    *DAEMON_COMMANDS,
    *SERVICE_COMMANDS,
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
        run="tandem.control.commands:version",
        request=(),
    ),
    *CONFIGURATION_COMMANDS,
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
            RUNNING_CONFIG,
        ),
        run="tandem.control.commands:capture",
        package="tandem-tools",
    ),
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
            JSON,
            RUNNING_CONFIG,
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
            CONFIG_FILE,
        ),
        run="tandem.dhcp.command:run",
    ),
)
