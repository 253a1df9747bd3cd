# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions of PPPoE (RFC 2516): what netifd and the kernel say of them, and the frame that ends one; pure.

In a message of the topic (lease.py), a session has `concentrator` and `session`, which no lease has.
"""

from __future__ import annotations

import re
import struct
import sys
from socket import AF_INET, inet_ntop, inet_pton

from tandem.core.lease import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

PROTO = "pppoe"  # of netifd's networks
TABLE = "/proc/net/pppoe"  # of the kernel: drivers/net/ppp/pppoe.c, pppoe_seq_show
_ETH_P_PPP_DISC = 0x8863
_VERSION_AND_TYPE, _PADT = 0x11, 0xA7  # RFC 2516 sections 4 and 5.5
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_ROW = re.compile(rf"([0-9A-F]{{8}})\s+({_MAC.pattern})\s+(\S+)")


def from_netifd(
    network: str,
    mac: str,
    status: Mapping[str, Any],
    device: str,
    table: str,
    big: bool = sys.byteorder == "big",
) -> Session | None:
    """Return the session of a network that is up with `device` below it; None: there is none.

    `table` is the text of TABLE, which has the id as the kernel of a `big`-endian machine or of another one
    prints the two bytes of the wire.
    """
    for row in _ROW.finditer(table):
        if row[4] != device:
            continue
        number = int(row[1], 16)
        try:
            address = _address(status["ipv4-address"][0]["address"])
        except (KeyError, IndexError, TypeError, OSError):
            return None
        order = number if big else int.from_bytes(struct.pack("<H", number & 0xFFFF), "big")
        return Session(network, mac, address, row[2], order)
    return None


def plain(session: Session) -> dict[str, object]:
    """Return the session as it stands in a message."""
    return {
        "mac": session.mac,
        "address": session.address,
        "concentrator": session.concentrator,
        "session": session.id,
    }


def parsed(network: str, found: Mapping[str, Any]) -> Session:
    """Return the session in a message. ValueError and what comes with malformed input: it is none."""
    mac, concentrator, number = str(found["mac"])[:17], str(found["concentrator"]), int(found["session"])
    if not _MAC.fullmatch(concentrator) or int(concentrator[:2], 16) & 1 or not 0 < number < 0xFFFF:
        raise ValueError(f"session {number} of {concentrator[:17]}")
    return Session(network, mac, _address(found["address"]), concentrator, number)


def padt(session: Session) -> bytes:
    """Return the frame that ends the session (RFC 2516 section 5.5: PADT), without tags."""
    ends = bytes.fromhex(session.concentrator.replace(":", "") + session.mac.replace(":", ""))
    return ends + struct.pack("!HBBHH", _ETH_P_PPP_DISC, _VERSION_AND_TYPE, _PADT, session.id, 0)


def _address(text: object) -> str:
    """The address in canonical text. OSError or TypeError: it is none."""
    return inet_ntop(AF_INET, inet_pton(AF_INET, text))  # type: ignore[arg-type]
