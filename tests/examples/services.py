# SPDX-License-Identifier: GPL-2.0-or-later
"""Samba, MariaDB and NFS on one of two machines, with their data on a common disk: they follow the address.

    make demo ARGS="--example services"      all three; or "--example samba", mariadb or nfs

Each is done with tandemd (`config service`), with keepalived (a notify script starts and stops the server)
and with Pacemaker and Corosync (a group of IPaddr2 and the server), and Samba with ucarp. All have their
defaults. A client works without a pause; the outage is the longest time between two pieces of work that were
done.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from tests.lab import LanLab, NotReached, Router, process, wait_until

from . import machine
from .mariadb import Mariadb
from .nfs import Nfs
from .nginx import Row
from .samba import Samba
from .server import ADDRESS, Client, Server

SERVERS: dict[str, type[Server]] = {"samba": Samba, "mariadb": Mariadb, "nfs": Nfs}
PROGRAMS = {"tandemd": "ip", "keepalived": "keepalived", "ucarp": "ucarp", "pacemaker": "pacemakerd"}
BLIND = ("keepalived", "ucarp")  # they do not see that a server dies
PATIENCE = 60.0  # s
NEVER = 20.0  # s, after which nobody has started a server again
ACTS = ("r1 loses power", "r1 boots again", "it is handed over", "its server is killed")


def acts(lab: LanLab, client: Client, server: Server, kind: str) -> Iterator[Row]:
    """Do the acts; r1 has the server at first. An outage of infinity: nobody started the server again."""
    r1, r2 = lab.routers

    def outage(what: str, action: Callable[[], object], on: Router, patience: float = PATIENCE) -> Row:
        began = time.monotonic()
        action()

        wait_until(lambda: has_all(on, server), patience, f"{what}: {on.name} has all", explain=lab.logs)
        there = time.monotonic()
        wait_until(lambda: client.answered(there + 0.5), patience, what, explain=lab.logs)
        return Row(what, client.outage(began))

    yield outage(ACTS[0], lambda: machine.lose_power(r1), r2)

    def boot() -> None:
        r1.power_on()
        wait_until(lambda: ready(lab), PATIENCE, "the machines know each other", explain=lab.logs)

    yield outage(ACTS[1], boot, r2)

    yield outage(ACTS[2], lambda: machine.hand_over(r2), r1)

    def kill() -> None:
        process.send_signal(machine.servers(r1, server), signal.SIGKILL)

    try:
        yield outage(ACTS[3], kill, r1, NEVER if kind in BLIND else PATIENCE)
    except NotReached:
        if kind not in BLIND:
            raise
        yield Row(ACTS[3], float("inf"))


def has_all(router: Router, server: Server) -> bool:
    """Whether a machine has the address, and the server, whose start has ended."""
    return router.has(ADDRESS) and bool(machine.servers(router, server)) and machine.started(router)


def ready(lab: LanLab) -> bool:
    """Whether both machines know each other."""
    return all(machine.ready(router) for router in lab.routers)


def start(lab: LanLab) -> None:
    """Start both machines, so that r1 is the first one with the address."""
    r1, r2 = lab.routers
    r1.start()
    if not isinstance(r1.daemon, machine.PacemakerServer):  # which waits for the other one
        wait_until(lambda: r1.has(ADDRESS), PATIENCE, "r1 is active", explain=lab.logs)
    r2.start()


@contextmanager
def running(name: str, kind: str) -> Iterator[tuple[LanLab, Client, Server]]:
    """Two machines, a server on r1, and a client that works."""
    server = SERVERS[name]()
    with LanLab([machine.DAEMONS[kind](server, number) for number in (1, 2)], "example") as lab:
        lab.up()
        start(lab)
        client = server.client(lab)
        try:
            wait_until(lambda: ready(lab), PATIENCE, "the machines know each other", explain=lab.logs)
            wait_until(
                lambda: has_all(lab.routers[0], server) and client.answered(0),
                PATIENCE,
                "r1 serves",
                explain=lab.logs,
            )
            yield lab, client, server
        finally:
            client.close()


def play(names: Iterable[str], write: Callable[[str], None] = print) -> int:
    """Play with every program that is installed, and print the table."""
    kinds = [kind for kind, program in PROGRAMS.items() if shutil.which(program)]
    rows: list[list[str]] = []
    for name in names:
        table: dict[str, dict[str, str]] = {}
        for kind in kinds:
            if kind == "ucarp" and name != "samba":
                continue
            write(f"{kind}: {name} on r1 and r2, a client at {ADDRESS}")
            with running(name, kind) as (lab, client, server):
                for row in acts(lab, client, server, kind):
                    text = "never" if row.outage == float("inf") else f"{row.outage:.0f} ms"
                    table.setdefault(row.what, {})[kind] = text
                    write(f"  {row.what}: {text}")
                write(f"  lost: {client.lost() or 'nothing'}")
                if twice := server.twice(lab.directory):
                    write(f"  a second server found the data in use {twice} times")
        rows += [[name, what, *(texts.get(kind, "") for kind in kinds)] for what, texts in table.items()]
    write("")
    for one in [["", "outage when", *kinds], *rows]:
        write(f"  {one[0]:<9}{one[1]:<22}" + "".join(f"{text:>12}" for text in one[2:]))
    return 0
