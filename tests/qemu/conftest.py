# SPDX-License-Identifier: GPL-2.0-or-later
"""Which scenarios run, and machines whose logs are kept.

TANDEM_QEMU says which guests: "ci" (the default) runs the scenarios marked `ci` alone, for `make test`;
"x86_64" and "aarch64" run every scenario of that architecture; "full" runs all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qemu.debian import UnreachableError
from qemu.image import Image
from qemu.lab_guest import lab_guest
from qemu.machine import EMULATORS
from qemu.router import LabRouter, Pair, RouterMachine

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
    words = item.name.partition("[")[2].rstrip("]").split("-")
    return CHOICE in words or "mixed" in item.name


@pytest.fixture(params=["x86_64", "aarch64"])
def architecture(request: pytest.FixtureRequest) -> str:
    """Each architecture in turn."""
    name: str = request.param
    return name


@pytest.fixture
def image() -> Callable[[str], Image]:
    """The lab guest of an architecture; skips where it can't be had."""

    def get(architecture: str) -> Image:
        for program in (EMULATORS[architecture], "qemu-img", "mke2fs", "dpkg-deb", "setpriv"):
            if not shutil.which(program):
                pytest.skip(f"{program} is not installed and could not be")
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            pytest.skip("/dev/net/tun is missing: no machine can be connected")
        try:
            return lab_guest(architecture)
        except UnreachableError as error:
            pytest.skip(f"Debian's packages can't be had: {str(error).splitlines()[-1]}")

    return get


@pytest.fixture
def pair(
    request: pytest.FixtureRequest, open_lab: Callable[[Pair], Pair], image: Callable[[str], Image]
) -> Iterator[Callable[..., Pair]]:
    """Boots two routers, one for each architecture named; logs go to build/qemu/logs."""
    made: list[Pair] = []

    def build(
        *architectures: str,
        kind: type[RouterMachine] = LabRouter,
        config: Callable[[int], str] | None = None,
    ) -> Pair:
        configs = {number: config(number) for number in (1, 2)} if config else None
        lab = Pair([image(name) for name in architectures], kind, configs)
        made.append(lab)
        open_lab(lab)
        lab.boot()
        return lab

    yield build
    for lab in made:
        for router in lab.routers:
            router.keep_logs(LOGS / request.node.name)
