# SPDX-License-Identifier: GPL-2.0-or-later
"""The `check` sections: which options each kind has and needs. The `internet` sections, which name checks."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from tandem.config.names import Names
from tandem.config.options.check import CHECKS_MAX, NETWORK
from tandem.config.read import Parsed
from tandem.config.schema import Check, Internet

SCRIPT_MAX = 1000  # characters
WEB = ("http", "https")
# Option: the kinds that have it; all others, which stand here not, are for every kind.
OF = {
    "host": NETWORK, "source": NETWORK, "interface": NETWORK, "port": ("tcp", *WEB, "dns"),
    "path": WEB, "virtualhost": WEB, "status": WEB, "digest": WEB, "text": (*WEB, "file"),
    "certificate_days": ("https",), "query": ("dns",), "record": ("dns",), "answer": ("dns",),
    "count": ("ping",), "loss": ("ping",), "latency": ("ping",), "process": ("process",), "file": ("file",),
    "script": ("script",), "user": ("script",),
}  # fmt: skip
NEEDS = {"arp": "interface", "process": "process", "file": "file", "script": "script"}
PORTS = {"http": 80, "https": 443, "dns": 53}


def build(found: Sequence[Parsed], names: Names, settings: Parsed) -> tuple[Check, ...]:
    """Return the checks; `settings` is the section of globals."""
    if len(found) > CHECKS_MAX:
        found[CHECKS_MAX].error(f"more than {CHECKS_MAX} checks")
        found = found[:CHECKS_MAX]
    return tuple(
        _check(parsed, settings)
        for parsed in found
        if names.sections["check"].get(parsed.name) is parsed and parsed.get("kind") is not None
    )


def ways_out(found: Sequence[Parsed], names: Names) -> tuple[Internet, ...]:
    """Return the ways out of the `internet` sections."""
    return tuple(
        Internet(**{"name": parsed.name} | parsed.fields() | {"checks": names.checks(parsed, "check")})
        for parsed in found[:CHECKS_MAX]
        if names.sections["internet"].get(parsed.name) is parsed
    )


def _check(parsed: Parsed, settings: Parsed) -> Check:
    fields = parsed.fields()
    kind = fields["kind"]
    for option, kinds in OF.items():
        if parsed.given(option) and kind not in kinds:
            parsed.warn(f"has no effect: it is for {', '.join(kinds)}", option)
    if (needed := NEEDS.get(kind)) and not parsed.given(needed):
        parsed.error(f"is missing: a check of kind {kind} needs it", needed)
    if sum(len(word) + 3 for word in fields.get("script", ())) > SCRIPT_MAX:
        parsed.error(f"is longer than {SCRIPT_MAX} characters", "script")
    fields["port"] = fields["port"] or (PORTS.get(kind, 0) if fields.get("host") else 0)
    fields["status"] = fields["status"] or ((200, 299),)
    fields.setdefault("timeout_ms", fields["interval_ms"])
    _same_family(parsed, fields.get("host"), fields.get("source"))
    if kind == "arp" and ":" in fields.get("host", ""):
        parsed.error("is an IPv6 address, which has no ARP: use a check of kind ping", "host")
    if kind == "dns" and (answer := fields.get("answer")) and fields["record"] in ("A", "AAAA"):
        fields["answer"] = _address(parsed, answer, 4 if fields["record"] == "A" else 6)
    if kind == "script":
        user, group = parsed.get("user") or settings.get("script_user") or (None, None)
        fields["user"], fields["group"] = user, group
    return Check(**{"name": parsed.name} | fields)


def _same_family(parsed: Parsed, host: str | None, source: str | None) -> None:
    if host and source and (":" in host) != (":" in source):
        parsed.error("is not of the address family of host", "source")


def _address(parsed: Parsed, text: str, family: int) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        found = None
    if found is None or found.version != family:
        parsed.error(f"must be an IPv{family} address, as record says", "answer")
        return text
    return str(found)
