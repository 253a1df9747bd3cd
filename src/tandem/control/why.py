# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem why`: sentences that say why the roles are as they are, and what would change them. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from tandem.control.page import duration
from tandem.control.summary import NOBODY, active_router

Status = Mapping[str, Any]

OWNER = 255  # the priority of the owner of the addresses


def explain(status: Status) -> list[str]:
    """Return the sentences, group by group."""
    found = []
    for group in status["groups"]:
        members = [item for item in status["instances"] if item["group"] == group["name"]]
        rules = {"MASTER": _active, "BACKUP": _backup, "FAULT": _fault}
        found += [
            f"{group['name']}: {sentence}"
            for sentence in rules.get(group["state"], _other)(status, group, members)
        ]
    return found or ["No virtual routers are configured."]


def _cause(status: Status, members: list[Status]) -> str:
    """Return why the present state came, in the words of the history."""
    names = {member["name"] for member in members}
    state = members[0]["state"] if members else ""
    last = [entry for entry in status["history"] if entry["name"] in names and entry["state"] == state]
    return f": {last[-1]['why']}" if last and last[-1]["why"] else ""


def _active(status: Status, group: Status, members: list[Status]) -> Iterator[str]:
    since = f" for {duration(group['since_s'])}" if group["since_s"] is not None else ""
    yield f"this router is MASTER{since}{_cause(status, members)}."
    priority = max(member["priority"]["effective"] for member in members)
    if priority < OWNER:
        yield f"A router that preempts takes the role from it with a priority of more than {priority}."
    yield from _degraded(group)
    yield from _trackers(members)
    yield f"`tandem failover {group['name']}` hands the role over; so do a stop and `tandem standby`."


def _degraded(group: Status) -> Iterator[str]:
    """Say why a group in fault takes part."""
    why = "takes part because no other router is better"
    if group["waits"]:
        why = "leaves its role when the better router holds its connections"
    for fault in group["faults"] if group["state"] != "FAULT" else ():
        yield f"It has a fault, and {why}: {fault}."


def _trackers(members: list[Status]) -> Iterator[str]:
    """Name what would be a fault, and what would change the priority."""
    seen = {}
    for member in members:
        for tracker in member["trackers"]:
            seen[tracker["kind"], tracker["name"]] = tracker
    fatal = [f"{kind} {name}" for (kind, name), tracker in seen.items() if not tracker["weight"]]
    if fatal:
        yield f"It gives the role up when one of these fails: {', '.join(fatal)}."
    for (kind, name), tracker in seen.items():
        if tracker["weight"]:
            yield f"The priority changes by {tracker['weight']:+d} with {kind} {name}."


def _backup(status: Status, group: Status, members: list[Status]) -> Iterator[str]:
    active = active_router(status, group)
    quorum = status.get("quorum")
    if quorum is not None and quorum["policy"] == "required" and group["name"] in quorum["lacking"]:
        why = quorum["lacking"][group["name"]]
        yield f"this router is BACKUP, and takes no role without a quorum: {why}."
        return
    if active == NOBODY:
        yield "this router is BACKUP, and has heard no active router; it becomes MASTER when nobody speaks."
        return
    yield f"{active} is MASTER, this router is BACKUP{_cause(status, members)}."
    yield from _degraded(group)
    heard = [member for member in members if member["peer"] is not None]
    if not heard:
        return
    silent = min(member["peer"]["interval_ms"] for member in heard)
    every = f"one every {silent:g} ms"
    yield f"It takes over when it misses the adverts of {active}, {every}, or when {active} resigns."
    better = [m for m in heard if m["priority"]["effective"] > m["peer"]["priority"]]
    if len(better) < len(heard):
        other = next(m for m in heard if m not in better)
        mine, theirs = other["priority"]["effective"], other["peer"]["priority"]
        yield f"It does not preempt: its priority is {mine}, that of {active} is {theirs}."
    elif hindrances := list(_hindrances(group, members)):
        for hindrance in hindrances:
            yield f"Its priority is higher, but it does not preempt: {hindrance}."
    else:
        yield "Its priority is higher: it preempts as soon as it is in step and its delay is over."


def _hindrances(group: Status, members: list[Status]) -> Iterator[str]:
    if not all(member["preempt"] for member in members):
        yield "option nopreempt is set"
    if group["held"]:
        yield f"`tandem failover` was used here, until `tandem resume {group['name']}`"
    if group["damped_s"] is not None:
        yield f"the role has changed too often, for {duration(group['damped_s'])} more"
    if group["probation"]:
        yield f"its last active time failed ({group['probation']}), until that has changed"


def _fault(status: Status, group: Status, _members: list[Status]) -> Iterator[str]:
    active = active_router(status, group)
    other = "no active router is known" if active == NOBODY else f"{active} is"
    yield f"this router can't be MASTER; {other}."
    for fault in group["faults"]:
        if fault != "standby":
            yield f"It can again when this has ended: {fault}."
    if group["standby"]:
        who = f" by {group['standby_by']}" if group["standby_by"] else ""
        when = group["standby_since"]
        since = time.strftime(" since %Y-%m-%d %H:%M:%S", time.localtime(when)) if when is not None else ""
        lasts = "also over a restart" if group["standby_lasts"] else "at most until the daemon ends"
        yield f"It is in standby{since}{who}, {lasts}: `tandem resume {group['name']}` ends that."


def _other(_status: Status, group: Status, _members: list[Status]) -> Iterator[str]:
    yield f"this router is {group['state']}: it takes no part in the election now."
