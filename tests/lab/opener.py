# SPDX-License-Identifier: GPL-2.0-or-later
"""TCP connections opened without a pause, to see which of them survive; run as a file, standard library only.

    opener.py serve PORT                 sends every byte back
    opener.py open ADDRESS PORT RATE     opens RATE connections a second until its input ends, then
                                         sends a byte on each that was established and waits for it to
                                         come back

`open` reports on stdout, in JSON lines: {"opened", "established"} every 100 ms, and at the end
{"survived", "lost", "refused", "ms": [...]}: how many answered, how many did not within PATIENCE, how many
were never established, and how long connect() took, for each.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import sys
import time

PATIENCE = 12.0  # s: the server repeats a lost SYN,ACK after 1, 3 and 7 s
TICK = 0.1


def serve(port: int) -> None:
    """Send every byte back."""
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen(4096)
    listener.setblocking(False)
    ready = select.epoll()
    ready.register(listener, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    print("{}", flush=True)
    while True:
        for fd, _ in ready.poll():
            if fd == listener.fileno():
                client = listener.accept()[0]
                clients[client.fileno()] = client
                ready.register(client, select.EPOLLIN)
                continue
            try:
                data = clients[fd].recv(64)
                if data:
                    clients[fd].send(data)
            except OSError:
                data = b""
            if not data:
                ready.unregister(fd)
                clients.pop(fd).close()


class Opener:
    """The connections of one run."""

    def __init__(self, address: str, port: int) -> None:
        self.where = address, port
        self.ready = select.epoll()
        self.opened = 0
        self.connecting: dict[int, tuple[socket.socket, float]] = {}
        self.established: dict[int, socket.socket] = {}
        self.times: list[float] = []

    def open(self) -> None:
        """Begin one connection."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(self.where)
        self.opened += 1
        self.connecting[sock.fileno()] = sock, time.monotonic()
        self.ready.register(sock, select.EPOLLOUT)

    def look(self, timeout: float) -> None:
        """Note which connections the server has answered."""
        for fd, _ in self.ready.poll(timeout):
            sock, began = self.connecting.pop(fd)
            self.ready.unregister(fd)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                sock.close()
            else:
                self.established[fd] = sock
                self.times.append(round((time.monotonic() - began) * 1e3, 3))

    def survivors(self) -> int:
        """Return how many of the established connections still answer."""
        waiting = dict(self.established)
        answers = select.epoll()
        for fd, sock in list(waiting.items()):
            answers.register(sock, select.EPOLLIN)
            try:
                sock.send(b"x")
            except OSError:
                del waiting[fd]
        alive, deadline = 0, time.monotonic() + PATIENCE
        while waiting and time.monotonic() < deadline:
            for fd, _ in answers.poll(TICK):
                answers.unregister(fd)
                try:
                    alive += waiting.pop(fd).recv(1) == b"x"
                except (OSError, KeyError):
                    continue
        return alive


def open_many(address: str, port: int, rate: float) -> None:
    """Open connections until standard input ends."""
    opener = Opener(address, port)
    due = began = tick = time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0]:
        now = time.monotonic()
        while due <= now:
            opener.open()
            due = began + opener.opened / rate
        opener.look(min(0.001, due - now))
        if now >= tick:
            tick = now + TICK
            print(json.dumps({"opened": opener.opened, "established": len(opener.established)}), flush=True)
    opener.look(0)
    alive = opener.survivors()
    lost = len(opener.established) - alive
    refused = opener.opened - len(opener.established)
    print(json.dumps({"survived": alive, "lost": lost, "refused": refused, "ms": opener.times}), flush=True)


def main() -> None:
    """Run the part that the first argument names."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    kind, *arguments = sys.argv[1:]
    if kind == "serve":
        serve(int(arguments[0]))
    else:
        open_many(arguments[0], int(arguments[1]), float(arguments[2]))


if __name__ == "__main__":
    main()
