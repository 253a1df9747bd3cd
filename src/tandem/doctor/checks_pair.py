# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of a pair of routers: each reads the facts of both and yields findings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tandem.doctor import checks_follow
from tandem.doctor.facts import HeardFacts, InstanceFacts, RouterFacts
from tandem.doctor.finding import Finding

Check = Callable[[RouterFacts, RouterFacts], Iterator[Finding]]

CLOCK_LIMIT_S = 5.0

# Settings that must be equal on both routers: member of InstanceFacts, name of the option, its text.
_ALIKE: tuple[tuple[str, str, Callable[[InstanceFacts], str]], ...] = (
    ("virtual_router_id", "virtual_router_id", lambda item: str(item.virtual_router_id)),
    ("family", "address family", lambda item: f"IPv{item.family}"),
    ("version", "version", lambda item: str(item.version)),
    ("addresses", "virtual_ipaddress", lambda item: " ".join(sorted(item.addresses)) or "none"),
    ("advert_int_cs", "advert_int", lambda item: f"{item.advert_int_cs / 100:g}"),
    ("auth", "auth_pass", lambda item: "set" if item.auth else "not set"),
    ("unicast", "unicast_peer", lambda item: "used" if item.unicast else "not used"),
    ("preempt", "preempt", lambda item: "1" if item.preempt else "0 (nopreempt)"),
    ("group", "vrrp_sync_group", lambda item: item.group or "none"),
    ("use_vmac", "use_vmac", lambda item: "1" if item.use_vmac else "0"),
    ("dhcp", "dhcp", lambda item: "1" if item.dhcp else "0"),
    ("snat", "snat", lambda item: item.snat or "none"),
)


def versions(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """Both run the same version."""
    if one.version != other.version:
        what = f"{one.name} has tandem {one.version}, {other.name} {other.version}"
        yield Finding("version", what, "install the same version on both, the backup first")


def clocks(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """Both have the same time of day."""
    ahead = other.clock - one.clock
    if abs(ahead) > CLOCK_LIMIT_S:
        way = "ahead of" if ahead > 0 else "behind"
        what = f"the clock of {other.name} is {abs(ahead):.0f} s {way} that of {one.name}"
        yield Finding("clock", f"{what}: leases and logs do not fit together", "use NTP on both routers")


def configurations(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """Both have the same instances, with equal options where these must be equal."""
    if one.config_errors or other.config_errors:
        return  # the instances of one router are not known
    for having, lacking in ((one, other), (other, one)):
        for name in sorted(_names(having) - _names(lacking)):
            yield Finding(
                "unequal",
                f"{having.name} has the instance {name}, {lacking.name} does not",
                "make the configurations alike; names count",
            )
    for first, second in _common(one, other):
        for member, option, show in _ALIKE:
            if _value(first, member) == _value(second, member):
                continue
            here, there = show(first), show(second)
            how = f"is {here} on {one.name} and {there} on {other.name}" if here != there else "differs"
            advice = f"make {option} alike on both routers, then reload both"
            yield Finding("unequal", f"{first.name}: {option} {how}", advice)


def _value(item: InstanceFacts, member: str) -> object:
    value = getattr(item, member)
    if member == "unicast":
        return bool(value)
    return sorted(value) if isinstance(value, tuple) else value


def replication(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """Both replicate the same connections; skipped for a version that does not tell its options."""
    here, there = (dict(text.partition(" ")[::2] for text in router.sync_options) for router in (one, other))
    for option in here:
        if option in there and here[option] != there[option]:
            yield Finding(
                "unequal",
                f"conntrack_sync: {option} is {here[option]} on {one.name} and {there[option]} on"
                f" {other.name}: which connections live on depends on who takes over",
                f"make {option} alike on both routers, then reload both",
            )


def mtus(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """The interfaces of an instance have one MTU."""
    told = set()
    for first, second in _common(one, other):
        here, there = one.device(first.interface), other.device(second.interface)
        if here.mtu and there.mtu and here.mtu != there.mtu and here.name not in told:
            told.add(here.name)
            yield Finding(
                "mtu",
                f"the MTU of {here.name} is {here.mtu} on {one.name}, that of {there.name} is {there.mtu} on"
                f" {other.name}: large packets of a connection may stop at the takeover",
                "give both the same mtu in /etc/config/network",
            )


def roles(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """Exactly one router is MASTER."""
    for first, second in _common(one, other):
        states = (first.state, second.state)
        if states == ("MASTER", "MASTER"):
            yield Finding(
                "two_masters",
                f"{first.name} is MASTER on both routers: they do not hear each other's adverts",
                "see the other findings; the switch between the routers may drop multicast (224.0.0.18)",
            )


def hearing(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """The adverts of each router arrive at the other router, on every network."""
    told = set()
    for first, second in _common(one, other):
        networks = (first.interface, first.family)
        if networks in told or first.unicast or second.unicast or not (first.source and second.source):
            continue
        told.add(networks)
        from_other = _hears(one, first, second)
        from_one = _hears(other, second, first)
        if from_other and from_one:
            continue
        where = f"IPv{first.family} adverts on {first.interface}"
        if not (from_other or from_one):
            what = f"{where}: neither router hears the other, though they are connected elsewhere"
        else:
            deaf, heard = (one, other) if from_one else (other, one)
            what = f"{where}: {deaf.name} does not hear {heard.name}, but {heard.name} hears {deaf.name}"
        advice = (
            "look at the cable, the switch (multicast filters, VLANs, isolation) and bridge settings there"
        )
        yield Finding("hearing", what, advice)


def _hears(listener: RouterFacts, mine: InstanceFacts, theirs: InstanceFacts) -> bool:
    """Return whether any packet of the other router has come to the listener's interface."""
    return any(
        heard.arrived and (heard.interface, heard.source) == (mine.interface, theirs.source)
        for heard in _of_family(listener, mine.family)
    )


def _of_family(router: RouterFacts, family: int) -> Iterator[HeardFacts]:
    return (heard for heard in router.heard if heard.family == family)


def leases(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """Only the active router gives leases."""
    for here, there in ((one, other), (other, one)):
        for offer in here.offers:
            if offer.by in there.addresses:
                yield Finding(
                    "dhcp",
                    f"{there.name} is BACKUP and offers DHCP leases on {offer.interface} ({offer.by}):"
                    " clients get its own address as their gateway",
                    "option dhcp '1' in the instance of that network, on both routers",
                )


def advertisements(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """Only the active router advertises itself to hosts, and serves DHCPv6."""
    for here, there in ((one, other), (other, one)):
        for check, claims, what, harm in (
            ("ra", here.advertisements, "sends router advertisements", "hosts use it as their IPv6 router"),
            ("dhcpv6", here.offers6, "answers DHCPv6", "clients get its own addresses"),
        ):
            for claim in claims:
                if claim.by in there.addresses:
                    yield Finding(
                        check,
                        f"{there.name} is BACKUP and {what} on {claim.interface} ({claim.by}): {harm}",
                        "an IPv6 instance of that network with option dhcp '1', on both routers: tandem init"
                        " makes one; or ra and dhcpv6 'disabled' in /etc/config/dhcp of both",
                    )


def _names(router: RouterFacts) -> set[str]:
    return {instance.name for instance in router.instances}


def _common(one: RouterFacts, other: RouterFacts) -> Iterator[tuple[InstanceFacts, InstanceFacts]]:
    theirs = {instance.name: instance for instance in other.instances}
    return ((item, theirs[item.name]) for item in one.instances if item.name in theirs)


CHECKS: tuple[Check, ...] = (
    versions, clocks, configurations, replication, mtus, roles, hearing, leases, advertisements,
    *checks_follow.PAIR,
)  # fmt: skip


def compare(one: RouterFacts, other: RouterFacts) -> list[Finding]:
    """Return every problem between two routers; the doctor was called on `one`."""
    return [replace(finding, router="") for check in CHECKS for finding in check(one, other)]
