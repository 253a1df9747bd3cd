# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of a virtual router and of a sync group: frozen dataclasses of plain values.

Units are in the field names: `_cs` centiseconds, `_ms` milliseconds, `_s` seconds.
Addresses are canonical text; a device of None means the instance's own interface.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """One virtual or static address, as `ip address add` takes it."""

    address: str
    prefixlen: int
    family: int  # 4 or 6
    device: str | None = None
    scope: int = 0  # rtnetlink RT_SCOPE_*: 0 global, 200 site, 253 link, 254 host
    label: str | None = None
    broadcast: str | None = None
    peer: str | None = None
    preferred_lifetime_s: int | None = None  # None: as long as the valid lifetime


@dataclass(frozen=True, slots=True)
class Nexthop:
    """One leg of a multipath route."""

    via: str | None = None
    device: str | None = None
    weight: int = 1
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One virtual or static route, as `ip route add` takes it."""

    destination: str  # canonical prefix, "0.0.0.0/0" or "::/0" for default
    family: int
    kind: str = "unicast"  # unicast, blackhole, unreachable, prohibit, throw
    source: str | None = None
    via: str | None = None
    device: str | None = None
    metric: int | None = None
    table: int = 254
    scope: int | None = None
    mtu: int | None = None
    onlink: bool = False
    protocol: int | None = None  # rtm_protocol; None: Tandem's own number
    tos: int = 0
    advmss: int | None = None
    nexthops: tuple[Nexthop, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One policy routing rule, as `ip rule add` takes it."""

    family: int
    source: str | None = None
    destination: str | None = None
    iif: str | None = None
    oif: str | None = None
    fwmark: int | None = None
    fwmask: int | None = None
    tos: int = 0
    invert: bool = False
    priority: int | None = None
    action: str = "lookup"  # lookup, blackhole, unreachable, prohibit, goto
    table: int | None = None
    goto: int | None = None
    suppress_prefixlength: int | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """A tracked interface or script, with what its state is worth.

    weight 0: down means fault. Above 0: added while up. Below 0: added while down.
    `reverse` swaps up and down (keepalived's `weight N reverse`).
    """

    kind: (
        str  # interface, script, check, internet, or of a service: "service" (it is fit), "running" (sticky)
    )
    name: str
    weight: int = 0
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Notify:
    """Notify commands as argv tuples; empty: none. See keepalived.conf(5), notify scripts."""

    master: tuple[str, ...] = ()
    backup: tuple[str, ...] = ()
    fault: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    master_rx_lower_pri: tuple[str, ...] = ()
    any: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Garp:
    """When and how often gratuitous ARP / unsolicited NA are sent, keepalived's garp_*."""

    delay_ms: int = 5000  # second burst after becoming active; 0: none
    repeat: int = 5
    refresh_ms: int = 0  # 0: no periodic refresh
    refresh_repeat: int = 1
    lower_prio_delay_ms: int = 5000
    lower_prio_repeat: int = 5


@dataclass(frozen=True, slots=True)
class Instance:
    """One `vrrp_instance`: a virtual router on one interface and one address family."""

    name: str
    interface: str
    virtual_router_id: int  # 1..255
    version: int = 2  # 2 or 3; IPv6 is always 3
    family: int = 4
    priority: int = 100  # 1..255, 255: the address owner
    advert_int_cs: int = 100
    initial_master: bool = False  # `state MASTER`
    preempt: bool = True
    preempt_delay_ms: int = 0
    down_timer_adverts: int = 3  # adverts that the active may miss before it is down
    accept: bool = True
    auth_pass: bytes | None = None  # 1..8 bytes, version 2 only
    multicast_group: str = "224.0.0.18"
    mcast_src_ip: str | None = None
    unicast_src_ip: str | None = None
    unicast_peers: tuple[str, ...] = ()
    unicast_ttl: int = 255
    unicast_min_ttl: int = 255  # of unicast adverts that are believed
    check_unicast_src: bool = True
    allow_src: tuple[str, ...] = ()  # whose multicast adverts are believed; empty: anybody's
    strangers: str = "ignore"  # or "follow": adverts of others while an authenticated peer is in step
    max_learned_interval_cs: int = 1000  # of adverts of the active router, see core/bounds.py
    use_vmac: str | None = None  # name of the macvlan; None: no virtual MAC
    vmac_xmit_base: bool = False
    v3_checksum_as_v2: bool = False
    virtual_addresses: tuple[Address, ...] = ()
    excluded_addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    dhcp: bool = False  # DHCP and RAs on the interface are answered by the MASTER only
    dhcp_tag: str | None = None  # what dnsmasq calls the network; None: as /etc/config/network does
    dhcp_networks: tuple[str, ...] = ()  # canonical prefixes whose leases the routers share
    snat: str | None = None  # the virtual address outgoing traffic is SNATed to
    track_primary: bool = True
    track_src_ip: bool = True  # without the configured source address the instance is in fault
    higher_prio_send_advert: bool = True  # one last advert before it yields to a better router
    tracks: tuple[Track, ...] = ()
    promote_secondaries: bool = False
    garp: Garp = Garp()
    notify: Notify = Notify()
    follow: tuple[str, ...] = ()  # of an instance in no group, see Group

    @property
    def source(self) -> str | None:
        """The configured address to send from; None: the interface's first one."""
        return self.unicast_src_ip if self.unicast_peers else self.mcast_src_ip


@dataclass(frozen=True, slots=True)
class Group:
    """One `vrrp_sync_group`; an instance in no group is a group of one with its own name."""

    name: str
    members: tuple[str, ...]  # the first one decides ties, see core/sync_group.py
    tracks: tuple[Track, ...] = ()
    notify: Notify = Notify()
    follow: tuple[str, ...] = ()  # networks that are up while the group is active, see core/follow.py
    implicit: bool = False  # made for an instance that is in no group
    services: bool = False  # some follow its role


@dataclass(frozen=True, slots=True)
class Service:
    """One `service`: a program that follows the role of a group, see core/services.py."""

    name: str
    agent: str = ""  # class:name, see services/agents.py; empty: `command` is the service
    command: tuple[str, ...] = ()
    params: tuple[tuple[str, str], ...] = ()  # of an OCF agent
    group: str = ""  # empty: where is everywhere
    where: str = "active"  # active, backup, everywhere
    after: tuple[str, ...] = ()
    together: tuple[str, ...] = ()  # `list with`
    checks: tuple[str, ...] = ()  # which must be up while it runs
    start_timeout_ms: int = 20_000
    stop_timeout_ms: int = 20_000
    monitor_timeout_ms: int = 20_000
    monitor_interval_ms: int = 10_000  # 0: never; a command has no monitor
    migration_threshold: int = 0  # 0: never
    failure_timeout_ms: int = 0  # 0: failures do not expire
    on_fail: str = "restart"  # restart, failover, ignore, block
    stickiness: int = 0


@dataclass(frozen=True, slots=True)
class RealServer:
    """One `real_server`: it gets connections of virtual servers."""

    name: str
    address: str
    port: int = 0  # 0: that of the virtual server
    weight: int = 1  # 0: it gets none
    checks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VirtualServer:
    """One `virtual_server`: connections to its address and port go to real servers, see core/balance.py."""

    name: str
    address: str
    port: int
    protocol: str = "tcp"  # udp
    algorithm: str = "sh"  # rr, wrr
    servers: tuple[str, ...] = ()  # names of real servers
    sorry_address: str = ""  # empty: connections are rejected when no server is up
    sorry_port: int = 0  # 0: the same port
    masquerade: bool = False
