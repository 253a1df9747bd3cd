# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's side of TLS, without a socket. OpenSSL does everything that is cryptography.

The certificate is not verified, as by keepalived's SSL_GET: a check finds out whether a server answers.
"""

from __future__ import annotations

import ssl

PART = 1 << 16


def context() -> ssl.SSLContext:
    """Return what all sessions with a server share; making it takes longer than a handshake."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    return found


class Tls:
    """One session. `ready` after the handshake; then `certificate` is that of the server, in DER."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        """`name`: of the server, for SNI; empty: none. OSError."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name or None)
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
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
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
        except ssl.SSLWantReadError:
            return b"".join(found), False
        except ssl.SSLZeroReturnError:
            return b"".join(found), True
        except ssl.SSLError as error:
            raise OSError(f"TLS: {_reason(error)}") from None
        return b"".join(found), True


def _reason(error: OSError) -> str:
    """Return what OpenSSL says of an error, such as "wrong version number"."""
    return str(getattr(error, "reason", None) or error).lower().replace("_", " ")
