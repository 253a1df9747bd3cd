# SPDX-License-Identifier: GPL-2.0-or-later
"""ARP: a host on the link answers, also one that discards all other packets."""

from __future__ import annotations

from tandem.health.question import Answer, Question
from tandem.listen.arp import BROADCAST, ETH_P_ARP, answer, open_arp, probe


class Arp(Question):
    """One ARP request at a time."""

    def _ask(self) -> None:
        self._socket = sock = open_arp(self._device)
        sock.setblocking(False)
        mac = sock.getsockname()[4]
        self._loop.add_reader(sock.fileno(), self._readable)
        request = probe(mac, self._host, self._source or "0.0.0.0")
        sock.sendto(request, (self._device, ETH_P_ARP, 0, 1, BROADCAST))

    def _readable(self) -> None:
        assert self._socket is not None  # it is watched
        try:
            found = answer(self._socket.recv(128))
        except OSError as error:
            self._failed(error)
            return
        if found is not None and found[0] == self._host:
            self._end(Answer("answers", True))
