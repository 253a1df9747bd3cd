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
