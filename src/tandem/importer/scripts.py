# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands in configurations of other programs: the paths of their programs, and those not needed any more.

keepalived looks for a program without a path in PATH (find_path() of its lib/notify.c). Tandem requires the
whole path, so the import looks for it, not the daemon.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tandem.importer.draft import Draft, Origin, Section

NOTIFIES = (
    "notify_master", "notify_backup", "notify_fault", "notify_stop", "notify_master_rx_lower_pri", "notify",
)  # fmt: skip
_CONNTRACKD_SCRIPT = "primary-backup.sh"  # which comes with conntrackd


def _nowhere(_name: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The programs and the tables of the router whose configuration is imported."""

    program: Callable[[str], str | None] = _nowhere  # the path of a program in PATH
    tables: Mapping[str, int] = field(default_factory=dict)  # routing tables by name


def put_command(
    draft: Draft, section: Section, name: str, command: list[str], where: Origin, surroundings: Surroundings
) -> None:
    """Set an option that is a command, with the whole path of its program."""
    program, *arguments = command
    if program.startswith("<"):
        # keepalived's way to ask whether a file can be opened: it leaves the line to a shell
        draft.put(section, name, shlex.join(["/bin/sh", "-c", " ".join(command)]), where)
        return
    if "/" not in program:
        path = surroundings.program(program)
        if path is None:
            reason = (
                f"there is no program '{program}' in PATH here, and keepalived ignores it then: write its"
                " whole path, or import on the router itself"
            )
            if name == "script":
                draft.lose(where, reason)  # the check would be lost
            else:
                draft.leave_out(where, reason)
            return
        draft.remark(where, f"'{program}' is {path} here, found in PATH as keepalived does")
        program = path
    draft.put(section, name, shlex.join([program, *arguments]), where)


def leave_to_replication(draft: Draft) -> None:
    """Leave out the scripts that told conntrackd of the role, where its configuration is imported too."""
    if not any(section.type == "conntrack_sync" for section in draft.sections):
        return
    for section in draft.sections:
        for entry in section.entries:
            if entry.name in NOTIFIES and _is_conntrackds(entry.value):
                reason = "not needed any more: conntrack_sync follows the role by itself"
                draft.leave_out(entry.origin, reason)
                section.drop(entry)


def _is_conntrackds(command: str) -> bool:
    return any(word.rpartition("/")[2] == _CONNTRACKD_SCRIPT for word in shlex.split(command))
