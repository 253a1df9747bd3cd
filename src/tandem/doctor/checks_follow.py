# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of networks that follow the role: the provider sees one host, and the backup says nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tandem.doctor.facts import RouterFacts
from tandem.doctor.finding import Finding

_NETWORK = "/etc/config/network"
# Options of the network by which a provider tells its clients apart (RFC 2131 section 2), and facts.
_IDENTITY = ("clientid", "hostname", "proto", "username")


def device(router: RouterFacts) -> Iterator[Finding]:
    """The network is on the device that exists on the MASTER only: otherwise a backup speaks on the line."""
    for one in router.follows:
        if one.device and one.placed and one.placed not in (one.device, f"@{one.parent}"):
            yield Finding(
                "follow",
                f"network {one.name} is on {one.placed}, so that a backup speaks on the line too",
                f"option device '{one.device}' in the interface {one.name} of {_NETWORK}, then:"
                " /etc/init.d/network reload",
            )
        if one.device and not one.placed and one.known:
            what = f"there is no network {one.name} in {_NETWORK}"
            yield Finding("follow", what, f"make one, with option device '{one.device}'")
        elif one.device and one.known and not one.held:
            yield Finding(
                "follow",
                f"no network holds the port of {one.name}: netifd sets the port down for a moment at a"
                " takeover",
                "tandem follow apply",
            )
        if not one.device and one.auto:
            yield Finding(
                "follow",
                f"network {one.name} comes up at boot, before the role is known",
                f"option auto '0' in the interface {one.name} of {_NETWORK}",
            )


def silent(router: RouterFacts) -> Iterator[Finding]:
    """The device is not there while the role is elsewhere: a backup does not speak."""
    for one in router.follows:
        if one.present and one.state == "away" and not one.parent:
            yield Finding(
                "follow",
                f"{one.device} exists although the role is elsewhere: this router speaks on the line too",
                f"no other section of {_NETWORK} may make {one.device}; then: /etc/init.d/tandem restart",
            )


def prefix(router: RouterFacts) -> Iterator[Finding]:
    """A network with DHCPv6 on the line follows too: otherwise the other router does not know the prefix."""
    for one in router.follows:
        for name in one.unfollowed if one.device else ():
            yield Finding(
                "follow",
                f"the other router does not know the IPv6 lease of {name}: after a takeover its hosts have no"
                " IPv6 until the provider has answered",
                f"list follow '{name}' in the group, and config follow '{name}' with option interface"
                f" '@{one.name}'",
            )


def session(router: RouterFacts) -> Iterator[Finding]:
    """Only PPPoE has sessions that can be taken over."""
    for one in router.follows:
        if one.session == "takeover" and one.placed and one.proto != "pppoe":
            yield Finding(
                "follow",
                f"network {one.name} has no session that could be taken over: it has proto"
                f" {one.proto or 'none'}",
                f"remove option session from config follow '{one.name}'",
            )


def address(router: RouterFacts) -> Iterator[Finding]:
    """The MAC address of the line is no port's: the kernel refuses it on the device then."""
    for one in router.follows:
        for found in one.same_mac:
            yield Finding(
                "follow",
                f"{found} has the MAC address of network {one.name} ({one.mac}) as well",
                f"give {found} another macaddr (config device in {_NETWORK}), or change option mac on both"
                " routers",
            )


def problem(router: RouterFacts) -> Iterator[Finding]:
    """The daemon reports no problem with the network."""
    for one in router.follows:
        if one.problem:
            yield Finding("follow", f"network {one.name}: {one.problem}", "see the log (logread -e tandemd)")


def zone(router: RouterFacts) -> Iterator[Finding]:
    """The firewall knows the device also while the network is down."""
    named = {text.partition(" ")[0] for text in router.ruleset.zones}
    for one in router.follows if router.ruleset.fw4 else ():
        seen = one.seen or one.device
        if one.device and not one.parent and one.state == "away" and seen not in named:
            yield Finding(
                "follow",
                f"no zone of the firewall names {seen}: after a takeover the firewall lets nothing out"
                " by it until it has been reloaded",
                f"list device '{seen}' in the zone of {one.name} in /etc/config/firewall, then:"
                " /etc/init.d/firewall reload",
            )


def one_face(one: RouterFacts, other: RouterFacts) -> Iterator[Finding]:
    """The provider sees the same host behind both routers."""
    theirs = {found.name: found for found in other.follows}
    for here in one.follows:
        there = theirs.get(here.name)
        if there is None:
            what = f"network {here.name} follows the role on {one.name} and not on {other.name}"
            yield Finding("follow", what, f"list follow '{here.name}' on both routers")
            continue
        if here.mac != there.mac:
            yield Finding(
                "follow",
                f"network {here.name} has the MAC address {here.mac} on {one.name} and {there.mac} on"
                f" {other.name}: the provider gives two addresses",
                "the same option mac in config follow on both routers",
            )
        if here.session != there.session:
            yield Finding(
                "follow",
                f"network {here.name}: session is '{here.session}' on {one.name} and '{there.session}' on"
                f" {other.name}: the sessions of one of them are never taken over",
                "the same option session in config follow on both routers",
            )
        for option in _IDENTITY if here.known and there.known else ():
            values = getattr(here, option), getattr(there, option)
            if values[0] != values[1]:
                yield Finding(
                    "follow",
                    f"network {here.name}: {option} is {values[0] or 'not set'} on {one.name} and"
                    f" {values[1] or 'not set'} on {other.name}: the provider sees two clients",
                    f"the same option {option} in the interface {here.name} of {_NETWORK} on both routers",
                )
        if here.shares != there.shares:
            differ = sorted({*here.shares} ^ {*there.shares})
            yield Finding(
                "follow",
                f"the routers divide the prefix of {here.name} in different ways ({', '.join(differ)}):"
                " hosts get other addresses after a takeover",
                f"the same ip6assign, ip6hint, ip6ifaceid and ip6class in {_NETWORK} on both routers",
            )
        if here.present and there.present and not here.parent:
            yield Finding(
                "follow",
                f"{here.device} exists on both routers: two hosts speak with one MAC address on the line",
                "see the other findings; only the MASTER may have it",
            )


ROUTER = (device, silent, prefix, session, address, problem, zone)
PAIR = (one_face,)
