# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that Tandem starts: where they are found, whom they run as, and who could replace them."""

from __future__ import annotations

import os
import pwd
import stat
import sys
from dataclasses import dataclass

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # for children: holds `tandem`

_CLI = """\
import sys
sys.path.insert(0, sys.argv[1])
from tandem.control.cli import main
sys.exit(main(sys.argv[2:]))
"""


def own_command(package_dir: str, *arguments: str) -> list[str]:
    """Return the command that runs `tandem` with these arguments, from the package in `package_dir`."""
    return [sys.executable, "-I", "-c", _CLI, package_dir, *arguments]


@dataclass(frozen=True, slots=True)
class Credentials:
    """The user and groups that a child runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str  # for USER and LOGNAME
    home: str


def credentials_of(user: str | None, group: str | None) -> Credentials | None:
    """Return the credentials of `user` in `group` (None: the user's own). KeyError: one is unknown.

    None when neither is given: the child then runs as the daemon does.
    """
    if user is None and group is None:
        return None
    entry = pwd.getpwnam(user) if user is not None else pwd.getpwuid(os.getuid())
    gid = entry.pw_gid if group is None else _number_of(group)
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return Credentials(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)


def _number_of(group: str) -> int:
    import grp  # a library of its own, for the few configurations that name a group

    return grp.getgrnam(group).gr_gid


def insecure_path(path: str, uid: int = 0) -> str | None:
    """Return why another user could replace the command at `path`, which runs as `uid`; None: nobody can.

    Only root's commands are looked at, like keepalived's enable_script_security: every part
    of the path, and of what it links to, must be root's and writable by root alone; a
    directory may be writable if it is sticky. A file that is not there is not insecure.
    """
    if uid != 0:
        return None
    for candidate in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        parts = candidate.split("/")
        for end in range(1, len(parts) + 1):
            part = "/".join(parts[:end]) or "/"
            try:
                status = os.lstat(part)
            except OSError:
                return None
            if status.st_uid != 0:
                return f"{part} is owned by user {status.st_uid}"
            if stat.S_ISLNK(status.st_mode) or (
                stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
            ):
                continue
            if status.st_mode & stat.S_IWOTH:
                return f"{part} is writable by everyone"
            if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
                return f"{part} is writable by group {status.st_gid}"
    return None


def find_program(name: str) -> str:
    """Return the absolute path of a system program; if it is missing, the path where it should be."""
    paths = [f"{directory}/{name}" for directory in PATH.split(":")]
    return next((path for path in paths if os.access(path, os.X_OK)), paths[0])
