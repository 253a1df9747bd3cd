# SPDX-License-Identifier: GPL-2.0-or-later
"""Packages of `make ipk`: built, opened, and such as stand in for those of OpenWrt's own feeds."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]
FEED = REPOSITORY / "openwrt-feed"
EPOCH = "1700000000"


def make_ipk(output: Path, *arguments: str, repository: Path = REPOSITORY, epoch: str = EPOCH) -> str:
    """Run `make ipk` and return what it prints."""
    return make_target("ipk", f"IPK_DIR={output}", *arguments, repository=repository, epoch=epoch)


def make_target(target: str, *arguments: str, repository: Path = REPOSITORY, epoch: str = EPOCH) -> str:
    """Make packages, and return what make prints. Without scapy, which takes ten seconds and the network."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    settings = [f"VENV={venv()}", "PACKAGE_SOURCES=tandem", "FEED_KEYS=/nowhere", *arguments]
    done = subprocess.run(
        ["make", "--no-print-directory", target, *settings],
        cwd=repository,
        env=environment | {"SOURCE_DATE_EPOCH": epoch},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def venv() -> Path:
    """The virtual environment that the tests run in, so that none is made anew."""
    return Path(sys.prefix)


def packer() -> ModuleType:
    """openwrt-feed/standalone/ipk.py as a module."""
    spec = importlib.util.spec_from_file_location("ipk", FEED / "standalone/ipk.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Package:
    """The content of an .ipk: `fields` and scripts of the control archive, members of the data archive."""

    fields: dict[str, str]
    control: dict[str, tuple[tarfile.TarInfo, bytes]]
    data: dict[str, tuple[tarfile.TarInfo, bytes]]

    @property
    def files(self) -> dict[str, bytes]:
        """Path on the router, with a slash at its start, and content; no directories."""
        return {name[1:]: content for name, (info, content) in self.data.items() if not info.isdir()}


def read(path: Path) -> Package:
    """Open a package."""
    outer = _members(path.read_bytes())
    assert list(outer) == ["./debian-binary", "./data.tar.gz", "./control.tar.gz"]
    assert outer["./debian-binary"][1] == b"2.0\n"
    control = _members(outer["./control.tar.gz"][1])
    fields: dict[str, str] = {}
    for line in control["./control"][1].decode().splitlines():
        if not line.startswith(" "):
            key, value = line.split(":", 1)
            fields[key] = value.strip()
    return Package(fields, control, _members(outer["./data.tar.gz"][1]))


def _members(data: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    members = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        for info in tar:
            file = tar.extractfile(info)
            members[info.name] = info, file.read() if file is not None else b""
    return members


def stand_in(
    output: Path,
    name: str,
    files: dict[str, Path] | None = None,
    architecture: str = "all",
    version: str = "1",
) -> None:
    """A package of OpenWrt's feeds that the test root lacks: empty, or with files from this machine.

    A symbolic link in `files` becomes the file that it names; modes stay.
    """
    stage = output / f".{name}"
    stage.mkdir()
    for path, source in (files or {}).items():
        target = stage / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    os.environ["IPK_CONTROL"] = f"Package: {name}\nVersion: {version}\nDepends: libc\nArchitecture: all"
    os.environ["IPK_DESCRIPTION"] = "stands in"
    try:
        packer().pack(stage, output, int(EPOCH))
    finally:
        del os.environ["IPK_CONTROL"], os.environ["IPK_DESCRIPTION"]
