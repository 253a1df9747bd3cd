# SPDX-License-Identifier: GPL-2.0-or-later
"""The IPv6 address and the delegated prefix of a shared line: genuine netifd, odhcp6c and odhcpd."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.line import walk
from tests.lab import FAR, Capture, Pings, Router, Service, wait_until
from tests.netns.live import connections, sync
from tests.netns.shared_line import MAC
from tests.netns.slaac import own_addresses
from tests.netns.test_dhcp_guard import solicit
from tests.openwrt_pieces import needs_root, needs_ubus

from .one_line import Spoken, failover, power_loss
from .one_line6 import (
    FAR6,
    GATEWAY6,
    LINE_LOCAL,
    PREFIX,
    PROVIDER,
    OneLine6,
    lan_addresses,
    network6,
    own_address,
)

pytestmark = [needs_ubus, needs_root, pytest.mark.skipif(not shutil.which("dhcpd"), reason="no dhcpd of ISC")]

SHARED = "2001:db8:1::1"  # netifd makes it on the active router
Open = Callable[[Any], Any]


def both(lab: OneLine6) -> tuple[Router, Router]:
    """The active router and the other one, which knows all of its connections and its prefix."""

    def in_step() -> bool:
        active = lab.active
        if active is None or not sync(active)["channel"]["peers"][0].get("in_step"):
            return False
        return network6(active)["state"] == "bound" and network6(lab.other(active))["prefixes"] == [PREFIX]

    wait_until(in_step, 30, "the backup is in step", explain=lab.logs)
    active = lab.active
    assert active is not None
    return active, lab.other(active)


@pytest.fixture
def lab(open_lab: Open) -> OneLine6:
    found: OneLine6 = open_lab(OneLine6())
    found.start()
    return found


@pytest.mark.parametrize("fault", [failover, power_loss])
def test_hosts_keep_their_addresses_and_connections(lab: OneLine6, fault: Callable[[Router], None]) -> None:
    active, backup = both(lab)
    address = own_addresses(lab.client)
    assert set(lan_addresses(active)) == {SHARED} and set(lan_addresses(backup)) == {own_address(backup)}
    # By these, hosts of the LAN and the backup reach each other. It counts down, and is told anew.
    lan_host = next(iter(own_addresses(lab.client)))
    assert lab.client.exec("ping", "-c1", "-W3", own_address(backup))
    assert backup.exec("ping", "-c1", "-W3", lan_host)
    assert 0 < lan_addresses(backup)[own_address(backup)][0] <= 100
    Service(lab.server, "echo", FAR6, "7")
    silent = Spoken(lab, backup)
    with connections() as made, Capture(lab, lab.client.cable("eth0"), filter="icmp6") as capture:
        made.add(lab.client, lab.server, FAR6, 25, server_speaks=True)
        made.add(lab.client, lab.server, FAR6, 25, server_speaks=False)
        pings = Pings(lab.client, FAR6)
        pings.flowing()
        both(lab)
        assert silent.frames == (0, 0)
        with lab.unanswered():  # the MAC addresses of the next hops came with the lease
            start = time.monotonic()
            fault(active)
            outage = pings.outage_since(start)
        print(fault.__name__, outage)
        made.all_go_on()
        assert f"{PREFIX} of the peer is in place" in backup.log()
        wait_until(lambda: network6(backup)["state"] == "bound", 20, explain=lab.logs)
        made.all_go_on()
        pings.stop()
        wait_until(lambda: solicit(lab.client), 10, "the new one advertises", explain=lab.logs)
    assert own_addresses(lab.client) == address
    assert network6(backup)["prefixes"] == [PREFIX] and len(lab.delegations()) == 1
    if fault is failover:
        wait_until(lambda: set(lan_addresses(active)) == {own_address(active)}, 5, explain=lab.logs)
    assert set(lan_addresses(backup)) == {SHARED}
    adverts = capture.fields(
        "icmpv6.type == 134", "ipv6.src", "icmpv6.nd.ra.router_lifetime", "icmpv6.opt.prefix",
        "icmpv6.opt.prefix.preferred_lifetime",
    )  # fmt: skip
    assert adverts
    for source, lifetime, prefix, preferred in adverts:
        assert (source, prefix) == (GATEWAY6, "2001:db8:1::") and int(lifetime) and int(preferred)


def test_ten_failovers_and_reboots(open_lab: Open) -> None:
    """Never do both routers speak with the MAC address, and never neither for long, with IPv4 and IPv6.

    The provider has lent to one client all the time, and the host keeps its address.
    """
    lab: OneLine6 = open_lab(OneLine6(patient=True))
    lab.start()
    address = own_addresses(lab.client)

    def audit() -> None:
        assert [line.split()[1:3] for line in lab.leases()] == [[MAC, "192.168.0.50"]]
        assert len(lab.delegations()) == 1 and own_addresses(lab.client) == address

    walk(lab, addresses=(FAR, FAR6), audit=audit)


def test_an_ra_daemon_without_guard_does_not_advertise_the_prefix_on_a_backup(open_lab: Open) -> None:
    lab: OneLine6 = open_lab(OneLine6(guard=False))
    lab.start()
    active, backup = both(lab)
    wait_until(lambda: set(lan_addresses(backup)) == {own_address(backup)}, 5, explain=lab.logs)

    def advertised(router: Router) -> list[list[str]]:
        """Ask for an advert, and return the prefixes that the router advertises, one list for each."""
        with Capture(lab, router.cable("lan0"), filter="icmp6 and inbound") as capture:

            def heard() -> bool:
                solicit(lab.client)
                return capture.count("icmpv6.type == 134") > 1

            wait_until(heard, 20, "it advertises", every=0.5, explain=lab.logs)
        return [words.split(",") for (words,) in capture.fields("icmpv6.type == 134", "icmpv6.opt.prefix")]

    assert all("2001:db8:1::" in prefixes for prefixes in advertised(active))
    assert all("2001:db8:1::" not in prefixes for prefixes in advertised(backup))
    assert backup.stop() == 0 and not lan_addresses(backup)


def test_the_provider_delegates_another_prefix(lab: OneLine6) -> None:
    active, backup = both(lab)
    lab.serve6(PROVIDER.replace("2001:db8:1::", "2001:db8:2::"))
    failover(active)
    wait_until(lambda: network6(backup)["prefixes"] == ["2001:db8:2::/56"], 20, explain=lab.logs)
    wait_until(
        lambda: [life[0] for life in lan_addresses(backup).values()] == [0], 5, "deprecated", explain=lab.logs
    )
    assert [life[1] > 0 for life in lan_addresses(backup).values()] == [True]
    wait_until(lambda: lan_addresses(backup, "2001:db8:2:"), 10, "its address", explain=lab.logs)
    wait_until(lambda: network6(active)["prefixes"] == ["2001:db8:2::/56"], 10, explain=lab.logs)


def test_a_killed_daemon_leaves_nobody_who_answers_for_the_line(lab: OneLine6) -> None:
    active, backup = both(lab)
    active.kill()
    wait_until(lambda: backup.active and network6(backup)["state"] == "bound", 20, explain=lab.logs)
    wait_until(lambda: not active.has(LINE_LOCAL), 6, "the kernel has removed the link-local address")
    lab.client.exec("ping", "-6", "-c1", "-W3", FAR6)
