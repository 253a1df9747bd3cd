# SPDX-License-Identifier: GPL-2.0-or-later
"""The entries of `command_table` that read or write a configuration; none needs a daemon."""

from __future__ import annotations

from tandem.control.command import (
    CONFIG_FILE,
    CONFIGURE,
    FIREWALL_CONFIG,
    JSON,
    NETWORK_CONFIG,
    Command,
    arg,
    switch,
)
from tandem.places import CONFIG, DEFAULT_ADVERT_INT, DEFAULT_VRID, DHCP, SECRET_FILE

VRIDS = range(1, 256)
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

CONFIGURATION_COMMANDS = (
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
        run="tandem.control.commands:check",
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
            JSON,
        ),
        run="tandem.control.options_command:run",
    ),
    Command(
        "import",
        "make a configuration from those of keepalived and conntrackd",
        """\
Reads keepalived.conf, OpenWrt's /etc/config/keepalived and dhcp,
conntrackd.conf and ucarp command lines (it finds out which), and prints a
configuration for Tandem. Without FILE it takes those of this router. Options
without an equivalent are listed with file, line and reason, on the standard
error and as comments in the result. Changes nothing but the file of -o. Stop the other
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
            NETWORK_CONFIG,
            arg("--dhcp-config", default=DHCP, metavar="FILE", help=f"default: {DHCP}", completes="files"),
            FIREWALL_CONFIG,
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
            CONFIG_FILE,
            NETWORK_CONFIG,
            FIREWALL_CONFIG,
        ),
        run="tandem.setup.line_command:run",
    ),
)
