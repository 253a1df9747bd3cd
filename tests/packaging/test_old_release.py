# SPDX-License-Identifier: GPL-2.0-or-later
"""From the first release to this one, back, and forth again, on OpenWrt's own root; then removed."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.lab.release import OLD
from tests.lab.wait import wait_until
from tests.packaging import packages
from tests.packaging.conftest import on_each_release
from tests.packaging.router import OpenWrt, needs_router
from tests.packaging.test_opkg import configure, needs_planner, pid, traces

pytestmark = [needs_router, needs_planner, pytest.mark.slow, on_each_release]


@pytest.fixture
def old_feed(router_feeds: Path, tmp_path: Path) -> Path:
    """The packages of the first release in the feed `old` of a router."""
    feed = router_feeds / "old"
    if not feed.exists():
        if subprocess.run(
            ["git", "-C", packages.REPOSITORY, "cat-file", "-e", OLD], capture_output=True
        ).returncode:
            pytest.skip(f"the history of this checkout has no {OLD} (a shallow clone)")
        argv = ["git", "-C", packages.REPOSITORY, "archive", OLD]
        archive = subprocess.run(argv, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(tmp_path, filter="tar")
        packages.make_ipk(feed, repository=tmp_path)
    return feed


def version(router: OpenWrt) -> str:
    return router.sh("opkg list-installed tandem").split(" - ")[1].strip()


def restarted(router: OpenWrt, before: int) -> int:
    """The daemon runs anew, and the gateway is there. The first release has no `tandem status` on 22.03."""
    there = "ip -4 addr | grep -c 192.168.1.4/24"
    wait_until(
        lambda: pid(router) not in (0, before) and "1" in router.sh(there, status=None),
        60,
        "another daemon has the gateway",
        every=0.5,
        explain=lambda: router.sh("ip addr; ps w", status=None) + router.log,
    )
    assert "Traceback" not in router.log
    return pid(router)


def test_upgrade_downgrade_removal_and_again(old_feed: Path, router: OpenWrt) -> None:
    router.add_lan()
    [package] = old_feed.glob("tandem_*.ipk")
    old = f"/srv/old/{package.name}"
    router.sh(f"opkg install {old}")
    first = version(router)
    configure(router)
    router.sh("/etc/init.d/tandem start")
    running = restarted(router, 0)

    router.sh(
        "sed -i s,/srv/tandem,/srv/next, /etc/opkg/customfeeds.conf && opkg update && opkg upgrade tandem"
    )
    assert version(router) == "0.1.0-r2" != first
    assert "priority '150'" in router.sh("cat /etc/config/tandem")
    running = restarted(router, running)
    assert "upgrade" in router.sh("tandem --help"), "it is this release"

    router.sh(f"opkg install --force-downgrade {old}")
    assert version(router) == first
    running = restarted(router, running)

    router.sh("opkg upgrade tandem")
    running = restarted(router, running)
    router.sh("opkg remove tandem")
    assert pid(router) == 0 and not traces(router)
    router.sh("test ! -e /usr/lib/tandem && test ! -e /etc/init.d/tandem")

    router.sh("opkg install tandem")
    assert "priority '150'" in router.sh("cat /etc/config/tandem"), "it was edited, so the removal kept it"
    router.sh("/etc/init.d/tandem start")
    restarted(router, running)
