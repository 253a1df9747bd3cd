# SPDX-License-Identifier: GPL-2.0-or-later
"""The device of a followed network in the kernel: the port is silent, the lease is in place at once."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tandem
from tandem.conntrack import flush
from tandem.core.lease import Lease, Lease6, Lent, Route6, Session
from tandem.core.timers import SECOND
from tandem.effects.announce import Announcer
from tandem.effects.leftovers import leftovers
from tandem.effects.rtnl import LinkMessage, Monitor, Rtnl, dump_links
from tandem.effects.sysctl import Sysctls
from tandem.follow.device import Device
from tandem.follow.line6 import link_local
from tandem.loop import Loop
from tandem.plan.encode_rtnl import follower
from tandem.plan.result import Vmac
from tests.lab import netns
from tests.lab.capture import Capture
from tests.lab.lab import Host, Lab, Port
from tests.lab.wait import stays, wait_until
from tests.netns.shared_line import UNANSWERED
from tests.unit.test_follow_acks import ack

MAC = "02:1a:2b:3c:4d:5e"
LEASE = Lease(
    "wan", MAC, "192.168.0.50", 24, 1000 * SECOND,
    (("0.0.0.0/0", "192.168.0.1"), ("198.51.100.0/24", "192.168.9.1"), ("192.168.9.1/32", "")), metric=7,
)  # fmt: skip
LINE_LOCAL = "fe80::1a:2bff:fe3c:4d5e"
END = 1000 * SECOND
LEASE6 = Lease6(
    "wan6", MAC,
    (Lent("2001:db8:ff::5", 64, END // 2, END),), (Lent("2001:db8:1::", 56, END // 2, END),), END,
    (
        Route6("::/0", "fe80::1", "2001:db8:1::/56", 512, END), Route6("2001:db8:ff::/64", "", "", 256, END),
        Route6("2001:db8:f::/48", "2001:db8:ff::9", "", 0, END),
    ),
    (("lan0", Lent("2001:db8:1::1", 60, END // 2, END)), ("gone", Lent("2001:db8:1:10::1", 60, END, END))),
)  # fmt: skip
PACKAGE = Path(tandem.__path__[0])


class Links:
    """What `Interfaces` is to a device."""

    def __init__(self, state: Path) -> None:
        self.links = self
        self.sysctls = Sysctls(str(state))

    def device(self, name: str) -> str:
        return name

    def mac(self, name: str) -> bytes | None:
        return next((link.mac for link in dump_links() if link.name == name), None)

    def index(self, name: str) -> int | None:
        return next((link.ifindex for link in dump_links() if link.name == name), None)


@pytest.fixture
def lab(open_lab: Callable[[Any], Any]) -> Lab:
    lab = Lab("device")
    wan, lan = lab.switch("wan"), lab.switch("lan")
    lab.add(Host("router", [Port("eth1", wan), Port("lan0", lan)]))
    lab.add(Host("provider", [Port("eth0", wan, "192.168.0.1/24"), Port("eth1", lan)]))
    opened: Lab = open_lab(lab)
    return opened


@pytest.fixture
def device(lab: Lab) -> Iterator[Device]:
    router = lab["router"]
    parts: list[Any] = [router.enter(Rtnl), router.enter(Announcer)]
    made = Device(
        Vmac(**follower("wan0", "eth1", MAC)),
        parts[0],
        Links(router.file("sysctls")),
        parts[1],  # type: ignore[arg-type]
    )
    yield made
    for part in parts:
        part.close()


def show(host: Host, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.exec("ip", "-j", *words) or "[]")
    return found


def test_its_life(lab: Lab, device: Device) -> None:
    router, provider = lab["router"], lab["provider"]
    router.exec("ip", "link", "set", "eth1", "down")
    assert router.enter(device.prepare) == []
    assert "UP" in show(router, "link", "show", "eth1")[0]["flags"]
    assert router.sysctl("ipv6/conf/eth1/disable_ipv6") == "1"
    own = router.exec("cat", "/sys/class/net/eth1/address").strip()
    with Capture(lab, router.cable("eth1")) as capture:
        assert router.enter(device.create) == ()
        assert router.enter(device.create) == ()  # it is there already
        # Later, a second report of its groups may come when the role has just gone (tests/chaos/line.py).
        assert int(router.sysctl("ipv6/conf/wan0/mldv2_unsolicited_report_interval")) < 50  # ms
        assert router.sysctl("ipv6/neigh/wan0/retrans_time_ms") == "60"
        assert router.enter(lambda: device.place(LEASE, 60, 0)) == ()
        assert provider.exec("ping", "-c1", "-W3", "192.168.0.50")
    assert capture.fields("arp.opcode == 1 && arp.src.proto_ipv4 == 192.168.0.50", "eth.src")[0] == [MAC]
    assert capture.count(f"eth.src == {own}") == 0
    (address,) = show(router, "-4", "addr", "show", "wan0")[0]["addr_info"]
    assert (address["local"], address["prefixlen"]) == ("192.168.0.50", 24)
    assert address["valid_life_time"] <= 60
    routes = {
        route["dst"]: (route.get("gateway"), route.get("metric"), route["prefsrc"])
        for route in show(router, "route", "show", "proto", "112")
    }
    assert routes == {
        "default": ("192.168.0.1", 7, "192.168.0.50"),
        "198.51.100.0/24": ("192.168.9.1", 7, "192.168.0.50"),
        "192.168.9.1": (None, 7, "192.168.0.50"),
    }
    router.enter(lambda: device.remove(LEASE, None, False, 0))
    assert not show(router, "route", "show")
    router.enter(device.release)
    assert "wan0" not in router.exec("ip", "link")
    assert router.sysctl("ipv6/conf/eth1/disable_ipv6") == "0"


def test_the_lease_bounds_the_address(lab: Lab, device: Device) -> None:
    router = lab["router"]
    router.enter(device.create)
    router.enter(lambda: device.place(replace(LEASE, until=20 * SECOND), 60, 0))
    assert show(router, "-4", "addr", "show", "wan0")[0]["addr_info"][0]["valid_life_time"] <= 20
    router.enter(lambda: device.renew(LEASE, 0, 0, True))  # no dead man's switch: as long as the lease
    assert show(router, "-4", "addr", "show", "wan0")[0]["addr_info"][0]["valid_life_time"] > 900
    ended = replace(LEASE, until=0)  # it is the client who takes the address away
    router.enter(lambda: device.renew(ended, 60, SECOND, False))
    assert show(router, "-4", "addr", "show", "wan0")[0]["addr_info"][0]["valid_life_time"] > 50


def test_another_lease_stays_when_the_former_one_goes(lab: Lab, device: Device) -> None:
    router = lab["router"]
    router.enter(device.create)
    router.enter(lambda: device.place(LEASE, 0, 0))
    router.ip("address add 192.168.0.70/24 dev wan0")
    router.ip("route replace default via 192.168.0.1 metric 7 src 192.168.0.70")
    router.enter(lambda: device.remove(LEASE, None, False, 0))
    (address,) = show(router, "-4", "addr", "show", "wan0")[0]["addr_info"]
    assert address["local"] == "192.168.0.70"
    assert [route["prefsrc"] for route in show(router, "route", "show", "default")] == ["192.168.0.70"]


def lifetimes(host: Host, device: str) -> dict[str, tuple[int, int]]:
    """The global and link-local addresses of a device: preferred and valid lifetimes in seconds."""
    return {
        item["local"]: (item["preferred_life_time"], item["valid_life_time"])
        for entry in show(host, "-6", "addr", "show", "dev", device)
        for item in entry["addr_info"]
        if not item.get("tentative")
    }


def test_an_ipv6_lease(lab: Lab, device: Device) -> None:
    router = lab["router"]
    with Capture(lab, router.cable("eth1"), filter="icmp6") as capture:
        assert router.enter(device.create) == ()
        assert router.enter(lambda: device.place(LEASE6, 60, 0)) == ()
        assert router.enter(lambda: device.place(LEASE6, 60, 0)) == ()  # again: nothing is refused
        found = lifetimes(router, "wan0")  # at once: nobody asks whether an address is taken
        assert found.keys() == {LINE_LOCAL, "2001:db8:ff::5"} and max(found.values()) <= (60, 60)
        wait_until(lambda: capture.count("icmpv6.type == 136") >= 4, 5, "it is announced")
    said = capture.fields("icmpv6.type == 136", "icmpv6.nd.na.target_address", "eth.src")
    assert set(map(tuple, said)) == {
        (LINE_LOCAL, MAC), ("2001:db8:ff::5", MAC)
    }  # fmt: skip
    assert capture.count(f"icmpv6.type == 135 && ipv6.src == :: && eth.src == {MAC}") == 0
    preferred, valid = lifetimes(router, "lan0")["2001:db8:1::1"]
    assert 100 < preferred <= 500 < valid <= 1000
    routes = {
        (route["dst"], route.get("gateway"), route.get("from"), route["metric"])
        for route in show(router, "-6", "route", "show", "proto", "112")
    }
    assert routes == {
        ("default", "fe80::1", "2001:db8:1::/56", 512), ("2001:db8:ff::/64", None, None, 256),
        ("2001:db8:f::/48", "2001:db8:ff::9", None, 1024),
    }  # fmt: skip
    # The provider has delegated another prefix: hosts hear that the former one is no longer to be used.
    other = replace(LEASE6, prefixes=(), lans=(), routes=LEASE6.routes[1:])
    router.enter(lambda: device.remove(LEASE6, other, True, 0))
    preferred, valid = lifetimes(router, "lan0")["2001:db8:1::1"]
    assert preferred == 0 and valid > 500
    assert "2001:db8:ff::5" in lifetimes(router, "wan0")
    left = {route["dst"] for route in show(router, "-6", "route", "show", "proto", "112")}
    assert left == {"2001:db8:ff::/64", "2001:db8:f::/48"}
    with Capture(lab, router.cable("eth1")) as quiet:
        router.enter(lambda: device.remove(LEASE6, None, False, 0))  # the role has gone
        assert "2001:db8:1::1" not in lifetimes(router, "lan0")
        assert not lifetimes(router, "wan0")
        stays(lambda: not quiet.count(f"eth.src == {MAC}"), 0.3, "no report that it left a group")
    assert router.enter(device.create) == ()  # a quick return, before the device is deleted
    assert router.enter(lambda: device.place(LEASE6, 60, 0)) == ()
    assert lifetimes(router, "wan0").keys() == {LINE_LOCAL, "2001:db8:ff::5"}
    router.enter(device.begin_delete)
    assert router.enter(device.create) == ()  # it has waited for the end of the former one
    assert "wan0" in router.exec("ip", "link")
    router.enter(device.begin_delete)
    wait_until(lambda: "wan0" not in router.exec("ip", "link"), 5, "a child process deletes it")
    router.enter(device.deleted)


def test_the_next_hops_are_known_when_the_provider_does_not_answer(lab: Lab, device: Device) -> None:
    router, provider = lab["router"], lab["provider"]
    provider.ip("address add 2001:db8:ff::9/64 dev eth0 nodad")
    provider.ip("address add 2001:db8:f::1/128 dev lo nodad")
    provider.ip("address add 203.0.113.1/32 dev lo")
    lease, lease6 = replace(LEASE, address="192.168.0.50"), LEASE6
    for silent in (False, True):
        router.enter(device.create)
        router.enter(lambda: device.place(lease, 0, 0))  # noqa: B023
        router.enter(lambda: device.place(lease6, 0, 0))  # noqa: B023
        assert router.exec("ping", "-c1", "-W3", "203.0.113.1")
        assert router.exec("ping", "-c1", "-W3", "2001:db8:f::1")
        if not silent:
            learned = router.enter(lambda: device.with_next_hops(LEASE, None))
            learned6 = router.enter(lambda: device.with_next_hops(LEASE6, None))
            assert isinstance(learned, Lease) and isinstance(learned6, Lease6)
            lease, lease6 = learned, learned6
            router.enter(device.delete)
            provider.exec("nft", "-f", "-", stdin=UNANSWERED)
    mac = provider.exec("cat", "/sys/class/net/eth0/address").strip()
    assert lease.next_hops == (("192.168.0.1", mac),) and lease6.next_hops == (("2001:db8:ff::9", mac),)


def test_a_backup_has_its_own_address_of_the_prefix(lab: Lab, device: Device) -> None:
    """A host of the LAN and the router reach each other; dnsmasq does not advertise the prefix."""
    router, host = lab["router"], lab["provider"]
    host.ip("address add 2001:db8:1::9/60 dev eth1 nodad")
    router.ip("address add fd00::1/64 dev lan0 nodad")
    mac = router.exec("cat", "/sys/class/net/lan0/address").strip()
    own = link_local(bytes.fromhex(mac.replace(":", ""))).replace("fe80::", "2001:db8:1::")
    argv = ["--enable-ra", "--dhcp-range=::,constructor:lan0,ra-only", "--ra-param=lan0,4,9"]
    argv += [f"--dhcp-leasefile={router.file('leases')}", f"--pid-file={router.file('pid')}"]
    router.popen("dnsmasq", "--conf-file=/dev/null", "--no-daemon", "--port=0", "--interface=lan0", *argv)
    with Capture(lab, host.cable("eth1"), filter="icmp6") as capture:
        assert router.enter(lambda: device.hold(LEASE6, 0)) == ()
        assert router.enter(lambda: device.hold(replace(LEASE6, until=END + 1), 0)) == ()  # it is told again
        preferred, valid = lifetimes(router, "lan0")[own]
        assert 400 < preferred <= 500 and 900 < valid <= 1000
        assert "2001:db8:1::1" not in lifetimes(router, "lan0")
        assert host.exec("ping", "-c1", "-W3", own)
        assert router.exec("ping", "-c1", "-W3", "2001:db8:1::9")
        router.enter(lambda: device.leave(LEASE6, LEASE6))
        assert own in lifetimes(router, "lan0")
        wait_until(lambda: _advertised(capture) == {"fd00::"}, 10, "dnsmasq advertises another prefix")
        seen = capture.count("icmpv6.type == 134")
        host.enter(lambda: _solicit("eth1"))
        wait_until(lambda: capture.count("icmpv6.type == 134") > seen, 10, "its answer to the host")
        assert _advertised(capture) == {"fd00::"}
        router.enter(lambda: device.leave(LEASE6, None))  # the role has come
        assert own not in lifetimes(router, "lan0")
        assert not show(router, "-6", "route", "show", "proto", "112")
        router.enter(device.create)
        router.enter(lambda: device.place(LEASE6, 60, 0))
        wait_until(lambda: "2001:db8:1::" in _advertised(capture), 20, "the prefix", every=0.5)
        assert host.exec("ping", "-c1", "-W3", "2001:db8:1::1")


def _solicit(device: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as asked:
        asked.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        asked.sendto(bytes((133, 0)) + bytes(6), ("ff02::2", 0, 0, socket.if_nametoindex(device)))


def _advertised(capture: Capture) -> set[str]:
    found = capture.fields("icmpv6.type == 134", "icmpv6.opt.prefix")
    return {prefix for (prefixes,) in found for prefix in prefixes.split(",")}


def test_acks_are_heard_and_nothing_else(lab: Lab, device: Device) -> None:
    """Of the device that is there now, also when it has been made anew."""
    router, provider = lab["router"], lab["provider"]
    loop, heard = Loop(), []
    for _ in range(2):
        router.enter(device.create)
        router.enter(lambda: device.hear_acks(loop, lambda *words: heard.append(words)))
        sender = provider.enter(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        sender.bind(("eth0", 0))
        later_fragment = ack()[:6] + b"\0\1" + ack()[8:]
        for packet in (ack(port=67), later_fragment, ack(), ack(kind=6), bytes(30)):
            sender.send(bytes.fromhex(MAC.replace(":", "")) + b"\2\0\0\0\0\7\x08\0" + packet)
        sender.close()
        wait_until(lambda: loop.turn(0) or heard, 5, "an ack is heard")
        assert heard == [("203.0.113.7", 120)]
        heard.clear()
        router.enter(device.delete)
    router.enter(device.release)
    loop.close()


def test_a_session_is_hung_up(lab: Lab, device: Device) -> None:
    router = lab["router"]
    session = Session("wan", MAC, "203.0.113.7", "00:90:1a:aa:bb:cc", 0x1234)
    with Capture(lab, router.cable("eth1")) as capture:
        router.enter(lambda: device.hang_up(session))  # without the device, nothing is said
        router.enter(device.create)
        assert router.enter(lambda: device.place(session, 60, 0)) == ()
        assert router.enter(lambda: device.renew(session, 60, 0, False)) == ()
        router.enter(lambda: device.hang_up(session))
        wait_until(lambda: capture.count("pppoed"), 5, "it is on the wire")
    found = capture.fields("pppoed", "eth.src", "eth.dst", "pppoe.code", "pppoe.session_id")
    assert set(map(tuple, found)) == {(MAC, session.concentrator, "0xa7", "0x1234")}
    assert not show(router, "-4", "addr", "show", "wan0")


def test_sessions_end_when_the_device_was_down_for_a_moment(lab: Lab, device: Device) -> None:
    """The kernel ends them by its notification of that (drivers/net/ppp/pppoe.c, pppoe_device_event)."""
    router = lab["router"]
    router.enter(device.create)
    monitor = router.enter(lambda: Monitor(routes=False))
    try:
        router.enter(device.drop_sessions)
        index, seen = router.enter(lambda: device.index), []

        def changes() -> list[int]:
            seen.extend(
                message.flags & 1
                for message in monitor.read()
                if isinstance(message, LinkMessage) and message.ifindex == index
            )
            return seen if 0 in seen and seen[-1] == 1 else []

        wait_until(changes, 5, "it is down, and up")
    finally:
        monitor.close()


def test_what_a_killed_daemon_left(lab: Lab, device: Device) -> None:
    router = lab["router"]
    router.enter(device.create)
    found = router.enter(lambda: [label for label, _, _ in leftovers(())])
    assert found == ["macvlan wan0 left behind"]


def _insert(where: str, *words: str) -> None:
    argv = ["conntrack", "-I", "-p", "udp", *words, "--sport", "1", "--dport", "2", "-t", "60"]
    netns.run(["ip", "netns", "exec", where, *argv])


def _one_by_one(*words: Any) -> int:
    with flush._socket() as asked:
        return flush.one_by_one(asked, *words)


@pytest.mark.parametrize("end", [flush.main, _one_by_one])  # the latter on kernels before 6.8
def test_connections_of_a_lost_address_end(where: str, end: Callable[..., int]) -> None:
    """Only those that were translated to it: by the destination of their replies, or by their source."""
    for source, nat in (("10.0.0.1", "192.0.2.1"), ("10.0.0.2", "192.0.2.2"), ("192.0.2.1", "192.0.2.3")):
        _insert(where, "-s", source, "-d", "198.51.100.1", "--src-nat", nat)
    _insert(where, "-s", "10.0.0.3", "-d", "198.51.100.2", "--dst-nat", "192.0.2.4")
    ended = netns.enter(where, lambda: (end("192.0.2.1"), end("192.0.2.4", 17, 3), end("192.0.2.9")))
    left = netns.run(["ip", "netns", "exec", where, "conntrack", "-L"])
    assert "dst=192.0.2.1 " not in left and "dst=192.0.2.2 " in left and "dst=192.0.2.3 " in left
    assert "src=192.0.2.4 " in left, "another port"
    assert netns.enter(where, lambda: end("192.0.2.4", 17, 2)) == 0 and ended == (0, 0, 0)
    assert "src=192.0.2.4 " not in netns.run(["ip", "netns", "exec", where, "conntrack", "-L"])


def test_the_program_that_ends_connections(where: str) -> None:
    _insert(where, "-s", "10.0.0.1", "-d", "198.51.100.1", "--src-nat", "192.0.2.1")
    argv = [sys.executable, "-IS", str(PACKAGE / "conntrack/flush.py"), "192.0.2.1"]
    subprocess.run(["ip", "netns", "exec", where, *argv], check=True, timeout=30)
    assert "192.0.2.1" not in netns.run(["ip", "netns", "exec", where, "conntrack", "-L"])
