# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages about other things than connections, such as DHCP leases, on the same session.

A message is a topic and data, in a TOPIC frame:

    length of the topic u8 | topic (ASCII) | data

It goes either way whatever the roles are, and only to a peer whose hello says that it takes them.
Messages arrive once and in order, or the session ends. So a subscriber says everything after `Opened`, and
then what changes. A topic without a subscriber is counted and ignored.
"""

from __future__ import annotations

from tandem.channel.frames import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:  # the resident daemon does not import typing
    from typing import Protocol

    class Subscriber(Protocol):
        """Whoever owns a topic."""

        def peer_opened(self, peer: str) -> None:
            """There is a session with `peer`: tell it everything."""
            ...

        def peer_closed(self, peer: str) -> None: ...

        def received(self, peer: str, data: bytes) -> None:
            """Data of an authenticated peer; what they mean is not checked."""
            ...


DATA_MAX = 16 * 1024  # bytes of one message: what goes before connections in a turn of the loop
OUTBOX_MAX = 1024 * 1024  # bytes of messages that wait for one peer
_COST = 64  # bytes of memory of a message beside its own
_TOPIC_MAX = 32


class Outbox:
    """Messages to one peer that wait for the socket, the oldest first."""

    __slots__ = ("_size", "refused", "waiting")

    def __init__(self) -> None:
        self.refused = 0
        self.waiting: list[bytes] = []
        self._size = 0

    def add(self, topic: str, data: bytes) -> bool:
        """Take a message; False, and counted, when there is no room. ValueError: beyond the limits."""
        name = topic.encode("ascii")
        if not 1 <= len(name) <= _TOPIC_MAX or len(data) > DATA_MAX:
            raise ValueError(f"a message of {len(data)} bytes on a topic of {len(name)}")
        payload = bytes((len(name),)) + name + data
        if self._size + len(payload) + _COST > OUTBOX_MAX:
            self.refused += 1
            return False
        self._size += len(payload) + _COST
        self.waiting.append(payload)
        return True

    def take(self) -> bytes:
        """The payload of the next frame. IndexError when nothing waits."""
        payload = self.waiting.pop(0)
        self._size -= len(payload) + _COST
        return payload


def unpack_message(payload: memoryview) -> tuple[str, bytes]:
    """Topic and data. ProtocolError `malformed`."""
    length = payload[0] if payload else 0
    name = bytes(payload[1 : 1 + length])
    data = bytes(payload[1 + length :])
    if not 1 <= len(name) == length <= _TOPIC_MAX or not name.isascii() or len(data) > DATA_MAX:
        raise ProtocolError("malformed", "a message of the wrong shape")
    return name.decode("ascii"), data
