# SPDX-License-Identifier: GPL-2.0-or-later
"""A backup's own addresses of delegated prefixes, for any two leases, on a model of the kernel."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import IPv6Address, IPv6Network

from hypothesis import given
from hypothesis import strategies as st

from tandem.core.lease import Lease6, Lent
from tandem.core.timers import SECOND
from tandem.effects.netlink import messages
from tandem.effects.rtmessages import AddressMessage, RouteMessage, parse
from tandem.effects.rtnl import PROTOCOL
from tandem.follow import line6
from tandem.plan.result import Template

MAC = "02:00:00:00:00:01"
DEVICES = {"lan": 3, "guest": 4}  # a further network is not there
MACS = {"lan": bytes.fromhex("020000000002"), "guest": bytes.fromhex("00163e000003")}


class Kernel:
    """The addresses, each with its interface index and prefix length, and the routes that messages make."""

    def __init__(self) -> None:
        self.addresses: dict[tuple[int, IPv6Address, int], int] = {}  # the seconds that they are valid
        self.routes: set[IPv6Network] = set()

    def take(self, templates: Iterable[Template]) -> None:
        for _, datagram, _ in templates:
            for kind, _, _, body in messages(datagram):
                match parse(kind, body):
                    case AddressMessage() as address:
                        key = (address.ifindex, IPv6Address(address.address), address.prefixlen)
                        if address.is_new:
                            self.addresses[key] = address.valid_s
                        else:
                            self.addresses.pop(key, None)
                    case RouteMessage() as route:
                        assert route.protocol == PROTOCOL, "nobody else's"
                        network = IPv6Network((route.destination, route.prefixlen))
                        (self.routes.add if route.is_new else self.routes.discard)(network)


@st.composite
def lans(draw: st.DrawFn) -> tuple[str, Lent]:
    """An address of the active router: of any length, and perhaps with this router's own identifier."""
    name = draw(st.sampled_from(("lan", "guest", "gone")))
    own = socket.inet_pton(socket.AF_INET6, line6.link_local(MACS.get(name, bytes(6))))[8:]
    subnet = draw(st.integers(0, 3)).to_bytes(2, "big")
    packed = bytes.fromhex("20010db80001") + subnet + draw(st.sampled_from((bytes(7) + b"\1", own)))
    left = draw(st.integers(0, 1000)) * SECOND
    length = draw(st.sampled_from((48, 60, 64, 64, 64, 80)))
    return name, Lent(socket.inet_ntop(socket.AF_INET6, packed), length, left // 2, left)


LEASES = st.lists(lans(), max_size=5).map(
    lambda found: Lease6("wan6", MAC, (), (), 1000 * SECOND, lans=tuple(found))
)


@given(LEASES, LEASES, st.integers(0, 500).map(lambda seconds: seconds * SECOND))
def test_the_backup_has_what_the_present_lease_gives(before: Lease6, present: Lease6, now: int) -> None:
    kernel, fresh = Kernel(), Kernel()
    kernel.take(line6.hold(before, DEVICES.get, MACS.get, 0))
    kernel.take(line6.leave(before, present, DEVICES.get, MACS.get))
    kernel.take(line6.hold(present, DEVICES.get, MACS.get, now))
    fresh.take(line6.hold(present, DEVICES.get, MACS.get, now))
    live = {(DEVICES.get(name), one.address) for name, one in present.lans if one.valid(now)}
    assert all(kernel.addresses[key] == seconds for key, seconds in fresh.addresses.items())
    for index, address, length in kernel.addresses:
        assert length == 128, "an RA daemon passes it by"
        assert (index, str(address)) not in live, "the active router has that one"
        assert any(address in route for route in kernel.routes)
    for name, one in present.lans:
        network = IPv6Network(f"{one.address}/{one.length}", strict=False)
        if name in DEVICES and one.valid(now) and one.length <= 64 and network in fresh.routes:
            assert any(address in network for _, address, _ in kernel.addresses)
    kernel.take(line6.leave(present, None, DEVICES.get, MACS.get))
    assert not kernel.addresses and not kernel.routes
