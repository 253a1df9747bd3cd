# SPDX-License-Identifier: GPL-2.0-or-later
"""Each audit of the walk fails when what it looks for is there, and only then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos import condition
from tests.chaos import run as runs
from tests.chaos.faults import ChaosTandem, policies
from tests.chaos.run import Failed, Run, running
from tests.chaos.walk import LAN, Step, World
from tests.lab import LAN_GATEWAY, LabError, Router, Tandem
from tests.lab.router import ROOT, TANDEMD, Daemon
from tests.netns.live import LAN_GATEWAY6, settle

SEED = 1
# What a bug does, how it ends, and what the audit says.
LEAKS = (
    (f"leaked.append(bytes(1 << 20) * {1 + condition.MEMORY_KIB // 1024})", "leaked.clear()", "KiB"),
    (
        f"leaked += [os.dup(0) for _ in range(1 + {condition.DESCRIPTORS})]",
        "[os.close(fd) for fd in leaked]; leaked.clear()",
        "descriptors",
    ),
    (
        "leaked.append(os.posix_spawn('/bin/sleep', ['sleep', '60'], {}))",
        "os.kill(leaked[0], 9); os.waitpid(leaked.pop(), 0)",
        "one process",
    ),
    ("raise RuntimeError", "", "status failed|exceptions|Traceback"),
)
# tandemd with a bug: what the file says is done once, at a request for the status.
BUGGY = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "src")!r})
from tandem.tandemd import main  # first, as it keeps modules out
from tandem.handlers import Handlers
leaked, right = [], Handlers.do_status
def do_status(self, request, reply):
    try:
        bug = open(sys.argv[0] + ".bug").read()
        os.unlink(sys.argv[0] + ".bug")
    except FileNotFoundError:
        bug = ""
    exec(bug)
    return right(self, request, reply)
Handlers.do_status = do_status
sys.exit(main(sys.argv[1:]))
"""


class Still:
    """A walk in which nothing happens."""

    def __init__(self, world: World) -> None:
        self.world = world

    def next(self) -> Step:
        return Step("clock", "r1")


class Buggy(ChaosTandem):
    """tandemd that can be given a bug while it runs."""

    def commands(self, router: Router) -> list[list[str]]:
        [argv] = super().commands(router)
        program = router.file("py")
        program.write_text(BUGGY)
        return [[str(program) if word == str(TANDEMD) else word for word in argv]]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A walk that has not begun, whose audits have passed."""
    with running(SEED, None) as made:
        yield made


@pytest.fixture
def audited(run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Audits that do not wait long for what is to fail; afterwards they pass again."""
    with monkeypatch.context() as short:
        for name in ("BOUND_S", "KERNEL_S"):
            short.setattr(runs, name, 0.5)
        short.setattr(condition, "PROCESS_S", 0.5)
        yield run
    run.audit()


@pytest.mark.parametrize("address", [LAN_GATEWAY, LAN_GATEWAY6])
def test_two_routers_answer(audited: Run, address: str) -> None:
    _, backup = settle(audited.lab)
    end = f"address {{}} {address}/{64 if ':' in address else 24} dev {LAN}"
    backup.ip(end.format("add"))
    with pytest.raises(AssertionError, match=r"answered by \['r1', 'r2'\]|some addresses"):
        audited.audit()
    backup.ip(end.format("del"))


def test_nobody_answers(audited: Run) -> None:
    active, _ = settle(audited.lab)
    active.exec(
        "nft", "-f", "-", stdin="table arp mute { chain o { type filter hook output priority 0; drop; }; }"
    )
    with pytest.raises(AssertionError, match=f"{LAN_GATEWAY} is answered by nobody"):
        audited.audit()
    active.exec("nft", "delete", "table", "arp", "mute")


LEFT = {
    "ip address add 10.9.9.9/32 dev lo": "ip address del 10.9.9.9/32 dev lo",
    "ip route add 10.9.9.0/24 dev lo": "ip route del 10.9.9.0/24 dev lo",
    "ip rule del pref 32767": "ip rule add pref 32767 lookup default",
    "ip rule add pref 9 lookup 9": "ip rule del pref 9",
    "nft add table ip left": "nft delete table ip left",
    "sysctl -q net.ipv4.conf.lo.arp_ignore=3": "sysctl -q net.ipv4.conf.lo.arp_ignore=0",
}


@pytest.mark.parametrize("does", LEFT)
def test_the_kernel_differs(audited: Run, does: str) -> None:
    router = audited.lab.routers[len(does) % 2]
    router.exec(*does.split())
    with pytest.raises(AssertionError, match=f"{router.name} as .*\n.* (more|less): "):
        audited.audit()
    router.exec(*LEFT[does].split())


def test_a_daemon_leaves_something_behind(audited: Run) -> None:
    _, backup = settle(audited.lab)
    backup.stop()
    left = audited.conditions[backup.name]
    left.kernel(condition.STOPPED, lambda: False)
    backup.exec("nft", "add", "table", "ip", "left")
    with pytest.raises(AssertionError, match="table ip left"):
        left.kernel(condition.STOPPED, lambda: False)
    backup.exec("nft", "delete", "table", "ip", "left")
    backup.start()
    settle(audited.lab)


def test_a_daemon_leaks(audited: Run) -> None:
    _, backup = settle(audited.lab)
    right, bug = backup.daemon, backup.file("py.bug")
    replace(audited, backup, Buggy(int(backup.name[1:]), policies(SEED)))
    try:
        for does, undoes, says in LEAKS:
            audited.audit()
            bug.write_text(does)
            with pytest.raises((AssertionError, LabError), match=says):
                for _ in range(2):  # the bug comes with the first look, perhaps after it
                    audited.audit()
            bug.write_text(undoes)
            Tandem.request(backup, "status")
    finally:
        replace(audited, backup, right)


def replace(run: Run, router: Router, daemon: Daemon) -> None:
    """Start another daemon."""
    router.stop()
    router.daemon = daemon
    router.start()
    settle(run.lab)


@pytest.mark.parametrize(
    "line", ["info a line\n" * (condition.LOG_LINES + 1), "Traceback (most recent call last)\n"]
)
def test_the_log_grows(audited: Run, line: str) -> None:
    for router in audited.lab.routers:
        with router.file("log").open("a") as log:
            log.write(line)
        with pytest.raises(AssertionError, match=f"{router.name}: .*(lines of log|Traceback)"):
            audited.audit()


def test_the_role_moves_without_a_reason(audited: Run) -> None:
    """The walk says of each step whether the active router could have kept the role."""
    active, _ = settle(audited.lab)
    Tandem.request(active, "failover")
    walk, audited.walk = audited.walk, Still(audited.walk.world)  # type: ignore[assignment]
    with pytest.raises(Failed, match="could have kept the role"):
        audited.go(1)
    audited.walk = walk


def test_connections_break(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """This is the last test: they are gone then."""
    monkeypatch.setattr(runs, "FLOWS_S", 1)
    active, _ = settle(run.lab)
    active.exec("nft", "insert", "rule", "inet", "fw4", "forward", "reject with tcp reset")
    active.exec("conntrack", "-D", "-p", "tcp", check=False)
    with pytest.raises(AssertionError, match="reset"):
        run.audit()
