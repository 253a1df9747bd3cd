# SPDX-License-Identifier: GPL-2.0-or-later
"""The choice of scenarios and of the routers that run them.

TANDEM_QEMU says which guests: "ci" (the default) runs the scenarios marked `ci` alone, for `make test`;
"x86_64", "aarch64", "armv7" and "s390x" run every scenario with that in its name; "full" runs all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from qemu.router import Pair
from tests.packaging.conftest import feed, router_feeds  # noqa: F401

from .guests import booted, make

CHOICE = os.environ.get("TANDEM_QEMU", "ci")
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what was not asked for; give every scenario the time that an emulated machine takes."""
    left = []
    for item in list(items):
        if _HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.alone)
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
    return CHOICE in item.name


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> Iterator[Callable[..., Pair]]:
    """Boots the pair of that name (guests.py) for one scenario; options as `make` takes them."""
    with ExitStack() as stack:

        def build(name: str, **options: Any) -> Pair:
            return stack.enter_context(booted(request.node.name, make(name, request, **options)))

        yield build


@pytest.fixture(scope="session")
def _standing(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with booted(request.param, make(request.param, request)) as lab:
        lab.set_up()
        yield lab


@pytest.fixture
def standing(_standing: Pair) -> Pair:
    """The pair of a name, for all scenarios that are `on` it; what a failed one has left is put right."""
    for router in _standing.routers:
        if not router.running:
            router.power_on()
            router.wait_booted()
        router.thaw()
        for card in router.cards:
            router.put(card.device)
    return _standing
