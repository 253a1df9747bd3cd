# SPDX-License-Identifier: GPL-2.0-or-later
"""Scheduling, in a process of its own: not every user may undo the settings."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path
from platform import libc_ver

import pytest

from tandem.scheduling import policy_name, quota_pause, settle_memory

PROGRAM = """
import os
from tandem.scheduling import policy_name, set_realtime
print(policy_name())
print(set_realtime(7))
print(policy_name())
print(os.sched_getscheduler(0) == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_getparam(0).sched_priority)
print(set_realtime(100))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_fifo() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "OTHER",
        "None",
        "FIFO 7",
        "True 7",
        "no real-time scheduling: Invalid argument",
    ]


@pytest.mark.parametrize(
    ("lines", "files", "pause_ms"),
    [
        ("0::/services/tandem\n", {"services/tandem/cpu.max": "5000 100000\n"}, 95),
        ("0::/services/tandem\n", {"services/tandem/cpu.max": "max 100000\n"}, 0),
        ("0::/of/tandem\n", {"of/cpu.max": "20000 50000\n", "of/tandem/cpu.max": "max 50000\n"}, 30),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 0),  # more than one core
        ("0::/../tandem\n", {"cpu.max": "5000 100000\n"}, 95),
        ("0::/x\n", {"x/cpu.max": "\n"}, 0),
        ("0::/x\n", {"x/cpu.max": "a b c\n"}, 0),
        (
            "4:memory:/m\n2:cpu,cpuacct:/t\n0::/\n",
            {"cpu,cpuacct/t/cpu.cfs_quota_us": "10000\n", "cpu,cpuacct/t/cpu.cfs_period_us": "100000\n"},
            90,
        ),
        ("2:cpu:/t\n", {"cpu/t/cpu.cfs_quota_us": "-1\n", "cpu/t/cpu.cfs_period_us": "100000\n"}, 0),
        ("2:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "1\n", "cpuset/cpu.cfs_period_us": "100000\n"}, 0),
        ("", {}, 0),
    ],
)  # fmt: skip
def test_the_pause_of_a_quota(tmp_path: Path, lines: str, files: dict[str, str], pause_ms: int) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(lines)
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    assert quota_pause(str(tmp_path), str(tmp_path / "cgroup")) == pause_ms * 1_000_000


def test_a_kernel_without_cgroups_forces_no_pause(tmp_path: Path) -> None:
    assert quota_pause(str(tmp_path), str(tmp_path)) == 0


def test_a_status_leaves_no_garbage() -> None:
    """A client may ask for it every second; what has cycles stays until the collector comes."""
    policy_name()
    gc.collect()
    gc.disable()
    try:
        policy_name()
        assert gc.collect() == 0
    finally:
        gc.enable()


STORM = """
import sys
from tandem.scheduling import settle_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4

if sys.argv[1] == "settled":
    settle_memory()
bytearray(8 << 20)
before = resident()
block = bytearray(4 << 20)  # below the top of the heap, if it is in the heap
above = [bytearray(1 << 10) for _ in range(256)]
del block
print(resident() - before)
"""


def test_memory_of_a_storm_goes_back_to_the_kernel() -> None:
    def kept(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", STORM, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert kept("settled") < 1024 < (kept("as it was") if libc_ver()[0] == "glibc" else 2048)


FLOOD = """
import sys
from tandem.scheduling import give_back, lock_memory, settle_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4

assert lock_memory() is None
settle_memory()
before = resident()
tables = [bytearray(1 << 12) for _ in range(4096)]
above = bytearray(1 << 12)  # the top of the heap stays
del tables
if sys.argv[1] == "given back":
    give_back()
locked = next(line for line in open("/proc/self/status") if line.startswith("VmLck:"))
print(resident() - before, locked.split()[1])
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_locked_memory_of_a_flood_is_given_back_and_the_rest_stays_locked() -> None:
    def kept(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FLOOD, how], capture_output=True, text=True, check=True)
        resident, locked = map(int, done.stdout.split())
        assert locked > 0
        return resident

    assert kept("given back") < 2048 < (kept("not") if libc_ver()[0] == "glibc" else 4096)


def test_what_a_reload_has_replaced_is_forgotten() -> None:
    """Its parts refer to each other, and were there when the collector was told to look at them no more."""

    class Part:
        def __init__(self) -> None:
            self.whole = self

    part = Part()
    gone = weakref.ref(part)
    try:
        settle_memory()
        del part
        gc.collect()
        assert gone() is not None
        settle_memory()
        assert gone() is None
    finally:
        gc.unfreeze()
