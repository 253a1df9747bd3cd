# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/protocol.md says what the code does: its tables are compared with the code's constants."""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path

from tandem.channel import frames, handshake, heartbeat, session, topics, vrrp_sources
from tandem.channel.frames import Hello, Seal
from tandem.channel.handshake import ACCEPTS, LARGEST, State
from tandem.control import peer_roles
from tandem.dhcp import exchange as leases
from tandem.doctor import exchange as doctor
from tandem.follow import lease as wan_leases
from tandem.follow import tunnels
from tandem.services import messages as services
from tandem.upgrade import exchange as upgrade

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/protocol.md").read_text()


def tables() -> dict[str, list[list[str]]]:
    """The rows of each table of the page, by its head; marks of code are removed."""
    found: dict[str, list[list[str]]] = {}
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.M):
        head, _, *rows = (
            [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
            for line in block.splitlines()
        )
        found.setdefault(" | ".join(head), []).extend(rows)
    return found


TABLES = tables()


def test_every_table_is_compared() -> None:
    assert TABLES.keys() == {
        "bytes | field | meaning",
        "size | datagram | meaning",
        "limit | value",
        "bit | name | meaning",
        "type | name | payload",
        "frame | flag | name | meaning",
        "state | largest payload | frames",
        "code | RESYNC",
        "code | GOODBYE | meaning",
        "reason | meaning",
        "topic | data | module",
    }


def test_numbers_and_names() -> None:
    for number, name, *_ in TABLES["type | name | payload"] + TABLES["bit | name | meaning"]:
        assert getattr(frames, name) == int(number), name
    types = {int(number) for number, *_ in TABLES["type | name | payload"]}
    assert types == set().union(*ACCEPTS.values())
    for _, flag, name, _ in TABLES["frame | flag | name | meaning"]:
        assert getattr(frames, name) == int(flag)
    for name, value in TABLES["limit | value"]:
        assert getattr(topics if name == "DATA_MAX" else frames, name) == int(value), name
    assert f"This is version {frames.VERSIONS[1]}." in PAGE


def test_states() -> None:
    rows = {row[0]: row for row in TABLES["state | largest payload | frames"]}
    assert rows.keys() == {state.value for state in ACCEPTS}
    for state in ACCEPTS:
        _, largest, accepted = rows[state.value]
        assert int(largest) == LARGEST[state]
        assert {getattr(frames, name) for name in accepted.split()} == ACCEPTS[state]
    assert State.HELLO not in ACCEPTS


def test_reasons() -> None:
    goodbyes = TABLES["code | GOODBYE | meaning"]
    assert [(int(code), word) for code, word, _ in goodbyes] == list(enumerate(session.GOODBYES))
    resyncs = TABLES["code | RESYNC"]
    assert [(int(code), word) for code, word in resyncs] == list(enumerate(session.RESYNCS))
    sources = "".join(
        (ROOT / f"src/tandem/channel/{name}.py").read_text()
        for name in ("frames", "handshake", "session", "stream", "incoming", "topics")
    )
    raised = set(re.findall(r'ProtocolError\("(\w+)"', sources))
    assert {reason for reason, _ in TABLES["reason | meaning"]} == raised - set(session.GOODBYES)
    assert handshake.TABLE


def test_the_datagram() -> None:
    """Its bytes are held by test_heartbeat_datagram.py."""
    rows = TABLES["size | datagram | meaning"]
    sizes = [int(size) for size, *_ in rows[:-2]]
    assert [name for _, name, _ in rows][-2:] == ["standings", "MAC"]
    assert sum(sizes) == heartbeat.HEAD.size
    assert rows[-2][0] == f"{heartbeat.STANDING} × count" and int(rows[-1][0]) == frames.MAC_SIZE


def test_topics() -> None:
    said = {topic for topic, *_ in TABLES["topic | data | module"]}
    topics = {leases.TOPIC, doctor.TOPIC, peer_roles.TOPIC, upgrade.TOPIC, vrrp_sources.TOPIC}
    topics |= {heartbeat.TOPIC, services.TOPIC, tunnels.TOPIC, wan_leases.TOPIC}
    assert said == topics


def test_layouts() -> None:
    """A hello, a key and a frame, made from the page by hand."""
    hello: list[list[str]] = []
    frame: list[list[str]] = []
    for row in TABLES["bytes | field | meaning"]:
        (frame if (hello and row[1] in ("type", "payload", "MAC")) or frame else hello).append(row)
    assert [row[1] for row in hello][-2:] == ["name", "length"]  # the last one is the head of a frame
    sizes = [int(size) for size, *_ in hello[:-2]]
    encoded = Hello(b"n" * 8, b"o" * 16, 3, "r1", False, 1000, 64, True, 5).encode()
    assert len(encoded) == sum(sizes) + len("r1")
    values = (b"TNDM", 1, 1, sum(sizes[4:]) + 2, b"n" * 8, b"o" * 16, 3, 2, 64, 1000, 5, 2)
    assert encoded == b"".join(
        value if isinstance(value, bytes) else value.to_bytes(size, "big")
        for size, value in zip(sizes, values, strict=True)
    ) + b"r1"  # fmt: skip
    hellos = encoded + encoded
    key = blake2b(hellos, key=b"s" * 16, person=b"tandem responder", digest_size=32).digest()
    seal = Seal(b"s" * 16, False, hellos)
    for number in range(2):
        head = (4).to_bytes(2, "big") + bytes((frames.HEARTBEAT, 0)) + number.to_bytes(4, "big")
        mac = blake2b(head, key=key, salt=number.to_bytes(16, "big"), digest_size=16).digest()
        assert seal.make(frames.HEARTBEAT, 0, number.to_bytes(4, "big")) == head + mac
