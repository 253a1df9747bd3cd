# SPDX-License-Identifier: GPL-2.0-or-later
"""The `virtual_server` and `real_server` sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tandem.config.names import Names
from tandem.config.options.virtual_server import REAL_SERVERS_MAX, SERVERS_OF_ONE, VIRTUAL_SERVERS_MAX
from tandem.config.read import Parsed
from tandem.config.schema import Check
from tandem.core.settings import RealServer, VirtualServer


def build(
    found: Sequence[Parsed], names: Names, checks: Sequence[Check]
) -> tuple[tuple[VirtualServer, ...], tuple[RealServer, ...]]:
    """Return the virtual servers and their real servers."""
    named = names.sections["real_server"]
    if len(found) > VIRTUAL_SERVERS_MAX:
        found[VIRTUAL_SERVERS_MAX].error(f"more than {VIRTUAL_SERVERS_MAX} virtual servers")
        found = found[:VIRTUAL_SERVERS_MAX]
    if len(named) > REAL_SERVERS_MAX:
        list(named.values())[REAL_SERVERS_MAX].error(f"more than {REAL_SERVERS_MAX} real servers")
    by_name = {check.name: check for check in checks}
    real = {name: _real(parsed, names) for name, parsed in named.items() if parsed.get("ipaddr")}
    seen: dict[tuple[str, int, str], str] = {}
    virtual = []
    for parsed in found:
        server = _virtual(parsed, names, real)
        if server is None:
            continue
        key = server.address, server.port, server.protocol
        if key in seen:
            parsed.error(f"virtual_server '{seen[key]}' has this address, port and protocol too", "port")
        seen[key] = server.name
        virtual.append(server)
        for one in server.servers:
            _check_checks(names, real[one], by_name)
    _ports(names, virtual, real)
    used = {name for server in virtual for name in server.servers}
    return tuple(virtual), tuple(server for name, server in real.items() if name in used)


def _real(parsed: Parsed, names: Names) -> RealServer:
    fields = parsed.fields()
    fields["checks"] = names.checks(parsed, "check", alone=False)
    if not parsed.get("enabled"):
        fields["weight"] = 0
    return RealServer(**{"name": parsed.name} | fields)


def _virtual(parsed: Parsed, names: Names, real: Mapping[str, RealServer]) -> VirtualServer | None:
    """Return a virtual server; None: it is in error, or not enabled."""
    fields = parsed.fields()
    known = names.sections["real_server"]
    servers: list[str] = []
    for item in names.split(parsed, "real_server"):
        names.used.add(("real_server", item.text))
        if item.text not in known:
            reason = "there is no real_server of this name" + names.hint(item.text, known)
            parsed.error(reason, "real_server", item)
        elif item.text in servers:
            parsed.error("is listed twice", "real_server", item)
        elif item.text in real:
            servers.append(item.text)
            _same_family(parsed, "real_server", real[item.text].address, parsed.get("ipaddr"))
    if len(servers) > SERVERS_OF_ONE:
        parsed.error(f"more than {SERVERS_OF_ONE} real servers", "real_server")
    if parsed.get("sorry_server_ip"):
        _same_family(parsed, "sorry_server_ip", parsed.get("sorry_server_ip"), parsed.get("ipaddr"))
    elif parsed.get("sorry_server_port"):
        parsed.error("needs sorry_server_ip", "sorry_server_port")
    if not parsed.name or not parsed.get("ipaddr") or not parsed.get("port"):
        return None
    if not parsed.get("enabled"):
        return None
    fields["servers"] = tuple(servers)
    return VirtualServer(**{"name": parsed.name} | fields)


def _same_family(parsed: Parsed, option: str, address: str, other: str | None) -> None:
    if other and (":" in address) != (":" in other):
        parsed.error(f"{address} is not of the address family of ipaddr", option)


def _ports(names: Names, virtual: Sequence[VirtualServer], real: Mapping[str, RealServer]) -> None:
    """A check asks one port: that of the virtual server, if that is one only."""
    for name, server in real.items():
        ports = {one.port for one in virtual if name in one.servers}
        if not server.port and server.checks and len(ports) > 1:
            reason = f"is missing: its virtual servers have the ports {', '.join(map(str, sorted(ports)))}"
            names.sections["real_server"][name].error(reason, "port")


def _check_checks(names: Names, server: RealServer, checks: Mapping[str, Check]) -> None:
    for name in server.checks:
        check, parsed = checks.get(name), names.sections["check"][name]
        if check is not None and ":" in server.address and check.kind == "arp":
            parsed.error(f"real_server '{server.name}' has an IPv6 address, which has no ARP", "kind")
