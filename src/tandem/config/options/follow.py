# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows of the section `follow`, and the row by which a group names its networks."""

from __future__ import annotations

import re

from tandem.config.option import NEXT, Option, Table
from tandem.config.values import DEVICE, Kind, choice

_NETWORK = re.compile(r"[A-Za-z0-9_]{1,14}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def _network(text: str) -> str:
    if not _NETWORK.fullmatch(text):
        raise ValueError
    return text


def _mac(text: str) -> str:
    mac = text.lower().replace("-", ":")
    if not _MAC.fullmatch(mac) or mac == "00:00:00:00:00:00" or int(mac[:2], 16) & 1:
        raise ValueError
    return mac


NETWORK = Kind("the name of a network: 1 to 14 letters, digits and '_'", _network, type="name")
MAC = Kind("the MAC address of one host, as in 02:1a:2b:3c:4d:5e", _mac, type="mac")

FOLLOWED = Option(
    NETWORK,
    None,
    "These networks of /etc/config/network are up while the role is MASTER, and only then.",
    field="follow",
    many=True,
    since=NEXT,
)

FOLLOW: Table = {
    "name": Option(NETWORK, None, "The network. Default: the section's name.", "name", since=NEXT),
    "interface": Option(
        DEVICE,
        None,
        "The port that the provider's line is plugged into, or @ and the name of a followed network for"
        " one on the same device (wan6: @wan). Without either, netifd only brings the network up and down.",
        "interface",
        since=NEXT,
    ),
    "device": Option(
        DEVICE,
        None,
        "The device of the network, which Tandem makes on the port while the role is MASTER. Default: the"
        " name of the network and 0.",
        "device",
        since=NEXT,
    ),
    "mac": Option(
        MAC,
        None,
        "The MAC address that the provider sees, the same on all routers, and of no other port.",
        "mac",
        since=NEXT,
    ),
    "session": Option(
        choice("dial", "takeover"),
        "dial",
        "With PPPoE: a router that becomes MASTER ends the other router's session and dials (dial), or goes"
        " on with that session and dials if the concentrator does not agree (takeover). The same on all"
        " routers.",
        "session",
        since=NEXT,
    ),
}
