# SPDX-License-Identifier: GPL-2.0-or-later
"""A walk over the faults of two routers that share a line, with audits after each."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.chaos.condition import Condition
from tests.lab import FAR, Pings, Router, Service, Tandem, wait_until
from tests.netns.shared_line import LINE, MAC, SharedLine, Speakers, has_device

BOUND_MS = 10_000  # without an answer, whatever happens while one router can serve
FAILOVERS = 10


def failover(_lab: SharedLine, active: Router) -> None:
    Tandem.request(active, "failover")


def reboot_active(lab: SharedLine, active: Router) -> None:
    """The other router serves before it is back."""
    active.power_off()
    wait_until(lambda: lab.other(active).active, 10, "the other takes over", explain=lab.logs)
    active.power_on()


def reboot_backup(lab: SharedLine, active: Router) -> None:
    lab.other(active).power_off()
    lab.other(active).power_on()


def both_off_and_on(lab: SharedLine, _active: Router) -> None:
    for router in lab.routers:
        router.power_off()
    for router in lab.routers:
        router.power_on()


def restart(_lab: SharedLine, active: Router) -> None:
    """The daemon is stopped, and started again."""
    assert active.stop() == 0
    active.start()


def cable(lab: SharedLine, active: Router) -> None:
    """The cable of the line is pulled, and plugged in when the other router serves and the device is gone."""
    lab.cut(active, LINE)
    wait_until(lambda: lab.other(active).active, 10, "the other takes over", explain=lab.logs)
    wait_until(lambda: not has_device(active), 10, "the device is gone", explain=lab.logs)
    lab.plug(active, LINE)


def preempt(lab: SharedLine, active: Router) -> None:
    """The backup becomes the better router, and preempts."""
    backup = lab.other(active)
    text = backup.file("conf").read_text()
    better = text.replace("option nopreempt '1'", "option nopreempt '0'")
    backup.file("conf").write_text(better.replace("option priority '101'", "option priority '110'"))
    Tandem.request(backup, "reload")
    wait_until(lambda: backup.active, 20, "it preempts", explain=lab.logs)
    backup.file("conf").write_text(text)
    Tandem.request(backup, "reload")


Step = Callable[[SharedLine, Router], None]
# The role moves once. A router that has changed its role often does not preempt, see core/damping.py.
MOVES: tuple[Step, ...] = (preempt, *(failover,) * FAILOVERS, reboot_active, cable, restart)
STAYS: tuple[Step, ...] = (reboot_backup,)
WALK: tuple[Step, ...] = (*MOVES, *STAYS, both_off_and_on, reboot_active, failover)


def walk(
    lab: SharedLine,
    walked: tuple[Step, ...] = WALK,
    addresses: tuple[str, ...] = (FAR,),
    audit: Callable[[], object] = lambda: None,
) -> None:
    """Do all steps, with traffic to these addresses of the server, and an audit of the caller's after each.

    AssertionError: both routers spoke, a wrong one did, or neither for too long.
    """
    for address in addresses:
        Service(lab.server, "echo", address, "7")
    pings = [Pings(lab.client, address) for address in addresses]
    conditions = [Condition(router) for router in lab.routers]
    with Speakers(lab) as speakers:
        for number, step in enumerate(walked):
            active = lab.settle()
            for one in pings:
                one.flowing(timeout=30)
            before = speakers.turns
            assert before[-1] == active.name
            start = time.monotonic()
            step(lab, active)
            now = lab.settle()
            outages = [one.outage_since(start, 30) for one in pings]
            said = speakers.turns[len(before) - 1 :]
            what = f"step {number}, {step.__name__}: {said} spoke with {MAC}"
            assert said == ([active.name] if now is active else [active.name, now.name]), what
            assert max(one.ms for one in outages) < BOUND_MS, f"step {number}, {step.__name__}: {outages}"
            if step in MOVES or step in STAYS:
                assert (now is active) == (step in STAYS), what
            for condition in conditions:
                condition.log()
                condition.process()
            audit()
    for one in pings:
        one.stop()
