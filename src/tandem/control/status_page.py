# SPDX-License-Identifier: GPL-2.0-or-later
"""A status snapshot as text for people: pure, of any width, ASCII apart from the data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from tandem.console import printable
from tandem.control.history_page import changes
from tandem.control.page import ALARM, BOLD, NOTE, Page, counted, counters, duration
from tandem.control.summary import summary

Snapshot = Mapping[str, Any]

HISTORY_ROWS = 5


def render_short(status: Snapshot, width: int = 80, colour: bool = False) -> str:
    """Return three answers, the states of the groups and what is wrong, in lines of at most `width` columns.

    KeyError or TypeError: another version has made the snapshot.
    """
    page = Page(width, colour)
    _answers(page, status)
    page.name_width = max([0, *(len(printable(group["name"])) for group in status["groups"])])
    page.lines += [""] if status["groups"] else []
    for group in status["groups"]:
        page.heading(0, group["name"], group["state"], _since(group))
        _restraints(page, group)
    _health(page, status)
    return "\n".join(page.lines) + "\n"


def _answers(page: Page, status: Snapshot) -> None:
    for label, text, colour in summary(status):
        page.answer(label, text, colour)


def render_status(status: Snapshot, width: int = 80, colour: bool = False) -> str:
    """Return the whole status as lines of at most `width` columns, and the answers of the short form first.

    KeyError or TypeError: another version has made the snapshot.
    """
    page = Page(width, colour)
    _answers(page, status)
    page.lines.append("")
    _daemon(page, status)
    instances = {instance["name"]: instance for instance in status["instances"]}
    for group in status["groups"]:
        names = [group["name"]] + ["  " + name for name in group["members"] if not group["implicit"]]
        page.name_width = max(page.name_width, *(len(printable(name)) for name in names))
    for group in status["groups"]:
        page.lines.append("")
        _group(page, group, [instances[name] for name in group["members"] if name in instances])
    if not status["groups"]:
        page.lines += ["", "No virtual routers are configured."]
    _history(page, status["history"])
    return "\n".join(page.lines) + "\n"


def _daemon(page: Page, status: Snapshot) -> None:
    title = f"tandemd {status['version']} on {status['router_id'] or 'this router'}"
    process = f", pid {status['pid']}, up {duration(status['uptime_s'])}"
    page.lines.append(page.paint(printable(title), BOLD) + printable(process))
    page.row("file", [status["config_file"]])
    scheduling = status["scheduling"]
    memory = "memory locked" if scheduling["memory_locked"] else ""
    late = f"at most {scheduling['late_max_ms']:.1f} ms late"
    turn = f"longest turn {scheduling['turn_max_ms']:.1f} ms"
    held = scheduling.get("heartbeat_ms")
    holds = f"can hold heartbeats of {held:g} ms" if held is not None else ""
    page.row("scheduling", [scheduling["policy"], memory, late, turn, holds])
    if scheduling["late_count"]:
        timers = counted(scheduling["late_count"], "timer")
        late = f"{timers} later than {scheduling['late_limit_ms']:g} ms"
        page.row("late", [late], NOTE)
    if scheduling["turn_count"]:
        turns = counted(scheduling["turn_count"], "turn")
        longest = f"the longest in {scheduling['turn_max_by']}"
        page.row("turns", [f"{turns} longer than {scheduling['turn_limit_ms']:g} ms", longest], NOTE)
    page.row("counters", counters(status["counters"]))
    for peer in status["peers"]:
        if (beats := peer.get("heartbeats")) is not None:
            page.row(
                "heartbeats", _heartbeats(peer["name"], beats), ALARM if beats["state"] == "dead" else ""
            )
    if (dhcp := status["dhcp"]) is not None:
        page.row("dhcp", _dhcp(dhcp), ALARM if dhcp["problem"] else "")
    for network in status["follow"]:
        page.row(network["name"], _followed(network), ALARM if network["problem"] else "")
    if (quorum := status.get("quorum")) is not None:
        page.row("quorum", _quorum(quorum), NOTE if quorum["lacking"] else "")
    _health(page, status)


def _quorum(found: Snapshot) -> Iterator[str]:
    yield f"{found['quorum']} of {found['expected_votes']} votes are needed"
    yield "only advice" if found["policy"] == "advisory" else ""
    if name := found["witness"]:
        yield f"witness {name} {'answers' if found['witness_answers'] else 'does not answer'}"
        yield f"its vote is ours for {' and '.join(found['leases'])}" if found["leases"] else ""
    for name, up in found["hosts"].items():
        yield f"witness {name} {'answers' if up else 'does not answer'}"


def _health(page: Page, status: Snapshot) -> None:
    for reason, details in status["health"].items():
        page.row("health", [f"{reason}: {detail}" for detail in details], ALARM)


def _heartbeats(name: str, beats: Snapshot) -> Iterator[str]:
    yield f"{name} {beats['state']}"
    for path in beats["paths"]:
        state = (
            f"up for {duration(path['up_s'])}"
            if path["up"]
            else "silent"
            if path["received"]
            else "not heard"
        )
        trip = f"{path['rtt_ms']:.1f} ms" if path["up"] and path["rtt_ms"] is not None else ""
        notes = " and ".join(filter(None, (trip, f"{path['lost']} lost" if path["lost"] else "")))
        yield f"{path['name']} {state}" + (f" ({notes})" if notes else "")
    if beats["last_failure"]:
        yield f"last silence {duration(beats['last_failure_s'])} ago on {beats['last_failure']}"


def _dhcp(found: Snapshot) -> Iterator[str]:
    yield counted(found["leases"], "lease") or "no lease"
    yield f"answered by {' and '.join(found['answering'])}" if found["answering"] else "silent"
    yield "dnsmasq is to read leases" if found["waiting"] else ""
    yield f"replicated to {' and '.join(found['told'])}" if found["told"] else ""
    yield found["problem"]
    shown = ("restarts", "sent", "received", "malformed", "refused")
    yield from counters({name: found[name] for name in shown})


def _followed(network: Snapshot) -> Iterator[str]:
    """Describe a network that follows the role; a backup shows the lease that it would take over."""
    meaning = {
        "away": f"down, follows {network['group']}",
        "lent": "up with the lease of the peer, the provider is asked",
        "taking": "the session of the peer is negotiated anew",
        "asking": "the provider is asked",
        "bound": "up",
    }
    yield meaning[network["state"]]
    if leased := [*filter(None, (network["address"], *network["prefixes"]))]:
        held, left = " and ".join(leased), network["lease_left_s"]
        yield f"session with {held}" if left is None else f"lease {held} for {duration(left)}"
    yield f"device {network['device']} on {network['port']}" if network["device"] else ""
    yield network["problem"] or ""


def _group(page: Page, group: Snapshot, members: list[Snapshot]) -> None:
    page.heading(0, group["name"], group["state"], _since(group))
    _restraints(page, group)
    for instance in members:
        if not group["implicit"]:
            page.heading(2, instance["name"], instance["state"], "")
        page.row("faults", (fault for fault in instance["faults"] if fault not in group["faults"]), ALARM)
        _instance(page, instance)


def _restraints(page: Page, group: Snapshot) -> None:
    """Add the reasons that keep a group from the role, or from preempting."""
    if group["standby"]:
        who = f"by {group['standby_by'] or 'command'}"
        since = _clock("since", group["standby_since"])
        lasts = "" if group["standby_lasts"] else "at most until the daemon ends"
        page.row("standby", [who, since, lasts, f"until: tandem resume {group['name']}"], NOTE)
    if group["held"]:
        page.row("failover", [f"by command, does not preempt until: tandem resume {group['name']}"], NOTE)
    if group.get("damped_s") is not None:
        rest = f"does not preempt for {duration(group['damped_s'])}"
        page.row("damped", ["the role has changed too often", rest], NOTE)
    if group.get("probation") and group["state"] != "MASTER":
        page.row("probation", [f"does not preempt after {group['probation']}, until that has changed"], NOTE)
    # the row above tells of the fault "standby"
    page.row("faults", (f for f in group["faults"] if not (group["standby"] and f == "standby")), ALARM)


def _instance(page: Page, instance: Snapshot) -> None:
    version, family, vrid = instance["version"], instance["family"], instance["virtual_router_id"]
    source = f"from {instance['source']}" if instance["source"] else "no address to send from"
    page.row(
        "link",
        [_interface(instance), source, f"VRRPv{version} IPv{family}", f"VRID {vrid}", _every(instance)],
    )
    page.row("priority", [_priority(instance["priority"]), "" if instance["preempt"] else "nopreempt"])
    page.row("peer", _peer(instance["peer"]))
    if (stranger := instance.get("stranger")) is not None:
        page.row("stranger", ["ignored", *_peer(stranger)], NOTE)
    page.row("addresses", instance["addresses"])
    snat = f"SNAT to {instance['snat']}" if instance["snat"] else ""
    page.row("with", [counted(instance["routes"], "route"), counted(instance["rules"], "rule"), snat])
    page.row("trackers", (_tracker(tracker) for tracker in instance["trackers"]))
    page.row("counters", counters({"transitions": instance["transitions"]} | instance["counters"]))


def _history(page: Page, history: list[Snapshot]) -> None:
    """Add the last changes, the latest first; `tandem history` has all."""
    found = changes(history)[-HISTORY_ROWS:]
    if found:
        page.lines.append("")
    for number, change in enumerate(reversed(found)):
        why = f" ({change.why})" if change.why else ""
        page.row("" if number else "history", [f"{change.when} {change.group} {change.state}{why}"])


def _since(state: Snapshot) -> str:
    """Return how long a state has lasted and when it began; no time of day while the clock is not set."""
    parts = []
    if state["since_s"] is not None:
        parts.append(f"for {duration(state['since_s'])}")
    parts.append(_clock("since", state["since"]))
    return ", ".join(filter(None, parts))


def _clock(word: str, when: float | None) -> str:
    return "" if when is None else time.strftime(f"{word} %Y-%m-%d %H:%M:%S", time.localtime(when))


def _interface(instance: Snapshot) -> str:
    """Return the configured name of the interface, with the device of an OpenWrt network."""
    name, device = instance["interface"], instance["device"]
    return str(name) if device == name else f"{name} ({device or 'no device'})"


def _every(advertiser: Snapshot, key: str = "advert_int_ms") -> str:
    interval = advertiser[key]
    return f"every {interval:g} ms" if interval < 1000 else f"every {interval / 1000:g} s"


def _priority(priority: Snapshot) -> str:
    """Return the effective priority and its sum: 110 = 100 +10 script chk."""
    reasons = []
    for why in priority["why"]:
        what, _, weight = why.rpartition(" ")
        reasons.append(f"{weight} {what}" if what and weight[0] in "+-" else f"({why})")
    if not reasons and priority["effective"] == priority["base"]:
        return str(priority["effective"])
    return " ".join([f"{priority['effective']} = {priority['base']}", *reasons])


def _peer(peer: Snapshot | None) -> Iterator[str]:
    if peer is None:
        yield "none heard"
        return
    yield peer["address"]
    yield f"priority {peer['priority']}" if peer["priority"] else "priority 0 (resigned)"
    yield _every(peer, "interval_ms")
    if peer["last_advert_s"] is not None:
        yield f"heard {duration(peer['last_advert_s'])} ago"


def _tracker(tracker: Snapshot) -> str:
    state = {True: "up", False: "DOWN", None: "not known yet"}[tracker["up"]]
    weight = f" (weight {tracker['weight']:+d})" if tracker["weight"] else ""
    return f"{tracker['kind']} {tracker['name']} {state}{weight}"
