# SPDX-License-Identifier: GPL-2.0-or-later
"""The effective configuration as UCI text, with every default written out.

What `load` makes of the text is the same Config again, except for passwords, which are masked. The
masked secrets of conntrack_sync are no secrets, so `load` asks for the true ones.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from tandem.config.problem import MASK
from tandem.config.schema import Config, ConntrackSync, DhcpGateway, Globals, Script, SyncPath, SyncPeer
from tandem.config.sync_values import PROTOCOL_NAMES, STATE_NAMES, size_text
from tandem.config.syntax import SCOPES, TABLES
from tandem.config.uci import quote
from tandem.config.values import decimal
from tandem.core.settings import Address, Group, Instance, Notify, Route, Rule, Track

_SCOPE_NAMES = {number: name for name, number in SCOPES.items()}
_TABLE_NAMES = {number: name for name, number in TABLES.items()}


def render(config: Config) -> str:
    """The configuration in UCI syntax, in a fixed order; passwords as '***'."""
    lines = [*_globals(config.globals)]
    for script in config.scripts:
        lines += _script(script)
    for group in config.groups:
        if not group.implicit:
            lines += _group(group)
    for instance in config.instances:
        lines += _instance(instance)
    if config.conntrack_sync:
        lines += _conntrack_sync(config.conntrack_sync)
    if config.dhcp_gateway:
        lines += _dhcp_gateway(config.dhcp_gateway)
    for kind, option, texts in (
        ("static_ipaddress", "address", [address(a) for a in config.static_addresses]),
        ("static_routes", "route", [route(r) for r in config.static_routes]),
        ("static_rules", "rule", [rule(r) for r in config.static_rules]),
    ):
        if texts:
            lines += ["", f"config {kind}", *(_list(option, text) for text in texts)]
    return "\n".join(lines) + "\n"


# UCI lines


def _option(name: str, value: str | int | bool | None) -> Iterator[str]:
    """The option's line; none for None and for an empty text."""
    if value is None or value == "":
        return
    text = str(int(value)) if isinstance(value, bool) else str(value)
    yield f"\toption {name} {quote(text)}"


def _list(name: str, value: str) -> str:
    return f"\tlist {name} {quote(value)}"


def _seconds(value_ms: int) -> str:
    return decimal(value_ms, 3)


def _user(user: str | None, group: str | None) -> str:
    return f"{user} {group}" if user and group else user or ""


# sections


def _globals(found: Globals) -> Iterator[str]:
    yield "config globals 'globals'"
    yield from _option("enabled", found.enabled)
    yield from _option("router_id", found.router_id)
    yield from _option("vrrp_startup_delay", _seconds(found.startup_delay_ms))
    yield from _option("address_lifetime", found.address_lifetime_s)
    yield from _option("vrrp_rt_priority", found.rt_priority)
    yield from _option("vrrp_no_swap", found.no_swap)
    yield from _option("script_user", _user(found.script_user, found.script_group))
    yield from _option("damping_changes", found.damping_changes)
    yield from _option("damping_time", _seconds(found.damping_time_ms))
    yield from _option("log_level", found.log_level)


def _script(found: Script) -> Iterator[str]:
    yield from ("", "config vrrp_script")
    yield from _option("name", found.name)
    yield from _option("script", shlex.join(found.argv))
    yield from _option("interval", _seconds(found.interval_ms))
    yield from _option("timeout", _seconds(found.timeout_ms))
    yield from _option("rise", found.rise)
    yield from _option("fall", found.fall)
    yield from _option("user", _user(found.user, found.group))
    yield from _option("init_fail", found.init_fail)


def _group(found: Group) -> Iterator[str]:
    yield from ("", "config vrrp_sync_group")
    yield from _option("name", found.name)
    yield from (_list("group", member) for member in found.members)
    yield from _tracks(found.tracks)
    yield from _notify(found.notify)


def _instance(found: Instance) -> Iterator[str]:
    yield from ("", "config vrrp_instance")
    yield from _option("name", found.name)
    yield from _option("interface", found.interface)
    yield from _option("virtual_router_id", found.virtual_router_id)
    yield from _option("version", found.version)
    yield from _option("native_ipv6", found.family == 6)
    yield from _option("state", "MASTER" if found.initial_master else "BACKUP")
    yield from _option("priority", found.priority)
    yield from _option("advert_int", decimal(found.advert_int_cs, 2))
    yield from _option("nopreempt", not found.preempt)
    yield from _option("preempt_delay", _seconds(found.preempt_delay_ms))
    yield from _option("down_timer_adverts", str(found.down_timer_adverts))
    yield from _option("accept", found.accept)
    if found.auth_pass is not None:
        yield from _option("auth_type", "PASS")
        yield from _option("auth_pass", MASK)
    if found.unicast_peers:
        yield from _option("unicast_src_ip", found.unicast_src_ip)
        yield from (_list("unicast_peer", peer) for peer in found.unicast_peers)
        yield from _option("unicast_ttl", found.unicast_ttl)
        yield from _option("unicast_min_ttl", found.unicast_min_ttl)
    else:
        yield from _option("mcast_dst_ip", found.multicast_group)
        yield from _option("mcast_src_ip", found.mcast_src_ip)
    yield from _option("check_unicast_src", found.check_unicast_src)
    yield from (_list("allow_src", address) for address in found.allow_src)
    yield from _option("strangers", found.strangers)
    yield from _option("max_learned_interval", decimal(found.max_learned_interval_cs, 2))
    yield from _option("use_vmac", found.use_vmac or "0")
    yield from _option("vmac_xmit_base", found.vmac_xmit_base)
    yield from _option("v3_checksum_as_v2", found.v3_checksum_as_v2)
    yield from (_list("virtual_ipaddress", address(a)) for a in found.virtual_addresses)
    yield from (_list("virtual_ipaddress_excluded", address(a)) for a in found.excluded_addresses)
    yield from (_list("virtual_routes", route(r)) for r in found.routes)
    yield from (_list("virtual_rules", rule(r)) for r in found.rules)
    if found.dhcp:
        yield from _option("dhcp", True)
        yield from _option("dhcp_tag", found.dhcp_tag)
        yield from (_list("dhcp_network", network) for network in found.dhcp_networks)
    yield from _option("snat", found.snat or "0")
    yield from _option("track_src_ip", found.track_src_ip)
    yield from _option("higher_prio_send_advert", found.higher_prio_send_advert)
    yield from _option("dont_track_primary", not found.track_primary)
    yield from _tracks(found.tracks)
    yield from _option("promote_secondaries", found.promote_secondaries)
    garp = found.garp
    yield from _option("garp_master_delay", _seconds(garp.delay_ms))
    yield from _option("garp_master_repeat", garp.repeat)
    yield from _option("garp_master_refresh", _seconds(garp.refresh_ms))
    yield from _option("garp_master_refresh_repeat", garp.refresh_repeat)
    yield from _option("garp_lower_prio_delay", _seconds(garp.lower_prio_delay_ms))
    yield from _option("garp_lower_prio_repeat", garp.lower_prio_repeat)
    yield from _notify(found.notify)


def _conntrack_sync(found: ConntrackSync) -> Iterator[str]:
    for peer in found.peers:
        if not _in_place(peer):
            yield from ("", "config peer")
            yield from _option("name", peer.name)
            yield from (_list("address", sync_path(path)) for path in peer.paths)
            yield from _option("secret", MASK if peer.secret else None)
    yield from ("", "config conntrack_sync 'sync'")
    yield from _option("enabled", True)
    for peer in found.peers:
        yield _list("peer", sync_path(peer.paths[0]) if _in_place(peer) else peer.name)
    yield from _option("port", found.port)
    yield from _option("max_hops", found.max_hops)
    yield from (_list("key", f"{key_id}:{MASK}") for key_id, _ in found.secrets)
    yield from _option("key_id", found.key_id or None)
    yield from _option("insecure", found.insecure)
    yield from _option("heartbeat", _seconds(found.heartbeat_ms))
    yield from _option("digest_interval", _seconds(found.digest_interval_ms))
    yield from _option("stall_timeout", _seconds(found.stall_timeout_ms))
    yield from (_list("address", network) for network in found.only_networks)
    yield from (_list("ignore_address", network) for network in found.ignore_networks)
    for option, protocols in (("protocol", found.protocols), ("ignore_protocol", found.ignore_protocols)):
        yield from (_list(option, PROTOCOL_NAMES.get(number, str(number))) for number in protocols)
    yield from (_list("tcp_state", STATE_NAMES[number]) for number in found.tcp_states)
    yield from (_list("zone", str(number)) for number in found.zones)
    yield from _option("local", found.local)
    yield from _option("limit_entries", found.limit_entries)
    yield from _option("limit_bytes", size_text(found.limit_bytes))
    yield from _option("hold", found.hold_s)
    yield from _option("queue_limit", size_text(found.queue_limit))
    yield from _option("receive_buffer", size_text(found.receive_buffer))
    yield from _option("preempt_sync_timeout", _seconds(found.preempt_sync_timeout_ms))
    yield from _option("guarantee", found.guarantee or "none")
    if found.guarantee:
        yield from _option("guarantee_timeout", _seconds(found.guarantee_timeout_ms))
    yield from _option("stale_lag", _seconds(found.stale_lag_ms))
    yield from _option("stale_loss", found.stale_loss)


def _dhcp_gateway(found: DhcpGateway) -> Iterator[str]:
    yield from ("", "config dhcp_gateway")
    yield from _option("leasefile", found.leasefile)
    yield from _option("confdir", found.confdir)
    yield from _option("restart", shlex.join(found.restart))
    yield from _option("restart_timeout", _seconds(found.restart_timeout_ms))
    yield from _option("restart_delay", _seconds(found.restart_delay_ms))
    yield from _option("router", found.router)
    yield from _option("dns", found.dns)
    yield from _option("replicate", found.replicate)


def _in_place(peer: SyncPeer) -> bool:
    """Whether the peer needs no section: it has one address and is called by it."""
    named = peer.name != peer.paths[0].address.partition("%")[0]
    return len(peer.paths) == 1 and not named and not peer.secret


def _tracks(tracks: tuple[Track, ...]) -> Iterator[str]:
    for track in tracks:
        text = f"{track.name} weight {track.weight} {'reverse' if track.reverse else 'noreverse'}"
        yield _list(f"track_{track.kind}", text)


def _notify(found: Notify) -> Iterator[str]:
    for name, argv in (
        ("notify_master", found.master),
        ("notify_backup", found.backup),
        ("notify_fault", found.fault),
        ("notify_stop", found.stop),
        ("notify_master_rx_lower_pri", found.master_rx_lower_pri),
        ("notify", found.any),
    ):
        yield from _option(name, shlex.join(argv))


# addresses, routes and rules in place; people read them in status and logs too


def _words(*pairs: tuple[str, str | int | None]) -> str:
    return "".join(f" {word} {value}" for word, value in pairs if value is not None)


def address(found: Address) -> str:
    """The address in keepalived.conf's syntax."""
    text = f"{found.address}/{found.prefixlen}" + _words(
        ("dev", found.device),
        ("brd", found.broadcast),
        ("label", found.label),
        ("scope", _SCOPE_NAMES.get(found.scope, found.scope) if found.scope else None),
    )
    if found.peer is not None:
        text += f" peer {found.peer}/{found.prefixlen}"
    if found.preferred_lifetime_s is None and found.family == 6 and found.prefixlen == 128:
        text += " preferred_lft forever"
    elif found.preferred_lifetime_s is not None:
        text += f" preferred_lft {found.preferred_lifetime_s}"
    return text


def sync_path(found: SyncPath) -> str:
    """The path as `peer` and the address of a peer section take it."""
    address, source = (text and text.partition("%")[0] for text in (found.address, found.source))
    return f"{address}" + _words(("dev", found.interface), ("src", source))


def route(found: Route) -> str:
    """The route in keepalived.conf's syntax."""
    text = "" if found.kind == "unicast" else f"{found.kind} "
    text += found.destination + _words(
        ("src", found.source),
        ("via", found.via),
        ("dev", found.device),
        ("metric", found.metric),
        ("table", None if found.table == 254 else _TABLE_NAMES.get(found.table, found.table)),
        ("scope", None if found.scope is None else _SCOPE_NAMES.get(found.scope, found.scope)),
        ("mtu", found.mtu),
        ("advmss", found.advmss),
        ("proto", found.protocol),
        ("tos", hex(found.tos) if found.tos else None),
    )
    if found.onlink:
        text += " onlink"
    for hop in found.nexthops:
        text += " nexthop" + _words(("via", hop.via), ("dev", hop.device), ("weight", hop.weight))
        text += " onlink" if hop.onlink else ""
    return text


def rule(found: Rule) -> str:
    """The rule in keepalived.conf's syntax."""
    mark = None if found.fwmark is None else hex(found.fwmark)
    if found.fwmask is not None:
        mark = f"{mark}/{found.fwmask:#x}"
    words = ["inet6" if found.family == 6 else "inet"]
    words += ["not"] if found.invert else []
    words += [
        _words(
            ("from", found.source),
            ("to", found.destination),
            ("iif", found.iif),
            ("oif", found.oif),
            ("fwmark", mark),
            ("tos", hex(found.tos) if found.tos else None),
            ("priority", found.priority),
            ("table", None if found.table is None else _TABLE_NAMES.get(found.table, found.table)),
            ("goto", found.goto),
            ("suppress_prefixlength", found.suppress_prefixlength),
        ).strip()
    ]
    words += [found.action] if found.action not in ("lookup", "goto") else []
    return " ".join(word for word in words if word)
