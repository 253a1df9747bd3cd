# SPDX-License-Identifier: GPL-2.0-or-later
"""Live connections through the seed's routers, which replicate them, behind a firewall like OpenWrt's.

The firewall rejects what comes from the WAN unasked, and drops what is invalid. So a packet that
meets a router which does not know its connection ends that connection by a reset.
"""

from __future__ import annotations

import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from tandem.conntrack.gathering import GATHER
from tests.lab import (
    FAR,
    Capture,
    Download,
    Host,
    Instance,
    LabError,
    Router,
    SeedLab,
    Service,
    Tandem,
    seed_instances,
    stays,
    wait_until,
)
from tests.lab.scenario import tandem_uci

FAR6 = "fd00:f::1"
LAN_GATEWAY6, WAN_ADDRESS6 = "fd00:1::4", "fd00::4"
CLIENT, CLIENT6 = "192.168.1.10", "fd00:1::10"
SECRET = "a secret of more than sixteen bytes"
FIREWALL = """
table inet fw4 {
    chain input {
        type filter hook input priority filter; policy drop
        iif "lo" accept
        ct state established,related accept
        ct state invalid drop
        iifname { "br-lan", "eth3", "br-guest" } accept
        meta l4proto 112 accept
        icmp type echo-request accept
        icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert } accept
        meta l4proto tcp reject with tcp reset
        reject
    }
    chain forward {
        type filter hook forward priority filter; policy drop
        ct state established,related accept
        ct state invalid drop
        iifname { "br-lan", "br-guest" } accept
        ct status dnat accept
        meta l4proto tcp reject with tcp reset
        reject
    }
}
"""

_PATTERN = bytes(range(251)) * 5  # the byte at n is n % 251: a byte lost, repeated or changed shows
_BLOCK = 1000
_LEAD = 20_000  # bytes that may be under way


TIMERS_ALONE = {"heartbeat_interval": "0"}  # VRRP's timers decide, however long a router stands still
SPLIT = {"partition_policy": "split"}  # who hears no adverts becomes active, whatever heartbeats say


class SyncedTandem(Tandem):
    """tandemd that replicates connections, with a firewall."""

    def __init__(
        self,
        instances: Sequence[Instance],
        number: int,
        rules: str,
        options_of_globals: Mapping[str, str] | None = None,
        **options: str,
    ) -> None:
        given = {"secret": SECRET, "heartbeat": "0.2", "digest_interval": "1", "sync_after": "0"}
        options = given | options
        lines = ["config conntrack_sync", "\toption enabled '1'", f"\tlist peer '192.168.1.{4 - number}'"]
        lines += [f"\toption {key} '{value}'" for key, value in options.items()]
        groups = {"G1": [instance.name for instance in instances]}
        text = tandem_uci(instances, groups, options_of_globals)
        super().__init__(instances, groups, text + "\n".join(["", *lines, ""]))
        self.rules = rules

    def prepare(self, router: Router) -> None:
        router.exec("nft", "-f", "-", stdin=FIREWALL + self.rules)


def synced(
    number: int,
    *,
    advert_s: float = 0.1,
    preempt: bool = False,
    ipv6: bool = False,
    rules: str = "",
    options_of_globals: Mapping[str, str] | None = None,
    **options: str,
) -> SyncedTandem:
    """The daemon of router `number`; `options` of its conntrack_sync section; `preempt`: r1 is preferred."""
    priority = 101 + 50 * (preempt and number == 1)
    instances = seed_instances(advert_s, priority=priority, preempt=preempt)
    for address, instance in zip((LAN_GATEWAY6, WAN_ADDRESS6), instances[:2] * ipv6, strict=False):
        more = {"name": f"{instance.name}6", "addresses": (f"{address}/64",), "routes": ()}
        instances.append(replace(instance, **more))
    return SyncedTandem(instances, number, rules, options_of_globals, **options)


def sync(router: Router) -> dict[str, Any]:
    """The daemon's status of replication."""
    found: dict[str, Any] = Tandem.request(router, "conntrack")
    return found


def peer(router: Router) -> dict[str, Any]:
    """The daemon's status of its one peer."""
    found: dict[str, Any] = sync(router)["channel"]["peers"][0]
    return found


def held(router: Router) -> int:
    """How many entries it holds for its peer."""
    return sum(sync(router)["held"].values())


def in_step(lab: SeedLab) -> bool:
    """Whether one router is active and both say that the other holds everything."""
    try:
        active = lab.active
        if active is None or not peer(active).get("in_step"):
            return False
        return bool(sync(lab.other(active))["in_step"])
    except (OSError, LabError):
        return False


def settle(lab: SeedLab, timeout: float = 20) -> tuple[Router, Router]:
    """Wait until one router is active and the other in step: (active, backup)."""
    wait_until(lambda: in_step(lab), timeout, "one router is active and the other in step")
    active = lab.active
    assert active is not None
    return active, lab.other(active)


def started(lab: SeedLab) -> tuple[Router, Router]:
    """Start both routers: (active, backup)."""
    lab.start()
    return settle(lab)


def told(lab: SeedLab, timeout: float = 20) -> tuple[Router, Router]:
    """Settle, and wait until the peer has acknowledged all that has happened so far."""
    active, backup = settle(lab)
    position = read_all(active)
    wait_until(lambda: peer(active).get("acked", 0) >= position, timeout, "the peer has everything")
    return active, backup


def read_all(active: Router) -> int:
    """The position when the daemon has read all events: the first one waits for others (GATHER)."""
    while True:
        position = int(sync(active)["channel"]["position"])
        time.sleep(4 * GATHER / 1e9)
        if sync(active)["channel"]["position"] == position:
            return position


def equal(lab: SeedLab) -> bool:
    """Whether the backup holds as much as the active has."""
    active = lab.active
    if active is None or not in_step(lab):
        return False
    read_all(active)
    return held(lab.other(active)) == sync(active)["own"]


def entries(router: Router) -> int:
    """How many connections the kernel knows."""
    return int(router.exec("conntrack", "-C"))


def udp_flows(client: Host, count: int, source: int = 5000) -> None:
    """Send `count` datagrams to as many ports of the far server: so many new flows."""
    with client.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.bind(("", source))
        for port in range(10_000, 10_000 + count):
            with suppress(OSError):  # ICMP errors of earlier ones
                sock.sendto(b"", (FAR, port))


def at_rest(*routers: Router) -> None:
    """No table is sent, or found to differ, while all digests are compared three times."""

    def resyncs() -> list[tuple[int, int]]:
        peers = [peer for router in routers for peer in sync(router)["channel"]["peers"]]
        return [(peer["totals"].get("bulks", 0), peer["totals"].get("drifts", 0)) for peer in peers]

    before = resyncs()
    stays(lambda: resyncs() == before, 3.5, f"at rest with {before}", every=0.1)


def transitions(router: Router) -> int:
    """How often the daemon's log tells of a new state."""
    return len(re.findall(r" (?:I1|E1): (?:MASTER|BACKUP|FAULT) \(", router.log()))


class Flow:
    """One TCP connection: its two ends; `received` bytes at the end that listens."""

    def __init__(self, speaker: socket.socket, listener: socket.socket) -> None:
        self.speaker, self.listener = speaker, listener
        self.sent = self.received = 0
        self.error: str | None = None

    def speak(self) -> None:
        if self.error is None and self.sent - self.received < _LEAD:
            start = self.sent % 251
            try:
                self.sent += self.speaker.send(_PATTERN[start : start + _BLOCK])
            except BlockingIOError:
                pass
            except OSError as error:
                self.error = f"speaker: {error}"

    def listen(self) -> None:
        try:
            data = self.listener.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError as error:
            self.error = self.error or f"listener: {error}"
            return
        if not data:
            self.error = self.error or "closed"
        while data:
            start = self.received % 251
            part, data = data[:1000], data[1000:]
            if part != _PATTERN[start : start + len(part)]:
                self.error = self.error or f"wrong bytes at {self.received}"
            self.received += len(part)


class Connections:
    """TCP connections on which one end speaks and the other listens, each a little every 50 ms.

    `serve` and `connect` are hosts; the address is what the connecting one asks for.
    """

    def __init__(self) -> None:
        self.flows: list[Flow] = []
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(
        self,
        client: Host,
        server: Host,
        address: str,
        count: int,
        server_speaks: bool,
        port: int = 0,
        bind: str = "",
        to_port: int = 0,
    ) -> None:
        """Open `count` connections from `client` to `address`, where `server` listens."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with server.enter(lambda: socket.socket(family, socket.SOCK_STREAM)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((bind, port))
            listener.listen(count)
            to_port = to_port or listener.getsockname()[1]
            made = client.enter(lambda: [socket.socket(family, socket.SOCK_STREAM) for _ in range(count)])
            for near in made:
                near.settimeout(5)
                near.connect((address, to_port))
                far = listener.accept()[0]
                near.setblocking(False)
                far.setblocking(False)
                flow = Flow(far, near) if server_speaks else Flow(near, far)
                with self._lock:
                    self.flows.append(flow)
                    self._selector.register(flow.listener, selectors.EVENT_READ, flow)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            with self._lock:
                for flow in self.flows:
                    flow.speak()
            due = max(due + 0.05, time.monotonic())
            while (left := due - time.monotonic()) > 0:
                for key, _ in self._selector.select(left):
                    flow = key.data
                    flow.listen()
                    if flow.error:
                        with self._lock, suppress(KeyError):
                            self._selector.unregister(flow.listener)

    def broken(self) -> dict[str, int]:
        """How many connections ended, by reason."""
        errors = [flow.error for flow in self.flows if flow.error]
        return {error: errors.count(error) for error in set(errors)}

    def all_go_on(self, timeout: float = 30, why: str = "") -> None:
        """Wait until every connection has carried new data; what broke, and after what, is in the message."""
        marks = [flow.received + 3 * _BLOCK for flow in self.flows]

        def moved() -> bool:
            assert not self.broken(), str(self.broken())
            return all(flow.received >= mark for flow, mark in zip(self.flows, marks, strict=True))

        def explain() -> str:
            still = [
                flow.listener.getsockname()
                for flow, mark in zip(self.flows, marks, strict=True)
                if flow.received < mark
            ]
            return f"{len(still)} of {len(marks)} stand still: {still[:4]}; {self.broken()}"

        what = " after ".join(filter(None, ("every connection goes on", why)))
        wait_until(moved, timeout, what, every=0.05, explain=explain)

    def close(self) -> None:
        """Close all, without a word to the other end being of interest any more."""
        self._stop.set()
        self._thread.join()
        for flow in self.flows:
            flow.speaker.close()
            flow.listener.close()
        self._selector.close()


@contextmanager
def connections() -> Iterator[Connections]:
    """Connections that are closed in the end."""
    made = Connections()
    try:
        yield made
    finally:
        made.close()


class FastDownload:
    """10 MB/s from the server, until the lab ends."""

    def __init__(self, lab: SeedLab) -> None:
        Service(lab.server, "source", "80", "100000")  # bytes in 10 ms
        self._download = Download(lab.client, FAR)
        self.goes_on()

    def goes_on(self, more: int = 16 << 20) -> None:
        """Wait for so many bytes more: by default, more than the window of most connections."""
        enough = self._download.bytes + more
        wait_until(lambda: self._download.error or self._download.bytes >= enough, 30, f"{more} bytes more")
        assert self._download.error is None


@contextmanager
def no_resets(lab: SeedLab) -> Iterator[None]:
    """tshark sees no RST on either network; connections are opened in the block and outlive it."""
    only = "not port 3780 and (tcp[13] & 6 != 0 or (ip6 proto 6 and ip6[53] & 6 != 0))"  # SYN, RST
    with Capture(lab, "lan", filter=only) as lan, Capture(lab, "wan", filter=only) as wan:
        yield
    for capture in (lan, wan):
        assert capture.count("tcp.flags.syn == 1"), "nothing was captured"
        assert capture.count("tcp.flags.reset == 1") == 0


# Faults of the active router: each leaves the other router active.


def power_loss(lab: SeedLab, active: Router) -> None:
    active.power_off()


def term(lab: SeedLab, active: Router) -> None:
    assert active.stop() == 0


def wan_loss(lab: SeedLab, active: Router) -> None:
    lab.cut(active, "eth0.2")


def lan_loss(lab: SeedLab, active: Router) -> None:
    lab.cut(active, "br-lan")


def failover(lab: SeedLab, active: Router) -> None:
    Tandem.request(active, "failover", force="yes")  # some tests break the channel before


Event = Callable[[SeedLab, Router], None]
BACK: dict[Event, Event] = {
    power_loss: lambda lab, router: router.power_on(),
    term: lambda lab, router: router.start(),
    wan_loss: lambda lab, router: lab.plug(router, "eth0.2"),
    lan_loss: lambda lab, router: lab.plug(router, "br-lan"),
    failover: lambda lab, router: None,
}


def takes_over(lab: SeedLab, router: Router, timeout: float = 15, why: str = "") -> None:
    """Wait until the router holds all virtual addresses and the other none that anybody sees."""
    wait_until(lambda: lab.active is router, timeout, f"{router.name} has taken over {why}".rstrip())
