# SPDX-License-Identifier: GPL-2.0-or-later
"""The "newc" cpio archives that the kernel takes as an initramfs.

Format: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel. Several archives may
stand one behind the other: the kernel unpacks them all, the later over the earlier.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath


def archive(files: Mapping[str, bytes | Path], executable: frozenset[str] | set[str] = frozenset()) -> bytes:
    """An archive of files, owned by root; a path stands for what is in the file and its mode.

    Directories above them come by themselves. `executable` names those given as bytes that get mode 755
    (the others 644).
    """
    entries: dict[str, tuple[int, bytes]] = {}
    for name, content in files.items():
        clean = name.strip("/")
        for parent in reversed(PurePosixPath(clean).parents[:-1]):
            entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))
        if isinstance(content, bytes):
            entries[clean] = (stat.S_IFREG | (0o755 if name in executable else 0o644), content)
        elif content.is_symlink():
            entries[clean] = (stat.S_IFLNK | 0o777, os.fsencode(os.readlink(content)))
        else:
            entries[clean] = (content.stat().st_mode, content.read_bytes())
    parts = [
        _entry(number, name, mode, data) for number, (name, (mode, data)) in enumerate(entries.items(), 1)
    ]
    whole = b"".join([*parts, _entry(0, "TRAILER!!!", 0, b"")])
    return whole + bytes(-len(whole) % 512)


def directory(root: Path, prefix: str = "") -> dict[str, Path]:
    """All files under a directory, as `archive` takes them."""
    return {f"{prefix}/{path.relative_to(root)}": path for path in _walk(root)}


def _walk(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or path.is_file():
            yield path


def _entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    encoded = os.fsencode(name) + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    # ino, mode, uid, gid, nlink, mtime, filesize, 4 device numbers, namesize, check
    numbers = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in numbers) + encoded
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
