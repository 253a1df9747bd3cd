# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's side of TLS, with a server in memory: bytes in, bytes out."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from tandem.health.tls import PART, Tls, context
from tests.lab.certificate import self_signed

if TYPE_CHECKING:
    from pathlib import Path


class Server:
    """A TLS server that is told bytes and says bytes."""

    def __init__(self, files: tuple[Path, Path]) -> None:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*files)
        self.names: list[str | None] = []
        made.sni_callback = lambda _session, name, _context: self.names.append(name)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = made.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def shake(self, client: Tls, piece: int) -> None:
        """Carry the handshake, in pieces of so many bytes, until both ends have done with it."""
        said = client.receive(b"")
        for _ in range(10):
            self.incoming.write(said)
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                pass
            data = self.outgoing.read()
            said = b"".join(client.receive(data[at : at + piece]) for at in range(0, len(data), piece))
            if client.ready and not said and not data:
                return


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("tls"), 30)


@pytest.mark.parametrize("name", ["web.example.org", ""])
@pytest.mark.parametrize("piece", [100, 100_000])
def test_a_session(files: tuple[Path, Path], name: str, piece: int) -> None:
    server, client = Server(files), Tls(context(), name)
    assert not client.ready
    assert client.plain() == (b"", False)
    server.shake(client, piece)
    assert client.ready
    assert client.certificate == ssl.PEM_cert_to_DER_cert(files[0].read_text())
    assert server.names == [name or None]
    server.incoming.write(client.encrypt(b"GET /"))
    assert server.session.read(100) == b"GET /"
    page = bytes(range(256)) * 1024  # more than one part
    assert len(page) > PART
    server.session.write(page)
    assert client.receive(server.outgoing.read()) == b""
    assert client.plain() == (page, False)
    with pytest.raises(ssl.SSLWantReadError):
        server.session.unwrap()
    client.receive(server.outgoing.read())
    assert client.plain() == (b"", True)


def test_a_server_that_does_not_speak_tls() -> None:
    client = Tls(context(), "")
    assert client.receive(b"")
    with pytest.raises(OSError, match=r"^TLS: wrong version number$"):
        client.receive(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_bytes_that_were_changed_on_the_way(files: tuple[Path, Path]) -> None:
    server, client = Server(files), Tls(context(), "")
    server.shake(client, 100_000)
    server.session.write(b"hello")
    data = bytearray(server.outgoing.read())
    data[-1] ^= 1
    client.receive(bytes(data))
    with pytest.raises(OSError, match=r"^TLS: "):
        client.plain()
