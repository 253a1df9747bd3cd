# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/options.md, from the option table."""

from __future__ import annotations

from tandem.config.option import FIRST, KEEPS, ROLE, SESSION, START, NoEffect, Option, Refused, Table
from tandem.config.options import REFUSED_SECTIONS
from tandem.control.options_command import sections, understood

ABOUT = {
    "globals": "The router itself, and the defaults of all instances. `global_defs`, keepalived's name, means"
    " the same section.",
    "vrrp_sync_group": "Instances that change their role together.",
    "vrrp_instance": "One virtual router on one interface: its election, and what it carries.",
    "ipaddress": "An address with a name. Most configurations write addresses in place.",
    "route": "A route with a name.",
    "rule": "A policy routing rule with a name.",
    "vrrp_script": "A command whose exit status counts.",
    "track_script": "A `vrrp_script` with a weight.",
    "track_interface": "An interface with a weight.",
    "peer": "Another router, with all its addresses.",
    "conntrack_sync": "The replication of connections.",
    "dhcp_gateway": "What instances with `option dhcp '1'` do to dnsmasq. Without the section, all defaults"
    " hold.",
    "follow": "A network that follows the role, and the line below it. See [follow.md](follow.md).",
    "witness": "A third party that helps two routers to find out which of them may be active: see"
    " [witness](witness.md).",
    "witness_server": "This host is the witness of other routers; `tandem witness` answers them.",
    "service": "A program that follows the role of a group, see [services](services.md).",
    "internet": "Targets behind a way out of this router, see [checks](checks.md#targets-of-a-way-out).",
    "check": "A test of a host, a service or a process, see [checks](checks.md).",
    "virtual_server": "An address and port whose connections go to real servers, see"
    " [virtual servers](virtual-servers.md).",
    "real_server": "A server that gets connections of virtual servers.",
    "static_ipaddress": "Addresses that do not depend on a role.",
    "static_routes": "Routes that do not depend on a role.",
    "static_rules": "Policy routing rules that do not depend on a role.",
}
_RELOAD = {
    KEEPS: "",
    ROLE: "The role begins anew.",
    SESSION: "Sessions begin anew.",
    START: "The next start uses it.",
}
HEAD = """\
<!-- Made by `make generated` from src/tandem/config/options. Do not edit. -->
# Options

Every section and option of `/etc/config/tandem`. On a router, `tandem options SECTION.OPTION` explains one
option, and `tandem options --json` gives the table to programs. `tandem check` prints every option that is in
force. The commented example is [files/etc/config/tandem](../files/etc/config/tandem).

`option` takes one value and `list` takes several. An interface is a device (`br-lan`) or a network of
`/etc/config/network` (`lan`). A reload keeps roles and sessions unless the table says otherwise. Options of
keepalived that stand at the end of a section have no effect, or are refused with a reason.
"""


def texts() -> dict[str, str]:
    """Return the page, by its path."""
    parts = [HEAD, *(_section(name, table) for name, table in sections())]
    return {"docs/options.md": "\n".join([*parts, _refused()])}


def _section(name: str, table: Table) -> str:
    lines = [f"## {name}", "", ABOUT[name], "", "| option | value | default | meaning |", "|---|---|---|---|"]
    lines += [_row(key, row) for key, row in understood(table).items()]
    if idle := _named(table, NoEffect):
        lines += ["", "No effect:", "", *idle]
    if refused := _named(table, Refused):
        lines += ["", "Not supported:", "", *refused]
    return "\n".join(lines) + "\n"


def _row(name: str, row: Option) -> str:
    default = f"`{row.default}`" if row.default else "required" if row.required else ""
    meaning = [row.help, _RELOAD[row.reload], "" if row.since == FIRST else f"Since: {row.since}."]
    word = "list " if row.many else ""
    cells = (f"{word}`{name}`", row.kind.allowed, default, " ".join(filter(None, meaning)))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _named(table: Table, kind: type[NoEffect] | type[Refused]) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for name, entry in table.items():
        if isinstance(entry, kind):
            reasons.setdefault(entry.reason, []).append(f"`{name}`")
    found = []
    for reason, names in reasons.items():
        why = reason.partition(": ")[2]
        found.append(f"- {', '.join(names)}" + (f": {why}" if why else ""))
    return found


def _refused() -> str:
    lines = ["## Sections of keepalived that are not supported", ""]
    return "\n".join([*lines, *(f"- `{name}`: {reason}" for name, reason in REFUSED_SECTIONS.items())]) + "\n"
