# SPDX-License-Identifier: GPL-2.0-or-later
"""A group that is handed the role waits for the end of the peer's stream, but not for a silent peer."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from tandem.core.limits import LAST_RECORDS_LIMIT, LAST_RECORDS_SILENCE
from tandem.core.timers import MILLISECOND
from tandem.replication.takeover import Takeover


class FakeLoop:
    def __init__(self) -> None:
        self.time = 1_000 * MILLISECOND
        self.timers: dict[Hashable, tuple[int, Callable[[int], None]]] = {}

    def now(self) -> int:
        return self.time

    def call_at(self, key: Hashable, when: int | None, callback: Any = None) -> None:
        self.timers.pop(key, None)
        if when is not None:
            self.timers[key] = when, callback

    def advance(self, ns: int) -> None:
        self.time += ns
        for key, (when, callback) in list(self.timers.items()):
            if when <= self.time:
                del self.timers[key]
                callback(self.time)


class FakeMirror:
    """It has everything in the kernel when `ready` is called."""

    def __init__(self) -> None:
        self.done: Callable[[], None] | None = None
        self.asked = 0

    def complete(self, done: Callable[[], None], own: object) -> None:
        assert own is None
        self.done = done
        self.asked += 1

    def ready(self) -> None:
        done, self.done = self.done, None
        assert done is not None
        done()


class Scene:
    def __init__(self) -> None:
        self.loop, self.mirror = FakeLoop(), FakeMirror()
        self.heard: list[int] = []  # of the peers that stream
        self.restored: list[str] = []
        self.takeover = Takeover(
            self.loop, self.mirror, lambda: self.heard, lambda: None, self.restored.append
        )


def test_nobody_waits_for_a_dead_router() -> None:
    scene = Scene()
    scene.heard = [scene.loop.now()]  # its session does not know yet
    scene.takeover.begin("G", handed_over=False)
    assert scene.restored == [] and scene.takeover.waiting
    scene.mirror.ready()
    assert scene.restored == ["G"] and not scene.takeover.waiting


def test_the_last_words_of_a_router_that_resigned() -> None:
    scene = Scene()
    scene.heard = [scene.loop.now()]
    scene.takeover.begin("G", handed_over=True)
    scene.mirror.ready()
    assert scene.restored == []
    for _ in range(5):  # it goes on speaking
        scene.loop.advance(LAST_RECORDS_SILENCE - 1)
        scene.heard = [scene.loop.now()]
        scene.loop.advance(1)
        if scene.mirror.done:
            scene.mirror.ready()
    assert scene.restored == []
    scene.heard = []
    scene.takeover.stream_ended()
    assert scene.restored == [] and scene.mirror.done is not None  # what came last goes to the kernel first
    scene.mirror.ready()
    assert scene.restored == ["G"]
    scene.loop.advance(10 * LAST_RECORDS_SILENCE)
    assert scene.restored == ["G"]


def test_one_that_goes_on_with_another_group_says_when_it_has_told_all() -> None:
    scene = Scene()
    scene.heard = [scene.loop.now()]  # and so on, for ever
    scene.takeover.begin("G", handed_over=True)
    scene.mirror.ready()
    assert scene.restored == []
    scene.takeover.handed_over()
    assert scene.restored == [] and scene.mirror.done is not None  # what came last goes to the kernel first
    scene.mirror.ready()
    assert scene.restored == ["G"]
    scene.takeover.begin("H", handed_over=True)
    scene.mirror.ready()
    assert scene.restored == ["G"]  # that was about G


def test_it_may_say_so_before_we_take_over() -> None:
    scene = Scene()
    scene.heard = [scene.loop.now()]
    scene.takeover.handed_over()
    scene.loop.advance(900 * MILLISECOND)  # the skew time
    scene.heard = [scene.loop.now()]
    scene.takeover.begin("G", handed_over=True)
    scene.mirror.ready()
    assert scene.restored == ["G"]
    scene.takeover.handed_over()
    scene.loop.advance(LAST_RECORDS_LIMIT)
    scene.heard = [scene.loop.now()]
    scene.takeover.begin("H", handed_over=True)
    scene.mirror.ready()
    assert scene.restored == ["G"]  # that was too long ago


def test_the_path_was_what_it_lost() -> None:
    scene = Scene()
    scene.heard = [scene.loop.now() - 900 * MILLISECOND]
    scene.takeover.begin("G", handed_over=True)
    scene.mirror.ready()
    assert scene.restored == []
    scene.loop.advance(LAST_RECORDS_SILENCE)
    scene.mirror.ready()
    assert scene.restored == ["G"]


def test_the_wait_is_bounded() -> None:
    scene = Scene()
    scene.takeover.begin("G", handed_over=True)
    began = scene.loop.now()
    while not scene.restored and scene.loop.now() < began + 2 * LAST_RECORDS_LIMIT:
        scene.heard = [scene.loop.now()]  # it never ends
        if scene.mirror.done:
            scene.mirror.ready()
        scene.loop.advance(MILLISECOND)
    assert LAST_RECORDS_LIMIT <= scene.loop.now() - began <= LAST_RECORDS_LIMIT + 5 * MILLISECOND


def test_two_groups_and_one_that_became_active_without_us() -> None:
    scene = Scene()
    scene.takeover.begin("G", handed_over=False)
    scene.takeover.begin("H", handed_over=False)
    scene.mirror.ready()
    assert scene.restored == ["G", "H"]
    scene.takeover.begin("K", handed_over=True)
    scene.takeover.finish()
    assert scene.restored == ["G", "H", "K"] and not scene.loop.timers
