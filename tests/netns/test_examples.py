# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples with real servers, with tandemd; `make demo ARGS="--example nginx"` also has keepalived."""

from __future__ import annotations

from tests.examples import nginx


def test_nginx() -> None:
    with nginx.running("tandemd") as (lab, client):
        rows = list(nginx.acts(lab, client, "tandemd"))
    assert [row.what for row in rows] == [
        "r1 loses power", "r1 boots again", "r1's nginx hangs", "r1's nginx dies",
    ]  # fmt: skip
