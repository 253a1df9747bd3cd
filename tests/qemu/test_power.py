# SPDX-License-Identifier: GPL-2.0-or-later
"""Power loss of the active router: what a client has goes on through the other one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qemu import pairs
from qemu.router import Pair
from qemu.traffic import traffic
from tests.lab import netns, wait_until

from .guests import LAB, MIXED, OPENWRT, on, skipped


def survives_power_loss(lab: Pair) -> None:
    """The active router loses its power under traffic; the other takes over, and the first one comes back."""
    active = lab.in_step()
    other = lab.other(active)
    active.run("sync")
    with traffic(lab) as client:
        assert lab.in_step() is active
        start = time.monotonic()
        active.power_off()
        outage = client.outage_since(start, 120)
        assert outage.lost > 0, "a router lost its power and nothing was lost: did it route at all?"
        client.go_on()
        assert other.active

        active.power_on()
        active.wait_booted()
        assert lab.in_step() is other, "the router that came back took over although nopreempt is set"
        client.go_on()


@on(*LAB, *OPENWRT)
def test_downloads_survive_a_power_loss(standing: Pair) -> None:
    survives_power_loss(standing)


@on(pytest.param(MIXED[0], marks=pytest.mark.ci), *MIXED[1:])
def test_downloads_survive_power_losses_of_a_mixed_pair(standing: Pair) -> None:
    """Both ways: what one architecture's kernel says of its connections, the other's takes.

    CI runs the first of these pairs only: a router of each architecture loses its power in it.
    """
    first = standing.in_step()
    survives_power_loss(standing)
    assert standing.in_step() is not first
    survives_power_loss(standing)
    assert standing.in_step() is first


_KILLED = """
from qemu.lab_guest import lab_guest
from qemu.router import Pair
image = lab_guest("x86_64")
lab = Pair([image, image]).up()
lab.r1.power_on()
print(lab.r1.pid_of_qemu, lab.prefix, flush=True)
input()
"""


@pytest.mark.ci
def test_a_run_that_is_killed_leaves_no_machine_x86_64() -> None:
    with skipped():
        pairs.lab("x86_64")
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"}
    argv = [sys.executable, "-c", _KILLED]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as run:
        assert run.stdout
        pid, prefix = run.stdout.readline().decode().split()
        assert alive(int(pid))
        run.kill()
    wait_until(lambda: not alive(int(pid)), 20, "QEMU ends with the run")
    assert any(name.startswith(prefix) for name in netns.remove_stale())


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
