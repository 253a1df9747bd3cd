# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest of an official OpenWrt release: its own kernel, its own root file system.

openwrt-release.json pins version, files and their sha256. A pin that is null was never taken: no image is
used before `python -m qemu pin` has filled it from the release's sha256sums. TANDEM_OPENWRT_MIRROR names
another mirror, or a directory laid out like one.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.request
import zlib
from pathlib import Path
from typing import Any

from . import cache
from .image import CONSOLES, Image

PINS = Path(__file__).with_name("openwrt-release.json")
BOOTED = "procd: - init -"
DISK_MIB = 320  # the file system stays as it is; the disk has room
_TIMEOUT = 60.0  # s without a byte


class ReleaseError(RuntimeError):
    """An image can't be had or is not what was pinned."""


def release_guest(architecture: str, pins: Path = PINS) -> Image:
    """The guest of the pinned release. ReleaseError: not pinned, not there, or other bytes."""
    release = json.loads(pins.read_text())
    files = {kind: release[architecture][kind] for kind in ("kernel", "disk")}
    for item in files.values():
        if item["sha256"] is None:
            raise ReleaseError(f"{item['file']} is not pinned: make qemu-pin (needs the network)")

    def make(place: Path) -> None:
        for kind, item in files.items():
            data = _fetch(release, architecture, item["file"])
            found = hashlib.sha256(data).hexdigest()
            if found != item["sha256"]:
                raise ReleaseError(f"{item['file']}: sha256 {found}, pinned {item['sha256']}")
            # The images end with metadata that gzip calls trailing garbage.
            (place / kind).write_bytes(_unpacked(data) if item["file"].endswith(".gz") else data)
        with (place / "disk").open("r+b") as disk:
            disk.truncate(max(DISK_MIB << 20, (place / "disk").stat().st_size))

    name = cache.key([item["sha256"] for item in files.values()])
    place = cache.build(f"release-{architecture}", name, make)
    return Image(
        f"openwrt-{release['version']}-{architecture}",
        architecture,
        place / "kernel",
        None,
        place / "disk",
        f"console={CONSOLES[architecture]} root=/dev/vda rootwait rw",
        BOOTED,
        memory_mib=192,
        seeded=False,
    )


def pin(pins: Path = PINS) -> None:
    """Fill in the sha256 of every file from the release's sha256sums.

    It is as good as the connection to the mirror: compare sha256sums.asc (gpg) or sha256sums.sig (usign)
    with OpenWrt's keys before the result is committed.
    """
    release = json.loads(pins.read_text())
    for architecture in CONSOLES:
        lines = _fetch(release, architecture, "sha256sums").decode().splitlines()
        sums = {name.lstrip("*"): value for value, _, name in (line.partition(" ") for line in lines)}
        for kind in ("kernel", "disk"):
            item = release[architecture][kind]
            if item["file"] not in sums:
                raise ReleaseError(f"sha256sums of {architecture} does not name {item['file']}")
            item["sha256"] = sums[item["file"]]
    pins.write_text(json.dumps(release, indent=2) + "\n")


def _fetch(release: dict[str, Any], architecture: str, name: str) -> bytes:
    mirror = os.environ.get("TANDEM_OPENWRT_MIRROR", release["mirror"]).rstrip("/")
    path = f"{mirror}/releases/{release['version']}/targets/{release[architecture]['target']}/{name}"
    try:
        if "://" not in mirror:
            return Path(path).read_bytes()
        with urllib.request.urlopen(path, timeout=_TIMEOUT) as answer:
            return bytes(answer.read())
    except OSError as error:
        raise ReleaseError(f"{path}: {error}") from None


def _unpacked(data: bytes) -> bytes:
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    return decoder.decompress(data) + decoder.flush()
