# SPDX-License-Identifier: GPL-2.0-or-later
"""Which groups of a new configuration go on with the role of those that run.

A virtual router stays the same one as long as its identity does: VRID, family and interface, by which the
RFC knows it, and the version. All other options are settings of it: peers, addresses, passwords, the
interface that carries the addresses. A group goes on with the role of the group that its members were in;
a member that is new joins in that role, and one that has gone takes only itself away.

Pure, and imports nothing but settings: the resident daemon uses it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tandem.config.schema import Config
from tandem.core.settings import Instance

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

IDENTITY = ("interface", "virtual_router_id", "version", "family")


@dataclass(frozen=True, slots=True)
class Succession:
    """Where a group comes from."""

    kept: tuple[str, ...] = ()  # members that run and go on; none: the group is new
    heir_of: str | None = None  # the running group whose role and standing it goes on with


def same_router(old: Instance, new: Instance) -> bool:
    """Whether a virtual router with new settings is still the one that it was."""
    return all(getattr(old, field) == getattr(new, field) for field in IDENTITY)


def succession(running: Mapping[str, Iterable[Instance]], config: Config) -> dict[str, Succession]:
    """Each group of `config` with where it comes from; `running`: the members of each running group."""
    old = {instance.name: (group, instance) for group, members in running.items() for instance in members}
    new = {instance.name: instance for instance in config.instances}
    found = {}
    for group in config.groups:
        kept = tuple(name for name in group.members if name in old and same_router(old[name][1], new[name]))
        founders = [old[name][0] for name in kept]
        first = group.name if group.name in founders else next(iter(founders), None)
        found[group.name] = Succession(kept, first)
    return found
