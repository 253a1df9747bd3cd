# SPDX-License-Identifier: GPL-2.0-or-later
"""A stage for Following: kernel, netifd, loop and peers, which note what is done, in this order."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tandem.config.schema import Follow, Globals
from tandem.core.lease import AnyLease, Lease, Lease6, Session
from tandem.core.settings import Group
from tandem.core.timers import SECOND
from tandem.follow import following as module
from tandem.follow import losses
from tandem.follow.following import Following
from tandem.follow.lease import TOPIC, unpack
from tests.unit.test_follow_lease import MAC, STATUS

LEASE = Lease("wan", MAC, "203.0.113.7", 24, 100 * SECOND, (("0.0.0.0/0", "203.0.113.1"),))


class Stage:
    """The loop, the channel, netifd and the kernel; `said` has everything in its order."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.time = 0
        self.timers: dict[Any, tuple[int, Any]] = {}
        self.readers: dict[int, Any] = {}
        self.messages: list[Any] = []
        self.index: int | None = None
        self.ended: Any = None
        self.heard: Any = None  # gets acks
        self.gone: list[int] = []  # when a device went, with the connections of its address
        self.next_hops: tuple[tuple[str, str], ...] = ()  # as the kernel knows them
        self.refuses: Any = ()
        self.fails: tuple[str, ...] = ()  # how place, renew and prepare end
        self.lines: list[str] = []  # of the log
        self.table = ""  # of the kernel's sessions

    def now(self) -> int:
        return self.time

    def call_at(self, key: Any, when: int | None, callback: Any = None, _slack: int = 0) -> None:
        self.timers.pop(key, None)
        if when is not None:
            self.timers[key] = (when, callback)

    def run(self, until: int) -> None:
        while due := min((item for item in self.timers.items() if item[1][0] <= until), default=None,
                         key=lambda item: item[1][0]):  # fmt: skip
            key, (when, callback) = due
            del self.timers[key]
            self.time = max(self.time, when)
            callback(self.time)
        self.time = until

    def add_reader(self, fd: int, callback: Any) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    def subscribe(self, _topic: str, _subscriber: Any) -> None:
        pass

    def send(self, peer: str, topic: str, data: bytes) -> bool:
        assert topic == TOPIC
        [lease] = unpack(data, self.time).values()
        self.said.append(f"tell {peer} {_text(lease)}")
        return True

    def take(self) -> list[Any]:
        """What was said since the last time."""
        said, self.said = self.said, []
        return said


def _text(lease: AnyLease | None) -> str:
    """The address; of IPv6 the prefixes, and the addresses that networks of the router have of them."""
    if isinstance(lease, Lease6):
        return " ".join((*(one.address for one in lease.prefixes), *(one.address for _, one in lease.lans)))
    return lease.address if lease else "nothing"


STAGE: Stage


class FakeDevice:
    """A device whose hands only say what they do."""

    def __init__(self, plan: Any, *_parts: Any) -> None:
        self.plan = plan

    @property
    def index(self) -> int | None:
        return STAGE.index

    def create(self) -> tuple[str, ...]:
        STAGE.said.append("create")
        STAGE.index = None if STAGE.refuses else 7
        return STAGE.refuses

    def delete(self) -> None:
        STAGE.said.append("delete")
        STAGE.index = None

    release = begin_delete = delete

    def with_next_hops(self, lease: AnyLease, _known: AnyLease | None) -> AnyLease:
        return lease if isinstance(lease, Session) else replace(lease, next_hops=STAGE.next_hops)

    def hear_acks(self, _loop: Any, heard: Any) -> None:
        STAGE.heard = heard

    def __getattr__(self, name: str) -> Any:
        def act(lease: AnyLease | int | None = None, *_more: Any) -> tuple[str, ...]:
            if name != "prepare":
                about = _text(lease) if isinstance(lease, Lease | Lease6 | Session) else ""
                active = " (active)" if name == "remove" and _more[1] else ""
                STAGE.said.append(f"{name} {about}{active}".rstrip())
            return STAGE.fails

        return act


class FakeMonitor:
    """Notifications of the kernel."""

    def __init__(self, *, routes: bool) -> None:
        assert not routes
        self._fd = os.open("/dev/null", os.O_RDONLY)

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[Any]:
        messages, STAGE.messages = STAGE.messages, []
        return messages

    def close(self) -> None:
        os.close(self._fd)


class FakeProcesses:
    """Programs that end when the test says so."""

    def __init__(self, *_parts: Any, limit: int) -> None:
        STAGE.said.append(f"at most {limit} programs")

    def start(self, argv: list[str], limit: int, ended: Any) -> None:
        STAGE.said.append(" ".join(os.path.basename(word) for word in argv[1:]))
        STAGE.ended = ended

    def close(self) -> None:
        STAGE.said.append("end programs")


class Log:
    def __getattr__(self, _name: str) -> Any:
        return lambda *words: STAGE.lines.append(words[-1])


def plan(*follow: str, device: str = "wan0", session: str = "dial", port: str = "eth1") -> Any:
    config = SimpleNamespace(
        globals=Globals(), groups=(Group("G", ("lan",), follow=follow),),
        follows=tuple(
            Follow(name, "eth1", "wan0", MAC, session) if name == "wan" else Follow(name, "@wan")
            for name in follow
        ),
    )  # fmt: skip
    vmac = SimpleNamespace(name=device, base=port)
    followers = {name: vmac for name in follow if name == "wan"} if device else {}
    return SimpleNamespace(config=config, followers=followers)


def set_stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Put the fakes in the place of what Following uses."""
    global STAGE
    STAGE = Stage()
    monkeypatch.setattr(module, "Device", FakeDevice)
    monkeypatch.setattr(losses, "Monitor", FakeMonitor)
    monkeypatch.setattr(module, "Processes", FakeProcesses)
    return STAGE


def followed(stage: Stage) -> Following:
    """Return a Following of the network wan, with a peer."""
    anything: Any = stage
    rtnl: Any = SimpleNamespace(close=lambda: stage.said.append("close"))
    made = Following(
        anything, Log(), anything, rtnl, anything,  # type: ignore[arg-type]
        lambda method, name: stage.said.append(f"{method} {name}"),
        lambda: stage.gone.append(stage.time),
    )  # fmt: skip
    made.join(anything)
    made.take_plan(plan("wan"), ())
    made.peer_opened("r2")
    stage.take()
    return made


def bound(stage: Stage, found: Following, status: dict[str, Any] = STATUS) -> None:
    found.begin("G")
    found.status("wan", status, fresh=True)
    stage.take()
    stage.lines.clear()
