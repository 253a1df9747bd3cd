# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem upgrade`: the coordinator of an upgrade of both routers, and what shows it on a terminal.

The coordinator is a process without a terminal, because the session of its user may go through the address
that moves. It exchanges the files of the program that it runs, so it imports everything before it begins.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable

from tandem.console import DONE, FAILED, complain, printable
from tandem.control.client import ask
from tandem.programs import PACKAGE_DIR, PATH
from tandem.upgrade.exchange import job_argv
from tandem.upgrade.job import run_job
from tandem.upgrade.steps import Action, Examine, Say, Start, Step, Upgrade
from tandem.upgrade.sysupgrade import come_back, sysupgrade
from tandem.upgrade.view import HERE, PairView
from tandem.upgrade.watch import Watch

PAUSE_S = 0.5
STOPPED = "stopped: "
_FILE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def run(arguments: argparse.Namespace) -> int:
    """Do what the options say."""
    if os.geteuid() != 0:
        complain(["only root can upgrade a router"])
        return FAILED
    if arguments.job:
        return run_job(arguments.job, arguments.control, arguments.by)
    if arguments.returns:
        return come_back(arguments.control)
    if arguments.sysupgrade:
        return sysupgrade(arguments.sysupgrade, arguments.control, arguments.force)
    return _upgrade(arguments)


def _upgrade(arguments: argparse.Namespace) -> int:
    control = arguments.control
    watch = Watch(control, ask(control, "status"))
    lock = os.open(f"{control}.upgrade.running", _FILE, 0o600)
    log = os.open(f"{control}.upgrade.log", _FILE, 0o600)
    number = os.urandom(2).hex()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("an upgrade is under way:")
        return _show(log, lock)
    if arguments.check:
        upgrade = Upgrade(number, only_look=True, accepts=True)
        findings = coordinate(upgrade, watch, control, lambda text: print(printable(text), flush=True))
        return FAILED if findings or upgrade.step is Step.STOPPED else DONE
    os.ftruncate(log, 0)
    if not os.fork():
        _detached(Upgrade(number, accepts=arguments.force), watch, control, log)
    os.close(lock)  # the child has it
    return _show(log, os.open(f"{control}.upgrade.running", _FILE, 0o600))


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _show(log: int, lock: int) -> int:
    """Print what the coordinator says while it has the lock; how it ends is in the last line."""
    text, seen = "", 0
    while True:
        last = not _is_locked(lock)
        if more := os.pread(log, 65536, seen).decode(errors="replace"):
            sys.stdout.write(more)
            sys.stdout.flush()
            text += more
            seen += len(more.encode())
        elif last:
            break
        else:
            time.sleep(0.2)
    lines = text.splitlines()
    return FAILED if not lines or lines[-1].startswith(STOPPED) else DONE


def _detached(upgrade: Upgrade, watch: Watch, control: str, log: int) -> None:
    """Coordinate in the child, without a terminal, and end it."""
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)

        def say(text: str) -> None:
            os.write(log, f"{printable(text)}\n".encode())

        try:
            coordinate(upgrade, watch, control, say)
        except Exception as error:  # noqa: BLE001 - nobody would see a traceback
            say(f"{STOPPED}a bug: {error!r}. Run `tandem status` on both routers")
    finally:
        os._exit(0)


def coordinate(upgrade: Upgrade, watch: Watch, control: str, say: Callable[[str], None]) -> list[str]:
    """Carry out an upgrade, and return what the doctor has found at first."""
    order = ""
    found: list[str] | None = None
    now = time.monotonic_ns
    pair = watch.look()
    actions = upgrade.begin(pair, now())
    while True:
        for action in actions:
            if isinstance(action, Start) and action.where != HERE:
                order = f"{action.job}:{action.number}"  # sent with each look, until its report is here
            elif isinstance(action, Examine):
                findings = watch.examine()
                found = findings if found is None else found
                pair = watch.look(order)
                actions = upgrade.examined(findings, pair, now())
                break
            else:
                _carry_out(action, control, say)
        else:
            if upgrade.ended:
                break
            time.sleep(PAUSE_S)
            pair = watch.look(order)
            if order.endswith(f":{pair.there.report.number}"):
                order = ""
            actions = upgrade.look(pair, now())
    if order:
        watch.look(order)
    say(f"{STOPPED}{upgrade.why}" if upgrade.step is Step.STOPPED else _finished(pair))
    return found or []


def _carry_out(action: Action, control: str, say: Callable[[str], None]) -> None:
    if isinstance(action, Say):
        say(action.text)
    elif isinstance(action, Start):
        argv = job_argv(PACKAGE_DIR, control, f"{action.job}:{action.number}", "tandem upgrade")
        null = subprocess.DEVNULL
        subprocess.Popen(
            argv,
            stdin=null,
            stdout=null,
            stderr=null,
            start_new_session=True,  # it outlives this process
            env={"PATH": PATH},
            cwd="/",
        )


def _finished(pair: PairView) -> str:
    active = [one.name for one in (pair.here, pair.there) if "MASTER" in one.states]
    return f"finished; {' and '.join(active) or 'nobody'} is MASTER"
