# SPDX-License-Identifier: GPL-2.0-or-later
"""Services of the groups: what they hear of roles, who waits for them, how long they outlive a daemon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.config.load import load_text
from tandem.config.schema import Config
from tandem.core.actions import GroupTransition, Transition
from tandem.core.limits import ANSWER_LIMIT
from tandem.core.state import Role
from tandem.core.timers import MILLISECOND
from tandem.services import manager
from tandem.serving import Serving, hang_limit

TEXT = """
config globals 'globals'
	option enabled '1'
	option router_id 'a'
config peer 'b'
	list address '192.168.1.3'
	option secret 'of the lab, and of nothing else'
config vrrp_instance
	option name 'V1'
	option interface 'eth0'
	option virtual_router_id '51'
	option advert_int '1'
	list virtual_ipaddress '192.168.1.4/24'
"""


def limit(config: Config, **settings: int) -> int:
    return hang_limit(replace(config, globals=replace(config.globals, **settings))) // MILLISECOND


def test_a_daemon_that_hangs_ends_before_its_peer_starts_the_services() -> None:
    config = load_text(TEXT, "tandem").config
    assert config is not None
    missed = config.globals.heartbeat_interval_ms * config.globals.heartbeat_miss
    assert missed < limit(config) == 275 < missed + ANSWER_LIMIT // MILLISECOND - 100
    assert limit(config, heartbeat_interval_ms=0) == 3000, "three adverts"
    assert limit(config, heartbeat_interval_ms=0, address_lifetime_s=2) == 2000
    assert limit(config, address_lifetime_s=0) == 0, "only the end of the daemon counts"
    alone = replace(config, peers=())
    assert limit(alone) == 3000


# The services of the groups


class Bench:
    """Serving beside a fake manager; `calls`: what the manager was told."""

    def __init__(self, *groups: tuple[str, Role], there: bool = True) -> None:
        self.calls: list[Any] = []
        self.left: dict[str | None, Callable[[], None]] = {}
        self.groups: dict[str, Any] = {
            name: SimpleNamespace(role=role, state=role.value, by_name={f"{name}-lan": None})
            for name, role in groups
        }
        router: Any = SimpleNamespace(groups=self.groups, tracker_changed=None)
        executor: Any = SimpleNamespace(take_services=lambda _manager: self.calls.append(("taken",)))
        nothing: Any = None
        self.serving = Serving(nothing, nothing, router, executor, nothing, nothing, "/nowhere")
        told = ("start", "join", "state", "serve", "judged", "close", "reload")
        self.manager: Any = SimpleNamespace(
            **{name: self.notes(name) for name in told},
            leave=lambda name, then: self.left.update({name: then}),
            status=lambda: ["web"], running={"web"}, health=["web: blocked"],
        )  # fmt: skip
        self.serving.manager = self.manager if there else None

    def notes(self, what: str) -> Any:
        return lambda *given: self.calls.append((what, *given))


def test_without_services_nothing_is_asked() -> None:
    bench, ends = Bench(("G", Role.ACTIVE), there=False), []
    bench.serving.told(GroupTransition("G", "MASTER"))
    bench.serving.judged("r2", False)
    bench.serving.close()
    bench.serving.leave(None, lambda: ends.append(1))
    assert ends == [1] and not bench.calls
    assert (bench.serving.status(), bench.serving.running, bench.serving.health) == ([], set(), {})


def test_a_manager_is_made_once_and_learns_the_roles_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(("G", Role.ACTIVE), ("H", Role.BACKUP), there=False)
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(manager, "Manager", lambda *given: made.append(given) or bench.manager)
    config: Any = load_text(TEXT, "tandem").config
    channel: Any = "the channel"
    bench.serving.follow(SimpleNamespace(config=config), channel)  # type: ignore[arg-type]
    assert not made, "no service is configured"
    service: Any = SimpleNamespace(name="web")
    plan: Any = SimpleNamespace(config=replace(config, services=(service,)))
    bench.serving.follow(plan, channel)
    assert made[0][2:6] == ((service,), ["b"], "a", hang_limit(config))
    roles = [("serve", "G", False), ("state", "H", Role.BACKUP.value)]
    assert bench.calls == [("taken",), ("start",), ("join", channel), *roles]
    bench.calls.clear()
    bench.serving.follow(plan, channel)
    assert bench.calls == [("reload", (service,), ["b"], hang_limit(config)), ("join", channel), *roles]


def test_a_role_reaches_the_services_of_its_group() -> None:
    bench = Bench(("G", Role.ACTIVE), ("H", Role.ACTIVE))
    bench.serving.told(GroupTransition("G", "MASTER"))
    bench.serving.told(Transition("H-lan", "FAULT", 100, ""))
    bench.serving.told(Transition("unknown", "FAULT", 100, ""))
    assert bench.calls == [("state", "G", "MASTER"), ("state", "H", "FAULT")]
    bench.calls.clear()
    bench.serving.judged("r2", True)
    bench.serving.close()
    assert bench.calls == [("judged", "r2", True), ("close",)]
    assert (bench.serving.status(), bench.serving.running) == (["web"], {"web"})
    assert bench.serving.health == {"services": ["web: blocked"]}
    bench.manager.health = []
    assert bench.serving.health == {}


def test_who_leaves_waits_for_the_services_of_every_group() -> None:
    bench, ends = Bench(("G", Role.ACTIVE), ("H", Role.BACKUP)), []
    bench.serving.leave(["G", "H", "gone"], lambda: ends.append(1))
    assert list(bench.left) == ["G", "H", "gone"]
    for name in ("G", "gone"):
        bench.left[name]()
        assert not ends
    bench.left["H"]()
    assert ends == [1]
    assert bench.calls == [("serve", "G", False), ("state", "H", Role.BACKUP.value)], "the roles of then"


def test_the_end_leaves_all_services_at_once() -> None:
    bench, ends = Bench(("G", Role.ACTIVE)), []
    bench.serving.leave(None, lambda: ends.append(1))
    assert list(bench.left) == [None]
    bench.left[None]()
    assert ends == [1] and not bench.calls
    bench.serving.leave([], lambda: ends.append(2))
    assert ends == [1, 2], "no group, nothing to wait for"
