# SPDX-License-Identifier: GPL-2.0-or-later
"""Shared parts of the tests of sync groups: groups of one to four members, and their actions at each step."""

from __future__ import annotations

from typing import Any

from tandem.core.actions import (
    Action,
    Announce,
    Beat,
    Greet,
    GroupTransition,
    Install,
    Remove,
    SendAdvert,
    Transition,
    Withdraw,
)
from tandem.core.sync_group import SyncGroup
from tests.unit.scenario import instance, sync_group

NAMES = ("LAN", "WAN", "DMZ", "V6")
SIZES = (1, 2, 3, 4)


def pack(size: int, **settings: Any) -> SyncGroup:
    """A group of that many members, all with the same settings."""
    return sync_group(*(instance(name, **settings) for name in NAMES[:size]))


def told(size: int, state: str, why: str, priority: int = 100) -> list[Action]:
    """Every member's transition, and the group's where there is one."""
    actions: list[Action] = [Transition(name, state, priority, why) for name in NAMES[:size]]
    return actions if size == 1 else [*actions, GroupTransition("G", state)]


def comes_up(size: int) -> list[Action]:
    """Every member tells its LAN that this router is there, then the transitions."""
    return [*(Greet(name) for name in NAMES[:size]), *told(size, "BACKUP", "started")]


def becomes_active(size: int, why: str, priority: int = 100) -> list[Action]:
    """Step by step for all: the routers of every LAN are told before the first effect."""
    actions: list[Action] = [SendAdvert(name, priority) for name in NAMES[:size]]
    actions.append(Install(NAMES[:size]))
    actions += [Announce(name, 5) for name in NAMES[:size]]
    return actions + told(size, "MASTER", why, priority)


def leaves(size: int, state: str, why: str, priority: int = 100) -> list[Action]:
    """Every effect is gone before the first goodbye, which is the neighbours' heartbeat."""
    goodbyes = [Beat("G" if size > 1 else NAMES[0]), *(SendAdvert(name, 0) for name in NAMES[:size])]
    return [
        Remove(NAMES[:size]), *goodbyes, Withdraw(NAMES[:size]), *told(size, state, why, priority)
    ]  # fmt: skip
