# SPDX-License-Identifier: GPL-2.0-or-later
"""A telephone in the LAN that has registered can be called through the other router."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from functools import partial

from tests.lab import FAR, WAN_ADDRESS, Router, SeedLab, wait_until

from .live import CLIENT, failover, power_loss, started, synced, takes_over, told

Open = Callable[[SeedLab], SeedLab]

SIP = """
table inet sip {
    ct helper sip { type "sip" protocol udp; l3proto ip; }
    chain prerouting {
        type filter hook prerouting priority filter
        iifname "br-lan" udp dport 5060 ct helper set "sip"
    }
}
"""
EXPIRES = 3600  # s; more than the 180 for which a helper expects something at first


class Telephone:
    """A telephone that registers at a provider, which calls it from other ports."""

    def __init__(self, lab: SeedLab) -> None:
        self._lab = lab
        self.phone = self._open(lab.client.enter, CLIENT, 5060)
        self.provider = self._open(lab.server.enter, FAR, 5060)
        self._number = 0

    def _open(self, enter: Callable[..., socket.socket], address: str, port: int) -> socket.socket:
        made = enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        made.bind((address, port))
        made.settimeout(1)
        return made

    def register(self) -> None:
        self._number += 1
        lines = [
            f"REGISTER sip:{FAR} SIP/2.0",
            f"Via: SIP/2.0/UDP {CLIENT}:5060;branch=z9hG4bK{self._number}",
            f"From: <sip:alice@{FAR}>;tag=1",
            f"To: <sip:alice@{FAR}>",
            f"Call-ID: 1@{CLIENT}",
            f"CSeq: {self._number} REGISTER",
            f"Contact: <sip:alice@{CLIENT}:5060>",
            f"Expires: {EXPIRES}",
            "Content-Length: 0",
        ]
        self.phone.sendto("\r\n".join([*lines, "", ""]).encode(), (FAR, 5060))
        request, address = self.provider.recvfrom(2000)
        assert f"sip:alice@{WAN_ADDRESS}:5060".encode() in request, request
        answer = b"SIP/2.0 200 OK\r\n" + request.split(b"\r\n", 1)[1]
        self.provider.sendto(answer, address)
        assert self.phone.recv(2000).startswith(b"SIP/2.0 200 OK")

    def rings(self, port: int) -> bool:
        """Whether a call from that port of the provider arrives."""
        with self._open(self._lab.server.enter, FAR, port) as caller:
            caller.sendto(b"OPTIONS sip:alice SIP/2.0\r\nContent-Length: 0\r\n\r\n", (WAN_ADDRESS, 5060))
            try:
                return b"OPTIONS" in self.phone.recv(2000)
            except TimeoutError:
                return False


def expects(router: Router, at_least: int) -> bool:
    """Whether the router's kernel expects calls, for so many seconds more."""
    found = re.findall(r"^(\d+) .* PERMANENT (?!.*INACTIVE)", listed(router), re.MULTILINE)
    return any(int(left) > at_least for left in found)


def listed(router: Router) -> str:
    return router.exec("conntrack", "-L", "expect", check=False).replace("(null)", "")


def test_a_registered_telephone_can_be_called(open_lab: Open) -> None:
    """No event tells how the answer to a REGISTER changes an expectation, or when it is prolonged."""
    lab = open_lab(SeedLab(partial(synced, rules=SIP)))
    active, backup = started(lab)
    telephone = Telephone(lab)
    telephone.register()
    assert telephone.rings(6000)
    for number, event in enumerate((power_loss, failover)):
        told(lab)
        wait_until(
            partial(expects, backup, EXPIRES - 200),
            20,
            "the backup expects calls",
            explain=partial(listed, backup),
        )
        event(lab, active)
        takes_over(lab, backup)
        assert telephone.rings(6001 + number)
        telephone.register()
        assert telephone.rings(6011 + number)
        if event is power_loss:
            active.power_on()
        active, backup = backup, active
