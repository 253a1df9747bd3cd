# SPDX-License-Identifier: GPL-2.0-or-later
"""Voting: starts and ends the quorum, as far as it is configured; only this loads its modules."""

from __future__ import annotations

from tandem.core.events import ANYTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.core.quorum import Presence
    from tandem.log import Logger
    from tandem.loop import Loop
    from tandem.plan.result import Plan
    from tandem.router import Router
    from tandem.status_schema import QuorumStatus
    from tandem.witness.voter import Voter


class Voting:
    """The quorum of all groups, or none."""

    def __init__(self, loop: Loop, log: Logger, router: Router, presence: Callable[[str], Presence]) -> None:
        """`presence(name)` says whether a peer is there, see core/quorum.py."""
        self._presence = presence
        self._loop = loop
        self._log = log
        self._router = router
        self._voter: Voter | None = None
        self._of: object = None  # the settings that the voter was made of

    def take(self, plan: Plan) -> None:
        """Go over to a plan; a vote that this router has stays while the settings do. OSError."""
        config = plan.config
        settings = config.globals
        names = [peer.name for peer in config.peers]
        rules = (settings.witness_policy, settings.two_node, settings.wait_for_all)
        wanted = (rules, names, config.witnesses) if settings.witness_policy != "none" else None
        if wanted == self._of:
            return
        self.stop()
        self._of = wanted
        if wanted is not None:
            from tandem.witness.voter import Voter

            router = self._router
            self._voter = Voter(
                self._loop, self._log, config, lambda: router.groups, self._presence, router.dispatch
            )
            self._voter.start()
        else:
            for group in list(self._router.groups.values()):
                self._router.dispatch(group, ANYTHING)

    def stop(self) -> None:
        """Give the vote back."""
        voter, self._voter, self._of = self._voter, None, None
        if voter is not None:
            voter.close()

    @property
    def health(self) -> dict[str, list[str]]:
        """The groups without a quorum."""
        lacking = self._voter.lacking if self._voter is not None else {}
        return {"quorum": [f"{name}: {why}" for name, why in lacking.items()]} if lacking else {}

    def status(self) -> QuorumStatus | None:
        """Return what is known of the quorum; None: nobody asks for one."""
        return self._voter.status() if self._voter is not None else None
