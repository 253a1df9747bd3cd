# SPDX-License-Identifier: GPL-2.0-or-later
"""The one option table: every section and option that Tandem knows, in the order of the reference.

Names are those of OpenWrt's keepalived package and of keepalived.conf.
"""

from __future__ import annotations

from tandem.config.option import ROLE, Option, Table
from tandem.config.options.check import CHECK
from tandem.config.options.common import NO_BFD, NO_FILE, NO_LVS
from tandem.config.options.conntrack_sync import CONNTRACK_SYNC, DHCP_GATEWAY, PEER
from tandem.config.options.follow import FOLLOW
from tandem.config.options.globals import GLOBALS
from tandem.config.options.instance import INSTANCE, SYNC_GROUP
from tandem.config.options.internet import INTERNET
from tandem.config.options.objects import (
    IPADDRESS,
    ROUTE,
    RULE,
    SCRIPT,
    STATIC,
    TRACK_INTERFACE,
    TRACK_SCRIPT,
)
from tandem.config.options.service import SERVICE
from tandem.config.options.virtual_server import REAL_SERVER, VIRTUAL_SERVER
from tandem.config.options.witness import WITNESS, WITNESS_SERVER
from tandem.config.problem import MASK

SECTIONS: dict[str, Table] = {
    "globals": GLOBALS,
    "global_defs": GLOBALS,  # keepalived's name
    "vrrp_sync_group": SYNC_GROUP,
    "vrrp_instance": INSTANCE,
    "ipaddress": IPADDRESS,
    "route": ROUTE,
    "rule": RULE,
    "vrrp_script": SCRIPT,
    "track_script": TRACK_SCRIPT,
    "track_interface": TRACK_INTERFACE,
    "peer": PEER,
    "conntrack_sync": CONNTRACK_SYNC,
    "dhcp_gateway": DHCP_GATEWAY,
    "follow": FOLLOW,
    "witness": WITNESS,
    "witness_server": WITNESS_SERVER,
    "service": SERVICE,
    "check": CHECK,
    "virtual_server": VIRTUAL_SERVER,
    "real_server": REAL_SERVER,
    "internet": INTERNET,
    **STATIC,
}

REFUSED_SECTIONS: dict[str, str] = {
    **dict.fromkeys(("virtual_server_group", "lvs"), NO_LVS.reason),
    **dict.fromkeys(("url", "SSL"), "not supported: write a config check"),
    **dict.fromkeys(("bfd_instance", "track_bfd"), NO_BFD.reason),
    **dict.fromkeys(("track_file", "vrrp_track_file", "track_process", "vrrp_track_process"), NO_FILE.reason),
    "track_group": "not supported: static addresses, routes and rules are always kept in place",
    "garp_group": "not supported",
    "interface_up_down_delays": "not supported: use a track_script with rise and fall",
    "linkbeat_interfaces": "not supported: link state always comes from netlink",
}


def identity() -> tuple[str, ...]:
    """Return the fields of an instance that make it the virtual router that it is, see `config.diff`."""
    rows = (entry for entry in INSTANCE.values() if isinstance(entry, Option))
    return tuple(row.field for row in rows if row.reload == ROLE and row.field)


def secret_options() -> list[str]:
    """Return the names of the options whose values nobody may see; a name stands before its beginnings."""
    found = {
        name
        for table in SECTIONS.values()
        for name, entry in table.items()
        if isinstance(entry, Option) and entry.secret
    }
    return sorted(found, key=len, reverse=True)


def without_secret(name: str) -> str:
    """Return the name of an unknown option without the secret in it, as of: option auth_pass's3cret'."""
    for option in secret_options():
        if name.startswith(option) and name != option:
            return option + MASK
    return name
