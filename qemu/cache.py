# SPDX-License-Identifier: GPL-2.0-or-later
"""The cache of builds: directories named by a hash of all their ingredients.

They are in ~/.cache/tandem-qemu, or where TANDEM_QEMU_CACHE says. A directory appears whole or not at
all: it is built beside its place and renamed. Removing any of them, or all, costs only time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(os.environ.get("TANDEM_QEMU_CACHE") or Path.home() / ".cache/tandem-qemu")
KEPT = 4  # of each kind; older ones are removed


def key(parts: Iterable[str | bytes | Path]) -> str:
    """A hash of texts, bytes and files (a path stands for what is in the file)."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else part
        data = data.encode() if isinstance(data, str) else data
        whole.update(len(data).to_bytes(8, "big") + data)
    return whole.hexdigest()[:16]


def tree_key(root: Path) -> str:
    """A hash of names, kinds, sizes and times of all that is under a directory (not of what is in them)."""
    lines = []
    for directory, directories, files in os.walk(root):
        directories.sort()
        for name in sorted(files + directories):
            path = Path(directory, name)
            status = path.lstat()
            link = os.readlink(path) if path.is_symlink() else ""
            size = 0 if path.is_dir() else status.st_size
            lines.append(f"{path.relative_to(root)} {status.st_mode:o} {size} {int(status.st_mtime)} {link}")
    return key(lines)


@contextmanager
def lock(name: str) -> Iterator[None]:
    """One builder at a time, of all processes."""
    ROOT.mkdir(parents=True, exist_ok=True)
    with (ROOT / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """The directory of that kind and key; `make` fills it when it does not exist."""
    place = ROOT / f"{kind}-{name}"
    with lock(kind):
        if place.is_dir():
            os.utime(place)
            return place
        for left in ROOT.glob(f"{kind}-*.part"):
            shutil.rmtree(left)
        part = ROOT / f"{kind}-{name}.part"
        part.mkdir()
        make(part)
        part.rename(place)
        found = sorted(ROOT.glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in found[KEPT:]:
            shutil.rmtree(old)
        return place
