# SPDX-License-Identifier: GPL-2.0-or-later
"""Witness hosts: does a ping or a TCP connection reach one of them? A router that reaches none is cut off."""

from __future__ import annotations

from tandem.core.rise_fall import RiseFall
from tandem.core.timers import MILLISECOND, SECOND
from tandem.health.ping import Ping
from tandem.health.probe import Probe
from tandem.health.tcp import Reached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tandem.config.schema import Witness
    from tandem.log import Logger
    from tandem.loop import Loop

TIMEOUT = SECOND  # for an answer, or the interval if that is shorter


def _question(settings: Witness, loop: Loop) -> Ping | Reached:
    timeout = min(TIMEOUT, settings.interval_ms * MILLISECOND - 10 * MILLISECOND)
    if settings.kind == "tcp":
        return Reached(loop, timeout, settings.address, settings.port)
    return Ping(loop, timeout, settings.address)


class Hosts:
    """Asks all hosts; `tell(reachable)` gets whether any is up, when that changes."""

    def __init__(
        self, loop: Loop, log: Logger, settings: Sequence[Witness], tell: Callable[[bool], None]
    ) -> None:
        self._tell = tell
        self._reachable = False
        self._probes = {
            one.name: Probe(
                "witness",
                one.name,
                one.interval_ms * MILLISECOND,
                _question(one, loop),
                RiseFall(1, one.fall, False),
                loop,
                log,
                self._changed,
            )
            for one in settings
        }

    def start(self) -> None:
        """Ask the first time."""
        for probe in self._probes.values():
            probe.start()

    def close(self) -> None:
        """Ask no more."""
        for probe in self._probes.values():
            probe.stop()

    def states(self) -> dict[str, bool]:
        """Return whether each host is up."""
        return {name: bool(probe.up) for name, probe in self._probes.items()}

    def _changed(self, _name: str, _up: bool) -> None:
        reachable = any(self.states().values())
        if reachable != self._reachable:
            self._reachable = reachable
            self._tell(reachable)
