# SPDX-License-Identifier: GPL-2.0-or-later
"""Tandem's nftables table with real packets: client - router - server, beside fw4's masquerade."""

from __future__ import annotations

import marshal
import os
import select
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tandem.config.schema import Config
from tandem.core.settings import Address, Instance
from tandem.effects.firewall import Firewall
from tandem.effects.netlink import Batch, bind
from tandem.effects.rtnl import Rtnl, dump_links
from tandem.plan.process import build_plan
from tandem.plan.result import Plan, load_plan
from tests.lab import netns
from tests.lab.wait import wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

VIP4, VIP6 = "192.168.0.4", "2001:db8:0::4"
OWN = {4: "192.168.0.2", 6: "2001:db8:0::2"}
SERVER = {4: "192.168.0.1", 6: "2001:db8:0::1"}
CLIENT = {4: "192.168.1.100", 6: "2001:db8:1::100"}
VIP = {4: VIP4, 6: VIP6}
AF = {4: socket.AF_INET, 6: socket.AF_INET6}
FW4 = """
table inet fw4 {
    chain srcnat {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan" counter masquerade
    }
}
"""


def wan(**options: Any) -> Plan:
    # Deprecated, or IPv6's source address selection may choose the virtual address without any SNAT.
    addresses = {
        4: Address(VIP4, 24, 4, preferred_lifetime_s=0),
        6: Address(VIP6, 64, 6, preferred_lifetime_s=0),
    }
    instances = [
        Instance(
            f"wan{family}",
            "wan",
            10,
            family=family,
            version=3,
            snat=address.address,
            virtual_addresses=(address,),
            **options,
        )
        for family, address in addresses.items()
    ]
    return load_plan(marshal.dumps(build_plan(Config(instances=tuple(instances)), ())))


class Router:
    """A router between a client and a server; all three are namespaces."""

    def __init__(self) -> None:
        prefix = netns.prefix("firewall")
        self.client, self.router, self.server = (f"{prefix}{end}" for end in "crs")
        self.firewalls: list[Firewall] = []
        netns.ip_batch([f"netns add {name}" for name in (self.client, self.router, self.server)])
        netns.ip_batch(
            [
                f"link add lan type veth peer name eth0 netns {self.client}",
                f"link add wan type veth peer name eth0 netns {self.server}",
                "link set lo up",
                "link set lan up",
                "link set wan up",
                "address add 192.168.1.1/24 dev lan",
                "address add 2001:db8:1::1/64 dev lan nodad",
                f"address add {OWN[4]}/24 dev wan",
                f"address add {OWN[6]}/64 dev wan nodad",
            ],
            self.router,
        )
        netns.ip_batch(
            [
                "link set eth0 up",
                f"address add {CLIENT[4]}/24 dev eth0",
                f"address add {CLIENT[6]}/64 dev eth0 nodad",
                "route add default via 192.168.1.1",
                "route add default via 2001:db8:1::1",
            ],
            self.client,
        )
        netns.ip_batch(
            [
                "link set eth0 up",
                f"address add {SERVER[4]}/24 dev eth0",
                f"address add {SERVER[6]}/64 dev eth0 nodad",
            ],
            self.server,
        )
        netns.write_sysctls(self.router, {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})

    def close(self) -> None:
        for firewall in self.firewalls:
            firewall.close()
        netns.remove([self.client, self.router, self.server])

    def nft(self, text: str) -> None:
        netns.run(["ip", "netns", "exec", self.router, "nft", "-f", "-"], stdin=text)

    def ruleset(self) -> str:
        return netns.run(["ip", "netns", "exec", self.router, "nft", "list", "ruleset"])

    def firewall(self, plan: Plan) -> Firewall:
        """A firewall whose socket is opened in the namespace, at the first batch."""
        made = Firewall(plan)
        assert netns.enter(self.router, lambda: made.set_active([], force=True)) == ()
        self.firewalls.append(made)
        return made

    def install(self, plan: Plan) -> None:
        def body() -> None:
            rtnl = Rtnl()
            for part in plan.instances.values():
                batch = bind(part.up, {link.name: link.ifindex for link in dump_links()}.get)
                assert isinstance(batch, Batch)
                assert rtnl.send(batch) == ()
            rtnl.close()

        netns.enter(self.router, body)

    def source_seen(self, start: str, family: int) -> str | None:
        """The source address that the server sees of a new UDP flow from `start`; None: nothing came."""
        receiver = netns.enter(self.server, lambda: _bound(family))
        sender = netns.enter(start, lambda: _bound(family))
        with receiver, sender:
            return _sent(sender, receiver, SERVER[family])


def _bound(family: int) -> socket.socket:
    opened = socket.socket(AF[family], socket.SOCK_DGRAM)
    opened.bind(("", 0))
    return opened


def _sent(sender: socket.socket, receiver: socket.socket, address: str, attempts: int = 20) -> str | None:
    """Send a datagram until it arrives, and return its source; one of an earlier call does not count."""
    port = receiver.getsockname()[1]
    mark = os.urandom(8)
    for _ in range(attempts):
        sender.sendto(mark, (address, port))
        while select.select([receiver], [], [], 0.1)[0]:
            data, source = receiver.recvfrom(100)
            if data == mark:
                return str(source[0])
    return None


@pytest.fixture
def router() -> Iterator[Router]:
    made = Router()
    try:
        yield made
    finally:
        made.close()


def canonical(address: str, family: int) -> str:
    return socket.inet_ntop(AF[family], socket.inet_pton(AF[family], address))


@pytest.mark.parametrize("family", [4, 6])
def test_forwarded_flows_leave_with_the_virtual_address(router: Router, family: int) -> None:
    router.nft(FW4)
    plan = wan()
    router.install(plan)
    assert router.source_seen(router.client, family) == canonical(OWN[family], family)  # fw4 alone
    firewall = router.firewall(plan)
    assert firewall.set_active(["wan4", "wan6"]) == ()
    assert router.source_seen(router.client, family) == canonical(VIP[family], family)
    # The router's own packets keep the address that was chosen for them.
    assert router.source_seen(router.router, family) == canonical(OWN[family], family)
    assert firewall.set_active([]) == ()
    assert router.source_seen(router.client, family) == canonical(OWN[family], family)


def test_the_routers_own_multicast_keeps_its_source(router: Router) -> None:
    firewall = router.firewall(wan())
    assert firewall.set_active(["wan4", "wan6"]) == ()
    receiver = netns.enter(router.server, lambda: _raw_vrrp(SERVER[4]))
    sender = netns.enter(router.router, lambda: _raw_vrrp(OWN[4]))
    with receiver, sender:

        def source() -> str:
            sender.sendto(b"not an advert", ("224.0.0.18", 0))
            return receiver.recvfrom(1000)[1][0] if select.select([receiver], [], [], 0.1)[0] else ""

        assert wait_until(source) == OWN[4]


def _raw_vrrp(address: str) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    membership = struct.pack("4s4s", socket.inet_aton("224.0.0.18"), socket.inet_aton(address))
    opened.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return opened


def test_the_kernel_reads_the_rules_as_they_are_meant(router: Router) -> None:
    router.nft(FW4)
    firewall = router.firewall(wan(accept=False))
    assert firewall.set_active(["wan4", "wan6"]) == ()
    lines = {line.strip() for line in router.ruleset().splitlines()}
    assert lines >= {
        "type nat hook postrouting priority srcnat - 1; policy accept;",
        f'oifname "wan" iif != 0 ip daddr != 224.0.0.0/4 ip saddr != {VIP4} snat ip to {VIP4}',
        'oifname "wan" iif != 0 ip6 daddr != ff00::/8 ip6 saddr != 2001:db8::4 snat ip6 to 2001:db8::4',
        "type filter hook input priority filter - 1; policy accept;",
        f"ip daddr {VIP4} drop",
        "ip6 daddr 2001:db8::4 icmpv6 type nd-neighbor-solicit accept",
        "ip6 daddr 2001:db8::4 icmpv6 type nd-neighbor-advert accept",
        "ip6 daddr 2001:db8::4 drop",
    }
    assert firewall.clear() == ()
    assert "table inet tandem" not in router.ruleset()
    assert "table inet fw4" in router.ruleset()


@pytest.mark.parametrize("family", [4, 6])
def test_accept_mode(router: Router, family: int) -> None:
    plan = wan(accept=False)
    router.install(plan)
    firewall = router.firewall(plan)
    with (
        netns.enter(router.router, lambda: _bound(family)) as receiver,
        netns.enter(router.server, lambda: _bound(family)) as sender,
    ):
        assert _sent(sender, receiver, VIP[family]) is not None
        assert firewall.set_active(["wan4", "wan6"]) == ()
        netns.ip_batch(["neighbor flush dev eth0"], router.server)
        assert _sent(sender, receiver, VIP[family], attempts=3) is None
        assert _sent(sender, receiver, OWN[family]) is not None
    # Even so the address is found: forwarding is what it is for.
    text = netns.run(["ip", "-n", router.server, "neighbor", "show", canonical(VIP[family], family)])
    assert "lladdr" in text


@pytest.mark.parametrize("family", [4, 6])
def test_connections_are_tracked_in_every_role(router: Router, family: int) -> None:
    """A takeover that turns connection tracking on waits until the kernel has walked its whole table."""
    router.firewall(wan())
    assert router.source_seen(router.router, family) == canonical(OWN[family], family)
    count = Path("/proc/sys/net/netfilter/nf_conntrack_count")
    assert int(netns.enter(router.router, count.read_text)) > 0


def test_set_active_is_silent_when_nothing_changes(router: Router) -> None:
    firewall = router.firewall(wan())
    assert firewall.set_active(["wan4"]) == ()
    router.nft("delete table inet tandem")
    assert firewall.set_active(["wan4"]) == ()
    assert "tandem" not in router.ruleset()
    assert firewall.set_active(["wan4"], force=True) == ()
    assert VIP4 in router.ruleset()


@pytest.mark.parametrize(
    "damage",
    [
        "flush ruleset",
        "delete table inet tandem",
        "flush table inet tandem",
        "flush chain inet tandem postrouting; delete chain inet tandem postrouting",
        "flush chain inet tandem input; add rule inet tandem input counter",
        "insert rule inet tandem input accept",
        "add chain inet tandem other",
        "add table inet tandem { flags dormant; }",
    ],
)
def test_what_somebody_else_has_changed_is_put_back(router: Router, damage: str) -> None:
    firewall = router.firewall(wan(accept=False))

    def restore() -> bool:
        return netns.enter(router.router, firewall.restore)

    for active in (["wan4", "wan6"], []):
        assert firewall.set_active(active) == ()
        before = router.ruleset()
        assert not restore()
        if "insert" in damage or active:
            router.nft("\n".join(damage.split(";") if "{" not in damage else [damage]))
            assert restore()
        assert router.ruleset() == before
        assert not restore()


def test_another_table_is_nobodys_business(router: Router) -> None:
    firewall = router.firewall(load_plan(marshal.dumps(build_plan(Config(), ()))))
    router.nft(FW4 + "table inet tandem { }")
    assert not netns.enter(router.router, firewall.restore)
    assert "table inet tandem" in router.ruleset()


def test_networks_that_are_called_as_another_ones_device(router: Router) -> None:
    """`lan` is the device wan's, and `wan` the device dmz's: each rule names its own device."""
    devices = {"lan": "wan", "wan": "dmz", "dmz": "lan"}
    addresses = tuple(Address(f"192.168.{n}.4", 24, 4, device=name) for n, name in enumerate(devices, 1))
    instances = (Instance("I", "lan", 10, virtual_addresses=addresses, snat=addresses[0].address),)
    plan = load_plan(marshal.dumps(build_plan(Config(instances=instances), ())))
    for part in plan.instances.values():  # a rule for each of the names, in one instance
        rules = [
            part.nft.replace(b"lan".ljust(16, b"\0"), name.encode().ljust(16, b"\0")) for name in devices
        ]
        object.__setattr__(part, "nft", b"".join(rules))
    firewall = Firewall(plan, devices.get)
    assert netns.enter(router.router, lambda: firewall.set_active(["I"])) == ()
    router.firewalls.append(firewall)
    found = [line.split('"')[1] for line in router.ruleset().splitlines() if "oifname" in line]
    assert found == ["wan", "dmz", "lan"]


def test_a_reload_that_needs_no_rules_removes_the_table(router: Router) -> None:
    firewall = router.firewall(wan())
    firewall.take_plan(load_plan(marshal.dumps(build_plan(Config(), ()))))
    assert firewall.set_active([]) == ()
    assert "tandem" not in router.ruleset()


def test_a_table_of_a_former_life_is_removed_even_if_nothing_needs_one_now(router: Router) -> None:
    assert router.firewall(wan()).set_active(["wan4"]) == ()
    router.firewall(load_plan(marshal.dumps(build_plan(Config(), ()))))
    assert "tandem" not in router.ruleset()


def test_a_refused_batch_is_a_failure_and_is_tried_again(router: Router) -> None:
    firewall = router.firewall(wan())
    good = firewall.plan.nft_head
    bad = good.replace(b"postrouting\0", b"p0strouting\0")  # the rules' chain is then missing
    object.__setattr__(firewall.plan, "nft_head", bad)
    failures = firewall.set_active(["wan4"])
    assert [str(failure) for failure in failures] == ["nftables: No such file or directory"]
    object.__setattr__(firewall.plan, "nft_head", good)
    assert firewall.set_active(["wan4"]) == ()
    assert VIP4 in router.ruleset()


def test_the_largest_configuration_fits_into_one_send(router: Router) -> None:
    instances = tuple(
        Instance(
            f"i{n}",
            "wan",
            n,
            family=6,
            version=3,
            accept=False,
            virtual_addresses=tuple(Address(f"2001:db8:{n:x}::{m}", 64, 6) for m in range(1, 9)),
        )
        for n in range(1, 256)
    )
    plan = load_plan(marshal.dumps(build_plan(Config(instances=instances), ())))
    firewall = router.firewall(plan)
    assert firewall.set_active(plan.instances) == ()
    assert router.ruleset().count("drop") == 255 * 8
