# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem capture`: each advertisement on an interface as one line, with this router's verdict.

The kernel picks the packets with a classic BPF filter, so that a busy interface costs nothing;
scapy decodes what is shown, also of packets that are refused; the verdict comes from the same
functions that the daemon uses. Scapy is imported here and nowhere else in the product.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from tandem.config.schema import Config, Instance
from tandem.core.packet import PROTOCOL, Advertisement, PacketError, Reason, check, decode
from tandem.effects.vrrp_socket import UNICAST_MIN_HOP_LIMIT, expected_of, pack

_ETH_P_ALL = 0x0003
_ETH_P_IP = 0x0800
_ETH_P_IPV6 = 0x86DD
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_MR_ALLMULTI = 2
_SO_ATTACH_FILTER = 26

# include/uapi/linux/filter.h, bpf_common.h
_LOAD_WORD, _LOAD_BYTE = 0x20, 0x30  # BPF_LD | BPF_ABS | BPF_W, BPF_B
_AND, _EQUAL, _RETURN = 0x54, 0x15, 0x06
_AD_PROTOCOL, _AD_VLAN_TAG = 0xFFFFF000, 0xFFFFF000 + 44  # SKF_AD_OFF
_NET = 0xFFF00000  # SKF_NET_OFF: relative to the IP header, on any kind of link

_FILTER = (  # code, jump if true, jump if false, operand
    (_LOAD_WORD, 0, 0, _AD_VLAN_TAG),
    (_AND, 0, 0, 0x0FFF),
    (_EQUAL, 0, 8, 0),  # else a tagged frame: it belongs to another interface
    (_LOAD_WORD, 0, 0, _AD_PROTOCOL),
    (_EQUAL, 0, 2, _ETH_P_IP),
    (_LOAD_BYTE, 0, 0, _NET + 9),
    (_EQUAL, 3, 4, PROTOCOL),
    (_EQUAL, 0, 3, _ETH_P_IPV6),
    (_LOAD_BYTE, 0, 0, _NET + 6),
    (_EQUAL, 0, 1, PROTOCOL),
    (_RETURN, 0, 0, 0xFFFFFFFF),
    (_RETURN, 0, 0, 0),
)


@dataclass(frozen=True, slots=True)
class Datagram:
    """One IP packet that claims to carry VRRP, taken apart as far as it can be."""

    family: int
    header: bytes  # without options
    payload: bytes
    source: bytes
    destination: bytes
    hop_limit: int
    fragment: bool = False

    def decoded(self) -> Advertisement | PacketError:
        """What the daemon makes of it before it looks at its configuration."""
        return decode(
            self.payload, self.family, self.hop_limit, self.source, self.destination, UNICAST_MIN_HOP_LIMIT
        )


def capture(interface: str, config: Config | None, count: int | None, out: TextIO) -> int:
    """Print `count` packets (None: until Ctrl-C) that arrive at or leave `interface`; returns 0.

    ModuleNotFoundError when scapy is not installed, PermissionError without CAP_NET_RAW,
    OSError when there is no such interface, BrokenPipeError when nobody reads `out`.
    """
    show = _Scapy()
    instances = instances_on(interface, config)
    own = show.own_addresses() if config else frozenset()
    with _listen(interface) as sock:
        out.write(_headline(interface, config, instances))
        out.flush()
        seen = 0
        try:
            while count is None or seen < count:
                data, address = sock.recvfrom(65535)
                datagram = take_apart(data, 4 if address[1] == _ETH_P_IP else 6)
                if address[2] == socket.PACKET_OUTGOING:
                    judgement = "sent by this router"
                elif address[2] == socket.PACKET_OTHERHOST:
                    judgement = "for another host"
                else:
                    judgement = verdict(datagram, config, instances, own)
                now = time.time()
                clock = f"{time.strftime('%H:%M:%S', time.localtime(now))}.{int(now * 1000) % 1000:03}"
                out.write(f"{clock} {show.describe(datagram)}: {judgement}\n")
                out.flush()
                seen += 1
        except KeyboardInterrupt:
            pass
    return 0


def instances_on(interface: str, config: Config | None) -> tuple[Instance, ...]:
    """The instances that live on an interface, be it the real one or their macvlan."""
    every = config.instances if config else ()
    return tuple(item for item in every if interface in (item.interface, item.use_vmac))


def take_apart(data: bytes, family: int) -> Datagram | None:
    """An IP packet as the kernel hands it to a packet socket, before any check of its own.

    None when it is no IP packet at all. What follows the length in its header is padding.
    """
    if family == 4 and len(data) >= 20 and data[0] >> 4 == 4:
        start, (total,) = (data[0] & 0x0F) * 4, struct.unpack_from("!H", data, 2)
        if not 20 <= start <= total <= len(data):
            return None
        fragment = bool(struct.unpack_from("!H", data, 6)[0] & 0x3FFF)  # more to come, or an offset
        payload = data[start:total]
        return Datagram(4, data[:20], payload, data[12:16], data[16:20], data[8], fragment)
    if family == 6 and len(data) >= 40 and data[0] >> 4 == 6:
        end = 40 + struct.unpack_from("!H", data, 4)[0]
        if end > len(data):
            return None
        return Datagram(6, data[:40], data[40:end], data[8:24], data[24:40], data[7])
    return None


def verdict(
    datagram: Datagram | None,
    config: Config | None,
    instances: Sequence[Instance],
    own: frozenset[bytes] = frozenset(),
) -> str:
    """What the daemon does with a packet under `config`, in words.

    `instances` are those of the interface, `own` the packed addresses of this router.
    """
    if datagram is None:
        return "dropped: not a whole IP packet"
    if datagram.fragment:
        return "fragment: judged when it is whole"
    advert = datagram.decoded()
    if isinstance(advert, PacketError):
        return f"dropped: {advert}"
    if config is None:
        return "well-formed (no configuration to compare it with)"
    return _verdict_of(advert, datagram, instances, own)


def _verdict_of(
    advert: Advertisement, datagram: Datagram, instances: Sequence[Instance], own: frozenset[bytes]
) -> str:
    """The verdict of the instance with the VRID; there may be two when peers are unicast."""
    result = f"dropped: {PacketError(Reason.UNKNOWN_VRID, f'vrid {advert.vrid}')}"
    for instance in instances:
        if (instance.virtual_router_id, instance.family) != (advert.vrid, datagram.family):
            continue
        error = check(advert, expected_of(instance, own), datagram.source, datagram.destination)
        if error is None:
            return f"accepted by {instance.name}"
        result = f"dropped by {instance.name}: {error}"
    return result


class _Scapy:
    """The few things of scapy that are used, imported when they are: 0.3 s and 35 MiB."""

    def __init__(self) -> None:
        from scapy.config import conf
        from scapy.layers.inet import IP
        from scapy.layers.inet6 import IPv6
        from scapy.layers.vrrp import VRRP, VRRPv3

        self._conf: Any = conf
        self._ip: dict[int, Any] = {4: IP, 6: IPv6}
        self._vrrp: tuple[Any, Any] = (VRRP, VRRPv3)

    def own_addresses(self) -> frozenset[bytes]:
        """The packed addresses of all interfaces of this router."""
        texts = (a for item in self._conf.ifaces.values() for family in (4, 6) for a in item.ips[family])
        return frozenset(pack(text.partition("%")[0]) for text in texts)

    def describe(self, datagram: Datagram | None) -> str:
        """Source, destination and what the advertisement says, as far as scapy can read it."""
        if datagram is None:
            return "unreadable packet"
        domain = socket.AF_INET if datagram.family == 4 else socket.AF_INET6
        source = socket.inet_ntop(domain, datagram.source)
        destination = socket.inet_ntop(domain, datagram.destination)
        return f"{source} -> {destination} {self._fields(datagram)}"

    def _fields(self, datagram: Datagram) -> str:
        payload = datagram.payload
        if len(payload) < 8:
            return f"{len(payload)} bytes"
        # Cut off in mid-address, scapy would not even read the header.
        payload = payload.ljust(8 + payload[3] * len(datagram.source) + 8, b"\0")
        header, length = bytearray(datagram.header), len(payload)
        if datagram.family == 4:  # options and fragments are not scapy's to stumble over
            header[0] = 0x45
            header[2:4], header[6:8] = struct.pack("!H", 20 + length), b"\0\0"
        else:
            header[4:6] = struct.pack("!H", length)
        packet = self._ip[datagram.family](bytes(header) + payload)
        layer = next((packet[kind] for kind in self._vrrp if packet.haslayer(kind)), None)
        if layer is None:  # scapy has given up on it and keeps it raw
            return f"{len(datagram.payload)} bytes"
        words = [f"vrid {layer.vrid}", f"v{layer.version}"]
        if layer.type != 1:
            words.append(f"type {layer.type}")
        words.append(f"priority {layer.priority}{_PRIORITIES.get(layer.priority, '')}")
        words.append(f"every {layer.adv if layer.version == 2 else layer.adv / 100:g} s")
        words.append(_addresses(layer, datagram))
        if layer.version == 2:
            words.append(_AUTHENTICATION.get(layer.authtype, f"auth type {layer.authtype}"))
        return " ".join(words)


_PRIORITIES = {0: " (resigns)", 255: " (owner)"}
_AUTHENTICATION = {0: "no auth", 1: "password", 2: "auth AH"}


def _addresses(layer: Any, datagram: Datagram) -> str:
    """The virtual addresses, or their number when the packet is damaged.

    With a wrong count or version, what scapy takes for an address may be the password.
    """
    if isinstance(datagram.decoded(), PacketError):
        return f"{layer.ipcount} addresses"
    return ",".join(str(address) for address in layer.addrlist) or "no addresses"


def _headline(interface: str, config: Config | None, instances: Sequence[Instance]) -> str:
    if config is None:
        return f"Listening on {interface}. Ctrl-C ends.\n"
    names = ", ".join(f"{item.name} (vrid {item.virtual_router_id})" for item in instances)
    return f"Listening on {interface}, home of {names or 'no instance'}. Ctrl-C ends.\n"


def _listen(interface: str) -> socket.socket:
    """A packet socket that gets VRRP packets only, from the IP header on, in both directions."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
    try:
        program = b"".join(struct.pack("=HBBI", *step) for step in _FILTER)
        memory = ctypes.create_string_buffer(program)
        sock.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HP", len(program) // 8, ctypes.addressof(memory)),
        )
        # The card may not be listening to the group when no daemon runs.
        request = struct.pack("=iHH8s", socket.if_nametoindex(interface), _PACKET_MR_ALLMULTI, 0, b"")
        sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
        sock.bind((interface, _ETH_P_ALL))
    except OSError:
        sock.close()
        raise
    return sock
