# SPDX-License-Identifier: GPL-2.0-or-later
"""A reload: the groups of a new configuration that continue the role of running groups.

A virtual router stays the same as long as its identity does: VRID, family and interface, by which the RFC
knows it, and the version. The option table says which options these are, and the planner sends the names of
their fields with the plan. All other options are settings: peers, addresses, passwords. A group
continues the role of the group that its members were in; a new member joins in that role, and a member that
is gone takes only itself away.

Pure, and imports nothing but settings: the resident daemon uses it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem.config.schema import Config
from tandem.core.settings import Instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Succession:
    """Where a group comes from."""

    kept: tuple[str, ...] = ()  # members that run and go on; none: the group is new
    heir_of: str | None = None  # the running group whose role and standing it goes on with


def same_router(old: Instance, new: Instance, identity: tuple[str, ...]) -> bool:
    """Whether an instance with new settings is still the same virtual router."""
    return all(getattr(old, field) == getattr(new, field) for field in identity)


def succession(
    running: Mapping[str, Iterable[Instance]], config: Config, identity: tuple[str, ...]
) -> dict[str, Succession]:
    """Return where each group of `config` comes from; `running` has the members of each running group.

    `identity` names the fields of an instance that make it the virtual router that it is.
    """
    old = {instance.name: (group, instance) for group, members in running.items() for instance in members}
    new = {instance.name: instance for instance in config.instances}
    found = {}
    for group in config.groups:
        kept = tuple(
            name for name in group.members if name in old and same_router(old[name][1], new[name], identity)
        )
        founders = [old[name][0] for name in kept]
        first = group.name if group.name in founders else next(iter(founders), None)
        found[group.name] = Succession(kept, first)
    return found
