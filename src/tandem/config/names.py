# SPDX-License-Identifier: GPL-2.0-or-later
"""Names in lists: sections that other sections refer to, and values written in place.

One value of a list may be a name, several names with blanks between them (that is what
config_get makes of a UCI list, so users write it), or a text in keepalived.conf's syntax.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tandem.config import values
from tandem.config.options.check import NETWORK
from tandem.config.options.objects import RULE_WORDS
from tandem.config.problem import suggestion
from tandem.config.read import Item, Parsed
from tandem.config.schema import PeerPath
from tandem.config.syntax.address import label, make_address, read_address
from tandem.config.syntax.route import read_route
from tandem.config.syntax.rule import read_rule
from tandem.config.syntax.track import read_track
from tandem.core.settings import Address, Route, Rule, Track

MOST_PATHS = 8  # of one peer

_LIKE_A_NAME = re.compile(r"[^\W\d][^\s/:.]*|<[^\s]*>")
_REFERRED = {  # section type: what refers to it
    "ipaddress": "virtual_ipaddress",
    "route": "virtual_routes",
    "rule": "virtual_rules",
    "track_interface": "track_interface",
    "track_script": "track_script",
    "peer": "unicast_peer or conntrack_sync",
    "vrrp_script": "track_script",
    "check": "track_check, internet, service or real server",
    "internet": "track_internet",
    "follow": "follow of a group",
    "real_server": "virtual_server",
}


class Names:
    """The named sections of a file, by type; a section in error has the value None."""

    def __init__(self, sections: Mapping[str, list[Parsed]]) -> None:
        self.sections: dict[str, dict[str, Parsed]] = {}
        for kind in (*_REFERRED, "vrrp_instance", "vrrp_sync_group", "service"):
            self.sections[kind] = {}
            for parsed in sections.get(kind, []):
                self._add(kind, parsed)
        self.used: set[tuple[str, str]] = set()
        self.addresses: dict[str, Address | None] = self._values("ipaddress", _address)
        self.routes: dict[str, Route | None] = self._values("route", _route)
        self.rules: dict[str, Rule | None] = self._values("rule", _rule)
        self.peers: dict[str, tuple[PeerPath, ...] | None] = self._values("peer", _paths)
        self.interfaces: dict[str, Track | None] = self._values("track_interface", self._track_interface)
        self.scripts: dict[str, Track | None] = self._values("track_script", self._track_script)

    def _add(self, kind: str, parsed: Parsed) -> None:
        known = self.sections[kind]
        if not parsed.name:
            if not parsed.given("name"):
                parsed.error("has no name: nothing can refer to it", "name")
        elif parsed.name in known:
            parsed.error(
                f"the {kind} at line {known[parsed.name].line()} has this name too: give another", "name"
            )
        else:
            known[parsed.name] = parsed

    def _values(self, kind: str, make: Callable[[Parsed], Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, parsed in self.sections[kind].items():
            try:
                found[name] = make(parsed)
            except ValueError as error:
                parsed.error(str(error))
                found[name] = None
        return found

    # lists

    def hint(self, word: str, known: Iterable[str]) -> str:
        """Return the end of a message about an unknown name: the nearest known name, or all names."""
        known = sorted(known)
        near = suggestion(word, known)
        if near or not known:
            return near
        return f"; there {'is' if len(known) == 1 else 'are'} {', '.join(known[:8])}" + (
            ", ..." if len(known) > 8 else ""
        )

    def like_a_name(self, word: str) -> bool:
        """Whether a word that could not be read was meant as a name."""
        return _LIKE_A_NAME.fullmatch(word) is not None

    def split(self, parsed: Parsed, option: str) -> list[Item]:
        """Return the words of a list of names."""
        return [Item(word, word, item.line) for item in parsed.all(option) for word in item.text.split()]

    def _resolve(
        self, parsed: Parsed, option: str, kind: str, named: dict[str, Any], in_place: Callable[[str], Any]
    ) -> list[Item]:
        """Return the values of a list; names of sections in error are left out, other errors are reported."""
        found = []
        for item in parsed.all(option):
            words = item.text.split()
            if words and all(word in named for word in words):
                for word in words:
                    self.used.add((kind, word))
                    if named[word] is not None:
                        found.append(Item(named[word], word, item.line))
                continue
            try:
                found.append(Item(in_place(item.text), item.text, item.line))
            except ValueError as error:
                if len(words) == 1 and self.like_a_name(words[0]):
                    reason = f"there is no {kind} of this name" + self.hint(words[0], named)
                    parsed.error(reason, option, item)
                else:
                    parsed.error(str(error), option, item)
        parsed.resolved[option] = found
        return found

    def address(self, parsed: Parsed, option: str) -> list[Item]:
        return self._resolve(parsed, option, "ipaddress", self.addresses, read_address)

    def route(self, parsed: Parsed, option: str) -> list[Item]:
        return self._resolve(parsed, option, "route", self.routes, read_route)

    def rule(self, parsed: Parsed, option: str) -> list[Item]:
        return self._resolve(parsed, option, "rule", self.rules, read_rule)

    def peer(self, parsed: Parsed, option: str, family: int, interface: str) -> list[Item]:
        """Return the addresses of unicast_peer; of a peer with several, the address that fits best."""
        items = []
        for item in parsed.all(option):
            if "ttl" in item.text:
                parsed.error("min_ttl and max_ttl are not supported", option, item)
            else:
                items += [Item(word, word, item.line) for word in item.text.split()]
        parsed.items[option] = items
        named = {
            name: found and _nearest_address(found, family, interface) for name, found in self.peers.items()
        }
        return self._resolve(parsed, option, "peer", named, values.ADDRESS.read)

    # trackers

    def tracks(self, parsed: Parsed) -> tuple[Track, ...]:
        """Return what an instance or a group tracks, each thing once, interfaces first."""
        found: dict[tuple[str, str], Track] = {}
        for kind in ("interface", "script", "check", "internet"):
            option = f"track_{kind}"
            for item in self._track_items(parsed, option):
                track = self._track(parsed, option, kind, item)
                if track is None:
                    continue
                before = found.setdefault((kind, track.name), track)
                if before != track:
                    reason = f"{kind} '{track.name}' is tracked with another weight already"
                    parsed.error(reason, option, item)
                elif before is not track:
                    parsed.warn(f"{kind} '{track.name}' is tracked already", option, item)
        return tuple(found.values())

    def _track_items(self, parsed: Parsed, option: str) -> list[Item]:
        items = []
        for item in parsed.all(option):
            words = item.text.split()
            if any(word in ("weight", "reverse", "noreverse") for word in words[1:]):
                items.append(item)
            else:
                items += [Item(word, word, item.line) for word in words]
        return items

    def _track(self, parsed: Parsed, option: str, kind: str, item: Item) -> Track | None:
        named = {"interface": self.interfaces, "script": self.scripts}.get(kind, {})
        if item.text in named:
            self.used.add((option, item.text))
            return named[item.text]
        try:
            track = read_track(kind, item.text, (0, False))
        except ValueError as error:
            parsed.error(str(error), option, item)
            return None
        if kind == "interface":
            return track
        defaults = {"check": self._check_default, "internet": self._internet_default}
        default = defaults.get(kind, self._script_default)(track.name)
        if default is None:
            known = {*self.sections["vrrp_script"], *self.sections["track_script"]}
            reason = f"there is no track_script or vrrp_script '{track.name}'"
            if kind == "check":
                known, reason = {*self.sections["check"]}, f"there is no check '{track.name}'"
            if kind == "internet":
                known, reason = {*self.sections["internet"]}, f"there is no internet section '{track.name}'"
            parsed.error(reason + self.hint(track.name, known), option, item)
            return None
        track = read_track(kind, item.text, default)
        if kind == "internet" and track.weight == 0:
            parsed.error("has weight 0: no router would stay MASTER when the provider fails", option, item)
        return track

    def _script_default(self, name: str) -> tuple[int, bool] | None:
        """Return the weight of a vrrp_script and whether it is reversed; None without such a script."""
        script = self.sections["vrrp_script"].get(name)
        if script is None:
            return None
        self.used.add(("vrrp_script", name))
        weight, reverse = script.get("weight")
        direction = script.get("direction")
        return weight, reverse if direction is None else direction == "reverse"

    def _internet_default(self, name: str) -> tuple[int, bool] | None:
        """Return the weight of a way out and whether it is reversed; None without such a section."""
        parsed = self.sections["internet"].get(name)
        if parsed is None:
            return None
        self.used.add(("internet", name))
        weight, reverse = parsed.get("weight")
        return weight, reverse

    def _check_default(self, name: str) -> tuple[int, bool] | None:
        """Return the weight of a check and whether it is reversed; None without such a check."""
        parsed = self._check_alone(name)
        if parsed is None:
            return None
        weight, reverse = parsed.get("weight")
        return weight, reverse

    def _check_alone(self, name: str) -> Parsed | None:
        """Return the section of a check that needs its own host; None: there is none of this name."""
        parsed = self.sections["check"].get(name)
        if parsed is None:
            return None
        if ("check alone", name) not in self.used:
            kind = parsed.get("kind")
            if kind in NETWORK and not parsed.given("host"):
                parsed.error(f"is missing: a check of kind {kind} needs it", "host")
            if kind == "tcp" and not parsed.get("port"):
                parsed.error("is missing: which port is connected to?", "port")
            self.used |= {("check alone", name), ("check", name)}
        return parsed

    def checks(self, parsed: Parsed, option: str, alone: bool = True) -> tuple[str, ...]:
        """Return the names of the checks in a list; not `alone`: the section has an address for them."""
        known = self.sections["check"]
        found = self.split(parsed, option)
        for item in found:
            self.used |= set() if alone else {("check", item.text)}
            if item.text not in known or (alone and self._check_alone(item.text) is None):
                reason = "there is no check of this name" + self.hint(item.text, known)
                parsed.error(reason, option, item)
        return tuple(dict.fromkeys(item.text for item in found if item.text in known))

    def _track_interface(self, section: Parsed) -> Track | None:
        name = section.get("value")
        reverse = section.get("direction") == "reverse"
        return Track("interface", name, section.get("weight"), reverse) if name else None

    def _track_script(self, section: Parsed) -> Track | None:
        name, weight, direction = section.get("value"), section.get("weight"), section.get("direction")
        if not name:
            return None
        default = self._script_default(name)
        if default is None:
            hint = self.hint(name, self.sections["vrrp_script"])
            section.error("there is no vrrp_script of this name" + hint, "value")
            return None
        return Track(
            "script",
            name,
            default[0] if weight is None else weight,
            default[1] if direction is None else direction == "reverse",
        )

    def warn_of_unused(self) -> None:
        """Warn of named sections that nothing refers to."""
        for kind, option in _REFERRED.items():
            for name, parsed in self.sections[kind].items():
                if (kind, name) not in self.used:
                    parsed.warn(f"is not used: no {option} names it")


def _address(parsed: Parsed) -> Address | None:
    found = parsed.get("address")
    if found is None:
        return None
    fields: dict[str, Any] = {"scope": parsed.get("scope")}
    device, suffix = parsed.get("device"), parsed.get("label_suffix")
    if device:
        fields["device"] = device
        # OpenWrt's keepalived package labels every address that names its device
        text = f"{device}:{suffix or 'vip'}"
        if suffix or (found.version == 4 and len(text.encode()) <= 15):
            fields["label"] = label(text)
    elif suffix:
        raise ValueError("label_suffix needs a device")
    return make_address(found, fields)


def _route(parsed: Parsed) -> Route | None:
    if parsed.get("address") is None:
        return None
    text = ["blackhole"] if parsed.get("blackhole") else []
    text += ["to", parsed.get("address"), "table", str(parsed.get("table"))]
    words = {"src": "src_addr", "via": "gateway", "dev": "device", "metric": "metric", "mtu": "mtu",
             "scope": "scope", "proto": "proto"}  # fmt: skip
    for word, option in words.items():
        if (value := parsed.get(option)) is not None:
            text += [word, str(value)]
    if parsed.get("onlink"):
        text.append("onlink")
    return read_route(" ".join(text))


def _rule(parsed: Parsed) -> Rule:
    text = [word for word in ("not", "inet6") if parsed.get(word)]
    if parsed.get("action"):
        text.append(parsed.get("action"))
    for word in RULE_WORDS:
        if (value := parsed.get(word)) is not None:
            text += [word, value]
    return read_rule(" ".join(text))


def _paths(parsed: Parsed) -> tuple[PeerPath, ...] | None:
    found: list[PeerPath] = []
    for item in parsed.all("address"):
        for path in item.value:
            if path in found:
                parsed.error("is listed twice", "address", item)
            elif len(found) == MOST_PATHS:
                parsed.error(f"a peer has at most {MOST_PATHS} addresses", "address", item)
                return tuple(found)
            else:
                found.append(path)
    return tuple(found) or None


def _nearest_address(paths: tuple[PeerPath, ...], family: int, interface: str) -> str:
    """Return the first address of the family, if possible one that does not lead over another interface."""
    fitting = [path for path in paths if (":" in path.address) == (family == 6)]
    here = [path for path in fitting if path.interface in (None, interface)]
    return (*here, *fitting, *paths)[0].address.partition("%")[0]
