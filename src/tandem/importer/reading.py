# SPDX-License-Identifier: GPL-2.0-or-later
"""The way keepalived reads the value of an option: how it rounds, cuts or ignores it.

One table per kind of section. A rule gets the words behind the keyword and returns a `Reading`. The names in
brackets are those of keepalived 2.2.7's functions. Options without a rule are taken as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tandem.config.values import decimal

_NUMBER = re.compile(r"[ \t]*([+-]?[0-9]+)")
_SECONDS = re.compile(r"([0-9]+)(?:\.([0-9]*))?")
_ON, _OFF = ("on", "true", "yes"), ("off", "false", "no")  # check_true_false()

MICROSECOND = 6  # decimal places of keepalived's times
MOST_WEIGHT = 253
_UINT_MAX = 4_294_967_295
_INT_MAX = 2_147_483_647


@dataclass(frozen=True, slots=True)
class Reading:
    """The value as keepalived takes it. Without a text the option counts as missing; a note says why."""

    text: str | None
    note: str = ""


Rule = Callable[[Sequence[str]], Reading]


def number(text: str, low: int, high: int, lenient: bool = True) -> int | None:
    """Return the number in `text`, or None where keepalived finds none (read_int(), read_unsigned()).

    A lenient reader ignores what stands behind the digits, and takes a word without any for 0.
    """
    match = _NUMBER.match(text)
    if not lenient and (not match or match.end() < len(text)):
        return None
    found = int(match[1][:20]) if match else 0
    return found if low <= found <= high else None


def microseconds(text: str, low: int, high: int) -> int | None:
    """Return a time in us, rounded to whole ones, or None (read_decimal_unsigned())."""
    match = _SECONDS.fullmatch(text)
    if not match or len(match[1]) > 10:
        return None
    fraction = match[2] or ""
    found = int(match[1]) * 10**MICROSECOND + int((fraction + "0" * MICROSECOND)[:MICROSECOND])
    found += fraction[MICROSECOND : MICROSECOND + 1] >= "5"
    return found if low <= found <= high else None


def _whole(
    low: int, high: int, most: int | None = None, instead: str | None = None, lenient: bool = True
) -> Rule:
    """A whole number; `most` is Tandem's own bound, `instead` counts for a wrong number."""

    def rule(words: Sequence[str]) -> Reading:
        text = words[0] if words else ""
        found = number(text, low, high, lenient) if text else None
        if found is None:
            counts = f"{instead} counts" if instead else "it is ignored"
            return Reading(
                instead, f"must be a whole number from {low} to {high}: {counts}, as in keepalived"
            )
        if most is not None and found > most:
            return Reading(str(most), f"is {most}, which is the most here")
        return Reading(str(found), "" if str(found) == text else f"counts as {found}, as in keepalived")

    return rule


def _at_least_one(high: int, most: int) -> Rule:
    """A whole number of which keepalived makes 1 when it is 0."""
    read = _whole(0, high, most)

    def rule(words: Sequence[str]) -> Reading:
        found = read(words)
        return Reading("1", "counts as 1, as in keepalived") if found.text == "0" else found

    return rule


def _seconds(low: str, high: int, most: int | None = None, instead: str | None = None) -> Rule:
    """A time in seconds, which Tandem has in whole ms."""
    least = microseconds(low, 0, _UINT_MAX) or 0

    def rule(words: Sequence[str]) -> Reading:
        found = microseconds(words[0] if words else "", least, high)
        if found is None:
            counts = f"{instead} counts" if instead else "it is ignored"
            reason = f"must be {low} to {high // 10**MICROSECOND} seconds: {counts}, as in keepalived"
            return Reading(instead, reason)
        if most is not None and found > most * 10**MICROSECOND:
            return Reading(str(most), f"is {most} seconds, which is the most here")
        rounded = (found + 500) // 1000
        text = decimal(rounded, 3)
        return Reading(text, "" if rounded * 1000 == found else f"is {text} seconds, rounded")

    return rule


def flag(words: Sequence[str]) -> Reading:
    """An option that is on when it is there, whatever stands behind it."""
    return Reading("1", f"keepalived ignores '{' '.join(words)}': it is on" if words else "")


def switch(words: Sequence[str]) -> Reading:
    """An option with on or off behind it, or nothing, which is on."""
    if not words or words[0] in _ON:
        return Reading("1")
    if words[0] in _OFF:
        return Reading("0")
    return Reading(None, "takes on or off: it is ignored, as in keepalived")


def _one_of(*known: str) -> Rule:
    def rule(words: Sequence[str]) -> Reading:
        if words and words[0] in known:
            return Reading(words[0])
        return Reading(None, f"must be {' or '.join(known)}, in capitals: it is ignored, as in keepalived")

    return rule


def weight(text: str, instead: int = 0) -> tuple[int, str]:
    """Return the weight of something tracked and a note; `instead` counts when it is out of bounds."""
    found = number(text, -254, 254)
    if found is None:
        return instead, f"weight {text} is out of bounds: {instead} counts, as in keepalived"
    cut = max(-MOST_WEIGHT, min(found, MOST_WEIGHT))
    return cut, "" if str(cut) == text.strip() else f"weight {text} counts as {cut}, as in keepalived"


def _track_weight(words: Sequence[str]) -> Reading:
    """The weight in a section of something tracked, of OpenWrt's."""
    found, note = weight(words[0] if words else "")
    return Reading(str(found), note)


def _script_weight(words: Sequence[str]) -> Reading:
    """The weight of a vrrp_script, which keepalived takes although it complains of it."""
    text = words[0] if words else ""
    match = _NUMBER.match(text)
    found = int(match[1]) if match else 0
    cut = max(-MOST_WEIGHT, min(found, MOST_WEIGHT))
    notes = [] if str(cut) == text else [f"counts as {cut}, the most that a priority can change"]
    more = "".join(f" {word}" for word in words[1:2] if word == "reverse")
    if words[1:] and not more:
        notes.append(f"'{words[1]}' is ignored, as in keepalived")
    return Reading(f"{cut}{more}", "; ".join(notes))


def _garp(prefix: str) -> dict[str, Rule]:
    return {
        f"{prefix}garp_master_delay": _whole(0, 4294),
        f"{prefix}garp_master_repeat": _at_least_one(_UINT_MAX, 1000),
        f"{prefix}garp_master_refresh": _whole(0, _UINT_MAX, 86_400, "0"),
        f"{prefix}garp_master_refresh_repeat": _at_least_one(_UINT_MAX, 1000),
        f"{prefix}garp_lower_prio_delay": _whole(0, 4294),
        f"{prefix}garp_lower_prio_repeat": _whole(0, _INT_MAX, 1000),
    }


_FLAGS = (
    "nopreempt", "preempt", "dont_track_primary", "vmac_xmit_base", "native_ipv6", "check_unicast_src",
    "promote_secondaries", "accept", "no_accept",
)  # fmt: skip

RULES: dict[str, dict[str, Rule]] = {
    "globals": {
        **_garp("vrrp_"),
        **dict.fromkeys(("vrrp_check_unicast_src", "vrrp_strict", "vrrp_no_swap"), flag),
        "vrrp_min_garp": switch,
        "vrrp_version": _whole(2, 3),
        "vrrp_startup_delay": _seconds("0.001", _UINT_MAX, 3600),
        "vrrp_rt_priority": _whole(-_INT_MAX, _INT_MAX, 99),
        "vrrp_down_timer_adverts": _whole(1, 100),
    },
    "vrrp_instance": {
        **_garp(""),
        **dict.fromkeys(_FLAGS, flag),
        "strict_mode": switch,
        "virtual_router_id": _whole(1, 255, lenient=False),
        "priority": _whole(1, 255, instead="100", lenient=False),
        "version": _whole(2, 3),
        "preempt_delay": _seconds("0", 1000 * 10**MICROSECOND, instead="0"),
        "unicast_ttl": _whole(1, 255, lenient=False),
        "down_timer_adverts": _whole(1, 100),
        "auth_type": _one_of("PASS", "AH"),
    },
    "vrrp_script": {
        "interval": _at_least_one(4294, 86_400),
        "timeout": _at_least_one(4294, 86_400),
        "rise": _whole(1, _INT_MAX, 1000, "1"),
        "fall": _whole(1, _INT_MAX, 1000, "1"),
        "weight": _script_weight,
        "init_fail": flag,
    },
    "track_interface": {"weight": _track_weight},
    "track_script": {"weight": _track_weight},
}  # fmt: skip


def read(kind: str, name: str, words: Sequence[str]) -> Reading | None:
    """Return what the words behind a keyword come to; None when keepalived takes them as they stand."""
    rule = RULES.get(kind, {}).get(name)
    return None if rule is None else rule(words)
