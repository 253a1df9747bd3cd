# SPDX-License-Identifier: GPL-2.0-or-later
"""How the sessions with one peer are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from tandem.channel.frames import NODE_SIZE, check_secrets
from tandem.core.timers import MILLISECOND, SECOND

MINUTE = 60 * SECOND


@dataclass(frozen=True, slots=True)
class Settings:
    """How to speak with one peer. ValueError when the secrets can not protect a session."""

    secrets: dict[int, bytes] = field(default_factory=dict)  # key id 1..255: all that the peer may use
    key_id: int = 0  # the one that we use
    insecure: bool = False
    node: bytes = bytes(NODE_SIZE)  # random, new whenever the daemon starts
    router_id: str = ""
    peer_id: str = ""  # the peer's router_id; "": it may be anything
    heartbeat: int = SECOND
    digest_interval: int = 10 * SECOND
    stall_timeout: int = 10 * SECOND  # for a heartbeat that is not answered
    upgrades: bool = False  # the peer may order an upgrade of Tandem's packages
    queue_limit: int = 4 * 1024 * 1024  # bytes of memory for deltas that wait
    heartbeats: bool = False  # datagrams, see heartbeat.py
    word_size: int = 64
    little_endian: bool = True

    def __post_init__(self) -> None:
        check_secrets(self.secrets, self.key_id, self.insecure)
        if len(self.node) != NODE_SIZE:
            raise ValueError(f"a node id has {NODE_SIZE} bytes")
        if not MILLISECOND <= self.heartbeat <= MINUTE:
            raise ValueError("the heartbeat is not within 1 ms and 1 minute")
