# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of one vrrp_instance section, from its options together.

Where keepalived changes a setting by itself (vrrp_complete_instance() in its vrrp.c), Tandem does
the same and warns; where keepalived drops the instance, it is an error.
"""

from __future__ import annotations

from typing import Any

from tandem.config import carried, strict
from tandem.config.carried import link_local, vmac_name
from tandem.config.names import Names
from tandem.config.problem import MASK
from tandem.config.read import Parsed
from tandem.config.syntax.address import first_of_network
from tandem.core.settings import Garp, Instance, Notify, Route, Rule

DEFAULT_GROUPS = {4: "224.0.0.18", 6: "ff02::12"}
MOST_ADDRESSES = {4: 255, 6: 90}  # in one advert: an octet counts them; 1500 bytes must hold them


def build_all(found: list[Parsed], names: Names, settings: Parsed) -> dict[str, Instance]:
    """Return all instances by name, in the order of the file."""
    taken = {parsed.get("interface") for parsed in found}
    for parsed in found:
        if (vmac := vmac_name(parsed)) and isinstance(vmac, str):
            taken.add(vmac)
    instances: dict[str, Instance] = {}
    for parsed in found:
        if parsed.key not in instances:
            instances[parsed.key] = _Builder(parsed, names, settings, taken).build()
    return instances


class _Builder:
    """Builds one Instance, and reports which options contradict each other."""

    def __init__(self, parsed: Parsed, names: Names, settings: Parsed, taken: set[str | None]) -> None:
        self.parsed, self.names, self.settings, self.taken = parsed, names, settings, taken
        self.strict = self._first("strict_mode", "strict", "vrrp_strict")
        self.virtual = names.address(parsed, "virtual_ipaddress")
        self.excluded = names.address(parsed, "virtual_ipaddress_excluded")
        self.routes: tuple[Route, ...] = tuple(item.value for item in names.route(parsed, "virtual_routes"))
        self.family = self._family()
        self.version = self._version()

    def _first(self, *options: str) -> Any:
        """Return the instance's own setting; without one, the setting of globals, which is the last name."""
        for option in options[:-1]:
            if (value := self.parsed.get(option)) is not None:
                return value
        return self.settings.get(options[-1])

    def build(self) -> Instance:
        parsed = self.parsed
        peers = self._peers()
        allowed = self._allowed(peers)
        interval = self._interval()
        master = self._master()
        preempt, delay = self._preempt(master)
        addresses = tuple(item.value for item in self.virtual)
        excluded = tuple(item.value for item in self.excluded)
        both = (*addresses, *excluded)
        computed: dict[str, Any] = {
            "name": parsed.key,
            "version": self.version,
            "family": self.family,
            "advert_int_cs": interval,
            "initial_master": master,
            "preempt": preempt,
            "preempt_delay_ms": delay,
            "down_timer_adverts": self._first("down_timer_adverts", "vrrp_down_timer_adverts"),
            "accept": self._pair("accept", "no_accept"),
            "auth_pass": self._password(),
            "multicast_group": self._group(peers),
            "mcast_src_ip": None if peers else self._same_family("mcast_src_ip"),
            "unicast_src_ip": self._same_family("unicast_src_ip") if peers else None,
            "unicast_peers": peers,
            "check_unicast_src": self._first("check_unicast_src", "vrrp_check_unicast_src"),
            "allow_src": allowed,
            "strangers": parsed.get("strangers") or ("follow" if peers or allowed else "ignore"),
            "max_learned_interval_cs": self._longest_interval(interval),
            "use_vmac": self._vmac(),
            "vmac_xmit_base": self._xmit_base(peers),
            "v3_checksum_as_v2": self._checksum(),
            "virtual_addresses": addresses,
            "excluded_addresses": excluded,
            "routes": self.routes,
            "rules": self._rules(),
            **carried.dhcp(parsed, self.family, both),
            "snat": carried.snat(parsed, self.family, both, self.routes),
            "track_primary": not parsed.get("dont_track_primary"),
            "tracks": self._tracks(),
            "garp": self._garp(),
            "notify": Notify(**parsed.fields("notify")),
        }
        missing: dict[str, Any] = {"interface": "", "virtual_router_id": 0}  # errors, reported already
        instance = Instance(**missing | parsed.fields() | computed)
        return strict.apply(instance, parsed) if self.strict else instance

    # family and version

    def _family(self) -> int:
        parsed = self.parsed
        native = parsed.get("native_ipv6")
        families = [item.value.family for item in self.virtual]
        if native and families and 6 not in families:
            parsed.error(
                "contradicts virtual_ipaddress, which has IPv4 addresses only: remove one of the two",
                "native_ipv6",
            )
            native = False
        family = 6 if native else families[0] if families else 4
        for item in self.virtual:
            if item.value.family != family:
                as_what = "native_ipv6 wants" if native else "the first address is"
                parsed.error(
                    f"is not IPv{family}, as {as_what}: it belongs into virtual_ipaddress_excluded",
                    "virtual_ipaddress",
                    item,
                )
        if len(self.virtual) > MOST_ADDRESSES[family]:
            parsed.error(
                f"{len(self.virtual)} addresses do not fit into an advert: at most {MOST_ADDRESSES[family]};"
                " move the others to virtual_ipaddress_excluded",
                "virtual_ipaddress",
                self.virtual[MOST_ADDRESSES[family]],
            )
        if family == 6 and self.virtual and not self.strict and not parsed.given("unicast_peer"):
            first = self.virtual[0]
            if not link_local(first.value):
                reason = "should be a link-local address, as the first one of IPv6 (RFC 9568 section 5.2.9)"
                parsed.warn(reason, "virtual_ipaddress", first)
        for option, items in (
            ("virtual_ipaddress", self.virtual),
            ("virtual_ipaddress_excluded", self.excluded),
        ):
            for item in items:
                if odd := first_of_network(item.value):
                    parsed.warn(odd, option, item)
        return family

    def _version(self) -> int:
        version: int | None = self.parsed.get("version")
        if self.family == 6:
            if version == 2:
                self.parsed.error("IPv6 needs version 3", "version")
            return 3
        if version is None:
            version = self.settings.get("vrrp_version")
        if not self.virtual and not self.parsed.given("virtual_ipaddress"):
            complain = self.parsed.warn if version == 2 else self.parsed.error
            complain("there is none; an instance is there to carry at least one", "virtual_ipaddress")
        return version or 2

    def _same_family(self, option: str) -> str | None:
        text: str | None = self.parsed.get(option)
        if text is not None and (":" in text) != (self.family == 6):
            self.parsed.error(f"must be an IPv{self.family} address, as the virtual addresses are", option)
        return text

    # election

    def _master(self) -> bool:
        parsed = self.parsed
        state = parsed.get("state")
        if state == "MASTER" and not parsed.given("priority"):
            parsed.warn("keepalived would take 255 without a priority; Tandem takes 100", "state")
        owner = parsed.get("priority") == 255
        master = bool(state == "MASTER" if state else owner)
        if self.strict and master != owner:
            parsed.warn(
                "has no effect in strict mode: the RFC has MASTER at once at priority 255, and only there",
                "state",
            )
        return owner if self.strict else master

    def _pair(self, option: str, opposite: str) -> bool:
        """Return the value of an option whose opposite is an option too."""
        parsed = self.parsed
        on, off = parsed.get(option), parsed.get(opposite)
        if parsed.given(option) and parsed.given(opposite) and on == off:
            parsed.error(f"contradicts {option}: remove one of the two", opposite)
        return bool(on and not off)

    def _preempt(self, master: bool) -> tuple[bool, int]:
        """Return whether the instance preempts, and after how many ms."""
        parsed = self.parsed
        preempt = self._pair("preempt", "nopreempt")
        option = "nopreempt" if parsed.get("nopreempt") else "preempt"
        delay: int = parsed.get("preempt_delay")
        if not preempt and parsed.get("priority") == 255:
            parsed.warn("has no effect: the owner of the addresses (priority 255) always preempts", option)
            preempt = True
        elif not preempt and master:
            parsed.warn("has no effect with state MASTER; use BACKUP on both routers", option)
            preempt = True
        if delay and master:
            parsed.warn("has no effect with state MASTER", "preempt_delay")
            delay = 0
        elif delay and not preempt:
            parsed.warn("has no effect with nopreempt", "preempt_delay")
            delay = 0
        return preempt, delay

    def _interval(self) -> int:
        interval: int = self.parsed.get("advert_int")
        if self.version == 2 and interval % 100:
            reason = "version 2 needs whole seconds from 1 to 255; version 3 has decimals"
            self.parsed.error(reason, "advert_int")
        if self.version == 3 and interval > 4095:
            self.parsed.error("version 3 needs seconds from 0.01 to 40.95", "advert_int")
        return interval

    def _password(self) -> bytes | None:
        parsed = self.parsed
        kind, password = parsed.get("auth_type"), parsed.get("auth_pass")
        if kind == "AH":
            parsed.error("not supported: use PASS, or a VPN between the routers", "auth_type")
            return None
        if parsed.given("auth_pass") and not parsed.given("auth_type"):
            parsed.error("needs option auth_type 'PASS'", "auth_pass")
        if kind and not parsed.given("auth_pass"):
            parsed.error("needs option auth_pass", "auth_type")
        if not kind or password is None:
            return None
        if self.version == 3:
            parsed.warn("has no effect: version 3 knows no authentication (RFC 9568 section 9)", "auth_type")
            return None
        if password == MASK.encode():
            parsed.warn("is what tandem shows in the place of a password", "auth_pass")
        if len(password) > 8:
            parsed.warn("only the first 8 bytes count", "auth_pass")
        return bytes(password[:8])

    # adverts

    def _peers(self) -> tuple[str, ...]:
        parsed = self.parsed
        own = parsed.get("unicast_src_ip")
        peers: list[str] = []
        interface = parsed.get("interface") or ""
        for item in self.names.peer(parsed, "unicast_peer", self.family, interface):
            if (":" in item.value) != (self.family == 6):
                reason = f"must be an IPv{self.family} address, as the virtual addresses are"
                parsed.error(reason, "unicast_peer", item)
            elif item.value == own:
                parsed.error(
                    "is this router's own unicast_src_ip: name the other router", "unicast_peer", item
                )
            elif item.value in peers:
                parsed.error("is listed twice: remove one", "unicast_peer", item)
            else:
                peers.append(item.value)
        if parsed.given("unicast_peer"):
            for option in ("mcast_src_ip", "mcast_dst_ip", "allow_src"):
                if parsed.given(option):
                    parsed.warn("has no effect with unicast_peer", option)
        else:
            for option in ("unicast_src_ip", "unicast_ttl", "unicast_min_ttl"):
                if parsed.given(option):
                    parsed.error("needs unicast_peer: without one, adverts are multicast", option)
        return tuple(peers)

    def _allowed(self, peers: tuple[str, ...]) -> tuple[str, ...]:
        """Return the addresses whose multicast adverts are accepted; empty: all addresses."""
        allowed: list[str] = []
        for item in self.parsed.all("allow_src"):
            if (":" in item.value) != (self.family == 6):
                reason = f"must be an IPv{self.family} address, as the virtual addresses are"
                self.parsed.error(reason, "allow_src", item)
            elif item.value not in allowed:
                allowed.append(item.value)
        return () if peers else tuple(allowed)

    def _longest_interval(self, interval: int) -> int:
        """Return the longest interval, in centiseconds, that an advert may teach."""
        longest: int | None = self.parsed.get("max_learned_interval")
        if longest is None:
            return 10 * interval
        if longest < interval:
            self.parsed.error("must not be shorter than advert_int", "max_learned_interval")
        return longest

    def _group(self, peers: tuple[str, ...]) -> str:
        if peers:
            return DEFAULT_GROUPS[self.family]
        return self._same_family("mcast_dst_ip") or str(self.settings.get(f"vrrp_mcast_group{self.family}"))

    def _checksum(self) -> bool:
        wanted = bool(self.parsed.get("v3_checksum_as_v2"))
        if wanted and (self.version == 2 or self.family == 6):
            self.parsed.warn("has no effect: it is for version 3 over IPv4", "v3_checksum_as_v2")
            return False
        return wanted

    def _vmac(self) -> str | None:
        parsed = self.parsed
        name = vmac_name(parsed)
        if name is None:
            reason = "must be 0, 1 or a name for the new interface: 1 to 15 bytes without blanks, '/' and ':'"
            parsed.error(reason, "use_vmac")
        if name is not True:
            return name or None
        number = parsed.get("virtual_router_id") or 0
        stem = found = f"vrrp.{number}" if self.family == 4 else f"vrrp6.{number}"
        suffix = 1
        while found in self.taken:
            suffix += 1
            found = f"{stem}.{suffix}"
        self.taken.add(found)
        return found

    def _xmit_base(self, peers: tuple[str, ...]) -> bool:
        parsed = self.parsed
        base = bool(parsed.get("vmac_xmit_base"))
        vmac = vmac_name(parsed)
        if base and not vmac:
            parsed.warn("has no effect without use_vmac", "vmac_xmit_base")
            return False
        if vmac and peers and not base:
            parsed.error("with unicast_peer it needs option vmac_xmit_base '1'", "use_vmac")
        return base

    # what is carried

    def _rules(self) -> tuple[Rule, ...]:
        items = self.names.rule(self.parsed, "virtual_rules")
        for item in items:
            rule = item.value
            if self.family == 6 and rule.family == 4 and not (rule.source or rule.destination):
                reason = "is an IPv4 rule, as in keepalived; for IPv6 add inet6"
                self.parsed.warn(reason, "virtual_rules", item)
        return tuple(item.value for item in items)

    def _tracks(self) -> Any:
        parsed = self.parsed
        tracks = self.names.tracks(parsed)
        for track in tracks:
            own = track.kind == "interface" and track.name == parsed.get("interface")
            if own and track.weight and not parsed.get("dont_track_primary"):
                parsed.warn(
                    f"the weight of '{track.name}' never counts: without dont_track_primary the instance"
                    " is in fault when its own interface is down",
                    "track_interface",
                )
        return tracks

    def _garp(self) -> Garp:
        one = self.settings.get("vrrp_min_garp")

        def own(option: str, fallback: int | None = None) -> int:
            value = self.parsed.get(option)
            if value is None and (fallback is None or self.settings.given("vrrp_" + option)):
                value = self.settings.get("vrrp_" + option)
            return int(fallback if value is None and fallback is not None else value)

        delay = own("garp_master_delay", 0 if one else None)
        repeat = own("garp_master_repeat", 1 if one else None)
        return Garp(
            delay_ms=delay,
            repeat=repeat,
            refresh_ms=own("garp_master_refresh"),
            refresh_repeat=own("garp_master_refresh_repeat"),
            lower_prio_delay_ms=own("garp_lower_prio_delay", delay),
            lower_prio_repeat=own("garp_lower_prio_repeat", repeat),
        )
