# SPDX-License-Identifier: GPL-2.0-or-later
"""Files in directories that others may write to, as /tmp, where OpenWrt keeps what a loss of power may cost.

Somebody may have put a link, a named pipe or a directory of his own where a file is expected. So no link is
followed, nothing waits for the other end of a pipe, and no file is written to: a new one takes its place,
whole or not at all.
"""

from __future__ import annotations

import errno
import os
import stat

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def opened(path: str, follow: bool = False) -> int:
    """A descriptor to read an ordinary file with. OSError, also for what is no file.

    `follow`: the path may be a link, in a directory that is only root's.
    """
    if not follow:
        _check_directory(path)
    fd = os.open(path, _READ & ~os.O_NOFOLLOW if follow else _READ)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not an ordinary file", path)
    return fd


def read(path: str, most: int, follow: bool = False) -> bytes:
    """The content of an ordinary file, see `opened`. OSError, also when it is longer than `most` bytes."""
    with open(opened(path, follow), "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"is longer than {most} bytes", path)
    return data


def replace(path: str, data: bytes, mode: int = 0o644) -> None:
    """Put a file with this content in the place of whatever is there. OSError: all is as it was.

    Mode and owner stay those of an ordinary file that was there.
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
        os.unlink(draft)  # of a former life, or somebody's trap
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
        os.rename(draft, path)
    except OSError:
        os.unlink(draft)
        raise


def _check_directory(path: str) -> None:
    """OSError when the directory, or the link to it, is somebody else's, who could exchange what is in it."""
    directory = os.path.dirname(path) or "."
    if os.lstat(directory).st_uid not in (0, os.geteuid()):
        raise PermissionError(errno.EPERM, "the directory belongs to another user", directory)
