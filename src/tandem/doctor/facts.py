# SPDX-License-Identifier: GPL-2.0-or-later
"""The facts of one router, which the checks look at and which travel to the other router.

Pure. Facts travel as JSON. The other router may have another version: a fact that is missing there, or has
another type, has its default here.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

T = TypeVar("T")
LARGEST = 2 << 20  # bytes of JSON that are accepted from another router


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """One vrrp_instance: its configuration and its state in the daemon."""

    name: str = ""
    interface: str = ""
    family: int = 4
    virtual_router_id: int = 0
    version: int = 2
    priority: int = 100
    preempt: bool = True
    advert_int_cs: int = 100
    addresses: tuple[str, ...] = ()  # with prefix length, the advertised ones
    places: tuple[str, ...] = ()  # the device of each address
    auth: str = ""  # a digest of the password; "": none
    unicast: tuple[str, ...] = ()
    group: str = ""
    use_vmac: bool = False
    vmac: str = ""  # the name of its virtual device
    dhcp: bool = False  # leases and RAs are given by the MASTER only
    snat: str = ""  # the address, "": none
    default_route: bool = False  # a way out by this instance
    state: str = ""  # MASTER, BACKUP, FAULT, INIT; "": no daemon
    faults: tuple[str, ...] = ()
    source: str = ""  # the source of its adverts
    peer: str = ""  # who is active, as far as a backup knows
    silence_s: float = 0.0  # since the last advert of that peer
    stranger: str = ""  # whose adverts are ignored, with what they say
    strangers_ignored: int = 0  # so many of them


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A network device that an instance lives on."""

    name: str = ""
    present: bool = False
    up: bool = False
    mtu: int = 0
    mac: str = ""
    addresses: tuple[str, ...] = ()  # without prefix length
    rp_filter: int = 0  # the value in force: the greater one of this device's and of "all"
    arp_ignore: int = 0  # likewise


@dataclass(frozen=True, slots=True)
class HeardFacts:
    """Adverts of one source that came to a device while the doctor listened."""

    interface: str = ""
    family: int = 4
    source: str = ""
    virtual_router_id: int = 0
    version: int = 0
    addresses: tuple[str, ...] = ()
    arrived: int = 0  # packets at the device, before the firewall
    passed: int = 0  # packets that the firewall let in
    dropped: str = ""  # why the daemon drops them; "": it accepts them
    probe: bool = False  # sent by another router's doctor
    way: str = ""  # the device by which this router would send to the source


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """The replication of connections with one peer."""

    name: str = ""
    up: bool = False
    error: str = ""
    in_step: bool = False  # the backup has all connections of the active router


@dataclass(frozen=True, slots=True)
class ClaimFacts:
    """A host that answers for a virtual address, offers leases, or is a router for others."""

    interface: str = ""
    address: str = ""
    by: str = ""  # MAC address, or address of a DHCP server or router


@dataclass(frozen=True, slots=True)
class FollowFacts:
    """A network that follows the role."""

    name: str = ""
    device: str = ""  # made on the active router; "": netifd's own
    mac: str = ""
    state: str = ""  # of core/follow.py; "": no daemon
    problem: str = ""  # that the daemon reports
    present: bool = False  # the device exists now
    same_mac: tuple[str, ...] = ()  # other devices with the MAC address
    known: bool = False  # /etc/config/network could be read, so that the rest is known
    placed: str = ""  # the device of the network there; "": there is no such network
    proto: str = ""
    session: str = "dial"  # of config follow
    seen: str = ""  # the device that the firewall sees, if it is not the one above: pppd's
    clientid: str = ""
    username: str = ""
    hostname: str = ""
    held: bool = True  # another network holds the port
    auto: bool = False  # netifd brings it up at boot
    parent: str = ""  # the network whose device it is; "": its own
    unfollowed: tuple[str, ...] = ()  # networks with DHCPv6 on the device that do not follow
    shares: tuple[str, ...] = ()  # what networks of the router get of a delegated prefix


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """A service that follows the role."""

    name: str = ""
    missing: str = ""  # the program that starts it, if it is not there
    disable: str = ""  # the command that takes it out of the router's own start; "": it is not in it
    failure: str = ""  # the last one that counts
    blocked: bool = False  # it could not be stopped
    blind: bool = False  # nothing tells whether it runs


@dataclass(frozen=True, slots=True)
class CheckFacts:
    """A check that is made now."""

    name: str = ""
    what: str = ""  # kind and target
    missing: str = ""  # the program of a script, if it is not there
    never: str = ""  # what its tries have seen, when none was ever good


@dataclass(frozen=True, slots=True)
class RulesetFacts:
    """The rules of nftables that matter to a pair of routers."""

    readable: bool = False
    fw4: bool = False  # OpenWrt's firewall is loaded
    included: bool = False  # fw4 has loaded Tandem's chain
    snat: tuple[str, ...] = ()  # addresses that Tandem's table translates to
    early_nat: tuple[str, ...] = ()  # chains that translate before Tandem's does
    masquerading: tuple[str, ...] = ()  # devices that fw4 masquerades on
    zones: tuple[str, ...] = ()  # "DEVICE CHAIN": packets from the device go to the chain of its zone


@dataclass(frozen=True, slots=True)
class RouterFacts:
    """Everything about one router."""

    name: str = ""
    version: str = ""
    clock: float = 0.0  # seconds since the epoch, when these facts were complete
    config_file: str = ""
    config_errors: tuple[str, ...] = ()
    enabled: bool = True  # by `option enabled` of the file
    boot: str = ""  # whether the service starts at boot: yes, no; "": there is no service
    standby: tuple[str, ...] = ()  # the groups in standby by command
    daemon: str = ""  # its version; "": it does not run
    daemon_error: str = ""  # why it can't be asked
    health: tuple[str, ...] = ()  # problems that the daemon reports of itself
    edited: bool = False  # the daemon does not run with the present file
    policy: str = ""  # how the daemon is scheduled
    realtime: bool = True  # wanted
    late_ms: float = 0.0  # the longest that its timers were late
    forwarding4: bool = True
    forwarding6: bool = True
    missing: tuple[str, ...] = ()  # kernel features that the configuration needs
    instances: tuple[InstanceFacts, ...] = ()
    devices: tuple[DeviceFacts, ...] = ()
    heard: tuple[HeardFacts, ...] = ()
    links: tuple[LinkFacts, ...] = ()
    sync: bool = False  # conntrack_sync is configured
    sync_options: tuple[str, ...] = ()  # options that should be equal on both routers, with their values
    stale: tuple[str, ...] = ()
    unkept: tuple[str, ...] = ()  # why the guarantee of conntrack_sync does not hold
    claims: tuple[ClaimFacts, ...] = ()  # of a virtual address, by a stranger
    offers: tuple[ClaimFacts, ...] = ()  # of DHCP leases
    advertisements: tuple[ClaimFacts, ...] = ()  # of routers, IPv6
    offers6: tuple[ClaimFacts, ...] = ()  # of DHCPv6
    follows: tuple[FollowFacts, ...] = ()
    services: tuple[ServiceFacts, ...] = ()
    checks: tuple[CheckFacts, ...] = ()
    ruleset: RulesetFacts = field(default_factory=RulesetFacts)

    def device(self, name: str) -> DeviceFacts:
        """Return the device of this name; an absent one when nothing is known of it."""
        return next((item for item in self.devices if item.name == name), DeviceFacts(name))

    @property
    def addresses(self) -> frozenset[str]:
        """All addresses of the router's devices."""
        return frozenset(address for device in self.devices for address in device.addresses)


_PARTS: dict[str, type] = {
    "instances": InstanceFacts,
    "devices": DeviceFacts,
    "heard": HeardFacts,
    "links": LinkFacts,
    "claims": ClaimFacts,
    "offers": ClaimFacts,
    "advertisements": ClaimFacts,
    "offers6": ClaimFacts,
    "follows": FollowFacts,
    "services": ServiceFacts,
    "checks": CheckFacts,
}


def encode(router: RouterFacts) -> bytes:
    """Return the facts as they travel: zlib-packed JSON."""
    return zlib.compress(json.dumps(asdict(router), separators=(",", ":")).encode())


def decode(data: bytes) -> RouterFacts:
    """Return the facts of another router. ValueError: `data` is malformed."""
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data, LARGEST)
        found = json.loads(text) if inflate.eof else None
    except (zlib.error, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(found, dict):
        raise ValueError("no facts")
    for name, part in _PARTS.items():
        items = found.get(name)
        found[name] = [
            _make(part, item) for item in (items if isinstance(items, list) else ()) if isinstance(item, dict)
        ]
    ruleset = found.get("ruleset")
    found["ruleset"] = _make(RulesetFacts, ruleset if isinstance(ruleset, dict) else {})
    return _make(RouterFacts, found)


def _make(kind: type[T], found: Mapping[str, Any]) -> T:
    """Return an object with those members in `found` that have the type of their defaults."""
    default = kind()
    members: dict[str, Any] = {}
    for item in fields(kind):  # type: ignore[arg-type]
        usual, value = getattr(default, item.name), found.get(item.name)
        if isinstance(usual, tuple):
            if isinstance(value, list) and all(_fits(item.name, entry) for entry in value):
                members[item.name] = tuple(value)
        elif type(value) is type(usual) or (isinstance(usual, float) and type(value) is int):
            members[item.name] = value
    return kind(**members)


def _fits(name: str, entry: object) -> bool:
    return isinstance(entry, _PARTS.get(name, str))
