# SPDX-License-Identifier: GPL-2.0-or-later
"""Package feeds for machines that have no network but the lab's.

The server listens in the provider's namespace and looks things up in the host's: so a router reaches a
mirror that only this machine can reach, and nothing else there.
"""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from tests.lab import Host

_TIMEOUT = 60.0  # s without a byte


def open_at(base: str, path: str) -> BinaryIO:
    """A file of a directory or of a mirror, whichever `base` names. OSError: it is not there."""
    if "://" not in base:
        wanted = Path(base, path).resolve()
        if not wanted.is_relative_to(Path(base).resolve()):
            raise FileNotFoundError(path)
        return wanted.open("rb")
    answer: BinaryIO = urllib.request.urlopen(f"{base.rstrip('/')}/{quote(path)}", timeout=_TIMEOUT)
    return answer


class FeedServer:
    """HTTP on a port of a host of the lab: the first part of a path picks one of `bases`."""

    def __init__(self, host: Host, port: int, bases: Mapping[str, str]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = _TIMEOUT

            def do_GET(self) -> None:
                base, _, path = unquote(self.path).lstrip("/").partition("/")
                try:
                    with open_at(bases[base], path) as file:
                        data = file.read()
                    self.send_response(200)
                    # uclient-fetch takes the end of a connection for a failure when it does not know this.
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except (KeyError, OSError) as error:
                    code = error.code if isinstance(error, urllib.error.HTTPError) else 404
                    self.send_error(code)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("", port), Handler, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.socket.close()
        self._server.socket = host.enter(lambda: socket.create_server(("", port)))
        self._thread = threading.Thread(target=self._server.serve_forever, name="feeds", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; connections that are open end with their files."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
