# SPDX-License-Identifier: GPL-2.0-or-later
"""VRRP packets on an interface, for people: read them, parse them, and say what the daemon does with them.

A classic BPF filter selects the packets in the kernel, so that a busy interface costs nothing. The verdict
comes from the functions that the daemon uses.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tandem.config.schema import Config
from tandem.core.packet import PROTOCOL, Advertisement, PacketError, Reason, check, decode
from tandem.core.settings import Instance
from tandem.effects.bpf import ALL, AND, JEQ, LD_B_ABS, LD_W_ABS, RET, Program, assemble, attach
from tandem.effects.vrrp_socket import UNICAST_MIN_HOP_LIMIT, expected_of

_ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800
_ETH_P_IPV6 = 0x86DD
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_MR_ALLMULTI = 2

# SKF_AD_OFF and what stands there (include/uapi/linux/filter.h); SKF_NET_OFF: relative to the IP header,
# on any kind of link.
_AD_PROTOCOL, _AD_VLAN_TAG, _AD_VLAN_TAG_PRESENT = 0xFFFFF000, 0xFFFFF000 + 44, 0xFFFFF000 + 48
_NET = 0xFFF00000

# A frame with a VLAN tag belongs to another interface. Whether there is a tag is a question of its own: from
# Linux 4.20 to 6.1 the number of the VLAN stays in a frame that a VLAN device has received.
_PROGRAM: Program = [
    ("", (LD_W_ABS, _AD_VLAN_TAG_PRESENT, "", "")),
    ("", (JEQ, 0, "untagged", "")),
    ("", (LD_W_ABS, _AD_VLAN_TAG, "", "")),
    ("", (AND, 0x0FFF, "", "")),
    ("", (JEQ, 0, "", "drop")),  # VLAN 0 is a priority alone
    ("untagged", (LD_W_ABS, _AD_PROTOCOL, "", "")),
    ("", (JEQ, ETH_P_IP, "ipv4", "")),
    ("", (JEQ, _ETH_P_IPV6, "", "drop")),
    ("", (LD_B_ABS, _NET + 6, "", "")),
    ("", (JEQ, PROTOCOL, "accept", "drop")),
    ("ipv4", (LD_B_ABS, _NET + 9, "", "")),
    ("", (JEQ, PROTOCOL, "accept", "drop")),
    ("drop", (RET, 0, "", "")),
    ("accept", (RET, ALL, "", "")),
]


@dataclass(frozen=True, slots=True)
class Datagram:
    """One IP packet that claims to carry VRRP."""

    family: int
    header: bytes  # without options
    payload: bytes
    source: bytes
    destination: bytes
    hop_limit: int
    fragment: bool = False

    def decoded(self) -> Advertisement | PacketError:
        """Decode the payload as the daemon does before it looks at its configuration."""
        return decode(
            self.payload, self.family, self.hop_limit, self.source, self.destination, UNICAST_MIN_HOP_LIMIT
        )


def on_devices(config: Config | None, networks: Mapping[str, str | None]) -> Config | None:
    """Return the configuration with the present devices of the networks that instances name."""
    if config is None:
        return None
    instances = (
        replace(item, interface=networks.get(item.interface) or item.interface) for item in config.instances
    )
    return replace(config, instances=tuple(instances))


def instances_on(interface: str, config: Config | None) -> tuple[Instance, ...]:
    """Return the instances on an interface, which may be the real one or their macvlan."""
    every = config.instances if config else ()
    return tuple(item for item in every if interface in (item.interface, item.use_vmac))


def take_apart(data: bytes, family: int) -> Datagram | None:
    """Parse an IP packet from a packet socket, which the kernel has not checked; None: it is none.

    The bytes after the length in its header are padding.
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
    """Say what the daemon does with a packet under `config`.

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
    """Return the verdict of the instance with the VRID; there may be two when peers are unicast."""
    result = f"dropped: {PacketError(Reason.UNKNOWN_VRID, f'vrid {advert.vrid}')}"
    for instance in instances:
        if (instance.virtual_router_id, instance.family) != (advert.vrid, datagram.family):
            continue
        error = check(advert, expected_of(instance, own), datagram.source, datagram.destination)
        if error is None:
            return f"accepted by {instance.name}"
        result = f"dropped by {instance.name}: {error}"
    return result


def listen(interface: str) -> socket.socket:
    """Open a packet socket that gets VRRP packets only, from the IP header on, in both directions."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
    try:
        attach(sock, assemble(_PROGRAM))
        # The card may not be listening to the group when no daemon runs.
        request = struct.pack("=iHH8s", socket.if_nametoindex(interface), _PACKET_MR_ALLMULTI, 0, b"")
        sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
        sock.bind((interface, _ETH_P_ALL))
    except OSError:
        sock.close()
        raise
    return sock
