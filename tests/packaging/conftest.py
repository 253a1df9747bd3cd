# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages, built once, and a router that has them in a feed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openwrt_pieces import GATE
from tests.packaging import packages
from tests.packaging.router import OpenWrt

# What the test root has no package for: the parts of Python's standard library that pyroute2 imports, from
# another Python 3.10. sqlite3 is only imported, never used.
STDLIB = ("asyncio", "logging", "multiprocessing", "unittest", "uuid.py")
SQLITE3 = """
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return (lambda *_: None) if name.startswith("register") else type(name, (Exception,), {})
"""


@pytest.fixture(scope="session")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `make ipk` fills."""
    output = tmp_path_factory.mktemp("ipk")
    packages.make_ipk(output)
    return output


@pytest.fixture(scope="session")
def router_feeds(feed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/srv of a router: the feeds tandem and standin, in next/ a feed with a later tandem, and test.sh."""
    srv = tmp_path_factory.mktemp("srv")
    shutil.copytree(feed, srv / "tandem")
    shutil.copy(packages.FEED / "tandem/test.sh", srv)
    packages.make_ipk(srv / "next", "PKG_RELEASE=2")
    standin = srv / "standin"
    standin.mkdir()
    for name in ("kmod-nf-conntrack-netlink", "kmod-macvlan", "kmod-nft-nat", "kmod-nft-queue"):
        packages.stand_in(standin, name)
    packages.stand_in(standin, "python3-scapy")
    packages.stand_in(standin, "python3-netfilterqueue", dict(netfilterqueue()))
    sqlite3 = tmp_path_factory.mktemp("sqlite3") / "sqlite3.py"
    sqlite3.write_text(SQLITE3)
    files = {f"/usr/lib/python3.10/{path}": source for path, source in stdlib()} | {
        f"/usr/lib/python3.10/site-packages/{path}": source for path, source in pyroute2()
    }
    packages.stand_in(standin, "python3-pyroute2", files | {"/usr/lib/python3.10/sqlite3.py": sqlite3})
    packages.packer().index(standin)
    return srv


def pyroute2() -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec("pyroute2")
    assert spec is not None and spec.origin is not None
    package = Path(spec.origin).parent
    for path in package.rglob("*.py"):
        yield f"pyroute2/{path.relative_to(package)}", path


def netfilterqueue() -> Iterator[tuple[str, Path]]:
    """The module and its library, as built for the test root; none, where nobody has built them."""
    yield from ((f"/usr/lib/{path.name}", path) for path in GATE.glob("*.so.*"))
    for path in GATE.glob("netfilterqueue/*"):
        yield f"/usr/lib/python3.10/site-packages/netfilterqueue/{path.name}", path


def stdlib() -> Iterator[tuple[str, Path]]:
    """Modules of a Python 3.10 on this machine; none when there is none: then nothing can be planned."""
    library = python310()
    for name in STDLIB if library else ():
        assert library is not None
        path = library / name
        for source in path.rglob("*.py") if path.is_dir() else [path]:
            if "test" not in source.relative_to(library).parts:
                yield str(source.relative_to(library)), source


def python310() -> Path | None:
    for program in [shutil.which("python3.10"), *Path("/root/.pyenv/versions").glob("3.10.*/bin/python3.10")]:
        if program is None:
            continue
        done = subprocess.run(
            [program, "-c", "import os; print(os.path.dirname(os.__file__))"], capture_output=True, text=True
        )
        if done.returncode == 0:
            return Path(done.stdout.strip())
    return None


@pytest.fixture
def router(tmp_path: Path, router_feeds: Path) -> Iterator[OpenWrt]:
    """A router with the feeds in its opkg configuration, and nothing installed."""
    router = OpenWrt(tmp_path, router_feeds)
    try:
        router.start()
        router.sh("sed -i /check_signature/d /etc/opkg.conf && : >/etc/opkg/distfeeds.conf")
        router.write(
            "/etc/opkg/customfeeds.conf",
            "arch all 1\narch noarch 1\narch x86_64 10\nsrc/gz tandem file:///srv/tandem\nsrc/gz standin file:///srv/standin\n",
        )
        router.sh("opkg update")
        yield router
    finally:
        router.stop()
