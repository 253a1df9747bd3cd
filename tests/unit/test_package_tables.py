# SPDX-License-Identifier: GPL-2.0-or-later
"""The package's postrm script removes every nftables table that a killed daemon may have left."""

from __future__ import annotations

import re
from pathlib import Path

from tandem.plan.result import ADDRESS_TABLE, DHCP_TABLE, GATE_TABLE, NOTRACK_TABLE, TABLE

MAKEFILE = Path(__file__).parents[2] / "openwrt-feed/tandem/Makefile"


def test_removal_knows_every_table() -> None:
    [pattern] = re.findall(r"nft list tables .*grep -E '(.*)\$\$'", MAKEFILE.read_text())
    for name in (TABLE, GATE_TABLE, DHCP_TABLE, ADDRESS_TABLE, NOTRACK_TABLE):
        assert re.search(f"{pattern}$", f"table inet {name}")
    assert not re.search(f"{pattern}$", "table inet tandem_of_mine")
