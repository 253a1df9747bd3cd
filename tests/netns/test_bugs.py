# SPDX-License-Identifier: GPL-2.0-or-later
"""A bug, a user who has gone or a kernel that lacks something may cost an answer, but not the gateway."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab import LabError, LanLab, Router, Tandem, stays, wait_until
from tests.lab.scenario import tandem_uci

from .daemon import V1, VIP, configure, instance, state, status

# The daemon with what fails while there is a file of that name.
PRELUDE = """\
import os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
flags = sys.argv[2]
def failing(module, name, error):
    real = getattr(module, name)
    def function(*arguments):
        if os.path.exists(f"{flags}.{name}"):
            raise error
        return real(*arguments)
    setattr(module, name, function)
import tandem.tandemd
import tandem.conntrack.ctnetlink, tandem.handlers, tandem.scripts
failing(tandem.handlers, "snapshot", RuntimeError("no snapshot"))
failing(tandem.scripts, "credentials_of", KeyError("nobody of that name"))
failing(tandem.conntrack.ctnetlink, "table_size", OSError("the kernel cannot tell of connections"))
sys.exit(tandem.tandemd.main(sys.argv[3:]))
"""
SYNC = """
config peer
\toption name 'r2'
\toption address '192.168.1.3'
config conntrack_sync
\tlist peer 'r2'
\toption insecure '1'
"""


class Failing(Tandem):
    """tandemd with the prelude."""

    def commands(self, router: Router) -> list[list[str]]:
        [argv] = super().commands(router)
        source = str(argv[2]).replace("files/usr/sbin/tandemd", "src")
        return [[sys.executable, "-I", "-c", PRELUDE, source, str(router.file("flag")), *argv[3:]]]


def flag(router: Router, name: str, there: bool = True) -> None:
    """Let the function `name` fail, or no more."""
    path = router.file(f"flag.{name}")
    path.touch() if there else path.unlink()


def failing(open_lab: Callable[[Any], Any], more: str = "", *flags: str) -> Router:
    """A router that is active."""
    lab: LanLab = open_lab(LanLab([Failing([V1], text=tandem_uci([V1]) + more)]))
    [router] = lab.routers
    for name in flags:
        flag(router, name)
    router.start()
    wait_until(lambda: router.active, 15, "it is active", explain=router.log)
    return router


def test_a_bug_costs_an_answer_three_hand_over(open_lab: Callable[[Any], Any]) -> None:
    router = failing(open_lab)
    flag(router, "credentials_of")
    with pytest.raises(LabError, match="nobody of that name"):
        configure(router, Failing([replace(V1, priority=170, addresses=("192.168.1.9/24",))]))
    found = instance(router)
    assert (found["state"], found["priority"]["base"]) == ("MASTER", 150), "nothing of it was taken"
    assert router.has(VIP) and not router.has("192.168.1.9")
    flag(router, "credentials_of", there=False)
    configure(router, Failing([replace(V1, priority=170)]))
    flag(router, "snapshot")
    with pytest.raises(LabError, match="no snapshot"):
        status(router)
    flag(router, "snapshot", there=False)
    stays(lambda: router.has(VIP), 0.3, "the role stays")
    found = status(router)
    assert found["counters"]["exceptions"] == 1
    [text] = found["health"]["exceptions"]
    assert text.startswith("RuntimeError: no snapshot at handlers.py:")
    assert router.log().count("a bug, please report it") == 1 and "in do_status" in router.log()
    flag(router, "snapshot")
    for _ in range(2):
        with pytest.raises(LabError):  # the last one may get no answer
            status(router)
    wait_until(lambda: not router.running, 10, "it ends", explain=router.log)
    assert router.processes[-1].returncode == 4
    assert "V1: STOP" in router.log() and not router.has(VIP)


def test_without_kernel_support_for_replication_there_is_a_gateway(open_lab: Callable[[Any], Any]) -> None:
    router = failing(open_lab, SYNC, "table_size")
    assert status(router)["health"] == {"replication_missing": ["the kernel cannot tell of connections"]}
    with pytest.raises(LabError, match="the kernel cannot tell of connections"):
        Tandem.request(router, "conntrack")
    configure(router, Failing([V1], text=tandem_uci([replace(V1, priority=160)]) + SYNC))
    assert instance(router)["priority"]["base"] == 160 and router.has(VIP), "other changes are taken"
    flag(router, "table_size", there=False)
    Tandem.request(router, "reload")
    assert status(router)["health"] == {} and state(router) == "MASTER"
    assert Tandem.request(router, "conntrack")["channel"]
    assert router.stop() == 0


def test_a_restart_of_dnsmasq_is_not_broken_off(open_lab: Callable[[Any], Any], tmp_path: Path) -> None:
    """Neither a reload nor the end of the daemon, which waits for it, ends a restart. No zombie is left."""
    script, said, go = tmp_path / "restart", tmp_path / "said", tmp_path / "go"
    script.write_text(
        f"#!/bin/sh\necho begin >>{said}\nwhile ! [ -e {go} ]; do sleep 0.05; done\necho end >>{said}\n"
    )
    script.chmod(0o755)
    dhcp = f"""
config dhcp_gateway
\toption leasefile '{tmp_path}/leases'
\toption confdir '{tmp_path}/conf.d'
\tlist restart '{script}'
\toption restart_delay """
    text = tandem_uci([replace(V1, options={"dhcp": "1"})]) + dhcp
    lab: LanLab = open_lab(LanLab([Tandem([V1], text=text + "'1'\n")]))
    [router] = lab.routers
    router.start()
    wait_until(said.exists, 15, "the restart has begun", explain=router.log)
    for number in (2, 3):
        configure(router, Tandem([V1], text=f"{text}'{number}'\n"))
    wait_until(lambda: not zombies(router.pid), 10, "all planners are collected")
    assert said.read_text() == "begin\n"
    router.signal(signal.SIGTERM)
    wait_until(lambda: "V1: STOP" in router.log(), 10, "it has handed over")
    with pytest.raises(LabError, match="stopping"):
        Tandem.request(router, "reload")
    assert router.running
    go.touch()
    wait_until(lambda: not router.running, 10, "it ends then", explain=router.log)
    assert router.processes[-1].returncode == 0
    words = said.read_text().split()
    assert words == ["begin", "end"] * (len(words) // 2), "never two, and never half of one"


def zombies(pid: int) -> list[str]:
    """Children that have ended and were not collected."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    stats = [Path(f"/proc/{child}/stat").read_text() for child in children]
    return [stat for stat in stats if stat.rpartition(")")[2].split()[0] == "Z"]
