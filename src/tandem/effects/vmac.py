# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel settings of instances: for a virtual MAC address, `promote_secondaries`, and owners.

Measured with two routers and a client (tests/netns/test_vmac_sysctls.py pins it down):

- Linux answers ARP for any of its addresses on any interface: without `arp_ignore` on both, the client
  gets two answers, and learns the virtual MAC for the routers' own addresses.
- An ARP request carries whatever source address the packet has that waits for it: without
  `arp_announce` on both, a packet from the virtual address that leaves by the base interface
  teaches the LAN the real MAC, and one from the own address by the macvlan the virtual one.
- Strict reverse path filtering drops what comes in by the macvlan while the route back leads over the
  base interface. The larger of the values for `all` and the interface counts, so that 2 (loose) on
  the interface is enough and, unlike with keepalived, `all` and everyone else keep theirs.
- A macvlan that comes up sends IPv6 packets of its own (MLD, DAD, router solicitations) from the
  virtual MAC, also on a backup, which makes switches send it the traffic of the active.

`arp_filter`, which keepalived sets, changed nothing in any of these.

The owner of an address (priority 255) advertises from it. While another router stands in for it, that one has
the address too, and its kernel takes the owner's adverts for forged ones: `accept_local` lets them in
(net/ipv4/fib_frontend.c, __fib_validate_source). Otherwise both stay active when the owner is back.
"""

from __future__ import annotations

from collections.abc import Callable

from tandem.core.tracking import OWNER
from tandem.effects.sysctl import Path, Setting, ipv4, ipv6, solicit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.core.settings import Instance

Read = Callable[[Path], str | None]

# net/ipv4/devinet.c, net/ipv4/arp.c; Documentation/networking/ip-sysctl.rst
_ARP_IGNORE = ("arp_ignore", "1")  # answer only for addresses of the interface that was asked
_ARP_ANNOUNCE = ("arp_announce", "2")  # ask only with an address of the interface that asks
_RP_STRICT, _RP_LOOSE = "1", "2"


def settings_of(instance: Instance, read: Read) -> list[Setting]:
    """All settings that `instance` needs; to be applied when its macvlan exists and is still down.

    `read` gives the present value of a setting (`Sysctls.read`).
    """
    settings: list[Setting] = []
    if instance.family == 4 and instance.priority != OWNER:
        settings.append((ipv4(instance.interface, "accept_local"), "1"))
    if instance.promote_secondaries:
        settings.append((ipv4(instance.interface, "promote_secondaries"), "1"))
    if instance.use_vmac is not None:
        addresses = instance.virtual_addresses + instance.excluded_addresses
        families = {instance.family, *(address.family for address in addresses if address.device is None)}
        settings += base_settings(instance.interface, read)
        settings += macvlan_settings(instance.use_vmac, instance.interface, 6 in families, read)
    return settings


def base_settings(base: str, read: Read) -> list[Setting]:
    """Return the settings of the interface below the macvlan."""
    return [(ipv4(base, name), value) for name, value in (_ARP_IGNORE, _ARP_ANNOUNCE)] + _loosened(base, read)


def macvlan_settings(macvlan: str, base: str, with_ipv6: bool, read: Read) -> list[Setting]:
    """Return the settings of the macvlan itself, to be applied before it is set up."""
    settings = [
        *((ipv4(macvlan, name), value) for name, value in (_ARP_IGNORE, _ARP_ANNOUNCE)),
        # Otherwise the removal of the first virtual address removes all others of its subnet as well.
        (ipv4(macvlan, "promote_secondaries"), "1"),
        *_loosened(macvlan, read),
        *_copied(ipv4, "forwarding", base, macvlan, read),
    ]
    if not with_ipv6:
        return [*settings, (ipv6(macvlan, "disable_ipv6"), "1")]
    return [
        *settings,
        (ipv6(macvlan, "addr_gen_mode"), "1"),  # no link-local address (IN6_ADDR_GEN_MODE_NONE)
        (ipv6(macvlan, "accept_ra"), "0"),
        (ipv6(macvlan, "autoconf"), "0"),
        (ipv6(macvlan, "disable_ipv6"), "0"),
        *solicit(macvlan),
        *_copied(ipv6, "forwarding", base, macvlan, read),
    ]


def _loosened(interface: str, read: Read) -> list[Setting]:
    values = (read(ipv4("all", "rp_filter")), read(ipv4(interface, "rp_filter")))
    strict = max(value or "0" for value in values) == _RP_STRICT
    return [(ipv4(interface, "rp_filter"), _RP_LOOSE)] if strict else []


def _copied(
    family: Callable[[str, str], Path], name: str, base: str, macvlan: str, read: Read
) -> list[Setting]:
    value = read(family(base, name))
    return [] if value is None else [(family(macvlan, name), value)]
