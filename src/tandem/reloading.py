# SPDX-License-Identifier: GPL-2.0-or-later
"""Reloading: plans the configuration anew and goes over to the new plan, or stays with the old one."""

from __future__ import annotations

from tandem.plan.result import Plan, PlanError
from tandem.scheduling import settle_memory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.control.server import Reply
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.runner import Planning
    from tandem.router import Router
    from tandem.scripts import Runners, Scripts

SETTLE_AFTER = 3_000_000_000  # ns from a reload: what it ended has said goodbye to its peers then
STOPPING: dict[str, object] = {"ok": False, "error": "tandemd is stopping"}


class Reloading:
    """The reloads of one run of the daemon.

    `go_over(plan, runners)` carries a plan out. If it fails, it is called once more, with the old plan.
    """

    def __init__(
        self,
        loop: Loop,
        log: Logger,
        config_file: str,
        planning: Planning,
        router: Router,
        scripts: Scripts,
        go_over: Callable[[Plan, Runners], None],
        caught: Callable[[Exception], None],
    ) -> None:
        self._loop = loop
        self._log = log
        self._config_file = config_file
        self._planning = planning
        self._router = router
        self._scripts = scripts
        self._go_over = go_over
        self._caught = caught
        self._replies: list[Reply] = []
        self._stopping = False

    def reload(self, reply: Reply | None = None) -> None:
        """Plan the configuration anew, off the loop; `reply` gets what came of it."""
        if reply is not None:
            self._replies.append(reply)
        if self._stopping:
            self._answer(STOPPING)
            return
        self._planning.again(self._planned)

    def stop(self) -> None:
        """Go over to no other plan from now on."""
        self._stopping = True

    def _planned(self, outcome: Plan | PlanError) -> None:
        if isinstance(outcome, PlanError):
            self._refuse(outcome)
        elif not outcome.config.globals.enabled:
            # Ended by itself it would be started again: only who started it can stop it.
            self._refuse(PlanError((f"{self._config_file}: option enabled is 0: stop the service",)))
        elif self._stopping:
            self._answer(STOPPING)
        elif self._take(outcome):
            self._answer({"ok": True, "result": "reloaded"})

    def _refuse(self, error: PlanError) -> None:
        for line in error.errors:
            self._log.error(line)
        refused = "the configuration is not usable: the old one stays"
        self._log.error(f"reload: {refused}")
        self._answer({"ok": False, "error": refused, "errors": list(error.errors)})

    def _take(self, plan: Plan) -> bool:
        """Go over to `plan`, or back to the old one when that fails on the way; whether it was taken."""
        before = self._router.plan
        try:
            # Steps that may be refused come before anything has changed.
            runners = self._scripts.prepare(plan.config)
        except OSError as error:
            self._refuse(PlanError((str(error),)))
            return False
        old_runners = self._scripts.runners
        try:
            self._go_over(plan, runners)
        except Exception as error:  # noqa: BLE001 - half a reload would be worse
            if not isinstance(error, OSError):
                self._caught(error)
            self._go_over(before, old_runners)
            self._refuse(PlanError((f"reload failed: {error}",)))
            return False
        self._log.info(f"{self._config_file} reloaded")
        self._loop.call_at("memory", self._loop.now() + SETTLE_AFTER, lambda _now: settle_memory())
        return True

    def _answer(self, response: dict[str, object]) -> None:
        replies, self._replies = self._replies, []
        for reply in replies:
            reply(response)
