# SPDX-License-Identifier: GPL-2.0-or-later
"""/etc/config/dhcp as people write it for a virtual gateway: the address given out by hand, on both routers.

The file stays as it is. But where it hands out the virtual address of an instance as the router (option
3), the instance gets option dhcp, with which only the active router answers.
"""

from __future__ import annotations

from collections.abc import Iterable

from tandem.config import uci
from tandem.importer.draft import Draft, Origin

SECTIONS = ("dhcp", "dnsmasq", "odhcpd", "host", "domain", "relay", "boot")
_ROUTER = ("3", "option:router")


def convert(sections: Iterable[uci.Section], file: str, draft: Draft) -> None:
    """Find the instances whose addresses are given out."""
    for section in sections:
        options = section.options.get("dhcp_option")
        for value in options.values if options else ():
            name, *addresses = value.text.split(",")
            if name.strip() in _ROUTER:
                origin = Origin(file, value.line, f"dhcp_option {value.text}")
                _follow({address.strip() for address in addresses}, origin, draft)


def _follow(addresses: set[str], origin: Origin, draft: Draft) -> None:
    for section in draft.sections:
        if section.type == "vrrp_instance" and any(
            entry.name == "virtual_ipaddress" and entry.value.partition("/")[0] in addresses
            for entry in section.entries
        ):
            section.set("dhcp", "1", origin)
            draft.remark(origin, "not needed any more: only MASTER answers DHCP, and gives out its address")
            return
    draft.remark(origin, "is no virtual address: it stays as it is")
