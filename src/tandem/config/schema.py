# SPDX-License-Identifier: GPL-2.0-or-later
"""The effective configuration: frozen dataclasses of plain values.

This module holds no parsing and no checks, so that the resident daemon can import it
cheaply: `tandem.config.load` (run in the planner process and in the command line) reads
UCI text, validates it and builds these; `plain()` and `from_plain()` carry them across the
pipe between the two processes.

Units are in the field names: `_cs` centiseconds, `_ms` milliseconds, `_s` seconds.
Addresses are canonical text; a device of None means the instance's own interface.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from typing import Any

    Plain = Any  # what marshal carries: None, bool, int, str, bytes, tuple, dict


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

    kind: str  # "interface" or "script"
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
    implicit: bool = False  # made for an instance that is in no group


@dataclass(frozen=True, slots=True)
class Script:
    """One `vrrp_script`: a command whose exit status is tracked."""

    name: str
    argv: tuple[str, ...]
    interval_ms: int = 1000
    timeout_ms: int = 1000
    rise: int = 1
    fall: int = 1
    user: str | None = None
    group: str | None = None
    init_fail: bool = False


@dataclass(frozen=True, slots=True)
class Globals:
    """Options of the `globals` section."""

    enabled: bool = True
    router_id: str = ""
    startup_delay_ms: int = 0
    address_lifetime_s: int = 3  # dead man's switch; 0: addresses never expire
    rt_priority: int = 50  # SCHED_FIFO priority, 0: ordinary scheduling
    no_swap: bool = True
    script_user: str | None = None
    script_group: str | None = None
    log_level: str = "info"  # error, warning, info, debug
    damping_changes: int = 5  # so many changes of role ...
    damping_time_ms: int = 60_000  # ... within this time are flapping; 0 changes: never, see core/damping.py


@dataclass(frozen=True, slots=True)
class SyncPath:
    """One way to a peer; a link-local address has its interface in it, as in "fe80::2%eth0"."""

    address: str
    source: str | None = None  # the address of ours to bind to, written likewise
    interface: str | None = None  # to bind to
    port: int = 3780


@dataclass(frozen=True, slots=True)
class SyncPeer:
    """A router that connections are replicated with."""

    name: str
    paths: tuple[SyncPath, ...]  # the preferred one first, never empty
    secret: bytes = field(default=b"", repr=False)  # for it alone; b"": those of the section


@dataclass(frozen=True, slots=True)
class ConntrackSync:
    """The `conntrack_sync` section that is enabled. An empty tuple of a filter: no limit by it."""

    peers: tuple[SyncPeer, ...]  # never empty; all paths have one port
    secrets: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)  # by key id, in its order
    key_id: int = 0  # of the secret we use; 0: none, insecure
    insecure: bool = False
    max_hops: int = 1  # to a peer that connects
    heartbeat_ms: int = 1000
    digest_interval_ms: int = 10_000
    stall_timeout_ms: int = 10_000  # a heartbeat that is not answered for so long ends the session
    only_networks: tuple[str, ...] = ()  # canonical prefixes; one of this and ignore_networks is empty
    ignore_networks: tuple[str, ...] = ()
    protocols: tuple[int, ...] = ()  # numbers of IP; one of this and ignore_protocols is empty
    ignore_protocols: tuple[int, ...] = ()
    tcp_states: tuple[int, ...] = ()  # enum tcp_conntrack
    zones: tuple[int, ...] = ()
    local: bool = False  # also the router's own connections
    limit_entries: int = 262_144  # that are held for the peers
    limit_bytes: int = 64 << 20  # of memory for them
    hold_s: int = 3600  # how long an entry stays without a word from its router, at least
    queue_limit: int = 4 << 20  # bytes that wait for a slow peer; more is dropped for a bulk
    receive_buffer: int = 8 << 20  # bytes, of events from the kernel
    preempt_sync_timeout_ms: int = 30_000  # how long preemption waits to be in step; 0: it does not
    guarantee: str | None = None  # "connection": a peer knows it before the client gets an answer
    guarantee_timeout_ms: int = 100  # after that the answer goes out anyway
    stale_lag_ms: int = 1000  # behind or out of step for longer: replication_stale; 0: never
    stale_loss: int = 1000  # records lost within a minute, above which it is; 0: never

    @property
    def port(self) -> int:
        """The TCP port, here and at all peers."""
        return self.peers[0].paths[0].port


@dataclass(frozen=True, slots=True)
class DhcpGateway:
    """The `dhcp_gateway` section, or its defaults when an instance has `dhcp` and there is none."""

    leasefile: str | None = None  # of dnsmasq; None: the one in its configuration
    confdir: str | None = None  # which dnsmasq reads; None: the one in its configuration
    restart: tuple[str, ...] = ("/etc/init.d/dnsmasq", "restart")
    restart_timeout_ms: int = 30_000
    restart_delay_ms: int = 1000  # between a lease that a peer has granted and the restart
    router: bool = True  # clients get the virtual address as router
    dns: bool = True  # and as DNS server
    replicate: bool = True  # leases, to the peers of conntrack_sync


@dataclass(frozen=True, slots=True)
class Config:
    """The whole effective configuration."""

    globals: Globals = Globals()
    instances: tuple[Instance, ...] = ()
    groups: tuple[Group, ...] = ()  # every instance is in exactly one
    scripts: tuple[Script, ...] = ()
    static_addresses: tuple[Address, ...] = ()
    static_routes: tuple[Route, ...] = ()
    static_rules: tuple[Rule, ...] = ()
    conntrack_sync: ConntrackSync | None = None
    dhcp_gateway: DhcpGateway | None = None  # not None: some instance has `dhcp`


_NESTED: dict[str, type] = {
    "Address": Address, "Nexthop": Nexthop, "Route": Route, "Rule": Rule, "Track": Track,
    "Notify": Notify, "Garp": Garp, "Instance": Instance, "Group": Group, "Script": Script,
    "Globals": Globals, "Config": Config, "SyncPath": SyncPath, "SyncPeer": SyncPeer,
    "ConntrackSync": ConntrackSync, "DhcpGateway": DhcpGateway,
}  # fmt: skip


def plain(value: Any) -> Plain:
    """The value as nested tuples that marshal can carry; dataclasses are tagged by name."""
    if is_dataclass(value):
        return {"": type(value).__name__} | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return value


def from_plain(value: Plain) -> Any:
    """The inverse of `plain`. KeyError or TypeError when the two processes disagree."""
    if isinstance(value, dict):
        members = {name: from_plain(item) for name, item in value.items() if name}
        return _NESTED[value[""]](**members)
    if isinstance(value, tuple):
        return tuple(from_plain(item) for item in value)
    return value
