# SPDX-License-Identifier: GPL-2.0-or-later
"""Batches of nftables for configurations of every kind.

tests/netns/test_plan_rules.py loads them into a kernel, whose listing must be the file of that name in
tests/netns/data/rules. tests/unit/test_rule_batches.py holds their bytes, without a kernel.
"""

from __future__ import annotations

from tandem.config.schema import Config, Peer, PeerPath
from tandem.core.settings import Address, Instance, RealServer, VirtualServer
from tandem.plan import encode_balance, encode_guard, encode_nft, encode_switch, nft_set
from tandem.plan.result import BALANCE_TABLE, BalancePlan

V4, V6 = Address("192.168.0.4", 24, 4), Address("2001:db8::4", 64, 6)
LINK_LOCAL, SECOND = Address("fe80::4", 64, 6), Address("2001:db8::5", 64, 6)
HOST, ELSEWHERE = Address("2001:db8::6", 128, 6), Address("2001:db8::7", 64, 6, device="lan")


def instance(name: str = "wan", **options: object) -> Instance:
    return Instance(name, "v0", 7, **options)  # type: ignore[arg-type]


# A macvlan and its base, an address on another device, and Accept_Mode, which the owner never heeds.
REFUSING = [
    instance(virtual_addresses=(V4,), snat=V4.address, use_vmac="vrrp7", accept=False),
    instance(
        "six", family=6, version=3, virtual_addresses=(V6, ELSEWHERE), excluded_addresses=(SECOND,),
        snat=ELSEWHERE.address, accept=False,
    ),
    instance("owner", virtual_addresses=(V4,), priority=255, accept=False),
]  # fmt: skip
FRAME = encode_nft.frame(REFUSING)
# Adverts and the channel, by every address of each peer.
PATHS = (PeerPath("192.168.9.3", None, None, 3780), PeerPath("fe80::3%lan", None, None, 3780))
NOTRACK = encode_nft.notrack(Config(instances=(), peers=(Peer("r2", PATHS),)))
# Silence on both devices of a network, the RAs' source, and elements for a while or for ever.
ANSWERING = [
    instance(dhcp=True, virtual_addresses=(V4,)),
    instance("six", dhcp=True, family=6, version=3, virtual_addresses=(V6, LINK_LOCAL)),
    instance("other", virtual_addresses=(V4,)),
]
GUARD = encode_guard.guard(ANSWERING, lambda name: (name, f"br-{name}"))
# No RA daemon announces the prefix of a host's address, of a link-local one or of one on a macvlan.
SIX = instance(family=6, version=3, virtual_addresses=(LINK_LOCAL, V6, HOST), excluded_addresses=(SECOND,))
VMAC = instance("vmac", family=6, version=3, virtual_addresses=(V6, ELSEWHERE), use_vmac="vrrp7")
FOUR = instance("four", virtual_addresses=(V4,))
SWITCH = encode_switch.switch([SIX, VMAC, FOUR], 3600)
# Both ways to choose a server and both families; the maps have two of their slots.
BALANCE = encode_balance.balance(
    Config(
        virtual_servers=(
            VirtualServer("web", "192.168.9.4", 443, "tcp", "sh", ("a",), "10.0.0.9", 80, masquerade=True),
            VirtualServer("dns", "2001:db8::4", 53, "udp", "rr", ("b",)),
            VirtualServer("six", "2001:db8::4", 443, "tcp", "sh", ("b",), masquerade=True),
        ),
        real_servers=(RealServer("a", "10.0.0.1", 8443), RealServer("b", "2001:db8:1::1")),
    )
)


def balanced() -> bytes:
    """The whole table, with values in the maps."""
    assert BALANCE is not None
    plan = BalancePlan(**BALANCE)  # type: ignore[arg-type]
    filled = (nft_set.fill(BALANCE_TABLE, plan.maps[name], plan.values[name].values()) for name in plan.maps)
    return plan.hold + b"".join(filled) + plan.tail


def switch(name: str, of: str = "") -> bytes:
    """Return a part of SWITCH; `of`: the answer for that instance."""
    part = SWITCH[name]
    found = part[of] if isinstance(part, dict) else part
    assert isinstance(found, bytes)
    return found


BATCHES = {
    "translated_and_refused": FRAME["head"] + b"".join(map(encode_nft.fragment, REFUSING)) + FRAME["tail"],
    "not_tracked": NOTRACK["notrack"],
    "adverts_not_tracked": encode_nft.notrack(Config(instances=()))["notrack"],
    "silent": GUARD["hold"],
    "answering": (
        GUARD["empty"]
        + encode_guard.answer(["v0"], 4, 0)
        + encode_guard.answer(["br-v0"], 6, 0)
        + GUARD["tail"]
    ),
    "answering for a while": GUARD["empty"] + encode_guard.answer(["v0"], 4, 3600) + GUARD["tail"],
    "boot": encode_guard.boot_hold([("lan", 4), ("lan", 6)]),
    "switch": switch("hold"),
    "balanced": balanced(),
    "switched on": switch("empty") + switch("answer", "wan") + switch("tail"),
}
