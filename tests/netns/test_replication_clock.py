# SPDX-License-Identifier: GPL-2.0-or-later
"""The time of day jumps, as it does when a router without a battery gets its time: nothing depends on it.

To change this machine's would disturb others. A library in front of libc tells the daemons another one.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from functools import partial

import pytest

from tests.lab import FAR, Router, SeedLab, wait_until

from .daemon import status
from .live import (
    SyncedTandem,
    connections,
    equal,
    no_resets,
    peer,
    power_loss,
    started,
    synced,
    takes_over,
    told,
    transitions,
    udp_flows,
)

Open = Callable[[SeedLab], SeedLab]

YEAR = 365 * 86400
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static long offset(void)
{
    static volatile long *shared;
    if (!shared) {
        int fd = open(getenv("CLOCK_FILE"), O_RDONLY | O_CLOEXEC);
        shared = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    }
    return *shared;
}

int clock_gettime(clockid_t clock, struct timespec *found)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, found);
    if (!failed && clock == CLOCK_REALTIME)
        found->tv_sec += offset();
    return failed;
}

time_t time(time_t *found)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found)
        *found = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    found->tv_sec = now.tv_sec;
    found->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


class ClockedTandem(SyncedTandem):
    """Its time of day is as far off as `set_clock` says."""

    def prepare(self, router: Router) -> None:
        super().prepare(router)
        set_clock(router, 0)
        if not router.file("clock.so").exists():
            router.file("clock.c").write_text(SOURCE)
            command = [
                "gcc",
                "-shared",
                "-fPIC",
                "-o",
                router.file("clock.so"),
                router.file("clock.c"),
                "-ldl",
            ]
            subprocess.run(command, check=True)

    def commands(self, router: Router) -> list[list[str]]:
        [argv] = super().commands(router)
        settings = f"LD_PRELOAD={router.file('clock.so')}", f"CLOCK_FILE={router.file('clock')}"
        return [["env", *settings, *argv]]


def set_clock(router: Router, offset: int) -> None:
    """Seconds from the real time of day."""
    with open(os.open(router.file("clock"), os.O_CREAT | os.O_WRONLY), "wb", buffering=0) as file:
        file.write(struct.pack("=l" if struct.calcsize("l") == 4 else "=q", offset))


def clocked(number: int) -> ClockedTandem:
    plain = synced(number)
    made = ClockedTandem(plain.instances, number, "")
    made.text = plain.text
    return made


def began(router: Router) -> int:
    """When it came into its state, by its time of day."""
    return int(status(router)["instances"][0]["since"])


def tells(router: Router, when: int) -> bool:
    return abs(began(router) - when) < 60


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_the_time_of_day_jumps(open_lab: Open) -> None:
    lab = open_lab(SeedLab(clocked))
    active, backup = started(lab)
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        udp_flows(lab.client, 500)
        told(lab)
        before = [(transitions(router), peer(router)["sessions"]) for router in lab.routers]
        resyncs = peer(active)["resyncs"]
        since = {router: began(router) for router in lab.routers}
        for offset in (10 * YEAR, -20 * YEAR, 3600, 0):
            for router in lab.routers:
                set_clock(router, offset)
                wait_until(partial(tells, router, since[router] + offset), 5, "it has another time of day")
            udp_flows(lab.client, 200, source=6000)
            flows.all_go_on()
            wait_until(lambda: equal(lab), 10, "both have the same")
        assert [(transitions(router), peer(router)["sessions"]) for router in lab.routers] == before
        assert peer(active)["resyncs"] == resyncs
        set_clock(backup, 10 * YEAR)
        power_loss(lab, active)
        takes_over(lab, backup)
        flows.all_go_on()
