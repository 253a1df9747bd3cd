# SPDX-License-Identifier: GPL-2.0-or-later
"""The `dhcp_gateway` section, and what instances with `dhcp` need of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tandem.config.read import Parsed
from tandem.config.schema import DhcpGateway
from tandem.core.settings import Instance


def build(
    found: Sequence[Parsed], sections: Sequence[Parsed], instances: Mapping[str, Instance], replicated: bool
) -> DhcpGateway | None:
    """Return the section, or its defaults; None when no instance has `dhcp`.

    `sections` are those of vrrp_instance.
    """
    for more in found[1:]:
        more.error(f"there is a dhcp_gateway section already, at line {found[0].line()}")
    guarded = [parsed for parsed in sections if parsed.key in instances and instances[parsed.key].dhcp]
    _one_for_each_interface(guarded, instances)
    if not guarded:
        if found:
            found[0].warn("has no effect: no vrrp_instance has option dhcp '1'")
        return None
    settings = DhcpGateway()
    if found:
        settings = DhcpGateway(**found[0].fields())
    if settings.replicate and not replicated:
        reason = "leases are not replicated: there is no channel to another router, see config peer"
        guarded[0].warn(reason, "dhcp")
    return settings


def _one_for_each_interface(guarded: Sequence[Parsed], instances: Mapping[str, Instance]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for parsed in guarded:
        instance = instances[parsed.key]
        before = seen.setdefault((instance.interface, instance.family), instance.name)
        if before != instance.name:
            reason = f"vrrp_instance '{before}' decides about DHCP on {instance.interface} already"
            parsed.error(f"{reason} (IPv{instance.family})", "dhcp")
