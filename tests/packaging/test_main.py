# SPDX-License-Identifier: GPL-2.0-or-later
"""apk on a root file system of OpenWrt's main branch for ARMv7: the signed packages of `make apk`.

Its programs run by user-mode QEMU, which the kernel starts (binfmt_misc), so its procd, ubus and apk are the
real ones. That QEMU has no packet and netfilter sockets, so the daemon can't run there (`make qemu` has it
run on ARMv7). OpenWrt's Python for that processor can't be had; Debian's stands in for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qemu.apk_feed import PACKER, apk_feed
from qemu.debian import Debian, DebianError
from tests.openwrt_pieces import MAIN, needs
from tests.packaging import packages
from tests.packaging.parts import declared
from tests.packaging.router import OpenWrt
from tests.packaging.test_opkg import configure

pytestmark = [needs(MAIN / "sbin/procd", MAIN / "usr/bin/apk"), pytest.mark.slow, pytest.mark.timeout(900)]

PYROUTE2 = packages.venv() / "pyroute2/0.7.9/pyroute2"
FEEDS = "/etc/apk/repositories.d/tandem.list"
PYTHON = ("python3.11", "libpython3.11-stdlib")
LIBRARIES = ("lib/arm-linux-gnueabihf", "usr/lib/arm-linux-gnueabihf", "usr/lib/python3.11")


def python(directory: Path) -> Iterator[tuple[str, Path]]:
    """The files of Debian's Python for the root: path on the router, path here."""
    debian = Debian("armv7")
    try:
        debian.unpack(debian.closure(PYTHON), directory)
    except DebianError as error:
        pytest.skip(f"no Python for ARMv7: {error}")
    for tree in LIBRARIES:
        for path in sorted((directory / tree).rglob("*")):
            if path.is_file() and "gconv" not in path.parts and "test" not in path.parts:
                yield f"/{path.relative_to(directory)}", path
    yield "/lib/ld-linux-armhf.so.3", next(directory.glob("lib/arm-linux-gnueabihf/ld-linux-armhf.so.3"))
    for name in ("python3", "python3.11"):
        yield f"/usr/bin/{name}", directory / "usr/bin/python3.11"


@pytest.fixture(scope="module")
def srv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/srv of the router: this release and a later one, both signed, and what OpenWrt's own feeds have."""
    if shutil.which("python3.14"):
        pytest.skip(
            "with python3.14 here the packages have its bytecode alone, and the root's Python is 3.11"
        )
    srv = tmp_path_factory.mktemp("main")
    keys = srv / "keys"
    packages.make_target("feed-key", f"FEED_KEYS={keys}")
    for name, release in (("tandem", 1), ("next", 2)):
        packages.make_target("apk", f"APK_DIR={srv / name}", f"FEED_KEYS={keys}", f"PKG_RELEASE={release}")
    ipks = srv / "ipks"
    ipks.mkdir()
    for name in ("kmod-nf-conntrack-netlink", "kmod-macvlan", "kmod-nft-nat", "ip-full"):
        packages.stand_in(ipks, name)
    for part in sorted(declared()):
        packages.stand_in(ipks, f"python3-{part}")
    packages.stand_in(
        ipks, "python3-light", dict(python(tmp_path_factory.mktemp("armhf"))), version="3.14.0-r1"
    )
    library = {
        f"/usr/lib/python3/dist-packages/pyroute2/{path.relative_to(PYROUTE2)}": path
        for path in PYROUTE2.rglob("*.py")
    }
    packages.stand_in(ipks, "python3-pyroute2", library, version="0.7.9-r1")
    apk_feed(ipks, srv / "standin")
    argv = [sys.executable, str(PACKER), "index", str(srv / "standin")]
    subprocess.run(argv, env=os.environ | {"FEED_KEYS": str(keys)}, check=True, stdout=subprocess.DEVNULL)
    shutil.copy(packages.FEED / "tandem/test.sh", srv)
    return srv


@pytest.fixture
def router(srv: Path, tmp_path: Path) -> Iterator[OpenWrt]:
    """A router with an interface and our feeds; it has no key of ours yet."""
    router = OpenWrt(tmp_path, srv, MAIN)
    try:
        router.start()
        router.add_lan()
        router.sh("rm /etc/apk/repositories.d/*")
        router.write(FEEDS, "/srv/tandem/main/packages.adb\n/srv/standin/packages.adb\n")
        yield router
    finally:
        router.stop()


def version(router: OpenWrt) -> str:
    return router.sh("apk list --installed tandem").partition(" ")[0]


def services(router: OpenWrt) -> list[str]:
    """The links by which a boot starts and ends what is ours."""
    return router.sh("ls /etc/rc.d | grep tandem", status=None).split()


def test_install_upgrade_downgrade_removal_and_again(router: OpenWrt) -> None:
    assert "UNTRUSTED" in router.sh("apk update && apk add tandem", status=None, timeout=300)
    assert not version(router)
    router.sh("cp /srv/keys/apk.pem /etc/apk/keys/tandem.pem")
    router.sh("apk update && apk add tandem", timeout=300)
    assert version(router) == "tandem-0.1.0-r1"
    router.sh("sh /srv/test.sh tandem 0.1.0-r1")
    assert router.sh("ls -l /etc/config/tandem").startswith("-rw------- ")
    assert len(services(router)) == 4
    configure(router)
    router.sh("tandem check")

    router.sh(f"sed -i s,/srv/tandem/,/srv/next/, {FEEDS}; apk update && apk upgrade tandem", timeout=300)
    assert version(router) == "tandem-0.1.0-r2"
    assert "priority '150'" in router.sh("tandem check")

    router.sh(
        f"sed -i s,/srv/next/,/srv/tandem/, {FEEDS}; apk update && apk add tandem=0.1.0-r1", timeout=300
    )
    assert version(router) == "tandem-0.1.0-r1"
    assert "priority '150'" in router.sh("tandem check")

    router.sh("apk del tandem", timeout=300)
    assert not version(router) and not services(router)
    router.sh("test ! -e /usr/lib/tandem && test ! -e /etc/init.d/tandem")

    router.sh("apk add tandem", timeout=300)
    assert "priority '150'" in router.sh("cat /etc/config/tandem"), "it was edited, so the removal kept it"
    assert len(services(router)) == 4
    assert "Traceback" not in router.log
