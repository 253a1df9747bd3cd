# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem init`: how it is called."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from tandem.setup import CONFIG, DEFAULT_ADVERT_INT, DEFAULT_VRID, DHCP, NETWORK, SECRET_FILE

Add = Callable[..., argparse.ArgumentParser]

_DETAILS = """\
Asks which networks have a shared gateway address, which address that is, and
where the other router is; then writes /etc/config/tandem and /etc/tandem/secret
and prints the line to run on the other router, which needs no questions.
A configuration that is in use stays unless --force is given.

Where the way out has an address of the provider's (DHCP, PPPoE), which can't be
shared, a router without it hands over to one that has it.

It looks whether the shared addresses and the virtual router id are taken in
these networks. Where dnsmasq serves a network, only the active router will
answer there. The same holds for router advertisements and DHCPv6, in an IPv6
instance beside the other one.

With --network nothing is asked; what is not given is what the question would
have proposed. --dry-run prints the configuration and changes nothing.

--join reads the token of the other router's line from the standard input, not
from the command line, which every user of a machine can see."""
_EXAMPLES = """\
  tandem init
  tandem init --network lan=192.168.1.1 --network wan=192.168.0.4
  tandem init --network lan --dry-run
  tandem init --join                 then paste the token"""


def register(add: Add) -> None:
    """Put the command into the parser."""
    sub = add("init", run, "set up two routers that share a gateway address", _DETAILS, _EXAMPLES)
    sub.add_argument(
        "--network",
        action="append",
        metavar="NAME[=ADDRESS,...]",
        help="a network of /etc/config/network, and the addresses that both routers share in it",
    )
    sub.add_argument("--peer", metavar="ADDRESS", help="the other router's own address")
    sub.add_argument("--no-sync", action="store_true", help="do not replicate connections")
    sub.add_argument(
        "--no-track", action="store_true",
        help="do not hand over when a way out that can't move along (DHCP, PPPoE) is down",
    )  # fmt: skip
    sub.add_argument(
        "--vrid", type=int, choices=range(1, 256), default=None, metavar="ID",
        help=f"virtual router id, 1 to 255 (default: {DEFAULT_VRID}, or the next that nobody uses)",
    )  # fmt: skip
    sub.add_argument(
        "--advert-int", default=DEFAULT_ADVERT_INT, metavar="SECONDS",
        help=f"between signs of life; a takeover needs three to four (default: {DEFAULT_ADVERT_INT})",
    )  # fmt: skip
    sub.add_argument("--join", action="store_true", help="be the second router: read the first one's token")
    sub.add_argument("--start", action="store_true", help="then enable and restart the service")
    sub.add_argument("--dry-run", action="store_true", help="print the configuration, change nothing")
    sub.add_argument("--force", action="store_true", help="replace a configuration that is in use")
    sub.add_argument("--config", default=CONFIG, metavar="FILE", help=f"default: {CONFIG}")
    sub.add_argument("--network-config", default=NETWORK, metavar="FILE", help=f"default: {NETWORK}")
    sub.add_argument("--dhcp-config", default=DHCP, metavar="FILE", help=f"default: {DHCP}")
    sub.add_argument("--secret-file", default=SECRET_FILE, metavar="FILE", help=f"default: {SECRET_FILE}")


def run(arguments: argparse.Namespace) -> int:
    """Set this router up."""
    from tandem.setup.steps import run as steps

    return steps(arguments)
