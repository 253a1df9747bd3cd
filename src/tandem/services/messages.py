# SPDX-License-Identifier: GPL-2.0-or-later
"""The words about services: a topic of the channel (channel/topics.py).

A message is one line of JSON: [1, sequence, ack, nonce, {service: [hold, able]}], see
core/service_claims.py. A router sends one when a session opens, when its words change, and in answer to a
message with a sequence number that it has not acknowledged in this session.
"""

from __future__ import annotations

import json

from tandem.core.service_claims import Hold, Word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

TOPIC = "services"
VERSION = 1
SERVICES_MAX = 512  # of a peer
NAME_MAX = 64
_WHOLE_MAX = 1 << 63


def pack(words: Mapping[str, Word], sequence: int, ack: int, nonce: int) -> bytes:
    """Return a message."""
    said = {name: [word.hold.value, int(word.able)] for name, word in words.items()}
    return json.dumps([VERSION, sequence, ack, nonce, said], separators=(",", ":")).encode()


def unpack(data: bytes) -> tuple[dict[str, Word], int, int, int] | None:
    """Return words, sequence, ack and nonce; None: the message is malformed, or of another version."""
    try:
        version, *numbers, said = json.loads(data)
        if version != VERSION or len(said) > SERVICES_MAX or not all(_whole(number) for number in numbers):
            return None
        sequence, ack, nonce = numbers
        words = {name[:NAME_MAX]: Word(Hold(hold), bool(able)) for name, (hold, able) in said.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return words, sequence, ack, nonce


def _whole(number: object) -> bool:
    return type(number) is int and 0 <= number < _WHOLE_MAX
