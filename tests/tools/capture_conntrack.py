# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes tests/unit/data/conntrack.txt: what this kernel says of flows of every kind. As root:

    PYTHONPATH=src python -m tests.tools.capture_conntrack > tests/unit/data/conntrack.txt

Each line: case, tab, "event" or "dump", tab, one raw message in hex (little endian headers).
"""

from __future__ import annotations

import platform
import socket
import sys

from tests.netns.conntrack import Conntrack, NatLab, ping, talks
from tests.netns.test_replication_restore import (
    FTP_HELPER,
    MORE,
    SNAT4,
    SNAT6,
    TCP_CASES,
    V4,
    V6,
    other_packets,
)


def main() -> None:
    assert sys.byteorder == "little"
    print(f"# Linux {platform.release()}, made by tests/tools/capture_conntrack.py")
    for case, (rules, to) in TCP_CASES.items():
        with NatLab() as lab:
            conntrack = Conntrack(lab.router)
            conntrack.listen()
            lab.rules(**rules)
            family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
            server = lab.listen(lab.server, V6 if ":" in to[0] else V4, 80)
            here, there = lab.connect(server, to)
            assert talks(here, there)
            dump = conntrack.dump()
            here.close()
            there.close()
            conntrack.flush()
            show(f"tcp {case}", conntrack, dump)
            if case == "masquerade":
                continue
            there = lab.socket(lab.server, family, socket.SOCK_DGRAM)
            there.bind((V6 if ":" in to[0] else V4, 80))
            here = lab.socket(lab.client, family, socket.SOCK_DGRAM)
            here.connect(to)
            here.send(b"1")
            there.sendto(b"2", there.recvfrom(10)[1])
            here.recv(10)
            dump = conntrack.dump()
            conntrack.flush()
            show(f"udp {case}", conntrack, dump)
    for family, protocol, address in ((socket.AF_INET, 1, V4), (socket.AF_INET6, 58, V6)):
        with NatLab() as lab:
            conntrack = Conntrack(lab.router)
            conntrack.listen()
            lab.rules(post=SNAT4, post6=SNAT6)
            raw = lab.socket(lab.client, family, socket.SOCK_RAW, protocol)
            raw.sendto(ping(0x1234, protocol == 58), (address, 0))
            raw.recv(1000)
            show(f"icmp v{6 if protocol == 58 else 4} snat", conntrack, conntrack.dump())
    with NatLab() as lab:
        conntrack = Conntrack(lab.router)
        conntrack.listen()
        lab.rules(post=SNAT4, more=MORE)
        other_packets(lab)
        show("others", conntrack, conntrack.dump())
    with NatLab() as lab:
        conntrack = Conntrack(lab.router)
        conntrack.listen()
        lab.rules(post=SNAT4, more=FTP_HELPER)
        here, there = lab.connect(lab.listen(lab.server, V4, 21), (V4, 21))
        for line in (b"USER x\r\n", b"PORT 10,0,0,2,19,137\r\n"):
            here.sendall(line)
            command = there.recv(100)
        dump = conntrack.dump(2)
        data = lab.listen(lab.client, "10.0.0.2", 5001)
        high, low = (int(word) for word in command.split(b",")[4:])
        transfer = lab.socket(lab.server, socket.AF_INET, socket.SOCK_STREAM)
        transfer.connect(("192.0.2.10", high * 256 + low))
        data.accept()[0].close()
        show("ftp", conntrack, dump + conntrack.dump())


def show(case: str, conntrack: Conntrack, dump: list[bytes]) -> None:
    for message in conntrack.events():
        print(case, "event", message.hex(), sep="\t")
    for message in dump:
        print(case, "dump", message.hex(), sep="\t")


if __name__ == "__main__":
    main()
