# SPDX-License-Identifier: GPL-2.0-or-later
"""The nftables table `inet tandem_balance`: connections to virtual servers go to real servers.

    table inet tandem_balance {
        map web { type mark : ipv4_addr . inet_service; elements = { 0 : 10.0.0.1 . 80, ... } }
        chain prerouting {
            type nat hook prerouting priority -101;     # before fw4's redirects, -100
            ip daddr VIP tcp dport 80 dnat ip to jhash ip saddr mod 256 map @web    # rr: numgen inc mod 256
        }
        chain input {
            type filter hook input priority -1;         # nobody has taken the packet
            ip daddr VIP tcp dport 80 reject with tcp reset
        }
        chain postrouting {                             # with `masquerade`
            type nat hook postrouting priority 98;
            ct original ip daddr VIP meta l4proto tcp ct original proto-dst 80 snat ip to VIP
        }
    }

The daemon fills the maps (core/balance.py). The table is there in every role: only the MASTER gets packets to
a virtual address, and a router that becomes MASTER has the table already. Both routers hash alike.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

from tandem.config.schema import Config
from tandem.core.balance import SLOTS
from tandem.core.settings import VirtualServer
from tandem.plan import nft, nft_set
from tandem.plan.nft import Expressions
from tandem.plan.result import BALANCE_TABLE as TABLE

PREROUTING, INPUT, POSTROUTING = "prerouting", "input", "postrouting"

_PRIORITY_DNAT, _PRIORITY_INPUT, _PRIORITY_SNAT = -101, -1, 98
_PROTOCOLS = {"tcp": 6, "udp": 17}
_SEED = 0x74616E64  # the same on all routers
_CT_PROTO_DST, _CT_DST_IP, _CT_DST_IP6 = 12, 20, 22  # NFT_CT_*


def balance(config: Config) -> dict[str, object] | None:
    """Return `plan.result.BalancePlan` as plain values; None: there is no virtual server."""
    if not config.virtual_servers:
        return None
    begin, end = nft.batch(nft.BATCH_BEGIN), nft.batch(nft.BATCH_END)
    gone = nft.no_table(TABLE)
    masquerade = any(server.masquerade for server in config.virtual_servers)
    hold = begin + gone + nft.new_table(TABLE)
    hold += nft.chain(TABLE, PREROUTING, "nat", nft.HOOK_PREROUTING, _PRIORITY_DNAT)
    hold += nft.chain(TABLE, INPUT, "filter", nft.HOOK_INPUT, _PRIORITY_INPUT)
    if masquerade:
        hold += nft.chain(TABLE, POSTROUTING, "nat", nft.HOOK_POSTROUTING, _PRIORITY_SNAT)
    for number, server in enumerate(config.virtual_servers, 1):
        hold += nft_set.new_map(TABLE, number, _map(number), 20 if ":" in server.address else 8)
        hold += nft.rule(TABLE, PREROUTING, [*_addressed(server), *_chosen(server, number)])
        hold += nft.rule(TABLE, INPUT, [*_addressed(server), nft.reject(server.protocol == "tcp")])
        if server.masquerade:
            hold += nft.rule(TABLE, POSTROUTING, _hidden(server))
    real = {server.name: server for server in config.real_servers}
    values: dict[str, dict[str, bytes]] = {}
    for server in config.virtual_servers:
        values[server.name] = {
            name: _value(real[name].address, real[name].port or server.port) for name in server.servers
        }
        if server.sorry_address:
            values[server.name][""] = _value(server.sorry_address, server.sorry_port or server.port)
    maps = {server.name: _map(number) for number, server in enumerate(config.virtual_servers, 1)}
    return {"hold": hold, "tail": end, "clear": begin + gone + end, "maps": maps, "values": values}


def _map(number: int) -> str:
    """Return the name of a map: those of sections may have characters that nftables does not take."""
    return f"server{number}"


def _family(server: VirtualServer) -> tuple[int, bytes]:
    value = ip_address(server.address).packed
    return (nft.IPV6 if len(value) == 16 else nft.IPV4), value


def _addressed(server: VirtualServer) -> Expressions:
    """Match packets to the virtual server."""
    family, value = _family(server)
    return [
        *nft.matches(nft.META_NFPROTO, bytes([family])),
        nft.payload(nft.NETWORK_HEADER, 24 if family == nft.IPV6 else 16, len(value)),
        nft.compare(nft.EQ, value),
        *nft.matches(nft.META_L4PROTO, bytes([_PROTOCOLS[server.protocol]])),
        nft.payload(nft.TRANSPORT_HEADER, 2, 2),
        nft.compare(nft.EQ, struct.pack("!H", server.port)),
    ]


def _chosen(server: VirtualServer, number: int) -> Expressions:
    """Translate the destination to that of a real server."""
    family, value = _family(server)
    if server.algorithm == "sh":
        source = nft.payload(nft.NETWORK_HEADER, 8 if family == nft.IPV6 else 12, len(value))
        slot = [source, nft.hash_of(len(value), SLOTS, _SEED)]
    else:
        slot = [nft.next_number(SLOTS)]
    return [*slot, nft.look_up(_map(number), number), nft.dnat(family)]


def _hidden(server: VirtualServer) -> Expressions:
    """Translate the source of connections that came to the virtual server to its address."""
    family, value = _family(server)
    return [
        *nft.matches(nft.META_NFPROTO, bytes([family])),
        nft.conntrack(_CT_DST_IP6 if family == nft.IPV6 else _CT_DST_IP),
        nft.compare(nft.EQ, value),
        *nft.matches(nft.META_L4PROTO, bytes([_PROTOCOLS[server.protocol]])),
        nft.conntrack(_CT_PROTO_DST),
        nft.compare(nft.EQ, struct.pack("!H", server.port)),
        nft.load(value),
        nft.snat(family),
    ]


def _value(address: str, port: int) -> bytes:
    """Return an address and a port as `dnat` finds them in the registers, each from a word's beginning on."""
    return ip_address(address).packed + struct.pack("!HH", port, 0)
