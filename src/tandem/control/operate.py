# SPDX-License-Identifier: GPL-2.0-or-later
"""The operator's commands about roles: `failover`, `standby` and `resume`."""

from __future__ import annotations

from tandem.core.events import Event, Failover, Resume, Standby
from tandem.core.state import Role
from tandem.core.tracking import OWNER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.control.standby import Standby as Standing
    from tandem.core.neighbour import Neighbours
    from tandem.core.sync_group import SyncGroup
    from tandem.log import Logger
    from tandem.router import Router

_EVENTS: dict[str, Event] = {"failover": Failover(), "standby": Standby(), "resume": Resume()}


def operate(
    router: Router,
    log: Logger,
    standby: Standing,
    request: dict[str, str],
    leave: Callable[[list[str], Callable[[], None]], None],
    done: Callable[[dict[str, object]], None],
) -> None:
    """Do one of the commands with a group, or with all groups. The sentence of a ValueError says why not.

    `leave` stops the services of active groups and then calls a function; `done` gets the states at the end.
    """
    command, who = request["command"], request.get("by", "")
    groups = _groups(router, request.get("group"))
    if command == "failover":
        groups = [running for running in groups if running.role is Role.ACTIVE]
        if not groups:
            raise ValueError("not MASTER here: run failover on the router that is")
        for running in groups:
            if all(member.settings.priority == OWNER for member in running.members):
                raise ValueError(f"{running.settings.name} owns its addresses (priority 255): use standby")
    if command != "resume" and "force" not in request:
        _check_successor(groups, router.neighbours)
    for running in groups:
        log.info(f"{running.settings.name}: {command} asked for{f' by {who}' if who else ''}")
    names = [running.settings.name for running in groups]
    served = [running.settings.name for running in groups if _leaves(running, command)]

    def carry_out() -> None:
        alive = list(router.groups.values())  # a reload may have come
        present = [running for running in groups if running in alive]
        router.leave(present, _EVENTS[command], lambda: answer(present))
        if command == "standby":
            standby.begin(names, who, once="once" in request)
        elif command == "resume":
            standby.end(names)

    def answer(present: list[SyncGroup]) -> None:
        done({"groups": {running.settings.name: running.state for running in present}})

    leave(served, carry_out)


def _leaves(running: SyncGroup, command: str) -> bool:
    """Whether the command takes the role from a group with services."""
    return command != "resume" and running.role is Role.ACTIVE and running.settings.services


def _check_successor(groups: list[SyncGroup], neighbours: Neighbours) -> None:
    """ValueError when these groups would leave nobody active, as far as the peers tell."""
    active = [running.settings.name for running in groups if running.role is Role.ACTIVE]
    refusal = neighbours.refusal(active) if active else None
    if refusal is not None:
        raise ValueError(f"nobody would take over ({refusal}); --force hands over all the same")


def _groups(router: Router, name: str | None) -> list[SyncGroup]:
    if name is None:
        return list(router.groups.values())
    if name not in router.groups:
        known = ", ".join(router.groups) or "none"
        raise ValueError(f"no group {name!r}; known: {known}")
    return [router.groups[name]]
