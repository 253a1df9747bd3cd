# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages, built once, and a router that has them in a feed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.openwrt_pieces import ROOT, ROOT23, needs
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


def has_python(root: Path) -> bool:
    """Whether a root file system has Python without a package from a feed."""
    return (root / "usr/bin/python3").exists()


def leave_declared_parts(router: OpenWrt) -> None:
    """Remove what the root has of Python's standard library and no package that we depend on brings."""
    library = "/usr/lib/python3.10"
    for module in sorted(absent(planner=True)):
        paths = f"{library}/{module} {library}/{module}.pyc {library}/lib-dynload/{module}.*.so"
        router.sh(f"rm -rf {paths}")


@contextmanager
def opkg_router(directory: Path, srv: Path, root: Path = ROOT) -> Iterator[OpenWrt]:
    """A router with the feeds in its opkg configuration, and nothing installed."""
    router = OpenWrt(directory, srv, root)
    try:
        router.start()
        if has_python(root):
            leave_declared_parts(router)
        feeds = ["tandem", "standin", *([] if has_python(root) else ["python"])]
        router.sh("sed -i /check_signature/d /etc/opkg.conf && : >/etc/opkg/distfeeds.conf")
        router.write(
            "/etc/opkg/customfeeds.conf",
            "arch all 1\narch noarch 1\narch x86_64 10\n"
            + "".join(f"src/gz {name} file:///srv/{name}\n" for name in feeds),
        )
        router.sh("opkg update")
        yield router
    finally:
        router.stop()


ROOTS = {"22.03": ROOT, "23.05": ROOT23}
# Runs a test on each release whose root file system is there.
on_each_release = pytest.mark.parametrize(
    "router",
    [pytest.param(name, marks=needs(root / "sbin/procd")) for name, root in ROOTS.items()],
    indirect=True,
)


@pytest.fixture
def router(request: pytest.FixtureRequest, tmp_path: Path, router_feeds: Path) -> Iterator[OpenWrt]:
    """A router with opkg; of 22.03, unless the test is one `on_each_release`."""
    with opkg_router(tmp_path, router_feeds, ROOTS[getattr(request, "param", "22.03")]) as router:
        yield router
