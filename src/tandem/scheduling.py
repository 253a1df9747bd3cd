# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeps the daemon on time on a loaded router: real-time scheduling, locked memory, no GC pauses.

Under CPU load 10 ms timers of an ordinary process are 29 ms late at p99.9, with SCHED_FIFO and
locked memory 0.2-2.8 ms (KERNEL-FACTS.md, Timers); late timers are false failovers.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource

MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4  # asm-generic/mman-common.h, mman.h
# A daemon that spins for this long without sleeping is broken: the kernel then ends it (SIGXCPU),
# its addresses expire, and procd starts another one. keepalived's vrrp_rlimit_rttime.
RT_TIME_LIMIT_US = 2_000_000


def set_realtime(priority: int) -> str | None:
    """Run under SCHED_FIFO with `priority` (1..99); children do not. Returns why not, if not."""
    try:
        resource.setrlimit(resource.RLIMIT_RTTIME, (RT_TIME_LIMIT_US, RT_TIME_LIMIT_US))
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(priority))
    except OSError as error:
        return f"no real-time scheduling: {error.strerror}"
    return None


def lock_memory() -> str | None:
    """Keep every page that is used in memory. Returns why not, if not.

    MCL_ONFAULT (Linux 4.4) leaves out what was never touched: locking all of the interpreter's
    mappings would cost more memory than the daemon itself.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT):
        return f"memory not locked: {os.strerror(ctypes.get_errno())}"
    return None


def policy_name() -> str:
    """The scheduling policy of this process, for people: "FIFO 50" or "OTHER"."""
    policy = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
    if policy == os.SCHED_FIFO:
        return f"FIFO {os.sched_getparam(0).sched_priority}"
    return "OTHER" if policy == os.SCHED_OTHER else f"policy {policy}"


def settle_memory() -> None:
    """Take what lives for ever out of the garbage collector's work. Call when set-up is done."""
    gc.collect()
    gc.freeze()
