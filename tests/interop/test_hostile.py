# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile packets and hostile clients at live daemons: an active router and its backup, both tandemd.

VRRP has no cryptography (RFC 9568 section 9): whoever can forge the source address of the active
router can resign in its name, and whoever claims priority 255 gets the role. That is not tested.
"""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab import LanLab, Router, Tandem, wait_until

from . import attacks
from .attacks import ANY, KERNEL, V2, V2_ADDRESS, V3, V6, Attack
from .lan import Variant

pytestmark = pytest.mark.alone

PACKETS = 100_000
LOG_LINES = 100
RSS_GROWTH_KIB = 1024
OUR_OWN = {
    "adverts_received", "adverts_sent", "priority_zero_received", "priority_zero_sent", "announcements_sent",
}  # fmt: skip
VARIANTS = [
    Variant("v3", virtual_router_id=V3),
    Variant("v2", 2, virtual_router_id=V2, auth_pass=attacks.PASSWORD, addresses=(f"{V2_ADDRESS}/24",)),
    Variant("v6", ipv6=True, virtual_router_id=V6),
]


class Siege:
    """Two routers at rest, r1 active, and what has changed since."""

    def __init__(self, lab: LanLab) -> None:
        self.lab = lab
        self.active, self.backup = lab.routers
        lab.start()
        wait_until(self.peaceful, 15, "r1 is active, r2 its backup")
        self._before = {router: self._now(router) for router in lab.routers}

    def peaceful(self) -> bool:
        """Whether r1 has every address and every role, and r2 none."""
        roles = self.active.all_in("MASTER") and self.backup.all_in("BACKUP")
        return self.lab.active is self.active and roles

    def _now(self, router: Router) -> dict[str, Any]:
        status = Tandem.request(router, "status")
        counters = Counter(status["counters"])
        for item in status["instances"]:
            counters.update(item["counters"])
        return {
            "counters": counters,
            "transitions": [item["transitions"] for item in status["instances"]],
            "rss": resident(router.pid),
            "log": len(router.log().splitlines()),
        }

    def counted(self, router: Router) -> Counter[str]:
        """The counters of the router since the beginning."""
        return self._now(router)["counters"] - self._before[router]["counters"]

    def drops(self, router: Router) -> Counter[str]:
        """The same counters, but only those of dropped packets."""
        return Counter({name: count for name, count in self.counted(router).items() if name not in OUR_OWN})

    def has_dropped(self, router: Router, count: int) -> bool:
        """Whether so many packets were dropped for any reason.

        Adverts of r1 may have been among them. A packet that one of the two sockets gets counts again as
        unread at the other one if that is full: the kernel asks for room before it asks the filter.
        """
        return count <= sum(self.drops(router).values()) <= count * 2

    def explain(self, router: Router, count: int) -> str:
        """Say which packets were dropped, where their number is not `count`."""
        drops = self.drops(router)
        return f"{sum(drops.values())} packets were dropped, not {count}: {drops}"

    def drained(self) -> None:
        """Wait until both daemons have read, or counted as unread, all packets."""
        pids = [router.pid for router in self.lab.routers]
        wait_until(lambda: not backlog() and not any(map(queued, pids)), 10, "all is read", every=0.0005)

    def delivered(self) -> None:
        """Wait until all packets are in the sockets, or were too many for them."""
        wait_until(lambda: not backlog(), 10, "all has arrived", every=0.0005)

    def attack(self, frames: Sequence[bytes]) -> None:
        """Send the frames from the client."""
        self.lab.client.enter(lambda: attacks.send("eth0", frames, self.delivered))

    def assert_unmoved(self) -> None:
        """Nobody has changed its role even for a moment; memory and log are bounded; r1 is still heard."""
        assert self.peaceful()
        for router in self.lab.routers:
            before, now = self._before[router], self._now(router)
            assert now["transitions"] == before["transitions"], router.name
            assert now["rss"] - before["rss"] < RSS_GROWTH_KIB, router.name
            assert now["log"] - before["log"] < LOG_LINES, router.name
        self.wait_heard(4)

    def wait_heard(self, adverts: int) -> None:
        """Wait until r2 has heard so many more adverts of r1."""
        goal = self.counted(self.backup)["adverts_received"] + adverts
        wait_until(lambda: self.counted(self.backup)["adverts_received"] >= goal, 10, "r2 hears r1")


def resident(pid: int) -> int:
    """Resident memory of a process in KiB."""
    match = re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1])


def queued(pid: int) -> int:
    """Bytes that wait in the raw sockets of a process's namespace."""
    waiting = 0
    for table in ("raw", "raw6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            waiting += int(columns[4].split(":")[1], 16)
    return waiting


def backlog() -> int:
    """Packets that wait in the kernel's backlog queues, on the way from one namespace to another."""
    lines = Path("/proc/net/softnet_stat").read_text().splitlines()
    return sum(int(line.split()[11], 16) for line in lines)


@pytest.fixture
def siege(open_lab: Callable[[LanLab], LanLab]) -> Siege:
    daemons = [
        Tandem([variant.instance(number, priority) for variant in VARIANTS])
        for number, priority in ((1, 110), (2, 90))
    ]
    return Siege(open_lab(LanLab(daemons)))


def expected(kinds: Sequence[Attack], sent: Counter[str], at_r1: bool) -> tuple[Counter[str], int]:
    """The counters that a router should have, and the number of packets of any kind on top."""
    counters: Counter[str] = Counter()
    for kind in kinds:
        if arrives(kind, at_r1):
            counters[kind.counter] += sent[kind.name]
    return counters, counters.pop(ANY, 0)


def test_every_kind_of_attack(siege: Siege) -> None:
    """Each attack is counted under its own reason, and nothing else is counted."""
    for kind in attacks.build(10):
        before = [siege.drops(router) for router in siege.lab.routers]
        siege.attack(kind.frames)
        for router, was in zip(siege.lab.routers, before, strict=True):
            count = len(kind.frames) if arrives(kind, router is siege.active) else 0
            wait_until(lambda args=(siege, router, was, kind, count): counts(*args), 5, kind.name)
    siege.assert_unmoved()


def arrives(kind: Attack, at_r1: bool) -> bool:
    """Whether a router's daemon gets to see these packets."""
    return kind.counter != KERNEL and (at_r1 or not kind.at_r1)


def counts(siege: Siege, router: Router, was: Counter[str], kind: Attack, count: int) -> bool:
    """Whether the router has since counted so many packets, all of them for the right reason."""
    seen = siege.drops(router) - was
    assert sum(seen.values()) == count, f"{kind.name} at {router.name}: {seen}, sent {count}"
    return kind.counter == ANY or seen[kind.counter] == count


def test_a_hundred_thousand_packets(siege: Siege) -> None:
    kinds = attacks.build(40)
    every = [(kind.name, frame) for kind in kinds for frame in kind.frames]
    mix = random.Random(9568).choices(every, k=PACKETS)
    siege.attack([frame for _, frame in mix])
    siege.drained()
    sent = Counter(name for name, _ in mix)
    for router in siege.lab.routers:
        counters, others = expected(kinds, sent, at_r1=router is siege.active)
        # A sample is read; the rest is counted as unread.
        total = sum(counters.values()) + others
        all_counted = partial(siege.has_dropped, router, total)
        explain = partial(siege.explain, router, total)
        wait_until(all_counted, 5, f"all is counted at {router.name}", explain=explain)
        assert siege.drops(router)["unread"] > PACKETS // 2, router.name
    siege.assert_unmoved()


def valid(priority: int) -> list[bytes]:
    """Advertisements of strangers for each virtual router, right in everything, with this priority."""
    makers = (
        lambda: attacks.ip4() / attacks.v3(priority=priority),
        lambda: attacks.ip4() / attacks.v2(priority=priority),
        lambda: attacks.ip6() / attacks.v6(priority=priority),
    )
    return [bytes(make()) for _ in range(50) for make in makers]


def test_lesser_routers(siege: Siege) -> None:
    """Valid adverts of lower priority by the thousand: the active router says so, but not too often."""
    frames = valid(1) * 100
    started = time.monotonic()
    siege.attack(frames)
    siege.drained()
    counted = siege.counted(siege.active)
    elapsed_ms = (time.monotonic() - started) * 1000
    assert counted["adverts_received"] + counted["unread"] == len(frames)
    # At most one answer in 10 ms for each of the three virtual routers, besides the ordinary adverts.
    assert counted["adverts_sent"] <= 3 * (elapsed_ms / 10 + elapsed_ms / 100 + 2)
    assert counted["announcements_sent"] < 100 + elapsed_ms / 1000 * 5 * 4
    siege.assert_unmoved()


def test_strangers_resign(siege: Siege) -> None:
    """Priority 0 from routers that nobody follows, also from those that have spoken before.

    A backup then waits for its skew time only (RFC 9568 section 6.4.2): the active router must
    answer every burst, however soon it comes after the one before.
    """
    for burst in [valid(0), valid(1) + valid(0)] * 10:
        siege.attack(burst)
        siege.wait_heard(4)
    siege.assert_unmoved()


def test_long_intervals_take_no_memory(siege: Siege) -> None:
    """Each accepted advertisement moves a deadline that lies minutes away; the old ones must not pile up."""
    frames = [bytes(attacks.ip4() / attacks.v3(priority=200, adv=4095)) for _ in range(50)] * 1200
    before = [resident(router.pid) for router in siege.lab.routers]
    siege.attack(frames)
    siege.drained()
    for router, was in zip(siege.lab.routers, before, strict=True):
        counted = siege.counted(router)
        assert counted["adverts_received"] + counted["unread"] >= len(frames), router.name
        assert resident(router.pid) - was < RSS_GROWTH_KIB, router.name


# The control socket


def ask(path: str, *chunks: bytes) -> bytes:
    """Send the chunks, and return the first line of the answer, if any."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        try:
            sock.connect(path)
            for chunk in chunks:
                sock.sendall(chunk)
            return sock.makefile("rb").readline()
        except (ConnectionError, TimeoutError, BlockingIOError):
            return b""  # turned away, or the queue of those who wait is full


def test_garbage_at_the_control_socket(siege: Siege) -> None:
    """No garbage is obeyed, stops the adverts, or keeps a real client out."""
    path = str(siege.active.file("sock"))
    chance = random.Random(112)
    deep = b"[" * 3000 + b"\n"
    garbage = [
        b"\n", b"null\n", b"[]\n", b"{}\n", b'{"command": 1}\n', b'{"command": "status", "x": "y"}\n', deep,
        b"x" * 100_000, b'{"command": "' + b"\xff" * 50 + b'"}\n', b'{"command": ' + b"9" * 4000 + b"}\n",
        b'{"command": "failover", "group": "\\u0000"}\n', b'{"command": "failover", "group": "v5"}\n',
        b'{"command": "reload", "group": "v3"}\n', b'{"a": 1e999999}\n',
        *(chance.randbytes(chance.randrange(1, 5000)) + b"\n" for _ in range(300)),
    ]  # fmt: skip
    for line in garbage:
        answer = ask(path, line)
        assert not answer or not json.loads(answer)["ok"], line[:80]
    half = [hold(path, b'{"command"') for _ in range(20)]
    try:
        pipelined = ask(path, b'{"command": "version"}\n' * 5000)
        assert pipelined == b"" or "ok" in json.loads(pipelined)
    finally:
        for sock in half:
            sock.close()
    wait_until(lambda: siege.peaceful(), 10, "the daemon answers")
    siege.assert_unmoved()


def hold(path: str, part: bytes) -> socket.socket:
    """A connection that has sent a part of a request."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    try:
        sock.connect(path)
        sock.sendall(part)
    except (ConnectionError, TimeoutError, BlockingIOError):
        pass  # as above
    return sock


def test_two_thousand_adverts_of_strangers_a_second_cost_little(siege: Siege) -> None:
    """Adverts that are right in everything, from ever new sources: 2,000 a second for 4 s.

    A hundred a second are read. `make bench ARGS="--only strangers"` measures the cost.
    """
    frames = [
        bytes(attacks.ip4(src=f"192.168.1.{130 + number % 100}") / attacks.v3(priority=1))
        for number in range(8000)
    ]
    before = siege.counted(siege.active)
    elapsed = steadily(siege, frames, 2000)
    counted = siege.counted(siege.active) - before
    assert 0 < counted.total() - counted["unread"] - counted["adverts_sent"] <= 100 * (elapsed + 2)
    assert counted["unread"] > len(frames) / 2
    siege.assert_unmoved()


def test_junk_in_the_name_of_the_active_router_hides_none_of_its_adverts(siege: Siege) -> None:
    """Adverts with a wrong checksum from r1's address: 4,000 a second for 4 s, when one advert is in 400."""
    source = Tandem.request(siege.active, "status")["instances"][0]["source"]
    junk = [
        bytes(attacks.ip4(src=source) / attacks.v3(priority=110, chksum=number or 1))
        for number in range(16000)
    ]
    before = siege.counted(siege.backup)
    steadily(siege, junk, 4000)
    counted = siege.counted(siege.backup) - before
    assert counted["unread"] > len(junk) / 2
    assert counted["adverts_received"] > 0
    siege.assert_unmoved()


def steadily(siege: Siege, frames: Sequence[bytes], rate: int) -> float:
    """Send `rate` frames a second; how many seconds it took."""
    siege.wait_heard(40)  # who is known is settled
    started = time.monotonic()
    batch = rate // 20
    for number in range(len(frames) // batch):
        siege.attack(frames[number * batch : (number + 1) * batch])
        time.sleep(max(0.0, started + (number + 1) * 0.05 - time.monotonic()))
    siege.drained()
    return time.monotonic() - started
