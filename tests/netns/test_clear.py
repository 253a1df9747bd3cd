# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandemd --clear`: a daemon was killed, and no other one will come after it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.lab import LanLab, Router, Tandem, wait_until
from tests.lab.scenario import tandem_uci

from .daemon import V1, VIP, state, status

ROUTE = "192.168.7.0/24 via 192.168.1.10 dev eth0"
INSTANCE = replace(V1, vmac="vrrp.51", routes=(f"192.168.8.0/24 via 192.168.1.10 dev {V1.device}",))
STATIC = f"\nconfig static_routes\n\tlist route '{ROUTE}'\n"


def clear(router: Router) -> int:
    """Run `tandemd --clear` and return its exit status."""
    [command] = router.daemon.commands(router)
    return router.popen(*command, "--clear", stdout=subprocess.DEVNULL).wait(30)


def traces(router: Router) -> list[str]:
    """The traces of a daemon's life in the kernel."""
    shown = router.exec("ip", "-o", "addr") + router.exec("ip", "route", "show", "table", "all")
    shown += router.exec("nft", "list", "tables") + f"arp_ignore {router.sysctl('ipv4/conf/eth0/arp_ignore')}"
    words = (VIP, "vrrp", "tandem", "192.168.7.", "192.168.8.", "arp_ignore 1")
    return [line for line in shown.splitlines() if any(word in line for word in words)]


def rules(router: Router) -> str:
    """All of nftables, table by table, but for the lifetimes in it."""
    tables = sorted(router.exec("nft", "list", "tables").splitlines())
    text = "".join(router.exec("nft", "list", *table.split(), check=False) for table in tables)
    return re.sub(r" expires \w+", "", text)


def test_nftables_are_put_back_and_gone_after_a_kill(open_lab: Callable[[Any], Any]) -> None:
    refusing = replace(V1, advert_s=1, options={"accept": "0", "dhcp": "1"})
    lab: LanLab = open_lab(LanLab([Tandem([refusing])]))
    [router] = lab.routers
    router.start()
    wait_until(lambda: router.active, 15, "it is active", explain=router.log)
    wait_until(lambda: 'elements = { "eth0"' in rules(router), 15, "DHCP is answered", explain=router.log)
    before = rules(router)
    assert f"ip daddr {VIP} drop" in before
    for damage in (
        "flush ruleset",
        "delete table inet tandem",
        "delete table inet tandem_dhcp",
        "flush chain inet tandem_dhcp output",
    ):
        router.exec("nft", *damage.split())
        wait_until(lambda: rules(router) == before, 10, f"put back after {damage}", explain=router.log)
    assert status(router)["counters"]["tables_restored"] >= 5
    assert "table inet tandem was changed by nft (process " in router.log()
    router.kill()
    assert f"ip daddr {VIP} drop" in rules(router)
    router.exec("nft", "add", "table", "inet", "tandem_gate")  # as if a gate had been killed as well
    router.start()
    wait_until(lambda: state(router) == "BACKUP", 10, "it listens first", explain=router.log)
    found = rules(router)
    assert state(router) == "BACKUP" and VIP not in found and "elements" not in found
    assert "tandem_gate" not in found


def test_what_a_killed_daemon_has_left_is_taken_away(open_lab: Callable[[Any], Any]) -> None:
    text = tandem_uci([INSTANCE], options={"address_lifetime": "0"}) + STATIC
    lab: LanLab = open_lab(LanLab([Tandem([INSTANCE], text=text)]))
    [router] = lab.routers
    assert not traces(router)
    router.start()
    wait_until(lambda: router.active, 15, "it is active", explain=router.log)
    before = traces(router)
    assert clear(router) == 1 and traces(router) == before  # not under the feet of one that runs
    router.kill()
    assert traces(router)
    assert clear(router) == 0
    assert not traces(router)
    assert not router.file("sock").exists()
    router.start()
    wait_until(lambda: router.active, 15, "another one starts as ever", explain=router.log)


def test_what_a_killed_daemon_has_left_goes_also_when_its_options_have_gone(
    open_lab: Callable[[Any], Any],
) -> None:
    route = "192.168.8.0/24 via 192.168.1.10 dev eth0 protocol 77"
    before = [
        replace(V1, vmac="vrrp.51", routes=(route,)),
        replace(V1, name="V2", virtual_router_id=52, addresses=("192.168.1.5/24",), vmac="vrrp.52"),
    ]
    lab: LanLab = open_lab(LanLab([Tandem(before)]))
    [router] = lab.routers
    # Somebody else's, as keepalived and FRR make them.
    router.ip("link add vrrp.9 link eth0 address 00:00:5e:00:01:09 type macvlan")
    router.start()
    wait_until(lambda: router.active, 15, "it is active", explain=router.log)
    assert {"vrrp.51", "vrrp.52", "vrrp.9"} <= set(router.exec("ls", "/sys/class/net").split())
    router.kill()
    router.configure(Tandem([replace(before[0], vmac="other.51", advert_s=1)]))
    router.start()
    wait_until(lambda: state(router) == "BACKUP", 10, "it listens first", explain=router.log)
    names = set(router.exec("ls", "/sys/class/net").split())
    assert names & {"vrrp.51", "vrrp.52", "vrrp.9", "other.51"} == {"vrrp.9", "other.51"}
    assert "192.168.8.0/24" not in router.exec("ip", "route", "show", "table", "all")
