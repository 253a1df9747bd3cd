# SPDX-License-Identifier: GPL-2.0-or-later
"""ucarp's command lines, and files with its settings as "keyword value", to a vrrp_instance.

CARP is not VRRP: the two do not understand each other, so that both routers have to change at the
same time. What is one virtual host (VHID) to it is one instance to Tandem.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from tandem.importer.draft import Draft, Origin, Section, masked

_SHORT = {  # of ucarp(8)
    "i": "interface", "s": "srcip", "v": "vhid", "p": "pass", "o": "passfile", "P": "preempt", "n": "neutral",
    "a": "addr", "b": "advbase", "k": "advskew", "u": "upscript", "d": "downscript", "r": "deadratio",
    "z": "shutdown", "B": "daemonize", "S": "ignoreifstate", "M": "nomcast", "f": "facility", "x": "xparam",
}  # fmt: skip
_ALIASES = {  # in files with one setting a line
    "vip": "addr", "address": "addr", "advertise": "advbase", "password": "pass", "id": "vhid",
    "source": "srcip", "up": "upscript", "down": "downscript",
}  # fmt: skip
_SWITCHES = ("preempt", "neutral", "shutdown", "daemonize", "ignoreifstate", "nomcast", "no_arp")
_SAME = {
    "interface": "interface",
    "srcip": "mcast_src_ip",
    "vhid": "virtual_router_id",
    "advbase": "advert_int",
}
_NOT_OURS = {
    **dict.fromkeys(
        ("pass", "passfile"),
        "CARP never sends its password; VRRP would, in clear text. For a secret channel between the routers"
        " see conntrack_sync",
    ),
    **dict.fromkeys(
        ("upscript", "downscript"),
        "not needed for the address, which Tandem sets and removes itself; what else it does belongs into"
        " notify_master and notify_backup",
    ),
    "deadratio": "VRRP always waits for three adverts",
    "nomcast": "not supported: name the other router in unicast_peer",
    "xparam": "only for the scripts",
}
_SILENT = ("neutral", "shutdown", "daemonize", "facility", "no_arp")


def convert(text: str, file: str, draft: Draft) -> None:
    """Add an instance for each command line, or one for a file of settings."""
    section: Section | None = None
    for number, line in _lines(text):
        where = Origin(file, number, "")
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            draft.leave_out(Origin(file, number), f"can't be split into words: {str(error).lower()}")
            continue
        if not words:
            continue
        at = next((i for i, word in enumerate(words) if word.rpartition("/")[2] == "ucarp"), None)
        if at is not None:
            section = _new(draft, where)
            settings = list(_options(words[at + 1 :]))
        else:
            section = section or _new(draft, where)
            settings = [(_ALIASES.get(words[0], words[0]), " ".join(words[1:]))]
        for name, value in settings:
            _setting(draft, section, name, value, Origin(file, number, masked([name, value])))
    for found in draft.sections:
        _complete(found, draft)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with those that go on behind a backslash, and the number of the first."""
    start, whole = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        start = start or number
        whole += line.rstrip("\r")
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        yield start, whole
        start, whole = 0, ""
    if whole:
        yield start, whole


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """The options of a command line with their values, as getopt_long(3) reads them."""
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and name not in _SWITCHES:
                value = next(rest, "")
            yield name, value
        elif word.startswith("-") and len(word) > 1:
            for number, letter in enumerate(word[1:], 2):
                name = _SHORT.get(letter, letter)
                if name in _SWITCHES:
                    yield name, ""
                else:
                    yield name, word[number:] or next(rest, "")
                    break
        elif word in ("&", ";", "|"):
            return
        else:
            yield word, ""


def _new(draft: Draft, where: Origin) -> Section:
    return draft.section("vrrp_instance", where)


def _setting(draft: Draft, section: Section, name: str, value: str, where: Origin) -> None:
    if name in _SAME:
        draft.put(section, _SAME[name], value, where)
    elif name == "addr":
        draft.put_item(section, "virtual_ipaddress", value, where)
        if "/" not in value:
            draft.remark(where, "no prefix length is given: it is /32 unless you add one, as in /24")
    elif name == "advskew":
        skew = int(value) if value.isascii() and value.isdigit() and len(value) < 4 else -1
        if 0 <= skew <= 255:
            draft.put(section, "priority", str(max(254 - skew, 1)), where)
        else:
            draft.leave_out(where, "must be 0 to 255")
    elif name == "preempt":
        draft.put(section, "preempt", "1", where)
    elif name == "ignoreifstate":
        draft.put(section, "dont_track_primary", "1", where)
    elif name not in _SILENT:
        draft.leave_out(where, _NOT_OURS.get(name, "unknown option of ucarp"))


def _complete(section: Section, draft: Draft) -> None:
    """Set the options that were not given to ucarp's defaults."""
    if section.type != "vrrp_instance" or section.get("name"):
        return
    number = section.get("virtual_router_id")
    interface = section.get("interface")
    name = f"{interface.value if interface else 'ucarp'}_{number.value if number else len(draft.sections)}"
    draft.put(section, "name", name, section.origin)
    if number is None:
        section.set("virtual_router_id", "1", section.origin)
        draft.remark(section.origin, "no vhid is given: it is 1, and must be the same on both routers")
    if not section.get("preempt"):
        section.set("nopreempt", "1", section.origin)
    draft.remark(section.origin, "CARP is not VRRP: change both routers at the same time")
