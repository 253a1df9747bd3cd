# SPDX-License-Identifier: GPL-2.0-or-later
"""Texts of keepalived.conf as people write them: mostly right, here and there sloppy.

The word `inet6` is missing: keepalived 2.2.7 skips the word behind it, by mistake, and loses the line.
"""

from __future__ import annotations

from hypothesis import strategies as st

Strategy = st.SearchStrategy[str]


def _any(texts: str) -> Strategy:
    """One of the texts between the bars."""
    return st.sampled_from(texts.split("|"))


DEVICES = "eth0|eth1|eth2"
NUMBER = _any("0|1|2|5|10|60|100|254|255|256|1000|5x|x|-1|007|1.5")
SECONDS = _any("1|2|0.5|1.5|0.01|0.001|0.0149999999|40.95|40.96|41|255|256|0|x|3s|1.")
WEIGHT = _any("0|5|-20|253|-253|254|-254|255|-300|+7|x|4x")
SWITCHES = _any("nopreempt|nopreempt off|preempt|accept|no_accept|accept off|no_accept on")


def _some(*lines: Strategy) -> st.SearchStrategy[list[str]]:
    """Each of the lines, or not."""
    maybe = [st.lists(line, max_size=1) for line in lines]
    return st.tuples(*maybe).map(lambda found: [text for texts in found for text in texts])


def _line(keyword: str, values: Strategy) -> Strategy:
    return values.map(lambda value: f"{keyword} {value}".strip())


def _block(keyword: str, lines: Strategy, most: int = 3) -> Strategy:
    return st.lists(lines, max_size=most).map(
        lambda found: "\n".join([f"{keyword} {{", *(f"  {line}" for line in found), " }"])
    )


def _words(first: Strategy, *options: Strategy) -> Strategy:
    """Words that begin with `first`; the options in any order."""
    ordered = _some(*options).flatmap(st.permutations)
    return st.tuples(first, ordered).map(lambda found: " ".join([found[0], *found[1]]))


def _addresses(family: int) -> Strategy:
    if family == 4:
        first = _any("10.0.0.1/24|10.0.0.2/24|10.0.0.3|10.0.0.4/8|10.0.0.6/33|10.0.0.7/31")
        more = _any(
            "brd +|brd -|broadcast 10.0.0.255|label vip|label eth0:toolongalabel|peer 10.0.0.77"
            "|peer 10.0.0.77/24|10.0.0.9/24|scope site|scope 5|scope nonsense"
        )
    else:
        first = _any("fe80::1/64|2001:db8::1/64|2001:db8::2|2001:db8::3/129")
        more = _any(
            "preferred_lft 0|preferred_lft forever|preferred_lft 60|preferred_lft x|label vip|scope link"
            "|-nodad|home|mngtmpaddr|peer fe80::7"
        )
    return _words(first, _line("dev", _any(DEVICES)), more, _any("no_track|noprefixroute|nonsense"))


FEATURES = {
    4: "features ecn|realms 5|realms 5/6|mtu lock 1400|mtu 1400|advmss 1300|tos 0x10|rtt 30ms|rtt lock 30ms"
    "|window 1000|initcwnd 20|quickack 1",
    6: "pref high|expires 60|mtu lock 1400|hoplimit 9|advmss lock 1200",
}


def _routes(family: int) -> Strategy:
    """A route of a family: by one way, by two, or by none."""
    if family == 4:
        to = _any("default|0.0.0.0/0|10.7.0.0/16|to 10.8.0.0/16|192.0.2.7")
        via = _any("via 10.0.0.254|gw 10.0.0.254|via inet 10.0.0.254")
        ways = _any(
            "via 10.0.0.253 or 10.0.0.252|nexthop via 10.0.0.251 dev eth0 weight 2 nexthop via 10.0.0.250"
        )
        nowhere = _any("blackhole 10.6.0.0/16|unreachable default|prohibit 10.5.0.0/16")
        source = "src 10.0.0.1"
    else:
        to = _any("default6|2001:db8:7::/48|to 2001:db8:8::/48")
        via = _any("via fe80::254|via inet6 fe80::254")
        ways = _any("nexthop via fe80::251 dev eth0 nexthop via inet6 fe80::250 dev eth1 weight 3")
        nowhere = _any("blackhole 2001:db8:6::/48|unreachable default6")
        source = "src 2001:db8::1"
    table = _any("table 100|table main|metric 7|priority 8|protocol 20")
    options = (_any(FEATURES[family]), st.just(source), table, st.just("no_track"))
    one = _words(to, via, _line("dev", _any(DEVICES)), st.just("scope link"), *options)
    two = st.tuples(_words(to, *options), ways).map(" ".join)
    return st.one_of(one, one, two, _words(nowhere, *options))


RULES = _words(
    _any("from 10.0.0.0/8|from all|to 10.0.0.0/8|iif eth0|not from 10.0.0.1|from 2001:db8::/32"),
    _any("priority 77|preference 0x50|order 9"),
    _any("fwmark 5|fwmark 0x5/0xff|tos 0x10|oif eth1|dev eth0"),
    _any("protocol 20|no_track|realms 5|suppress_prefixlength 0"),
    _any("table 100|lookup main|blackhole|type prohibit|goto 90"),
)
TRACKED_INTERFACE = _any("eth0|eth1|eth2|eth1 weight|eth2 reverse") | st.tuples(
    _any(DEVICES), st.just("weight"), WEIGHT, _any("|reverse|noreverse|nonsense")
).map(" ".join)
SCRIPT = _some(
    _line("interval", NUMBER),
    _line("timeout", NUMBER),
    _line("weight", WEIGHT),
    _line("rise", NUMBER),
    _line("fall", NUMBER),
    st.just("weight 5 reverse"),
    st.just("init_fail"),
)


def _tracked_scripts(names: list[str]) -> list[Strategy]:
    """The block of scripts, where there are any."""
    if not names:
        return []
    name = st.sampled_from(names)
    weighed = st.tuples(name, st.just("weight"), WEIGHT, _any("|reverse|noreverse")).map(" ".join)
    return [_block("track_script", name | weighed)]


def _garp(prefix: str) -> list[Strategy]:
    names = ("master_delay", "master_repeat", "master_refresh", "master_refresh_repeat")
    return [
        _line(f"{prefix}garp_{name}", NUMBER) for name in (*names, "lower_prio_delay", "lower_prio_repeat")
    ]


STATIC = _words(
    _any("192.0.2.1/24|192.0.2.2/32|2001:db8:9::1/64"), _any("brd +|scope link|home"), st.just("no_track")
)
STATIC = st.tuples(STATIC, _any("dev eth0|dev eth1")).map(" ".join)
GLOBALS = _some(
    *_garp("vrrp_"),
    _line("vrrp_version", _any("2|3|4")),
    st.just("vrrp_check_unicast_src"),
    _line("vrrp_down_timer_adverts", NUMBER),
    st.just("vrrp_mcast_group4 224.0.0.99"),
)


@st.composite
def _instance(draw: st.DrawFn, number: int, scripts: list[str]) -> str:
    family = draw(st.sampled_from((4, 4, 4, 6)))
    peers = "10.0.0.201|10.0.0.202|10.0.0.203 min_ttl 254" if family == 4 else "fe80::201|fe80::202"
    lines = draw(
        _some(
            _line("state", _any("MASTER|BACKUP|master|Backup")),
            _line("state", _any("MASTER|BACKUP")),
            _line("priority", NUMBER),
            _line("advert_int", SECONDS),
            _line("version", _any("2|3|4|3x")) if family == 4 else st.just("version 3"),
            *(SWITCHES, SWITCHES, SWITCHES),
            _line("preempt_delay", SECONDS | NUMBER),
            *_garp(""),
            _line("down_timer_adverts", NUMBER),
            st.just("dont_track_primary"),
            st.just("promote_secondaries off"),
            _line("mcast_dst_ip", _any("224.0.0.77|10.0.0.1|ff02::77")),
            _line("mcast_src_ip", _any("10.0.0.2|fe80::2")) if family == 4 else st.just("native_ipv6"),
            _block("unicast_peer", _any(peers)),
            _line("unicast_ttl", NUMBER),
            _line("check_unicast_src", _any("|off")),
            _block(
                "authentication", _any("auth_type PASS|auth_type pass|auth_pass pass|auth_pass longerthan8")
            ),
            _block("track_interface", TRACKED_INTERFACE),
            *_tracked_scripts(scripts),
            _block("virtual_routes", _routes(family)),
            _block("virtual_rules", RULES),
            _block("virtual_ipaddress_excluded", _addresses(4) | _addresses(6)),
        )
    )
    first = "10.0.0.5/24" if family == 4 else "fe80::5/64"
    head = [f"interface {draw(_any(DEVICES))}", f"virtual_router_id {number + 1}"]
    head += [f"virtual_ipaddress {{\n  {first}\n }}", draw(_block("virtual_ipaddress", _addresses(family)))]
    text = "\n ".join([f"vrrp_instance V{number} {{", *head, *lines]) + "\n}"
    # Two instances do not carry one address.
    for prefix, own in (("10.0.0.", f"10.{number}.0."), ("2001:db8::", f"2001:db8:{number}::")):
        text = text.replace(prefix, own)
    return text.replace("fe80::", f"fe80::{number}:")


@st.composite
def texts(draw: st.DrawFn, most_instances: int = 4) -> str:
    """A whole file."""
    blocks = ["\n ".join(["global_defs {", *draw(GLOBALS)]) + "\n}"]
    scripts = [f"s{number}" for number in range(draw(st.integers(0, 2)))]
    for name in scripts:
        command = draw(_any('/bin/true|"true x"|"/usr/bin/test \'a b\' = c"'))
        blocks.append("\n ".join([f"vrrp_script {name} {{", f"script {command}", *draw(SCRIPT)]) + "\n}")
    for kind, line in (("ipaddress", STATIC), ("routes", _routes(4)), ("rules", RULES)):
        blocks += draw(st.lists(_block(f"static_{kind}", line, 2), max_size=1))
    instances = [f"V{number}" for number in range(draw(st.integers(1, most_instances)))]
    if draw(st.booleans()):
        members = draw(st.lists(st.sampled_from([*instances, "NOSUCH"]), min_size=1, max_size=3))
        inside = draw(
            _some(
                _block("track_interface", TRACKED_INTERFACE),
                *_tracked_scripts(scripts),
                _any("sync_group_tracking_weight|global_tracking"),
            )
        )
        blocks.append("\n ".join(["vrrp_sync_group G {", "group {", *members, "}", *inside]) + "\n}")
    blocks += [draw(_instance(number, scripts)) for number in range(len(instances))]
    return "\n".join(blocks) + "\n"
