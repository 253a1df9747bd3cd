# SPDX-License-Identifier: GPL-2.0-or-later
"""The planner's view of dnsmasq on this router, and the files that make dnsmasq follow the role.

OpenWrt's /etc/init.d/dnsmasq writes /var/etc/dnsmasq.conf.NAME from /etc/config/dhcp. Nothing of
that is changed, and nothing is written to flash. Instead

- a snippet in its `conf-dir`, which lies in memory, gives clients the virtual address as router
  and DNS server (options 3 and 6, and 23 of DHCPv6), unless the user has set these options;
- `force` of the `dhcp` section is set in /var/state/dhcp, the overlay in memory that OpenWrt's init
  scripts read with every configuration. Without it the init script looks for another DHCP
  server before it serves an interface, finds the one of the other router, and serves nobody.

Where dnsmasq keeps its leases and reads more configuration: the options of `dhcp_gateway`, otherwise the
options of the running dnsmasq, otherwise /etc/config/dhcp, otherwise OpenWrt's defaults.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from tandem import files
from tandem.config import uci
from tandem.config.schema import Config, DhcpGateway
from tandem.config.values import FALSE, host
from tandem.core.settings import Instance

LEASEFILE = "/tmp/dhcp.leases"
CONFDIR = "/tmp/dnsmasq.d"
SNIPPET = "tandem.conf"
STATE = "/var/state"
PROGRAM = "/usr/sbin/dnsmasq"
VERSION_S = 5  # seconds for it to print its version
_GENERATED = "/var/etc"
_ROUTER = ("3", "option:router")
_DNS = {4: ("6", "option:dns-server"), 6: ("option6:dns-server", "option6:23")}


@dataclass(slots=True)
class Router:
    """The parts of this router's configuration that matter to DHCP; `root` is its file system."""

    root: str = ""
    networks: dict[str, tuple[str, ...]] = field(default_factory=dict)  # UCI network: its devices
    pools: list[uci.Section] = field(default_factory=list)  # `dhcp` sections
    leasefiles: list[str] = field(default_factory=list)
    confdirs: list[str] = field(default_factory=list)
    listens_everywhere: bool = True  # dnsmasq, as opposed to a list of interfaces
    dhcpv6: bool = True  # dnsmasq knows the options of DHCPv6; OpenWrt's dnsmasq without "-full" does not

    def devices(self, interface: str) -> tuple[str, ...]:
        """The devices that an instance's `interface`, a device or a UCI network, may be."""
        return tuple(dict.fromkeys((interface, *self.networks.get(interface, ()))))

    def network(self, interface: str) -> str | None:
        """The UCI network that an instance's `interface` is, or that lies on this device."""
        if interface in self.networks:
            return interface
        return next((name for name, devices in self.networks.items() if interface in devices), None)

    def pool(self, network: str | None) -> uci.Section | None:
        """The `dhcp` section of a network."""
        return next((one for one in self.pools if _text(one, "interface") == network), None)


def read_router(root: str = "") -> Router:
    """Read the configuration of the router; files that are missing or unreadable are left out."""
    found = Router(root, dhcpv6=_knows_dhcpv6(root + PROGRAM))
    for section in _sections(f"{root}/etc/config/network"):
        if section.type == "interface" and section.name:
            devices = [*_words(section, "device"), *_words(section, "ifname")]
            bridge = [f"br-{section.name}"] if _text(section, "type") == "bridge" else []
            found.networks[section.name] = tuple(bridge or devices)
    for line in _generated(root):
        key, _, value = line.partition("=")
        if key == "dhcp-leasefile":
            found.leasefiles.append(value)
        elif key == "conf-dir":
            found.confdirs.append(value.partition(",")[0])
    for section in _sections(f"{root}/etc/config/dhcp"):
        if section.type == "dhcp":
            found.pools.append(section)
        elif section.type == "dnsmasq":
            found.leasefiles += [text] if (text := _text(section, "leasefile")) else []
            found.listens_everywhere &= not _words(section, "interface")
            confdir = (_text(section, "confdir") or "").partition(",")[0]
            found.confdirs += [confdir] if confdir.startswith("/") else []
    return found


def lease_plan(config: Config, router: Router) -> dict[str, Any] | None:
    """`plan.result.LeasePlan` as plain values; None when no instance has `dhcp`."""
    settings = config.dhcp_gateway
    if settings is None:
        return None
    guarded = [instance for instance in config.instances if instance.dhcp]
    confdir = settings.confdir or next(iter(router.confdirs), CONFDIR)
    text = "\n".join(["# Written by tandemd. The virtual addresses are those of the network.", *(
        line for instance in guarded for line in snippet(instance, settings, router)
    ), ""])  # fmt: skip
    return {
        "leasefile": settings.leasefile or next(iter(router.leasefiles), LEASEFILE),
        "snippet": (os.path.join(confdir, SNIPPET), text),
        "state_dir": STATE if os.path.isdir(f"{router.root}{STATE}") else None,
        "force": tuple(dict.fromkeys(_unforced(guarded, router))),
        "networks": {instance.name: tuple(_numbers(instance)) for instance in guarded},
        "resolvers": resolvers(guarded, settings, router),
    }


def warnings(config: Config, router: Router) -> Iterator[str]:
    """Return the warnings about DHCP on this router."""
    if config.dhcp_gateway is None:
        return
    for instance in config.instances:
        if not instance.dhcp:
            continue
        name = router.network(instance.interface)
        pool = router.pool(name)
        if instance.dhcp_tag is None and name is None:
            yield (
                f"{instance.name}: no network in /etc/config/network lies on {instance.interface}:"
                " clients do not get the virtual address; option dhcp_tag names dnsmasq's tag of the network"
            )
        if pool is not None and pool.name is None and not _on(pool, "force"):
            yield (
                f"{instance.name}: the dhcp section of the network {name} has no name: give it one, or"
                " option force '1', or dnsmasq will not serve it while the other router does"
            )


def resolvers(
    guarded: Iterable[Instance], settings: DhcpGateway, router: Router
) -> dict[str, tuple[str, ...]]:
    """Return the virtual addresses that odhcpd is to name as resolvers, by network."""
    found: dict[str, tuple[str, ...]] = {}
    for instance in guarded if settings.dns else ():
        network = router.network(instance.interface)
        pool = router.pool(network)
        same = _virtual(instance)
        if network and same and not (pool and _words(pool, "dns")):
            found[network] = (*found.get(network, ()), same[0])
    return found


def _virtual(instance: Instance) -> list[str]:
    """Return the virtual addresses of the instance's family, global ones first."""
    addresses = [address.address for address in instance.virtual_addresses]
    same = [address for address in addresses if host(address).version == instance.family]
    return sorted(same, key=lambda address: host(address).is_link_local)


def snippet(instance: Instance, settings: DhcpGateway, router: Router) -> Iterator[str]:
    """The lines of dnsmasq's configuration for one instance."""
    network = router.network(instance.interface)
    pool = router.pool(network)
    tag = instance.dhcp_tag or (pool and _text(pool, "networkid")) or network
    same = _virtual(instance)
    if not same or not tag:
        return
    if instance.use_vmac:  # names are resolved there; the base hears every request as well
        yield f"no-dhcp-interface={instance.use_vmac}"
        if not router.listens_everywhere:
            yield f"interface={instance.use_vmac}"
    given = [] if pool is None else [*_words(pool, "dhcp_option"), *_words(pool, "dhcp_option_force")]
    if settings.router and instance.family == 4 and not _given(given, _ROUTER):
        yield f"dhcp-option=tag:{tag},option:router,{same[0]}"
    if settings.dns and not _given(given, _DNS[instance.family]):
        if instance.family == 4:
            yield f"dhcp-option=tag:{tag},option:dns-server,{same[0]}"
        elif router.dhcpv6:
            yield f"dhcp-option=tag:{tag},option6:dns-server,[{same[0]}]"


def _given(options: Iterable[str], names: tuple[str, ...]) -> bool:
    return any(option.partition(",")[0].strip() in names for option in options)


def _unforced(guarded: Iterable[Instance], router: Router) -> Iterator[str]:
    """The names of the `dhcp` sections that must not look for another server."""
    for instance in guarded:
        pool = router.pool(router.network(instance.interface))
        if pool is not None and pool.name and not _on(pool, "force"):
            yield pool.name


def _numbers(instance: Instance) -> Iterator[tuple[int, int, int]]:
    for text in instance.dhcp_networks:
        network = ip_network(text)
        yield network.version, int(network.network_address), int(network.netmask)


def _knows_dhcpv6(program: str) -> bool:
    """Return whether dnsmasq accepts `option6`, which it may refuse to start with; True: unknown."""
    if not os.path.exists(program):
        return True
    import subprocess  # only a router with `dhcp` needs it

    try:
        done = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=VERSION_S, env={}
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    return b"no-DHCPv6" not in done.stdout.split()


def _sections(path: str) -> tuple[uci.Section, ...]:
    return uci.read(file_text(path), path).sections


def _generated(root: str) -> Iterator[str]:
    directory = f"{root}{_GENERATED}"
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        if name.startswith("dnsmasq.conf"):
            yield from file_text(f"{directory}/{name}", follow=False).splitlines()


def file_text(path: str, follow: bool = True) -> str:
    """Return the text of a file, "" when it cannot be read. `follow`: the path may be a link."""
    try:
        return files.read(path, uci.LARGEST_FILE, follow).decode(errors="surrogateescape")
    except OSError:
        return ""


def _text(section: uci.Section, option: str) -> str | None:
    found = section.options.get(option)
    return found.values[-1].text if found and found.values else None


def _words(section: uci.Section, option: str) -> list[str]:
    """Every word of a list, or of an option that is one written in a line."""
    found = section.options.get(option)
    return [word for value in found.values for word in value.text.split()] if found else []


def _on(section: uci.Section, option: str) -> bool:
    return (_text(section, option) or "0").lower() not in FALSE
