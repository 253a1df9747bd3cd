# SPDX-License-Identifier: GPL-2.0-or-later
"""DNS: a query over UDP and what an answer to it says (RFC 1035 section 4)."""

from __future__ import annotations

import os
import socket
from struct import Struct

from tandem.health.question import Answer, Question

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tandem.config.schema import Check
    from tandem.loop import Loop

RECORDS = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
_HEAD = Struct("!6H")  # identifier, flags, counts of questions, answers, authorities, additionals
_RECORD = Struct("!HHIH")  # type, class, lifetime, length
_RECURSE, _REPLY = 0x0100, 0x8000
_NAMES_MAX = 128  # labels and pointers of one name


class Query(Question):
    """One query at a time."""

    def __init__(self, check: Check, loop: Loop, timeout: int) -> None:
        super().__init__(loop, timeout, check.host, check.port, check.source, check.interface)
        self._check = check
        self._identifier = 0

    def _ask(self) -> None:
        sock = self._open(socket.SOCK_DGRAM)
        self._identifier = int.from_bytes(os.urandom(2), "big")
        sock.connect((self._host, self._port))
        self._loop.add_reader(sock.fileno(), self._readable)
        sock.send(query(self._identifier, self._check.query, self._check.record))

    def _readable(self) -> None:
        assert self._socket is not None  # it is watched
        try:
            data = self._socket.recv(4096)
        except OSError as error:
            self._failed(error)
            return
        try:
            answer = judge(self._check, data, self._identifier)
        except (ValueError, IndexError):
            answer = Answer("an answer that is malformed")
        if answer is not None:
            self._end(answer)


def query(identifier: int, name: str, record: str) -> bytes:
    """Return a query for the records of a name."""
    labels = [label.encode() for label in name.strip(".").split(".") if label]
    question = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return _HEAD.pack(identifier, _RECURSE, 1, 0, 0, 0) + question + Struct("!HH").pack(RECORDS[record], 1)


def judge(check: Check, data: bytes, identifier: int) -> Answer | None:
    """Return what a datagram says; None: it is no answer to this. ValueError, IndexError: malformed."""
    if len(data) < _HEAD.size:
        return None
    own, flags, questions, answers, _, _ = _HEAD.unpack_from(data)
    if own != identifier or not flags & _REPLY:
        return None
    if code := flags & 15:
        return Answer(RCODES[code] if code < len(RCODES) else f"response code {code}")
    at = _HEAD.size
    for _ in range(questions):
        _, at = _name(data, at)
        at += 4
    found = []
    for _ in range(answers):
        _, at = _name(data, at)
        if len(data) < at + _RECORD.size:
            break  # the rest was cut off
        kind, _, _, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if kind == RECORDS[check.record] and at + length <= len(data):
            found.append(_text(check.record, data, at, length))
        at += length
    if not found:
        return Answer(f"there is no {check.record} of {check.query}")
    if check.answer and check.answer.lower() not in (text.lower() for text in found):
        return Answer(f"another answer: {', '.join(found[:4])}")
    return Answer("answers", True)


def _text(record: str, data: bytes, at: int, length: int) -> str:
    """Return a record as text, as dig prints it, and of an SOA the name of its server."""
    content = data[at : at + length]
    if record in ("A", "AAAA"):
        return socket.inet_ntop(socket.AF_INET if record == "A" else socket.AF_INET6, content)
    if record == "TXT":
        parts = []
        while content:
            parts.append(content[1 : content[0] + 1])
            content = content[content[0] + 1 :]
        text = b"".join(parts).decode("ascii", "replace")
        return "".join(char for char in text if char.isprintable())
    numbers = {"MX": 1, "SRV": 3}.get(record, 0)
    words = [str(int.from_bytes(data[at + 2 * i : at + 2 * i + 2], "big")) for i in range(numbers)]
    return " ".join([*words, _name(data, at + 2 * numbers)[0]])


def _name(data: bytes, at: int) -> tuple[str, int]:
    """Return the name at an offset, and the offset behind it. ValueError, IndexError: malformed."""
    labels: list[str] = []
    behind = 0
    for _ in range(_NAMES_MAX):
        length = data[at]
        if length >= 0xC0:
            behind = behind or at + 2
            at = (length & 0x3F) << 8 | data[at + 1]
        elif length > 63:
            break
        elif length == 0:
            return ".".join(labels) or ".", behind or at + 1
        else:
            label = data[at + 1 : at + 1 + length].decode("ascii", "replace")
            labels.append("".join(char for char in label if char.isprintable()))
            at += 1 + length
    raise ValueError
