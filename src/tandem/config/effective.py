# SPDX-License-Identifier: GPL-2.0-or-later
"""The effective configuration as UCI text, with every default written out.

`load` makes the same Config of the text again, except for secrets, which are masked: a masked password is
read as a password, and for a masked secret of the channel `load` asks for the true one.
"""

from __future__ import annotations

from collections.abc import Iterator

from tandem.config.option import Option
from tandem.config.options import SECTIONS
from tandem.config.schema import Config
from tandem.config.uci import quote


def render(config: Config) -> str:
    """Return the configuration in UCI syntax, in a fixed order; secrets as '***'."""
    lines: list[str] = []
    for head, settings in _sections(config):
        lines += ["", f"config {head}"]
        for name, entry in SECTIONS[head.split()[0]].items():
            if isinstance(entry, Option):
                word = "list" if entry.many else "option"
                lines += [f"\t{word} {name} {quote(text)}" for text in entry.texts(settings)]
    return "\n".join(lines[1:]) + "\n"


def _sections(config: Config) -> Iterator[tuple[str, object]]:
    """Yield type and name of each section with the settings that it shows."""
    yield "globals 'globals'", config.globals
    yield from (("vrrp_script", script) for script in config.scripts)
    yield from (("check", check) for check in config.checks)
    yield from (("real_server", server) for server in config.real_servers)
    yield from (("virtual_server", server) for server in config.virtual_servers)
    yield from (("internet", internet) for internet in config.internets)
    yield from (("vrrp_sync_group", group) for group in config.groups if not group.implicit)
    yield from (("vrrp_instance", instance) for instance in config.instances)
    yield from (("peer", peer) for peer in config.peers)
    if config.conntrack_sync:
        yield "conntrack_sync 'sync'", config.conntrack_sync
    if config.dhcp_gateway:
        yield "dhcp_gateway", config.dhcp_gateway
    yield from (("follow", follow) for follow in config.follows)
    yield from (("witness", witness) for witness in config.witnesses)
    if config.witness_server:
        yield "witness_server", config.witness_server
    yield from (("service", service) for service in config.services)
    for kind, objects in (
        ("static_ipaddress", config.static_addresses),
        ("static_routes", config.static_routes),
        ("static_rules", config.static_rules),
    ):
        if objects:
            yield kind, objects
