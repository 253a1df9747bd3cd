# SPDX-License-Identifier: GPL-2.0-or-later
"""The announcement frames, byte by byte and as scapy reads them."""

from __future__ import annotations

import errno
import socket

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from tandem.effects.announce import Announcer, announcement, garp_frame, na_frame

MAC = bytes.fromhex("00005e000107")
V4 = bytes((192, 168, 1, 4))
V6 = socket.inet_pton(socket.AF_INET6, "fe80::4")


def test_garp_is_the_request_that_keepalived_sends() -> None:
    # keepalived 2.2.7, captured with `tshark -x` on a veth pair (its own MAC, here the virtual one)
    expected = "ffffffffffff00005e00010708060001080006040001"
    expected += "00005e000107c0a80104ffffffffffffc0a80104"
    assert garp_frame(MAC, V4).hex() == expected


def test_garp_as_scapy_reads_it() -> None:
    frame = Ether(garp_frame(MAC, V4))
    arp = frame[ARP]
    assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", "00:00:5e:00:01:07")
    assert (arp.op, arp.psrc, arp.pdst, arp.hwsrc) == (1, "192.168.1.4", "192.168.1.4", "00:00:5e:00:01:07")


@pytest.mark.parametrize("router", [True, False])
@pytest.mark.parametrize("address", ["fe80::4", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1:0"])
def test_na_as_scapy_reads_it(address: str, router: bool) -> None:
    frame = Ether(na_frame(MAC, socket.inet_pton(socket.AF_INET6, address), router))
    ip6, na, option = frame[IPv6], frame[ICMPv6ND_NA], frame[ICMPv6NDOptDstLLAddr]
    assert (frame.dst, frame.src) == ("33:33:00:00:00:01", "00:00:5e:00:01:07")
    assert (ip6.src, ip6.dst, ip6.hlim) == (address, "ff02::1", 255)
    assert (na.R, na.S, na.O, na.tgt) == (router, 0, 1, address)
    assert option.lladdr == "00:00:5e:00:01:07"
    right = na.cksum
    del frame[ICMPv6ND_NA].cksum
    assert Ether(bytes(frame))[ICMPv6ND_NA].cksum == right
    assert len(frame) == 14 + ip6.plen + 40


def test_announcement_chooses_by_family() -> None:
    assert announcement(MAC, V4) == garp_frame(MAC, V4)
    assert announcement(MAC, V6, router=False) == na_frame(MAC, V6, router=False)


def test_a_missing_interface_is_an_errno() -> None:
    try:
        announcer = Announcer()
    except PermissionError:
        pytest.skip("needs CAP_NET_RAW")
    try:
        assert announcer.send(2**30, [garp_frame(MAC, V4)]) in (errno.ENXIO, errno.ENODEV)
    finally:
        announcer.close()
        announcer.close()
