# SPDX-License-Identifier: GPL-2.0-or-later
"""What Tandem uses of OpenWrt is there, on each genuine root, and docs/openwrt.md lists it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.openwrt_pieces import MAIN, ROOT, ROOT23, needs
from tests.packaging.interfaces import INTERFACES, missing
from tests.packaging.packages import REPOSITORY


def test_the_page_has_this_table() -> None:
    page = (REPOSITORY / "docs/openwrt.md").read_text()
    table = page[page.index("| interface | probed |") :]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", table.partition("\n\n")[0], re.M)
    assert rows[1:] == [(row.name, row.probed) for row in INTERFACES]


@pytest.mark.parametrize(
    "root",
    [
        pytest.param(ROOT, marks=needs(ROOT / "sbin/netifd"), id="22.03"),
        pytest.param(ROOT23, marks=needs(ROOT23 / "sbin/netifd"), id="23.05"),
        pytest.param(MAIN, marks=needs(MAIN / "sbin/netifd"), id="main"),
    ],
)
def test_a_release_has_them(root: Path) -> None:
    assert missing(root) == []


@pytest.mark.parametrize("root", [ROOT, ROOT23, MAIN], ids=["22.03", "23.05", "main"])
def test_dnsmasq_still_needs_a_restart_for_leases(root: Path) -> None:
    """When a release has `add_lease` on ubus, this fails: then dhcp/gateway.py should use it."""
    program = root / "usr/sbin/dnsmasq"
    if not program.exists():
        pytest.skip(f"no {program}")
    assert b"add_lease" not in program.read_bytes()
