# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs of routers by name: lab-ARCH, root-ARCH (TANDEM_OPENWRT_ROOT), release-ARCH, mixed-ARCH-ARCH."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.openwrt_pieces import ROOT, ROOT23
from tests.packaging.router_feeds import no_planner

from . import release_guest
from .apk_feed import apk_feed
from .architectures import ARCHITECTURES
from .debian import UnreachableError
from .image import Image
from .lab_guest import lab_guest
from .openwrt_router import OpenWrtPair, ReleaseRouter, RootRouter
from .pppoe import PACKAGES as PPPOE_PACKAGES
from .pppoe import PppoePair
from .release_guest import ReleaseError
from .root_guest import root_guest
from .router import LabRouter, Pair
from .trunk import TrunkLabRouter, TrunkRootRouter
from .tunnel import PACKAGES as TUNNEL_PACKAGES
from .tunnel import PIECES as TUNNEL_PIECES
from .tunnel import TunnelPair

PROGRAMS = ("qemu-img", "mke2fs", "dpkg-deb", "setpriv")


class MissingError(RuntimeError):
    """A part of the pair is not to be had here."""


def pair(name: str, feeds: Callable[[], Path], *, trunk: bool = False, **options: Any) -> Pair:
    """The pair of that name, not yet started; MissingError. r1 is the first of a mixed one.

    `feeds()`: the directory for OpenWrt routers (tests/packaging/router_feeds.py). `trunk`: on one cable
    each. `options` as Pair takes them.
    """
    kind, *architectures = name.split("-")
    if kind in ("lab", "mixed"):
        images = [lab(architecture) for architecture in architectures]
        return Pair(images * (3 - len(images)), TrunkLabRouter if trunk else LabRouter, **options)
    check(architectures[0])
    if kind == "root":
        image = _root(architectures[0])
        return OpenWrtPair([image, image], TrunkRootRouter if trunk else RootRouter, feeds())
    try:
        image = release_guest.release_guest(architectures[0])
        directory = feeds()
        for feed in ("tandem", "next") if release_guest.has_apk() else ():
            apk_feed(directory / feed, directory / feed)
    except ReleaseError as error:
        raise MissingError(str(error)) from None
    return OpenWrtPair([image, image], ReleaseRouter, directory, release_guest.mirror())


def lab(architecture: str, more: Sequence[str] = ()) -> Image:
    """The lab guest, with more packages. MissingError."""
    check(architecture)
    try:
        return lab_guest(architecture, more)
    except UnreachableError as error:
        raise MissingError(f"Debian's packages can't be had: {str(error).splitlines()[-1]}") from None


def check(architecture: str) -> None:
    """MissingError where no machine of that architecture can run."""
    for program in (ARCHITECTURES[architecture].emulator, *PROGRAMS):
        if not shutil.which(program):
            raise MissingError(f"{program} is not installed and could not be")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise MissingError("/dev/net/tun is missing: no machine can be connected")


def pppoe(feeds: Callable[[], Path]) -> PppoePair:
    """Two OpenWrt roots that share a line with PPPoE, and its concentrator. MissingError."""
    concentrator = lab("x86_64", PPPOE_PACKAGES)
    return PppoePair(_root("x86_64", more=True), concentrator, feeds())


def tunnel(feeds: Callable[[], Path]) -> TunnelPair:
    """Two OpenWrt roots with a WireGuard tunnel, and its other end. MissingError."""
    if missing := [name for name in TUNNEL_PIECES if not (ROOT23 / name).exists()]:
        raise MissingError(f"no {missing[0]} in {ROOT23} (see tests/openwrt_pieces.py)")
    return TunnelPair(_root("x86_64", more=True), lab("x86_64", TUNNEL_PACKAGES), feeds())


def _root(architecture: str, more: bool = False) -> Image:
    missing = [name for name in ("sbin/procd", "bin/opkg", "usr/bin/python3") if not (ROOT / name).exists()]
    if missing:
        raise MissingError(f"no {missing[0]} in {ROOT} (see tests/openwrt_pieces.py)")
    if reason := no_planner():
        raise MissingError(reason)
    return root_guest(ROOT, architecture, more)
