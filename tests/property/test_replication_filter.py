# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's filter and Python's say the same of every message.

The real BPF runs: a filter on a pair of Unix sockets sees the same bytes as one on a netlink socket.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from flow_messages import DELETE, NEW, event
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.conntrack.filter import (
    CLOSING,
    CONNECTED,
    LOCAL_MAX,
    NETWORKS_MAX,
    SYN_SENT,
    ZONES_MAX,
    Filter,
    checker,
)
from tandem.conntrack.message import parse
from tandem.conntrack.record import DESTROY, TCP_AT
from tandem.conntrack.socket_filter import ONE_IN, program
from tandem.effects.bpf import assemble, attach
from tandem.effects.netlink import attributes

OURS = 4711
V4 = [ip_address(text).packed for text in (
    "10.0.0.2", "10.0.0.3", "10.1.0.2", "192.168.0.4", "203.0.113.5", "127.0.0.1", "224.0.0.18", "239.1.1.1",
    "255.255.255.255", "128.0.0.1", "0.0.0.0",
)]  # fmt: skip
V6 = [ip_address(text).packed for text in (
    "2001:db8::2", "2001:db8::3", "2001:db8:1::2", "2001:db8:0:1::2", "::1", "::2", "ff02::12", "fe80::1",
    "fec0::1", "fd00::1:0:0:1", "::",
)]  # fmt: skip

some = st.lists(st.sampled_from(V4 + V6), max_size=6)
prefixes = st.one_of(
    st.tuples(st.sampled_from(V4), st.integers(0, 32)), st.tuples(st.sampled_from(V6), st.integers(0, 128))
)
filters = st.builds(
    Filter,
    protocols=st.none()
    | st.frozensets(st.sampled_from([1, 6, 17, 47, 58, 132, 253]))
    | st.frozensets(st.sampled_from([1, 6, 17, 47, 58, 132, 253])).map(frozenset(range(256)).difference),
    tcp_states=st.none() | st.frozensets(st.integers(0, 10)),
    zones=st.none() | st.frozensets(st.sampled_from([0, 1, 7, 65535])),
    networks=st.lists(prefixes, max_size=5).map(tuple),
    include=st.booleans(),
    local=some.map(frozenset),
    own=st.booleans(),
    settled=st.booleans(),
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    pool = st.sampled_from(draw(st.sampled_from([V4, V6])))
    protocol = draw(st.sampled_from([1, 6, 6, 6, 17, 47, 58, 132, 253]))
    return event(
        draw(pool),
        draw(pool),
        reply=draw(st.none() | st.tuples(pool, pool)),
        protocol=protocol,
        ports=draw(st.tuples(st.sampled_from([3780, 40000]), st.sampled_from([3780, 443]))),
        state=draw(st.none() | st.integers(0, 9)) if protocol == 6 else None,
        zone=draw(st.sampled_from([0, 0, 1, 7, 9])),
        one_way_zone=draw(st.sampled_from([0, 0, 5])),
        kind=draw(st.sampled_from([NEW, NEW, DELETE])),
        port=draw(st.sampled_from([0, 0, 12])),
        status=draw(st.sampled_from([0x188, 0x18A, 0x18E, 0x189, 0x1A8, 0x4188, 0x8188])),
        helper=draw(st.sampled_from([b"", b"", b"sip"])),
        labels=draw(st.sampled_from([False, False, True])),
    )


def is_closing(message: bytes) -> bool:
    """Whether a connection closes: its entry is wanted from a dump, and no event tells of it."""
    op, key, body = parse(message) or (0, bytes(4), b"")
    status = int.from_bytes(attributes(message, 20)[3], "big")
    return key[3] == 6 and op != DESTROY and bool(status & CONNECTED) and body[TCP_AT] in CLOSING


class Kernel:
    def __init__(self) -> None:
        self.inlet, self.outlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.outlet.setblocking(False)

    def load(self, rules: Filter, *ports: int, bell: bool = False) -> None:
        attach(self.outlet, assemble(program(rules, ports, bell=bell)))

    def passes(self, message: bytes) -> bool:
        self.inlet.send(message)
        try:
            assert self.outlet.recv(65536) == message
        except BlockingIOError:
            return False
        return True

    def rings(self, message: bytes) -> bool:
        """Whether the bell that is loaded rings; it passes one byte of an event."""
        self.inlet.send(message)
        try:
            assert self.outlet.recv(65536) in (message, message[:1])
        except BlockingIOError:
            return False
        return True

    def always_rings(self, message: bytes) -> bool:
        """Whether it rings each time; the others do so by chance."""
        return all(self.rings(message) for _ in range(6))


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.inlet.close()
    made.outlet.close()


@settings(max_examples=300)
@given(rules=filters, flows=st.lists(messages(), min_size=1, max_size=20))
def test_the_kernel_and_python_agree(kernel: Kernel, rules: Filter, flows: list[bytes]) -> None:
    kernel.load(rules)
    wanted = checker(rules)
    for message in flows:
        expected = wanted(message) and not (rules.settled and is_closing(message))
        assert kernel.passes(message) == expected, (rules, message.hex())


@given(rules=filters, flows=st.lists(messages(), min_size=1, max_size=20))
def test_what_rings_the_bell_is_wanted(kernel: Kernel, rules: Filter, flows: list[bytes]) -> None:
    kernel.load(rules, bell=True)
    wanted = checker(rules)
    for message in flows:
        assert wanted(message) or not kernel.rings(message), (rules, message.hex())


@given(rules=filters, noise=st.binary(max_size=300))
def test_noise_is_no_harm(kernel: Kernel, rules: Filter, noise: bytes) -> None:
    kernel.load(rules)
    kernel.passes(noise or b"\0")
    checker(rules)(noise)


@given(rules=filters, message=messages(), cut=st.integers(0, 200))
def test_cut_off(kernel: Kernel, rules: Filter, message: bytes, cut: int) -> None:
    kernel.load(rules)
    kernel.passes(message[:cut] or b"\0")
    checker(rules)(message[:cut])


LAN, SERVER, ROUTER, VIP = V4[0], V4[4], V4[1], V4[3]
LAN6, SERVER6 = V6[0], V6[3]


@pytest.mark.parametrize(("wanted", "rules", "message"), [
    (True, Filter(), event(LAN, SERVER, reply=(SERVER, VIP))),
    (True, Filter(), event(LAN6, SERVER6)),
    (True, Filter(), event(LAN, SERVER, protocol=253)),
    (False, Filter(), event(LAN, SERVER, port=OURS)),
    (True, Filter(), event(LAN, SERVER, port=OURS + 1)),
    (True, Filter(local=frozenset({VIP, ROUTER})), event(LAN, SERVER, reply=(SERVER, VIP))),  # SNAT
    (True, Filter(local=frozenset({VIP})), event(SERVER, VIP, reply=(LAN, SERVER))),  # port forward
    (False, Filter(local=frozenset({VIP})), event(SERVER, VIP)),
    (False, Filter(local=frozenset({ROUTER})), event(ROUTER, SERVER)),
    (False, Filter(local=frozenset({LAN6})), event(LAN6, SERVER6)),
    (True, Filter(local=frozenset({ROUTER}), own=True), event(ROUTER, SERVER)),
    (False, Filter(local=frozenset({ROUTER}), own=True), event(ROUTER, SERVER, ports=(40000, 3780))),
    (False, Filter(local=frozenset({ROUTER}), own=True), event(SERVER, ROUTER, ports=(3780, 40000))),
    (True, Filter(local=frozenset({ROUTER}), own=True), event(LAN, SERVER, ports=(40000, 3780))),
    (False, Filter(networks=((b"\x0a\0\0\0", 8),)), event(LAN, SERVER)),
    (True, Filter(networks=((b"\x0a\0\0\0", 8),), include=True), event(LAN, SERVER)),
    (True, Filter(networks=((b"\x0a\0\0\0", 8),), include=True), event(SERVER, VIP, reply=(LAN, SERVER))),
    (False, Filter(networks=((b"\x0a\0\0\0", 8),), include=True), event(SERVER, VIP)),
    (False, Filter(tcp_states=frozenset({3})), event(LAN, SERVER, state=SYN_SENT)),
    (True, Filter(tcp_states=frozenset({3})), event(LAN, SERVER, state=3)),
    (True, Filter(tcp_states=frozenset({3})), event(LAN, SERVER)),  # a change of something else
    (True, Filter(tcp_states=frozenset({3})), event(LAN, SERVER, state=8, kind=DELETE)),
    (False, Filter(tcp_states=frozenset({3})), event(LAN, SERVER, state=SYN_SENT, kind=DELETE)),
    (False, Filter(zones=frozenset({3})), event(LAN, SERVER)),
    (True, Filter(zones=frozenset({3})), event(LAN, SERVER, zone=3)),
    (True, Filter(), event(LAN, SERVER, kind=0x200)),  # an expectation
    (False, Filter(settled=True), event(LAN, SERVER, state=SYN_SENT, status=0x188)),  # TCP
    (False, Filter(settled=True), event(SERVER, VIP, state=SYN_SENT, status=0x1A8)),  # a port forward
    (True, Filter(settled=True), event(LAN, SERVER, state=2, status=0x18A)),  # answered
    (True, Filter(settled=True), event(LAN, SERVER, status=0x18A)),  # without a state
    (False, Filter(settled=True), event(LAN, SERVER, state=8, status=0x18A)),  # refused
    (True, Filter(settled=True), event(LAN, SERVER, state=3, status=0x18E)),
    (True, Filter(settled=True), event(LAN, SERVER, status=0x18E)),  # a change of something else
    (True, Filter(settled=True), event(LAN, SERVER, state=7, status=0x18E)),
    (True, Filter(settled=True), event(LAN, SERVER, state=8, status=0x18E)),
    (True, Filter(settled=True), event(LAN, SERVER, state=SYN_SENT, status=0x189)),  # announced by a helper
    (True, Filter(settled=True), event(LAN, SERVER, state=2, status=0x418A)),  # in a flow table
    (True, Filter(settled=True), event(LAN, SERVER, state=SYN_SENT, status=0x188, labels=True)),
    (True, Filter(settled=True), event(LAN, SERVER, state=4, status=0x18E, kind=DELETE)),
    (True, Filter(settled=True), event(LAN, SERVER, status=0x18A, kind=DELETE)),  # before Linux 5.11
    (True, Filter(settled=True), event(LAN, SERVER, state=2, status=0x18A, kind=DELETE)),
    (False, Filter(settled=True), event(LAN, SERVER, state=SYN_SENT, status=0x188, kind=DELETE)),
    (False, Filter(settled=True), event(LAN, SERVER, state=9, status=0x18A, kind=DELETE)),
    (True, Filter(settled=True), event(LAN, SERVER, protocol=47)),  # GRE
    (False, Filter(settled=True), event(LAN, SERVER, protocol=17, status=0x188)),  # a query
    (False, Filter(settled=True), event(LAN, SERVER, protocol=17, status=0x18A)),  # that was answered
    (False, Filter(settled=True), event(LAN, SERVER, protocol=17, status=0x18A, kind=DELETE)),
    (False, Filter(settled=True), event(LAN, SERVER, protocol=136, status=0x18A)),  # UDPLITE
    (False, Filter(settled=True), event(LAN, SERVER, protocol=1, status=0x18A)),  # ping
    (False, Filter(settled=True), event(LAN6, SERVER6, protocol=58, status=0x18A)),
    (True, Filter(settled=True), event(LAN, SERVER, protocol=17, status=0x18E)),  # assured: a call
    (True, Filter(settled=True), event(LAN6, SERVER6, protocol=17, status=0x18E, kind=DELETE)),
    (True, Filter(settled=True), event(LAN, SERVER, protocol=17, status=0x189)),  # a helper has announced it
    (True, Filter(settled=True), event(SERVER, VIP, protocol=17, status=0x1A8)),  # a port forward
    (True, Filter(settled=True), event(LAN, SERVER, protocol=17, status=0x418A)),  # in a flow table
    (True, Filter(settled=True), event(LAN, SERVER, protocol=17, status=0x818A)),  # of the hardware
    (True, Filter(settled=True), event(LAN, SERVER, protocol=17, status=0x188, helper=b"sip")),
    (True, Filter(), event(LAN, SERVER, protocol=17, status=0x188)),
    (False, Filter(), event(LAN, SERVER, kind=0x300)),
])  # fmt: skip
def test_what_passes(kernel: Kernel, wanted: bool, rules: Filter, message: bytes) -> None:
    kernel.load(rules, OURS, 5)
    assert kernel.passes(message) == wanted
    if message[12:16] == bytes(4):
        assert checker(rules)(message) == wanted


CREATED, CHANGED = 0x600, 0
UDP, GRE = {"protocol": 17}, {"protocol": 47}


@pytest.mark.parametrize(("rings", "message"), [
    (True, event(LAN, SERVER, state=3)),
    (True, event(LAN6, SERVER6, state=2, flags=CHANGED)),
    (False, event(LAN6, SERVER6, state=3, flags=CHANGED)),
    (False, event(LAN, SERVER, state=SYN_SENT)),
    (False, event(LAN, SERVER, state=9)),
    (True, event(LAN, SERVER, state=SYN_SENT, status=0x4188)),  # a flow table takes it away
    (False, event(LAN, SERVER, flags=CHANGED)),  # a change of something else
    *((False, event(LAN, SERVER, state=state, flags=CHANGED)) for state in (4, 5, 6, 7, 8)),
    (False, event(LAN, SERVER, state=3, kind=DELETE)),
    (True, event(LAN, SERVER, status=0x188, **UDP)),
    (True, event(LAN6, SERVER6, status=0x188, protocol=58)),
    (False, event(LAN, SERVER, status=0x18A, flags=CHANGED, **UDP)),  # the answer to a query
    (True, event(LAN, SERVER, status=0x18E, flags=CHANGED, **UDP)),  # a call
    (True, event(LAN, SERVER, status=0x418A, flags=CHANGED, **UDP)),
    (False, event(LAN, SERVER, status=0x18E, kind=DELETE, **UDP)),
    (True, event(LAN, SERVER, flags=CHANGED, **GRE)),
    (False, event(LAN, SERVER, kind=DELETE, **GRE)),
    (True, event(LAN, SERVER, kind=0x200)),  # an expectation
])  # fmt: skip
def test_what_rings_the_bell(kernel: Kernel, rings: bool, message: bytes) -> None:
    kernel.load(Filter(), bell=True)
    assert kernel.always_rings(message) == rings


@pytest.mark.parametrize("states", [(2,), (2, 3), (3,), (3, 7)])
def test_the_first_state_that_is_wanted_rings_the_bell(kernel: Kernel, states: tuple[int, ...]) -> None:
    kernel.load(Filter(tcp_states=frozenset(states)), bell=True)
    for state in (2, 3, 7):
        message = event(LAN, SERVER, state=state, flags=CHANGED)
        assert kernel.always_rings(message) == (state == states[0])


def test_one_in_some_of_the_others_rings_the_bell(kernel: Kernel) -> None:
    kernel.load(Filter(), bell=True)
    end = event(LAN, SERVER, state=3, kind=DELETE)
    assert 10 < sum(kernel.rings(end) for _ in range(64 * ONE_IN)) < 200


@pytest.mark.parametrize("state", CLOSING)
def test_a_connection_that_closes_stays_and_no_event_tells_of_it(kernel: Kernel, state: int) -> None:
    """A dump must find it: the backup has it, and it may go on for hours in one direction."""
    rules = Filter(settled=True)
    kernel.load(rules)
    message = event(LAN, SERVER, state=state, status=0x18E)
    assert checker(rules)(message) and not kernel.passes(message)
    kernel.load(Filter())
    assert kernel.passes(message)


@pytest.mark.parametrize(("number", "wanted"), [
    (0xFE7F, True), (0xFE80, False), (0xFE81, False), (0xFEBF, False), (0xFEC0, True), (0xFD80, True),
    (0xFF00, False), (0xFF02, False), (0xFE00, True),
])  # fmt: skip
def test_what_is_link_local_or_multicast(kernel: Kernel, number: int, wanted: bool) -> None:
    kernel.load(Filter())
    address = number.to_bytes(2, "big") + bytes(13) + b"\1"
    for message, passes in (
        (event(address, SERVER6), wanted or number >= 0xFF00), (event(SERVER6, address), wanted)
    ):  # fmt: skip
        assert kernel.passes(message) == checker(Filter())(message) == passes


def test_what_is_loopback_or_multicast(kernel: Kernel) -> None:
    kernel.load(Filter())
    for first in range(256):
        address = bytes((first, 255, 255, 254))
        for message, wanted in ((event(address, LAN), first != 127), (event(LAN, address), first < 224)):
            assert kernel.passes(message) == checker(Filter())(message) == wanted
    for at in range(16):  # ::1 alone
        address = bytes(at) + b"\1" + bytes(15 - at)
        message = event(address, SERVER6)
        assert kernel.passes(message) == checker(Filter())(message) == (at < 15)


@pytest.mark.parametrize("address", [V4[4], V6[3], b"\x80" + bytes(15)])
@pytest.mark.parametrize("include", [False, True])
def test_every_length_of_a_prefix(kernel: Kernel, address: bytes, include: bool) -> None:
    bits, number = 8 * len(address), int.from_bytes(address, "big")
    other = bytes(byte ^ 0xFF for byte in address[:1]) + address[1:]
    for length in range(bits + 1):
        rules = Filter(networks=((address, length),), include=include)
        kernel.load(rules)
        wanted = checker(rules)
        for changed in {max(length - 1, 0), length, length // 32 * 32, bits - 1} - {bits}:
            near = (number ^ 1 << (bits - 1 - changed)).to_bytes(len(address), "big")
            message = event(near, other, reply=(other, near))
            inside = changed >= length or length == 0
            assert kernel.passes(message) == wanted(message) == (inside is include), (length, changed)


@pytest.mark.parametrize("address", [VIP, LAN6])
def test_every_byte_of_a_local_address_counts(kernel: Kernel, address: bytes) -> None:
    rules = Filter(local=frozenset((address, V6[5])))
    kernel.load(rules)
    other = SERVER if len(address) == 4 else SERVER6
    for at in range(len(address)):
        near = address[:at] + bytes((address[at] ^ 1,)) + address[at + 1 :]
        for message in (event(near, other), event(other, address, reply=(near, other))):
            assert kernel.passes(message) and checker(rules)(message)
    for message in (
        event(address, other),
        event(other, LAN if len(address) == 4 else V6[1], reply=(address, other)),
    ):
        assert not kernel.passes(message) and not checker(rules)(message)


@pytest.mark.parametrize("zone", [0, 3, 0x0103, 0x0300])
def test_zones_are_of_two_bytes(kernel: Kernel, zone: int) -> None:
    for wanted in (0, 3, 0x0103, 0x0300):
        rules = Filter(zones=frozenset((wanted, 9)))
        kernel.load(rules)
        message = event(LAN, SERVER, zone=zone)
        assert kernel.passes(message) == checker(rules)(message) == (zone == wanted)


@pytest.mark.parametrize("count", [1, 127, 128, 129, 255, 256])
def test_any_number_of_protocols(kernel: Kernel, count: int) -> None:
    for protocols in (frozenset(range(count)), frozenset(range(256 - count, 256))):
        kernel.load(Filter(protocols=protocols))
        for protocol in range(256):
            message = event(LAN, SERVER, protocol=protocol)
            assert kernel.passes(message) == (protocol in protocols)
            assert checker(Filter(protocols=protocols))(message) == (protocol in protocols)


@pytest.mark.parametrize(("source", "destination", "size"), [(LAN, SERVER, 92), (LAN6, SERVER6, 140)])
def test_a_message_needs_both_tuples(source: bytes, destination: bytes, size: int) -> None:
    """A flow may lack the attributes that follow."""
    message = event(source, destination, protocol=253)
    assert checker(Filter())(message[:size])
    assert not checker(Filter())(message[: size - 1])


@pytest.mark.parametrize(
    ("kind", "wanted"), [(0x100, True), (0x102, True), (0x200, True), (0x202, True), (0x001, False)]
)
def test_which_messages_pass(kernel: Kernel, kind: int, wanted: bool) -> None:
    kernel.load(Filter())
    message = event(LAN, SERVER, kind=kind)
    assert kernel.passes(message) == checker(Filter())(message) == wanted


@pytest.mark.parametrize("status", [0, *(1 << bit for bit in range(16))])
def test_which_bits_of_the_status_settle_a_flow(kernel: Kernel, status: int) -> None:
    """EXPECTED, ASSURED, DST_NAT, OFFLOAD, HW_OFFLOAD: what another router could not make anew."""
    rules = Filter(settled=True)
    kernel.load(rules)
    message = event(LAN, SERVER, protocol=17, status=status)
    assert kernel.passes(message) == checker(rules)(message) == (status in (1, 4, 0x20, 0x4000, 0x8000))
    message = event(LAN, SERVER, state=SYN_SENT, status=status)
    assert kernel.passes(message) == checker(rules)(message) == (status in (1, 4, 0x4000, 0x8000))


def test_what_the_kernels_filter_holds() -> None:
    full = [bytes((1, 2, 3, number)) for number in range(LOCAL_MAX)]
    networks = tuple((address, 32) for address in full[:NETWORKS_MAX])
    zones = frozenset(range(ZONES_MAX))
    assert len(networks) == NETWORKS_MAX
    assert Filter().fits and Filter(local=frozenset(full), networks=networks, zones=zones).fits
    assert not Filter(local=frozenset((*full, LAN))).fits
    assert not Filter(networks=(*networks, (LAN, 32))).fits
    assert not Filter(zones=zones | {65535}).fits


def test_the_largest_lists_fit(kernel: Kernel) -> None:
    """In one program, with all jumps in reach; beyond them Python filters."""
    local = frozenset(bytes([0x20, 1]) + bytes([n]) * 14 for n in range(LOCAL_MAX))
    networks = tuple((bytes([0xFD]) + bytes([n]) * 15, 127) for n in range(NETWORKS_MAX))
    rules = Filter(
        frozenset(range(128)), frozenset(range(256)), frozenset(range(128)), networks, local=local, own=True
    )
    assert rules.fits
    kernel.load(rules, *range(1, 5))
    wanted = checker(rules)
    for address in (*local, *(network for network, _ in networks), LAN6):
        for message in (
            event(address, SERVER6),
            event(SERVER6, address),
            event(LAN6, SERVER6, reply=(address, LAN6)),
        ):
            assert kernel.passes(message) == wanted(message)
    assert not Filter(local=local | {LAN}).fits


def test_what_is_redirected_from_an_ignored_address_passes() -> None:
    """As conntrackd has it: an ignored address is where a connection comes from or ends."""
    router, client, server = (ip_address(text).packed for text in ("203.0.113.5", "198.51.100.7", "10.0.0.2"))
    redirected = event(client, router, reply=(server, client), protocol=6, ports=(40000, 443))
    to_itself = event(client, router, reply=(router, client), protocol=6, ports=(40000, 443))
    kernel = Kernel()
    for include in (False, True):
        rules = Filter(networks=((router, 32),), include=include)
        kernel.load(rules)
        for message, ends_there in ((redirected, False), (to_itself, True)):
            expected = include or not ends_there
            assert (checker(rules)(message), kernel.passes(message)) == (expected, expected)
