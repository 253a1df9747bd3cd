# SPDX-License-Identifier: GPL-2.0-or-later
"""Telling: who hears of a change of role or of a service: log, history, ubus, the parts that follow it."""

from __future__ import annotations

from tandem.control.history import entry, reason, service_entry
from tandem.core.actions import Contested, Degraded, GroupTransition, Transition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.control.history import History
    from tandem.control.history_file import HistoryFile
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.router import Router
    from tandem.status_schema import Entry

    Hears = Callable[[Transition | GroupTransition], None]


class Telling:
    """Tells what has happened: the parts in `hear` get each change of role, in this order.

    `contested` gets what a group says of a rival, and `publish` each entry of the history, for ubus.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        history: History,
        history_file: HistoryFile,
        router: Router,
        hear: tuple[Hears, ...],
        contested: Callable[[Contested], None],
        publish: Callable[[Entry], None],
    ) -> None:
        self._loop = loop
        self._log = log
        self._history = history
        self._history_file = history_file
        self._router = router
        self._hear = hear
        self._contested = contested
        self._publish = publish

    def told(self, action: Transition | GroupTransition | Contested | Degraded) -> None:
        """Tell what a group has done."""
        if isinstance(action, Degraded):
            text = f"{action.group}: {action.why}, and no other router is better: it takes part"
            self._log.limited(("degraded", action.group), "warning", text)
            return
        if isinstance(action, Contested):
            why = "a router of lower priority was active too: the addresses are announced again"
            self._log.limited(("contested", action.instance), "info", f"{action.instance}: {why}")
            self._contested(action)
            return
        self._remember(entry(action, *self._router.course(action)))
        if isinstance(action, Transition):
            self._router.note(action)
            why = f" ({reason(action)})" if action.why else ""
            text = f"{action.instance}: {action.state}{why}, priority {action.priority}"
            self._log.change(("role", action.instance), "info", text)
        for hear in self._hear:
            hear(action)

    def service(self, name: str, state: str, why: str) -> None:
        """Tell that a service has changed its state."""
        self._remember(service_entry(name, state, why))

    def _remember(self, found: Entry) -> None:
        self._history.note(found, self._loop.now())
        self._history_file.changed()
        self._publish(found)
