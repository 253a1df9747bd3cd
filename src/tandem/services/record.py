# SPDX-License-Identifier: GPL-2.0-or-later
"""The record: a file under /run that says which processes a daemon has started, for the one after a crash.

A line for each process: its id, the time of its start (/proc/PID/stat, field 22: no later process with the
same id has it) and the name of its service. The guardian has no name.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Process = tuple[int, int]  # its id, and when it was started, in clock ticks since boot

GUARDIAN = ""
SIZE_MAX = 1 << 16  # bytes


def started(pid: int) -> int | None:
    """Return when a process was started, in clock ticks since boot; None: it has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def write(path: str, processes: Mapping[str, Process]) -> None:
    """Replace the record. OSError: it can't be written."""
    lines = [f"{pid} {since} {name}\n" for name, (pid, since) in processes.items()]
    fresh = f"{path}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.writelines(lines)
    os.replace(fresh, path)


def read(path: str) -> dict[str, Process]:
    """Return the processes of a record that live."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, encoding="ascii", errors="replace") as file:
            lines = file.read(SIZE_MAX).splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        pid, _, rest = line.partition(" ")
        since, _, name = rest.partition(" ")
        if pid.isdigit() and since.isdigit() and lives(int(pid), int(since)):
            found[name] = int(pid), int(since)
    return found


def lives(pid: int, since: int) -> bool:
    """Whether the process that was started then has not ended."""
    return started(pid) == since
