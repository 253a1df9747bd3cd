# SPDX-License-Identifier: GPL-2.0-or-later
"""The seed's last chapter: LAN and WAN tied by a sync group, and one router dies in every way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab import (
    FAR,
    LAN_GATEWAY,
    WAN_ADDRESS,
    Daemon,
    Pings,
    Router,
    SeedLab,
    Service,
    seed_daemon,
    wait_until,
)

from .daemon import Tandem, status

Open = Callable[[SeedLab], SeedLab]


def tandemd(_number: int) -> Daemon:
    return seed_daemon("tandemd", 0.1)


@pytest.fixture
def lab(open_lab: Open) -> SeedLab:
    declared = SeedLab(tandemd)
    declared.switch("elsewhere")
    lab = open_lab(declared)
    lab.elect()
    return lab


def actors(lab: SeedLab) -> tuple[Router, Router]:
    active = lab.active
    assert active is not None
    return active, lab.other(active)


def takes_over(lab: SeedLab, router: Router) -> None:
    wait_until(lambda: lab.active is router, 15, f"{router.name} has taken over both networks")


def reaches_the_far_server(lab: SeedLab) -> None:
    wait_until(
        lambda: "1 received" in lab.client.exec("ping", "-c1", "-W1", FAR, check=False),
        10,
        "the far server answers",
    )


@pytest.mark.parametrize("device", ["br-lan", "eth0.2"])
def test_losing_one_link_gives_up_the_whole_group(lab: SeedLab, device: str) -> None:
    active, backup = actors(lab)
    lab.cut(active, device)
    takes_over(lab, backup)
    group = status(active)["groups"][0]
    assert (group["state"], group["faults"]) == ("FAULT", [f"interface {device} down"])
    reaches_the_far_server(lab)
    # The peer went by the priority 0 that came on the other network, not by its timers.
    assert "the active router resigned" in backup.log()
    lab.plug(active, device)
    wait_until(lambda: active.all_in("BACKUP"), 10, "the old active is backup again")


def test_sigterm_removes_everything_and_exits_0(lab: SeedLab) -> None:
    active, backup = actors(lab)
    assert active.stop() == 0
    takes_over(lab, backup)
    assert not active.has(LAN_GATEWAY) and not active.has(WAN_ADDRESS)
    assert "default" not in active.exec("ip", "route")
    assert active.exec("nft", "list", "tables") == ""
    assert "the active router resigned" in backup.log()
    reaches_the_far_server(lab)


def test_power_loss_and_return_without_preemption(lab: SeedLab) -> None:
    active, backup = actors(lab)
    active.power_off()
    takes_over(lab, backup)
    reaches_the_far_server(lab)
    active.power_on()
    wait_until(lambda: active.all_in("BACKUP"), 15, "the old active is backup")
    assert lab.active is backup


def test_a_flow_through_nat_goes_on_with_the_same_address(lab: SeedLab) -> None:
    active, backup = actors(lab)
    service = Service(lab.server, "echo", FAR, "7")
    pings = Pings(lab.client, FAR)
    try:
        pings.flowing()
        seen = active.exec("cat", "/proc/net/nf_conntrack", check=False)
        active.stop()
        takes_over(lab, backup)
        pings.flowing()
    finally:
        pings.stop()
        service.stop()
    assert f"dst={WAN_ADDRESS}" in seen + backup.exec("conntrack", "-L", check=False)


def test_failover_by_command_and_standby(lab: SeedLab) -> None:
    active, backup = actors(lab)
    Tandem.request(active, "failover")
    takes_over(lab, backup)
    Tandem.request(backup, "standby")
    takes_over(lab, active)
    assert status(backup)["groups"][0]["faults"] == ["standby"]
    Tandem.request(backup, "resume")
    wait_until(lambda: backup.all_in("BACKUP"), 10, "takes part again")
    assert lab.active is active


def test_a_silent_lan_alone_does_not_make_two_actives(lab: SeedLab) -> None:
    """The backup still hears the active on the WAN: a broken switch, not a dead router."""
    active, backup = actors(lab)
    lab.partition(backup, "br-lan", "elsewhere")
    wait_until(
        lambda: "br-lan" in str(status(backup)) and lan_silence(backup) > 1.0,
        10,
        "the LAN has been silent for long",
    )
    assert backup.all_in("BACKUP") and active.all_in("MASTER")


def lan_silence(router: Router) -> float:
    lan = next(item for item in status(router)["instances"] if item["name"] == "I1")
    return float(lan["peer"]["last_advert_s"])
