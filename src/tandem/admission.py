# SPDX-License-Identifier: GPL-2.0-or-later
"""Admission: which packets are adverts for an instance of ours, and why the others are dropped.

A dropped packet is counted, and logged once for its source and reason. An accepted packet is remembered,
because the next one of the same router is nearly always the same.
"""

from __future__ import annotations

from collections.abc import Callable

from tandem.core.bounds import learned_interval
from tandem.core.events import AdvertReceived
from tandem.core.packet import PROBE, Advertisement, PacketError, Reason, check, decode
from tandem.core.trouble import Trouble
from tandem.effects.endpoint import Endpoint, text
from tandem.effects.vrrp_socket import UNICAST_MIN_HOP_LIMIT, Received, VrrpSocket
from tandem.log import Logger

AUTHENTICATION = (Reason.AUTH_TYPE_MISMATCH, Reason.AUTH_FAILURE)  # reasons with a log budget of their own
KNOWN_MAX = 512  # accepted packets to remember

Place = tuple[str, int, int]  # device, family, virtual router id


class Admission:
    """The packets of all sockets; `drops` counts those for no instance of ours."""

    def __init__(self, log: Logger, drops: dict[str, int], trouble: Trouble, now: Callable[[], int]) -> None:
        self.endpoints: dict[Place, Endpoint] = {}
        self.known: dict[tuple[VrrpSocket, Received], tuple[Endpoint, AdvertReceived]] = {}
        self._log = log
        self._drops = drops
        self._trouble = trouble
        self._now = now

    def expect(self, endpoints: dict[Place, Endpoint]) -> None:
        """Admit packets for these endpoints from now on; their settings may have changed as well."""
        self.endpoints = endpoints
        self.known.clear()

    def admit(self, sock: VrrpSocket, packet: Received) -> tuple[Endpoint, AdvertReceived] | None:
        """Return whom the packet is for and what it says; None after counting why it is dropped."""
        payload, source, destination, hop_limit = packet
        advert = decode(payload, sock.family, hop_limit, source, destination, UNICAST_MIN_HOP_LIMIT)
        if isinstance(advert, PacketError):
            self._drop(self._drops, sock, source, advert)
            return None
        endpoint = self.endpoints.get((sock.interface, sock.family, advert.vrid))
        if endpoint is None:
            if (advert.priority, advert.interval_cs) == PROBE:
                self._drops["probes"] = self._drops.get("probes", 0) + 1
                return None  # a question of tandem doctor: no warning
            error = PacketError(Reason.UNKNOWN_VRID, f"vrid {advert.vrid}")
            self._drop(self._drops, sock, source, error)
            return None
        wrong = check(advert, endpoint.expected, source, destination, hop_limit)
        if wrong is not None:
            self._drop(endpoint.counters, sock, source, wrong)
            if wrong.reason is not Reason.OWN_ADDRESS:
                name, why = endpoint.settings.name, wrong.reason.sentence
                self._trouble.dropped(name, text(source), why, self._now())
            return None
        self._check_interval(endpoint, advert, source)
        if len(self.known) >= KNOWN_MAX:
            self.known = {
                key: found for key, found in self.known.items() if found[1].source in found[0].known
            }
            if len(self.known) > KNOWN_MAX // 2:
                self.known.clear()
        event = AdvertReceived(endpoint.settings.name, advert, source)
        self.known[sock, packet] = endpoint, event
        return endpoint, event

    def _check_interval(self, endpoint: Endpoint, advert: Advertisement, source: bytes) -> None:
        """Warn when an advert's interval is out of bounds."""
        settings, heard = endpoint.settings, advert.interval_cs
        learned = learned_interval(heard, settings.advert_int_cs, settings.max_learned_interval_cs)
        if learned == heard or settings.version != 3:
            return
        endpoint.count("interval_bounded")
        message = (
            f"{settings.name}: {text(source)}, priority {advert.priority}, claims an interval of"
            f" {heard / 100:g} s; {learned / 100:g} s is used (max_learned_interval)"
        )
        self._log.limited(("interval", settings.name, source), "warning", message)

    def _drop(self, counters: dict[str, int], sock: VrrpSocket, source: bytes, error: PacketError) -> None:
        counter = error.reason.counter
        counters[counter] = counters.get(counter, 0) + 1
        area = "advert-authentication" if error.reason in AUTHENTICATION else "adverts"
        key = (area, sock.interface, source, counter)
        self._log.limited(key, "warning", f"{sock.interface}: packet from {text(source)} dropped: {error}")
