# SPDX-License-Identifier: GPL-2.0-or-later
"""Another time of day for one program: a library in front of libc.

Setting the time of the machine would disturb others.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

LIBRARY = "clock.so"
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


def build(directory: Path) -> Path:
    """Compile the library into a directory; FileNotFoundError: there is no gcc."""
    source, library = directory / "clock.c", directory / LIBRARY
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def preload(library: Path, file: Path) -> list[str]:
    """Return the beginning of a command line whose program has the time of day of `file`."""
    return ["env", f"LD_PRELOAD={library}", f"CLOCK_FILE={file}"]


def set_clock(file: Path, offset: int) -> None:
    """Let the time of day of the programs with this file be so many seconds from the real one."""
    with open(os.open(file, os.O_CREAT | os.O_WRONLY), "wb", buffering=0) as opened:
        opened.write(struct.pack("=l" if struct.calcsize("l") == 4 else "=q", offset))
