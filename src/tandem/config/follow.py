# SPDX-License-Identifier: GPL-2.0-or-later
"""The networks that follow the role of a group: `list follow` of groups, and the sections `follow`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from tandem.config.names import Names
from tandem.config.read import Item, Parsed
from tandem.config.schema import Follow
from tandem.core.settings import Group, Instance, Track


class Follows:
    """Finds the followed networks of all groups, and reports what is wrong with them."""

    def __init__(self, names: Names, instances: Mapping[str, Instance]) -> None:
        self._names = names
        self._instances = instances
        self._owners: dict[str, str] = {}  # network: its group
        self.found: dict[str, Follow] = {}

    def settle(self, group: Group, parsed: Parsed) -> Group:
        """Return the group with its networks and their ports; `parsed` is the section that lists them."""
        for item in parsed.all("follow"):
            network = item.value
            if network in self._owners:
                parsed.error(f"follows the group '{self._owners[network]}' already", "follow", item)
            else:
                self._owners[network] = group.name
                self.found[network] = self._details(network)
        follow = tuple(name for name, owner in self._owners.items() if owner == group.name)
        for name in follow:
            if (line := self.found[name].parent) and (line not in follow or not self.found[line].port):
                section = self._names.sections["follow"][name]
                section.error("names no network with a port that the same group follows", "interface")
        tracked = {track.name for track in group.tracks if track.kind == "interface"}
        ports = dict.fromkeys(port for name in follow if (port := self.found[name].port))
        tracks = tuple(Track("interface", port) for port in ports if port not in tracked)
        return replace(group, follow=follow, tracks=(*group.tracks, *tracks))

    def misplaced(self, parsed: Parsed, group: str) -> None:
        """Report the list of an instance that is in a group."""
        for item in parsed.all("follow")[:1]:
            parsed.error(f"this instance is in the group '{group}': list it there", "follow", item)

    def check(self, groups: Iterable[Parsed], instances: Iterable[Parsed], channel: bool) -> None:
        """Report other uses of the networks."""
        down = "is down on every router but the MASTER"
        for parsed in (*groups, *instances):
            for item in parsed.all("track_interface"):
                if (name := item.text.split()[0]) in self.found:
                    parsed.error(f"'{name}' {down}; its port is tracked anyway", "track_interface", item)
        for parsed in instances:
            if parsed.get("interface") in self.found:
                parsed.error(f"this network {down}, because it follows a group", "interface")
        if self.found and not channel:
            place = next(p for p in (*groups, *instances) if p.all("follow"))
            place.warn(
                "the lease is not told to another router: there is no channel, see config peer", "follow"
            )

    def _details(self, network: str) -> Follow:
        section = self._names.sections["follow"].get(network)
        if section is None:
            return Follow(network)
        self._names.used.add(("follow", network))
        port, device, mac = (section.get(option) for option in ("interface", "device", "mac"))
        if not port or port.startswith("@"):
            for option in ("device", "mac", "session"):
                if section.given(option) and section.get(option) != "dial":
                    section.error("needs option interface, the port of the line", option)
            return Follow(network, port or "")
        device = device or f"{network}0"
        if not mac and not section.given("mac"):
            section.error("is missing: the MAC address that the provider sees", "mac")
        self._device_is_new(section, network, port, device)
        return Follow(network, port, device, mac or "", section.get("session"))

    def _device_is_new(self, section: Parsed, network: str, port: str, device: str) -> None:
        taken = {instance.interface for instance in self._instances.values()}
        taken |= {instance.use_vmac for instance in self._instances.values() if instance.use_vmac}
        taken |= {follow.device for follow in self.found.values()} | {port, network}
        if device in taken:
            item = Item(None, device, section.line("device"))
            section.error("is another interface: give a new name", "device", item)
