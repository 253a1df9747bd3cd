# SPDX-License-Identifier: GPL-2.0-or-later
"""One line and one address for two routers: genuine netifd and udhcpc, dnsmasq as the provider."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab import FAR, Capture, Pings, Router, Service, Tandem, stays, wait_until
from tests.netns.live import connections, sync
from tests.netns.shared_line import MAC, has_device
from tests.openwrt_pieces import needs_root, needs_ubus

from .one_line import (
    NETWORK,
    IscLine,
    LineTandem,
    OneLine,
    Spoken,
    failover,
    network,
    power_loss,
    renew,
)

pytestmark = [needs_ubus, needs_root]
needs_isc = pytest.mark.skipif(not shutil.which("dhcpd"), reason="no dhcpd of ISC")

Open = Callable[[Any], Any]


@pytest.fixture
def lab(open_lab: Open, request: pytest.FixtureRequest) -> OneLine:
    found: OneLine = open_lab(getattr(request, "param", OneLine)())
    found.start()
    return found


def both(lab: OneLine) -> tuple[Router, Router]:
    """The active router and the other one, which knows all of its connections."""

    def in_step() -> bool:
        active = lab.active
        return active is not None and bool(sync(active)["channel"]["peers"][0].get("in_step"))

    wait_until(in_step, 20, "the backup is in step", explain=lab.logs)
    active = lab.active
    assert active is not None
    return active, lab.other(active)


def term(active: Router) -> None:
    assert active.stop() == 0


def test_the_backup_says_nothing_and_knows_the_lease(lab: OneLine) -> None:
    active, backup = both(lab)
    assert has_device(active) and not has_device(backup)
    assert network(backup)["address"] == network(active)["address"] == "192.168.0.50/24"
    assert [line.split()[1] for line in lab.leases()] == [MAC]
    silent, spoken = Spoken(lab, backup), Spoken(lab, active)
    lab.client.exec("ping", "-c3", "-W3", FAR)
    stays(lambda: lab.active is active, 3)
    assert spoken.frames[0] >= 3 and spoken.frames[1] == 0
    assert silent.frames == (0, 0)


@pytest.mark.parametrize("lab", [OneLine, pytest.param(IscLine, marks=needs_isc)], indirect=True)
@pytest.mark.parametrize("fault", [failover, power_loss, term])
def test_connections_go_on_at_the_other_router(lab: OneLine, fault: Callable[[Router], None]) -> None:
    active, backup = both(lab)
    Service(lab.server, "echo", FAR, "7")
    with connections() as made:
        made.add(lab.client, lab.server, FAR, 25, server_speaks=True)
        made.add(lab.client, lab.server, FAR, 25, server_speaks=False)
        pings = Pings(lab.client, FAR)
        pings.flowing()
        both(lab)
        start = time.monotonic()
        fault(active)
        wait_until(lambda: backup.active, 10, explain=lab.logs)
        outage = pings.outage_since(start)
        print(fault.__name__, outage)
        made.all_go_on()
        wait_until(lambda: network(backup)["state"] == "bound", 20, explain=lab.logs)
        made.all_go_on()
        pings.stop()
    assert network(backup)["address"] == "192.168.0.50/24"
    assert [line.split()[1:3] for line in lab.leases()] == [[MAC, "192.168.0.50"]]


def test_each_router_boots_and_follows(lab: OneLine) -> None:
    active, backup = both(lab)
    for router, other in ((active, backup), (backup, active)):
        router.power_off()
        wait_until(lambda: other.active and network(other)["state"] in ("lent", "bound"), 15)  # noqa: B023
        router.power_on()
        booting = Spoken(lab, router)
        assert both(lab) == (other, router)
        wait_until(lambda: network(other)["state"] == "bound", 20, explain=lab.logs)  # noqa: B023
        wait_until(lambda: network(router)["address"], 10, explain=lab.logs)  # noqa: B023
        assert booting.frames[0] == 0 and not has_device(router)
    assert [line.split()[1:3] for line in lab.leases()] == [[MAC, "192.168.0.50"]]


def test_both_routers_boot_at_once(lab: OneLine) -> None:
    both(lab)
    for router in lab.routers:
        router.power_off()
    for router in lab.routers:
        router.power_on()
    active, backup = both(lab)
    wait_until(lambda: network(active)["state"] == "bound", 20, explain=lab.logs)
    assert not has_device(backup)
    lab.client.exec("ping", "-c1", "-W3", FAR)
    assert [line.split()[1:3] for line in lab.leases()] == [[MAC, "192.168.0.50"]]


def test_a_killed_daemon_leaves_no_second_speaker(lab: OneLine) -> None:
    active, backup = both(lab)
    active.kill()
    wait_until(lambda: backup.active and network(backup)["state"] == "bound", 20, explain=lab.logs)
    wait_until(lambda: not active.has("192.168.0.50"), 5, "the kernel has removed the address")
    lab.client.exec("ping", "-c1", "-W3", FAR)
    active.start()
    wait_until(lambda: not has_device(active), 10, "a former life is cleared", explain=lab.logs)
    assert both(lab) == (backup, active)


def test_a_renewal_reaches_the_backup(lab: OneLine) -> None:
    """udhcpc renews half of a lease later, after a minute at least; netifd says nothing of it."""
    active, backup = both(lab)
    wait_until(lambda: network(backup)["lease_left_s"] < 70, 70, "half of the lease is over", every=1)
    wait_until(lambda: network(backup)["lease_left_s"] > 100, 30, "it is renewed", explain=lab.logs)
    assert network(active)["lease_left_s"] > 100


def test_the_provider_gives_another_address(lab: OneLine) -> None:
    active, backup = both(lab)
    lab.client.exec("ping", "-c1", "-W3", FAR)
    lab.provider.kill()
    lab.provider.wait(10)
    lab.server.file("leases").unlink()
    lab.serve(first=70)
    failover(active)
    wait_until(lambda: network(backup)["address"] == "192.168.0.70/24", 20, explain=lab.logs)
    wait_until(lambda: not backup.has("192.168.0.50"), 5, "the old address is gone", explain=lab.logs)
    wait_until(lambda: "192.168.0.50" not in backup.exec("conntrack", "-L", check=False), 5, "and its flows")
    lab.client.exec("ping", "-c1", "-W3", FAR)
    wait_until(lambda: network(active)["address"] == "192.168.0.70/24", 10, explain=lab.logs)


def test_the_provider_refuses_to_renew_the_lease(lab: OneLine) -> None:
    """After its NAK (RFC 2131 section 3.1), the address and its connections go, and the client asks anew."""
    active, backup = both(lab)
    lab.client.exec("ping", "-c1", "-W3", FAR)
    lab.provider.kill()
    lab.provider.wait(10)
    lab.server.file("leases").unlink()
    lab.serve(first=70)
    with Capture(lab, lab.server.cable("eth0"), filter="udp port 67 or udp port 68") as capture:
        renew(active)
        wait_until(lambda: network(active)["address"] == "192.168.0.70/24", 20, explain=lab.logs)
    assert capture.count("dhcp.option.dhcp == 6") >= 1, "there was no NAK"
    wait_until(lambda: not active.has("192.168.0.50"), 5, "the old address is gone", explain=lab.logs)
    wait_until(lambda: "192.168.0.50" not in active.exec("conntrack", "-L", check=False), 5, "and its flows")
    lab.client.exec("ping", "-c1", "-W3", FAR)
    wait_until(lambda: network(backup)["address"] == "192.168.0.70/24", 10, explain=lab.logs)


def test_nobody_can_bring_the_line_up_on_a_backup(lab: OneLine) -> None:
    active, backup = both(lab)
    assert isinstance(backup.daemon, LineTandem)
    spoken = Spoken(lab, backup)
    backup.daemon.netifd.sh("ifup wan; ifup wan")
    stays(lambda: not has_device(backup), 1)
    assert spoken.frames == (0, 0)
    failover(active)
    wait_until(lambda: backup.active and network(backup)["state"] == "bound", 20, explain=lab.logs)


def test_a_reload_without_the_network_lets_go_of_it(lab: OneLine) -> None:
    active, _ = both(lab)
    text = active.file("conf").read_text()
    active.file("conf").write_text(text.replace("\tlist follow 'wan'\n", ""))
    Tandem.request(active, "reload")
    wait_until(lambda: not has_device(active), 5, "the device is gone", explain=lab.logs)
    assert Tandem.request(active, "status")["follow"] == []
    active.file("conf").write_text(text)
    Tandem.request(active, "reload")
    wait_until(lambda: network(active)["state"] == "bound", 20, explain=lab.logs)
    lab.client.exec("ping", "-c1", "-W3", FAR)


def test_a_pulled_cable_moves_the_line(lab: OneLine) -> None:
    active, backup = both(lab)
    lab.cut(backup, "eth1")
    wait_until(lambda: backup.all_in("FAULT"), 10, "the backup watches its own cable", explain=lab.logs)
    lab.plug(backup, "eth1")
    wait_until(lambda: backup.all_in("BACKUP"), 10, explain=lab.logs)
    lab.cut(active, "eth1")
    wait_until(lambda: backup.active and network(backup)["state"] == "bound", 20, explain=lab.logs)
    assert Tandem.request(active, "status")["groups"][0]["faults"] == ["interface eth1 down"]
    lab.plug(active, "eth1")
    wait_until(lambda: active.all_in("BACKUP"), 10, explain=lab.logs)


SITE = """
config interface 'site'
	option device 'lo'
	option proto 'static'
	option ipaddr '10.9.9.1'
	option netmask '255.255.255.0'
	option auto '0'
"""


def test_a_network_of_netifd_alone_follows_too(open_lab: Open) -> None:
    """As a tunnel does, which has no port: netifd brings it up on the active router and down on others."""
    lab: OneLine = open_lab(OneLine(network=NETWORK + SITE, follow=("wan", "site")))
    lab.start()
    active, backup = both(lab)
    wait_until(lambda: active.has("10.9.9.1"), 10, explain=lab.logs)
    assert not backup.has("10.9.9.1")
    failover(active)
    wait_until(lambda: backup.has("10.9.9.1") and not active.has("10.9.9.1"), 10, explain=lab.logs)
    assert isinstance(active.daemon, LineTandem)
    active.daemon.netifd.sh("ifup site")
    wait_until(lambda: not active.has("10.9.9.1"), 10, "it is taken down again", explain=lab.logs)
