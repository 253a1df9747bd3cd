# SPDX-License-Identifier: GPL-2.0-or-later
"""Standby that lasts: the groups that an operator has taken out of service, since when, and by whom.

The file holds [1, {group: [seconds since the epoch, who]}]. Only `tandem resume` takes a group out of it, so
that neither a restart nor a reboot puts a router back into service. `tandem standby --once` does not write.
"""

from __future__ import annotations

import json
import time

from tandem import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tandem.log import Logger

VERSION = 1
SIZE_MAX = 65536  # bytes
WHO_MAX = 64  # characters


class Standby:
    """The groups in standby. `save` writes the file's new content, without waiting for the disk."""

    def __init__(self, path: str, log: Logger, save: Callable[[bytes], None]) -> None:
        self._save = save
        self._lasting: dict[str, tuple[int, str]] = {}
        self._once: dict[str, tuple[int, str]] = {}
        try:
            self._lasting = parse(files.read(path, SIZE_MAX))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.error(f"{path} is not understood ({error}): no group is put into standby")

    def __contains__(self, group: object) -> bool:
        return group in self._lasting or group in self._once

    def begin(self, groups: Iterable[str], who: str, once: bool) -> None:
        """Remember that these groups are in standby from now on; a group that was already keeps its time."""
        where = self._once if once else self._lasting
        for group in groups:
            if group not in self._lasting:
                where[group] = self._once.pop(group, (round(time.time()), who[:WHO_MAX]))
        if not once:
            self._save(text(self._lasting))

    def end(self, groups: Iterable[str]) -> None:
        """Forget groups; nothing is written when none of them is in the file."""
        before = len(self._lasting)
        for group in groups:
            self._once.pop(group, None)
            self._lasting.pop(group, None)
        if len(self._lasting) < before:
            self._save(text(self._lasting))

    def of(self, group: str) -> tuple[int | None, str | None, bool]:
        """Return since when a group is in standby, by whom, and whether that outlives the daemon."""
        since, who = self._lasting.get(group) or self._once.get(group) or (None, None)
        return since, who, group in self._lasting


def parse(data: bytes) -> dict[str, tuple[int, str]]:
    """Return the groups of a file. ValueError: this version can't read the file."""
    try:
        version, groups = json.loads(data)
        if version != VERSION:
            raise ValueError(f"version {version!r}")
        return {str(name): (int(since), str(who)[:WHO_MAX]) for name, (since, who) in groups.items()}
    except (TypeError, AttributeError, RecursionError):
        raise ValueError("it has another form") from None


def text(groups: dict[str, tuple[int, str]]) -> bytes:
    """Return the content of a file."""
    return json.dumps([VERSION, groups]).encode() + b"\n"
