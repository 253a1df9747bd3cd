# SPDX-License-Identifier: GPL-2.0-or-later
"""The pairs of routers that scenarios run on, by name; what can't be had here skips with the reason."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from qemu import release_guest
from qemu.apk_feed import ApkError, apk_feed
from qemu.architectures import ARCHITECTURES
from qemu.debian import UnreachableError
from qemu.image import Image
from qemu.lab_guest import lab_guest
from qemu.openwrt_router import OpenWrtPair, ReleaseRouter, RootRouter
from qemu.release_guest import ReleaseError
from qemu.root_guest import root_guest
from qemu.router import LabRouter, Pair
from qemu.trunk import TrunkLabRouter, TrunkRootRouter
from tests.openwrt_pieces import ROOT
from tests.packaging.conftest import python310

LOGS = Path(__file__).resolve().parents[2] / "build/qemu/logs"

LAB = ["lab-x86_64", "lab-aarch64", "lab-armv7"]
OPENWRT = ["root-x86_64", "release-x86_64", "release-aarch64"]
MIXED = ["mixed-aarch64-x86_64", "mixed-armv7-x86_64"]  # r1 is the first


def make(name: str, request: pytest.FixtureRequest, *, trunk: bool = False, **options: Any) -> Pair:
    """The pair of that name, not yet started; `trunk`: on one cable each. `options` as Pair takes them."""
    kind, *architectures = name.split("-")
    if kind in ("lab", "mixed"):
        images = [lab(architecture) for architecture in architectures]
        return Pair(images * (3 - len(images)), TrunkLabRouter if trunk else LabRouter, **options)
    usable(architectures[0])
    feeds = request.getfixturevalue("router_feeds")
    if kind == "root":
        image = _root(architectures[0])
        return OpenWrtPair([image, image], TrunkRootRouter if trunk else RootRouter, feeds)
    try:
        image = release_guest.release_guest(architectures[0])
        for feed in ("tandem", "next") if release_guest.has_apk() else ():
            apk_feed(feeds / feed, feeds / feed)
    except (ReleaseError, ApkError) as error:
        pytest.skip(str(error))
    return OpenWrtPair([image, image], ReleaseRouter, feeds, release_guest.mirror())


def lab(architecture: str) -> Image:
    """The lab guest."""
    usable(architecture)
    try:
        return lab_guest(architecture)
    except UnreachableError as error:
        pytest.skip(f"Debian's packages can't be had: {str(error).splitlines()[-1]}")


def _root(architecture: str) -> Image:
    missing = [name for name in ("sbin/procd", "bin/opkg", "usr/bin/python3") if not (ROOT / name).exists()]
    if missing:
        pytest.skip(f"no {missing[0]} in {ROOT} (see tests/openwrt_pieces.py)")
    if python310() is None:
        pytest.skip("no python3.10: the root lacks what pyroute2 imports")
    return root_guest(ROOT, architecture)


def usable(architecture: str) -> None:
    """Skips where no machine of that architecture can run."""
    for program in (ARCHITECTURES[architecture].emulator, "qemu-img", "mke2fs", "dpkg-deb", "setpriv"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed and could not be")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is missing: no machine can be connected")


@contextmanager
def booted(name: str, lab: Pair) -> Iterator[Pair]:
    """The pair with both machines up; in the end their logs are in build/qemu/logs/NAME."""
    with lab.up():
        try:
            lab.boot()
            yield lab
        finally:
            for router in lab.routers:
                router.keep_logs(LOGS / name)


def on(*names: Any) -> pytest.MarkDecorator:
    """Runs a scenario on the standing pairs of these names; pytest does all of a pair before the next."""
    return pytest.mark.parametrize("_standing", names, indirect=True, scope="session")
