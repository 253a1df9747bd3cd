# SPDX-License-Identifier: GPL-2.0-or-later
"""HTTP and HTTPS: the status of an answer, its text or digest, and the days that a certificate is valid.

The request is one of HTTP/1.0, as keepalived's HTTP_GET is: the answer has no chunks, and the server closes.
A check of the status alone ends with the first line of the answer.
"""

from __future__ import annotations

import re
import time

from tandem.health.question import Answer
from tandem.health.tcp import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tandem.config.schema import Check
    from tandem.health.tls import Tls
    from tandem.loop import Loop

HEAD_MAX = 16 << 10  # bytes
BODY_MAX = 1 << 20
READ = 1 << 16
DAY = 86_400  # s
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?:[ \r\n]|$)")


class Request(Connection):
    """One request at a time."""

    def __init__(self, check: Check, loop: Loop, timeout: int) -> None:
        super().__init__(loop, timeout, check.host, check.port, check.source, check.interface)
        self._check = check
        self._context: Any = None
        self._tls: Tls | None = None
        self._request = request(check)
        self._asked = False
        self._data = b""

    def _connected(self) -> None:
        assert self._socket is not None  # it is connected
        self._data, self._asked = b"", False
        self._loop.remove_writer(self._socket.fileno())
        self._loop.add_reader(self._socket.fileno(), self._readable)
        if self._check.kind == "https":
            try:
                from tandem.health.tls import Tls, context
            except ImportError:
                self._end(Answer("there is no TLS: install python3-openssl"))
                return
            self._context = self._context or context()
            self._tls = Tls(self._context, self._check.virtualhost)
        try:
            self._send(self._tls.receive(b"") if self._tls is not None else self._ask_for())
        except OSError as error:
            self._failed(error)

    def _ask_for(self) -> bytes:
        self._asked = True
        return self._request

    def _send(self, data: bytes) -> None:
        assert self._socket is not None  # it is connected
        if data and self._socket.send(data) < len(data):
            raise OSError("the request does not fit into the socket")

    def _readable(self) -> None:
        assert self._socket is not None  # it is watched
        try:
            data = self._socket.recv(READ)
            self._take(data)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)

    def _take(self, data: bytes) -> None:
        """Take received data; b"": the server has closed the connection."""
        ended = not data
        if self._tls is not None:
            if ended and not self._asked:
                self._end(Answer("closes the connection before TLS is set up"))
                return
            closed = ended
            self._send(self._tls.receive(data))
            if self._tls.ready and not self._asked:
                if why := self._expires(self._tls.certificate):
                    self._end(Answer(why))
                    return
                self._send(self._tls.encrypt(self._ask_for()))
            data, ended = self._tls.plain()
            ended |= closed
        self._data += data
        if (answer := judge(self._check, self._data, ended or self._full())) is not None:
            self._end(answer)

    def _full(self) -> bool:
        return len(self._data) >= HEAD_MAX + BODY_MAX

    def _expires(self, certificate: bytes) -> str:
        """Return what is wrong with the time that a certificate is valid; empty: nothing."""
        if not self._check.certificate_days:
            return ""
        from tandem.health.certificate import expiry

        try:
            left = expiry(certificate) - time.time()
        except ValueError:
            return "the certificate can't be read"
        if left < 0:
            return "the certificate has expired"
        if left < self._check.certificate_days * DAY:
            return f"the certificate expires in {int(left // DAY)} days"
        return ""

    def stop(self) -> None:
        """Ask no more."""
        self._tls = None
        super().stop()


def request(check: Check) -> bytes:
    """Return the request of a check."""
    host = check.virtualhost or (f"[{check.host}]" if ":" in check.host else check.host)
    lines = (f"GET {check.path} HTTP/1.0", f"Host: {host}", "User-Agent: tandem", "Connection: close", "", "")
    return "\r\n".join(lines).encode()


def judge(check: Check, data: bytes, ended: bool) -> Answer | None:
    """Return the answer that follows from what the server has sent so far; None: more has to come."""
    match = _STATUS.match(data)
    if match is None:
        strange = ended or len(data) >= 16 or not b"HTTP/1.".startswith(data[:7])
        return Answer("closes without an answer" if not data else "does not speak HTTP") if strange else None
    status = int(match[1])
    if not any(low <= status <= high for low, high in check.status):
        return Answer(f"status {status}")
    if not (check.text or check.digest):
        return Answer(f"status {status}", True)
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return Answer("the head of its answer is too long") if ended or len(data) > HEAD_MAX else None
    length = re.search(rb"\r\ncontent-length: *([0-9]{1,9})\r\n", head.lower() + b"\r\n")
    complete = ended or (length is not None and len(body) >= int(length[1]))
    if check.text and check.text.encode() in body:
        if not check.digest:
            return Answer(f"status {status} with the text", True)
    elif check.text and complete:
        return Answer(f"the text is missing (status {status})")
    if not complete:
        return None
    if digest(body, len(check.digest)) != check.digest:
        return Answer(f"another digest (status {status})")
    return Answer(f"status {status} with the digest", True)


def digest(body: bytes, length: int) -> str:
    """Return the digest with so many digits: 32 are MD5, as genhash of keepalived prints it, 64 SHA-256."""
    import hashlib  # takes memory that other checks do not need

    return (hashlib.md5 if length == 32 else hashlib.sha256)(body).hexdigest()
