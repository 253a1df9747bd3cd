# SPDX-License-Identifier: GPL-2.0-or-later
"""The plan that is kept for the next start, with what it was made of.

The planner takes half of a start, and most starts find what the last one found: procd starts a daemon again
that was killed. Most reloads find the same, too. A plan is therefore kept beside the control socket, with the
signature of everything that the planner read. A start compares the signatures, and needs no planner when all
are the same. At a reload the planner compares them itself, before it loads its modules: a file may be on a
disk that hangs.

    first line    version of Tandem and of Python, and the configuration file
    16 bytes      digest of the rest
    the rest      the planner's output, of which "inputs" are pairs of path and signature

The plan holds secrets, and marshal trusts what it reads: the file is closed to others, and must be ours.
"""

from __future__ import annotations

import marshal
import os
import stat
import sys
from _blake2 import blake2b

from tandem import __version__, files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.plan.result import Plan

LARGEST = 16 << 20  # bytes of a plan
_HASHED = 1 << 20  # bytes; of larger files and of code the signature is size and times
_DIGEST = 16
CODE = (".py", ".pyc", ".so")

Signature = tuple[object, ...]


def sign(path: str) -> Signature | None:
    """Return what is the same as long as what a path names is the same; None: it may always be another.

    A path that ends in "/" is a question for a directory, whatever is in it.
    """
    if path.endswith("/"):
        return (os.path.isdir(path),)
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return found.st_mtime_ns, found.st_ino
        if not stat.S_ISREG(found.st_mode):
            return None  # a pipe gives what it has once
        if path.endswith(CODE) or found.st_size > _HASHED:
            return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
        content = files.read(path, _HASHED, follow=True)
    except OSError as error:
        return (error.errno,)
    return found.st_uid, stat.S_IMODE(found.st_mode), blake2b(content, digest_size=_DIGEST).digest()


class Kept:
    """The file at `path` with the plan of `config_file`; `tell` gets a line about a file that is ignored."""

    def __init__(self, path: str, config_file: str, tell: Callable[[str], None]) -> None:
        self.path = path
        self._head = f"tandem {__version__}, {sys.version!a}, {config_file!a}\n".encode()
        self._tell = tell

    def load(self) -> Plan | None:
        """Return the plan, if it is still that of this router."""
        from tandem.plan.result import PlanError, load_plan  # a planner that keeps its plan does without

        output = self.output()
        try:
            return None if output is None else load_plan(output)
        except PlanError as error:
            self._ignored(f"it holds no plan: {error!r}")
            return None

    def output(self) -> bytes | None:
        """Return the planner's output, if nothing has changed since that it was made of."""
        try:
            fd = files.opened(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._ignored(str(error.strerror))
            return None
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                self._ignored("it is another user's or open to others")
                return None
            data = file.read(LARGEST + 1)
        head, digest, body = data[: len(self._head)], data[len(self._head) :][:_DIGEST], b""
        if head != self._head:
            return None  # of another version, or for another configuration
        body = data[len(self._head) + _DIGEST :]
        if blake2b(body, digest_size=_DIGEST).digest() != digest:
            self._ignored("it is damaged")
            return None
        try:
            inputs = marshal.loads(body)["inputs"]
            same = all(found is not None and sign(path) == found for path, found in inputs)
        except (ValueError, EOFError, TypeError, KeyError) as error:
            self._ignored(f"it holds no plan: {error!r}")
            return None
        return body if same else None

    def save(self, body: bytes) -> None:
        """Keep the planner's output, which is a plan. A plan that cannot be kept is made again."""
        try:
            if os.path.lexists(self.path):
                os.unlink(self.path)  # `replace` would keep its owner and its mode
            files.replace(self.path, self._head + blake2b(body, digest_size=_DIGEST).digest() + body, 0o600)
        except OSError as error:
            self._tell(f"the plan is not kept for the next start: {self.path}: {error.strerror}")

    def _ignored(self, why: str) -> None:
        self._tell(f"{self.path} is ignored, and the configuration planned anew: {why}")
