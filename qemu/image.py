# SPDX-License-Identifier: GPL-2.0-or-later
"""The image of a guest: a kernel, a read-only disk, and a console."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Image:
    """A guest that can be started any number of times, each with a disk of its own on top of `disk`.

    `booted`: a pattern that the console shows when the guest is up. With `seeded`, files that a machine is
    given find their way onto its disk before its init starts (guest/initramfs-init).
    """

    name: str
    architecture: str
    kernel: Path
    initrd: Path | None
    disk: Path
    append: str
    booted: str
    memory_mib: int = 160
    seeded: bool = True


def ext4(root: Path, disk: Path, mib: int) -> None:
    """Make a disk, one file system without partitions, with all that is under `root`; it is sparse."""
    options = ["-q", "-F", "-t", "ext4", "-E", "nodiscard", "-J", "size=4", "-m", "0", "-d", str(root)]
    done = subprocess.run(["mke2fs", *options, str(disk), f"{mib}M"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"mke2fs: {done.stderr}")
