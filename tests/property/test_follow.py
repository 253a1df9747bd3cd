# SPDX-License-Identifier: GPL-2.0-or-later
"""A followed network on two routers, under adverse orders of roles, leases and words of netifd.

Whatever happens: a router without the role has no device and no address on the line, and a lease that has
expired or that belongs to another MAC address is in place nowhere. A router with the role has no address of
its own in the LANs, and one that follows no more has none either.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tandem.core.follow import Action, Followed, State, Step
from tandem.core.lease import AnyLease, Lease, Lease6, Lent, Session
from tandem.core.timers import SECOND

MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


class Router:
    """A router, and what its kernel has: a model of follow/following.py without delays."""

    def __init__(self) -> None:
        self.network = Followed("wan", MAC)
        self.active = self.device = False
        self.address: AnyLease | None = None
        self.own: AnyLease | None = None  # of whose prefixes it has addresses of its own
        self.told: list[AnyLease | None] = []  # to the peer, which hears it later

    def do(self, actions: list[Action], now: int) -> None:
        for step, lease in actions:
            match step:
                case Step.CREATE:
                    self.device = True
                case Step.DELETE:
                    self.device, self.address = False, None
                case Step.PLACE:
                    assert self.active and self.device and lease is not None
                    assert not isinstance(lease, Session) and lease.valid(now) and lease.mac == MAC
                    assert self.own is None, "netifd may make the same address"
                    self.address = lease
                case Step.LEAVE:
                    assert lease is not None
                    self.own = None
                case Step.HOLD:
                    assert not self.active and isinstance(lease, Lease6) and lease.mac == MAC
                    self.own = lease
                case Step.REMOVE:
                    placed = self.network.placed if self.network.state is not State.AWAY else None
                    kept = placed.parts if placed is not None else frozenset()
                    gone = lease.parts - kept if lease is not None else frozenset()
                    if self.address is not None and self.address.parts <= gone:
                        self.address = None
                case Step.ASK:
                    assert self.active, "only the active router brings the network up"
                case Step.TELL:
                    assert self.active, "only the active router knows the lease"
                    self.told.append(lease)
                case Step.FLUSH:
                    assert lease is not None or self.network.state is not State.AWAY
        network = self.network
        assert self.device == (network.state is not State.AWAY) == self.active
        assert self.address is None or self.active
        assert self.own is self.network.held and (self.own is None or not self.active)
        if network.state is State.LENT:
            assert self.address == network.placed and network.next_deadline() is not None


LEASES = st.builds(
    lambda last, left, mac: ("lease", last, left, mac),
    st.integers(1, 6), st.integers(0, 4), st.sampled_from((MAC, MAC, MAC, OTHER_MAC)),
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(
        st.sampled_from(("active", "takeover", "backup", "down", "hear", "up without a lease", "let go"))
    ),
    st.tuples(st.just("wait"), st.integers(0, 2 * SECOND)),
    LEASES,
)


def lease_of(family: int, mac: str, which: int, until: int) -> AnyLease:
    """A lease; in IPv6, each bit of `which` is a part of it."""
    if family == 4:
        return Lease("wan", mac, f"192.0.2.{which}", 24, until)
    parts = [Lent(f"2001:db8:{bit}::", 64, until, until) for bit in range(3) if which >> bit & 1]
    return Lease6("wan", mac, tuple(parts[:1]), tuple(parts[1:]), until)


@given(st.sampled_from((4, 6)), st.lists(st.tuples(st.integers(0, 1), STEPS), min_size=20, max_size=80))
def test_any_order_of_events(family: int, steps: list[tuple[int, tuple[object, ...]]]) -> None:
    routers, now = (Router(), Router()), 0
    for which, step in steps:
        one, other = routers[which], routers[1 - which]
        match step:
            case ("active",):
                one.active = True
                one.do(one.network.active(now), now)
            case ("takeover",):  # of a lease that has been told
                one.do(one.network.backup(), now) if not one.active else None
                one.do(one.network.told(lease_of(family, MAC, 7, now + 2 * SECOND), now), now)
                one.active = True
                one.do(one.network.active(now), now)
            case ("backup",):
                one.active = False
                one.do(one.network.backup(), now)
            case ("let go",):  # and it follows anew
                one.active = False
                one.do(one.network.stop(), now)
                assert one.own is None
                one.network = Followed("wan", MAC)
            case ("down",):
                one.do(one.network.down(), now)
            case ("up without a lease",):
                one.do(one.network.up(None), now)
            case ("hear",):
                while other.told:
                    one.do(one.network.told(other.told.pop(0), now), now)
            case ("wait", int(pause)):
                now += pause
            case ("lease", int(last), int(left), str(mac)):
                lease = lease_of(family, mac, last, now + left * SECOND)
                if mac == MAC:  # netifd's own; another one can only come from a peer
                    one.do(one.network.up(lease), now)
                else:
                    one.do(one.network.told(lease, now), now)
        for router in routers:
            deadline = router.network.next_deadline()
            if deadline is not None and deadline <= now:
                router.do(router.network.due(now), now)
                assert router.network.state is not State.LENT and router.address is None


class Concentrator:
    """A concentrator of PPPoE that allows the account one session, and uses the few ids again at once."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self._last = 0

    def dial(self) -> Session | None:
        """A new session; None while it believes that there is one."""
        if self.session is not None:
            return None
        self._last = self._last % 2 + 1
        self.session = Session("wan", MAC, f"192.0.2.{self._last}", "02:00:00:00:00:ac", self._last, True)
        return self.session


class Caller:
    """A router that dials, while its network follows the role."""

    def __init__(self, concentrator: Concentrator) -> None:
        self.network = Followed("wan", MAC)
        self.told: list[AnyLease | None] = []
        self._concentrator = concentrator

    def do(self, actions: list[Action]) -> None:
        for step, lease in actions:
            if step is Step.HANG_UP and isinstance(lease, Session):
                found = self._concentrator.session
                if found is not None and found.id == lease.id:
                    self._concentrator.session = None
            elif step is Step.TELL:
                self.told.append(lease)
            assert step is not Step.PLACE


DIALS = st.sampled_from(("handover", "crash", "dial", "dial", "hear", "hear", "lost", "again"))


@given(st.lists(DIALS, min_size=10, max_size=60))
def test_a_router_that_takes_over_can_dial(steps: list[str]) -> None:
    """A hand-over leaves no session; a crash none that the peer has heard of. No other router's is ended."""
    concentrator = Concentrator()
    one, other = Caller(concentrator), Caller(concentrator)
    one.do(one.network.active(0))
    knows = True  # `other` knows the present session
    for step in steps:
        match step:
            case "handover":
                one.do(one.network.backup())
                other.do(other.network.active(0))
                assert concentrator.session is None or concentrator.session != one.network.lease
                one, other = other, one
            case "crash":
                other.do(other.network.active(0))
                assert not knows or concentrator.session is None
                one, other = other, Caller(concentrator)
                knows = concentrator.session is None
            case "dial" if one.network.state is State.ASKING:
                if (session := concentrator.dial()) is not None:
                    one.do(one.network.up(session))
                    knows = False
                else:
                    concentrator.session = None  # at last, it notices that nobody is there
            case "hear":
                for teller, hearer in ((one, other), (other, one)):
                    while teller.told:
                        hearer.do(hearer.network.told(teller.told.pop(0), 0))
                knows = one.network.state is State.BOUND or concentrator.session is None
            case "lost" if one.network.state is State.BOUND:
                concentrator.session = None
                one.do(one.network.down())
                knows = True
            case "again":
                one.do(one.network.active(0))
        if one.network.state is State.BOUND:
            assert concentrator.session == one.network.lease, "nobody has ended the session in use"


@given(st.lists(DIALS, min_size=10, max_size=60))
def test_an_open_session_goes_on_or_another_one_takes_its_place(steps: list[str]) -> None:
    """A router that knows the present session goes on with it, and one that does not can dial."""
    concentrator = Concentrator()
    one, other = Caller(concentrator), Caller(concentrator)
    one.do(one.network.active(0))
    for step in steps:
        match step:
            case "handover" | "crash":
                before, lease = concentrator.session, other.network.lease
                if step == "handover":
                    one.do(one.network.backup(leave_open=True))
                    assert concentrator.session is before
                other.do(other.network.active(0, take_over=lease is not None))
                assert concentrator.session is before and (
                    lease is None or other.network.state is State.TAKING
                )
                one, other = other, one if step == "handover" else Caller(concentrator)
            case "dial" if one.network.state is State.TAKING:
                lease = one.network.lease
                if concentrator.session is not None and concentrator.session == lease:
                    one.do(one.network.up(lease))
                    assert concentrator.session == lease
                else:
                    one.do(one.network.not_taken())
            case "dial" if one.network.state is State.ASKING:
                if (session := concentrator.dial()) is not None:
                    one.do(one.network.up(session))
                else:
                    concentrator.session = None  # at last, it notices that nobody is there
            case "hear":
                for teller, hearer in ((one, other), (other, one)):
                    while teller.told:
                        hearer.do(hearer.network.told(teller.told.pop(0), 0))
            case "lost" if one.network.state is State.BOUND:
                concentrator.session = None
                one.do(one.network.down())
            case "again":
                one.do(one.network.active(0))
        if one.network.state is State.BOUND:
            assert concentrator.session == one.network.lease, "nobody has ended the session in use"
