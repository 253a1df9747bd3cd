# SPDX-License-Identifier: GPL-2.0-or-later
"""The binding on OpenWrt itself: its musl, its Python, its libubus and its ubusd, in a throw-away overlay."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.router import ROOT as CHECKOUT
from tests.openwrt_pieces import OVERLAY, ROOT, UBUSD, needs_root

_SCRIPT = f"""{OVERLAY}
mkdir -p srv/src srv/tests
mount --bind -o ro "$CHECKOUT/src" srv/src
mount --bind -o ro "$CHECKOUT/tests/openwrt" srv/tests
{UBUSD}
chroot . python3 -B /srv/tests/inside.py /srv/src
"""


@needs_root
def test_the_whole_surface_with_the_libraries_of_openwrt(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "WORK": str(tmp_path), "LOWER": str(ROOT)}
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "sh", "-c", _SCRIPT],
        env=environment | {"CHECKOUT": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout.endswith("ok\n"), done.stdout + done.stderr
    assert "/lib/libubus.so." in done.stdout
