# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages about other topics on a session of the peer protocol."""

from __future__ import annotations

import pytest

from tandem.channel.events import (
    Message,
)
from tandem.channel.frames import Hello
from tandem.channel.session import OPENED
from tandem.channel.topics import DATA_MAX, OUTBOX_MAX, Outbox
from tests.property.replication_link import (
    End,
    Link,
    new,
    streaming,
)


def test_messages_go_both_ways_whoever_streams() -> None:
    link = streaming(3)
    left, right = link.ends
    assert left.session.send("leases", b"one")
    assert left.session.send("names", b"")
    assert right.session.send("leases", bytes(DATA_MAX))
    assert left.session.output_at == 0
    link.settle()
    assert right.events[-2:] == [Message("leases", b"one"), Message("names", b"")]
    assert left.events[-1] == Message("leases", bytes(DATA_MAX))
    assert left.session.outgoing.in_step


def test_no_message_goes_before_the_session_is_open() -> None:
    link = Link(End(1), End(2))
    assert not link.ends[0].session.send("leases", b"early")
    link.settle()
    assert link.ends[0].session.send("leases", b"in time")
    link.settle()
    link.ends[0].session.close()
    assert not link.ends[0].session.send("leases", b"late")
    assert [event for event in link.ends[1].events if isinstance(event, Message)] == [
        Message("leases", b"in time")
    ]


def test_a_peer_that_does_not_know_messages_gets_none() -> None:
    link = Link(End(1), End(2))
    old = Hello(bytes([2] * 8), bytes(16), 1)  # no capabilities, as of an earlier release
    link.ends[1].session._hello = old.encode()
    link.settle()
    assert [end.session.state for end in link.ends] == [OPENED, OPENED]
    assert not link.ends[0].session.send("leases", b"data")
    assert link.ends[1].session.send("leases", b"data")


def test_the_outbox_is_bounded_and_drains() -> None:
    link = streaming()
    left = link.ends[0]
    sent = 0
    while left.session.send("leases", bytes(DATA_MAX)):
        sent += 1
    assert OUTBOX_MAX // DATA_MAX - 2 <= sent < OUTBOX_MAX // DATA_MAX
    assert left.session.outbox.refused == 1
    left.change([new(1)], link.now, urgent=True)
    # Connections do not wait for all of that.
    assert len(left.session.data_to_send(link.now)) < 2 * DATA_MAX
    assert left.session.outgoing.sent == left.position
    assert not left.session.outgoing.waiting


def test_the_outbox_counts_to_the_byte() -> None:
    outbox = Outbox()
    message = bytes(8192 - 64 - 2)  # with its topic, and what it costs beside that
    for _ in range(2):
        assert [outbox.add("t", message) for _ in range(129)] == [True] * 128 + [False]
        while outbox.waiting:
            outbox.take()
    assert outbox.refused == 2
    assert all(outbox.add("t", message) for _ in range(127))
    assert not outbox.add("t", message + b"x")
    assert outbox.add("t", message)


@pytest.mark.parametrize(("topic", "data"), [("", b""), ("t" * 33, b""), ("t", bytes(DATA_MAX + 1))])
def test_a_message_beyond_the_limits_is_a_mistake_of_the_caller(topic: str, data: bytes) -> None:
    link = streaming()
    with pytest.raises(ValueError, match="a message of"):
        link.ends[0].session.send(topic, data)
