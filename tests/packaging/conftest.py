# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages, built once, and a router that has them in a feed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.packaging import packages
from tests.packaging.parts import absent
from tests.packaging.router import OpenWrt
from tests.packaging.router_feeds import build


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `make ipk` fills."""
    output = tmp_path_factory.mktemp("ipk")
    packages.make_ipk(output)
    return output


@pytest.fixture(scope="session")
def router_feeds(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/srv of a router."""
    srv = tmp_path_factory.mktemp("srv")
    build(feed, srv)
    return srv


def leave_declared_parts(router: OpenWrt) -> None:
    """Remove what the root has of Python's standard library and no package that we depend on brings."""
    library = "/usr/lib/python3.10"
    for module in sorted(absent(planner=True)):
        paths = f"{library}/{module} {library}/{module}.pyc {library}/lib-dynload/{module}.*.so"
        router.sh(f"rm -rf {paths}")


@contextmanager
def opkg_router(directory: Path, srv: Path) -> Iterator[OpenWrt]:
    """A router with the feeds in its opkg configuration, and nothing installed."""
    router = OpenWrt(directory, srv)
    try:
        router.start()
        leave_declared_parts(router)
        router.sh("sed -i /check_signature/d /etc/opkg.conf && : >/etc/opkg/distfeeds.conf")
        router.write(
            "/etc/opkg/customfeeds.conf",
            "arch all 1\narch noarch 1\narch x86_64 10\nsrc/gz tandem file:///srv/tandem\nsrc/gz standin file:///srv/standin\n",
        )
        router.sh("opkg update")
        yield router
    finally:
        router.stop()


@pytest.fixture
def router(tmp_path: Path, router_feeds: Path) -> Iterator[OpenWrt]:
    """A router with opkg."""
    with opkg_router(tmp_path, router_feeds) as router:
        yield router
