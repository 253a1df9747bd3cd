# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernel settings under /proc/sys: set while someone needs them, put back afterwards.

Each setting is held by owners (instances); the value found first comes back when the last owner lets
go. A setting that someone else has changed meanwhile is left as it is.

The original values are kept in a file too, written before a setting is touched: the next
daemon after a `kill -9` takes them over, so that it never mistakes our values for the user's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable

from tandem import files

Path = tuple[str, ...]
"""Components below /proc/sys. Interface names may hold dots, so that there are no dotted keys."""

Setting = tuple[Path, str]

_LARGEST = 1 << 20  # bytes of the state file
STATE_FILE = "/var/run/tandem/sysctls.json"


def ipv4(interface: str, name: str) -> Path:
    """The path of net.ipv4.conf.`interface`.`name`."""
    return ("net", "ipv4", "conf", interface, name)


def ipv6(interface: str, name: str) -> Path:
    """The path of net.ipv6.conf.`interface`.`name`."""
    return ("net", "ipv6", "conf", interface, name)


# The kernel makes a new IPv6 address usable in a work queue (net/ipv6/addrconf.c, addrconf_dad_work). Until
# that has run, an answer to the kernel's neighbour solicitation is dropped, and the next one would go out a
# second later (RFC 4861 section 10, RETRANS_TIMER). It goes out soon, and the kernel asks as long as before.
# The time is a whole number of ticks, whatever their rate: otherwise the kernel shows another one.
SOLICIT = (("retrans_time_ms", "60"), ("mcast_solicit", "50"), ("ucast_solicit", "50"))


def solicit(interface: str) -> tuple[Setting, ...]:
    """The settings by which an interface whose addresses have just come finds its neighbours, in IPv6."""
    return tuple((("net", "ipv6", "neigh", interface, name), value) for name, value in SOLICIT)


class Sysctls:
    """The settings that are held, their originals, and the file that survives us."""

    def __init__(self, state_file: str = STATE_FILE, root: str = "/proc/sys") -> None:
        self._state_file = state_file
        self._root = root
        self._originals: dict[Path, tuple[str, str]] = {}  # (found, set by us), in the order of setting
        self._owners: dict[Path, dict[str, str]] = {}  # who wants which value

    def load(self) -> list[str]:
        """Take over the settings that an earlier daemon left behind; those nobody holds again are restored by
        `settle`. Returns what was wrong with the file.
        """
        try:
            rows = json.loads(files.read(self._state_file, _LARGEST))
            left = {tuple(path): (str(found), str(ours)) for path, found, ours in rows}
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            return [f"{self._state_file}: {error}"]
        bad = [path for path in left if not _is_path(path)]
        self._originals = {path: values for path, values in left.items() if _is_path(path)} | self._originals
        return [f"{self._state_file}: not a setting: {path!r}" for path in bad]

    def settle(self) -> list[str]:
        """Restore the settings that nobody holds: call this after `load` and the first `hold`s."""
        return self._put_back([path for path in self._originals if path not in self._owners])

    def hold(self, owner: str, settings: Iterable[Setting]) -> list[str]:
        """Set everything in `settings` on behalf of `owner`; the problems, for people.

        What the owner has held before and doesn't want any more is put back. When two owners
        want different values of one setting, the last one has its way.
        """
        problems: list[str] = []
        wanted: dict[Path, str] = {}
        change: list[Setting] = []
        for path, value in settings:
            present = self._present(path)
            if present is None:
                problems.append(f"no setting {'/'.join(path)}")
                continue
            wanted[path] = value
            found, ours = self._originals.get(path, (present, present))
            # Not ours any more: someone has changed it, and theirs is what comes back.
            self._originals[path] = (found if present == ours else present, value)
            if present != value:
                change.append((path, value))
        dropped = self._disown(owner, keep=wanted)
        for path, value in wanted.items():
            self._owners.setdefault(path, {})[owner] = value
        problems += self._save()
        for path, value in change:
            if error := self._write(path, value):
                problems.append(error)
        return problems + (self._put_back(dropped) if dropped else [])

    def release(self, owner: str) -> list[str]:
        """Put back what only `owner` has held; the problems."""
        return self._put_back(self._disown(owner, keep=()))

    def restore_all(self) -> list[str]:
        """Put back everything and remove the file; the problems."""
        self._owners.clear()
        return self._put_back(list(self._originals))

    def forget(self, interface: str) -> None:
        """Drop what is known of an interface that has vanished: its settings went with it."""
        gone = [path for path in self._originals if interface in path[3:4]]
        for path in gone:
            del self._originals[path]
            self._owners.pop(path, None)
        if gone:
            self._save()

    def read(self, path: Path) -> str | None:
        """Return the value from before Tandem; None: no such setting. ValueError: a bad path."""
        present = self._present(path)
        found, ours = self._originals.get(path, (present, None))
        return found if present == ours else present

    def _present(self, path: Path) -> str | None:
        try:
            with open(self._file(path), encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return None

    def _disown(self, owner: str, keep: Container[Path]) -> list[Path]:
        """Strike `owner` off all paths but `keep`; those that nobody holds any more."""
        orphans = []
        for path in [path for path, owners in self._owners.items() if owner in owners and path not in keep]:
            del self._owners[path][owner]
            if not self._owners[path]:
                del self._owners[path]
                orphans.append(path)
        return orphans

    def _put_back(self, paths: list[Path]) -> list[str]:
        problems = []
        for path in reversed(paths):
            found, ours = self._originals.pop(path)
            if found != ours and self._present(path) == ours and (error := self._write(path, found)):
                problems.append(error)
        return problems + self._save()

    def _write(self, path: Path, value: str) -> str | None:
        # Unbuffered: the kernel takes a value in one write, and says there what is wrong with it.
        try:
            with open(self._file(path), "wb", buffering=0) as file:
                file.write(value.encode("ascii"))
        except OSError as error:
            return f"can't set {'/'.join(path)} to {value}: {error.strerror}"
        return None

    def _file(self, path: Path) -> str:
        if not _is_path(path):
            raise ValueError(f"not a setting: {path!r}")
        return "/".join((self._root, *path))

    def _save(self) -> list[str]:
        """Write the file anew; a reader finds the old or the new one, never half of it."""
        if not self._originals:
            try:
                os.unlink(self._state_file)
            except OSError:
                pass  # it was not there, or is in a directory that we can't write to either
            return []
        rows = [(path, found, ours) for path, (found, ours) in self._originals.items()]
        try:
            os.makedirs(os.path.dirname(self._state_file), 0o755, exist_ok=True)
            files.replace(self._state_file, json.dumps(rows).encode(), 0o600)
        except OSError as error:
            return [f"{self._state_file}: {error.strerror}"]
        return []


def _is_path(path: object) -> bool:
    """Whether every component names one thing below its parent, and nothing above it."""
    return (
        isinstance(path, tuple)
        and len(path) > 1
        and all(isinstance(part, str) and part not in ("", ".", "..") and "/" not in part for part in path)
        and not any("\0" in part for part in path)
    )
