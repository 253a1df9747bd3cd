# SPDX-License-Identifier: GPL-2.0-or-later
"""A router on one cable that carries both networks as VLANs, as on most boards with a built-in switch.

The host's kernel need not know 802.1Q: a thread stands in for the port of a managed switch. It takes the tag
off what the router sends, and puts it on what the switches lan and wan have for the router.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Sequence

from tests.lab import Port, SeedEnds

from .image import Image
from .machine import Card, open_tap
from .openwrt_router import RootRouter
from .router import LAN_DEVICE, LabRouter, RouterMachine, pair_config

TAG = struct.Struct("!HH")  # TPID, TCI (IEEE 802.1Q, clause 9.3)
TPID = 0x8100
VLANS = {1: "lan", 2: "wan"}
_AT = 12  # behind the two MAC addresses
_FRAME = 2048


class TrunkPort(Port):
    """A port of a managed switch, in which both switches of the lab are VLANs."""


class Trunk(Card):
    """The cable: one end is QEMU's, the other has a tap in each switch."""

    def __init__(self, router: RouterMachine) -> None:
        self._inside, self._outside = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._outside.setblocking(False)
        self._taps = {vid: open_tap(router.lab, f"{router.name}.{name}", name) for vid, name in VLANS.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def descriptor(self) -> int:
        return self._inside.fileno()

    def netdev(self, name: str) -> str:
        return f"dgram,id={name},local.type=fd,local.str={self.descriptor}"

    def started(self) -> None:
        self._inside.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._outside.close()
        for tap in self._taps.values():
            os.close(tap)

    def _run(self) -> None:
        tags = {tap: TAG.pack(TPID, vid) for vid, tap in self._taps.items()}
        while not self._stop.is_set():
            for ready in select.select([self._outside, *tags], [], [], 0.1)[0]:
                try:
                    if ready is self._outside:
                        self._from_router(self._outside.recv(_FRAME))
                    else:
                        frame = os.read(ready, _FRAME)
                        self._outside.send(frame[:_AT] + tags[ready] + frame[_AT:])
                except OSError:
                    continue  # a cable loses what nobody takes: a full queue, a machine that is off

    def _from_router(self, frame: bytes) -> None:
        if len(frame) < _AT + TAG.size:
            return
        kind, control = TAG.unpack_from(frame, _AT)
        tap = self._taps.get(control & 0xFFF)
        if kind == TPID and tap is not None:
            os.write(tap, frame[:_AT] + frame[_AT + TAG.size :])


class Trunked(RouterMachine):
    """A router whose only card is a trunk."""

    def ports(self, lab: SeedEnds) -> Sequence[Port]:
        return [TrunkPort("eth0", lab.lan)]

    def plug_in(self, port: Port) -> Card:
        return Trunk(self)


class TrunkLabRouter(Trunked, LabRouter):
    """The lab guest with eth0.1 in its bridge and eth0.2 as WAN."""

    def __init__(self, number: int, image: Image, lab: SeedEnds, config: str | None = None) -> None:
        super().__init__(number, image, lab, config or pair_config(number, wan="eth0.2"))

    def links(self) -> str:
        return f"""
            ip link set eth0 up
            ip link add link eth0 name eth0.1 type vlan id 1
            ip link add link eth0 name eth0.2 type vlan id 2
            ip link add {LAN_DEVICE} type bridge
            ip link set eth0.1 master {LAN_DEVICE}
            for device in eth0.1 {LAN_DEVICE} eth0.2; do ip link set $device up; done
            ip address add 192.168.1.{self.position + 1}/24 dev {LAN_DEVICE}
            ip address add 192.168.0.{self.position + 1}/24 dev eth0.2
        """


class TrunkRootRouter(Trunked, RootRouter):
    """An OpenWrt root with eth0.1 in its bridge and eth0.2 as WAN, made by netifd."""

    lan_port, wan_device = "eth0.1", "eth0.2"
