# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenWrt's /etc/config/keepalived to Tandem's: the same syntax and mostly the same names.

What its init script does to a section before keepalived sees it counts here too.
"""

from __future__ import annotations

from tandem.config import options, uci
from tandem.config.option import Option
from tandem.config.problem import suggestion
from tandem.config.values import COMMAND, FALSE, SWITCH
from tandem.importer import dhcp, reading
from tandem.importer.complete import FLOATING, complete, set_interval, set_state
from tandem.importer.draft import Draft, Origin, Section, masked
from tandem.importer.keepalived import split_command
from tandem.importer.scripts import Surroundings, put_command

_NEED_NAME = (
    "vrrp_instance",
    "vrrp_sync_group",
    "vrrp_script",
    "ipaddress",
    "route",
    "track_interface",
    "peer",
)
_FLAGS = (  # the script only looks whether there is any value at all (no_val_ in print_elems_indent())
    "vmac_xmit_base", "native_ipv6", "accept", "dont_track_primary", "nopreempt", "use_vmac", "no_accept",
)  # fmt: skip


def alternative(document: uci.Document) -> tuple[str, int] | None:
    """The keepalived.conf that is used instead of all this, and the line that says so."""
    for section in document.sections:
        if section.name == "globals" and (found := section.options.get("alt_config_file")):
            return found.values[-1].text, found.values[-1].line
    return None


def where(file: str, line: int, text: str) -> Origin:
    """The origin of the line that names another file."""
    return Origin(file, line, f"alt_config_file {text}")


def convert(
    document: uci.Document, file: str, draft: Draft, surroundings: Surroundings | None = None
) -> None:
    """Add what the document says to the draft."""
    draft.left_out += document.errors
    first = len(draft.sections)
    for found in document.sections:
        _section(found, file, draft, surroundings or Surroundings())
    complete(draft, draft.sections[first:])


def _section(found: uci.Section, file: str, draft: Draft, surroundings: Surroundings) -> None:
    kind = "globals" if found.type == "global_defs" else found.type
    begins = Origin(file, found.line, f"config {found.type}")
    if kind in dhcp.SECTIONS:
        return  # `dhcp` looks at them when all instances are known
    if kind in options.REFUSED_SECTIONS:
        draft.leave_out(begins, options.REFUSED_SECTIONS[kind])
        return
    if kind not in options.SECTIONS:
        draft.leave_out(begins, "unknown section type" + suggestion(kind, options.SECTIONS))
        return
    if kind in _NEED_NAME and not _text(found, "name"):
        draft.leave_out(begins, "has no option name, and without one OpenWrt's keepalived ignores it as well")
        return
    section = draft.globals(begins) if kind == "globals" else draft.section(kind, begins)
    for option in found.options.values():
        for value in option.values:
            _value(section, option, value, file, draft, surroundings)


def _text(found: uci.Section, name: str) -> str:
    option = found.options.get(name)
    return option.values[-1].text if option else ""


def _value(
    section: Section,
    option: uci.Option,
    value: uci.Value,
    file: str,
    draft: Draft,
    surroundings: Surroundings,
) -> None:
    name, text = option.name, value.text
    here = Origin(file, value.line, masked([name, text]))
    if not text or name == "alt_config_file":  # the caller has looked at that
        return
    section.floating |= name in FLOATING
    known = section.table.get(name)
    if not isinstance(known, Option):
        if known is None or text.lower() not in FALSE:
            draft.understood(section, name, here)
    elif section.type == "vrrp_instance" and name == "state":
        set_state(draft, section, text, here)
    elif section.type == "vrrp_instance" and name == "advert_int":
        set_interval(draft, section, text, here)
    elif known.many:
        section.lists.add(name)
        draft.put_item(section, name, text, here)
    elif known.kind is COMMAND:
        _command(section, name, text, here, draft, surroundings)
    elif known.kind is not SWITCH and (found := reading.read(section.type, name, text.split())):
        if found.text is None:
            draft.leave_out(here, found.note)
        else:
            if found.note:
                draft.remark(here, found.note)
            draft.put(section, name, found.text, here)
    else:
        if known.kind is SWITCH and name in _FLAGS and text.lower() in FALSE:
            draft.remark(here, "OpenWrt's keepalived takes any value for on; this is off, as it says")
        draft.put(section, name, text, here)


def _command(
    section: Section, name: str, text: str, here: Origin, draft: Draft, surroundings: Surroundings
) -> None:
    try:
        command = split_command(text)
    except ValueError as error:
        draft.leave_out(here, str(error))
        return
    if command:
        put_command(draft, section, name, command, here, surroundings)
