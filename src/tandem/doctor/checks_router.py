# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks of one router: each reads the facts of the router and yields findings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tandem.doctor import checks_follow, checks_services
from tandem.doctor.facts import InstanceFacts, RouterFacts
from tandem.doctor.finding import Finding

Check = Callable[[RouterFacts], Iterator[Finding]]

RESTART = "/etc/init.d/tandem restart"
LATE_ADVERTS = 2.2  # advert intervals of silence; a backup takes over after a little more than three


def daemon(router: RouterFacts) -> Iterator[Finding]:
    """The daemon runs."""
    if router.daemon:
        return
    if not router.enabled:
        yield Finding(
            "daemon",
            f"tandem is not set up here: {router.config_file} has option enabled '0'",
            "tandem init sets this router up; with a configuration by hand: option enabled '1' in globals,"
            f" then: {RESTART}",
        )
        return
    what = router.daemon_error or "tandemd does not run"
    yield Finding("daemon", what, f"look for the reason in the log (logread -e tandemd), then: {RESTART}")


def boot(router: RouterFacts) -> Iterator[Finding]:
    """The daemon will also run after the next boot."""
    if router.boot == "no" and router.enabled:
        what = "the service is disabled: tandemd does not start when this router boots"
        yield Finding("boot", what, "/etc/init.d/tandem enable")


def standby(router: RouterFacts) -> Iterator[Finding]:
    """No group is in standby, which may have been forgotten."""
    for group in router.standby:
        what = f"{group} is in standby by command: this router never takes over"
        yield Finding("standby", what, f"tandem resume {group}")


def health(router: RouterFacts) -> Iterator[Finding]:
    """The daemon reports no problem with itself."""
    for reason in router.health:
        yield Finding(
            "health",
            reason,
            "look into the log (logread -e tandemd); report a bug with the lines of its traceback",
        )


def configuration(router: RouterFacts) -> Iterator[Finding]:
    """The configuration file has no errors."""
    for error in router.config_errors:
        mend = f"mend {router.config_file}, then: tandem check && tandem reload"
        yield Finding("configuration", error, mend)


def reloaded(router: RouterFacts) -> Iterator[Finding]:
    """The daemon runs with the present configuration file."""
    if router.edited:
        what = f"{router.config_file} was changed, and the daemon does not run with it yet"
        yield Finding("reload", what, "tandem check && tandem reload")


def faults(router: RouterFacts) -> Iterator[Finding]:
    """No instance is in FAULT."""
    for instance in router.instances:
        if faults := [reason for reason in instance.faults if reason != "standby"]:
            yield Finding(
                "fault",
                f"{instance.name} can't take its addresses: {', '.join(faults)}",
                "remove the causes that are named; tandem status shows when the fault has ended",
            )


def kernel(router: RouterFacts) -> Iterator[Finding]:
    """The kernel can do what the configuration asks for."""
    for feature in router.missing:
        advice = "install the package that is named (opkg install, apk add), and restart tandem"
        yield Finding("kernel", f"the kernel lacks {feature}", advice)


def forwarding(router: RouterFacts) -> Iterator[Finding]:
    """The kernel forwards packets."""
    for family, on in ((4, router.forwarding4), (6, router.forwarding6)):
        if not on and any(instance.family == family for instance in router.instances):
            key = "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding"
            advice = (
                f"sysctl -w {key}=1, and look in /etc/sysctl.conf and /etc/sysctl.d for what sets it to 0"
            )
            yield Finding("forwarding", f"IPv{family} packets are not forwarded ({key} is 0)", advice)


def realtime(router: RouterFacts) -> Iterator[Finding]:
    """The daemon keeps its timers, with real-time priority."""
    if router.policy and router.realtime and not router.policy.startswith("FIFO"):
        yield Finding(
            "realtime",
            f"the daemon has no real-time priority (it is scheduled as {router.policy}):"
            " under load it may be taken for dead",
            "restart tandem, and see in its log why it got none (vrrp_rt_priority 0: it wants none)",
        )
    intervals = [instance.advert_int_cs * 10 for instance in router.instances]
    # The other router waits for three intervals, of which the next advert takes one.
    if intervals and router.late_ms > 2 * min(intervals):
        yield Finding(
            "realtime",
            f"the daemon was once {router.late_ms:.0f} ms late, longer than two of its shortest advert_int:"
            " an active router is taken for dead then",
            "give the other router more time: a longer advert_int, on both routers",
        )


def addresses(router: RouterFacts) -> Iterator[Finding]:
    """The active router alone has the virtual addresses."""
    for instance in router.instances:
        for address, place in zip(instance.addresses, instance.places, strict=False):
            there = address.partition("/")[0] in router.device(place).addresses
            if instance.state == "MASTER" and not there:
                yield Finding(
                    "addresses",
                    f"{instance.name} is MASTER, but {address} is not on {place}",
                    "something removes it: look for what else sets addresses there",
                )
            elif instance.state == "BACKUP" and there and instance.priority != 255:
                yield Finding(
                    "addresses",
                    f"{instance.name} is BACKUP, but {address} is on {place}",
                    f"remove it from the router's own configuration of {place} (/etc/config/network)",
                )
    for claim in router.claims:
        yield Finding(
            "address_clash",
            f"another host on {claim.interface} answers for {claim.address}: {claim.by}",
            "give that host another address, or choose another virtual address",
        )


def silence(router: RouterFacts) -> Iterator[Finding]:
    """A backup hears adverts as often as they are due."""
    for instance in router.instances:
        limit = instance.advert_int_cs / 100 * LATE_ADVERTS
        if instance.state == "BACKUP" and instance.peer and instance.silence_s > limit:
            yield Finding(
                "silence",
                f"{instance.name}: the last advert of {instance.peer} is {instance.silence_s:.1f} s old,"
                f" one is due every {instance.advert_int_cs / 100:g} s",
                "look at the network between the routers, and at the load of the other one",
            )


def strangers(router: RouterFacts) -> Iterator[Finding]:
    """No other router uses a virtual router id of this one, or with other settings."""
    ours = {(item.interface, item.family, item.virtual_router_id): item for item in router.instances}
    for heard in router.heard:
        instance = ours.get((heard.interface, heard.family, heard.virtual_router_id))
        if instance is None or heard.probe or not heard.dropped:
            continue
        virtual = {address.partition("/")[0] for address in instance.addresses}
        if heard.addresses and not virtual & set(heard.addresses):
            yield Finding(
                "vrid_clash",
                f"{heard.source} on {heard.interface} uses virtual router id {heard.virtual_router_id},"
                f" that of {instance.name}, for other addresses: {', '.join(heard.addresses)}",
                f"give {instance.name} another virtual_router_id, on both routers",
            )
        else:
            yield Finding(
                "adverts_refused",
                f"{instance.name} refuses the adverts of {heard.source}: {heard.dropped}",
                "make version, password and addresses of the instance equal on both routers",
            )


def ignored(router: RouterFacts) -> Iterator[Finding]:
    """No stranger advertises for an instance."""
    for instance in router.instances:
        if instance.stranger:
            yield Finding(
                "stranger",
                f"{instance.name}: {instance.stranger} sends adverts and is no Tandem peer;"
                f" {instance.strangers_ignored} were ignored",
                "find that host; if it is your router: allow_src with all routers, or strangers 'follow'",
            )


def deaf(router: RouterFacts) -> Iterator[Finding]:
    """Adverts that reach an interface reach the daemon too."""
    told = set()
    for heard in router.heard:
        if not heard.arrived or heard.passed or (heard.interface, heard.family) in told:
            continue
        told.add((heard.interface, heard.family))
        strict = router.device(heard.interface).rp_filter == 1
        if heard.family == 4 and strict and heard.way and heard.way != heard.interface:
            yield Finding(
                "rp_filter",
                f"{heard.interface} drops the adverts of {heard.source}: rp_filter is 1, and this router"
                f" would send to it by {heard.way}",
                f"sysctl -w net.ipv4.conf.{heard.interface}.rp_filter=2 (all.rp_filter counts too),"
                " or mend the routes",
            )
            continue
        rules = router.ruleset
        advice = "accept protocol 112 there, from the other router"
        if rules.fw4 and not rules.included:
            advice = "make fw4 load Tandem's rules: fw4 reload (and auto_includes must not be 0)"
        yield Finding(
            "firewall",
            f"adverts of {heard.source} arrive at {heard.interface}, but the firewall drops them",
            advice,
        )


def firewall(router: RouterFacts) -> Iterator[Finding]:
    """fw4 has loaded Tandem's rules, also before a takeover needs them."""
    if router.ruleset.fw4 and not router.ruleset.included:
        yield Finding(
            "fw4",
            "fw4 is loaded without the rules that let adverts and replication in",
            "fw4 reload; auto_includes in /etc/config/firewall must not be 0",
        )


def zone(router: RouterFacts) -> Iterator[Finding]:
    """The virtual device of `use_vmac` is in the zone of its interface."""
    zones = [item.partition(" ") for item in router.ruleset.zones]
    for instance in router.instances:
        chains = {chain for device, _, chain in zones if device == instance.interface}
        if instance.vmac and chains - {chain for device, _, chain in zones if device == instance.vmac}:
            yield Finding(
                "zone",
                f"{instance.name}: packets to the virtual MAC come in by {instance.vmac}, which is not"
                f" in the firewall's zone of {instance.interface}: the firewall drops them",
                "tandemd puts it there; its log says why it could not (logread -e tandemd), then: fw4 reload",
            )


def translation(router: RouterFacts) -> Iterator[Finding]:
    """Connections that leave the network have the virtual address as their source."""
    rules = router.ruleset
    if not rules.readable:
        return
    for instance in router.instances:
        if instance.snat and instance.state == "MASTER" and instance.snat not in rules.snat:
            yield Finding(
                "snat",
                f"{instance.name} is MASTER, but nothing translates to {instance.snat}:"
                " Tandem's nftables table was removed",
                "tandem reload; do not use nft flush ruleset, which removes every program's tables",
            )
    if any(instance.snat for instance in router.instances):
        for chain in rules.early_nat:
            yield Finding(
                "masquerade",
                f"the nftables chain {chain} translates before Tandem does, so connections leave with"
                " the router's own address and end with it",
                "give that chain a priority above 99 (srcnat is 100)",
            )
    for instance in router.instances:
        if _hidden(instance, router):
            yield Finding(
                "masquerade",
                f"{instance.name}: connections that leave by {instance.interface} are masqueraded to the"
                " router's own address, not to a virtual one, and do not survive a takeover",
                f"option snat '1' in {instance.name}, on both routers",
            )


def _hidden(instance: InstanceFacts, router: RouterFacts) -> bool:
    masqueraded = instance.interface in router.ruleset.masquerading
    return router.sync and instance.family == 4 and not instance.snat and masqueraded


def arp(router: RouterFacts) -> Iterator[Finding]:
    """The kernel answers for the virtual addresses."""
    for device in router.devices:
        if device.arp_ignore == 8:
            yield Finding(
                "arp",
                f"{device.name} answers no ARP request at all (arp_ignore is 8)",
                f"sysctl -w net.ipv4.conf.{device.name}.arp_ignore=0 (all.arp_ignore counts too)",
            )


def replication(router: RouterFacts) -> Iterator[Finding]:
    """The peers are connected and in step."""
    for link in router.links:
        if not link.up:
            yield Finding(
                "replication",
                f"connections are not replicated: {link.name} is not connected"
                + (f" ({link.error})" if link.error else ""),
                _why_not(link.error),
            )
        elif not link.in_step:
            yield Finding(
                "replication",
                f"{link.name} does not have all connections (yet)",
                "wait some seconds; if it stays so, tandem conntrack on both routers says what is lost",
            )
    for reason in router.stale if all(link.up and link.in_step for link in router.links) else ():
        yield Finding("replication", f"connections: {reason}", "tandem conntrack says more")


def guarantee(router: RouterFacts) -> Iterator[Finding]:
    """The guarantee holds where it is configured: a peer knows each connection before the first answer."""
    advice = "look into tandem conntrack; the peer may be slow, or one host may open very many connections"
    for reason in router.unkept:
        yield Finding("guarantee", f"option guarantee does not hold: {reason}", advice)


_SECRET = "give both routers the same secret: copy the file of one to the other (mode 0600), restart tandem"
_ADVICE = {  # the key is the reason in channel/session.py and frames.py
    "authentication": _SECRET,
    "refused": f"the other router turned this one away: name each as a peer of the other, and {_SECRET}",
    "unknown_key": _SECRET,
    "insecure": _SECRET,
    "self": "the configuration names this router itself as its peer: name the other one",
    "identity": "the peer section names another router_id: correct it, or the address",
    "version": "install the same version on both routers",
    "magic": "something else listens at that port: choose another one, on both routers",
}


def _why_not(error: str) -> str:
    reason = error.partition(":")[0]
    if "Connection refused" in error:
        return "start tandemd on the other router, with this one as a peer; or its firewall rejects the port"
    if reason in ("timeout", "connect"):
        return "is the other router up, and does its firewall accept the port (3780) from here?"
    return _ADVICE.get(reason, "tandem doctor on the other router, and the log of both, say more")


CHECKS: tuple[Check, ...] = (
    daemon, health, boot, configuration, reloaded, standby, faults, kernel, forwarding, realtime, addresses,
    silence, strangers, ignored, deaf, firewall, zone, translation, arp, replication, guarantee,
    *checks_follow.ROUTER, *checks_services.ROUTER,
)  # fmt: skip


def examine(router: RouterFacts) -> list[Finding]:
    """Return every problem of a router; while Tandem is switched off, only daemon and file are checked."""
    checks = CHECKS if router.enabled or router.daemon else (daemon, configuration)
    return [replace(finding, router=router.name) for check in checks for finding in check(router)]
