# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs of a 32-bit root file system, on this machine's kernel, in a throw-away overlay of it.

The checkout and what else is named are seen at their own paths.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.lab import Router, Tandem
from tests.lab.router import ROOT as CHECKOUT
from tests.openwrt_pieces import I386_ROOT

_ENTER = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
shift 2
mount -t tmpfs tmpfs tmp
mount -t proc proc proc
mount --rbind /dev dev
while [ "$1" != -- ]; do
    mkdir -p "./$1"
    mount --bind "$1" "./$1"
    shift
done
shift
exec chroot . "$@"
"""
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT}/src",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def argv(work: Path, *words: str, paths: tuple[Path, ...] = ()) -> list[str]:
    """The command that runs `words` in the root. `work` is an empty directory; the command is its process."""
    shown = [str(path) for path in (CHECKOUT, *paths)]
    environment = [f"{name}={value}" for name, value in _ENVIRONMENT.items()]
    inside = ["env", f"--chdir={CHECKOUT}", *environment, *words]
    enter = ["sh", "-c", _ENTER, "sh", str(work), str(I386_ROOT), *shown]
    return ["unshare", "--mount", *enter, "--", *inside]


class Tandem32(Tandem):
    """Return the output of `daemon`, run by the Python of the root."""

    def __init__(self, daemon: Tandem) -> None:
        super().__init__(daemon.instances, daemon.groups, daemon.text, daemon.options)
        self._daemon = daemon

    def prepare(self, router: Router) -> None:
        self._daemon.prepare(router)

    def commands(self, router: Router) -> list[list[str]]:
        [[_, *rest]] = super().commands(router)
        work = Path(tempfile.mkdtemp(dir=router.lab.directory))
        return [argv(work, "/usr/bin/python3", *rest, paths=(router.lab.directory,))]
