# SPDX-License-Identifier: GPL-2.0-or-later
"""The schema of the status: what `tandem status --json` and `ubus call tandem status` give.

`status` builds plain dictionaries, and mypy compares them with these types. The resident daemon never
imports this module: dataclasses would cost it memory for every class and every object. `make generated`
makes docs/status.md and docs/status.schema.json from it, and tests hold the output of real daemons to it.

A field is never renamed and keeps its meaning. `schema_version` grows when a field goes or changes its
meaning; new fields do not change it.
"""

from __future__ import annotations

from typing import Annotated, TypedDict

Counters = dict[str, int]


class Scheduling(TypedDict):
    """How well the daemon keeps its times."""

    policy: Annotated[str, "the scheduling policy with its priority, as in FIFO 50"]
    memory_locked: Annotated[bool, "the daemon's memory is not swapped"]
    late_max_ms: Annotated[float, "the latest timer since the start"]
    late_count: Annotated[int, "timers that were later than late_limit_ms"]
    late_limit_ms: Annotated[float, "a timer that is later than this is counted"]
    turn_max_ms: Annotated[float, "the longest turn of the event loop since the start"]
    turn_max_by: Annotated[str, "the callback that had the greatest part in that turn"]
    turn_count: Annotated[int, "turns that were longer than turn_limit_ms"]
    turn_limit_ms: Annotated[float, "a turn that is longer than this is counted"]
    heartbeat_ms: Annotated[
        float | None, "the shortest heartbeat_interval that it can hold; null: none are sent"
    ]


class DhcpExchange(TypedDict):
    """Leases to and from peers."""

    told: Annotated[list[str], "peers that know all leases of this router"]
    sent: Annotated[int, "leases that were sent to peers"]
    received: Annotated[int, "leases that peers have sent"]
    malformed: Annotated[int, "messages of peers that were not understood"]
    resent: Annotated[int, "leases that were sent again, because a peer knew another one"]


class Dhcp(DhcpExchange):
    """DHCP that follows the role."""

    leases: Annotated[int, "leases that this router knows"]
    answering: Annotated[list[str], "what this router answers: devices with their family"]
    waiting: Annotated[bool, "dnsmasq has not read the latest leases yet"]
    restarts: Annotated[int, "restarts of dnsmasq because of news"]
    refused: Annotated[int, "leases that were not taken because there were too many"]
    problem: Annotated[str, "what is wrong; empty: nothing"]


class HeartbeatPath(TypedDict):
    """One path of the heartbeats from a peer."""

    name: Annotated[str, "the peer's address, and the device"]
    up: Annotated[bool, "heartbeats come by it"]
    up_s: Annotated[float | None, "seconds since then; null: none come"]
    rtt_ms: Annotated[float | None, "the last round trip; null: not known"]
    received: Annotated[int, "heartbeats that came"]
    lost: Annotated[int, "heartbeats that are missing between others"]
    failures: Annotated[int, "times that the path fell silent"]
    errors: Annotated[int, "what the kernel refused to send or receive"]


class PeerHeartbeats(TypedDict):
    """The heartbeats of a peer."""

    state: Annotated[str, "not heard yet, alive or dead"]
    limit_ms: Annotated[float, "the peer is dead after a silence of this length"]
    paths: Annotated[list[HeartbeatPath], "the paths, those of the segments first"]
    last_failure: Annotated[str | None, "the path that fell silent last; null: none did"]
    last_failure_s: Annotated[float | None, "seconds since then"]
    stale: Annotated[bool, "the peer's replication is behind, as it says"]
    repeated: Annotated[int, "heartbeats that were refused because they came before"]


class FollowedNetwork(TypedDict):
    """A network that follows the role, and its lease."""

    name: Annotated[str, "of the network"]
    group: Annotated[str, "the group whose role it follows"]
    state: Annotated[
        str,
        "away (the role is elsewhere), lent (the lease of the peer is in place, and the provider is asked),"
        " taking (the session of the peer is negotiated anew), asking (no lease yet) or bound (up)",
    ]
    device: Annotated[str | None, "the device, which exists on the active router; null: netifd's own"]
    port: Annotated[str | None, "the port of the line; null: none"]
    mac: Annotated[str | None, "the MAC address that the provider sees; null: that of a device of netifd"]
    address: Annotated[
        str | None, "of the lease or session that is known and valid, also on a backup; null: none"
    ]
    prefixes: Annotated[list[str], "the delegated IPv6 prefixes, likewise"]
    lease_left_s: Annotated[
        int | None, "seconds until the lease expires; null: no lease, or a session of PPPoE"
    ]
    server: Annotated[
        str | None, "the DHCP server of the lease, or the MAC address of the concentrator; null: not known"
    ]
    problem: Annotated[str | None, "what is wrong; null: nothing"]


class KnownPeer(TypedDict):
    """Another router, as the channel shows it."""

    name: Annotated[str, "of `config peer`, or the address"]
    connected: Annotated[bool, "there is a session, so that the other fields are known"]
    roles: Annotated[dict[str, str], "the states of its groups, as it says"]
    heartbeats: Annotated[PeerHeartbeats | None, "null: the peer sends none, so VRRP's timers alone decide"]
    connections: Annotated[
        str,
        "in step (a takeover keeps them), out of step, idle (nobody is active), down, off (not replicated)",
    ]


class Group(TypedDict):
    """A sync group: instances that have one role. An instance without a group is a group of its own."""

    name: Annotated[str, "the name; that of its instance if it is implicit"]
    state: Annotated[str, "INIT, BACKUP, MASTER (this router has the addresses), FAULT or STOP"]
    since_s: Annotated[float | None, "seconds since the last change of the state; null: there was none"]
    since: Annotated[int | None, "when that was, in seconds since the epoch"]
    members: Annotated[list[str], "the names of its instances"]
    implicit: Annotated[bool, "the group is a single instance"]
    standby: Annotated[bool, "`tandem standby` keeps this router out of service"]
    standby_since: Annotated[int | None, "since when, in seconds since the epoch"]
    standby_by: Annotated[str | None, "by whom; empty: not known"]
    standby_lasts: Annotated[bool, "a restart or a reboot does not end the standby, only `tandem resume`"]
    held: Annotated[bool, "`tandem failover` keeps this router from preempting"]
    probation: Annotated[str, "why the group does not preempt after a failure; empty: it does"]
    damped_s: Annotated[float | None, "seconds for which the group does not preempt, after many changes"]
    faults: Annotated[list[str], "why the state is FAULT"]
    waits: Annotated[bool, "it leaves its role, by a fault, when the better router holds its connections"]


class Priority(TypedDict):
    """The priority of an instance."""

    base: Annotated[int, "as configured"]
    effective: Annotated[int, "with what trackers add"]
    why: Annotated[list[str], "what adds how much"]


class Advertiser(TypedDict):
    """Another router, as its adverts show it."""

    address: Annotated[str, "the source of the adverts"]
    priority: Annotated[int, "0: it has resigned"]
    interval_ms: Annotated[float, "between two adverts"]
    last_advert_s: Annotated[float, "seconds since the last advert"]


class Tracker(TypedDict):
    """An interface, a script or a check whose state changes the priority, or is a fault."""

    kind: Annotated[str, "interface, script, check, or of a service: service, running"]
    name: Annotated[str, "of the interface, script, check or service"]
    up: Annotated[bool | None, "null: not known yet"]
    weight: Annotated[int, "what the priority gains or loses; 0: down is a fault"]


class Instance(TypedDict):
    """A virtual router on one interface."""

    name: Annotated[str, "the name"]
    group: Annotated[str, "the name of its group"]
    state: Annotated[str, "that of the group"]
    since_s: Annotated[float | None, "as in the group"]
    since: Annotated[int | None, "as in the group"]
    interface: Annotated[str, "as configured"]
    device: Annotated[str | None, "the device of the interface; null: there is none"]
    family: Annotated[int, "4 or 6"]
    version: Annotated[int, "of VRRP, 2 or 3"]
    virtual_router_id: Annotated[int, "1 to 255"]
    priority: Annotated[Priority, "the priority and its sum"]
    advert_int_ms: Annotated[int, "between two adverts"]
    preempt: Annotated[bool, "a better router takes over from a lesser one"]
    faults: Annotated[list[str], "those of the group"]
    source: Annotated[str | None, "the address that adverts come from; null: there is none"]
    peer: Annotated[Advertiser | None, "the router that is active, or was heard last; null: none heard"]
    stranger: Annotated[Advertiser | None, "the router that was ignored last, because it is no Tandem peer"]
    addresses: Annotated[list[str], "the virtual addresses, each with its device"]
    routes: Annotated[int, "how many virtual routes there are"]
    rules: Annotated[int, "how many virtual rules there are"]
    snat: Annotated[str | None, "the source address of connections; null: none"]
    trackers: Annotated[list[Tracker], "what is tracked"]
    transitions: Annotated[int, "changes of the state since the start"]
    counters: Annotated[Counters, "packets that were sent, received or dropped; those that are not zero"]


class QuorumStatus(TypedDict):
    """The votes that decide whether this router may be active, see docs/witness.md."""

    policy: Annotated[str, "advisory (it only warns) or required"]
    expected_votes: Annotated[int, "of all routers, and of the witness of kind tandem"]
    quorum: Annotated[int, "so many votes are needed"]
    witness: Annotated[str, "the name of the witness of kind tandem; empty: there is none"]
    witness_answers: Annotated[bool, "it has answered lately"]
    leases: Annotated[list[str], "the groups for which this router has its vote"]
    hosts: Annotated[dict[str, bool], "the witnesses of kind ping and tcp, and whether each answers"]
    lacking: Annotated[dict[str, str], "the groups without a quorum, with the reasons"]


class ServiceStatus(TypedDict):
    """A service that follows the role of a group."""

    name: Annotated[str, "the name"]
    agent: Annotated[str, "what starts it: an agent, or a command line"]
    group: Annotated[str, "the group that it follows; empty: none"]
    where: Annotated[str, "active, backup or everywhere"]
    state: Annotated[
        str, "on this router: unknown, probing, stopped, starting, running, failed, stopping or blocked"
    ]
    wanted: Annotated[bool, "it should run on this router"]
    waits_for: Annotated[str, "what keeps it from running though its place is here; empty: nothing"]
    since_s: Annotated[float | None, "seconds since the last change of the state; null: there was none"]
    since: Annotated[int | None, "when that was, in seconds since the epoch"]
    failures: Annotated[int, "that count"]
    failures_expire_s: Annotated[float | None, "seconds until they are forgotten; null: they are not"]
    banned: Annotated[bool, "because of its failures it does not run on this router"]
    last_operation: Annotated[
        str, "that has ended: probe, start, monitor, stop or check NAME; empty: none has"
    ]
    last_result: Annotated[
        str, "of that operation: done, not running, failed, cannot run here, ended by itself"
    ]
    last_reason: Annotated[str, "what the agent said about a failure"]
    failure: Annotated[str, "the last failure that counts; empty: none does"]


class CheckStatus(TypedDict):
    """A check that is made now."""

    name: Annotated[str, "of the check section"]
    used_by: Annotated[str, "service NAME or real_server NAME; empty: a group tracks it"]
    kind: Annotated[str, "tcp, http, https, dns, ping, arp, process, file or script"]
    target: Annotated[str, "the address with the port, the process, the file or the command"]
    up: Annotated[bool | None, "null: not known yet"]
    since_s: Annotated[float | None, "seconds since the last change of up; null: there was none"]
    since: Annotated[int | None, "when that was, in seconds since the epoch"]
    last: Annotated[str, "what the last try has seen"]
    last_ms: Annotated[float | None, "how long the last try took; null: there was none"]
    successes: Annotated[int, "good tries since the prober was started"]
    failures: Annotated[int, "bad tries"]
    timeouts: Annotated[int, "bad tries that had no answer"]
    skipped: Annotated[int, "tries that fell out because the one before still went on"]


class RealServerStatus(TypedDict):
    """A server that gets connections of a virtual server."""

    name: Annotated[str, "of the real_server section"]
    address: Annotated[str, "its address"]
    port: Annotated[int, "its port"]
    weight: Annotated[int, "as configured"]
    up: Annotated[bool, "none of its checks is down"]
    share: Annotated[float, "of new connections, from 0 to 1"]


class VirtualServerStatus(TypedDict):
    """An address and port whose connections go to real servers."""

    name: Annotated[str, "of the virtual_server section"]
    address: Annotated[str, "the address with the port"]
    protocol: Annotated[str, "tcp or udp"]
    algorithm: Annotated[str, "sh, rr or wrr"]
    sorry: Annotated[bool, "the sorry server gets the connections, because no real server is up"]
    servers: Annotated[list[RealServerStatus], "in the order of the configuration"]


class Entry(TypedDict):
    """A change of the state of an instance, a group or a service."""

    time: Annotated[float, "seconds since the epoch, reckoned from the clock of now"]
    kind: Annotated[str, "instance, group or service"]
    name: Annotated[str, "of the instance, group or service"]
    group: Annotated[str, "the name of its group; 'service NAME' for a service"]
    state: Annotated[str, "the new state"]
    priority: Annotated[int, "at that moment; 0 for groups"]
    why: Annotated[str, "the cause, with the router that was it; empty for groups"]
    seen: Annotated[
        str,
        "what saw the cause: advert or heartbeat (or its absence), fault, command, start, quorum; empty: not"
        " known",
    ]
    detection_ms: Annotated[float | None, "from the last word of a router that fell silent to the decision"]
    restore_ms: Annotated[float | None, "from the decision to the moment when the connections were restored"]
    address_ms: Annotated[float | None, "from the decision to the moment when the kernel had the addresses"]
    announce_ms: Annotated[float | None, "from the decision to the first announcement of an address"]
    connections: Annotated[int | None, "how many were restored; null: there was no restore, or it was late"]


class Status(TypedDict):
    """Everything that is known now. Durations are seconds (`_s`) or milliseconds (`_ms`)."""

    schema_version: Annotated[int, "of this schema"]
    version: Annotated[str, "of the running daemon"]
    pid: Annotated[int, "its process"]
    uptime_s: Annotated[float, "seconds since its start"]
    router_id: Annotated[str, "the name of this router: option router_id, otherwise the host name"]
    config_file: Annotated[str, "the configuration that it has read"]
    scheduling: Annotated[Scheduling, "how well it keeps its times"]
    health: Annotated[dict[str, list[str]], "what is wrong though the roles are fine: details by reason"]
    dhcp: Annotated[Dhcp | None, "null: no instance has `option dhcp`"]
    follow: Annotated[list[FollowedNetwork], "the networks that follow the role of a group"]
    networks: Annotated[dict[str, str | None], "OpenWrt's networks that are named, with their devices"]
    peers: Annotated[list[KnownPeer], "the routers that this one has a channel to"]
    quorum: Annotated[QuorumStatus | None, "null: witness_policy is none"]
    services: Annotated[list[ServiceStatus], "what follows the roles, each behind what it needs"]
    checks: Annotated[list[CheckStatus], "what is checked now"]
    virtual_servers: Annotated[list[VirtualServerStatus], "what is balanced"]
    groups: Annotated[list[Group], "in the order of the configuration"]
    instances: Annotated[list[Instance], "in the order of their groups"]
    history: Annotated[list[Entry], "the last changes, the latest at the end"]
    counters: Annotated[Counters, "what went wrong, by kind"]


class DaemonFacts(TypedDict):
    """The part of the status that only the daemon knows."""

    config_file: str
    started: int  # ns
    memory_locked: bool
    health: dict[str, list[str]]
    dhcp: Dhcp | None
    follow: list[FollowedNetwork]
    peers: list[KnownPeer]
    heartbeat_ms: float | None
    quorum: QuorumStatus | None
    services: list[ServiceStatus]
    checks: list[CheckStatus]
    virtual_servers: list[VirtualServerStatus]
    history: list[Entry]
    counters: dict[str, int]
