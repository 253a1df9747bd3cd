# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory of the resident daemon with everything configured."""

from __future__ import annotations

from pathlib import Path

from tests.lab import Tandem
from tests.openwrt_pieces import needs_ubus

from . import everything

pytestmark = needs_ubus

LIMIT_KIB = 15 * 1024


def test_everything_stays_below_its_limit(tmp_path: Path) -> None:
    with everything.pair(tmp_path) as routers:
        for router in routers:
            for command in ("status", "conntrack", "history") * 10:
                Tandem.request(router, command)
            assert "libubus" in Path(f"/proc/{router.pid}/maps").read_text()
            assert router.cost().rss_kib < LIMIT_KIB, router.log()
