# SPDX-License-Identifier: GPL-2.0-or-later
"""A followed network: its table row by row, and which lease is used when."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from tandem.core.follow import TRANSITIONS, Cue, Followed, State, Step
from tandem.core.lease import Lease, Lease6, Lent, Session
from tandem.core.timers import SECOND

AWAY, LENT, TAKING, ASKING, BOUND = State
MAC = "02:1a:2b:3c:4d:5e"
OF_PREFIXES = (Step.HOLD, Step.LEAVE)  # left out where the lease has no prefix
LEASE = Lease("wan", MAC, "203.0.113.7", 24, 100 * SECOND, (("0.0.0.0/0", "203.0.113.1"),))
OTHER = replace(LEASE, address="203.0.113.8")
SESSION = Session("wan", MAC, "203.0.113.7", "02:00:00:00:00:ac", 7)
OPEN = replace(SESSION, open=True)


def away(lease: Lease | Session | None = None) -> Followed:
    network = Followed("wan", MAC)
    assert network.told(lease, 0) == []
    return network


def in_state(state: State) -> Followed:
    """A network in that state; LENT and BOUND have LEASE in place, and TAKING takes a session over."""
    network = away(LEASE if state is LENT else OPEN if state is TAKING else None)
    if state is not AWAY:
        network.active(0, take_over=True)
    if state is BOUND:
        network.up(LEASE)
    assert network.state is state
    return network


# What each event leads to from each state, and the steps.
ROWS = {
    (AWAY, "active"): (ASKING, [Step.CREATE, Step.ASK]),
    (AWAY, "up"): (AWAY, [Step.DELETE, Step.RELEASE]),
    (AWAY, "other"): (AWAY, [Step.DELETE, Step.RELEASE]),
    (AWAY, "down"): (AWAY, [Step.REMOVE]),
    (AWAY, "same address"): (AWAY, [Step.DELETE, Step.RELEASE]),
    (LENT, "backup, open"): (AWAY, [Step.REMOVE, Step.DELETE]),  # a lease is no session
    (LENT, "same address"): (BOUND, [Step.REMOVE, Step.FLUSH, Step.TELL]),
    (BOUND, "backup, open"): (AWAY, [Step.REMOVE, Step.HANG_UP, Step.DELETE]),
    (BOUND, "same address"): (BOUND, [Step.REMOVE, Step.FLUSH, Step.TELL]),
    (LENT, "backup"): (AWAY, [Step.REMOVE, Step.DELETE]),
    (LENT, "up"): (BOUND, [Step.TELL]),
    (LENT, "other"): (BOUND, [Step.REMOVE, Step.FLUSH, Step.TELL]),
    (LENT, "expired"): (ASKING, [Step.REMOVE, Step.FLUSH]),
    (TAKING, "backup"): (AWAY, [Step.HANG_UP, Step.DELETE]),
    (TAKING, "backup, open"): (AWAY, [Step.DELETE]),
    (TAKING, "same address"): (BOUND, [Step.TELL]),
    (TAKING, "up"): (BOUND, [Step.FLUSH, Step.TELL]),
    (TAKING, "other"): (BOUND, [Step.FLUSH, Step.TELL]),
    (TAKING, "not taken"): (ASKING, [Step.HANG_UP]),
    (ASKING, "backup"): (AWAY, [Step.DELETE]),
    (ASKING, "backup, open"): (AWAY, [Step.DELETE]),
    (ASKING, "same address"): (BOUND, [Step.TELL]),
    (ASKING, "up"): (BOUND, [Step.TELL]),
    (ASKING, "other"): (BOUND, [Step.TELL]),
    (ASKING, "told"): (LENT, [Step.PLACE]),
    (BOUND, "backup"): (AWAY, [Step.REMOVE, Step.HANG_UP, Step.DELETE]),
    (BOUND, "up"): (BOUND, [Step.TELL]),
    (BOUND, "other"): (BOUND, [Step.REMOVE, Step.FLUSH, Step.TELL]),
    (BOUND, "down"): (ASKING, [Step.REMOVE, Step.TELL]),
}
EVENTS = {
    "active": lambda network: network.active(0),
    "backup": lambda network: network.backup(),
    "backup, open": lambda network: network.backup(leave_open=True),
    "same address": lambda network: network.up(OPEN),
    "not taken": lambda network: network.not_taken(),
    "up": lambda network: network.up(LEASE),
    "other": lambda network: network.up(OTHER),
    "down": lambda network: network.down(),
    "told": lambda network: network.told(LEASE, 0),
    "expired": lambda network: network.due(LEASE.until),
}


@pytest.mark.parametrize(("state", "event"), list(product(State, EVENTS)))
def test_every_event_in_every_state(state: State, event: str) -> None:
    network = in_state(state)
    actions = EVENTS[event](network)
    after, steps = ROWS.get((state, event), (state, []))
    assert (network.state, [step for step, _ in actions]) == (after, steps)


def test_every_row_of_the_table_is_reached() -> None:
    """Those that the rows above do not reach begin with a lease that was told, or lost."""
    reached = {
        (AWAY, Cue.UP): (AWAY, "up"), (AWAY, Cue.DOWN): (AWAY, "down"),
        (LENT, Cue.UP): (LENT, "up"), (LENT, Cue.OTHER): (LENT, "other"),
        (LENT, Cue.EXPIRED): (LENT, "expired"), (LENT, Cue.BACKUP): (LENT, "backup"),
        (ASKING, Cue.UP): (ASKING, "up"), (ASKING, Cue.TOLD): (ASKING, "told"),
        (ASKING, Cue.BACKUP): (ASKING, "backup"), (BOUND, Cue.UP): (BOUND, "up"),
        (BOUND, Cue.OTHER): (BOUND, "other"), (BOUND, Cue.DOWN): (BOUND, "down"),
        (BOUND, Cue.BACKUP): (BOUND, "backup"), (TAKING, Cue.UP): (TAKING, "same address"),
        (TAKING, Cue.OTHER): (TAKING, "other"), (TAKING, Cue.NOT_TAKEN): (TAKING, "not taken"),
        (TAKING, Cue.BACKUP): (TAKING, "backup"), (TAKING, Cue.BACKUP_OPEN): (TAKING, "backup, open"),
    }  # fmt: skip
    for cue, row in reached.items():
        after, steps = TRANSITIONS[cue]
        assert (after, [step for step in steps if step not in OF_PREFIXES]) == ROWS[row]
    assert set(TRANSITIONS) - set(reached) == {
        (AWAY, Cue.ACTIVE), (AWAY, Cue.ACTIVE_LEASE), (AWAY, Cue.ACTIVE_SESSION), (ASKING, Cue.OTHER),
        (AWAY, Cue.TOLD), (AWAY, Cue.NONE), (AWAY, Cue.ACTIVE_OPEN), (BOUND, Cue.BACKUP_OPEN),
    }  # fmt: skip


def test_a_takeover_uses_the_lease_of_the_peer_at_once() -> None:
    network = away(LEASE)
    assert network.active(0) == [(Step.CREATE, LEASE), (Step.PLACE, LEASE), (Step.ASK, LEASE)]
    assert network.state is LENT and network.placed == LEASE
    assert network.next_deadline() == LEASE.until
    renewed = replace(LEASE, until=200 * SECOND)
    assert network.up(renewed) == [(Step.TELL, renewed)]
    assert network.next_deadline() is None and network.placed == renewed


@pytest.mark.parametrize("now", [LEASE.until - SECOND + 1, LEASE.until, LEASE.until + 1])
def test_an_expired_lease_is_not_used(now: int) -> None:
    network = away(LEASE)
    assert [step for step, _ in network.active(now)] == [Step.CREATE, Step.ASK]
    assert network.placed is None


def test_the_lease_of_another_mac_address_is_not_used() -> None:
    network = away(replace(LEASE, mac="02:00:00:00:00:01"))
    assert network.refused == 1 and network.lease is None
    assert network.active(0)[0] == (Step.CREATE, None)


def test_a_provider_that_gives_another_address() -> None:
    network = in_state(LENT)
    assert network.up(OTHER) == [(Step.REMOVE, LEASE), (Step.FLUSH, LEASE), (Step.TELL, OTHER)]
    assert network.placed == OTHER


def test_the_connections_of_a_lease_that_has_expired_end_when_another_one_comes() -> None:
    network = away(LEASE)
    network.active(LEASE.until)
    assert network.state is ASKING and network.placed is None
    assert network.up(OTHER) == [(Step.FLUSH, LEASE), (Step.TELL, OTHER)]


def test_a_lost_address_ends_connections_also_when_it_comes_back_later() -> None:
    network = in_state(BOUND)
    assert network.down() == [(Step.REMOVE, LEASE), (Step.TELL, None)]
    assert network.up(OTHER) == [(Step.TELL, OTHER)]


def test_an_active_router_does_not_take_a_lease_from_a_peer() -> None:
    for state in (LENT, BOUND):
        network = in_state(state)
        assert network.told(OTHER, 0) == [] and network.lease == LEASE


def test_a_peer_without_a_lease_says_so() -> None:
    network = away(LEASE)
    assert network.told(None, 0) == [] and network.lease is None


def test_a_network_without_dhcp_has_no_lease() -> None:
    network = in_state(ASKING)
    assert network.up(None) == [(Step.TELL, None)]
    assert network.up(None) == [(Step.TELL, None)]
    assert network.backup() == [(Step.REMOVE, None), (Step.HANG_UP, None), (Step.DELETE, None)]


def test_the_lease_survives_the_role() -> None:
    """A router that gave the role up may have it back before a peer has told anything."""
    network = in_state(BOUND)
    network.backup()
    assert (Step.PLACE, LEASE) in network.active(0)


# IPv6: a lease of several parts, which come one after the other

ADDRESS = Lent("2001:db8:ff::5", 64, 50 * SECOND, 100 * SECOND)
PREFIX = Lent("2001:db8:1::", 56, 50 * SECOND, 100 * SECOND)
LEASE6 = Lease6("wan6", MAC, (ADDRESS,), (PREFIX,), 100 * SECOND)


def lent6() -> Followed:
    network = Followed("wan6", MAC)
    assert network.told(LEASE6, 0) == [(Step.HOLD, LEASE6)]
    assert [step for step, _ in network.active(0)] == [Step.LEAVE, Step.CREATE, Step.PLACE, Step.ASK]
    assert network.held is None
    return network


def test_a_lent_prefix_stays_until_dhcpv6_answers() -> None:
    """The client has heard an advert, and made its address of it; the server has not answered yet."""
    network = lent6()
    assert network.up(replace(LEASE6, prefixes=())) == []
    assert network.state is LENT and network.placed == LEASE6
    renewed = replace(LEASE6, until=200 * SECOND)
    assert network.up(renewed) == [(Step.TELL, renewed)] and network.state is BOUND


def test_a_provider_that_delegates_another_prefix() -> None:
    network = lent6()
    other = replace(LEASE6, prefixes=(replace(PREFIX, address="2001:db8:2::"),))
    assert network.up(other) == [(Step.REMOVE, LEASE6), (Step.FLUSH, LEASE6), (Step.TELL, other)]


def test_a_prefix_more_ends_nothing() -> None:
    network = lent6()
    more = replace(LEASE6, prefixes=(PREFIX, replace(PREFIX, address="2001:db8:2::")))
    assert network.up(more) == [(Step.TELL, more)]


def test_a_part_of_the_lease_that_the_provider_takes_back() -> None:
    network = lent6()
    network.up(LEASE6)
    less = replace(LEASE6, addresses=())
    assert network.up(less) == [(Step.REMOVE, LEASE6), (Step.FLUSH, LEASE6), (Step.TELL, less)]


def test_a_former_active_router_removes_the_prefix_that_netifd_keeps() -> None:
    """netifd keeps the addresses of a lost prefix, deprecated (RFC 7084, L-14); only an active may say so."""
    network = lent6()
    network.up(LEASE6)
    ended = [(Step.REMOVE, LEASE6), (Step.HANG_UP, LEASE6), (Step.DELETE, LEASE6)]
    assert network.backup() == [*ended, (Step.HOLD, LEASE6)]
    assert network.down() == [(Step.REMOVE, LEASE6)] and network.held == LEASE6


def test_a_backup_has_an_address_of_its_own_while_the_peer_has_the_prefix() -> None:
    network = Followed("wan6", MAC)
    network.told(LEASE6, 0)
    other = replace(LEASE6, until=200 * SECOND)
    assert network.told(other, 0) == [(Step.LEAVE, LEASE6), (Step.HOLD, other)]
    assert network.told(replace(other, mac="02:00:00:00:00:01"), 0) == [] and network.held == other
    assert network.told(None, 0) == [(Step.LEAVE, other)] and network.held is None
    assert network.told(None, 0) == []
    network.told(LEASE6, 0)
    assert network.told(LEASE6, LEASE6.until) == [(Step.LEAVE, LEASE6)]  # it has come too late


@pytest.mark.parametrize("lost", [True, False])
def test_the_own_address_is_gone_before_the_network_comes(lost: bool) -> None:
    network = Followed("wan6", MAC)
    network.told(LEASE6, 0)
    steps = [step for step, _ in network.active(LEASE6.until if lost else 0)]
    assert steps[0] is Step.LEAVE and steps[1] is Step.CREATE and (Step.PLACE in steps) is not lost


def test_a_network_that_no_longer_follows_leaves_nothing() -> None:
    network = Followed("wan6", MAC)
    network.told(LEASE6, 0)
    assert network.stop() == [(Step.LEAVE, LEASE6)]
    network = lent6()
    assert Step.HOLD not in [step for step, _ in network.stop()] and network.held is None


# PPPoE: a session is not lent, it is ended before the new dial


def test_a_takeover_ends_the_session_of_the_peer_before_it_dials() -> None:
    network = Followed("wan", MAC)
    assert network.told(SESSION, 0) == []
    assert network.active(0) == [(Step.CREATE, SESSION), (Step.HANG_UP, SESSION), (Step.ASK, SESSION)]
    assert network.state is ASKING and network.placed is None and network.next_deadline() is None
    again = replace(SESSION, id=8)
    assert network.up(again) == [(Step.TELL, again)], "the connections of the same address go on"


def test_a_concentrator_that_gives_another_address() -> None:
    network = Followed("wan", MAC)
    network.told(SESSION, 0)
    network.active(0)
    other = replace(SESSION, id=8, address="203.0.113.8")
    assert network.up(other) == [(Step.FLUSH, SESSION), (Step.TELL, other)]


def test_a_session_that_is_told_late_is_not_ended() -> None:
    """Its id may be that of the session which this router is about to get."""
    network = in_state(ASKING)
    assert network.told(SESSION, 0) == []
    assert network.active(0) == []


def test_a_session_that_is_left_open_is_taken_over() -> None:
    one, other = in_state(ASKING), away(OPEN)
    one.up(OPEN)
    assert one.backup(leave_open=True) == [(Step.REMOVE, OPEN), (Step.DELETE, OPEN)], "and no PADT"
    taken = [(Step.TAKE_OVER, OPEN), (Step.CREATE, OPEN), (Step.ASK, OPEN)]
    assert other.active(0, take_over=True) == taken and other.placed is None
    assert other.active(0, take_over=True) == []
    assert other.told(None, 0) == [] and other.down() == [] and other.lease == OPEN, "pppd negotiates"
    assert other.up(OPEN) == [(Step.TELL, OPEN)], "the connections go on"
    assert one.told(OPEN, 0) == [] and one.active(0, take_over=True) == taken


def test_a_session_that_is_not_taken_over_is_ended_before_the_dial() -> None:
    network = away(OPEN)
    network.active(0, take_over=True)
    assert network.not_taken() == [(Step.HANG_UP, OPEN)] and network.state is ASKING
    assert network.not_taken() == []
    again = replace(OPEN, id=8)
    assert network.up(again) == [(Step.TELL, again)], "the concentrator gives the same address"


def test_a_router_that_gives_the_role_up_ends_its_session_itself() -> None:
    network = in_state(ASKING)
    network.up(SESSION)
    assert network.backup() == [(Step.REMOVE, SESSION), (Step.HANG_UP, SESSION), (Step.DELETE, SESSION)]
