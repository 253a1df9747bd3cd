# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem upgrade` of a pair of OpenWrt's own root file systems: opkg or apk, procd, init scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lab import LanLab, netns, wait_until
from tests.openwrt_pieces import APK, needs
from tests.packaging import test_apk
from tests.packaging.conftest import opkg_router
from tests.packaging.router import OpenWrt, needs_router
from tests.packaging.test_apk import apk_router
from tests.packaging.test_opkg import needs_planner, pid

pytestmark = [needs_router, needs_planner, pytest.mark.slow]

CONFIG = """config globals 'globals'
	option enabled '1'
	option router_id 'r{number}'
	option allow_upgrade '1'

config vrrp_instance 'V1'
	option interface 'eth0'
	option virtual_router_id '51'
	option version '3'
	option advert_int '0.2'
	option nopreempt '1'
	list virtual_ipaddress '192.168.1.4/24'

config conntrack_sync
	list peer '192.168.1.{other}'
	option secret 'a secret of more than sixteen bytes'
	option heartbeat '0.5'
"""
Open = Callable[[Any], Any]
apk_feeds = test_apk.apk_feeds


@pytest.fixture(params=["opkg", pytest.param("apk", marks=needs(APK / "apk", APK / "functions.sh"))])
def pair(request: pytest.FixtureRequest, tmp_path: Path, open_lab: Open) -> Iterator[list[OpenWrt]]:
    """Two routers on a LAN with the package, and a later one in their feeds."""
    apk = request.param == "apk"
    srv = request.getfixturevalue("apk_feeds" if apk else "router_feeds")
    lab = open_lab(LanLab([], tag="packages"))
    with ExitStack() as stack:
        routers = []
        for number in (1, 2):
            directory = tmp_path / f"r{number}"
            directory.mkdir()
            router = stack.enter_context((apk_router if apk else opkg_router)(directory, srv))
            plug(lab, router, number)
            router.sh("apk add tandem" if apk else "opkg install tandem")
            router.write("/etc/config/tandem", CONFIG.format(number=number, other=4 - number))
            router.sh("/etc/init.d/tandem start")
            feeds = "/etc/apk/repositories" if apk else "/etc/opkg/customfeeds.conf"
            router.sh(f"sed -i s,/srv/tandem,/srv/next, {feeds}")
            routers.append(router)
        yield routers


def plug(lab: LanLab, router: OpenWrt, number: int) -> None:
    """A cable from the router's eth0 to the LAN."""
    lines = [
        f"link add name openwrt{number} type veth peer name eth0 netns {router.pid}",
        f"link set openwrt{number} master lan up",
    ]
    netns.ip_batch(lines, lab.switch_namespace)
    router.sh(f"ip link set eth0 up && ip addr add 192.168.1.{number + 1}/24 dev eth0")
    router.sh("echo 1 >/proc/sys/net/ipv4/ip_forward")


def summary(router: OpenWrt) -> tuple[str, str]:
    """The state of the instance, and whether connections would survive."""
    text = router.sh("tandem status --json", status=None)
    try:
        status = json.loads(text)
    except ValueError:
        return "", ""
    return status["instances"][0]["state"], status["peers"][0]["connections"]


def settled(pair: list[OpenWrt]) -> tuple[OpenWrt, OpenWrt]:
    """Wait until one is active and the other in step: (active, backup)."""
    found: list[tuple[str, str]] = []

    def ready() -> bool:
        found[:] = [summary(router) for router in pair]
        return sorted(found) == [("BACKUP", "in step"), ("MASTER", "in step")]

    wait_until(ready, 60, "in step", every=0.5, explain=lambda: str([*found, *(r.log for r in pair)]))
    first = found[0][0] == "MASTER"
    return (pair[0], pair[1]) if first else (pair[1], pair[0])


def test_the_pair_is_upgraded(pair: list[OpenWrt]) -> None:
    active, backup = settled(pair)
    before = {router: pid(router) for router in pair}
    said = active.sh("tandem upgrade --check", status=None)
    assert "tandem 0.1.0-r1 -> 0.1.0-r2" in said
    said = active.sh("tandem upgrade", timeout=300, status=None)
    assert re.search(r"^finished; \S+ is MASTER$", said.splitlines()[-1]), said + backup.log
    assert settled(pair) == (backup, active)  # nopreempt
    for router in pair:
        listed = router.sh("opkg list-installed tandem 2>/dev/null || apk list --installed tandem")
        assert "0.1.0-r2" in listed and pid(router) not in (0, before[router])
        assert router.log.count("stopping: handing over") == 1 and "Traceback" not in router.log
        assert "option allow_upgrade '1'" in router.sh("cat /etc/config/tandem")
    assert "nothing to upgrade" in active.sh("tandem upgrade", timeout=300)
