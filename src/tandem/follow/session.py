# SPDX-License-Identifier: GPL-2.0-or-later
"""Sessions of PPPoE (RFC 2516): what netifd and the kernel say of them, and the frame that ends one; pure.

In a message of the topic (lease.py), a session has `concentrator` and `session`, which no lease has.
"""

from __future__ import annotations

import struct
import sys
from socket import AF_INET, inet_ntop, inet_pton

from tandem.core.lease import Session
from tandem.follow.lease6 import unicast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

PROTO = "pppoe"  # of netifd's networks
TABLE = "/proc/net/pppoe"  # of the kernel: drivers/net/ppp/pppoe.c, pppoe_seq_show
_ETH_P_PPP_DISC = 0x8863
_VERSION_AND_TYPE, _PADT = 0x11, 0xA7  # RFC 2516 sections 4 and 5.5


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
    try:
        address = _address(status["ipv4-address"][0]["address"])
        for number, concentrator in _listed(table, device, big):
            return Session(network, mac, address, concentrator, number)
    except (KeyError, IndexError, TypeError, ValueError, OSError, struct.error):
        pass
    return None


def listed(session: Session, device: str, table: str, big: bool = sys.byteorder == "big") -> bool:
    """Return whether the kernel has the session on `device`; `table` and `big` as above."""
    try:
        return (session.id, session.concentrator) in _listed(table, device, big)
    except (ValueError, struct.error):
        return False


def _listed(table: str, device: str, big: bool) -> Iterator[tuple[int, str]]:
    """Yield id and concentrator of the sessions on a device. ValueError, struct.error: a malformed row."""
    for row in map(str.split, table.splitlines()):
        if len(row) == 3 and row[2] == device:
            number = int(row[0], 16)
            yield number if big else int.from_bytes(struct.pack("<H", number), "big"), unicast(row[1])


def plain(session: Session) -> dict[str, object]:
    """Return the session as it stands in a message."""
    return {
        "mac": session.mac,
        "address": session.address,
        "concentrator": session.concentrator,
        "session": session.id,
        "open": session.open,
    }


def parsed(network: str, found: Mapping[str, Any]) -> Session:
    """Return the session in a message. ValueError and what comes with malformed input: it is none."""
    number = int(found["session"])
    if not 0 < number < 0xFFFF:  # RFC 2516 section 4
        raise ValueError(f"there is no session {number}")
    mac, concentrator = str(found["mac"])[:17], unicast(found["concentrator"])
    return Session(network, mac, _address(found["address"]), concentrator, number, found.get("open") is True)


def padt(session: Session) -> bytes:
    """Return the frame that ends the session (RFC 2516 section 5.5: PADT), without tags."""
    ends = bytes.fromhex(session.concentrator.replace(":", "") + session.mac.replace(":", ""))
    return ends + struct.pack("!HBBHH", _ETH_P_PPP_DISC, _VERSION_AND_TYPE, _PADT, session.id, 0)


def _address(text: object) -> str:
    """The address in canonical text. OSError or TypeError: it is none."""
    return inet_ntop(AF_INET, inet_pton(AF_INET, text))  # type: ignore[arg-type]
