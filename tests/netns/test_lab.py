# SPDX-License-Identifier: GPL-2.0-or-later
"""The laboratory itself: its networks are as declared, and it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import (
    FAR,
    LAN_GATEWAY,
    Capture,
    Download,
    Frr,
    Host,
    Instance,
    Keepalived,
    Lab,
    LanLab,
    NotReached,
    Pings,
    SeedLab,
    Service,
    netns,
    seed_daemon,
    wait_until,
)

Open = Callable[[SeedLab], SeedLab]
ROOT = Path(__file__).parents[2]


def keepalived(_number: int) -> Keepalived:
    daemon = seed_daemon("keepalived", 0.1)
    assert isinstance(daemon, Keepalived)
    return daemon


@pytest.fixture
def lab(open_lab: Open) -> SeedLab:
    return open_lab(SeedLab(keepalived))


def operstate(lab: SeedLab, device: str) -> str:
    return lab.r1.exec("cat", f"/sys/class/net/{device}/carrier").strip()


def test_hosts_on_one_switch_reach_each_other(lab: SeedLab) -> None:
    lab.client.exec("ping", "-c1", "-W2", "192.168.1.2")
    lab.client.exec("ping", "-c1", "-W2", "fd00:1::3")
    lab.server.exec("ping", "-c1", "-W2", "192.168.0.3")
    assert not lab.client.has(LAN_GATEWAY)
    assert lab.r1.sysctl("ipv4/ip_forward") == "1"
    assert lab.client.sysctl("ipv4/ip_forward") == "0"


def test_a_cut_cable_is_a_lost_carrier_at_once(lab: SeedLab) -> None:
    assert operstate(lab, "eth0.2") == "1"
    lab.cut(lab.r1, "eth0.2")
    assert operstate(lab, "eth0.2") == "0"
    assert operstate(lab, "br-lan") == "1"
    lab.plug(lab.r1)
    assert operstate(lab, "eth0.2") == "1"


def test_both_ends_of_a_cable_differ_in_index(lab: SeedLab) -> None:
    """Equal indices would delay the news of a lost carrier by up to 1 s."""
    for line in lab.r1.exec("ip", "-o", "link", "show", "type", "veth").splitlines():
        index, name = line.split()[0].rstrip(":"), line.split()[1]
        assert f"@if{index}:" not in name, line


def test_keepalived_gives_the_gateway_and_survives_a_power_loss(lab: SeedLab) -> None:
    Service(lab.server, "echo", FAR, "7")
    lab.start()
    active = wait_until(lambda: lab.active, 15, "one active")
    pings = Pings(lab.client, FAR)
    pings.flowing()
    before = time.monotonic()
    active.power_off()
    outage = pings.outage_since(before)
    assert outage.lost > 0
    assert outage.ms >= outage.lost
    assert lab.active is lab.other(active)
    active.power_on()
    active.wait_started()
    assert not active.has(LAN_GATEWAY), "a reboot clears the kernel"
    wait_until(lambda: active.all_in("BACKUP"), 15, "back as backup")
    other = lab.other(active)
    assert other.stop() == 0
    wait_until(lambda: lab.active is active, 15, "the peer after SIGTERM")


def test_a_router_that_stops_takes_no_state_of_another_one_with_it(open_lab: Open) -> None:
    """The daemon that follows a dead one finds there what it has to put back."""
    lab = open_lab(SeedLab(lambda _number: seed_daemon("tandemd", 0.1)))
    setting = "ipv4/conf/br-lan/accept_local"
    before = lab.r1.sysctl(setting)
    lab.start()
    assert lab.r1.sysctl(setting) != before
    lab.r2.stop()
    lab.r1.kill()
    lab.r1.start()
    lab.r1.wait_started()
    lab.r1.stop()
    assert lab.r1.sysctl(setting) == before


def test_download_sees_bytes(lab: SeedLab) -> None:
    Service(lab.server, "source", "80")
    lab.start()
    wait_until(lambda: lab.active, 15, "one active")
    download = Download(lab.client, FAR)
    wait_until(lambda: download.bytes > 100_000, 15, "bytes")
    assert download.error is None


def test_pings_tell_that_nothing_answers(lab: SeedLab) -> None:
    pings = Pings(lab.client, FAR)
    wait_until(lambda: pings.sent > 50, 10, "pings sent")
    with pytest.raises(NotReached):
        pings.flowing(timeout=0.1)
    assert pings.answered == 0
    pings.stop()


def test_frr_and_keepalived_in_one_capture(open_lab: Callable[[LanLab], LanLab]) -> None:
    def routers(priority: int) -> list[Instance]:
        common = {"priority": priority, "advert_s": 0.1, "version": 3}
        return [
            Instance("V4", "eth0", 7, ("192.168.1.100/24",), **common),  # type: ignore[arg-type]
            Instance("V6", "eth0", 7, ("fe80::5e:7/64", "fd00:1::100/64"), **common),  # type: ignore[arg-type]
        ]

    lab = open_lab(LanLab([Frr(routers(100)), Keepalived(routers(200))]))
    frr, keepalived = lab.routers
    with Capture(lab, "lan") as capture:
        lab.start()
        wait_until(lambda: keepalived.all_in("MASTER") and frr.all_in("BACKUP"), 15, "keepalived active")
        keepalived.power_off()
        wait_until(lambda: frr.all_in("MASTER"), 15, "FRR active")
        lab.client.exec("ping", "-c1", "-W2", "192.168.1.100")
        assert lab.active is frr
    capture.assert_clean()
    assert {row[0] for row in capture.fields("vrrp", "vrrp.prio")} == {"200", "100"}


def test_nothing_is_left_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), SeedLab(keepalived) as lab:
        lab.up()
        lab.r1.start()
        pid, directory = lab.r1.pid, lab.directory
        namespaces = [host.namespace for host in lab.hosts.values()]
        raise ZeroDivisionError
    assert not any((netns.DIRECTORY / name).exists() for name in namespaces)
    assert not directory.exists()
    assert not Path(f"/proc/{pid}").exists()


def test_a_program_that_has_not_entered_its_namespace_yet_ends_with_the_lab() -> None:
    """`ip netns exec` is outside for about 1 ms: a lab that closed just then waited for ever."""
    with Lab("late") as lab:
        lab.add(Host("host", []))
        lab.up()
        outside = subprocess.Popen(["sleep", "600"], start_new_session=True)
        lab["host"].children.append(outside)
    assert outside.returncode == -signal.SIGKILL


CHILD = """
import signal, time
from tests.lab import SeedLab, Service, FAR, seed_daemon
signal.signal(signal.SIGINT, signal.default_int_handler)
with SeedLab(lambda n: seed_daemon("keepalived", 0.1), tag="child") as lab:
    lab.up()
    lab.r1.start()
    Service(lab.server, "echo", FAR, "7")
    print(lab.prefix, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(number: signal.Signals) -> None:
    """SIGINT (Ctrl-C) cleans up at once, SIGKILL leaves it to the next lab."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert child.stdout
    prefix = child.stdout.readline().strip()
    assert prefix.startswith("tandem-child1-")
    os.kill(child.pid, number)
    assert child.wait(15) != 0
    child.stdout.close()
    if number == signal.SIGKILL:
        assert f"{prefix}r1" in netns.remove_stale()
    assert not [path.name for path in netns.DIRECTORY.iterdir() if path.name.startswith(prefix)]
    assert not list(Path("/tmp").glob(f"{prefix}*"))
