# SPDX-License-Identifier: GPL-2.0-or-later
"""The three questions that a person asks first, answered from a status: pure.

Who is active, is another router ready to take over, and would connections survive that?
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tandem.control.page import duration

Status = Mapping[str, Any]

YES, UNKNOWN, NO = "32", "33", "31"  # colours of answers
READY = ("BACKUP", "MASTER")
NOBODY = "nobody"


def summary(status: Status) -> list[tuple[str, str, str]]:
    """Return label, text and colour of each of the three lines."""
    return [("active", *_active(status)), ("ready", *_ready(status)), ("connections", *_survive(status))]


def active_router(status: Status, group: Status) -> str:
    """Name the router that has the role of a group."""
    if group["state"] == "MASTER":
        return "this router"
    for peer in status["peers"]:
        if peer["roles"].get(group["name"]) == "MASTER":
            return str(peer["name"])
    for instance in status["instances"]:
        heard = instance["peer"]
        if instance["group"] == group["name"] and heard is not None and heard["priority"]:
            return str(heard["address"])
    return NOBODY


def _active(status: Status) -> tuple[str, str]:
    found: dict[str, list[Status]] = {}
    for group in status["groups"]:
        found.setdefault(active_router(status, group), []).append(group)
    if not found:
        return "no virtual routers are configured", UNKNOWN
    texts = []
    for name, groups in found.items():
        names = ", ".join(group["name"] for group in groups)
        text = f"{name} ({names})"
        if name == "this router":
            text += f", for {duration(min(group['since_s'] or 0 for group in groups))}"
        texts.append(text)
    return "; ".join(texts), NO if NOBODY in found else YES


def _ready(status: Status) -> tuple[str, str]:
    """Look at the routers that are not active: this one, or its peers."""
    waiting = [group for group in status["groups"] if group["state"] != "MASTER"]
    if broken := [group for group in waiting if group["state"] != "BACKUP"]:
        reasons = "; ".join(_why_not(group) for group in broken)
        return f"no, not this router: {reasons}", NO
    quorum = status.get("quorum")
    if quorum is not None and quorum["policy"] == "required":
        for group in waiting:
            if why := quorum["lacking"].get(group["name"]):
                return f"no, not this router: {group['name']} has no quorum ({why})", NO
    active = [group["name"] for group in status["groups"] if group["state"] == "MASTER"]
    if not active:
        return ("yes, this router", YES) if waiting else ("no", NO)
    if not status["peers"]:
        return "not known: there is no channel to another router", UNKNOWN
    there = [peer for peer in status["peers"] if peer["connected"]]
    if not there:
        return f"no: {' and '.join(peer['name'] for peer in status['peers'])} can't be reached", NO
    for name in active:
        if not any(peer["roles"].get(name, "BACKUP") in READY for peer in there):
            return f"no: {'; '.join(_role_of(peer, name) for peer in there)}", NO
    return f"yes, {' and '.join(peer['name'] for peer in there)}", YES


def _role_of(peer: Status, group: str) -> str:
    return f"{peer['name']} is {peer['roles'][group]} for {group}"


def _why_not(group: Status) -> str:
    reasons = ", ".join(group["faults"])
    return f"{group['name']} is {group['state']}" + (f" ({reasons})" if reasons else "")


def _survive(status: Status) -> tuple[str, str]:
    peers = status["peers"]
    if missing := status["health"].get("replication_missing"):
        return f"no: {', '.join(missing)}", NO
    if not any(peer["connections"] != "off" for peer in peers):
        return "no: connections are not replicated (config conntrack_sync)", NO
    words: dict[str, list[str]] = {}
    for peer in peers:
        words.setdefault(peer["connections"], []).append(peer["name"])
    if names := words.get("in step"):
        return f"yes, in step with {' and '.join(names)}", YES
    if names := words.get("out of step"):
        return f"not all of them: {' and '.join(names)} is out of step", NO
    if "idle" in words:
        return "nothing to lose: no router is active", UNKNOWN
    return f"no: {' and '.join(words.get('down', ['no peer']))} can't be reached", NO
