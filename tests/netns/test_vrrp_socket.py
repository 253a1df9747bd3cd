# SPDX-License-Identifier: GPL-2.0-or-later
"""VrrpSocket, Announcer and `tandem capture` on real interfaces: two routers on one cable."""

from __future__ import annotations

import errno
import io
import os
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tandem.config.schema import Config
from tandem.core.packet import GROUP4, GROUP6, PROTOCOL, Advertisement, decode, encode
from tandem.core.settings import Address, Instance
from tandem.effects.announce import Announcer, announcement
from tandem.effects.reception import Wanted, program
from tandem.effects.vrrp_socket import Received, VrrpSocket, pack
from tandem.listen.capture import capture
from tests.lab.netns import enter, ip_batch, prefix, write_sysctls
from tests.lab.wait import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

VMAC = "00:00:5e:00:01:07"
HOME = {4: (pack("10.9.0.1"), pack("10.9.0.2")), 6: (pack("fe80::1"), pack("fe80::2"))}
GROUP = {4: GROUP4, 6: GROUP6}


class Wire:
    """Two namespaces, `left` and `right`, joined by a cable between their interfaces eth0."""

    def __init__(self) -> None:
        name = prefix("wire")
        self.left, self.right = name + "l", name + "r"
        self.open_sockets: list[VrrpSocket] = []

    def build(self) -> None:
        ip_batch([f"netns add {self.left}", f"netns add {self.right}"])
        ip_batch([f"link add eth0 type veth peer name eth0 netns {self.right}"], self.left)
        for number, name in ((1, self.left), (2, self.right)):
            ip_batch(
                [
                    "link set lo up",
                    "link set eth0 up",
                    f"address add 10.9.0.{number}/24 dev eth0",
                    f"address add fe80::{number}/64 dev eth0 nodad",
                ],
                name,
            )

    def add_vmac(self) -> None:
        for name in (self.left, self.right):
            ip_batch(
                [
                    f"link add vrrp7 link eth0 address {VMAC} type macvlan mode private",
                    "link set vrrp7 addrgenmode none",
                    "link set vrrp7 up",
                ],
                name,
            )

    def open(self, name: str, interface: str, family: int, groups: tuple[bytes, ...]) -> VrrpSocket:
        sock = enter(name, lambda: VrrpSocket(interface, socket.if_nametoindex(interface), family, groups))
        self.open_sockets.append(sock)
        return sock

    def remove(self) -> None:
        for sock in self.open_sockets:
            sock.close()
        ip_batch([f"netns del {self.left}", f"netns del {self.right}"], force=True)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    try:
        made.build()
        yield made
    finally:
        made.remove()


def advert(family: int) -> Advertisement:
    return Advertisement(3, 7, 100, 100, HOME[family][:1])


def deliver(send: Callable[[], int], receiver: VrrpSocket) -> list[Received]:
    """Send until something arrives: the first frames on a fresh cable may be lost."""

    def attempt() -> list[Received]:
        assert send() == 0
        return receiver.receive()

    return wait_until(attempt, every=0.02)


@pytest.mark.parametrize("family", [4, 6])
def test_multicast_arrives_whole(wire: Wire, family: int) -> None:
    left = wire.open(wire.left, "eth0", family, (GROUP[family],))
    right = wire.open(wire.right, "eth0", family, (GROUP[family],))
    source, group = HOME[family][0], GROUP[family]
    payload = encode(advert(family), source, group)
    got = deliver(lambda: left.send(payload, source, group), right)[0]
    assert got == (payload, source, group, 255)
    assert decode(got[0], family, got[3], got[1], got[2]) == advert(family)
    assert left.receive() == []  # its own do not come back


@pytest.mark.parametrize("family", [4, 6])
def test_unicast_has_the_ttl_that_was_asked_for(wire: Wire, family: int) -> None:
    left = wire.open(wire.left, "eth0", family, ())
    right = wire.open(wire.right, "eth0", family, ())
    source, destination = HOME[family]
    for ttl in (255, 17):
        got = deliver(lambda ttl=ttl: left.send(b"\x31" * 12, source, destination, ttl), right)  # type: ignore[misc]
        assert got[0] == (b"\x31" * 12, source, destination, ttl)
        wait_until(lambda: not right.receive())


@pytest.mark.parametrize("family", [4, 6])
def test_the_source_may_be_foreign(wire: Wire, family: int) -> None:
    left = wire.open(wire.left, "eth0", family, ())
    right = wire.open(wire.right, "eth0", family, (GROUP[family],))
    foreign = pack("10.9.0.77" if family == 4 else "fe80::77")
    got = deliver(lambda: left.send(b"\x31" * 12, foreign, GROUP[family]), right)
    assert got[0][1] == foreign


@pytest.mark.parametrize("family", [4, 6])
def test_the_kernel_parts_known_routers_from_all_others(wire: Wire, family: int) -> None:
    """Each packet reaches exactly one of the two sockets."""
    group, (source, here) = GROUP[family], HOME[family]
    left = wire.open(wire.left, "eth0", family, ())
    known, others = (wire.open(wire.right, "eth0", family, (group,)) for _ in range(2))
    stranger = pack("10.9.0.77" if family == 4 else "fe80::77")
    ours = b"\x31\x07" + bytes(10)
    deliver(lambda: left.send(ours, source, group), known)

    def arrives(payload: bytes, of: bytes = source, to: bytes = group, ttl: int = 255) -> str:
        for sock in (known, others):
            sock.receive()
        assert left.send(payload, of, to, ttl) == 0
        got = wait_until(lambda: (known.receive(), others.receive()) if readable() else None)
        assert sum(map(len, got)) == 1
        return "known" if got[0] else "others"

    def readable() -> bool:
        return bool(select.select([known, others], [], [], 0)[0])

    def divide(wanted: Wanted) -> None:
        for sock in (known, others):
            sock.filter(program(family, wanted, sock is known))

    many = frozenset((3, vrid) for vrid in range(1, 256) if vrid != 8) | {(2, 9)}
    crowd = frozenset(bytes(len(source) - 2) + number.to_bytes(2, "big") for number in range(300))
    for wanted in (
        Wanted(frozenset({(3, 7)}), 2, frozenset({source}), 1),
        Wanted(many, 2, crowd | {source}, 1),
    ):
        divide(wanted)
        assert arrives(ours) == "known"
        assert arrives(ours, to=here) == "known"
        assert arrives(ours, to=here, ttl=2) == "known"
        assert arrives(ours, to=here, ttl=1) == "others"
        assert arrives(ours, of=stranger) == "others"
        assert arrives(b"\x31\x08" + bytes(10)) == "others"  # not our virtual router id
        assert arrives(b"\x21\x07" + bytes(10)) == "others"  # not our version
        assert arrives(b"\x32\x07" + bytes(10)) == "others"  # no advertisement
        assert arrives(b"\x31") == "others"  # cut off
    divide(Wanted(frozenset({(3, 7)}), 255, None, 1))
    assert arrives(ours, of=stranger) == "known"
    assert arrives(ours, to=here, ttl=254) == "others"


def test_what_does_not_fit_is_counted(wire: Wire) -> None:
    left = wire.open(wire.left, "eth0", 4, ())
    right = wire.open(wire.right, "eth0", 4, (GROUP4,))
    deliver(lambda: left.send(b"\x31" * 12, HOME[4][0], GROUP4), right)
    wait_until(lambda: not right.receive())
    right.lost()
    for _ in range(2000):
        assert left.send(b"\x31" * 12, HOME[4][0], GROUP4) == 0
    seen = 0

    def all_seen() -> bool:
        nonlocal seen
        seen += len(right.receive(2000)) + right.lost()
        return seen == 2000

    wait_until(all_seen)


def test_a_group_that_only_others_joined_does_not_come_in(wire: Wire) -> None:
    left = wire.open(wire.left, "eth0", 4, ())
    joined = wire.open(wire.right, "eth0", 4, (GROUP4,))
    aloof = wire.open(wire.right, "eth0", 4, ())
    deliver(lambda: left.send(b"\x31" * 12, HOME[4][0], GROUP4), joined)
    assert aloof.receive() == []


@pytest.mark.parametrize("family", [4, 6])
def test_between_macvlans_with_the_same_mac(wire: Wire, family: int) -> None:
    """use_vmac on both routers: heard on the macvlan, and not on the base interface."""
    wire.add_vmac()
    group, source = GROUP[family], HOME[family][0]
    left, right = (wire.open(name, "vrrp7", family, (group,)) for name in (wire.left, wire.right))
    base = wire.open(wire.right, "eth0", family, (group,))
    payload = encode(advert(family), source, group)
    assert deliver(lambda: left.send(payload, source, group), right)[0] == (payload, source, group, 255)
    assert base.receive() == []
    # A router without use_vmac is heard on both.
    plain = wire.open(wire.left, "eth0", family, ())
    deliver(lambda: plain.send(payload, source, group), right)
    wait_until(base.receive)


@pytest.mark.parametrize("family", [4, 6])
def test_what_happens_to_the_interface(wire: Wire, family: int) -> None:
    group, source = GROUP[family], HOME[family][0]
    wire.add_vmac()
    left = wire.open(wire.left, "vrrp7", family, (group,))
    right = wire.open(wire.right, "vrrp7", family, (group,))
    ip_batch(["link set vrrp7 name other"], wire.left)
    deliver(lambda: left.send(b"\x31" * 12, source, group), right)
    ip_batch(["link set other down"], wire.left)
    assert left.send(b"\x31" * 12, source, group) in (errno.ENETDOWN, errno.ENETUNREACH)
    ip_batch(["link set other up"], wire.left)
    deliver(lambda: left.send(b"\x31" * 12, source, group), right)  # the membership has survived
    deliver(lambda: right.send(b"\x31" * 12, HOME[family][1], group), left)
    ip_batch(["link del other"], wire.left)
    assert left.send(b"\x31" * 12, source, group) in (errno.ENODEV, errno.ENXIO)
    wait_until(lambda: not left.receive())
    left.close()
    left.close()
    assert left.fileno() == -1
    assert left.send(b"\x31" * 12, source, group) == errno.EBADF
    assert left.receive() == []
    with pytest.raises(OSError) as refused:
        enter(wire.left, lambda: VrrpSocket("gone", 4711, family, (group,)))
    assert refused.value.errno in (errno.ENODEV, errno.EADDRNOTAVAIL)


def test_a_flood_is_read_in_portions_and_oversize_is_dropped(wire: Wire) -> None:
    group, source = GROUP4, HOME[4][0]
    left = wire.open(wire.left, "eth0", 4, ())
    right = wire.open(wire.right, "eth0", 4, (group,))
    deliver(lambda: left.send(b"\x31" * 12, source, group), right)
    wait_until(lambda: not right.receive())
    for _ in range(50):
        left.send(b"\x31" * 12, source, group)
    assert [len(right.receive(20)) for _ in range(4)] == [20, 20, 10, 0]
    assert right.malformed == 0
    left.send(bytes(1400), source, group)
    left.send(b"\x31" * 12, source, group)
    assert len(wait_until(right.receive)) == 1
    assert right.malformed == 1


def test_ip_options_and_fragments_are_no_obstacle(wire: Wire) -> None:
    right = wire.open(wire.right, "eth0", 4, ())
    right6 = wire.open(wire.right, "eth0", 6, ())

    def raw(family: int) -> socket.socket:
        return socket.socket(family, socket.SOCK_RAW, PROTOCOL)

    with enter(wire.left, lambda: raw(socket.AF_INET)) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x94\x04\0\0")  # router alert
        wait_until(
            lambda: (
                sender.sendto(b"\x31" * 12, ("10.9.0.2", 0))
                and (got := right.receive())
                and (got[0][0] == b"\x31" * 12)
            )
        )
    largest = Advertisement(3, 7, 100, 100, tuple(bytes([n]) * 16 for n in range(255)))
    left = wire.open(wire.left, "eth0", 6, ())
    payload = encode(largest, *HOME[6])
    got = deliver(lambda: left.send(payload, *HOME[6]), right6)  # 4088 bytes in 3 fragments
    assert got[0][0] == payload


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")
def test_tshark_finds_nothing_wrong(wire: Wire, tmp_path: Path) -> None:
    """Both families, both versions, with and without vmac, GARP and NA, as one capture."""
    file = tmp_path / "all.pcap"
    sniffer = subprocess.Popen(
        ["ip", "netns", "exec", wire.right, "tcpdump", "-i", "eth0", "-U", "-w", str(file)],
        stderr=subprocess.PIPE,
    )
    announcer = enter(wire.left, Announcer)
    try:
        assert sniffer.stderr is not None
        assert b"listening" in sniffer.stderr.readline()
        wire.add_vmac()
        ifindex = enter(wire.left, lambda: socket.if_nametoindex("vrrp7"))
        mac = bytes.fromhex(VMAC.replace(":", ""))
        frames = [announcement(mac, pack(a)) for a in ("10.9.0.4", "fe80::4", "2001:db8::4")]
        assert enter(wire.left, lambda: announcer.send(ifindex, frames, repeat=2)) == 0
        v2 = Advertisement(2, 7, 100, 100, (pack("10.9.0.4"), pack("10.9.0.5")), 1, b"secret\0\0")
        for interface in ("eth0", "vrrp7"):
            for family, item in ((4, v2), (4, advert(4)), (6, advert(6))):
                sock = wire.open(wire.left, interface, family, ())
                source, group = HOME[family][0], GROUP[family]
                assert sock.send(encode(item, source, group), source, group) == 0
        wait_until(lambda: len(_tshark(file, "vrrp")) == 6)
        wait_until(lambda: len(_tshark(file, "arp.isgratuitous || icmpv6.type == 136")) == 6)
    finally:
        announcer.close()
        sniffer.terminate()
        sniffer.wait()
    assert _tshark(file, "_ws.malformed || _ws.expert.severity >= 0x600000") == []
    checked = _tshark(file, "vrrp.checksum.status == 1 || vrrp.checksum.status == 2")
    assert len(checked) == 6, checked
    assert _tshark(file, "vrrp.checksum.status == 0 || icmpv6.checksum.status == 0") == []
    assert len(_tshark(file, f"vrrp && eth.src == {VMAC}")) == 3
    assert len(_tshark(file, "vrrp && (ip.dsfield == 0xc0 || ipv6.tclass == 0xc0)")) == 6
    assert len(_tshark(file, "arp.isgratuitous")) == 2
    assert len(_tshark(file, "icmpv6.nd.na.flag.r == 1 && icmpv6.nd.na.flag.o == 1")) == 4


def _tshark(file: Path, display_filter: str) -> list[str]:
    """The packets of a capture file that match, one line each."""
    options = ["-o", "ip.check_checksum:TRUE", "-o", "vrrp.v3_checksum_as_in_v2:FALSE"]
    done = subprocess.run(
        ["tshark", "-r", str(file), *options, "-Y", display_filter], capture_output=True, text=True
    )
    return done.stdout.splitlines()


def test_capture_live(wire: Wire) -> None:
    lan = Instance("lan", "eth0", 7, version=3, virtual_addresses=(Address("10.9.0.1", 32, 4),))
    left = wire.open(wire.left, "eth0", 4, ())
    right = wire.open(wire.right, "eth0", 4, ())
    source = HOME[4][0]
    good = encode(advert(4), source, GROUP4)
    out = io.StringIO()
    result: list[int] = []
    thread = threading.Thread(
        target=lambda: result.append(
            enter(wire.right, lambda: capture("eth0", Config(instances=(lan,)), 3, out))
        )
    )
    thread.start()
    wait_until(lambda: "Listening" in out.getvalue())
    with enter(wire.left, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as other:
        other.sendto(b"not VRRP", ("10.9.0.2", 9))
    # one at a time: adverts may be lost on a fresh cable
    for number, send in enumerate(
        (
            lambda: left.send(good, source, GROUP4),
            lambda: left.send(good[:-1], source, GROUP4),
            lambda: right.send(good, HOME[4][1], GROUP4),
        )
    ):
        assert send() == 0
        wait_until(lambda number=number: len(out.getvalue().splitlines()) == number + 2)  # type: ignore[misc]
    thread.join(10)
    assert result == [0]
    headline, accepted, dropped, ours = out.getvalue().splitlines()
    assert headline == "Listening on eth0, home of lan (vrid 7). Ctrl-C ends."
    assert accepted[13:] == (
        "10.9.0.1 -> 224.0.0.18 vrid 7 v3 priority 100 every 1 s 10.9.0.1: accepted by lan"
    )
    assert "vrid 7 v3 priority 100 every 1 s 1 addresses: dropped: shorter than" in dropped
    assert ours.endswith("sent by this router")


def test_strict_reverse_path_filter_hides_adverts_from_a_macvlan(wire: Wire) -> None:
    """Why use_vmac has to set rp_filter of the macvlan to 0: the route back is on the base."""
    wire.add_vmac()
    left = wire.open(wire.left, "vrrp7", 4, (GROUP4,))
    right = wire.open(wire.right, "vrrp7", 4, (GROUP4,))
    source = HOME[4][0]
    write_sysctls(wire.right, {"ipv4/conf/all/rp_filter": 0, "ipv4/conf/vrrp7/rp_filter": 0})
    deliver(lambda: left.send(b"\x31" * 12, source, GROUP4), right)
    wait_until(lambda: not right.receive())
    write_sysctls(wire.right, {"ipv4/conf/vrrp7/rp_filter": 1})
    base = wire.open(wire.right, "eth0", 4, (GROUP4,))
    plain = wire.open(wire.left, "eth0", 4, ())
    left.send(b"\x31" * 12, source, GROUP4)
    deliver(lambda: plain.send(b"\x31" * 12, source, GROUP4), base)
    assert right.receive() == []
