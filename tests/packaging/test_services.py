# SPDX-License-Identifier: GPL-2.0-or-later
"""Services with the genuine procd, rc.common, netifd and uhttpd of OpenWrt follow the role of two routers.

`slow` is a service of procd that needs a second to end. It holds a lock of the machine that both routers
share, so the kernel proves that it never runs twice.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import LanLab, netns, wait_until
from tests.lab.topology import SYNC_SECRET
from tests.openwrt_pieces import LOOPBACK
from tests.packaging.conftest import opkg_router
from tests.packaging.router import OpenWrt, needs_router
from tests.packaging.test_opkg import needs_planner

pytestmark = [needs_router, needs_planner]

VIP = "192.168.1.4"
CONFIG = """config globals 'globals'
	option enabled '1'
	option router_id 'r{number}'

config vrrp_instance 'I1'
	option interface 'lan'
	option virtual_router_id '51'
	option priority '{priority}'
	option version '3'
	option advert_int '0.3'
	list virtual_ipaddress '192.168.1.4/24'

config peer 'r{other}'
	list address '192.168.1.{last}'
	option secret '{secret}'

config service 'web'
	option agent 'procd:uhttpd'
	option monitor_interval '60'

config service 'slow'
	option agent 'procd:slow'
	option monitor_interval '0.5'

config service 'old'
	option agent 'procd:old'
"""
NETWORK = (
    LOOPBACK
    + """
config interface 'lan'
	option device 'lan0'
	option proto 'static'
	option ipaddr '192.168.1.{}'
	option netmask '255.255.255.0'
"""
)
SLOW = """#!/bin/sh /etc/rc.common
START=60
USE_PROCD=1

start_service() {
	procd_open_instance
	procd_set_param command /bin/sh /srv/slow
	procd_set_param respawn 3600 30 5
	procd_close_instance
}
"""
# Holds the lock, or says that somebody else does.
PROGRAM = """
exec 9</srv/lock
flock -n 9 || { echo >>/tmp/twice; exit 1; }
trap "sleep 1; exit 0" TERM
while :; do
	sleep 1000 9<&- &
	wait $!
done
"""
# As those of packages that do not use procd: rc.common has no `running` for them.
OLD = """#!/bin/sh /etc/rc.common
START=60

start() {
	touch /tmp/old
}

stop() {
	rm -f /tmp/old
}
"""


@dataclass(frozen=True)
class Pair:
    """Two routers and a client on one LAN; `r1` is preferred."""

    lab: LanLab
    r1: OpenWrt
    r2: OpenWrt

    def pages(self) -> bool:
        """Whether the client gets an answer of uhttpd at the virtual address."""
        url = f"http://{VIP}/"
        return "HTTP/1.1" in self.lab.client.exec("curl", "-sI", "-m", "0.5", url, check=False)

    def all_on(self, router: OpenWrt) -> bool:
        """Whether the services run there, and only there."""
        other = self.r2 if router is self.r1 else self.r1
        return runs(router) == {"web", "slow", "old"} and not runs(other) and self.pages()

    def logs(self) -> str:
        return "\n".join(router.log for router in (self.r1, self.r2))


def request(router: OpenWrt, command: str, **arguments: Any) -> Any:
    """One command over the control socket. OSError: no daemon."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(f"/proc/{router.pid}/root/tmp/run/tandem/control.sock")
        sock.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
        answer = json.loads(sock.makefile("rb").readline())
    assert answer["ok"], answer
    return answer["result"]


def service(router: OpenWrt, name: str) -> dict[str, Any]:
    """What the daemon says of a service."""
    found: dict[str, Any] = next(
        one for one in request(router, "services")["services"] if one["name"] == name
    )
    return found


def process(router: OpenWrt, name: str) -> int:
    """The process of a service, by procd; 0: it does not run."""
    found = json.loads(router.sh(f'ubus call service list \'{{"name":"{name}"}}\''))
    instances = found.get(name, {}).get("instances", {}).values()
    return next((one["pid"] for one in instances if one["running"]), 0)


def runs(router: OpenWrt) -> set[str]:
    """The services that run on a router, by procd and by the file of the old one."""
    found = {name for name, script in (("web", "uhttpd"), ("slow", "slow")) if process(router, script)}
    return found | ({"old"} if Path(f"/proc/{router.pid}/root/tmp/old").exists() else set())


def prepare(router: OpenWrt, number: int) -> None:
    """Install, and set up all but the start."""
    router.sh("opkg install tandem")
    text = CONFIG.format(
        number=number, other=3 - number, last=4 - number, priority=200 - 50 * number, secret=SYNC_SECRET
    )
    router.write("/etc/config/tandem", text)
    for name, script in (("slow", SLOW), ("old", OLD)):
        router.write(f"/etc/init.d/{name}", script)
    router.sh("chmod 600 /etc/config/tandem; chmod 755 /etc/init.d/slow /etc/init.d/old")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, router_feeds: Path) -> Iterator[Pair]:
    """The routers without Tandem running; what is enabled at boot has been started, as at boot."""
    (router_feeds / "slow").write_text(PROGRAM)
    (router_feeds / "lock").touch()
    one, two = (tmp_path_factory.mktemp(name) for name in ("r1", "r2"))
    with opkg_router(one, router_feeds) as r1, opkg_router(two, router_feeds) as r2, LanLab([]) as lab:
        lab.up()
        with ThreadPoolExecutor() as both:
            list(both.map(prepare, (r1, r2), (1, 2)))
        for number, router in enumerate((r1, r2), 1):
            name = f"r{number}"
            lines = [f"link add name {name} type veth peer name lan0 netns {router.pid}"]
            netns.ip_batch([*lines, f"link set {name} master lan up"], lab.switch_namespace)
            router.write("/etc/config/network", NETWORK.format(number + 1))
            router.sh("mkdir -p /var/state; /etc/init.d/network boot")
        yield Pair(lab, r1, r2)


def start(pair: Pair) -> None:
    """Start Tandem where it does not run, and wait until r1 has everything."""
    for router in (pair.r1, pair.r2):
        if not process(router, "tandem"):
            router.sh("/etc/init.d/tandem start")
    ready(pair)


def ready(pair: Pair) -> None:
    wait_until(lambda: pair.all_on(pair.r1), 40, "r1 has all services", explain=pair.logs, every=0.2)
    wait_until(lambda: connected(pair.r1) and connected(pair.r2), 20, "they talk", explain=pair.logs)


def connected(router: OpenWrt) -> bool:
    return all(one["connected"] for one in request(router, "status")["peers"])


def never_twice(pair: Pair) -> None:
    for router in (pair.r1, pair.r2):
        assert not Path(f"/proc/{router.pid}/root/tmp/twice").exists(), pair.logs()


def test_what_a_boot_has_started_is_stopped_on_the_backup(pair: Pair) -> None:
    """uhttpd is enabled on every OpenWrt: procd starts it at boot, before Tandem knows its role."""
    pair.r1.sh("/etc/init.d/uhttpd disable")
    pair.r2.sh("/etc/init.d/old enable; /etc/rc.d/S50uhttpd boot; /etc/rc.d/S60old boot")
    assert runs(pair.r2) == {"web", "old"}
    start(pair)
    said = pair.r2.sh("tandem doctor --listen 1", status=1)
    for name, script in (("web", "uhttpd"), ("old", "old")):
        assert f"r2: service {name} also starts by itself" in said and f"/etc/init.d/{script} disable" in said
    assert said.count("also starts by itself") == 2
    assert "r2: nobody sees whether service old runs" in said
    assert service(pair.r1, "old")["failure"] == ""
    never_twice(pair)


def test_they_move_with_the_role(pair: Pair) -> None:
    start(pair)
    request(pair.r1, "failover")
    wait_until(lambda: pair.all_on(pair.r2), 20, "r2 has them", explain=pair.logs, every=0.1)
    request(pair.r1, "resume")
    ready(pair)
    never_twice(pair)


def test_a_process_that_dies_comes_back(pair: Pair) -> None:
    """Whoever looks first: procd after the pause of `respawn` (5 s), or the monitor of Tandem."""
    start(pair)
    web, slow = process(pair.r1, "uhttpd"), process(pair.r1, "slow")
    pair.r1.sh(f"kill -9 {web} {slow}")
    wait_until(
        lambda: process(pair.r1, "slow") not in (0, slow), 10, "Tandem's monitor, 0.5 s", explain=pair.logs
    )
    assert service(pair.r1, "slow")["failure"] == "monitor not running: exit status 1"
    assert service(pair.r1, "slow")["failures"] == 1
    wait_until(lambda: process(pair.r1, "uhttpd") not in (0, web), 10, "procd", explain=pair.logs)
    assert service(pair.r1, "web")["failures"] == 0
    request(pair.r1, "service", action="clear", name="slow")
    ready(pair)
    never_twice(pair)


def test_a_daemon_that_is_killed_leaves_nothing_behind(pair: Pair) -> None:
    """The guardian stops the services. procd starts Tandem again, and r2 waits until they have stopped."""
    start(pair)
    before = process(pair.r1, "tandem")
    pair.r1.sh(f"kill -9 {before}")
    wait_until(lambda: pair.all_on(pair.r2), 20, "r2 has them", explain=pair.logs, every=0.1)
    ready(pair)
    assert process(pair.r1, "tandem") != before
    never_twice(pair)


def test_a_service_that_its_own_configuration_disables_goes_to_the_other_router(pair: Pair) -> None:
    start(pair)
    script = "/etc/init.d/slow"
    pair.r1.sh(f"sed -i 's/^\tprocd_open_instance/\treturn 0; &/' {script}")
    kill = process(pair.r1, "slow")
    pair.r1.sh(f"kill -9 {kill}")
    wait_until(lambda: process(pair.r2, "slow"), 20, "r2 has the role", explain=pair.logs)
    assert "it does not run after its start" in service(pair.r1, "slow")["failure"]
    never_twice(pair)
