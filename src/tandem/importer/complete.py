# SPDX-License-Identifier: GPL-2.0-or-later
"""What keepalived changes by itself when it has read a configuration (vrrp_complete_instance(), vrrp.c).

Written out, so that the imported configuration behaves as the original did, also beside it.
"""

from __future__ import annotations

from tandem.config.values import decimal, fixed_point
from tandem.importer.draft import Draft, Entry, Origin, Section

FLOATING = ("global_tracking", "sync_group_tracking_weight")  # with these, weights count in a sync group


def set_state(draft: Draft, section: Section, state: str, where: Origin) -> None:
    """The initial state, which keepalived wants in capitals and takes for BACKUP otherwise."""
    before = section.get("state")
    if state not in ("MASTER", "BACKUP"):
        state = "BACKUP"
        draft.remark(where, "keepalived knows MASTER and BACKUP and takes this for BACKUP")
    if before is not None and before.value == "MASTER":
        draft.remark(where, "it is MASTER already, which counts")
    else:
        section.set("state", state, where)


def set_interval(draft: Draft, section: Section, text: str, where: Origin) -> None:
    """The interval of adverts; `complete` rounds it, which is different for VRRP 2 and 3."""
    try:
        microseconds = fixed_point(text, 6)
    except ValueError:
        microseconds = 0
    if 10_000 <= microseconds <= 255_000_000:
        section.set("advert_int", text, where)
    else:
        draft.leave_out(where, "must be 0.01 to 255 seconds; it is 1 then")


def complete(draft: Draft, sections: list[Section]) -> None:
    """What keepalived does when it has read everything, to the sections of one configuration."""
    settings = next((section for section in draft.sections if section.type == "globals"), None)
    for section in sections:
        if section.type == "vrrp_instance":
            _complete_instance(draft, section, settings)
    _complete_groups(draft)


def _complete_instance(draft: Draft, section: Section, settings: Section | None) -> None:
    state = section.get("state")
    if state is not None and state.value == "MASTER" and not section.get("priority"):
        section.set("priority", "255", state.origin)
        draft.remark(state.origin, "without a priority, keepalived takes 255, and so does this")
    interval = section.get("advert_int")
    if interval is not None:
        step, most = (10_000, 40_950_000) if _version(section, settings) == 3 else (1_000_000, 255_000_000)
        exact = fixed_point(interval.value, 6)
        rounded = min(max((exact + step // 2) // step * step, step), most)
        if rounded != exact:
            draft.remark(interval.origin, f"is {decimal(rounded, 6)} seconds, rounded as keepalived does")
        interval.value = decimal(rounded, 6)
    _complete_announcements(section, settings)
    peers = section.get("unicast_peer")
    vmac = section.get("use_vmac")
    if peers and vmac and not section.get("vmac_xmit_base"):
        section.set("vmac_xmit_base", "1", vmac.origin)  # as keepalived
    if peers:
        if not section.get("check_unicast_src") and not (settings and settings.get("vrrp_check_unicast_src")):
            section.set("check_unicast_src", "0", peers.origin)  # keepalived's default
        if not section.get("unicast_min_ttl"):
            section.set("unicast_min_ttl", "1", peers.origin)
    else:
        for name in ("unicast_src_ip", "unicast_ttl"):
            if entry := section.get(name):
                reason = "there is no unicast_peer: adverts are multicast, as keepalived does it then"
                draft.leave_out(entry.origin, reason)
                section.remove(name)


def _complete_announcements(section: Section, settings: Section | None) -> None:
    """What a lesser router is answered with: to keepalived the global setting, not the instance's own one."""
    if settings is not None and settings.get("vrrp_min_garp"):
        return
    for what, default in (("delay", "5"), ("repeat", "5")):
        own, lower = f"garp_master_{what}", f"garp_lower_prio_{what}"
        entry = section.get(own)
        if entry is None or section.get(lower) or (settings is not None and settings.get(f"vrrp_{lower}")):
            continue
        general = settings.get(f"vrrp_{own}") if settings is not None else None
        value = general.value if general is not None else default
        if value != entry.value:
            section.set(lower, value, entry.origin)


def keep_untranslated(draft: Draft) -> bool:
    """Write `snat '0'` where Tandem would translate by itself, which no imported program does.

    Return whether anything was written; the draft has to be settled again then.
    """
    derived = [instance.name for instance in draft.config.instances if instance.snat] if draft.config else []
    changed = False
    for section in draft.sections:
        name = section.get("name") if section.type == "vrrp_instance" else None
        if name is not None and name.value in derived and section.get("snat") is None:
            section.set("snat", "0", section.origin)
            reason = (
                "addresses are not translated, as before (snat 0). With snat 1 on both routers, what leaves"
                " by the interface is translated to the virtual address, and connections outlive a router"
            )
            draft.remark(section.origin, reason)
            changed = True
    return changed


def _version(section: Section, settings: Section | None) -> int:
    first = section.get("virtual_ipaddress")
    if section.get("native_ipv6") or (first and ":" in first.value.partition(" ")[0]):
        return 3
    entry = section.get("version") or (settings.get("vrrp_version") if settings else None)
    return 3 if entry and entry.value == "3" else 2


def _complete_groups(draft: Draft) -> None:
    """What a sync group tracks counts once for all its members, in Tandem."""
    instances = {
        entry.value: section
        for section in draft.sections
        if section.type == "vrrp_instance" and (entry := section.get("name"))
    }
    for group in (section for section in draft.sections if section.type == "vrrp_sync_group"):
        seen: dict[tuple[str, str], str] = {}
        members = [
            instances[entry.value]
            for entry in group.entries
            if entry.name == "group" and entry.value in instances
        ]
        _begin_as_backup(draft, members)
        if not group.floating:
            for member in members:
                _weigh_nothing(draft, member)
        for owner in (group, *members):
            kept = []
            for entry in owner.entries:
                key = (entry.name, entry.value.partition(" ")[0])
                before = seen.setdefault(key, entry.value) if entry.name.startswith("track_") else entry.value
                if before == entry.value:
                    kept.append(entry)
                else:
                    draft.leave_out(entry.origin, f"counts once in a sync group, as '{before}'")
            owner.entries = kept


def _weigh_nothing(draft: Draft, member: Section) -> None:
    """What a member of a sync group tracks counts as without a weight, unless the group says otherwise."""
    for entry in member.entries:
        if entry.name in ("track_interface", "track_script"):
            what, weight, direction = _tracked(draft, entry)
            if weight not in ("", "0"):
                reason = "keepalived ignores the weight in a sync group: down is a fault, and so it is here"
                draft.remark(entry.origin, reason)
                entry.value = f"{what} weight 0 {direction}".strip()


def _tracked(draft: Draft, entry: Entry) -> tuple[str, str, str]:
    """What is tracked, its weight and direction: of the entry, its section, or the script itself."""
    what, *words = entry.value.split()
    weight = words[words.index("weight") + 1] if "weight" in words[:-1] else ""
    direction = next((word for word in words if word in ("reverse", "noreverse")), "")
    if section := _named(draft, entry.name, what):
        what = value.value if (value := section.get("value")) else what
        weight = weight or (found.value if (found := section.get("weight")) else "")
    if not weight and entry.name == "track_script" and (script := _named(draft, "vrrp_script", what)):
        weight, _, default = (found.value if (found := script.get("weight")) else "").partition(" ")
        direction = direction or default
    return what, weight, direction


def _named(draft: Draft, kind: str, name: str) -> Section | None:
    for section in draft.sections:
        if section.type == kind and (entry := section.get("name")) and entry.value == name:
            return section
    return None


def _begin_as_backup(draft: Draft, members: list[Section]) -> None:
    """In a sync group nobody begins as MASTER, unless all own their addresses; only then is nopreempt off."""
    masters = [member for member in members if (state := member.get("state")) and state.value == "MASTER"]
    if all((entry := member.get("priority")) and entry.value == "255" for member in members):
        return
    for member in masters:
        state = member.get("state")
        assert state is not None
        draft.remark(state.origin, "keepalived begins as BACKUP in a sync group, and so does this")
        member.set("state", "BACKUP", state.origin)
        for name in ("nopreempt", "preempt_delay"):
            if entry := member.get(name):
                draft.leave_out(entry.origin, "keepalived ignores it beside state MASTER")
                member.remove(name)
