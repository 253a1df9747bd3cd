# SPDX-License-Identifier: GPL-2.0-or-later
"""The process of `tandem witness`: gives its vote to one router of each cluster, on any third host."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

import tandem.lean.resident  # noqa: F401  (before anything that imports dataclasses)
from tandem import files
from tandem.channel.frames import NONCE_SIZE
from tandem.core.timers import MILLISECOND
from tandem.limits import SECRET_MAX, SECRET_MIN
from tandem.witness.grants import Grants
from tandem.witness.wire import DATAGRAM_MAX, cluster_in, cluster_of, pack, unpack

SECRETS_MAX = 64


def main(argv: list[str]) -> None:
    """Answer requests until SIGTERM; `argv`: address, port, duration of a lease in ms, files of secrets."""
    address, port, lease_ms, *paths = argv
    try:
        secrets = _secrets(paths)
        sock = _socket(address, int(port))
    except (OSError, ValueError) as error:
        sys.exit(f"tandem witness: {error}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"tandem witness answers on port {port}", flush=True)
    grants = Grants(int(lease_ms) * MILLISECOND, time.monotonic_ns())
    held: dict[tuple[bytes, bytes], bytes] = {}
    try:
        while True:
            datagram, source = sock.recvfrom(DATAGRAM_MAX)
            secret = secrets.get(cluster_in(datagram))
            request = unpack(datagram, secret, request=True) if secret is not None else None
            if request is None:
                continue  # a stranger gets no answer
            now = time.monotonic_ns()
            answer = grants.handle(request, os.urandom(NONCE_SIZE), now)
            if answer is not None:
                assert secret is not None  # the request was read with it
                try:
                    sock.sendto(pack(answer, secret), source)
                except OSError:
                    continue  # the router asks again
            held = _tell(held, grants.held(now), request.node, source[0])
    finally:
        sock.close()


def _tell(
    before: dict[tuple[bytes, bytes], bytes], held: dict[tuple[bytes, bytes], bytes], node: bytes, source: str
) -> dict[tuple[bytes, bytes], bytes]:
    """Say on the standard output who has got a vote."""
    for (cluster, group), holder in held.items():
        if holder == node and before.get((cluster, group)) != holder:
            name = group.decode(errors="replace")
            print(f"{source} has the vote for {name!a} of cluster {cluster.hex()}", flush=True)
    return held


def _secrets(paths: list[str]) -> dict[bytes, bytes]:
    """Return the secrets in files, by their clusters. OSError, ValueError: one can't be used."""
    found = {}
    for path in paths[:SECRETS_MAX]:
        if os.stat(path).st_mode & 0o077:
            raise ValueError(f"{path} can be read by others than its owner: chmod 600 {path}")
        secret = files.read(path, SECRET_MAX + 2, follow=True).strip()
        if not SECRET_MIN <= len(secret) <= SECRET_MAX:
            raise ValueError(f"{path}: a secret has {SECRET_MIN} to {SECRET_MAX} bytes")
        found[cluster_of(secret)] = secret
    return found


def _socket(address: str, port: int) -> socket.socket:
    """Return a socket on an address; "": on every one, of IPv6 too where the kernel has it."""
    both = not address and os.path.exists("/proc/net/if_inet6")
    sock = socket.socket(socket.AF_INET6 if both or ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    if both:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((address, port))
    return sock
