# SPDX-License-Identifier: GPL-2.0-or-later
"""Files in directories that others may write to, as /tmp, where OpenWrt keeps its volatile state.

Another user may have put a link, a named pipe or a directory in the place of a file. These functions follow
no link, never wait for the other end of a pipe, and write to no existing file: a new one replaces it as a
whole.
"""

from __future__ import annotations

import errno
import os
import stat

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def opened(path: str, follow: bool = False) -> int:
    """Return a descriptor to read an ordinary file. OSError, also for anything that is no ordinary file.

    `follow`: the path may be a link, in a directory that belongs to root.
    """
    if not follow:
        _check_directory(path)
    fd = os.open(path, _READ & ~os.O_NOFOLLOW if follow else _READ)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not an ordinary file", path)
    return fd


def read(path: str, most: int, follow: bool = False) -> bytes:
    """Return the content of an ordinary file, see `opened`. OSError, also for more than `most` bytes."""
    with open(opened(path, follow), "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"is longer than {most} bytes", path)
    return data


def replace(path: str, data: bytes, mode: int = 0o644, sync: bool = False) -> None:
    """Replace a path by a file with this content. OSError: nothing has changed.

    Mode and owner stay those of an ordinary file that was there. `sync`: the content is on the disk
    before the file has its name.
    """
    _check_directory(path)
    owner = None
    try:
        before = os.lstat(path)
    except FileNotFoundError:
        pass
    else:
        if stat.S_ISREG(before.st_mode):
            mode, owner = stat.S_IMODE(before.st_mode), (before.st_uid, before.st_gid)
    draft = f"{path}.tandem"
    try:
        os.unlink(draft)  # of a former life, or a trap
    except FileNotFoundError:
        pass
    fd = os.open(draft, _NEW, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if owner is not None:
                os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            if sync:
                os.fsync(fd)
        os.rename(draft, path)
    except OSError:
        os.unlink(draft)
        raise


def write_private(path: str, text: str) -> None:
    """Make or replace a file, mode 0600; a loss of power leaves the old or the new one. OSError."""
    import tempfile  # the daemon never writes so, and spares its memory

    descriptor, name = tempfile.mkstemp(prefix=".tandem-", dir=os.path.dirname(path) or ".")  # mode 0600
    try:
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _check_directory(path: str) -> None:
    """Raise OSError when another user owns the directory or the link to it, and could exchange the file."""
    directory = os.path.dirname(path) or "."
    if os.lstat(directory).st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "the directory belongs to another user", directory)
