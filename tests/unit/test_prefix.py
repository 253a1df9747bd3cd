# SPDX-License-Identifier: GPL-2.0-or-later
"""How a virtual IPv6 address is installed, so that router advertisements stay as they should be."""

from __future__ import annotations

import marshal
import struct
from ipaddress import ip_address

import pytest

from tandem.config.schema import Config, Globals
from tandem.core.prefix import Form, form_of
from tandem.core.settings import Address, Instance
from tandem.effects.endpoint import Endpoint
from tandem.effects.links import Links
from tandem.effects.netlink import Batch
from tandem.effects.rtmessages import FOREVER, AddressMessage, LinkMessage
from tandem.nlmsg import NLATTR
from tandem.plan.process import PREFERRED_S, VALID_S, build_plan
from tandem.plan.result import Plan, load_plan


def own(*texts: str) -> list[tuple[bytes, int]]:
    return [
        (ip_address(address).packed, int(length)) for address, _, length in (t.partition("/") for t in texts)
    ]


@pytest.mark.parametrize(
    ("addresses", "form"),
    [
        ((), Form.ALONE),
        (("fe80::1/64",), Form.ALONE),
        (("2001:db8:2::2/64",), Form.ALONE),
        (("2001:db8:1::2/64",), Form.BESIDE),
        (("fe80::1/64", "2001:db8:1::2/64"), Form.BESIDE),
        (("2001:db8:1::2/48",), Form.BESIDE),
        (("2001:db8:1::2/80",), Form.ALONE),  # hosts would lose the route to the rest of the prefix
        (("2001:db8:1::2/128",), Form.ALONE),
    ],
)
def test_an_address_of_the_routers_own_in_the_prefix_decides(addresses: tuple[str, ...], form: Form) -> None:
    address = ip_address("2001:db8:1::4").packed
    assert form_of(address, 64, own(*addresses), True) is form
    without = Form.PLAIN if form is Form.ALONE else form
    assert form_of(address, 64, own(*addresses), False) is without


VIRTUAL = (
    Address("fe80::4", 64, 6),
    Address("2001:db8:1::4", 64, 6),
    Address("2001:db8:1::5", 64, 6, preferred_lifetime_s=0),
    Address("2001:db8:1::6", 128, 6),
    Address("192.168.1.4", 24, 4),
)
V6 = Instance("V6", "v0", 7, family=6, virtual_addresses=VIRTUAL)
FOUR, FIVE = "address 2001:db8:1::4/64 dev v0", "address 2001:db8:1::5/64 dev v0"


def plan_of(*instances: Instance, lifetime_s: int = 3) -> Plan:
    config = Config(globals=Globals(address_lifetime_s=lifetime_s), instances=instances)
    return load_plan(marshal.dumps(build_plan(config, ())))


def lifetimes(batch: object) -> dict[str, tuple[int, int]]:
    """(preferred, valid) of each address of a bound batch, in seconds."""
    assert isinstance(batch, Batch)
    found = {}
    data = b"".join(batch.chunks)
    for label in batch.labels:
        at = data.index(NLATTR.pack(20, 6)) + 4  # IFA_CACHEINFO
        found[label.split()[1]] = struct.unpack_from("=II", data, at)
        data = data[at:]
    return found


def bound(plan: Plan, **forms: Form) -> Endpoint:
    endpoint = Endpoint(V6, plan.instances["V6"])
    labels = {"four": FOUR, "five": FIVE}
    endpoint.bind(lambda _name: 9, frozenset(), {labels[name]: form for name, form in forms.items()})
    return endpoint


def test_lifetimes_of_every_form() -> None:
    plan = plan_of(V6)
    assert set(plan.instances["V6"].forms) == {FOUR, FIVE}
    always = {"fe80::4/64": (3, 3), "2001:db8:1::6/128": (0, 3), "192.168.1.4/24": (3, 3)}
    plain = bound(plan, four=Form.PLAIN)
    alone = bound(plan, four=Form.ALONE, five=Form.ALONE)
    beside = bound(plan, four=Form.BESIDE, five=Form.ALONE)
    assert lifetimes(plain.up) == always | {"2001:db8:1::4/64": (3, 3), "2001:db8:1::5/64": (0, 3)}
    ordinary = {"2001:db8:1::4/64": (PREFERRED_S, VALID_S), "2001:db8:1::5/64": (0, VALID_S)}
    assert lifetimes(alone.up) == always | ordinary
    assert lifetimes(beside.up) == always | {"2001:db8:1::4/128": (0, 3), "2001:db8:1::5/64": (0, VALID_S)}
    for endpoint in (plain, alone, beside):
        assert lifetimes(endpoint.refresh) == lifetimes(endpoint.up)
        assert isinstance(endpoint.down, Batch)
        # Whatever form it has had: it goes.
        assert {FOUR, "address 2001:db8:1::4/128 dev v0"} <= set(endpoint.down.labels)


def test_without_a_lifetime_there_is_no_switch_and_no_end() -> None:
    plan = plan_of(V6, lifetime_s=0)
    assert plan.switch.hold == b"" and plan.switch.answer == {}
    found = lifetimes(bound(plan, four=Form.ALONE).up)
    assert found["2001:db8:1::4/64"] == (FOREVER, FOREVER)


def test_the_switch_is_for_what_may_be_announced() -> None:
    lan = Instance("lan", "v0", 7, virtual_addresses=(Address("192.168.1.4", 24, 4),))
    on_macvlan = Instance("mac", "v0", 8, family=6, use_vmac="vr8", virtual_addresses=VIRTUAL[:2])
    plan = plan_of(V6, lan, on_macvlan)
    assert set(plan.switch.answer) == {"V6"}
    assert plan.instances["mac"].forms == {} == plan.instances["lan"].forms
    assert plan_of(lan, on_macvlan).switch.hold == b""
    assert plan.switch.hold.count(ip_address("2001:db8:1::4").packed) == 4
    assert ip_address("fe80::4").packed not in plan.switch.hold


def test_virtual_addresses_are_not_the_routers_own() -> None:
    links = Links()
    links.update(LinkMessage(True, 9, "v0", 0x41, True, 6, bytes(6), 1500))

    def add(text: str, protocol: int = 0) -> None:
        packed = ip_address(text).packed
        links.update(AddressMessage(True, 9, 6 if len(packed) == 16 else 4, packed, 64, 0, 0, 3, protocol))

    for text in ("2001:db8:1::2", "2001:db8:1::4", "10.0.0.1"):
        add(text)
    add("2001:db8:1::5", 112)
    exclude = {ip_address("2001:db8:1::4").packed}
    assert links.own_addresses("v0", 6, exclude) == own("2001:db8:1::2/64")
    assert links.own_addresses("nothing", 6) == []
