# SPDX-License-Identifier: GPL-2.0-or-later
"""A split of two routers with a witness on a third host: exactly one is active, and keeps its role."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.lab import Host, Port, Router, SeedLab, Tandem, seed_instances, stays, wait_until
from tests.lab.router import TANDEM
from tests.lab.scenario import tandem_uci

from .daemon import status

SECRET = "x8Tz0o2u9vbbfN4rkLm2"
GROUPS = {"G1": ("I1", "E1")}
WITNESS = "192.168.9.9"
SERVER = """
config globals 'globals'
	option enabled '0'

config witness_server
	option enabled '1'
	option lease '0.6'
	list secret_file '{file}'
"""
SECTIONS = """
config peer 'other'
	list address '192.168.1.{other}'
	option secret '{secret}'
	option heartbeat '0.1'

config witness 'third'
	option address '{witness}'
	option secret '{secret}'
"""


def daemon(number: int, **options: str) -> Tandem:
    instances = seed_instances(0.1)
    sections = SECTIONS.format(other=4 - number, secret=SECRET, witness=WITNESS)
    text = tandem_uci(instances, GROUPS, {"witness_policy": "required", **options}) + sections
    return Tandem(instances, GROUPS, text=text)


class WitnessLab(SeedLab):
    """The seed's routers, which reach a third host by a cable that no split concerns."""

    def __init__(self) -> None:
        super().__init__(daemon, "witness")
        self.lan2, self.wan2 = self.switch("lan2"), self.switch("wan2")
        management = self.switch("mgmt")
        for number, router in enumerate(self.routers, 1):
            router.ports = (*router.ports, Port("eth9", management, f"192.168.9.{number}/24"))
        self.third = self.add(Host("third", [Port("eth0", management, f"{WITNESS}/24")]))
        self._witness: Any = None

    def witness(self) -> None:
        """Start `tandem witness`."""
        secret, config = self.third.file("secret"), self.third.file("conf")
        secret.write_text(SECRET + "\n")
        secret.chmod(0o600)
        config.write_text(SERVER.format(file=secret))
        with self.third.file("log").open("ab") as log:
            argv = [sys.executable, "-IB", str(TANDEM), "witness", "-c", str(config)]
            self._witness = self.third.popen(*argv, stdout=log, stderr=log)
        wait_until(lambda: "answers on port" in self.third.file("log").read_text(), 15, "the witness answers")

    def end_witness(self) -> None:
        self._witness.terminate()
        assert self._witness.wait(5) == 0
        self.third.file("log").unlink()

    def split(self) -> None:
        self.partition(self.r2, "br-lan", self.lan2)
        self.partition(self.r2, "eth0.2", self.wan2)

    def heal(self) -> None:
        self.partition(self.r2, "br-lan", self.lan)
        self.partition(self.r2, "eth0.2", self.wan)


@pytest.fixture
def lab() -> Iterator[WitnessLab]:
    with WitnessLab() as lab:
        yield lab.up()  # type: ignore[misc]


def ready(lab: WitnessLab) -> Router:
    """One is active with the vote of the witness, and the other would follow it; return the active one."""

    def found() -> Router | None:
        active = lab.active
        if active is None or status(active)["quorum"]["leases"] != ["G1"]:
            return None
        other = status(lab.other(active))
        return active if other["peers"][0]["connected"] and not other["quorum"]["lacking"] else None

    return wait_until(found, 20, "one is active with the vote", explain=lab.logs)


def one_is_active(lab: WitnessLab, router: Router) -> Callable[[], bool]:
    return lambda: lab.active is router and lab.other(router).passive


def test_a_split_leaves_exactly_one_active(lab: WitnessLab) -> None:
    lab.witness()
    lab.start()
    active = ready(lab)
    backup = lab.other(active)
    lab.split()
    stays(one_is_active(lab, active), 4, "the active router keeps its role", every=0.02)
    why = wait_until(lambda: status(backup)["quorum"]["lacking"].get("G1"), 5, "the backup says why")
    assert "1 of 3 votes" in why and "third" in why
    assert status(backup)["health"]["quorum"] == [f"G1: {why}"]
    lab.heal()
    assert ready(lab) is active

    # The active one dies while they are cut off from each other: the witness gives its vote to the other.
    lab.split()
    wait_until(lambda: status(backup)["quorum"]["lacking"], 5, "they are cut off")
    active.power_off()
    wait_until(lambda: backup.active, 10, "the other one has the vote now", explain=lab.logs)
    assert "takes no role without" not in backup.log()

    # It loses the witness too: an isolated router is not active.
    lab.cut(backup, "eth9")
    wait_until(lambda: backup.passive, 10, "it gives the role up", explain=lab.logs)
    [*_, last] = [one for one in status(backup)["history"] if one["kind"] == "instance"]
    assert (last["state"], last["why"], last["seen"]) == ("BACKUP", "no quorum", "quorum")
    stays(lambda: backup.passive, 1, "and claims nothing", every=0.02)
    lab.plug(backup, "eth9")
    wait_until(lambda: backup.active, 10, "the witness is back", explain=lab.logs)
    assert backup.stop() == 0


def test_a_takeover_a_handover_and_a_restart_of_the_witness(lab: WitnessLab) -> None:
    lab.witness()
    lab.start()
    active = ready(lab)
    Tandem.request(active, "failover")
    wait_until(
        one_is_active(lab, lab.other(active)), 5, "a planned hand-over needs no wait", explain=lab.logs
    )
    active = ready(lab)
    lab.end_witness()
    stays(one_is_active(lab, active), 2, "the peer's vote is enough", every=0.02)
    assert not status(active)["quorum"]["witness_answers"] or not status(active)["quorum"]["leases"]
    lab.witness()
    assert ready(lab) is active
    active.power_off()
    other = lab.other(active)
    wait_until(lambda: other.active, 10, "the other one takes over", explain=lab.logs)
    assert other.stop() == 0


def one_of_three(number: int) -> Tandem:
    """r1 is preferred to r2, and r2 to r3; nobody preempts, and there is no witness."""
    addresses = {1: "192.168.1.2", 2: "192.168.1.3", 3: "192.168.1.5"}
    instances = seed_instances(0.1, priority=200 - 20 * number)
    peers = [
        f"\nconfig peer 'r{other}'\n\tlist address '{address}'\n\toption secret '{SECRET}'\n"
        for other, address in addresses.items()
        if other != number
    ]
    return Tandem(
        instances, GROUPS, text=tandem_uci(instances, GROUPS, {"witness_policy": "required"}) + "".join(peers)
    )


def test_two_of_three_routers_are_a_quorum_and_one_is_none(
    open_lab: Callable[[SeedLab], SeedLab],
) -> None:
    lab = SeedLab(one_of_three, "three", count=3)
    for switch in ("lan2", "wan2"):
        lab.switch(switch)
    lab = open_lab(lab)
    lab.start()
    first = wait_until(lambda: lab.active, 30, "one is active", explain=lab.logs)
    others = [router for router in lab.routers if router is not first]
    for router in others:
        wait_until(lambda: router.all_in("BACKUP"), 15, "two follow", explain=lab.logs)  # noqa: B023
    wait_until(lambda: status(first)["quorum"]["lacking"] == {}, 15, "it is quorate", explain=lab.logs)
    for device, switch in (("br-lan", "lan2"), ("eth0.2", "wan2")):
        lab.partition(first, device, switch)
    wait_until(lambda: first.passive, 15, "who is alone gives up", explain=lab.logs)
    second = wait_until(
        lambda: next((router for router in others if router.active), None), 15, "one of two", explain=lab.logs
    )
    [third] = [router for router in others if router is not second]
    stays(lambda: first.passive and second.active and third.passive, 0.5)
    second.power_off()
    stays(lambda: first.passive and third.passive, 2.0)
    for device, switch in (("br-lan", "lan"), ("eth0.2", "wan")):
        lab.partition(first, device, switch)
    wait_until(lambda: first.active != third.active, 30, "two of three again", explain=lab.logs)
