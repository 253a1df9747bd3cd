# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's side of TLS, without a socket. OpenSSL does everything that is cryptography.

The module `_ssl` is the part of `ssl` that is written in C: `ssl` itself needs 2 MiB more. The certificate is
not verified, as by keepalived's SSL_GET: a check finds out whether a server answers.
"""

from __future__ import annotations

import _ssl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PART = 1 << 16


def context() -> Any:
    """Return what all sessions with a server share; making it takes longer than a handshake."""
    found: Any = _ssl._SSLContext(_ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = _ssl.CERT_NONE
    return found


class Tls:
    """One session. `ready` after the handshake; then `certificate` is that of the server, in DER."""

    def __init__(self, context: Any, name: str) -> None:
        """`name`: of the server, for SNI; empty: none. OSError."""
        self._incoming = _ssl.MemoryBIO()
        self._outgoing = _ssl.MemoryBIO()
        self._session = context._wrap_bio(self._incoming, self._outgoing, False, name or None)
        self.ready = False

    @property
    def certificate(self) -> bytes:
        """The certificate of the server; empty: it has none."""
        return self._session.getpeercert(True) or b""

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the server, and return what it gets for them. OSError: the handshake has failed."""
        if data:
            self._incoming.write(data)
        if not self.ready:
            try:
                self._session.do_handshake()
                self.ready = True
            except _ssl.SSLWantReadError:
                pass
            except _ssl.SSLError as error:
                raise OSError(f"TLS: {_reason(error)}") from None
        return self._outgoing.read() if self._outgoing.pending else b""

    def encrypt(self, data: bytes) -> bytes:
        """Return what the server gets as `data`. OSError."""
        self._session.write(data)
        return self._outgoing.read()

    def plain(self) -> tuple[bytes, bool]:
        """Return what the server has sent, and whether it has said that this is all. OSError."""
        found: list[bytes] = []
        if not self.ready:
            return b"", False
        try:
            while part := self._session.read(PART):
                found.append(part)
        except _ssl.SSLWantReadError:
            return b"".join(found), False
        except _ssl.SSLZeroReturnError:
            return b"".join(found), True
        except _ssl.SSLError as error:
            raise OSError(f"TLS: {_reason(error)}") from None
        return b"".join(found), True


def _reason(error: OSError) -> str:
    """Return what OpenSSL says of an error, such as "wrong version number"."""
    return str(getattr(error, "reason", None) or error).lower().replace("_", " ")
