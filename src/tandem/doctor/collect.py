# SPDX-License-Identifier: GPL-2.0-or-later
"""The facts of this router, from its configuration, its daemon and its kernel."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from tandem import __version__
from tandem.config import load, uci
from tandem.config.schema import Config, ConntrackSync
from tandem.config.sync_values import PROTOCOL_NAMES, STATE_NAMES
from tandem.config.values import FALSE
from tandem.control.client import ControlError, NoDaemonError, ask
from tandem.core.settings import Address, Instance
from tandem.doctor import probes, ruleset, services
from tandem.doctor.facts import DeviceFacts, FollowFacts, InstanceFacts, LinkFacts, RouterFacts
from tandem.effects.endpoint import text
from tandem.effects.rtnl import dump_addresses, dump_links
from tandem.places import NETWORK
from tandem.setup import service
from tandem.setup.line import zone_devices

Json = dict[str, Any]

_POLICIES = {0: "OTHER", 3: "BATCH", 5: "IDLE"}  # include/uapi/linux/sched.h


def collect(config_file: str, control: str) -> tuple[RouterFacts, Config]:
    """Collect the facts that need no listening; a bad configuration counts as an empty one."""
    loaded = load.load_file(config_file)
    config = loaded.config or Config()
    facts = RouterFacts(
        version=__version__,
        config_file=config_file,
        config_errors=tuple(map(str, loaded.errors)),
        enabled=config.globals.enabled,
        boot=("yes" if service.starts_at_boot() else "no") if service.installed() else "",
        realtime=config.globals.rt_priority > 0,
        sync=config.conntrack_sync is not None,
        sync_options=tuple(_sync_options(config.conntrack_sync)),
    )
    status: Json = {}
    try:
        status = ask(control, "status")
        facts = replace(facts, health=tuple(_health(status["health"])))
        if config.conntrack_sync and "replication_missing" not in status["health"]:
            facts = _of_replication(facts, ask(control, "conntrack"))
    except NoDaemonError:
        pass
    except ControlError as error:
        facts = replace(facts, daemon_error=str(error))
    states = {str(item["name"]): item for item in status.get("instances", ())}
    edited = bool(status) and loaded.config is not None and _edited(config, states)
    config = _on_devices(config, states)
    scheduling = status.get("scheduling", {})
    devices = dict.fromkeys(
        device
        for instance in config.instances
        for device in (instance.interface, *(_place(instance, item) for item in _every(instance)))
    )
    return replace(
        facts,
        name=config.globals.router_id or str(status.get("router_id", "")) or socket.gethostname(),
        daemon=str(status.get("version", "")),
        standby=tuple(str(group["name"]) for group in status.get("groups", ()) if group["standby"]),
        edited=edited,
        policy=_policy(int(status["pid"])) if status else "",
        late_ms=float(scheduling.get("late_max_ms", 0.0)),
        forwarding4=_number("ipv4/ip_forward") == 1,
        forwarding6=_number("ipv6/conf/all/forwarding") == 1,
        missing=probes.missing(config),
        instances=tuple(_instance(one, config, states.get(one.name)) for one in config.instances),
        devices=tuple(_devices(devices)),
        follows=tuple(_follows(config, status.get("follow", ()))),
        services=tuple(services.collect(config, status.get("services", ()))),
        checks=tuple(services.collect_checks(config, status.get("checks", ()))),
        ruleset=ruleset.read(),
        clock=time.time(),
    ), config


def _follows(config: Config, states: Iterable[Json]) -> Iterator[FollowFacts]:
    """Yield the networks that follow the role, as the daemon and /etc/config/network have them."""
    if not config.follows:
        return
    try:
        with open(NETWORK, encoding="utf-8", errors="replace") as file:
            network = file.read(uci.LARGEST_FILE)
    except OSError:
        network = ""
    sections = uci.read(network, NETWORK).sections
    duid = next((_text(one, "dhcp_default_duid") for one in sections if one.type == "globals"), "")
    written = {one.name: one for one in sections if one.type == "interface" and one.name}
    pppoe = {name for name, one in written.items() if _text(one, "proto") == "pppoe"}
    daemon = {str(state["name"]): state for state in states}
    links = {link.name: link.mac.hex(":") for link in dump_links() if link.mac}
    devices = {follow.name: follow.device for follow in config.follows}
    shares = tuple(sorted(_shares(written)))
    zones = zone_devices(network, config.follows)
    for follow in config.follows:
        section, state = written.get(follow.name), daemon.get(follow.name, {})
        alias = "" if follow.name in pppoe else f"@{follow.name}"  # with PPPoE, it is on pppd's device
        own = {} if section is None else {n: one.values[-1].text for n, one in section.options.items()}
        yield FollowFacts(
            name=follow.name,
            device=devices.get(follow.parent, follow.device),
            parent=follow.parent,
            mac=follow.mac,
            state=str(state.get("state", "")),
            problem=str(state.get("problem") or ""),
            present=follow.device in links,
            same_mac=tuple(
                name for name, mac in links.items() if mac == follow.mac and name != follow.device
            ),
            known=bool(written),
            placed=own.get("device", own.get("ifname", "")),
            proto=own.get("proto", ""),
            session=follow.session,
            seen=found if (found := zones.get(follow.name, "")) != follow.device else "",
            clientid="" if follow.name in pppoe else own.get("clientid") or duid,
            username=own.get("username", ""),
            hostname="" if follow.name in pppoe else own.get("hostname") or socket.gethostname(),
            held=not follow.port
            or any(_text(other, "device", "ifname") == follow.port for other in written.values()),
            auto=section is not None and own.get("auto", "1") not in FALSE,
            unfollowed=tuple(
                name
                for name, other in written.items()
                if name not in devices
                and _text(other, "proto") == "dhcpv6"
                and _text(other, "device", "ifname") in (follow.device, alias)
            ),
            shares=shares if follow.parent else (),
        )


def _shares(written: Mapping[str, uci.Section]) -> Iterator[str]:
    """Yield, for each network, the options that decide which part of a prefix and which address it gets."""
    for name, section in written.items():
        if assign := _text(section, "ip6assign"):
            more = [f"{option} {_text(section, option)}" for option in _IP6 if option in section.options]
            yield " ".join((name, f"ip6assign {assign}", *more))


_IP6 = ("ip6hint", "ip6ifaceid", "ip6class")


def _text(section: uci.Section, *options: str) -> str:
    """Return the value of the first of these options that is there."""
    found = next((section.options[name] for name in options if name in section.options), None)
    return found.values[-1].text if found else ""


def _health(found: Json) -> Iterator[str]:
    """Yield the problems in the daemon's health that no other check finds."""
    for reason, what in (
        ("replication_missing", "connections are not replicated"),
        ("exceptions", "a bug in the daemon"),
    ):
        for detail in found.get(reason, ()):
            yield f"{what}: {detail}"


def _of_replication(facts: RouterFacts, replication: Json) -> RouterFacts:
    links = []
    for peer in replication["channel"]["peers"]:
        up = peer["state"] == "up"
        links.append(
            LinkFacts(
                name=str(peer["name"]),
                up=up,
                error=str(peer["last_error"]),
                in_step=up
                and (not peer["streaming"] or peer["in_step"])
                and (not peer["peer_streaming"] or peer["held_in_step"]),
            )
        )
    unkept = (replication["gate"] or {}).get("trouble", ())
    stale = tuple(map(str, replication["stale"]))
    return replace(facts, links=tuple(links), stale=stale, unkept=tuple(map(str, unkept)))


def _sync_options(found: ConntrackSync | None) -> Iterator[str]:
    """Yield the options that decide which connections survive a takeover, and how surely."""
    if found is None:
        return
    yield f"address {' '.join(sorted(found.only_networks)) or 'any'}"
    yield f"ignore_address {' '.join(sorted(found.ignore_networks)) or 'none'}"
    for option, protocols in (("protocol", found.protocols), ("ignore_protocol", found.ignore_protocols)):
        names = sorted(PROTOCOL_NAMES.get(number, str(number)) for number in protocols)
        yield f"{option} {' '.join(names) or ('any' if option == 'protocol' else 'none')}"
    yield f"tcp_state {' '.join(sorted(STATE_NAMES[number] for number in found.tcp_states)) or 'any'}"
    yield f"zone {' '.join(map(str, sorted(found.zones))) or 'any'}"
    yield f"local {int(found.local)}"
    yield f"limit_entries {found.limit_entries}"
    yield f"guarantee {found.guarantee or 'none'}"


def _on_devices(config: Config, states: dict[str, Json]) -> Config:
    """Return the configuration with devices instead of OpenWrt's networks that the daemon knows."""
    devices = {
        str(state["interface"]): str(state["device"] or state["interface"]) for state in states.values()
    }

    def place(address: Address) -> Address:
        return replace(address, device=address.device and devices.get(address.device, address.device))

    instances = tuple(
        replace(
            instance,
            interface=devices.get(instance.interface, instance.interface),
            virtual_addresses=tuple(map(place, instance.virtual_addresses)),
            excluded_addresses=tuple(map(place, instance.excluded_addresses)),
        )
        for instance in config.instances
    )
    return replace(config, instances=instances)


def _edited(config: Config, states: dict[str, Json]) -> bool:
    """Return whether the daemon's instances differ from the file's."""
    if states.keys() != {instance.name for instance in config.instances}:
        return True
    for instance in config.instances:
        state = states[instance.name]
        running = (
            state["interface"], state["virtual_router_id"], state["version"], state["priority"]["base"],
            state["advert_int_ms"], state["preempt"], state["snat"],
        )  # fmt: skip
        written = (
            instance.interface, instance.virtual_router_id, instance.version, instance.priority,
            instance.advert_int_cs * 10, instance.preempt, instance.snat,
        )  # fmt: skip
        addresses = sorted(text.partition(" ")[0] for text in state["addresses"])
        wanted = sorted(f"{item.address}/{item.prefixlen}" for item in _every(instance))
        if running != written or addresses != wanted:
            return True
    return False


def _instance(instance: Instance, config: Config, state: Json | None) -> InstanceFacts:
    group = next((item for item in config.groups if instance.name in item.members), None)
    facts = InstanceFacts(
        name=instance.name,
        interface=instance.interface,
        family=instance.family,
        virtual_router_id=instance.virtual_router_id,
        version=instance.version,
        priority=instance.priority,
        preempt=instance.preempt,
        advert_int_cs=instance.advert_int_cs,
        addresses=tuple(f"{item.address}/{item.prefixlen}" for item in instance.virtual_addresses),
        places=tuple(_place(instance, item) for item in instance.virtual_addresses),
        auth=digest(instance.auth_pass) if instance.auth_pass else "",
        unicast=instance.unicast_peers,
        group=group.name if group and not group.implicit else "",
        use_vmac=instance.use_vmac is not None,
        vmac=instance.use_vmac or "",
        dhcp=instance.dhcp,
        snat=instance.snat or "",
        default_route=any(route.destination in ("0.0.0.0/0", "::/0") for route in instance.routes),
    )
    if state is None:
        return facts
    peer = state["peer"] or {}
    stranger = state.get("stranger")
    return replace(
        facts,
        state=str(state["state"]),
        faults=tuple(map(str, state["faults"])),
        source=str(state["source"] or ""),
        peer=str(peer.get("address", "")),
        silence_s=float(peer.get("last_advert_s", 0.0)),
        stranger="" if stranger is None else _said(stranger),
        strangers_ignored=int(state["counters"].get("strangers_ignored", 0)),
    )


def _said(advert: dict[str, Any]) -> str:
    return f"{advert['address']} (priority {advert['priority']}, interval {advert['interval_ms'] / 1000:g} s)"


def _every(instance: Instance) -> tuple[Address, ...]:
    return instance.virtual_addresses + instance.excluded_addresses


def _place(instance: Instance, address: Address) -> str:
    """Return the device that carries the address."""
    if address.device:
        return address.device
    on_vmac = address.family == instance.family
    return instance.use_vmac if instance.use_vmac and on_vmac else instance.interface


def digest(value: bytes) -> str:
    """Return a digest, by which two routers compare a secret without telling it."""
    return blake2b(value, digest_size=8, person=b"tandem doctor").hexdigest()


def _devices(names: Iterable[str]) -> Iterator[DeviceFacts]:
    names = tuple(names)
    links = {link.name: link for link in dump_links()}
    addresses: dict[int, list[str]] = {}
    for message in dump_addresses():
        addresses.setdefault(message.ifindex, []).append(text(message.address))
    for name in names:
        link = links.get(name)
        if link is None:
            yield DeviceFacts(name)
            continue
        yield DeviceFacts(
            name,
            present=True,
            up=link.is_up,
            mtu=link.mtu,
            mac=link.mac.hex(":") if link.mac else "",
            addresses=tuple(addresses.get(link.ifindex, ())),
            rp_filter=_greatest("rp_filter", name),
            arp_ignore=_greatest("arp_ignore", name),
        )


def _policy(pid: int) -> str:
    """Return how the kernel schedules the process now; "" when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    priority, policy = int(fields[37]), int(fields[38])  # proc(5): rt_priority (40), policy (41)
    return f"FIFO {priority}" if policy == os.SCHED_FIFO else _POLICIES.get(policy, f"policy {policy}")


def _greatest(setting: str, device: str) -> int:
    """Return the value in force: the greater one of this device's and of all devices' (ip-sysctl.rst)."""
    return max(_number(f"ipv4/conf/{name}/{setting}") for name in (device, "all"))


def _number(key: str) -> int:
    """Return a value under /proc/sys/net; 0 when there is none."""
    try:
        with open(f"/proc/sys/net/{key}") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
