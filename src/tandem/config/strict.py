# SPDX-License-Identifier: GPL-2.0-or-later
"""vrrp_strict and strict_mode: nothing that the RFC does not know (vrrp_complete_instance() of keepalived).

A setting that keepalived changes by itself is changed with a warning, and a setting that makes keepalived
drop the instance is an error: both routers of a mixed pair still agree. `instance` knows the initial state.
"""

from __future__ import annotations

from dataclasses import replace

from tandem.config import values
from tandem.config.read import Parsed
from tandem.core.settings import Instance

RFC_ADVERTS = 3  # so many may be missed, RFC 9568 section 6.1


def apply(instance: Instance, parsed: Parsed) -> Instance:
    """Return the instance as strict mode changes it."""
    owner = instance.priority == 255
    if not instance.virtual_addresses:
        parsed.error("strict: the RFC wants at least one address", "virtual_ipaddress")
    if instance.unicast_peers:
        parsed.error("strict: the RFC knows multicast only", "unicast_peer")
    if instance.vmac_xmit_base:
        parsed.warn("strict: the RFC wants adverts from the virtual MAC", "vmac_xmit_base")
    if instance.family == 6 and instance.virtual_addresses:
        first = values.host(instance.virtual_addresses[0].address)
        if not first.is_link_local:
            parsed.warn("strict: the RFC wants a link-local address first", "virtual_ipaddress")
    changes: dict[str, object] = {}
    if instance.auth_pass is not None:
        parsed.warn("has no effect in strict mode: RFC 3768 has removed authentication", "auth_type")
        changes["auth_pass"] = None
    if instance.preempt_delay_ms:
        parsed.warn("has no effect in strict mode: the RFC does not know it", "preempt_delay")
        changes["preempt_delay_ms"] = 0
    if instance.down_timer_adverts != RFC_ADVERTS:
        parsed.warn(f"has no effect in strict mode: the RFC waits for {RFC_ADVERTS}", "down_timer_adverts")
        changes["down_timer_adverts"] = RFC_ADVERTS
    if instance.accept and not owner and not (parsed.given("accept") and instance.version == 3):
        if parsed.given("accept"):
            parsed.warn("has no effect in strict mode: RFC 3768 has no accept mode", "accept")
        changes["accept"] = False
    changes["garp"] = replace(instance.garp, lower_prio_delay_ms=0, lower_prio_repeat=0)
    return replace(instance, **changes)  # type: ignore[arg-type]
