# SPDX-License-Identifier: GPL-2.0-or-later
"""Which scenarios run, and machines whose logs are kept.

TANDEM_QEMU says which guests: "ci" (the default) runs the scenarios marked `ci` alone, for `make test`;
"x86_64" and "aarch64" run every scenario with that in its name, and mixed pairs; "full" runs all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from qemu.debian import UnreachableError
from qemu.image import Image
from qemu.lab_guest import lab_guest
from qemu.machine import EMULATORS
from qemu.router import LabRouter, Pair

CHOICE = os.environ.get("TANDEM_QEMU", "ci")
LOGS = Path(__file__).resolve().parents[2] / "build/qemu/logs"
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what was not asked for; give every scenario the time that an emulated machine takes."""
    left = []
    for item in list(items):
        if _HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.timeout(900))
        item.add_marker(pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"))
        if not _chosen(item):
            left.append(item)
            items.remove(item)
    if left:
        config.hook.pytest_deselected(items=left)


def _chosen(item: pytest.Item) -> bool:
    if CHOICE == "full":
        return True
    if CHOICE == "ci":
        return any(True for _ in item.iter_markers("ci"))
    return CHOICE in item.name or "mixed" in item.name


def guest(architecture: str) -> Image:
    """The lab guest of an architecture; skips where it can't be had."""
    for program in (EMULATORS[architecture], "qemu-img", "mke2fs", "dpkg-deb", "setpriv"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed and could not be")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is missing: no machine can be connected")
    try:
        return lab_guest(architecture)
    except UnreachableError as error:
        pytest.skip(f"Debian's packages can't be had: {str(error).splitlines()[-1]}")


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


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Callable[..., Pair]]:
    """Boots two lab guests, one for each architecture named; `options` as Pair takes them."""
    with ExitStack() as stack:

        def build(*architectures: str, kind: type[LabRouter] = LabRouter, **options: Any) -> Pair:
            lab = Pair([guest(name) for name in architectures], kind, **options)
            return stack.enter_context(booted(request.node.name, lab))

        yield build


@pytest.fixture(scope="module", params=["x86_64", "aarch64"])
def _standing(request: pytest.FixtureRequest) -> Iterator[Pair]:
    image = guest(request.param)
    with booted(f"{request.module.__name__}-{request.param}", Pair([image, image])) as lab:
        for router in lab.routers:
            router.install()
        lab.in_step()
        yield lab


@pytest.fixture
def standing(_standing: Pair) -> Pair:
    """Two lab guests with Tandem for all scenarios of a module; what a failed one has left is put right."""
    for router in _standing.routers:
        if not router.running:
            router.power_on()
            router.wait_booted()
        router.thaw()
        for card in router.cards:
            router.put(card.device)
    return _standing
