# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples with real servers, with tandemd; `make demo ARGS="--example nginx"` also has keepalived."""

from __future__ import annotations

import pytest

from tests.examples import nginx, services
from tests.lab import wait_until


@pytest.mark.parametrize("kind", ["tandemd", "keepalived"])
def test_nginx(kind: str) -> None:
    with nginx.running(kind) as (lab, client):
        rows = list(nginx.acts(lab, client, kind))
    assert [row.what for row in rows] == [
        "r1 loses power", "r1 boots again", "r1's nginx hangs", "r1's nginx dies", "it dies for good",
    ]  # fmt: skip


@pytest.mark.parametrize("name", services.SERVERS)
def test_a_server_follows(name: str) -> None:
    with services.running(name, "tandemd") as (lab, client, server):
        rows = list(services.acts(lab, client, server, "tandemd"))
        assert tuple(row.what for row in rows) == services.ACTS
        assert len(client.answers) > 10 and client.lost() == ""
        assert server.twice(lab.directory) == 0, "the kernel refused no second server"
        if name == "mariadb":  # and it does refuse one
            lab.routers[1].popen(*server.command(lab.directory).split())
            wait_until(lambda: server.twice(lab.directory), 15, "a second server finds the data locked")
