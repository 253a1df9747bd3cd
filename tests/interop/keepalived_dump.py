# SPDX-License-Identifier: GPL-2.0-or-later
"""keepalived's view of a configuration, and Tandem's view of the import, in one form.

`Dump` reads the lines of keepalived's --dump-conf, `view` writes a Config of Tandem's as the same
dictionaries. Both name the options as keepalived's dump does, so that a difference can be read.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from tandem.config.schema import Config, Script
from tandem.config.syntax.track import MOST_WEIGHT
from tandem.config.values import decimal
from tandem.core.settings import Address, Instance, Route, Rule
from tests.lab import Host, wait_until
from tests.lab.lab import open_log

Fields = dict[str, Any]
LONGEST_START_S = 10
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}
_OPTIONS = {"VRRP Version", "Wantstate", "Interface", "Virtual Router ID", "Priority", "Accept", "Preempt",
            "Promote_secondaries", "Gratuitous ARP delay", "Gratuitous ARP repeat", "Gratuitous ARP refresh",
            "Gratuitous ARP refresh repeat", "Gratuitous ARP lower priority delay",
            "Gratuitous ARP lower priority repeat", "Down timer adverts", "Preempt delay", "Password",
            "Unicast TTL", "Check unicast src"}  # fmt: skip
_BLOCKS = {
    "Virtual IP": "addresses", "Virtual IP Excluded": "excluded", "Unicast Peer": "peers",
    "Virtual Routes": "routes", "Virtual Rules": "rules", "Tracked interfaces": "interfaces",
    "Tracked scripts": "scripts", "VRRP member instances": "members",
}  # fmt: skip


class Refused(Exception):
    """keepalived does not start with the configuration."""


class Dump:
    """keepalived's view: its instances, groups and scripts by name."""

    def __init__(self, text: str) -> None:
        self.instances: dict[str, Fields] = {}
        self.groups: dict[str, Fields] = {}
        self.scripts: dict[str, Fields] = {}
        self.checks_peers = "VRRP check unicast_src = true" in text
        self.static: dict[str, list[str]] = {"Addresses": [], "Routes": [], "Rules": []}
        for kind, found in self.static.items():
            lines = text.partition(f"---< Static {kind} >")[2].partition("---<")[0].splitlines()
            found += [line[25:].strip() for line in lines[1:] if line[25:].startswith("      ")]
        topology = text.partition("VRRP Topology")[2].partition("---< Interfaces >")[0]
        current: Fields = {}
        block = ""
        for line in topology.splitlines():
            line = line[25:]  # behind the time
            if not line.startswith("  "):
                continue  # of another process
            if match := re.fullmatch(r"  VRRP (Instance|Sync Group|Script) = (.*?)(?:, \w+)?", line):
                kind = {"Instance": self.instances, "Sync Group": self.groups, "Script": self.scripts}[
                    match[1]
                ]
                current, block = kind.setdefault(match[2], {}), ""
            elif match := re.fullmatch(r"    (\w[^=:]*?)(?: \(\d+\))? ?:", line):
                block = _BLOCKS.get(match[1], "")
            elif match := re.fullmatch(r"    ([^=]+?)(?: = | : |(?<=Multicast address) )(.*)", line):
                current[match[1]], block = match[2], ""
            elif block and line.startswith("      "):
                current.setdefault(block, []).append(line.strip())
            else:
                current[line.strip()], block = "", ""

    def view(self) -> Fields:
        """The whole dump in the form in which it can be compared."""
        return {
            **{f"instance {name}": self._instance(found) for name, found in self.instances.items()},
            **{f"tracking {name}": tracks for name, tracks in self._tracking().items()},
            **{f"script {name}": _script(found) for name, found in self.scripts.items()},
            "static": {
                "addresses": [_words_of_address(line) for line in self.static["Addresses"]],
                "routes": [route for line in self.static["Routes"] if _leads(route := _words_of_route(line))],
                "rules": [_words_of_rule(line) for line in self.static["Rules"]],
            },
        }

    def _instance(self, found: Fields) -> Fields:
        view = _of_instance(found)
        if "Check unicast src" in view and self.checks_peers:
            view["Check unicast src"] = "yes"  # the dump has the instance's own setting only
        return view

    def _tracking(self) -> Fields:
        """The trackers of each instance or group of instances; a fault counts more than a weight."""
        grouped = {member for found in self.groups.values() for member in found["members"]}
        owners = {name: [found, *(self.instances[member] for member in found["members"])]
                  for name, found in self.groups.items()}  # fmt: skip
        owners |= {name: [found] for name, found in self.instances.items() if name not in grouped}
        view: Fields = {}
        for name, parts in owners.items():
            view[name] = {}
            for kind in ("interfaces", "scripts"):
                for line in (line for part in parts for line in part.get(kind, ())):
                    what, _, weight, *way = line.split()
                    # A script's weight may be beyond what a priority of 1 to 254 can change.
                    weighs = max(-MOST_WEIGHT, min(int(weight), MOST_WEIGHT))
                    before = view[name].setdefault(f"{kind} {what}", (weighs, bool(way)))
                    if int(weight) == 0 != before[0]:
                        view[name][f"{kind} {what}"] = (0, bool(way))
        return view


def ask(host: Host, path: Path, config_id: str = "r1") -> Dump:
    """Start keepalived with a file, read its dump, and end it."""
    log = host.file("log")
    log.unlink(missing_ok=True)
    argv = ["keepalived", "--dont-fork", "--log-console", "--vrrp", "--dump-conf", f"--config-id={config_id}",
            f"-f{path}", f"-p{host.file('pid')}", f"-r{host.file('vrrp.pid')}"]  # fmt: skip
    with open_log(host) as output:
        process = host.popen(*argv, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(
            lambda: process.poll() is not None or "---< Interfaces >" in log.read_text(errors="replace"),
            LONGEST_START_S,
            "keepalived's dump",
        )
    finally:
        # Nothing is set yet: without ceremony, it ends a second earlier.
        for name in ("vrrp.pid", "pid"):
            with suppress(OSError, ValueError):
                os.kill(int(host.file(name).read_text()), signal.SIGKILL)
            host.file(name).unlink(missing_ok=True)
        process.kill()
        process.wait(LONGEST_START_S)
        host.children.remove(process)
    text = log.read_text(errors="replace")
    if "---< Interfaces >" not in text:
        raise Refused(text)
    return Dump(text)


# keepalived's words


def _of_instance(found: Fields) -> Fields:
    view = {option: found[option] for option in _OPTIONS if option in found}
    view["Interface"] = found["Interface"].partition(",")[0]
    number, unit = found["Advert interval"].split()
    view["Advert interval"] = Decimal(number) / (1000 if unit == "milli-sec" else 1)
    if "Multicast address" in found:
        view["Multicast address"] = found["Multicast address"].partition(",")[0]
    if found.get("Using src_ip", "").endswith("(from configuration)"):
        view["src_ip"] = found["Using src_ip"].partition(" ")[0]
    if found.get("peers"):
        view["peers"] = {line.partition(" ")[0] for line in found["peers"]}
    else:
        view.pop("Check unicast src", None)
    if "VRRP interface tracking disabled" in found:
        view["dont_track_primary"] = True
    carried: set[tuple[str, str]] = set()
    for kind in ("addresses", "excluded"):
        # The kernel takes an address once for a device.
        view[kind] = []
        for line in map(_words_of_address, found.get(kind, ())):
            if (line["address"], line["dev"]) not in carried:
                carried.add((line["address"], line["dev"]))
                view[kind].append(line)
    routes = [_words_of_route(line) for line in found.get("routes", ())]
    view["routes"] = routes
    view["rules"] = [_words_of_rule(line) for line in found.get("rules", ())]
    if view.get("Preempt delay", "").find("e-") > 0:  # `3s` are 3 us to keepalived
        del view["Preempt delay"]
    return view


def _words_of_address(line: str) -> Fields:
    words = line.split()
    view = {"address": str(ipaddress.ip_interface(words[0]))}
    for word, value in pairwise(words):
        if word in ("brd", "scope", "label", "peer"):
            view[word] = value
        elif word == "dev":
            view[word] = value.partition("@")[0]
        elif word == "preferred_lft" and value != "forever":
            view[word] = value
    if "deprecated" in words:
        view["preferred_lft"] = "0"
    return view


def _words_of_route(line: str) -> Fields:
    head, *hops = line.removesuffix(" no_track").split(" nexthop")
    _, *words = head.replace(" via inet6 ", " via ").replace(" via inet ", " via ").split()
    view: Fields = {"type": words.pop(0) if words[0].isalpha() and words[0] != "default" else "unicast"}
    view["to"] = str(ipaddress.ip_network(words[0], strict=False))
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word in ("src", "tos", "via", "dev", "table", "scope", "metric", "mtu", "advmss"):
            view[word] = words[words.index(word) + 2] if value == "lock" else value
        elif word == "onlink":
            view[word] = True
    if hops:
        view["hops"] = [re.sub(r" inet6?| realms? \S+| weight 1\b", "", hop).strip() for hop in hops]
    return view


def _leads(route: Fields) -> bool:
    """Whether the route leads somewhere, or is meant to lead nowhere: the kernel refuses others."""
    return route["type"] != "unicast" or bool({"via", "dev", "hops"} & set(route))


def _words_of_rule(line: str) -> Fields:
    words = line.split()
    view: Fields = {word: True for word in ("not", "inet6") if word in words}
    for word, value in pairwise(words):
        if word in ("from", "to"):
            network = ipaddress.ip_network("0.0.0.0/0" if value == "all" else value, strict=False)
            view[word] = str(network) if network.prefixlen else "all"
        elif word in ("priority", "fwmark", "iif", "oif", "suppress_prefixlen", "lookup", "goto", "type") or (
            word == "tos" and value != "0x0"
        ):
            view[word] = value
    return view


def _script(found: Fields) -> Fields:
    return {
        "Command": _real(shlex.split(found["Command"])),
        **{option: found[option].partition(" ")[0] for option in ("Interval", "Rise", "Fall")},
        "Timeout": found["Interval" if found["Timeout"] == "0 sec" else "Timeout"].partition(" ")[0],
    }


def _real(command: list[str]) -> list[str]:
    """The command with the path of its program as keepalived has it: without links."""
    return [str(Path(command[0]).resolve()), *command[1:]]


# Tandem's


def view(config: Config) -> Fields:
    """The same view of an imported configuration."""
    processes = {script.name for script in config.scripts if script.argv[:1] == ("/bin/pidof",)}
    of = {instance.name: instance for instance in config.instances}
    tracking: Fields = {}
    for group in config.groups:
        tracks = [*(track for name in group.members for track in of[name].tracks), *group.tracks]
        # keepalived tracks a process only where the kernel tells of them.
        tracking[group.name] = {
            f"{track.kind}s {track.name}": (track.weight, track.reverse)
            for track in tracks
            if track.name not in processes
        }
    used = {name.removeprefix("scripts ") for found in tracking.values() for name in found}
    return {
        **{f"instance {found.name}": instance_view(found) for found in config.instances},
        **{f"tracking {name}": found for name, found in tracking.items()},
        **{f"script {found.name}": _script_view(found) for found in config.scripts if found.name in used},
        "static": {
            "addresses": [_address_view(address, Instance("", "", 1)) for address in config.static_addresses],
            "routes": [_route_view(route) for route in config.static_routes],
            "rules": [_rule_view(rule) for rule in config.static_rules],
        },
    }


def instance_view(found: Instance) -> Fields:
    """An instance of Tandem's as keepalived would write it down."""
    garp = found.garp
    words: Fields = {
        "VRRP Version": str(found.version),
        "Wantstate": "MASTER" if found.initial_master else "BACKUP",
        "Interface": found.use_vmac or found.interface,
        "Virtual Router ID": str(found.virtual_router_id),
        "Priority": str(found.priority),
        "Advert interval": Decimal(decimal(found.advert_int_cs, 2)),
        "Accept": "enabled" if found.accept else "disabled",
        "Preempt": "enabled" if found.preempt else "disabled",
        "Promote_secondaries": "enabled" if found.promote_secondaries else "disabled",
        "Gratuitous ARP delay": decimal(garp.delay_ms, 3),
        "Gratuitous ARP repeat": str(garp.repeat),
        "Gratuitous ARP refresh": decimal(garp.refresh_ms, 3),
        "Gratuitous ARP refresh repeat": str(garp.refresh_repeat),
        "Gratuitous ARP lower priority delay": decimal(garp.lower_prio_delay_ms, 3),
        "Gratuitous ARP lower priority repeat": str(garp.lower_prio_repeat),
        "Down timer adverts": str(found.down_timer_adverts),
        "addresses": [_address_view(address, found) for address in found.virtual_addresses],
        "excluded": [_address_view(address, found) for address in found.excluded_addresses],
        "routes": [_route_view(route) for route in found.routes],
        "rules": [_rule_view(rule) for rule in found.rules],
    }
    if found.preempt_delay_ms:
        words["Preempt delay"] = decimal(found.preempt_delay_ms, 3) + " secs"
    if found.auth_pass:
        words["Password"] = found.auth_pass.decode()
    if not found.track_primary:
        words["dont_track_primary"] = True
    if found.unicast_peers:
        words["peers"] = set(found.unicast_peers)
        words["Check unicast src"] = "yes" if found.check_unicast_src else "no"
        if found.family == 4 or found.unicast_ttl != 255:
            words["Unicast TTL"] = str(found.unicast_ttl)
    else:
        words["Multicast address"] = found.multicast_group
    if source := found.unicast_src_ip or found.mcast_src_ip:
        words["src_ip"] = source
    return words


def _address_view(address: Address, instance: Instance) -> Fields:
    own = instance.use_vmac if instance.use_vmac and address.family == instance.family else instance.interface
    device = own if address.device in (None, instance.interface) else address.device
    found: Fields = {
        "address": str(ipaddress.ip_interface(f"{address.address}/{address.prefixlen}")),
        "dev": device,
        "scope": _SCOPES.get(address.scope, str(address.scope)),
    }
    if address.broadcast:
        found["brd"] = address.broadcast
    if address.label:
        found["label"] = address.label
    if address.peer:
        found["peer"] = f"{address.peer}/{address.prefixlen}"
    if address.preferred_lifetime_s is not None:
        found["preferred_lft"] = str(address.preferred_lifetime_s)
    return found


def _route_view(route: Route) -> Fields:
    found: Fields = {"type": route.kind, "to": route.destination}
    values = {"src": route.source, "via": route.via, "dev": route.device, "metric": route.metric,
              "scope": route.scope, "mtu": route.mtu, "advmss": route.advmss}  # fmt: skip
    found |= {word: str(value) for word, value in values.items() if value is not None}
    found |= {"table": str(route.table)} if route.table != 254 else {}
    found |= {"tos": str(route.tos)} if route.tos else {}
    found |= {"onlink": True} if route.onlink else {}
    if route.nexthops:
        found["hops"] = [
            " ".join(
                [
                    *(["via", hop.via] if hop.via else []),
                    *(["dev", hop.device] if hop.device else []),
                    *(["weight", str(hop.weight)] if hop.weight != 1 else []),
                    *(["onlink"] if hop.onlink else []),
                ]
            )
            for hop in route.nexthops
        ]
    return found


def _rule_view(rule: Rule) -> Fields:
    found: Fields = {"from": rule.source or "all"}
    values = {"to": rule.destination, "iif": rule.iif, "oif": rule.oif, "priority": rule.priority,
              "suppress_prefixlen": rule.suppress_prefixlength, "lookup": rule.table,
              "goto": rule.goto}  # fmt: skip
    found |= {word: str(value) for word, value in values.items() if value is not None}
    found |= {"not": True} if rule.invert else {}
    found |= {"tos": hex(rule.tos)} if rule.tos else {}
    if rule.fwmark is not None:
        mask = "" if rule.fwmask in (None, 0xFFFFFFFF) else f"/{rule.fwmask:#x}"
        found["fwmark"] = f"{rule.fwmark:#x}{mask}"
    if rule.family == 6 and not rule.source and not rule.destination:
        found["inet6"] = True
    if rule.action not in ("lookup", "goto"):
        found["type"] = rule.action
    return found


def _script_view(script: Script) -> Fields:
    return {
        "Command": _real(list(script.argv)),
        "Interval": decimal(script.interval_ms, 3),
        "Timeout": decimal(script.timeout_ms, 3),
        "Rise": str(script.rise),
        "Fall": str(script.fall),
    }


def compared(ours: Fields, theirs: Fields) -> list[str]:
    """Return the differences, except for the intended ones (see INTENDED)."""
    found = []
    for thing in {**theirs, **ours}:
        mine, its = ours.get(thing), theirs.get(thing)
        if mine is None or its is None:
            found.append(f"{thing}: {'only in keepalived' if mine is None else 'only in Tandem'}")
            continue
        for option in {**its, **mine}:
            left, right = mine.get(option), its.get(option)
            if left != right and not _is_intended(option, left, right, its):
                found.append(f"{thing}: {option}: Tandem {left!r}, keepalived {right!r}")
    return found


def _is_intended(option: str, ours: Any, theirs: Any, its: Fields) -> bool:
    return any(applies(option, ours, theirs, its) for _, applies in INTENDED)


def _numbered(option: str, ours: Any, theirs: Any, _its: Fields) -> bool:
    if option != "rules":
        return False
    numbers = {str(number) for number in range(16_300, 16_385)}
    without = [{k: v for k, v in rule.items() if k != "priority" or v not in numbers} for rule in theirs]
    return without == ours


def _no_ttl(option: str, _ours: Any, theirs: Any, _its: Fields) -> bool:
    return option == "Unicast TTL" and theirs == "0"


# Each with its reason. A tracked process, which becomes a script that looks for it, is not compared at all.
INTENDED: tuple[tuple[str, Callable[[str, Any, Any, Fields], bool]], ...] = (
    ("keepalived numbers rules without a priority; Tandem leaves that to the kernel", _numbered),
    ("the kernel refuses a TTL of 0, and keepalived goes on with another one", _no_ttl),
)
