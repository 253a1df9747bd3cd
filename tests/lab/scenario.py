# SPDX-License-Identifier: GPL-2.0-or-later
"""One description of virtual routers, written out as each daemon's own configuration text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Groups = Mapping[str, Sequence[str]]  # sync group name -> names of its instances


@dataclass(frozen=True)
class Instance:
    """One virtual router as seen from one router. `advert_s` in seconds; devices are kernel names."""

    name: str
    device: str
    virtual_router_id: int
    addresses: tuple[str, ...]  # "192.168.1.4/24", the primary one first
    priority: int = 100
    advert_s: float = 1.0
    version: int = 2
    state: str = "BACKUP"
    preempt: bool = True
    auth_pass: str | None = None
    unicast_src: str | None = None
    unicast_peers: tuple[str, ...] = ()
    vmac: str | None = None  # device name of the macvlan
    routes: tuple[str, ...] = ()  # in keepalived.conf's syntax
    keepalived: tuple[str, ...] = ()  # more lines for keepalived only
    options: dict[str, str | tuple[str, ...]] = field(default_factory=dict)  # more of UCI; a tuple: a list

    @property
    def ipv6(self) -> bool:
        """Whether the addresses are of IPv6 (one family in one instance, as the RFC has it)."""
        return ":" in self.addresses[0]


def keepalived_conf(instances: Sequence[Instance], groups: Groups | None = None, extra: str = "") -> str:
    """The text of keepalived.conf(5)."""
    out = ["global_defs {", "  router_id lab", "  script_user root", "}"]
    for group, members in (groups or {}).items():
        out += [f"vrrp_sync_group {group} {{", "  group {", *(f"    {name}" for name in members), "  }", "}"]
    for vr in instances:
        out += [f"vrrp_instance {vr.name} {{", f"  state {vr.state}", f"  interface {vr.device}"]
        out += [f"  virtual_router_id {vr.virtual_router_id}", f"  priority {vr.priority}"]
        out += [f"  advert_int {vr.advert_s:g}", f"  version {vr.version}"]
        if not vr.preempt:
            out.append("  nopreempt")
        if vr.auth_pass:
            out += ["  authentication {", "    auth_type PASS", f"    auth_pass {vr.auth_pass}", "  }"]
        if vr.unicast_src:
            out.append(f"  unicast_src_ip {vr.unicast_src}")
        if vr.unicast_peers:
            out += ["  unicast_peer {", *(f"    {peer}" for peer in vr.unicast_peers), "  }"]
        if vr.vmac:
            out.append(f"  use_vmac {vr.vmac}")
        out += ["  virtual_ipaddress {", *(f"    {address}" for address in vr.addresses), "  }"]
        if vr.routes:
            out += ["  virtual_routes {", *(f"    {route}" for route in vr.routes), "  }"]
        out += [*(f"  {line}" for line in vr.keepalived), "}"]
    return "\n".join([*out, extra, ""])


def tandem_uci(
    instances: Sequence[Instance], groups: Groups | None = None, options: Mapping[str, str] | None = None
) -> str:
    """The text of /etc/config/tandem; `options` are those of the globals section."""
    out = ["config globals 'globals'", "\toption enabled '1'", "\toption router_id 'lab'"]
    out += [f"\toption {key} '{value}'" for key, value in (options or {}).items()]
    for group, members in (groups or {}).items():
        out += ["", "config vrrp_sync_group", f"\toption name '{group}'"]
        out += [f"\tlist group '{name}'" for name in members]
    peers = sorted({peer for vr in instances for peer in vr.unicast_peers})
    for number, peer in enumerate(peers, 1):
        out += ["", "config peer", f"\toption name 'peer{number}'", f"\toption address '{peer}'"]
    for vr in instances:
        settings: dict[str, str | tuple[str, ...]] = {
            "name": vr.name,
            "interface": vr.device,
            "state": vr.state,
            "virtual_router_id": str(vr.virtual_router_id),
            "version": str(vr.version),
            "priority": str(vr.priority),
            "advert_int": f"{vr.advert_s:g}",
        }
        if not vr.preempt:
            settings["nopreempt"] = "1"
        if vr.auth_pass:
            settings |= {"auth_type": "PASS", "auth_pass": vr.auth_pass}
        if vr.unicast_src:
            settings["unicast_src_ip"] = vr.unicast_src
        if vr.unicast_peers:
            settings["unicast_peer"] = tuple(f"peer{peers.index(peer) + 1}" for peer in vr.unicast_peers)
        if vr.vmac:
            settings["use_vmac"] = vr.vmac
        settings["virtual_ipaddress"] = vr.addresses
        if vr.routes:
            settings["virtual_routes"] = vr.routes
        out += ["", "config vrrp_instance"]
        for key, value in (settings | vr.options).items():
            if isinstance(value, tuple):
                out += [f"\tlist {key} '{item}'" for item in value]
            else:
                out.append(f"\toption {key} '{value}'")
    return "\n".join([*out, ""])


def frr_conf(instances: Sequence[Instance]) -> str:
    """The text of frr.conf for vrrpd; its macvlans are made by `frr_macvlans`.

    vrrpd's interval is in milliseconds, rounded to centiseconds; version 3 knows both families.
    """
    out = ["frr defaults traditional", "no log syslog", "log stdout debugging"]
    for vr in instances:
        address = "ip" if not vr.ipv6 else "ipv6"
        vrrp = f" vrrp {vr.virtual_router_id}"
        out += [f"interface {vr.device}", f"{vrrp} version {vr.version}", f"{vrrp} priority {vr.priority}"]
        out += [f"{vrrp} advertisement-interval {round(vr.advert_s * 1000)}"]
        if not vr.preempt:
            out.append(f" no{vrrp} preempt")
        out += [f"{vrrp} {address} {item.split('/')[0]}" for item in vr.addresses]
        out.append("exit")
    return "\n".join([*out, ""])


def frr_macvlans(instances: Sequence[Instance]) -> list[str]:
    """`ip` commands for the macvlans with the virtual MAC and the addresses that FRR's vrrpd expects.

    vrrpd adopts macvlans by their MAC and addresses and only sets them up or (protodown) down.
    """
    out = []
    for vr in instances:
        name = f"vrrp{6 if vr.ipv6 else 4}-{vr.virtual_router_id}"
        mac = f"00:00:5e:00:{'02' if vr.ipv6 else '01'}:{vr.virtual_router_id:02x}"
        out.append(f"link add {name} link {vr.device} address {mac} type macvlan mode bridge")
        out.append(f"link set dev {name} addrgenmode none")
        out += [f"address add {address} dev {name}{' nodad' if vr.ipv6 else ''}" for address in vr.addresses]
        out.append(f"link set dev {name} up")
    return out
