# SPDX-License-Identifier: GPL-2.0-or-later
"""The programs that make traffic inside the client and the server; run as a file, standard library only.

    probe.py echo ADDRESS PORT              UDP: sends every datagram back
    probe.py ping ADDRESS PORT INTERVAL_US  UDP: numbered datagrams, reports on stdout
    probe.py source PORT [BYTES]            TCP: sends without end to whoever connects
    probe.py download ADDRESS PORT          TCP: reads without end, reports on stdout

Reports are JSON lines; times are monotonic seconds, which all namespaces share:
  ping      {"now", "sent", "answered", "until"} every 50 ms: totals, and when the newest answered datagram
            was sent (or the last before an outage still to be reported); and when answers are back
            {"outage": {"start", "ms", "lost"}}: ms from the sending of the last answered datagram to that
            of the next one.
  download  {"now", "bytes"} every 50 ms (total), {"error"} when the connection breaks.

Ping wakes once in an interval, sends one datagram and takes the answers that are there: 6 % of a core at
1 ms.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

_DATAGRAM = struct.Struct("!Qd")  # sequence number, time of sending
TICK = 0.05
LATE = 0.05  # how long after the end of an outage a delayed answer still counts


def report(**values: object) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _socket(address: str, kind: socket.SocketKind) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)


def echo(address: str, port: int) -> None:
    """Send every datagram back where it came from."""
    sock = _socket(address, socket.SOCK_DGRAM)
    sock.bind((address, port))
    report(ready=True)
    while True:
        data, peer = sock.recvfrom(64)
        try:
            sock.sendto(data, peer)
        except OSError:
            continue  # no route at the moment


def ping(address: str, port: int, interval_us: int) -> None:
    """Send numbered datagrams and report which were answered."""
    sock = _socket(address, socket.SOCK_DGRAM)
    sock.setblocking(False)
    interval = interval_us / 1e6
    sent = answered = 0
    last_number, last_time = -1, 0.0  # of the newest answered datagram
    open_gap: dict[str, float] | None = None  # an outage that ended less than LATE ago
    gap_range = range(0)
    started = due = time.monotonic()
    tick = started + TICK
    while True:
        now = time.monotonic()
        if now < due:
            time.sleep(due - now)
            now = time.monotonic()
        due = max(due + interval, now)  # after a stall: go on, without a burst
        try:
            sock.sendto(_DATAGRAM.pack(sent, now), (address, port))
        except OSError:
            pass  # no route or no neighbour: a datagram without an answer
        sent += 1
        while True:
            try:
                data = sock.recv(64)
            except BlockingIOError:
                break
            except OSError:
                continue  # an ICMP error for an earlier datagram
            number, stamp = _DATAGRAM.unpack(data)
            answered += 1
            if number in gap_range and open_gap:
                open_gap["lost"] -= 1
            elif number > last_number:
                if number > last_number + 1 and last_number >= 0:
                    if open_gap and open_gap["lost"] > 0:
                        report(outage=open_gap)
                    gap_range = range(last_number + 1, number)
                    open_gap = {
                        "start": last_time,
                        "ms": round((stamp - last_time) * 1e3, 3),
                        "lost": len(gap_range),
                        "end": now,
                    }
                last_number, last_time = number, stamp
        if now >= tick:
            tick += TICK
            if open_gap and now - open_gap["end"] > LATE:
                if open_gap["lost"] > 0:
                    report(outage=open_gap)
                open_gap = None
            settled = open_gap["start"] if open_gap else last_time
            report(now=now, sent=sent, answered=answered, until=settled)


def source(port: int, size: int = 20_000) -> None:
    """Send to every client as fast as it reads, at most `size` bytes in 10 ms: it sees silence or data."""
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::", port))
    listener.listen()
    report(ready=True)
    clients: list[socket.socket] = []
    block = bytes(size)
    while True:
        if select.select([listener], [], [], 0.01)[0]:
            client = listener.accept()[0]
            client.setblocking(False)
            clients.append(client)
        for client in list(clients):
            try:
                client.send(block)
            except BlockingIOError:
                continue
            except OSError:
                client.close()
                clients.remove(client)


def download(address: str, port: int) -> None:
    """Only listen: a connection that the new router does not know breaks then."""
    try:
        sock = socket.create_connection((address, port), 10)
        total, tick = 0, time.monotonic() + TICK
        sock.settimeout(TICK)
        while True:
            try:
                data = sock.recv(1 << 16)
                if not data:
                    raise ConnectionError("closed by the server")
                total += len(data)
            except TimeoutError:
                pass
            if (now := time.monotonic()) >= tick:
                tick = now + TICK
                report(now=now, bytes=total)
    except OSError as error:
        report(error=str(error))


def main() -> None:
    """Run the part that the first argument names."""
    kind, *arguments = sys.argv[1:]
    if kind == "echo":
        echo(arguments[0], int(arguments[1]))
    elif kind == "ping":
        ping(arguments[0], int(arguments[1]), int(arguments[2]))
    elif kind == "source":
        source(*map(int, arguments))
    else:
        download(arguments[0], int(arguments[1]))


if __name__ == "__main__":
    main()
