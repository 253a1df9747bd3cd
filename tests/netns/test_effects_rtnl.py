# SPDX-License-Identifier: GPL-2.0-or-later
"""Plans applied to a real kernel: what it then holds, and what is left when they are taken down."""

from __future__ import annotations

import json
import marshal
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tandem.config.schema import Config, Globals
from tandem.core.settings import Address, Instance, Nexthop, Route, Rule
from tandem.effects.leftovers import foreign_addresses, leftovers
from tandem.effects.netlink import Batch, bind
from tandem.effects.rtnl import (
    AddressMessage,
    LinkMessage,
    Message,
    Monitor,
    Overrun,
    RouteMessage,
    Rtnl,
    RuleMessage,
    dump_addresses,
    dump_links,
)
from tandem.plan.process import build_plan
from tandem.plan.result import InstancePlan, Plan, Template, load_plan
from tests.lab import netns
from tests.lab.wait import stays, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

Object = dict[str, Any]


class Space:
    """A namespace with the veth pair v0, v1 up, and a command socket inside."""

    def __init__(self, name: str) -> None:
        self.name = name
        netns.ip_batch([f"netns add {name}"])
        lines = ["link set lo up", "link add v0 type veth peer name v1"]
        for device in ("v0", "v1"):  # without link-local addresses, which would come when they please
            lines += [f"link set {device} addrgenmode none", f"link set {device} up"]
        netns.ip_batch(lines, name)
        self.rtnl = netns.enter(name, Rtnl)

    def close(self) -> None:
        self.rtnl.close()
        netns.remove([self.name])

    def inside(self, function: Callable[[], Any]) -> Any:
        return netns.enter(self.name, function)

    def ip(self, *lines: str) -> None:
        netns.ip_batch(lines, self.name)

    def send(self, templates: tuple[Template, ...]) -> list[str]:
        """The failures, as texts."""
        indexes = {link.name: link.ifindex for link in self.inside(dump_links)}
        batch = bind(templates, indexes.get)
        assert isinstance(batch, Batch), batch
        return [str(failure) for failure in self.rtnl.send(batch)]

    def show(self, *words: str) -> list[Object]:
        found: list[Object] = json.loads(netns.run(["ip", "-n", self.name, "-j", *words]) or "[]")
        return found

    def addresses(self) -> dict[str, Object]:
        """Those of v0, by "address/length"."""
        [link] = [link for link in self.show("address", "show", "dev", "v0") if link]
        return {f"{entry['local']}/{entry['prefixlen']}": entry for entry in link["addr_info"]}

    def routes(self, *words: str) -> list[Object]:
        return [*self.show("-4", "route", "show", *words), *self.show("-6", "route", "show", *words)]

    def rules(self) -> list[Object]:
        found = [*self.show("-4", "rule"), *self.show("-6", "rule")]
        return [rule for rule in found if rule["priority"] not in (0, 32766, 32767)]

    def everything(self) -> tuple[object, ...]:
        """All that a plan can change, without what the clock changes."""
        wait_until(self._has_local_routes, what="the kernel makes the local routes of IPv6 addresses later")
        addresses = {
            name: sorted(set(entry) - {"valid_life_time"}) for name, entry in self.addresses().items()
        }
        # The kernel keeps the prefix route of an IPv6 address with a lifetime until that is over.
        routes = [route for route in self.routes("table", "all") if "expires" not in route]
        return addresses, routes, self.rules()

    def _has_local_routes(self) -> bool:
        routes = self.show("-6", "route", "show", "table", "local")
        local = {route["dst"] for route in routes if route["type"] == "local"}
        multicast = [route for route in routes if route["dst"] == "ff00::/8"]
        addresses = {entry["local"] for entry in self.addresses().values() if entry["family"] == "inet6"}
        return addresses <= local and len(multicast) == 2


@pytest.fixture
def space() -> Iterator[Space]:
    made = Space(f"{netns.prefix('rtnl')}space")
    try:
        yield made
    finally:
        made.close()


def plan_of(*instances: Instance, **options: Any) -> Plan:
    return load_plan(marshal.dumps(build_plan(Config(instances=instances, **options), ())))


def part_of(lifetime_s: int = 60, **options: Any) -> InstancePlan:
    subject = Instance("a", "v0", 7, **options)
    return plan_of(subject, globals=Globals(address_lifetime_s=lifetime_s)).instances["a"]


FULL = {
    "virtual_addresses": (
        Address("192.168.0.4", 24, 4, label="v0:gw", broadcast="192.168.0.255"),
        Address("10.7.7.7", 32, 4, peer="10.7.7.8"),
        Address("2001:db8::4", 64, 6),
        Address("2001:db8::5", 128, 6),
        Address("fe80::4", 64, 6),
    ),
    "routes": (
        Route(
            "0.0.0.0/0",
            4,
            source="192.168.0.4",
            via="192.168.0.1",
            device="v0",
            metric=5,
            mtu=1400,
            advmss=1300,
        ),
        Route(
            "10.9.0.0/16",
            4,
            table=1000,
            nexthops=(Nexthop("192.168.0.8", "v0", 2), Nexthop("192.168.9.9", "v0", onlink=True)),
        ),
        Route("10.10.0.0/16", 4, kind="blackhole"),
        Route("10.11.0.0/16", 4, device="v0"),
        Route("10.12.0.0/16", 4, via="192.168.0.1"),
        Route("::/0", 6, source="2001:db8::4", via="2001:db8::1", device="v0"),
        Route("2001:db8:1::/48", 6, nexthops=(Nexthop("2001:db8::8", "v0"), Nexthop("2001:db8::9", "v0"))),
        Route("2001:db8:2::/48", 6, kind="unreachable"),
    ),
    "rules": (
        Rule(4, source="192.168.0.4/32", table=1000),
        Rule(4, fwmark=0x10, fwmask=0xF0, iif="v0", invert=True, action="goto", goto=32766),
        Rule(4, action="prohibit", destination="10.99.0.0/16", priority=77),
        Rule(4, table=254, suppress_prefixlength=0),
        Rule(6, source="2001:db8::/48", table=77),
    ),
}


def test_up_makes_all_of_it_and_down_removes_all(space: Space) -> None:
    before = space.everything()
    part = part_of(**FULL)
    assert space.send(part.up) == []

    addresses = space.addresses()
    assert set(addresses) == {
        "192.168.0.4/24",
        "10.7.7.7/32",
        "2001:db8::4/64",
        "2001:db8::5/128",
        "fe80::4/64",
    }
    assert all(30 < entry["valid_life_time"] <= 60 for entry in addresses.values())
    assert addresses["192.168.0.4/24"]["label"] == "v0:gw"
    assert addresses["192.168.0.4/24"]["broadcast"] == "192.168.0.255"
    assert addresses["10.7.7.7/32"]["address"] == "10.7.7.8"
    assert not any(entry.get("tentative") for entry in addresses.values())
    assert [name for name, entry in addresses.items() if entry.get("deprecated")] == ["2001:db8::5/128"]
    assert space.show("-6", "route", "show", "2001:db8::5") == [], "it would outlive the address"

    [default] = space.show("-4", "route", "show", "default")
    assert (default["gateway"], default["prefsrc"], default["metric"]) == ("192.168.0.1", "192.168.0.4", 5)
    assert default["metrics"] == [{"mtu": 1400, "advmss": 1300}]
    [multipath] = space.show("-4", "route", "show", "table", "1000")
    assert [(hop["gateway"], hop["weight"]) for hop in multipath["nexthops"]] == [
        ("192.168.0.8", 2),
        ("192.168.9.9", 1),
    ]
    [direct] = space.show("-4", "route", "show", "10.11.0.0/16")
    assert direct["scope"] == "link"
    [blackhole] = space.show("-4", "route", "show", "10.10.0.0/16")
    assert blackhole["type"] == "blackhole"
    [default6] = space.show("-6", "route", "show", "default")
    assert (default6["gateway"], default6["metric"], default6["prefsrc"]) == (
        "2001:db8::1",
        1023,
        "2001:db8::4",
    )

    assert [rule["priority"] for rule in space.rules()] == [77, 16384, 16385, 16386, 16387]
    assert all(rule["protocol"] == "112" for rule in space.rules())
    goto = space.rules()[2]
    assert (goto["fwmark"], goto["fwmask"], goto["iif"], "not" in goto) == ("0x10", "0xf0", "v0", True)

    assert space.send(part.down) == []
    assert space.everything() == before


def test_twice_is_as_good_as_once(space: Space) -> None:
    part = part_of(**FULL)
    assert space.send(part.up) == []
    once = space.everything()
    assert space.send(part.up) == []
    assert space.send(part.refresh) == []
    assert space.everything() == once
    assert space.send(part.down) == []
    assert space.send(part.down) == []


def test_an_address_nobody_refreshes_goes_with_its_routes(space: Space) -> None:
    route = Route("10.0.0.0/8", 4, via="192.168.0.1", source="192.168.0.4")
    part = part_of(1, virtual_addresses=FULL["virtual_addresses"], routes=(route,))
    assert space.send(part.up) == []
    assert len(space.addresses()) == 5
    wait_until(lambda: not space.addresses() and not space.show("-4", "route"), 10, "the kernel removes them")


def test_a_refreshed_address_stays_without_a_gap(space: Space) -> None:
    part = part_of(2, virtual_addresses=FULL["virtual_addresses"])
    assert space.send(part.up) == []
    stays(
        lambda: space.send(part.refresh) == [] and len(space.addresses()) == 5,
        3.5,
        "refreshed addresses",
        every=0.2,
    )


def test_addresses_without_lifetime_are_permanent(space: Space) -> None:
    assert space.send(part_of(0, virtual_addresses=FULL["virtual_addresses"]).up) == []
    assert all(entry["valid_life_time"] > 10**9 for entry in space.addresses().values())


@pytest.mark.parametrize(
    ("user", "ours"),
    [
        ("route add default via 10.0.0.9 proto static", Route("0.0.0.0/0", 4, via="10.0.0.8")),
        ("route add default via 10.0.0.9 proto static", Route("0.0.0.0/0", 4, via="10.0.0.9")),
        ("route add 10.5.0.0/16 dev v0 metric 7", Route("10.5.0.0/16", 4, device="v0", metric=7)),
        ("route add default via 2001:db8::9 proto static", Route("::/0", 6, via="2001:db8::8")),
        ("route add default via 2001:db8::9 proto static", Route("::/0", 6, via="2001:db8::9")),
        (
            "route add default via 2001:db8::9 proto static metric 50",
            Route("::/0", 6, via="2001:db8::8", metric=50),
        ),
        ("rule add priority 5 from 10.0.0.1 table 9", Rule(4, source="10.0.0.1/32", table=9, priority=5)),
    ],
)
def test_what_is_the_users_own_survives(space: Space, user: str, ours: Route | Rule) -> None:
    space.ip("address add 10.0.0.1/24 dev v0", "address add 2001:db8::1/64 dev v0 nodad", user)
    before = space.everything()
    part = part_of(routes=(ours,)) if isinstance(ours, Route) else part_of(rules=(ours,))
    assert space.send(part.up) == []
    assert space.everything() != before
    assert space.send(part.up) == []
    assert space.send(part.down) == []
    assert space.everything() == before


def test_our_route_is_found_before_the_users(space: Space) -> None:
    space.ip(
        "address add 10.0.0.1/24 dev v0",
        "address add 2001:db8::1/64 dev v0 nodad",
        "route add default via 10.0.0.9",
        "route add default via 2001:db8::9",
    )
    routes = (Route("0.0.0.0/0", 4, via="10.0.0.8"), Route("::/0", 6, via="2001:db8::8"))
    assert space.send(part_of(routes=routes).up) == []
    assert space.show("route", "get", "1.1.1.1")[0]["gateway"] == "10.0.0.8"
    assert space.show("-6", "route", "get", "2001:4860::1")[0]["gateway"] == "2001:db8::8"


def test_a_failure_names_the_message_and_stops_nothing(space: Space) -> None:
    routes = (Route("10.1.0.0/16", 4, via="203.0.113.1"), Route("10.2.0.0/16", 4, kind="blackhole"))
    [failure] = space.send(part_of(routes=routes).up)
    assert (
        failure == "route 10.1.0.0/16 via 203.0.113.1: Network is unreachable (Nexthop has invalid gateway)"
    )
    assert len(space.show("-4", "route")) == 1


def test_a_thousand_failures_are_all_reported(space: Space) -> None:
    routes = tuple(Route(f"10.{n // 250}.{n % 250}.0/24", 4, via="203.0.113.1") for n in range(1000))
    assert len(space.send(part_of(routes=routes).up)) == 1000


def test_virtual_mac(space: Space) -> None:
    vmac = part_of(use_vmac="vr7").vmac
    assert vmac is not None
    assert space.send((vmac.create,)) == []
    assert space.send((vmac.configure,)) == []
    assert space.send((vmac.up,)) == []

    def details() -> Object:
        [link] = space.show("-d", "link", "show", "dev", "vr7")
        return link

    link = details()
    assert (link["link"], link["address"]) == ("v0", "00:00:5e:00:01:07")
    assert (link["linkinfo"]["info_data"]["mode"], link["inet6_addr_gen_mode"]) == ("vepa", "none")
    wait_until(lambda: details()["operstate"] == "UP")
    assert space.send((vmac.down,)) == []
    assert "UP" not in details()["flags"]
    assert space.send((vmac.delete,)) == []
    assert space.send((vmac.delete,)) == []
    assert not [link for link in space.show("link") if link.get("ifname") == "vr7"]


# --- what a former life left behind


def test_leftovers_are_cleared_and_nothing_else(space: Space) -> None:
    space.ip("address add 10.0.0.1/24 dev v0", "route add 10.5.0.0/16 dev v0", "rule add priority 5 table 9")
    before = space.everything()
    static = plan_of(static_addresses=(Address("10.6.0.1", 24, 4, device="v0"),))
    for lifetime_s in (0, 100):
        assert space.send(part_of(lifetime_s, **FULL).up + static.static_up) == []
        found = space.inside(lambda: leftovers(()))
        assert space.send(found) == []
        assert space.everything() == before
    assert space.inside(lambda: leftovers(())) == ()


def test_leftovers_on_a_kernel_that_keeps_no_protocol_of_addresses(space: Space) -> None:
    space.ip(
        "address add 10.0.0.1/24 dev v0 valid_lft 100 preferred_lft 100",
        "address add 10.0.0.2/24 dev v0",
        "address add 10.0.0.3/24 dev v0 valid_lft 100 preferred_lft 100",
    )
    virtual = [(4, socket.inet_aton(text)) for text in ("10.0.0.1", "10.0.0.2")]
    assert [label for label, _, _ in space.inside(lambda: leftovers(virtual))] == [
        "address 10.0.0.1/24 left behind"
    ]


def test_an_address_that_the_owner_has_anyway_is_foreign(space: Space) -> None:
    space.ip("address add 192.168.0.4/24 dev v0")
    part = part_of(virtual_addresses=(Address("192.168.0.4", 24, 4), Address("192.168.0.5", 24, 4)))

    def foreign() -> frozenset[str]:
        return foreign_addresses(
            part.up, dump_addresses(), {link.name: link.ifindex for link in dump_links()}.get
        )

    assert space.inside(foreign) == {"address 192.168.0.4/24 dev v0"}
    assert space.send(part.up[1:]) == []
    assert space.inside(foreign) == {"address 192.168.0.4/24 dev v0"}


# --- notifications


@pytest.fixture
def monitor(space: Space) -> Iterator[Monitor]:
    opened = space.inside(lambda: Monitor(routes=True, ignore_port=space.rtnl.port))
    yield opened
    opened.close()


def heard(space: Space, monitor: Monitor, *wanted: type) -> list[Message]:
    """The notifications up to now: a link that is made last marks the end."""
    end = f"end{len(space.show('link'))}"
    space.ip(f"link add {end} type veth peer name {end}p")
    found: list[Message] = []

    def ended() -> bool:
        found.extend(monitor.read())
        return any(isinstance(message, LinkMessage) and message.name == end for message in found)

    wait_until(ended)
    return [message for message in found if isinstance(message, wanted)]


def test_our_own_refresh_wakes_nobody(space: Space, monitor: Monitor) -> None:
    part = part_of(**FULL)
    assert space.send(part.up) == []
    assert space.send(part.refresh) == []
    assert heard(space, monitor, RouteMessage, RuleMessage) == []
    v0 = {link.name: link.ifindex for link in space.inside(dump_links)}["v0"]
    addresses = heard(space, monitor, AddressMessage)
    assert [
        message for message in addresses if isinstance(message, AddressMessage) and message.ifindex == v0
    ] == []


def test_losses_are_heard_and_match_the_watches(space: Space, monitor: Monitor) -> None:
    part = part_of(**FULL)
    assert space.send(part.up) == []
    # Somebody else takes it all down.
    with_indexes = bind(part.down, {link.name: link.ifindex for link in space.inside(dump_links)}.get)
    assert isinstance(with_indexes, Batch)
    somebody = space.inside(Rtnl)
    assert somebody.send(with_indexes) == ()
    somebody.close()
    names = {link.ifindex: link.name for link in space.inside(dump_links)}
    lost: set[object] = set()
    for message in heard(space, monitor, AddressMessage, RouteMessage, RuleMessage):
        match message:
            case AddressMessage(False, ifindex, family, address):
                lost.add(("address", names[ifindex], family, address))
            case RouteMessage(False, family, destination, prefixlen, table, metric):
                lost.add(("route", family, destination, prefixlen, table, metric))
            case RuleMessage(False, family, priority, table):
                lost.add(("rule", family, priority, table))
    assert lost >= set(part.watch)


def test_routes_of_others_wake_nobody(space: Space, monitor: Monitor) -> None:
    space.ip(
        "address add 10.0.0.1/24 dev v0",
        *(f"route add 10.{n}.0.0/16 via 10.0.0.9 proto bird" for n in range(1, 50)),
        *(f"route replace 10.{n}.0.0/16 via 10.0.0.8 proto bird" for n in range(1, 50)),
        *(f"route del 10.{n}.0.0/16" for n in range(1, 50)),
        "rule add priority 9 table 9",
    )
    assert heard(space, monitor, RouteMessage, RuleMessage) == []


def test_a_route_that_replaces_ours_is_heard(space: Space, monitor: Monitor) -> None:
    space.ip("address add 10.0.0.1/24 dev v0")
    assert space.send(part_of(routes=(Route("10.5.0.0/16", 4, via="10.0.0.8"),)).up) == []
    space.ip("route replace 10.5.0.0/16 via 10.0.0.9")
    [message] = heard(space, monitor, RouteMessage)
    assert message == RouteMessage(True, 4, socket.inet_aton("10.5.0.0"), 16, 254, 0, 3)


def test_links_are_heard(space: Space, monitor: Monitor) -> None:
    space.ip("link set v1 down")
    found = heard(space, monitor, LinkMessage)
    assert any(isinstance(link, LinkMessage) and link.name == "v0" and not link.carrier for link in found)
    space.ip(
        "link set v1 name v2",
        "link add br0 type bridge",
        "link set v0 master br0",
        "link set v0 nomaster",
        "link del v0",
    )
    found = heard(space, monitor, LinkMessage)
    assert any(isinstance(link, LinkMessage) and link.name == "v2" for link in found)
    gone = [link.name for link in found if isinstance(link, LinkMessage) and not link.is_new]
    assert sorted(gone) == ["v0", "v2"]  # leaving a bridge is not the end of a link


def test_an_overrun_is_told(space: Space, monitor: Monitor) -> None:
    found: list[Message] = []
    space.ip(*(f"link set v0 mtu {1400 + n % 2}" for n in range(4000)))
    while messages := monitor.read():
        found += messages
    assert any(isinstance(message, Overrun) for message in found)
    assert not monitor.read()
    space.ip("link set v0 mtu 1300")
    assert any(
        isinstance(message, LinkMessage) and message.mtu == 1300
        for message in heard(space, monitor, LinkMessage)
    )
