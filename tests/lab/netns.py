# SPDX-License-Identifier: GPL-2.0-or-later
"""Network namespaces: make, enter, empty and remove them.

A namespace of the lab is named `tandem-<tag><number>-<pid>-<host>` (`prefix`), so that a later run can
see which ones belong to a process that is gone (`remove_stale`) and never touches anyone else's.

Two ways in: `ip netns exec` starts a program inside, and `enter` runs a Python function inside,
in a thread of its own (setns(2) moves one thread only), which costs 0.1 ms and no process.
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

DIRECTORY = Path("/run/netns")  # where iproute2 pins namespaces
CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h
_NAME = re.compile(r"tandem-[a-z]+\d+-(\d+)-")
_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


def prefix(tag: str) -> str:
    """The beginning of names of namespaces, another one at each call; the tag consists of letters."""
    return f"tandem-{tag}{next(_numbers)}-{os.getpid()}-"


class LabError(RuntimeError):
    """A command that builds or changes the lab failed."""


def run(argv: Sequence[str], *, stdin: str = "", check: bool = True) -> str:
    """Run a command and return its output. LabError with its messages when it fails."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stderr or done.stdout}{stdin}")
    return done.stdout


def ip_batch(lines: Iterable[str], namespace: str | None = None, *, force: bool = False) -> None:
    """Run many `ip` commands in one process; `force` goes on after a command that fails."""
    text = "".join(f"{line}\n" for line in lines)
    if text:
        where = ["-n", namespace] if namespace else []
        run(["ip", *where, *(["-force"] if force else []), "-batch", "-"], stdin=text, check=not force)


def enter(namespace: str, function: Callable[[], T]) -> T:
    """Call a function in a thread that lives in the namespace, and return what it returns.

    Sockets that it opens stay in that namespace; files under /proc/sys/net are that namespace's.
    Exceptions pass through to the caller.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            descriptor = os.open(DIRECTORY / namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(descriptor, CLONE_NEWNET) != 0:
                    code = ctypes.get_errno()
                    raise OSError(code, f"setns {namespace}: {os.strerror(code)}")
            finally:
                os.close(descriptor)
            outcome.append(function())
        except BaseException as error:  # noqa: BLE001 - handed over to the calling thread, whatever it is
            failure.append(error)

    thread = threading.Thread(target=body, name=f"in {namespace}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def set_links(namespace: str, devices: Iterable[str], up: bool) -> None:
    """Set links up or down, without a program.

    On a busy machine a program starts 250 ms later: until then the kernel of a router that has lost its power
    would go on answering for its addresses, beside its successor's.
    """
    names = list(devices)

    def change() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for name in names:
                request = struct.pack("16sH14x", name.encode(), 0)
                flags = struct.unpack_from("16xH", fcntl.ioctl(sock, _SIOCGIFFLAGS, request))[0]
                flags = flags | _IFF_UP if up else flags & ~_IFF_UP
                fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags))

    enter(namespace, change)


def write_sysctls(namespace: str, values: dict[str, str | int]) -> None:
    """Set values under /proc/sys/net of a namespace; keys are paths such as "ipv4/ip_forward"."""

    def body() -> None:
        for key, value in values.items():
            Path("/proc/sys/net", key).write_text(str(value))

    enter(namespace, body)


def read_sysctl(namespace: str, key: str) -> str:
    """One value under /proc/sys/net of a namespace."""
    return enter(namespace, lambda: Path("/proc/sys/net", key).read_text().strip())


def processes_inside(namespaces: Iterable[str]) -> list[int]:
    """Ids of the processes that live in any of the namespaces, in one pass over /proc."""
    inodes = {(DIRECTORY / name).stat().st_ino for name in namespaces if (DIRECTORY / name).exists()}
    found = []
    for entry in os.listdir("/proc") if inodes else ():
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                if os.stat(f"/proc/{entry}/ns/net").st_ino in inodes:
                    found.append(int(entry))
            except OSError:
                continue  # it ended meanwhile
    return found


def kill_inside(namespaces: Sequence[str], timeout: float = 5.0) -> None:
    """Kill every process in the namespaces and wait until they are gone.

    Zombies are in no namespace any more: whoever started them reaps them.
    """
    deadline = time.monotonic() + timeout
    while pids := processes_inside(namespaces):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise LabError(f"processes {pids} in {', '.join(namespaces)} do not end")
        time.sleep(0.005)


def remove(namespaces: Sequence[str]) -> None:
    """Kill what runs in the namespaces and remove them; those that do not exist are no error."""
    kill_inside(namespaces)
    ip_batch([f"netns delete {name}" for name in namespaces if (DIRECTORY / name).exists()], force=True)


def remove_stale() -> list[str]:
    """Remove namespaces and directories that a lab left whose process no longer exists.

    Returns their names. It happens only after SIGKILL of a test run: everything else cleans up.
    """
    removed = []
    for directory in (DIRECTORY, Path(tempfile.gettempdir())):
        for path in directory.iterdir() if directory.is_dir() else ():
            match = _NAME.match(path.name)
            if match and not Path("/proc", match[1]).exists():
                removed.append(path.name)
                if directory == DIRECTORY:
                    remove([path.name])
                else:
                    shutil.rmtree(path, ignore_errors=True)
    return removed
