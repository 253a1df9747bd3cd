# SPDX-License-Identifier: GPL-2.0-or-later
"""A genuine OpenWrt on ways that other scenarios do not go: from a tarball, and from a release's mirror."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qemu import cache, pairs
from qemu.apk_feed import apk_feed
from qemu.image import ext4
from qemu.kernel import debian_kernel
from qemu.openwrt_router import DEFAULT_SERVICES, FEEDS_PORT, OpenWrtPair, ReleaseRouter, RootRouter
from qemu.release_guest import pin, release_guest
from qemu.root_guest import root_guest
from qemu.router import Pair
from tests.lab import PROVIDER
from tests.openwrt_pieces import APK, ROOT, needs
from tests.packaging import packages

from .guests import LOGS, booted, skipped
from .test_faults import downloads_survive_an_upgrade

pytestmark = needs(ROOT / "sbin/procd", ROOT / "bin/opkg", ROOT / "usr/bin/python3")
TARGET = "x86/64"


def test_a_root_in_a_tarball_x86_64(tmp_path: Path) -> None:
    with skipped():
        pairs.check("x86_64")
    file = tmp_path / "root.tar.gz"
    subprocess.run(["tar", "-czf", str(file), "--numeric-owner", "-C", str(ROOT), "."], check=True)
    image = root_guest(file, "x86_64")
    with Pair([image, image], RootRouter).up() as lab:
        try:
            lab.r1.power_on()
            lab.r1.wait_booted()
            release = (ROOT / "etc/openwrt_release").read_text()
            assert lab.r1.run("cat /etc/openwrt_release") == release
            assert lab.r1.run("uname -m").strip() == "x86_64"
        finally:
            lab.r1.keep_logs(LOGS / "tarball")


def test_a_release_from_its_mirror_x86_64(
    tmp_path: Path, router_feeds: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The genuine root as if it were a released image: downloaded by HTTP, checked, set up by its console.

    What our package depends on comes from its own feeds. Only the kernel is not OpenWrt's: it takes an
    initramfs.
    """
    with skipped():
        pairs.check("x86_64")
    mirror, pins = _lay_out(tmp_path, router_feeds / "standin")
    with _served(mirror) as url:
        monkeypatch.setenv("TANDEM_OPENWRT_MIRROR", url)
        monkeypatch.setattr(cache, "ROOT", tmp_path / "cache")
        pin(pins)
        image = release_guest("x86_64", pins)
        with OpenWrtPair([image, image], ReleaseRouter, router_feeds, url).up() as lab:
            try:
                lab.r1.power_on()
                lab.r1.wait_booted()
                lab.serve()
                lab.r1.install()
                assert lab.r1.run("opkg list-installed python3-pyroute2"), "it is not from the mirror's feeds"
                assert int(lab.r1.run("df -m / | sed 1d").split()[1]) > 400, "its disk did not grow"
            finally:
                lab.r1.keep_logs(LOGS / "mirror")


class ApkRouter(RootRouter):
    """The root with apk in the place of opkg, and the functions that packages for apk call."""

    def files(self) -> dict[str, bytes | Path]:
        return super().files() | {"/usr/bin/apk": APK / "apk", "/lib/functions.sh": APK / "functions.sh"}

    def first_boot(self) -> str:
        url = f"http://{PROVIDER}:{FEEDS_PORT}/feeds"
        return f"""
{DEFAULT_SERVICES}
rm /bin/opkg
mkdir -p /etc/apk/repositories.d
for feed in tandem standin; do
	echo "{url}/$feed/packages.adb"
done >/etc/apk/repositories.d/customfeeds.list
"""

    def install(self) -> None:
        self.run("apk add --initdb")  # here: part of what it makes is in /tmp, which a boot empties
        super().install()


@needs(APK / "apk", APK / "functions.sh")
def test_a_router_with_apk_x86_64(tmp_path: Path, router_feeds: Path) -> None:
    """apk installs our packages and their dependencies, and upgrades a daemon that runs."""
    with skipped():
        pairs.check("x86_64")
    ipks, feeds = tmp_path / "ipks", tmp_path / "feeds"
    shutil.copytree(router_feeds, ipks)
    for name in ("python3-light", "python3-ctypes"):  # the root has them, but its apk knows of no package
        packages.stand_in(ipks / "standin", name)
    for name in ("tandem", "next", "standin"):
        apk_feed(ipks / name, feeds / name)
    image = root_guest(ROOT, "x86_64")
    with booted("apk", OpenWrtPair([image, image], ApkRouter, feeds)) as lab:
        lab.set_up()
        assert "opkg" not in lab.r1.run("ls /bin /usr/bin")
        downloads_survive_an_upgrade(lab)


def _lay_out(directory: Path, packages_feed: Path) -> tuple[Path, Path]:
    """A mirror with images and feeds, and pins for it."""
    root = directory / "root"
    subprocess.run(["cp", "-a", str(ROOT), str(root)], check=True)
    subprocess.run(["chroot", str(root), "/bin/sh", "-c", DEFAULT_SERVICES], check=True)
    # A released opkg has this from its own configuration file.
    with (root / "etc/opkg.conf").open("a") as file:
        file.write("arch all 1\narch noarch 1\narch x86_64 10\n")
    ext4(root, directory / "disk", 160)
    kernel = debian_kernel("x86_64")
    contents = {
        "kernel": kernel.image.read_bytes(),
        "initrd": kernel.initrd.read_bytes(),
        "disk.img.gz": gzip.compress((directory / "disk").read_bytes(), 1),
    }
    lists = (root / "etc/opkg/distfeeds.conf").read_text()
    version = re.search(r"/releases/([^/]+)/", lists)
    assert version
    mirror = directory / "mirror"
    target = mirror / f"releases/{version[1]}/targets/{TARGET}"
    target.mkdir(parents=True)
    release: dict[str, object] = {"version": version[1], "mirror": "http://nowhere.invalid"}
    lines = []
    for name, data in contents.items():
        (target / name).write_bytes(data)
        lines.append(f"{hashlib.sha256(data).hexdigest()} *{name}\n")
    (target / "sha256sums").write_text("".join(lines))
    files = {name.partition(".")[0]: name for name in contents}
    pins = directory / "pins.json"
    pins.write_text(json.dumps(release | {"x86_64": {"target": TARGET, **files}}))
    for path in re.findall(r"https?://[^/]+/(\S+)", lists):
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith("/base"):
            (mirror / path).symlink_to(packages_feed)
        else:
            (mirror / path).mkdir()
            packages.packer().index(mirror / path)
    return mirror, pins


@contextmanager
def _served(directory: Path) -> Iterator[str]:
    """HTTP on this machine, until the block ends."""
    argv = [
        sys.executable,
        "-u",
        "-m",
        "http.server",
        "0",
        "--bind",
        "127.0.0.1",
        "--directory",
        str(directory),
    ]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout
            port = re.search(r"port (\d+)", server.stdout.readline())
            assert port
            yield f"http://127.0.0.1:{port[1]}"
        finally:
            server.kill()
