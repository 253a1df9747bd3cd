# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of somebody's root file system, a directory or a tarball, with Debian's kernel.

So a genuine OpenWrt root boots where its own kernel can't be had: procd, netifd, firewall4 and opkg are
OpenWrt's, the kernel and its modules are Debian's. The root itself is not changed.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from . import cache
from .architectures import ARCHITECTURES
from .image import Image, ext4
from .kernel import debian_kernel

DISK_MIB = 320
BOOTED = "procd: - init -"  # its console is there; OpenWrtRouter waits for the rest


def root_guest(source: Path, architecture: str, more: bool = False) -> Image:
    """The guest of a root file system; its programs must be of that architecture.

    `more`: with a kernel that has PPP and WireGuard.
    """
    kernel = debian_kernel(architecture, more)
    parts: list[str | bytes | Path] = [Path(__file__), Path(__file__).with_name("image.py")]
    parts.append(cache.tree_key(source) if source.is_dir() else source)
    name = cache.key(parts)

    def make(place: Path) -> None:
        root = source
        if not source.is_dir():
            root = place / "root"
            root.mkdir()
            command = ["tar", "-xf", str(source), "-C", str(root), "--numeric-owner"]
            subprocess.run(command, check=True, capture_output=True)
        ext4(root, place / "disk", DISK_MIB)
        if root != source:
            shutil.rmtree(root)

    place = cache.build(f"root-{architecture}", name, make)
    console = f"console={ARCHITECTURES[architecture].console}"
    return Image(
        f"root-{source.name}-{architecture}",
        architecture,
        kernel.image,
        kernel.initrd,
        place / "disk",
        f"{console} panic=5",
        BOOTED,
        memory_mib=192,
    )
