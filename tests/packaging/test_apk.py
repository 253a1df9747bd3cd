# SPDX-License-Identifier: GPL-2.0-or-later
"""apk add, upgrade and del (OpenWrt 25.12 and later), by a real apk on OpenWrt's own root file system."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qemu.apk_feed import apk_feed
from tests.openwrt_pieces import APK, needs
from tests.packaging import packages
from tests.packaging.conftest import leave_declared_parts
from tests.packaging.router import OpenWrt, needs_router
from tests.packaging.test_opkg import becomes_active, configure, needs_planner, pid, traces

pytestmark = [needs_router, needs_planner, needs(APK / "apk", APK / "functions.sh")]

FEEDS = ("tandem", "next", "standin")
# The root has these, but its apk knows of no package.
PRESENT = ("python3-light", "python3-ctypes")


@pytest.fixture(scope="module")
def apk_feeds(router_feeds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/srv of a router with apk."""
    srv, ipks = tmp_path_factory.mktemp("apk"), tmp_path_factory.mktemp("ipk")
    shutil.copytree(router_feeds, ipks, dirs_exist_ok=True)
    for name in PRESENT:
        packages.stand_in(ipks / "standin", name)
    for name in FEEDS:
        apk_feed(ipks / name, srv / name)
    for name in ("apk", "functions.sh"):
        shutil.copy(APK / name, srv)
    shutil.copy(packages.FEED / "tandem/test.sh", srv)
    return srv


@contextmanager
def apk_router(directory: Path, srv: Path) -> Iterator[OpenWrt]:
    """A router with apk in the place of opkg, which accepts unsigned feeds; nothing is installed."""
    router = OpenWrt(directory, srv)
    try:
        router.start()
        leave_declared_parts(router)
        router.sh("rm /bin/opkg; cp /srv/apk /usr/bin/; cp /srv/functions.sh /lib/; mkdir -p /etc/apk")
        router.write("/etc/apk/repositories", "/srv/tandem/packages.adb\n/srv/standin/packages.adb\n")
        router.write("/etc/apk/config", "allow-untrusted\n")
        router.sh("apk add --initdb && apk update")
        yield router
    finally:
        router.stop()


@pytest.fixture
def router(tmp_path: Path, apk_feeds: Path) -> Iterator[OpenWrt]:
    """A router with apk, and an interface."""
    with apk_router(tmp_path, apk_feeds) as router:
        router.add_lan()
        yield router


@pytest.mark.slow
def test_add_upgrade_and_del(router: OpenWrt) -> None:
    files = "find / -xdev ! -path '/lib/apk/*' ! -path '/usr/lib/python*' ! -path '/proc/*' | sort"
    before = router.sh(files)
    _add_to_an_image(router)
    router.sh("apk add tandem tandem-tools")
    assert router.sh("ls /etc/rc.d | grep tandem").split() == [
        "K01tandem",
        "S18tandem-dhcp",
        "S21tandem",
        "S21tandem-witness",
    ]
    assert router.sh("ls -l /etc/config/tandem").startswith("-rw------- ")
    router.sh("sh /srv/test.sh tandem 0.1.0-r1")
    assert "On OpenWrt: apk add tandem-import" in router.sh("tandem import", status=1)
    router.sh("apk add tandem-import && sh /srv/test.sh tandem-import 0.1.0-r1")
    configure(router)
    router.sh("/etc/init.d/tandem start")
    becomes_active(router)
    running = pid(router)

    router.sh("sed -i s,/srv/tandem/,/srv/next/, /etc/apk/repositories")
    router.sh("apk update && apk upgrade")
    assert "0.1.0-r2" in router.sh("apk list --installed tandem")
    assert "0.1.0-r2" in router.sh("apk list --installed tandem-import")
    assert "priority '150'" in router.sh("cat /etc/config/tandem")
    becomes_active(router)
    assert pid(router) not in (0, running)
    log = router.log
    assert log.count("stopping: handing over") == 1 and "Traceback" not in log

    # Back to the former version, which is pinned then, and forth again.
    router.sh("sed -i s,/srv/next/,/srv/tandem/, /etc/apk/repositories")
    router.sh("apk update && apk add tandem=0.1.0-r1")
    assert "0.1.0-r1" in router.sh("apk list --installed tandem")
    becomes_active(router)
    router.sh("sed -i s,/srv/tandem/,/srv/next/, /etc/apk/repositories")
    router.sh("apk update && apk upgrade")
    assert "0.1.0-r1" in router.sh("apk list --installed tandem")
    router.sh("apk add tandem && apk upgrade")
    assert "0.1.0-r2" in router.sh("apk list --installed tandem")
    becomes_active(router)

    router.sh("apk del tandem-tools tandem-import tandem")
    assert pid(router) == 0 and not traces(router)
    left = set(router.sh(files).splitlines()) - set(before.splitlines())
    assert {path for path in left if "tandem" in path} <= {"/etc/config/tandem", "/etc/config/tandem.apk-new"}


def _add_to_an_image(router: OpenWrt) -> None:
    """As package/Makefile does it: no script runs, what has to is left for the first start."""
    root = "--root /tmp/image --arch x86_64 --no-scripts --no-cache --repositories-file /etc/apk/repositories"
    router.sh(f"apk --allow-untrusted --initdb {root} add tandem")
    router.sh("test -f /tmp/image/etc/uci-defaults/tandem && test -x /tmp/image/usr/sbin/tandemd")
    assert "/etc/config/tandem" in router.sh("cat /tmp/image/lib/apk/packages/tandem.conffiles")
    router.sh("test ! -e /etc/init.d/tandem && rm -r /tmp/image")
