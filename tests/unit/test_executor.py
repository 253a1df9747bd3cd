# SPDX-License-Identifier: GPL-2.0-or-later
"""The executor carries out core's actions in order: the calls of netlink, nftables and guards for each."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.core.actions import Action, Announce, Install, RaiseMacs, Remove, SendAdvert, Transition, Withdraw
from tandem.core.events import EffectFailed
from tandem.core.settings import Instance
from tandem.core.timers import SECOND
from tandem.effects.endpoint import Endpoint
from tandem.effects.executor import Executor
from tandem.effects.netlink import Failure
from tandem.effects.rtnl import Unbound

LAN, WAN = ("LAN",), ("WAN",)
BOTH = ("LAN", "WAN")


class Kernel:
    """Stands for every part that an executor speaks to, and notes what it is told."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.refused: dict[bytes, Failure] = {}
        self.broken = False
        parts: list[Any] = [
            SimpleNamespace(send=self.send),
            SimpleNamespace(set_active=self.firewall),
            SimpleNamespace(),
            SimpleNamespace(index=lambda _name: 1, take_news=lambda: self.done.append("news")),
        ]
        self.caught: list[Exception] = []
        told: Any = lambda one: self.done.append(one.state)  # noqa: E731
        switch: Any = SimpleNamespace(set_active=lambda names: self.done.append(("switch", *names)))
        self.executor = Executor(*parts, told, self.caught.append, switch)
        guard: Any = SimpleNamespace(set_active=lambda names: self.done.append(("guard", *names)))
        self.executor.take_guard(guard)
        self.done.clear()
        for name in BOTH:
            plan: Any = SimpleNamespace(vmac=name == "WAN" or None, nft=b"rules")
            endpoint = Endpoint(Instance(name, name, 51), plan)
            batches: Any = (f"{name} {what}".encode() for what in ("mac up", "mac down", "up", "down"))
            endpoint.mac_up, endpoint.mac_down, endpoint.up, endpoint.down = batches
            self.executor.endpoints[name] = endpoint

    def advertise(self, priority: int) -> int:
        self.done.append(priority)
        return 0

    def send(self, batch: bytes) -> list[Failure]:
        self.done.append(batch.decode())
        return [self.refused[batch]] if batch in self.refused else []

    def firewall(self, names: list[str]) -> tuple[Failure, ...]:
        if self.broken:
            raise ValueError("no table")
        self.done.append(("rules", *names))
        return ()

    def does(self, *actions: Action, until: int | None = None) -> list[Any]:
        self.done.clear()
        self.failed = self.executor.execute(actions, until)
        return list(self.done)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    found = Kernel()
    monkeypatch.setattr(Endpoint, "advertise", lambda _self, priority: found.advertise(priority))
    return found


def test_what_a_sleep_has_made_untrue_is_not_said(kernel: Kernel) -> None:
    kernel.executor._announce = lambda _, repeat: kernel.done.append(repeat)  # type: ignore[method-assign]
    said = Announce("LAN", 3), SendAdvert("LAN", 100), SendAdvert("LAN", 0)
    now = time.monotonic_ns()
    for until, sent in ((None, [3, 100, 0]), (now + 3600 * SECOND, [3, 100, 0]), (now, [0])):
        assert kernel.does(*said, until=until) == sent


MASTER, GONE = Transition("LAN", "MASTER", 100, ""), Transition("LAN", "BACKUP", 100, "")


def test_a_group_is_installed_with_one_transaction_and_dhcp_hears_of_it_last(kernel: Kernel) -> None:
    assert kernel.does(RaiseMacs(WAN), SendAdvert("WAN", 100)) == ["WAN mac up", 100]
    rules = [("switch", *BOTH), ("rules", *BOTH)]
    last = [("switch", *BOTH), ("guard", *BOTH)]
    assert kernel.does(Install(BOTH), MASTER) == [*rules, "LAN up", "WAN up", "MASTER", *last]
    assert kernel.failed == []


def test_the_rules_and_the_mac_addresses_go_after_the_goodbye(kernel: Kernel) -> None:
    kernel.does(RaiseMacs(WAN), Install(BOTH))
    after = kernel.does(Remove(BOTH), SendAdvert("LAN", 0), Withdraw(BOTH), GONE)
    assert after == [
        "LAN down", "WAN down", 0, ("rules",), "WAN mac down", "BACKUP", ("switch",), ("guard",), "news"
    ]  # fmt: skip
    assert kernel.does(Withdraw(BOTH)) == [("rules",), ("switch",), ("guard",)], "it is down"


def test_a_member_that_leaves_takes_only_its_own_away(kernel: Kernel) -> None:
    kernel.does(Install(BOTH))
    done = kernel.does(Remove(LAN), Withdraw(LAN))
    assert done == ["LAN down", ("rules", *WAN), ("switch", *WAN), ("guard", *WAN), "news"]


def test_adverts_touch_nothing_else(kernel: Kernel) -> None:
    kernel.does(Install(BOTH))
    assert kernel.does(SendAdvert("LAN", 100), SendAdvert("WAN", 100)) == [100, 100]


def test_what_the_kernel_refuses_is_a_failure_of_that_instance(kernel: Kernel) -> None:
    kernel.refused[b"WAN up"] = Failure("route", 22)
    kernel.does(Install(BOTH))
    [failed] = kernel.failed
    assert failed.instance == "WAN" and "route" in failed.reason
    kernel.executor.endpoints["LAN"].up = Unbound(("eth9",))
    kernel.does(Install(LAN))
    assert kernel.failed == [EffectFailed("LAN", "no interface eth9")]


def test_an_exception_is_a_failure_of_all_and_the_rest_is_done(kernel: Kernel) -> None:
    kernel.broken = True
    assert MASTER.state in kernel.does(Install(BOTH), MASTER)
    assert kernel.failed == [EffectFailed(name, "ValueError: no table") for name in BOTH]
    assert len(kernel.caught) == 1


def test_an_installed_instance_gets_another_macvlan_up_before_its_routes(kernel: Kernel) -> None:
    kernel.does(Install(BOTH))
    endpoint = kernel.executor.endpoints["WAN"]
    endpoint.mac_is_up = False
    kernel.done.clear()
    assert kernel.executor.reinstall("WAN") == []
    assert kernel.done[0] == "WAN mac up" and kernel.done[-1] == "WAN up"


def test_a_backup_sends_nothing_again(kernel: Kernel) -> None:
    kernel.done.clear()
    assert kernel.executor.reinstall("WAN") == kernel.executor.reinstall("DMZ") == kernel.done == []
