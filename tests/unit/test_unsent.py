# SPDX-License-Identifier: GPL-2.0-or-later
"""After adverts could not be sent for a while, hosts are told again where the addresses are."""

from __future__ import annotations

from typing import Any

import pytest

from tandem.core.actions import SendAdvert
from tandem.core.settings import Instance
from tandem.effects.endpoint import Endpoint
from tandem.effects.executor import SILENT, Executor


class Quiet:
    """A stand-in for all parts that this test does not look at."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_args, **_named: ()


class Announcer:
    def __init__(self) -> None:
        self.sent: list[int] = []

    def send(self, _ifindex: int, _frames: tuple[bytes, ...], repeat: int) -> int:
        self.sent.append(repeat)
        return 0


@pytest.mark.parametrize(
    ("failures", "installed", "announced"),
    [
        (SILENT, True, [5]),
        (SILENT + 7, True, [5]),
        (SILENT - 1, True, []),
        (SILENT, False, []),
        (0, True, []),
    ],
)
def test_announced_again(
    failures: int, installed: bool, announced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    announcer = Announcer()
    quiet: Any = Quiet()
    executor = Executor(quiet, quiet, announcer, quiet, quiet.told, quiet.caught, quiet)  # type: ignore[arg-type]
    plan: Any = Quiet()
    plan.vmac = None
    endpoint = Endpoint(Instance("lan", "br-lan", 51), plan)
    endpoint.installed = installed
    endpoint.frames = (("br-lan", (b"frame",)),)
    executor.endpoints["lan"] = endpoint
    answers = [1] * failures + [0, 0]
    monkeypatch.setattr(Endpoint, "advertise", lambda *_: answers.pop(0))
    while answers:
        executor.execute([SendAdvert("lan", 100)])
    assert announcer.sent == announced
    assert endpoint.counters.get("send_errors", 0) == failures
