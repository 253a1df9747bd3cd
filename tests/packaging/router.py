# SPDX-License-Identifier: GPL-2.0-or-later
"""A router made of OpenWrt's own root file system, in namespaces: its ubusd, logd, procd, opkg and Python.

The root is an overlay whose upper layer is in memory, so that nothing of it is changed and nothing is left.
procd runs as it does on a router except that it is not process 1: it manages services, and boots nothing.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

from tests.lab.process import tree
from tests.lab.wait import wait_until
from tests.openwrt_pieces import ROOT, needs

needs_router = needs(ROOT / "sbin/procd", ROOT / "sbin/ubusd", ROOT / "bin/opkg", ROOT / "usr/bin/python3")

# Of a shell script: a root of its own over $LOWER, in the empty directory $WORK, with its own /tmp and /dev.
ROOT_OVERLAY = """
set -e
mount -t tmpfs tmpfs "$WORK"
cd "$WORK"
mkdir upper work root
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$WORK/upper,workdir=$WORK/work" root
cd root
mkdir -p proc sys dev tmp srv
[ -L var ] || ln -s tmp var
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev
for device in null zero full random urandom tty; do
    touch dev/$device
    mount --bind /dev/$device dev/$device
done
mkdir -p dev/shm dev/pts tmp/lock tmp/run/ubus tmp/log tmp/.uci
"""
# In that root, as its process 1.
OPENWRT_SERVICES = """
    chown ubus /var/run/ubus
    /sbin/ubusd &
    until ubus list >/dev/null 2>&1; do sleep 1; done
    /sbin/logd -S 256 &
    /sbin/procd &
    until ubus list service >/dev/null 2>&1 && logread >/dev/null 2>&1; do sleep 1; done
"""
# $SRV: what the router sees as /srv.
_SETUP = f"""{ROOT_OVERLAY}
mount --bind -o ro "$SRV" srv
ip link set lo up
exec chroot . /bin/sh -c '{OPENWRT_SERVICES}
    touch /tmp/ready
    exec sleep 3600'
"""

# Also when this process is killed: a router would run for an hour, and nobody would find it.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc")


class OpenWrt:
    """One router, from `start` to `stop`, with the file system `root`. It sees `srv` as /srv."""

    def __init__(self, directory: Path, srv: Path, root: Path = ROOT) -> None:
        self._directory = directory
        self._srv = srv
        self.root = root
        self._unshare: subprocess.Popen[str] | None = None
        self._pid = 0

    def start(self) -> OpenWrt:
        """Wait until ubusd, logd and procd answer."""
        namespaces = [*_NAMESPACES, "--fork", "--kill-child=KILL"]
        setup = ["sh", "-c", _SETUP]
        self._unshare = subprocess.Popen(
            [*DIES_WITH_US, "unshare", *namespaces, *setup],
            env=os.environ | {"WORK": str(self._directory), "LOWER": str(self.root), "SRV": str(self._srv)},
            stdin=subprocess.DEVNULL,
            text=True,
        )
        wait_until(self._ready, 60, "procd answers", every=0.1)
        return self

    @property
    def pid(self) -> int:
        """Return the number of a process inside, by which its namespaces are reached."""
        return self._pid

    def stop(self) -> None:
        """End it and everything on it."""
        if self._unshare is not None:
            self._unshare.send_signal(signal.SIGKILL)
            self._unshare.wait(10)
            self._unshare = None

    def sh(self, command: str, *, status: int | None = 0, timeout: float = 120) -> str:
        """Run a shell command there; its output and messages. AssertionError when it ends otherwise than with
        `status` (None: however it likes).
        """
        done = subprocess.run(
            [*self._nsenter(), "/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )
        assert status is None or done.returncode == status, (
            f"{command}: status {done.returncode}, not {status}\n{done.stdout}\n{self.log}"
        )
        return done.stdout

    def add_lan(self) -> None:
        """Add an interface lan0 with 192.168.1.2/24, by this machine's `ip`: busybox's makes no veth pair."""
        lines = (
            "link add lan0 type veth peer name lan1",
            "link set lan1 up",
            "link set lan0 up",
            "address add 192.168.1.2/24 dev lan0",
        )
        subprocess.run(
            ["nsenter", f"--net=/proc/{self._pid}/ns/net", "ip", "-batch", "-"],
            input="\n".join(lines) + "\n",
            text=True,
            check=True,
        )

    def write(self, path: str, text: str) -> None:
        """Write a file there."""
        self.sh(f"printf %s {shlex.quote(text)} >{shlex.quote(path)}")

    @property
    def log(self) -> str:
        """Return the log of the programs there; the kernel's lines are this machine's."""
        done = subprocess.run([*self._nsenter(), "/sbin/logread"], capture_output=True, text=True, timeout=20)
        return "".join(line for line in done.stdout.splitlines(keepends=True) if " kern." not in line)

    def _nsenter(self) -> list[str]:
        return [
            "nsenter",
            f"--target={self._pid}",
            "--mount",
            "--pid",
            "--net",
            "--uts",
            "--ipc",
            "--root",
            "--wd=/",
        ]

    def _ready(self) -> bool:
        assert self._unshare is not None
        if self._unshare.poll() is not None:
            raise RuntimeError(f"the router could not be set up: exit {self._unshare.returncode}")
        inside = [pid for pid in tree(self._unshare.pid) if pid != self._unshare.pid]
        if not inside:
            return False
        self._pid = inside[0]
        return (
            Path(f"/proc/{self._pid}/root/tmp/ready").exists()
            and Path(f"/proc/{self._pid}/root/etc/rc.common").exists()
        )
