# SPDX-License-Identifier: GPL-2.0-or-later
"""The connection guarantee with nft's `queue`, which the kernel of a build machine may lack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qemu.netfilterqueue import CompileError, netfilterqueue
from qemu.router import Pair
from tandem.gate.rules import TABLE
from tests.lab import FAR, wait_until
from tests.openwrt_pieces import GATE

from .guests import LAB

OPENER = str(Path(__file__).parents[1] / "lab/opener.py")
OPENED = 60
RATE = "20"  # a second


def _needed(name: str) -> dict[str, Any]:
    """Options for the pair; skips where NetfilterQueue can't be had for it."""
    kind, architecture = name.split("-")
    if kind != "lab":
        if not (GATE / "netfilterqueue").exists():
            pytest.skip(f"no NetfilterQueue for the root's Python: {GATE} (see tests/openwrt_pieces.py)")
        return {}
    try:
        return {"extra": [netfilterqueue(architecture)]}
    except CompileError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", [*LAB, "root-x86_64"])
def test_no_connection_is_lost_behind_the_gate(pair: Callable[..., Pair], name: str) -> None:
    """Every connection that a client holds outlives the router that it was opened through."""
    lab = pair(name, **_needed(name))
    lab.set_up()
    for router in lab.routers:
        router.guarantee_connections()
    active = lab.in_step()
    wait_until(lambda: active.status("conntrack")["gate"]["state"] == "on", 60, "the gate is on", every=0.5)
    assert TABLE in active.run("nft list tables") and "queue" in active.run("nft list ruleset")

    served = lab.server.popen(sys.executable, "-IS", OPENER, "serve", "81", stdout=subprocess.PIPE)
    assert served.stdout and served.stdout.readline()
    argv = [sys.executable, "-IS", OPENER, "open", FAR, "81", RATE]
    opener = lab.client.popen(*argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert opener.stdout and opener.stdin
    while json.loads(opener.stdout.readline())["established"] < OPENED:
        continue
    active.power_off()
    wait_until(lambda: lab.other(active).active, 60, "the other takes over", every=0.2)
    opener.stdin.close()
    last = json.loads(opener.stdout.read().splitlines()[-1])
    assert last["survived"] >= OPENED and last["lost"] == 0, {**last, "ms": ()}
