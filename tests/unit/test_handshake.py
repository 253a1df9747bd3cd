# SPDX-License-Identifier: GPL-2.0-or-later
"""The life of a session: each row of the table happens, with its actions."""

from __future__ import annotations

import pytest

from tandem.channel import handshake as hs
from tandem.channel.events import Authenticated, Closed, Event, Opened
from tandem.channel.frames import HEAD, HELLO_MAX, MAC_SIZE, TOPIC, ProtocolError, decode_hello
from tandem.channel.handshake import ACCEPTS, LARGEST, TABLE, State
from tests.property.replication_link import End, closed, pair

# Events in their order, and the side that they meet.
STEPS = (
    (hs.CALLED, "responder"),
    (hs.ANSWERED, "initiator"),
    (hs.PROVED, "responder"),
    (hs.PROVED_TOO, "initiator"),
    (hs.OPENS, "initiator"),
    (hs.OPENED_BY_PEER, "responder"),
)
# The row of each step: the state before and after it, and the actions.
ROWS: dict[str, tuple[State, State, tuple[str, ...]]] = {
    hs.CALLED: (State.HELLO, State.PROOF, (hs.SEND_HELLO,)),
    hs.ANSWERED: (State.HELLO, State.PROOF, (hs.SEND_AUTH,)),
    hs.PROVED: (State.PROOF, State.READY, (hs.SEND_AUTH, hs.TELL_AUTHENTICATED)),
    hs.PROVED_TOO: (State.PROOF, State.READY, (hs.TELL_AUTHENTICATED,)),
    hs.OPENS: (State.READY, State.OPENED, (hs.SEND_OPEN, hs.TELL_OPENED)),
    hs.OPENED_BY_PEER: (State.READY, State.OPENED, (hs.TELL_OPENED,)),
}
SAYS_GOODBYE = (State.READY, State.OPENED)  # on ENDS
BEFORE_THE_END = {State.HELLO: 0, State.PROOF: 1, State.READY: 3, State.OPENED: 6}  # steps of the responder


class Scene:
    """Two ends of a connection, which go step by step."""

    def __init__(self, steps: int) -> None:
        self.ends = {"initiator": End(1), "responder": End(2)}
        for name, end in self.ends.items():
            end.begin(name == "initiator", 0)
        for number in range(steps):
            self.step(number)

    def step(self, number: int) -> list[Event]:
        event, name = STEPS[number]
        session = self.ends[name].session
        if event == hs.OPENS:
            return session.open(0)
        other = self.ends["initiator" if name == "responder" else "responder"]
        return session.receive_data(other.session.data_to_send(0), 0)


def test_every_row_is_walked() -> None:
    walked = [event for event, _ in STEPS]
    ends = [(state, event) for state in BEFORE_THE_END for event in (hs.FAILS, hs.ENDS)]
    assert sorted(event for _, event in TABLE if event in walked) == sorted(walked)
    assert {row for row in TABLE if row[1] not in walked} == set(ends)


@pytest.mark.parametrize("number", range(len(STEPS)), ids=[event for event, _ in STEPS])
def test_a_step(number: int) -> None:
    event, name = STEPS[number]
    before, after, actions = ROWS[event]
    assert TABLE[before, event] == (after, actions)
    scene = Scene(number)
    session = scene.ends[name].session
    assert session.state is before
    told = {type(found) for found in scene.step(number)}
    assert session.state is after
    assert told == {
        kind
        for action, kind in ((hs.TELL_AUTHENTICATED, Authenticated), (hs.TELL_OPENED, Opened))
        if action in actions
    }
    sends = {hs.SEND_HELLO, hs.SEND_AUTH, hs.SEND_OPEN} & set(actions)
    assert bool(session.data_to_send(0)) == bool(sends)


@pytest.mark.parametrize("state", BEFORE_THE_END)
@pytest.mark.parametrize("event", [hs.FAILS, hs.ENDS])
def test_the_end(state: State, event: str) -> None:
    scene = Scene(BEFORE_THE_END[state])
    session = scene.ends["responder"].session
    assert session.state is state
    session.data_to_send(0)
    [found] = session.close("stopped") if event == hs.ENDS else session.receive_eof()
    assert isinstance(found, Closed) and session.state is State.CLOSED
    said = session.data_to_send(0)
    says = event == hs.ENDS and state in SAYS_GOODBYE
    assert bool(said) is says
    assert TABLE[state, event] == (State.CLOSED, (hs.SAY_GOODBYE,) if says else ())
    assert (
        session.close() == [] and session.receive_data(b"more", 0) == [] and session.next_deadline() is None
    )


def test_only_the_initiator_opens_and_only_once_proved() -> None:
    for steps in range(5):
        scene = Scene(steps)
        assert scene.ends["responder"].session.open(0) == []
        if steps < 4:
            assert scene.ends["initiator"].session.open(0) == []


@pytest.mark.parametrize("kind", range(16))
@pytest.mark.parametrize("state", [State.PROOF, State.READY, State.OPENED])
def test_a_frame_that_a_state_does_not_accept(state: State, kind: int) -> None:
    if kind in ACCEPTS[state]:
        return
    scene = Scene(max(2, BEFORE_THE_END[state]))  # the initiator has keys
    sealed = scene.ends["initiator"].session._seal
    assert sealed is not None
    sealed.sequence = {State.PROOF: 0, State.READY: 1, State.OPENED: 2}[state]
    [found] = scene.ends["responder"].session.receive_data(sealed.make(kind, 0, b""), 0)
    assert isinstance(found, Closed) and found.reason == "unexpected"


@pytest.mark.parametrize("state", [State.PROOF, State.READY])
def test_a_frame_that_is_too_large_for_a_state(state: State) -> None:
    scene = Scene(max(2, BEFORE_THE_END[state]))  # the initiator has keys
    sealed = scene.ends["initiator"].session._seal
    assert sealed is not None
    too_large = sealed.make(TOPIC, 0, bytes(LARGEST[state] + 1))
    [found] = scene.ends["responder"].session.receive_data(too_large[:4], 0)
    assert isinstance(found, Closed) and found.reason == "frame_size"


def test_a_peer_that_has_proved_nothing_is_read_by_few_bytes() -> None:
    """However it cuts its hello, no more is kept of it than a hello and an empty frame."""
    scene = Scene(0)
    session, hello = scene.ends["responder"].session, scene.ends["initiator"].session.data_to_send(0)
    most = HELLO_MAX + HEAD.size + MAC_SIZE
    for number in range(len(hello)):
        assert session.read_size == most - number
        session.receive_data(hello[number : number + 1], 0)
    assert session.state is State.PROOF
    assert session.read_size == most


@pytest.mark.parametrize(
    ("length", "taken"), [(0, False), (33, False), (34, True), (120, True), (121, False), (136, False)]
)
def test_how_long_a_hello_may_be(length: int, taken: bool) -> None:
    """What a later version appends has room up to HELLO_MAX, with the 8 bytes that say how long it is."""
    rest = (bytes(24) + b"\1\0\10" + bytes((0, 9)) + bytes(length))[:length]
    hello = b"TNDM\1\1" + length.to_bytes(2, "big") + rest
    if taken:
        found = decode_hello(hello)
        assert found is not None and found[1] == len(hello) <= HELLO_MAX
    else:
        with pytest.raises(ProtocolError, match=f"^a hello of {length} bytes$"):
            decode_hello(hello)


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ({"node": bytes(8)}, {"node": bytes(8)}, "self"),
        ({"secrets": {}, "key_id": 0, "insecure": True}, {}, "insecure"),
        ({"secrets": {2: b"x" * 16}, "key_id": 2}, {}, "unknown_key"),
    ],
)
def test_a_hello_that_is_refused(ours: dict[str, object], theirs: dict[str, object], reason: str) -> None:
    end, other = End(1, **ours), End(2, **theirs)
    for one in (end, other):
        one.begin(one is other, 0)
    peer = other.session._hello
    found = decode_hello(peer)
    assert found is not None
    with pytest.raises(ProtocolError) as caught:
        hs.secret_of(found[0], end.settings)
    assert caught.value.reason == reason
    assert closed(pair(theirs, ours))[1] == reason
