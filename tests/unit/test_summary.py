# SPDX-License-Identifier: GPL-2.0-or-later
"""The three answers of `tandem status`, and the sentences of `tandem why`."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tandem.control.summary import NO, UNKNOWN, YES, summary
from tandem.control.why import explain
from tests.unit.status_snapshot import STATUS

pytestmark = pytest.mark.usefixtures("utc")


def one_group(state: str, group: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A status with the group G1 alone, and its two instances, in a state."""
    status = copy.deepcopy(STATUS)
    del status["groups"][1], status["instances"][2]
    status["groups"][0] |= {"state": state, "held": False, **(group or {})}
    for instance in status["instances"]:
        instance["state"] = state
    return status | more


def peer(**changes: Any) -> dict[str, Any]:
    return STATUS["peers"][0] | changes


HEARD = {"address": "192.168.1.3", "priority": 101, "interval_ms": 1500, "last_advert_s": 0.3}
DOWN = peer(connected=False, roles={}, connections="down")


@pytest.mark.parametrize(
    ("status", "active"),
    [
        (one_group("MASTER"), ("this router (G1), for 4 h 22 min", YES)),
        (one_group("MASTER", {"since_s": None}), ("this router (G1), for 0 ms", YES)),
        (one_group("BACKUP", peers=[peer(roles={"G1": "MASTER"})]), ("r2 (G1)", YES)),
        (one_group("BACKUP", peers=[]), ("192.168.1.3 (G1)", YES)),
        (one_group("BACKUP", peers=[], instances=[]), ("nobody (G1)", NO)),
        (one_group("MASTER", groups=[]), ("no virtual routers are configured", UNKNOWN)),
    ],
)
def test_who_is_active(status: dict[str, Any], active: tuple[str, str]) -> None:
    assert summary(status)[0] == ("active", *active)


def test_a_router_that_has_resigned_is_not_active() -> None:
    status = one_group("BACKUP", peers=[])
    for instance in status["instances"]:
        instance["peer"] = HEARD | {"priority": 0}
    assert summary(status)[0][1] == "nobody (G1)"


def test_two_groups_two_routers() -> None:
    status = copy.deepcopy(STATUS)
    status["groups"][1] |= {"state": "BACKUP", "faults": []}
    status["peers"] = [peer(roles={"G1": "BACKUP", "guest": "MASTER"})]
    assert [text for _, text, _ in summary(status)] == [
        "this router (G1), for 4 h 22 min; r2 (guest)",
        "yes, r2",
        "yes, in step with r2",
    ]


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        (one_group("MASTER"), ("yes, r2", YES)),
        (one_group("MASTER", peers=[peer(roles={})]), ("yes, r2", YES)),  # an older release tells no roles
        (one_group("MASTER", peers=[peer(roles={"G1": "FAULT"})]), ("no: r2 is FAULT for G1", NO)),
        (one_group("MASTER", peers=[DOWN]), ("no: r2 can't be reached", NO)),
        (one_group("MASTER", peers=[]), ("not known: there is no channel to another router", UNKNOWN)),
        (one_group("BACKUP"), ("yes, this router", YES)),
        (
            one_group("FAULT", {"faults": ["interface eth0 down"]}),
            ("no, not this router: G1 is FAULT (interface eth0 down)", NO),
        ),
        (one_group("INIT"), ("no, not this router: G1 is INIT", NO)),
    ],
)
def test_is_another_router_ready(status: dict[str, Any], ready: tuple[str, str]) -> None:
    assert summary(status)[1] == ("ready", *ready)


@pytest.mark.parametrize(
    ("more", "survive"),
    [
        ({}, ("yes, in step with r2", YES)),
        ({"peers": [peer(connections="out of step")]}, ("not all of them: r2 is out of step", NO)),
        ({"peers": [peer(connections="out of step"), peer(name="r3")]}, ("yes, in step with r3", YES)),
        ({"peers": [peer(connections="idle")]}, ("nothing to lose: no router is active", UNKNOWN)),
        ({"peers": [DOWN]}, ("no: r2 can't be reached", NO)),
        ({"peers": []}, ("no: connections are not replicated (config conntrack_sync)", NO)),
        (
            {"peers": [peer(connections="off")]},
            ("no: connections are not replicated (config conntrack_sync)", NO),
        ),
        ({"health": {"replication_missing": ["no kernel module"]}}, ("no: no kernel module", NO)),
    ],
)
def test_would_connections_survive(more: dict[str, Any], survive: tuple[str, str]) -> None:
    assert summary(one_group("MASTER", **more))[2] == ("connections", *survive)


# why


def test_why_active() -> None:
    assert explain(one_group("MASTER")) == [
        "G1: this router is MASTER for 4 h 22 min.",
        "G1: A router that preempts takes the role from it with a priority of more than 105.",
        "G1: It gives the role up when one of these fails: interface br-lan, script slow.",
        "G1: The priority changes by +10 with script chk.",
        "G1: The priority changes by -5 with interface wwan0.",
        "G1: `tandem failover G1` hands the role over; so do a stop and `tandem standby`.",
    ]


@pytest.mark.parametrize("waits", [False, True])
def test_why_a_router_in_fault_is_active(waits: bool) -> None:
    status = one_group("MASTER", {"faults": ["interface wan down"], "waits": waits})
    why = "leaves its role when the better router holds its connections"
    if not waits:
        why = "takes part because no other router is better"
    assert f"G1: It has a fault, and {why}: interface wan down." in explain(status)


def test_why_a_single_instance_is_active() -> None:
    status = one_group("MASTER")
    del status["instances"][1]
    status["history"].append(
        status["history"][-1] | {"name": status["instances"][0]["name"], "why": "a test"}
    )
    status["history"][-1]["state"] = "MASTER"
    assert explain(status)[0] == "G1: this router is MASTER for 4 h 22 min: a test."


def test_the_owner_of_the_addresses_is_not_preempted() -> None:
    status = one_group("MASTER", {"since_s": None})
    for instance in status["instances"]:
        instance["priority"] = {"base": 255, "effective": 255, "why": []}
        instance["trackers"] = []
    status["history"].append(status["history"][-1] | {"why": "it owns the addresses"})
    assert explain(status) == [
        "G1: this router is MASTER: it owns the addresses.",
        "G1: `tandem failover G1` hands the role over; so do a stop and `tandem standby`.",
    ]


@pytest.mark.parametrize(
    ("group", "instance", "sentence"),
    [
        (
            {},
            {"peer": HEARD | {"priority": 150}},
            "It does not preempt: its priority is 105, that of r2 is 150.",
        ),
        (
            {},
            {"peer": HEARD | {"priority": 105}},
            "It does not preempt: its priority is 105, that of r2 is 105.",
        ),
        ({}, {}, "Its priority is higher: it preempts as soon as it is in step and its delay is over."),
        ({}, {"preempt": False}, "Its priority is higher, but it does not preempt: option nopreempt is set."),
        (
            {"held": True},
            {},
            "Its priority is higher, but it does not preempt: `tandem failover` was used here, until"
            " `tandem resume G1`.",
        ),
        (
            {"damped_s": 90},
            {},
            "Its priority is higher, but it does not preempt: the role has changed too often, for"
            " 1 min 30 s more.",
        ),
        (
            {"probation": "no route"},
            {},
            "Its priority is higher, but it does not preempt: its last active time failed (no route), until"
            " that has changed.",
        ),
    ],
)
def test_why_backup(group: dict[str, Any], instance: dict[str, Any], sentence: str) -> None:
    status = one_group("BACKUP", group, peers=[peer(roles={"G1": "MASTER"})])
    status["instances"][0] |= instance
    assert explain(status) == [
        "G1: r2 is MASTER, this router is BACKUP: a better router is active.",
        "G1: It takes over when it misses the adverts of r2, one every 1500 ms, or when r2 resigns.",
        f"G1: {sentence}",
    ]


def test_why_backup_without_an_active_router() -> None:
    status = one_group("BACKUP", peers=[])
    for instance in status["instances"]:
        instance["peer"] = None
    assert explain(status) == [
        "G1: this router is BACKUP, and has heard no active router; it becomes MASTER when nobody speaks."
    ]
    status["peers"] = [peer(roles={"G1": "MASTER"})]
    assert explain(status) == ["G1: r2 is MASTER, this router is BACKUP: a better router is active."]


@pytest.mark.parametrize(
    ("policy", "lacking", "said"),
    [
        ("required", {"G1": "1 of 3 votes"}, "takes no role without a quorum: 1 of 3 votes."),
        ("required", {"other": "1 of 3 votes"}, "r2 is MASTER, this router is BACKUP"),
        ("advisory", {"G1": "1 of 3 votes"}, "r2 is MASTER, this router is BACKUP"),
    ],
)
def test_why_a_backup_without_a_quorum_stays_one(policy: str, lacking: dict[str, str], said: str) -> None:
    status = one_group("BACKUP", peers=[peer(roles={"G1": "MASTER"})])
    status["quorum"] = {"policy": policy, "lacking": lacking}
    assert said in explain(status)[0]


def test_why_fault() -> None:
    status = copy.deepcopy(STATUS)
    del status["groups"][0]
    assert explain(status) == [
        "guest: this router can't be MASTER; no active router is known.",
        "guest: It can again when this has ended: interface br-guest down.",
        "guest: It can again when this has ended: no address on br-guest.",
        "guest: It is in standby since 2025-07-27 07:06:40 by root from 192.168.1.10, also over a restart:"
        " `tandem resume guest` ends that.",
    ]
    once = {"standby_lasts": False, "standby_by": "", "standby_since": None, "faults": ["standby"]}
    status["groups"][0] |= once
    status["peers"] = [peer(roles={"guest": "MASTER"})]
    assert explain(status) == [
        "guest: this router can't be MASTER; r2 is.",
        "guest: It is in standby, at most until the daemon ends: `tandem resume guest` ends that.",
    ]


def test_why_neither() -> None:
    assert explain(one_group("INIT")) == ["G1: this router is INIT: it takes no part in the election now."]
    assert explain(one_group("INIT", groups=[])) == ["No virtual routers are configured."]
