# SPDX-License-Identifier: GPL-2.0-or-later
"""The effective configuration: frozen dataclasses of plain values.

This module holds no parsing and no checks, so that the resident daemon can import it
cheaply: `tandem.config.load` (run in the planner process and in the command line) reads
UCI text, validates it and builds these; `plain()` and `from_plain()` carry them across the
pipe between the two processes.

The settings of virtual routers, sync groups, services and virtual servers stand in `core/settings.py`.
Units are in the field names: `_cs` centiseconds, `_ms` milliseconds, `_s` seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass

from tandem.core.settings import (
    Address,
    Garp,
    Group,
    Instance,
    Nexthop,
    Notify,
    RealServer,
    Route,
    Rule,
    Service,
    Track,
    VirtualServer,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from typing import Any

    Plain = Any  # what marshal carries: None, bool, int, str, bytes, tuple, dict


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
class Check:
    """One `check`: something is tried again and again, see health/prober.py. Empty: not given."""

    name: str
    kind: str  # tcp, http, https, dns, ping, arp, process, file, script
    host: str = ""  # empty: that of a real server
    port: int = 0
    source: str = ""
    interface: str = ""  # a network or device; to the prober, the device
    interval_ms: int = 1000
    timeout_ms: int = 1000
    rise: int = 1
    fall: int = 3
    delay_before_retry_ms: int = 0  # 0: interval_ms
    path: str = "/"
    virtualhost: str = ""
    status: tuple[tuple[int, int], ...] = ((200, 299),)
    text: str = ""
    digest: str = ""  # hexadecimal: 32 digits of MD5 or 64 of SHA-256
    certificate_days: int = 0
    query: str = "."
    record: str = "SOA"
    answer: str = ""
    count: int = 1
    loss: int = 0  # percent
    latency_ms: int = 0
    process: str = ""
    file: str = ""
    script: tuple[str, ...] = ()
    user: str | None = None
    group: str | None = None


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
    history_file: str = ""  # on the disk; empty: a reboot ends the history
    heartbeat_interval_ms: int = 50  # between heartbeats to peers; 0: none
    heartbeat_miss: int = 3  # heartbeats that a peer may miss before it is dead
    fault_policy: str = "compare"  # or "strict", see core/sync_group.py
    partition_policy: str = "hold"  # or "split", see core/standing.py
    witness_policy: str = "none"  # advisory, required: see core/quorum.py
    two_node: bool = False
    wait_for_all: bool | None = None  # None: as two_node
    damping_time_ms: int = 60_000  # ... within this time are flapping; 0 changes: never, see core/damping.py
    allow_upgrade: bool = False  # peers with a secret may order an upgrade of Tandem's packages


@dataclass(frozen=True, slots=True)
class PeerPath:
    """One way to a peer; a link-local address has its interface in it, as in "fe80::2%eth0"."""

    address: str
    source: str | None = None  # the address of ours to bind to, written likewise
    interface: str | None = None  # to bind to
    port: int = 3780


@dataclass(frozen=True, slots=True)
class Peer:
    """Another router that this one has a channel to, see config/peers.py."""

    name: str
    paths: tuple[PeerPath, ...]  # the preferred one first, never empty; all paths of all peers have one port
    secrets: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)  # by key id, in its order
    key_id: int = 0  # of the secret we use; 0: none, insecure
    insecure: bool = False
    router_id: str = ""  # the peer must call itself this; "": anything
    max_hops: int = 1  # to a peer that connects
    heartbeat_ms: int = 1000
    stall_timeout_ms: int = 10_000  # a heartbeat that is not answered for so long ends the session


@dataclass(frozen=True, slots=True)
class ConntrackSync:
    """The `conntrack_sync` section that is enabled. An empty tuple of a filter: no limit by it."""

    peers: tuple[str, ...]  # names of peers, never empty
    port: int = 3780  # of the channel, whose connections are not replicated
    digest_interval_ms: int = 10_000
    only_networks: tuple[str, ...] = ()  # canonical prefixes; one of this and ignore_networks is empty
    ignore_networks: tuple[str, ...] = ()
    protocols: tuple[int, ...] = ()  # numbers of IP; one of this and ignore_protocols is empty
    ignore_protocols: tuple[int, ...] = ()
    tcp_states: tuple[int, ...] = ()  # enum tcp_conntrack
    zones: tuple[int, ...] = ()
    sync_after: int = 2  # s that a flow of UDP or ICMP lives before peers are told; 0: at once
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
    replicate: bool = True  # leases, to all peers


@dataclass(frozen=True, slots=True)
class Follow:
    """A network that follows the role of a group, see core/follow.py."""

    name: str
    interface: str = ""  # the port of the line, or @ and the network that has it; "": none
    device: str = ""  # made on the port while the group is active
    mac: str = ""
    session: str = "dial"  # or takeover: what becomes of the session of PPPoE of another router

    @property
    def takes_over(self) -> bool:
        """Whether a router goes on with the session of another one."""
        return self.session == "takeover"

    @property
    def port(self) -> str:
        """The port of the line, if this network is the one that has it."""
        return "" if self.parent else self.interface

    @property
    def parent(self) -> str:
        """The network on whose device this one is, as `@wan` says it."""
        return self.interface[1:] if self.interface.startswith("@") else ""


@dataclass(frozen=True, slots=True)
class Internet:
    """An `internet` section: targets behind a way out, see core/internet.py."""

    name: str
    checks: tuple[str, ...] = ()
    policy: str = "any"  # or all
    network: str = ""  # that leads to the targets; "": no matter which
    settle_ms: int = 15000
    memory_ms: int = 300000


@dataclass(frozen=True, slots=True)
class Witness:
    """A `witness` section: a third party that helps to find out which router may be active."""

    name: str
    address: str
    kind: str = "tandem"  # ping, tcp
    port: int = 0
    secret: bytes = field(default=b"", repr=False)
    interval_ms: int = 1000
    fall: int = 3


@dataclass(frozen=True, slots=True)
class WitnessServer:
    """The `witness_server` section: this host gives its vote to one router of a pair."""

    enabled: bool = False
    address: str = ""  # empty: every address
    port: int = 3781
    lease_ms: int = 1000
    secret_files: tuple[str, ...] = ()


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
    peers: tuple[Peer, ...] = ()
    conntrack_sync: ConntrackSync | None = None
    dhcp_gateway: DhcpGateway | None = None  # not None: some instance has `dhcp`
    follows: tuple[Follow, ...] = ()  # the networks that groups follow
    witnesses: tuple[Witness, ...] = ()
    witness_server: WitnessServer | None = None
    services: tuple[Service, ...] = ()  # each behind those that it needs
    checks: tuple[Check, ...] = ()
    virtual_servers: tuple[VirtualServer, ...] = ()
    real_servers: tuple[RealServer, ...] = ()  # those of the virtual servers
    internets: tuple[Internet, ...] = ()


_NESTED: dict[str, type] = {
    "Address": Address, "Nexthop": Nexthop, "Route": Route, "Rule": Rule, "Track": Track,
    "Notify": Notify, "Garp": Garp, "Instance": Instance, "Group": Group, "Script": Script,
    "Globals": Globals, "Config": Config, "PeerPath": PeerPath, "Peer": Peer,
    "ConntrackSync": ConntrackSync, "DhcpGateway": DhcpGateway, "Follow": Follow, "Service": Service,
    "Witness": Witness, "WitnessServer": WitnessServer, "Check": Check,
    "VirtualServer": VirtualServer, "RealServer": RealServer,
    "Internet": Internet,
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
