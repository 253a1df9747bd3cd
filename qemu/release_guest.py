# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of an official OpenWrt release: its own kernel, its own root file system.

openwrt-release.json pins a version, and of each target the sha256 of the file sha256sums, which has those of
the images: nothing else is used. TANDEM_OPENWRT_MIRROR names another mirror, or a directory laid out like it.
TANDEM_OPENWRT_RELEASE names another file of pins; in such a file a kernel may have an `initrd` beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import zlib
from pathlib import Path
from typing import Any

from . import cache
from .architectures import ARCHITECTURES
from .feeds import open_at
from .image import Image

PINS = Path(os.environ.get("TANDEM_OPENWRT_RELEASE") or Path(__file__).with_name("openwrt-release.json"))
BOOTED = "procd: - init -"
SUMS = "sha256sums"
KINDS = ("kernel", "disk", "initrd")
DISK_MIB = 512


class ReleaseError(RuntimeError):
    """An image can't be had or is not what was pinned."""


def release_guest(architecture: str, pins: Path = PINS) -> Image:
    """The guest of the pinned release. ReleaseError: not pinned, not there, or other bytes."""
    release = json.loads(pins.read_text())
    if architecture not in release:
        raise ReleaseError(f"no {architecture} is pinned")
    target = release[architecture]
    names = {kind: _name(release, target[kind]) for kind in KINDS if kind in target}

    def make(place: Path) -> None:
        sums = _sums(release, architecture)
        for kind, name in names.items():
            data = _fetch(release, architecture, name)
            found = hashlib.sha256(data).hexdigest()
            if found != sums.get(name):
                raise ReleaseError(f"{name}: sha256 {found}, {SUMS} has {sums.get(name)}")
            # The images end with metadata that gzip calls trailing garbage.
            (place / kind).write_bytes(_unpacked(data) if name.endswith(".gz") else data)
        _grow(place / "disk")

    place = cache.build(f"release-{architecture}", cache.key([target[SUMS], *names.values()]), make)
    return Image(
        f"openwrt-{release['version']}-{architecture}",
        architecture,
        place / "kernel",
        place / "initrd" if "initrd" in names else None,
        place / "disk",
        f"console={ARCHITECTURES[architecture].console} root=/dev/vda rootwait rw",
        BOOTED,
        memory_mib=192,
        seeded=False,
    )


def pin(pins: Path = PINS) -> None:
    """Pin what the mirror has of the version that the file names.

    It is as good as the connection to the mirror: compare sha256sums.asc (gpg) or sha256sums.sig (usign)
    with OpenWrt's keys before the result is committed.
    """
    release = json.loads(pins.read_text())
    for architecture in ARCHITECTURES.keys() & release.keys():
        data = _fetch(release, architecture, SUMS)
        release[architecture][SUMS] = hashlib.sha256(data).hexdigest()
    pins.write_text(json.dumps(release, indent=2) + "\n")


def mirror(pins: Path = PINS) -> str:
    """Where the release's images and packages come from: a URL or a directory."""
    return os.environ.get("TANDEM_OPENWRT_MIRROR") or str(json.loads(pins.read_text())["mirror"])


def has_apk(pins: Path = PINS) -> bool:
    """Whether the release's package manager is apk: since 25.12."""
    return int(json.loads(pins.read_text())["version"].partition(".")[0]) >= 25


def _sums(release: dict[str, Any], architecture: str) -> dict[str, str]:
    """sha256 by file name, of a target's images."""
    data = _fetch(release, architecture, SUMS)
    found, pinned = hashlib.sha256(data).hexdigest(), release[architecture][SUMS]
    if found != pinned:
        raise ReleaseError(f"{SUMS} of {architecture}: sha256 {found}, pinned {pinned}")
    lines = (line.partition(" ") for line in data.decode().splitlines())
    return {name.lstrip(" *"): value for value, _, name in lines}


def _name(release: dict[str, Any], file: str) -> str:
    return file.format(version=release["version"])


def _fetch(release: dict[str, Any], architecture: str, name: str) -> bytes:
    base = os.environ.get("TANDEM_OPENWRT_MIRROR") or release["mirror"]
    path = f"releases/{release['version']}/targets/{release[architecture]['target']}/{name}"
    try:
        with open_at(base, path) as file:
            return file.read()
    except OSError as error:
        raise ReleaseError(f"{base}/{path}: {error}") from None


def _grow(disk: Path) -> None:
    """Make room for packages: the file system of an image is as large as its content."""
    with disk.open("r+b") as file:
        file.truncate(max(DISK_MIB << 20, disk.stat().st_size))
    # resize2fs refuses a file system that was not checked; status 1 says that e2fsck repaired something.
    check = subprocess.run(["e2fsck", "-fp", str(disk)], capture_output=True, text=True)
    done = subprocess.run(["resize2fs", str(disk)], capture_output=True, text=True)
    if check.returncode > 1 or done.returncode:
        raise ReleaseError(f"the disk is no ext4 file system: {check.stdout}{check.stderr}{done.stderr}")


def _unpacked(data: bytes) -> bytes:
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    return decoder.decompress(data) + decoder.flush()
