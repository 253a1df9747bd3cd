# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the images of an official release come from; no machine is started."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from qemu import cache
from qemu.release_guest import PINS, ReleaseError, pin, release_guest

pytestmark = pytest.mark.ci
KERNEL, DISK = b"a kernel", b"a disk"


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the pins, all open, and a directory that is laid out like the mirror, with small files."""
    release = json.loads(PINS.read_text())
    for architecture in ("x86_64", "aarch64"):
        target = tmp_path / f"mirror/releases/{release['version']}/targets/{release[architecture]['target']}"
        target.mkdir(parents=True)
        lines = []
        for kind, data in (("kernel", KERNEL), ("disk", gzip.compress(DISK) + b"metadata")):
            item = release[architecture][kind]
            item["sha256"] = None
            (target / item["file"]).write_bytes(data)
            lines.append(f"{hashlib.sha256(data).hexdigest()} *{item['file']}\n")
        (target / "sha256sums").write_text("".join(lines))
    copy = tmp_path / "pins.json"
    copy.write_text(json.dumps(release))
    monkeypatch.setenv("TANDEM_OPENWRT_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(cache, "ROOT", tmp_path / "cache")
    return copy


def test_nothing_is_used_that_is_not_pinned(pins: Path) -> None:
    with pytest.raises(ReleaseError, match="is not pinned"):
        release_guest("x86_64", pins)


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_pinned_files_become_an_image(pins: Path, architecture: str) -> None:
    pin(pins)
    image = release_guest(architecture, pins)
    assert image.kernel.read_bytes() == KERNEL
    assert image.disk.read_bytes().rstrip(b"\0") == DISK


def test_other_bytes_than_pinned_are_refused(pins: Path, tmp_path: Path) -> None:
    pin(pins)
    for path in tmp_path.rglob("*-kernel.bin"):
        path.write_bytes(b"another kernel")
    with pytest.raises(ReleaseError, match="pinned"):
        release_guest("x86_64", pins)


def test_a_mirror_that_lacks_a_file(pins: Path, tmp_path: Path) -> None:
    pin(pins)
    for path in tmp_path.rglob("*.img.gz"):
        path.unlink()
    with pytest.raises(ReleaseError, match="No such file"):
        release_guest("aarch64", pins)
