# SPDX-License-Identifier: GPL-2.0-or-later
"""/etc/config/dhcp of a virtual gateway, where both routers hand out the virtual address by hand.

The file stays as it is. But an instance whose virtual address is handed out as the router (option 3) gets
option dhcp, with which only the active router answers.
"""

from __future__ import annotations

from collections.abc import Iterable

from tandem.config import uci
from tandem.importer.draft import Draft, Origin

SECTIONS = ("dhcp", "dnsmasq", "odhcpd", "host", "domain", "relay", "boot")
_ROUTER = ("3", "option:router")


def convert(sections: Iterable[uci.Section], file: str, draft: Draft) -> None:
    """Set option dhcp in the instances whose virtual address is handed out."""
    for section in sections:
        options = section.options.get("dhcp_option")
        for value in options.values if options else ():
            name, *addresses = value.text.split(",")
            if name.strip() in _ROUTER:
                origin = Origin(file, value.line, f"dhcp_option {value.text}")
                _follow({address.strip() for address in addresses}, origin, draft)


def _follow(addresses: set[str], origin: Origin, draft: Draft) -> None:
    named = {
        name.value: address.value
        for section in draft.sections
        if section.type == "ipaddress"
        and (name := section.get("name"))
        and (address := section.get("address"))
    }
    for section in draft.sections:
        words = (entry.value.split()[0] for entry in section.entries if entry.name == "virtual_ipaddress")
        if section.type == "vrrp_instance" and any(
            named.get(word, word).partition("/")[0] in addresses for word in words
        ):
            section.set("dhcp", "1", origin)
            draft.remark(origin, "not needed any more: only MASTER answers DHCP, and gives out its address")
            return
    draft.remark(origin, "is no virtual address: it stays as it is")
