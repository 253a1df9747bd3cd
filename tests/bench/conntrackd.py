# SPDX-License-Identifier: GPL-2.0-or-later
"""keepalived with conntrackd beside it, as guides have it: FTFW mode, and primary-backup.sh's commands."""

from __future__ import annotations

import shlex
import socket
import struct
from contextlib import suppress

from tests.lab import Host, Keepalived, NotReached, Router, seed_instances, wait_until
from tests.lab.scenario import keepalived_conf
from tests.lab.topology import KEEPALIVED_NAT, SYNC_GROUP

CONNTRACKD = """
Sync {{
    Mode FTFW {{ }}
    UDP {{
        IPv4_address 192.168.1.{me}
        IPv4_Destination_Address 192.168.1.{other}
        Port 3780
        Interface {interface}
        SndSocketBuffer 12492800
        RcvSocketBuffer 12492800
        Checksum on
    }}
}}
General {{
    HashSize 131072
    HashLimit 524288
    LogFile {log}
    LockFile {lock}
    UNIX {{ Path {control} }}
    NetlinkBufferSize 16777216
    NetlinkBufferSizeMaxGrowth 67108864
    Filter From Userspace {{ Protocol Accept {{ TCP UDP ICMP }} Address Ignore {{ IPv4_address 127.0.0.1 }} }}
}}
"""
STATS = 21  # what `conntrackd -s` sends
ATTEMPTS = 6
MASTER, BACKUP = ("-c", "-f", "-R", "-B"), ("-t", "-n")


def write_conf(host: Host, number: int, interface: str = "eth0") -> list[str]:
    """Write the configuration of host `number` (1, 2); the command that runs conntrackd."""
    host.exec("sh", "-c", "echo 1 >/proc/sys/net/netfilter/nf_conntrack_events")
    files = {name: host.file(f"conntrackd.{name}") for name in ("log", "lock", "ctl")}
    text = CONNTRACKD.format(
        me=number + 1,
        other=4 - number,
        interface=interface,
        log=files["log"],
        lock=files["lock"],
        control=files["ctl"],
    )
    host.file("conntrackd.conf").write_text(text)
    for name in ("lock", "ctl"):
        files[name].unlink(missing_ok=True)
    return ["conntrackd", "-C", str(host.file("conntrackd.conf"))]


def ask(host: Host, *words: str) -> str:
    """Return the answer of conntrackd; "" without one."""
    return host.exec("conntrackd", "-C", str(host.file("conntrackd.conf")), *words, check=False)


def entries(host: Host, cache: str) -> int:
    """Entries of its "internal" or "external" cache; 0 when it does not answer.

    What `conntrackd -s` asks, without a process that disturbs what is being measured.
    """
    answer = b""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(host.file("conntrackd.ctl")))
            sock.send(struct.pack("i", STATS))
            while part := sock.recv(65536):
                answer += part
    except OSError:
        pass
    after = answer.decode().partition(f"cache {cache}:")[2]
    numbers = [int(word) for word in after.split() if word.isdigit()]
    return numbers[0] if numbers else 0


def fill(active: Host, backup: Host, count: int) -> None:
    """Wait until the backup's conntrackd holds so many entries of the active's kernel; NotReached.

    When the kernel has dropped events, conntrackd looks through the kernel's table half a minute later, and
    does not tell its peer all of what it finds. It is asked for both again and again.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(NotReached):
            wait_until(lambda: entries(backup, "external") >= count, 10, every=0.2)
            return
        ask(active, "-R")
        with suppress(NotReached):
            wait_until(lambda: entries(active, "internal") >= count, 10, every=0.2)
        ask(backup, "-n")
    wait_until(lambda: entries(backup, "external") >= count, 10, "conntrackd has all entries", every=0.2)


class KeepalivedConntrackd(Keepalived):
    """Router `number` of the seed's lab; `rules` are more of nftables."""

    def __init__(self, number: int, advert_s: float, rules: str = "") -> None:
        instances = seed_instances(advert_s)
        super().__init__(instances, SYNC_GROUP, nft=KEEPALIVED_NAT + rules)
        self._number = number

    def write(self, router: Router) -> None:
        """conntrackd's file, a script for each role, and keepalived.conf with them."""
        command = shlex.join(write_conf(router, self._number, "br-lan"))
        lines = []
        for role, flags in (("master", MASTER), ("backup", BACKUP)):
            script = router.file(f"{role}.sh")
            calls = [f"{command} {flag}" for flag in flags]
            script.write_text("\n".join(["#!/bin/sh", *calls, ""]))
            script.chmod(0o755)
            lines.append(f"  notify_{role} {script}")
        head = "vrrp_sync_group G1 {"
        text = keepalived_conf(self.instances, self.groups)
        self.text = text.replace(head, "\n".join([head, *lines]))
        super().write(router)

    def commands(self, router: Router) -> list[list[str]]:
        """conntrackd first; keepalived gets the signals."""
        conntrackd = ["conntrackd", "-C", str(router.file("conntrackd.conf"))]
        return [conntrackd, *super().commands(router)]
