# SPDX-License-Identifier: GPL-2.0-or-later
"""32 bit: the binding and its libubus, netlink, the replication channel; a pair of which one router is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.lab import SeedLab
from tests.netns.live import failover, peer, power_loss, synced
from tests.netns.test_replication_live import survive
from tests.openwrt_pieces import needs_i386

from .i386 import Tandem32, argv

pytestmark = needs_i386

SUITE = (
    "tests/openwrt/test_ubus.py", "tests/property/test_blobmsg.py", "tests/unit/test_process.py",
    "tests/unit/test_packet.py", "tests/unit/test_replication_message.py",
    "tests/unit/test_replication_session.py", "tests/unit/test_replication_cache.py",
    "tests/unit/test_replication_ctnetlink.py",
    "tests/unit/test_links.py", "tests/unit/test_rtnl_batch.py",
)  # fmt: skip


def test_the_binding_and_the_codecs(tmp_path: Path) -> None:
    """Tests that pass here pass there: those of what has structures, offsets and sizes in it."""
    pytest = [
        "python3",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "not million and not thousand",
        *SUITE,
    ]
    done = subprocess.run(argv(tmp_path, *pytest), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-20_000:] + done.stderr
    assert "skipped" not in done.stdout.splitlines()[-1], done.stdout[-2000:]


def test_a_pair_of_32_and_64_bit_keeps_all_connections(open_lab: Callable[[SeedLab], SeedLab]) -> None:
    """200 connections, there and back again: each router restores what the other one has told."""

    lab = open_lab(SeedLab(lambda number: synced(1) if number == 1 else Tandem32(synced(number))))
    survive(lab, failover, power_loss)
    assert peer(lab.r1)["word_size"] == 32 and peer(lab.r2)["word_size"] == 64
