# SPDX-License-Identifier: GPL-2.0-or-later
"""The effective configuration reads back as the same configuration."""

from __future__ import annotations

import ipaddress
import marshal
import pathlib
import re
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.config.effective import render
from tandem.config.load import load_text
from tandem.config.schema import (
    Config,
    ConntrackSync,
    DhcpGateway,
    Globals,
    Peer,
    PeerPath,
    Script,
    from_plain,
    plain,
)
from tandem.core.settings import Address, Garp, Group, Instance, Nexthop, Notify, Route, Rule, Track

DATA = pathlib.Path(__file__).parent / "data"

names = st.from_regex(r"[A-Za-z_<][A-Za-z0-9_.:@-]{0,10}", fullmatch=True)
devices = st.from_regex(r"[a-z][a-z0-9_.-]{0,14}", fullmatch=True)
users = st.none() | st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
words = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\0"), max_size=12)
argvs = st.just(()) | st.builds(
    lambda program, rest: (f"/bin/{program}", *rest),
    st.from_regex(r"[a-z]{1,8}", fullmatch=True),
    st.lists(words | st.sampled_from(["|", "2>&1", ";", "&&"]), max_size=3),
)
notifies = st.builds(Notify, argvs, argvs, argvs, argvs, argvs)
milliseconds = st.integers(0, 1_000_000)
hosts4 = st.integers(0x0A000001, 0x0AFFFFFE).map(lambda n: str(ipaddress.IPv4Address(n)))
hosts6 = st.integers(1, 2**64).map(lambda n: str(ipaddress.IPv6Address((0x20010DB8 << 96) + n)))


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def hosts(family: int) -> st.SearchStrategy[str]:
    return hosts4 if family == 4 else hosts6


@st.composite
def prefixes(draw: st.DrawFn, family: int) -> str:
    length = draw(st.integers(0, 32 if family == 4 else 128))
    return str(ipaddress.ip_network(f"{draw(hosts(family))}/{length}", strict=False))


@st.composite
def addresses(draw: st.DrawFn, family: int, device: str | None = None) -> Address:
    peer = draw(maybe(hosts(family)))
    return Address(
        address=draw(hosts(family)),
        prefixlen=draw(st.integers(1, 32 if family == 4 else 128)),
        family=family,
        device=device or draw(maybe(devices)),
        scope=draw(st.sampled_from([0, 200, 253, 254, 77])),
        label=draw(maybe(devices)) if family == 4 else None,
        broadcast=draw(maybe(hosts4)) if family == 4 else None,
        peer=peer,
        preferred_lifetime_s=draw(maybe(st.integers(0, 10**6))),
    )


@st.composite
def routes(draw: st.DrawFn, static: bool = False) -> Route:
    family = draw(st.sampled_from([4, 6]))
    kind = draw(st.sampled_from(["unicast", "unicast", "blackhole", "unreachable", "prohibit", "throw"]))
    hops: tuple[Nexthop, ...] = ()
    via = device = None
    if kind == "unicast":
        hop = st.builds(Nexthop, hosts(family), maybe(devices), st.integers(1, 256), st.booleans())
        hops = draw(st.lists(hop, max_size=2).map(tuple))
        if not hops:
            via = draw(hosts(family) if static else maybe(hosts(family)))
            device = draw(maybe(devices))
    return Route(
        destination=draw(prefixes(family)),
        family=family,
        kind=kind,
        source=draw(maybe(hosts(family).filter(lambda host: host != via))),
        via=via,
        device=device,
        metric=draw(maybe(st.integers(0, 2**32 - 1))),
        table=draw(st.sampled_from([253, 254, 255, 1, 2**32 - 1])),
        scope=draw(maybe(st.sampled_from([0, 200, 253, 254, 77]))),
        mtu=draw(maybe(st.integers(68, 65535))),
        onlink=bool(via) and draw(st.booleans()),
        protocol=draw(maybe(st.integers(0, 255))),
        tos=draw(st.sampled_from([0, 4, 16, 0xFC])) if family == 4 else 0,
        advmss=draw(maybe(st.integers(1, 65535))),
        nexthops=hops,
    )


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    family = draw(st.sampled_from([4, 6]))
    action = draw(st.sampled_from(["lookup", "lookup", "blackhole", "unreachable", "prohibit", "goto"]))
    mark = draw(maybe(st.integers(0, 2**32 - 1)))
    return Rule(
        family=family,
        source=draw(maybe(prefixes(family))),
        destination=draw(maybe(prefixes(family))),
        iif=draw(maybe(devices)),
        oif=draw(maybe(devices)),
        fwmark=mark,
        fwmask=None if mark is None else draw(maybe(st.integers(0, 2**32 - 1))),
        tos=draw(st.sampled_from([0, 4, 16, 0xFC])),
        invert=draw(st.booleans()),
        priority=draw(maybe(st.integers(0, 1000))),
        action=action,
        table=draw(st.integers(1, 2**32 - 1)) if action == "lookup" else None,
        goto=draw(st.integers(1001, 2**32 - 1)) if action == "goto" else None,
        suppress_prefixlength=draw(maybe(st.integers(0, 32))) if action == "lookup" else None,
    )


weights = st.integers(-253, 253)


@st.composite
def instances(draw: st.DrawFn, name: str, number: int, scripts: list[str], group: int) -> Instance:
    family = draw(st.sampled_from([4, 6]))
    version = 3 if family == 6 else draw(st.sampled_from([2, 3]))
    interface = f"eth{number}"
    carried = draw(st.lists(addresses(family, device=f"eth{number}"), min_size=1, max_size=3))
    excluded = draw(st.lists(addresses(draw(st.sampled_from([4, 6])), device=f"lan{number}"), max_size=2))
    # each address once on its device: the same twice is an error
    carried = list({a.address: a for a in carried}.values())
    excluded = list({a.address: a for a in excluded}.values())
    peers = tuple(draw(st.lists(hosts(family), max_size=2, unique=True)))
    priority = draw(st.integers(1, 255))
    master = draw(st.booleans())
    preempt = master or priority == 255 or draw(st.booleans())
    vmac = draw(maybe(st.just(f"vrrp.{number}")))
    # in a group, what is tracked twice must weigh the same: derive the weight from the name
    trackers = draw(st.lists(st.sampled_from(["wan", "lan"]), unique=True, max_size=2))
    tracked = [Track("interface", n, len(n) - group, group % 2 == 0) for n in trackers]
    tracked += [Track("script", n, len(n) + group, group % 2 == 1) for n in scripts]
    usable = [a.address for a in (*carried, *excluded)]
    some = ["10.0.0.0/8", "192.168.1.0/24"] if family == 4 else ["fd00::/64", "fd01::/48"]
    networks = st.sampled_from(some)
    dhcp: dict[str, object] = {"dhcp_networks": tuple(draw(st.lists(networks, min_size=1, unique=True)))}
    dhcp |= {"dhcp": True, "dhcp_tag": draw(maybe(names))}
    interval = draw(st.integers(1, 4095)) if version == 3 else 100 * draw(st.integers(1, 255))
    return Instance(
        name=name,
        interface=interface,
        virtual_router_id=draw(st.integers(1, 255)),
        version=version,
        family=family,
        priority=priority,
        advert_int_cs=interval,
        initial_master=master,
        preempt=preempt,
        preempt_delay_ms=draw(milliseconds) if preempt and not master else 0,
        down_timer_adverts=draw(st.integers(1, 100)),
        accept=draw(st.booleans()),
        auth_pass=draw(maybe(st.just(b"***"))) if version == 2 else None,
        multicast_group={4: "224.0.0.18", 6: "ff02::12"}[family]
        if peers
        else draw(st.sampled_from(["224.0.0.18", "224.0.0.99"] if family == 4 else ["ff02::12", "ff02::99"])),
        mcast_src_ip=None if peers else draw(maybe(hosts(family))),
        unicast_src_ip=draw(maybe(hosts(family).filter(lambda h: h not in peers))) if peers else None,
        unicast_peers=peers,
        unicast_ttl=draw(st.integers(1, 255)) if peers else 255,
        unicast_min_ttl=draw(st.integers(1, 255)) if peers else 255,
        check_unicast_src=draw(st.booleans()),
        allow_src=() if peers else tuple(draw(st.lists(hosts(family), max_size=2, unique=True))),
        strangers=draw(st.sampled_from(["ignore", "follow"])),
        max_learned_interval_cs=draw(st.integers(interval, 255_000)),
        use_vmac=vmac,
        vmac_xmit_base=bool(vmac) and (bool(peers) or draw(st.booleans())),
        v3_checksum_as_v2=family == 4 and version == 3 and draw(st.booleans()),
        virtual_addresses=tuple(carried),
        excluded_addresses=tuple(excluded),
        routes=tuple(draw(st.lists(routes(), max_size=2))),
        rules=tuple(draw(st.lists(rules(), max_size=2))),
        **(dhcp if draw(st.booleans()) else {}),
        snat=draw(maybe(st.sampled_from(usable))),
        track_primary=draw(st.booleans()),
        tracks=tuple(tracked),
        promote_secondaries=draw(st.booleans()),
        garp=draw(st.builds(Garp, milliseconds, st.integers(1, 1000), milliseconds, st.integers(1, 1000),
                            milliseconds, st.integers(0, 1000))),
        notify=draw(notifies),
    )  # fmt: skip


SECRET = b"a secret that is long enough"


def unmasked(text: str) -> str:
    """The rendered text with the secrets of the peers, all the same, written back."""
    return re.sub(r"(\tlist key '\d+:)\*\*\*'", rf"\1{SECRET.decode()}'", text)


@st.composite
def sync_paths(draw: st.DrawFn, number: int, port: int) -> PeerPath:
    family = draw(st.sampled_from([4, 6]))
    # ours and the peers' differ, and no peer has the address of another
    address = f"172.16.{number // 256}.{number % 256 + 1}" if family == 4 else f"2001:db8:1::{number + 1:x}"
    interface = draw(maybe(devices))
    if family == 6 and interface and draw(st.booleans()):
        return PeerPath(f"fe80::{number + 1:x}%{interface}", f"fe80::ffff%{interface}", interface, port)
    return PeerPath(address, draw(maybe(hosts(family))), interface, port)


sync_sizes = st.integers(1 << 16, 1 << 30) | st.integers(1 << 6, 1 << 18).map(lambda n: n << 10)


@st.composite
def peers_of(draw: st.DrawFn) -> tuple[Peer, ...]:
    port = draw(st.integers(1, 65535))
    peers = []
    for number in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 3))
        paths = tuple(draw(sync_paths(8 * number + path, port)) for path in range(count))
        own_name = count == 1 and draw(st.booleans())
        name = paths[0].address.partition("%")[0] if own_name else f"{draw(names)}{number}"
        key_ids = sorted(draw(st.sets(st.integers(1, 255), max_size=3)))
        heartbeat = draw(st.integers(10, 60_000))
        peers.append(
            Peer(
                name,
                paths,
                secrets=tuple((key_id, SECRET) for key_id in key_ids),
                key_id=draw(st.sampled_from(key_ids)) if key_ids else 0,
                insecure=not key_ids,
                router_id=draw(maybe(names)) or "",
                max_hops=draw(st.integers(1, 255)),
                heartbeat_ms=heartbeat,
                stall_timeout_ms=draw(st.integers(max(heartbeat + 1, 100), 600_000)),
            )
        )
    return tuple(peers)


@st.composite
def conntrack_syncs(draw: st.DrawFn, peers: tuple[Peer, ...]) -> ConntrackSync:
    networks, ignored, protocols, ignored_protocols = (
        tuple(draw(st.lists(one, max_size=2, unique=True)))
        for one in (prefixes(4), prefixes(6), st.integers(0, 255), st.integers(0, 255))
    )
    guarantee = draw(maybe(st.just("connection")))
    states = draw(st.sets(st.integers(1, 9)).filter(lambda found: not guarantee or 1 in found or not found))
    return ConntrackSync(
        peers=tuple(peer.name for peer in peers),
        port=peers[0].paths[0].port,
        digest_interval_ms=draw(st.integers(1000, 3_600_000)),
        only_networks=networks,
        ignore_networks=() if networks else ignored,
        protocols=protocols,
        ignore_protocols=() if protocols else ignored_protocols,
        tcp_states=tuple(states),
        zones=tuple(draw(st.lists(st.integers(0, 65535), max_size=3, unique=True))),
        local=draw(st.booleans()),
        limit_entries=draw(st.integers(1, 16_777_216)),
        limit_bytes=draw(sync_sizes),
        hold_s=draw(st.integers(1, 432_000)),
        queue_limit=draw(sync_sizes),
        receive_buffer=draw(sync_sizes),
        preempt_sync_timeout_ms=draw(milliseconds),
        guarantee=guarantee,
        guarantee_timeout_ms=draw(st.integers(1, 10_000)) if guarantee else 100,
        stale_lag_ms=draw(milliseconds),
        sync_after=draw(st.sampled_from((0, 2))),
        stale_loss=draw(st.integers(0, 10**9)),
    )


paths = st.none() | st.just("/tmp/a file") | st.just("/tmp/hosts/leases")
dhcp_gateways = st.builds(
    DhcpGateway,
    leasefile=paths,
    confdir=paths,
    restart=argvs.filter(bool),
    restart_timeout_ms=st.integers(1000, 300_000),
    restart_delay_ms=st.integers(50, 60_000),
)


@st.composite
def configs(draw: st.DrawFn) -> Config:
    user = draw(users)
    all_names = draw(st.lists(names, min_size=1, max_size=7, unique=True))
    scripts = draw(st.lists(st.builds(
        Script,
        name=st.just("x"),
        argv=argvs.filter(bool),
        interval_ms=st.integers(100, 10**6),
        timeout_ms=st.integers(100, 10**6),
        rise=st.integers(1, 1000),
        fall=st.integers(1, 1000),
        user=st.none() | st.just("nobody"),
        init_fail=st.booleans(),
    ), max_size=2))  # fmt: skip
    scripts = [replace(script, name=f"script{n}") for n, script in enumerate(scripts)]
    group_name, *instance_names = all_names
    found = [
        draw(instances(name, number, [s.name for s in scripts], group=1 if number < 2 else number))
        for number, name in enumerate(instance_names)
    ]
    groups: list[Group] = []
    if len(found) > 1:
        tracks = draw(st.just(()) | st.just((Track("interface", "other", 5),)))
        groups.append(Group(group_name, tuple(i.name for i in found[:2]), tracks, draw(notifies)))
    grouped = groups[0].members if groups else ()
    groups += [Group(i.name, (i.name,), implicit=True) for i in found if i.name not in grouped]
    peers = draw(st.just(()) | peers_of())
    return Config(
        globals=Globals(
            enabled=draw(st.booleans()),
            router_id=draw(words.filter(str.isprintable)),
            startup_delay_ms=draw(milliseconds),
            address_lifetime_s=draw(st.just(0) | st.integers(2, 3600)),
            rt_priority=draw(st.integers(0, 99)),
            no_swap=draw(st.booleans()),
            script_user=user,
            script_group=draw(users) if user else None,
            log_level=draw(st.sampled_from(["error", "warning", "info", "debug"])),
        ),
        instances=tuple(found),
        groups=tuple(groups),
        scripts=tuple(scripts),
        static_addresses=tuple(
            {a.address: a for a in draw(st.lists(addresses(4, device="static0"), max_size=2))}.values()
        ),
        static_routes=tuple(draw(st.lists(routes(static=True), max_size=2))),
        static_rules=tuple(draw(st.lists(rules(), max_size=2))),
        peers=peers,
        conntrack_sync=draw(maybe(conntrack_syncs(peers[: draw(st.integers(1, 3))]))) if peers else None,
        dhcp_gateway=draw(dhcp_gateways) if any(instance.dhcp for instance in found) else None,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs())
def test_round_trip(config: Config) -> None:
    text = render(config)
    loaded = load_text(unmasked(text), "f")
    assert [str(problem) for problem in loaded.errors] == []
    assert loaded.config == config
    assert render(loaded.config) == text
    assert from_plain(marshal.loads(marshal.dumps(plain(config)))) == config


def test_secrets_are_masked() -> None:
    loaded = load_text((DATA / "seed.config").read_text(), "f")
    assert loaded.config
    text = render(loaded.config)
    assert "s3cret" not in text
    again = load_text(text, "f")
    assert [str(problem) for problem in again.errors] == []
    masked = tuple(replace(instance, auth_pass=b"***") for instance in loaded.config.instances)
    assert again.config == replace(loaded.config, instances=masked)
    assert {problem.reason for problem in again.warnings} == {
        "is what tandem shows in the place of a password"
    }


def test_seed_instance_is_rendered() -> None:
    loaded = load_text((DATA / "seed.config").read_text(), "f")
    assert loaded.config
    lines = render(loaded.config).splitlines()
    assert "\tlist virtual_routes '0.0.0.0/0 src 192.168.0.4 via 192.168.0.1 dev eth0.2 metric 5'" in lines
    assert "\toption snat '192.168.0.4'" in lines
    assert "\toption auth_pass '***'" in lines
