# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the images of an official release come from; no machine is started."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import socket
import subprocess
import threading
from functools import partial
from http.client import HTTPConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from qemu import cache
from qemu.feeds import FeedServer
from qemu.release_guest import DISK_MIB, PINS, ReleaseError, pin, release_guest
from tests.lab import Host, Lab

pytestmark = pytest.mark.ci
KERNEL = b"a kernel"


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is laid out like the mirror, with small files, and a copy of the pins."""
    subprocess.run(["mke2fs", "-q", "-t", "ext4", str(tmp_path / "disk"), "4M"], check=True)
    disk = (tmp_path / "disk").read_bytes()
    release = json.loads(PINS.read_text())
    for architecture in ("x86_64", "aarch64"):
        target = tmp_path / f"mirror/releases/{release['version']}/targets/{release[architecture]['target']}"
        target.mkdir(parents=True)
        lines = []
        for kind, data in (("kernel", KERNEL), ("disk", gzip.compress(disk) + b"metadata")):
            name = release[architecture][kind].format(version=release["version"])
            (target / name).write_bytes(data)
            lines.append(f"{hashlib.sha256(data).hexdigest()} *{name}\n")
        (target / "sha256sums").write_text("".join(lines))
    copy = tmp_path / "pins.json"
    copy.write_text(json.dumps(release))
    monkeypatch.setenv("TANDEM_OPENWRT_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(cache, "ROOT", tmp_path / "cache")
    return copy


def test_another_list_than_pinned_is_refused(pins: Path) -> None:
    with pytest.raises(ReleaseError, match=r"sha256sums of x86_64: sha256 \w{64}, pinned \w{64}"):
        release_guest("x86_64", pins)


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_what_is_pinned(architecture: str) -> None:
    release = json.loads(PINS.read_text())
    assert re.fullmatch("[0-9a-f]{64}", release[architecture]["sha256sums"])
    assert re.fullmatch(r"\d\d\.\d\d\.\d+", release["version"])


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_pinned_files_become_an_image(pins: Path, architecture: str) -> None:
    pin(pins)
    image = release_guest(architecture, pins)
    assert image.kernel.read_bytes() == KERNEL
    described = subprocess.run(["dumpe2fs", "-h", str(image.disk)], capture_output=True, text=True).stdout
    blocks = re.search(r"Block count: *(\d+)", described)
    assert blocks and int(blocks[1]) == DISK_MIB * 1024, "there is no room"


def test_other_bytes_than_listed_are_refused(pins: Path, tmp_path: Path) -> None:
    pin(pins)
    for path in tmp_path.rglob("*-kernel.bin"):
        path.write_bytes(b"another kernel")
    with pytest.raises(ReleaseError, match=r"kernel.bin: sha256 \w{64}, sha256sums has \w{64}"):
        release_guest("x86_64", pins)


def test_feeds_from_a_directory_and_from_another_mirror(tmp_path: Path) -> None:
    (tmp_path / "feed").mkdir()
    (tmp_path / "feed/a b").write_bytes(b"x" * 100_000)
    (tmp_path / "secret").write_text("of this machine")
    with Lab("feeds") as lab:
        host = lab.add(Host("server", []))
        lab.up()

        def get(port: int, path: str) -> tuple[int, bytes]:
            connection = HTTPConnection("127.0.0.1")
            connection.sock = host.enter(lambda: socket.create_connection(("127.0.0.1", port), 10))
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.getheader("Content-Length"), "uclient-fetch fails without it"
            return answer.status, answer.read()

        own = ThreadingHTTPServer(
            ("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path / "feed")
        )
        threading.Thread(target=own.serve_forever, daemon=True).start()
        bases = {"feeds": str(tmp_path / "feed"), "openwrt": f"http://127.0.0.1:{own.server_address[1]}/"}
        server = FeedServer(host, 8000, bases)
        try:
            for base in bases:
                assert get(8000, f"/{base}/a%20b") == (200, b"x" * 100_000)
                assert get(8000, f"/{base}/none")[0] == 404
                assert get(8000, f"/{base}/../secret")[0] == get(8000, f"/{base}/%2e%2e/secret")[0] == 404
            assert get(8000, "/secret")[0] == 404
        finally:
            server.close()
            own.shutdown()
            own.server_close()


def test_a_mirror_that_lacks_a_file(pins: Path, tmp_path: Path) -> None:
    pin(pins)
    for path in tmp_path.rglob("*.img.gz"):
        path.unlink()
    with pytest.raises(ReleaseError, match="No such file"):
        release_guest("aarch64", pins)
