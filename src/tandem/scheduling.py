# SPDX-License-Identifier: GPL-2.0-or-later
"""Scheduling: real-time priority, locked memory and no pauses for garbage keep the daemon on time.

Under CPU load 10 ms timers of an ordinary process are 29 ms late at p99.9, with SCHED_FIFO and
locked memory 0.2-2.8 ms (KERNEL-FACTS.md, Timers); late timers are false failovers.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys

# asm/mman.h
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = (
    (0x2000, 0x4000, 0x8000) if os.uname().machine.startswith("ppc") else (1, 2, 4)
)
M_MMAP_THRESHOLD = -3  # malloc.h: from this size on a block is a mapping of its own
# A daemon that spins for this long without sleeping is broken: the kernel then ends it (SIGXCPU),
# its addresses expire, and procd starts another one. keepalived's vrrp_rlimit_rttime.
RT_TIME_LIMIT_US = 2_000_000
# Made once: a library or a type for each call would be garbage that only the collector frees.
_LIBC = ctypes.CDLL(None, use_errno=True)
_SchedParam = ctypes.c_int * 16  # struct sched_param: the priority first; musl's has 48 bytes


def set_realtime(priority: int) -> str | None:
    """Run under SCHED_FIFO with `priority` (1..99); children do not. Return why that failed, or None."""
    try:
        resource.setrlimit(resource.RLIMIT_RTTIME, (RT_TIME_LIMIT_US, RT_TIME_LIMIT_US))
    except OSError as error:
        return f"no real-time scheduling: {error.strerror}"
    # musl's sched_setscheduler(), and so Python's, answers ENOSYS: POSIX means the whole process, the
    # kernel one thread. musl's pthread_setschedparam() asks the kernel.
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    problem = _LIBC.pthread_setschedparam(_this_thread(), policy, _SchedParam(priority))
    return f"no real-time scheduling: {os.strerror(problem)}" if problem else None


def realtime_priority() -> int:
    """Return the priority of this thread under SCHED_FIFO; 0: it has another policy."""
    name, _, priority = policy_name().partition(" ")
    return int(priority) if name == "FIFO" else 0


def quota_pause(proc: str = "/proc", cgroups: str = "/sys/fs/cgroup") -> int:
    """Return for how long a quota of CPU time may keep this process from running, in ns; 0: there is none.

    A process that has used its quota waits for the end of the period (Documentation/scheduler/sched-bwc.rst).
    A cgroup's quota binds those below it as well, but no real-time process. cgroup version 1 and 2.
    """
    if realtime_priority():
        return 0
    pause = 0
    for line in _lines(f"{proc}/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts) + 1):
            cgroup = "/".join([f"{cgroups}/{controllers}" if controllers else cgroups, *parts[:depth]])
            if controllers:
                words = _lines(f"{cgroup}/cpu.cfs_quota_us") + _lines(f"{cgroup}/cpu.cfs_period_us")
            else:
                words = " ".join(_lines(f"{cgroup}/cpu.max")).split()
            if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
                pause = max(pause, int(words[1]) - int(words[0]))
    return pause * 1000


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().split("\n")[:-1]
    except OSError:
        return []


def leave_realtime() -> None:
    """Run under SCHED_OTHER. OSError when that is refused."""
    if problem := _LIBC.pthread_setschedparam(_this_thread(), os.SCHED_OTHER, _SchedParam(0)):
        raise OSError(problem, os.strerror(problem))


def lock_memory() -> str | None:
    """Keep every page that is used in memory. Return why that failed, or None.

    MCL_ONFAULT (Linux 4.4) leaves out what was never touched: locking all of the interpreter's
    mappings would cost more memory than the daemon itself.
    """
    if _LIBC.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
        return f"memory not locked: {os.strerror(ctypes.get_errno())}"
    return None


def _forget_loading() -> None:
    """Forget how modules were loaded: 500 bytes each. Only in the daemon, which runs without `site`."""
    sys.path_importer_cache.clear()
    for name, module in list(sys.modules.items()) if sys.flags.no_site else ():
        if name.startswith("tandem.") and not hasattr(module, "__path__"):
            vars(module).update(__spec__=None, __loader__=None, __cached__=None)
            vars(module).pop("__annotations__", None)


def policy_name() -> str:
    """Return the scheduling policy of this thread, for people: "FIFO 50" or "OTHER"."""
    number, param = ctypes.c_int(), _SchedParam(0)
    if problem := _LIBC.pthread_getschedparam(_this_thread(), ctypes.byref(number), param):
        return f"unknown: {os.strerror(problem)}"
    policy = number.value & ~os.SCHED_RESET_ON_FORK
    if policy == os.SCHED_FIFO:
        return f"FIFO {param[0]}"
    return "OTHER" if policy == os.SCHED_OTHER else f"policy {policy}"


def _this_thread() -> ctypes.c_void_p:
    _LIBC.pthread_self.restype = ctypes.c_void_p
    return ctypes.c_void_p(_LIBC.pthread_self())


def settle_memory() -> None:
    """Spare the garbage collector the objects that live for ever. Call this after set-up and after a reload.

    Objects that a reload has replaced refer to each other, and the collector looks at old objects too seldom
    to free them: this call frees them.

    What Python remembers of directories and of how modules were loaded is forgotten; imports still work.

    Large blocks are given back to the kernel when they are freed: glibc stops that after the first one, and
    would keep the memory that a flood of connections needed for a moment. Other libraries never keep it.
    """
    _forget_loading()
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(M_MMAP_THRESHOLD, 128 * 1024)
    _trim()


def give_back() -> None:
    """Give memory back to the kernel that a flood of connections needed: 10 ms for 100,000 of them.

    The collector frees lists of spare objects, each of which would keep 1 MiB.
    """
    gc.collect()
    _trim()


def _trim() -> None:
    """Give back the free pages of glibc's heap, which the kernel takes only while memory is not locked."""
    if not hasattr(_LIBC, "malloc_trim"):
        return
    locked = _is_locked()
    if locked:
        _LIBC.munlockall()
    _LIBC.malloc_trim(0)
    if locked:
        lock_memory()


def _is_locked() -> bool:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return any(line.startswith("VmLck:") and line.split()[1] != "0" for line in status)
