# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel of a build machine may lack and a router's has: nft queue, 802.1Q."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qemu.lab_guest import PYTHON
from qemu.router import Pair, pair_config
from qemu.traffic import traffic
from qemu.trunk import TrunkRouter
from tandem.replication.gate_rules import TABLE
from tests.lab import FAR, wait_until

OPENER = str(Path(__file__).parents[1] / "lab/opener.py")
OPENED = 60
RATE = "20"  # a second


def netfilterqueue() -> dict[str, bytes | Path]:
    """NetfilterQueue as this machine has it, if its Python is the guest's."""
    spec = importlib.util.find_spec("netfilterqueue")
    if spec is None or spec.origin is None or "{}.{}".format(*sys.version_info) != PYTHON:
        pytest.skip(f"no NetfilterQueue for Python {PYTHON} on this machine, and Debian has none")
    package = Path(spec.origin).parent
    names = [path for path in package.iterdir() if path.suffix in (".py", ".so")]
    return {f"/usr/lib/python3/dist-packages/netfilterqueue/{path.name}": path for path in names}


def test_no_connection_is_lost_behind_the_gate_x86_64(pair: Callable[..., Pair]) -> None:
    """With the expression `queue` of nft: every connection that a client holds outlives the router."""
    configs = {number: pair_config(number, guarantee="connection") for number in (1, 2)}
    lab = pair("x86_64", "x86_64", configs=configs, extra=netfilterqueue())
    for router in lab.routers:
        router.install()
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


def test_vlans_and_a_bridge_x86_64(pair: Callable[..., Pair]) -> None:
    """eth0.1 in br-lan and eth0.2 as WAN on one cable; the cable is pulled."""
    lab = pair("x86_64", "x86_64", kind=TrunkRouter)
    for router in lab.routers:
        router.install()
    active = lab.in_step()
    other = lab.other(active)
    with traffic(lab) as client:
        start = time.monotonic()
        active.pull("eth0")
        wait_until(lambda: lab.active is other, 60, "the other takes over", every=0.2)
        client.outage_since(start)
        client.go_on()
        assert set(active.states().values()) == {"FAULT"}
        active.put("eth0")
        assert lab.in_step() is other
        client.go_on()
