# SPDX-License-Identifier: GPL-2.0-or-later
"""The changes that keepalived makes when it has read a configuration (vrrp_complete_instance(), vrrp.c).

Written out, so that the imported configuration behaves as the original did, also beside it.
"""

from __future__ import annotations

from tandem.config.problem import Problem
from tandem.config.values import decimal
from tandem.importer import reading
from tandem.importer.draft import Draft, Entry, Origin, Section

MOST_ADVERTISED = {False: 255, True: 89}  # of IPv4, of IPv6, on a link of 1500 bytes
FLOATING = ("global_tracking", "sync_group_tracking_weight")  # with these, weights count in a sync group


def set_state(draft: Draft, section: Section, state: str, where: Origin) -> None:
    """Set the initial state; keepalived requires capitals, otherwise BACKUP counts."""
    before = section.get("state")
    if state not in ("MASTER", "BACKUP"):
        state = "BACKUP"
        draft.remark(where, "keepalived knows MASTER and BACKUP and takes this for BACKUP")
    if before is not None and before.value == "MASTER":
        draft.remark(where, "it is MASTER already, which counts")
    else:
        section.set("state", state, where)


def set_interval(draft: Draft, section: Section, text: str, where: Origin) -> None:
    """Set the interval of adverts; `complete` rounds it, in another way for VRRP 2 than for VRRP 3."""
    found = reading.microseconds(text, 10_000, 255_000_000)
    if found is None:
        draft.leave_out(where, "must be 0.01 to 255 seconds; it is ignored, as in keepalived")
    else:
        section.set("advert_int", decimal(found, reading.MICROSECOND), where)


def complete(draft: Draft, sections: list[Section]) -> None:
    """Change the sections of one configuration as keepalived does when it has read everything."""
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
        step, most = (
            (10_000, 40_950_000) if _version(draft, section, settings) == 3 else (1_000_000, 255_000_000)
        )
        exact = reading.microseconds(interval.value, 0, 255_000_000)
        assert exact is not None  # set_interval() wrote it
        rounded = min(max((exact + step // 2) // step * step, step), most)
        if rounded != exact:
            draft.remark(interval.origin, f"is {decimal(rounded, 6)} seconds, rounded as keepalived does")
        interval.value = decimal(rounded, 6)
    _complete_announcements(section, settings)
    _complete_adverts(draft, section, settings)
    _complete_authentication(draft, section, settings)
    _complete_addresses(draft, section)
    own = section.get("interface")
    for entry in section.entries:
        if entry.name == "track_interface" and own and entry.value.partition(" ")[0] == own.value:
            draft.leave_out(entry.origin, "it is the instance's own interface: keepalived ignores it as well")
            section.drop(entry)


def _complete_adverts(draft: Draft, section: Section, settings: Section | None) -> None:
    peers = section.get("unicast_peer")
    vmac = section.get("use_vmac")
    if peers and vmac and not section.get("vmac_xmit_base"):
        section.set("vmac_xmit_base", "1", vmac.origin)  # as keepalived
    if peers and not section.get("check_unicast_src"):
        everywhere = settings.get("vrrp_check_unicast_src") if settings is not None else None
        section.set("check_unicast_src", everywhere.value if everywhere else "0", peers.origin)
    # To keepalived it is one setting, whichever way the adverts go: the last one counts.
    sources = [entry for entry in section.entries if entry.name in ("mcast_src_ip", "unicast_src_ip")]
    if sources:
        section.remove("mcast_src_ip", "unicast_src_ip")
        section.set("unicast_src_ip" if peers else "mcast_src_ip", sources[-1].value, sources[-1].origin)
    if peers and not section.get("unicast_min_ttl"):
        section.set("unicast_min_ttl", "1", peers.origin)
    for name in ("unicast_ttl", "unicast_min_ttl") if not peers else ():
        if entry := section.get(name):
            reason = "there is no unicast_peer: adverts are multicast, as keepalived does it then"
            draft.leave_out(entry.origin, reason)
            section.remove(name)


def _complete_authentication(draft: Draft, section: Section, settings: Section | None) -> None:
    """Refuse AH, without which the routers would not understand each other, unless keepalived ignores it."""
    kind = section.get("auth_type")
    if kind is None or kind.value.upper() != "AH":
        return
    section.remove("auth_type", "auth_pass")
    if _version(draft, section, settings) == 3:
        draft.leave_out(kind.origin, "VRRP version 3 has no authentication: keepalived ignores it as well")
    else:
        reason = "not supported: use PASS on all routers, or conntrack_sync's channel or a VPN between them"
        draft.lose(kind.origin, reason)


def _complete_addresses(draft: Draft, section: Section) -> None:
    """Move the addresses that do not fit into an advert, and leave out version 2 for IPv6."""
    addresses = [entry for entry in section.entries if entry.name == "virtual_ipaddress"]
    ipv6 = _is_ipv6(draft, section)
    for entry in addresses[MOST_ADVERTISED[ipv6] :]:
        entry.name = "virtual_ipaddress_excluded"
        draft.remark(entry.origin, "does not fit into an advert: it is not advertised, as in keepalived")
    version = section.get("version")
    if version is not None and version.value == "2" and ipv6:
        draft.leave_out(version.origin, "IPv6 has VRRP version 3 only: change all routers at the same time")
        section.remove("version")


def _complete_announcements(section: Section, settings: Section | None) -> None:
    """Set the announcements that answer a lesser router: keepalived takes the global setting for them."""
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


def _is_ipv6(draft: Draft, section: Section) -> bool:
    """Return whether the instance speaks IPv6: it says so, or its first address does."""
    if section.get("native_ipv6"):
        return True
    for entry in section.entries:
        if entry.name == "virtual_ipaddress":
            name = entry.value.partition(" ")[0]
            named = _named(draft, "ipaddress", name)
            address = named.get("address") if named else None
            return ":" in (address.value if address else name)
    return False


def _version(draft: Draft, section: Section, settings: Section | None) -> int:
    if _is_ipv6(draft, section):
        return 3
    entry = section.get("version") or (settings.get("vrrp_version") if settings else None)
    return 3 if entry and entry.value == "3" else 2


def _complete_groups(draft: Draft) -> None:
    """Make each tracked object count once for all members of a sync group, as Tandem requires."""
    instances = {
        entry.value: section
        for section in draft.sections
        if section.type == "vrrp_instance" and (entry := section.get("name"))
    }
    weightless: list[Section] = []
    groups = [section for section in draft.sections if section.type == "vrrp_sync_group"]
    members = [
        [
            instances[entry.value]
            for entry in group.entries
            if entry.name == "group" and entry.value in instances
        ]
        for group in groups
    ]
    for group, found in zip(groups, members, strict=True):
        _begin_as_backup(draft, found)
        if not group.floating:
            weightless += found
            for member in found:
                _weigh_nothing(draft, member)
        if any(_is_owner(member) for member in found):
            _weigh_nothing_for_owners(draft, group)
    for section in instances.values():
        if _is_owner(section) and not any(section is other for other in weightless):
            _owner_weighs_nothing(draft, section)
    for group, found in zip(groups, members, strict=True):
        _count_once(draft, [group, *found])


def _is_owner(section: Section) -> bool:
    priority = section.get("priority")
    return priority is not None and priority.value == "255"


def _count_once(draft: Draft, owners: list[Section]) -> None:
    """Leave out objects that another section of the group tracks already; a fault outweighs a weight."""
    seen: dict[tuple[str, str], Entry] = {}
    for owner in owners:
        for entry in owner.entries:
            if not entry.name.startswith("track_"):
                continue
            first = seen.setdefault((entry.name, entry.value.partition(" ")[0]), entry)
            if first.value == entry.value:
                continue
            if _tracked(draft, entry)[1] in ("", "0"):
                first.value = entry.value
            draft.leave_out(entry.origin, f"counts once in a sync group, as '{first.value}'")
            owner.drop(entry)


def _weigh_nothing(draft: Draft, member: Section) -> None:
    """Drop a member's weights, which keepalived ignores unless the group says otherwise.

    An interface then counts as one without a weight, and a script not at all.
    """
    for entry in member.entries:
        if entry.name not in ("track_interface", "track_script"):
            continue
        what, weight, direction = _tracked(draft, entry)
        if weight in ("", "0"):
            continue
        if entry.name == "track_script":
            draft.leave_out(entry.origin, "keepalived ignores a script with a weight in a sync group as well")
            member.drop(entry)
        else:
            reason = "keepalived ignores the weight in a sync group: down is a fault, and so it is here"
            draft.remark(entry.origin, reason)
            entry.value = f"{what} weight 0 {direction}".strip()


def _weigh_nothing_for_owners(draft: Draft, group: Section) -> None:
    """Drop the weights that the group of an owner tracks with."""
    for entry in group.entries:
        if entry.name in ("track_interface", "track_script"):
            what, weight, direction = _tracked(draft, entry)
            if weight not in ("", "0"):
                draft.remark(entry.origin, "keepalived ignores the weight beside priority 255")
                entry.value = f"{what} weight 0 {direction}".strip()


def _owner_weighs_nothing(draft: Draft, owner: Section) -> None:
    """Leave out an owner's trackers with a weight: keepalived ignores them at priority 255."""
    for entry in owner.entries:
        if entry.name in ("track_interface", "track_script") and _tracked(draft, entry)[1] not in ("", "0"):
            draft.leave_out(entry.origin, "keepalived ignores what has a weight at priority 255 as well")
            owner.drop(entry)


def _tracked(draft: Draft, entry: Entry) -> tuple[str, str, str]:
    """Return the tracked object, its weight and direction: of the entry, its section, or the script."""
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
    if all(_is_owner(member) for member in members):
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


def verdict(draft: Draft, alone: bool) -> list[Problem]:
    """Return why the settled result can't be used although it is well-formed.

    `alone`: nothing but a conntrackd.conf was imported, which has no instance.
    """
    found = []
    instances = [section for section in draft.sections if section.type == "vrrp_instance"]
    without = [section for section in instances if not _carries(section)]
    if not instances and not alone:
        found.append(Problem("tandem", 0, "there is no vrrp_instance in the result: write one"))
    for section in without:
        name = section.get("name")
        if len(without) == len(instances) or set(_ADDRESSES) & section.lists:
            reason = f"{name.value if name else 'the instance'} has no virtual address in the result: add one"
            found.append(Problem(section.origin.file, section.origin.line, reason))
    return found


_ADDRESSES = ("virtual_ipaddress", "virtual_ipaddress_excluded")


def _carries(section: Section) -> bool:
    return any(section.get(name) for name in _ADDRESSES)
