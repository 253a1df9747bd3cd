# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines of README and of the feed's page, on OpenWrt's own root: they install, and check signatures."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qemu.apk_feed import PACKER, apk_feed
from tests.lab.wait import wait_until
from tests.openwrt_pieces import APK, needs
from tests.packaging import packages, test_apk
from tests.packaging.conftest import opkg_router
from tests.packaging.router import OpenWrt, needs_router
from tests.packaging.test_apk import apk_router
from tests.packaging.test_opkg import needs_planner

URL = "http://127.0.0.1"
apk_feeds = test_apk.apk_feeds
needs_apk = needs(APK / "apk", APK / "functions.sh")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, router_feeds: Path) -> Path:
    """`make feed`, and beside it what stands in for OpenWrt's own packages, signed with the same keys."""
    directory = tmp_path_factory.mktemp("web")
    keys, feed = directory / "keys", directory / "feed"
    settings = [f"FEED_DIR={feed}", f"FEED_KEYS={keys}", "FEED_ARCHITECTURES=mips_24kc"]
    packages.make_target("feed", *settings)
    shutil.copytree(router_feeds / "standin", feed / "standin")
    for name in test_apk.PRESENT:
        packages.stand_in(feed / "standin", name)
    apk_feed(feed / "standin", feed / "standin-apk")
    (directory / "more").mkdir()
    packages.stand_in(directory / "more", "libc")  # opkg knows that the root has it
    apk_feed(directory / "more", feed / "standin-apk")
    for program, where in ((packages.FEED / "standalone/ipk.py", "standin"), (PACKER, "standin-apk")):
        argv = [sys.executable, str(program), "index", str(feed / where)]
        subprocess.run(argv, env=os.environ | {"FEED_KEYS": str(keys)}, check=True, stdout=subprocess.DEVNULL)
    return feed


@contextmanager
def served(router: OpenWrt, directory: Path) -> Iterator[None]:
    """A web server at 127.0.0.1 of the router."""
    server = ["-m", "http.server", "80", "--bind", "127.0.0.1", "--directory", str(directory)]
    inside = ["nsenter", f"--net=/proc/{router.pid}/ns/net", sys.executable, *server]
    with subprocess.Popen(inside, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            fetch = f"uclient-fetch -q -O /dev/null {URL}/index.html"
            wait_until(
                lambda: "no" not in router.sh(f"{fetch} || echo no", status=None), 20, "served", every=0.3
            )
            yield
        finally:
            child.kill()


def lines(web: Path, tool: str) -> list[str]:
    """The lines of the page for opkg or apk; the first one gets the key."""
    page = (web / "index.html").read_text()
    blocks = [html.unescape(block) for block in re.findall(r"<pre>(.*?)</pre>", page, re.S)]
    [block] = [block for block in blocks if f"{tool} update" in block]
    return block.replace("FEED", URL).splitlines()


def readme(tool: str) -> list[str]:
    """The same lines of README."""
    text = (packages.REPOSITORY / "README.md").read_text()
    block = next(b for b in re.findall(r"```sh\n(.*?)```", text, re.S) if f"{tool} update && {tool}" in b)
    return block.replace("router# ", "").replace("http://192.168.1.10", URL).splitlines()


@pytest.mark.parametrize("tool", ["opkg", "apk"])
def test_readme_and_page_say_the_same(tool: str) -> None:
    page = (packages.FEED / "standalone/feed_page.py").read_text()
    found = [line.replace("&amp;", "&") for line in page.splitlines()]
    for line in readme(tool):
        shape = re.sub(r"/keys/[0-9a-f]{16}", "/keys/{fingerprint}", line.replace(URL, "FEED"))
        assert any(shape in one for one in found), shape


@needs_router
@needs_planner
@pytest.mark.slow
def test_by_opkg(web: Path, router_feeds: Path, tmp_path: Path) -> None:
    with opkg_router(tmp_path, router_feeds) as router, served(router, web):
        router.sh(
            "cp /rom/etc/opkg.conf /etc/opkg.conf 2>/dev/null; echo 'option check_signature' >>/etc/opkg.conf"
        )
        feeds = f"arch all 1\narch noarch 1\narch x86_64 10\nsrc/gz standin {URL}/standin\n"
        router.write("/etc/opkg/customfeeds.conf", feeds)
        key, *others = lines(web, "opkg")
        assert "Signature check failed" in router.sh("opkg update", status=None)
        assert router.sh("; ".join(others), status=None) and "tandem" not in router.sh("opkg list-installed")
        router.write("/etc/opkg/customfeeds.conf", feeds)
        for line in (key, *others):
            router.sh(line)
        assert "tandem - 0.1.0-r1" in router.sh("opkg list-installed")
        router.sh("opkg remove tandem")


@needs_router
@needs_planner
@needs_apk
@pytest.mark.slow
def test_by_apk(web: Path, apk_feeds: Path, tmp_path: Path) -> None:
    with apk_router(tmp_path, apk_feeds) as router, served(router, web):
        router.sh("rm /etc/apk/config /etc/apk/repositories; mkdir -p /etc/apk/keys /etc/apk/repositories.d")
        router.write("/etc/apk/repositories.d/standin.list", f"{URL}/standin-apk/packages.adb\n")
        key, *others = lines(web, "apk")
        assert "UNTRUSTED" in router.sh("; ".join(others), status=None)
        assert "tandem" not in router.sh("apk list --installed")
        for line in (key, *others):
            router.sh(line)
        assert "tandem-0.1.0-r1" in router.sh("apk list --installed")
        router.sh("apk del tandem")
