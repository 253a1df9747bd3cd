# SPDX-License-Identifier: GPL-2.0-or-later
"""One job of an upgrade on this router: a process of its own, which outlives the daemon that started it.

An upgrade of the package ends the daemon and exchanges the files of Tandem. So this process imports
everything before it begins, and tells by a file in memory how far it is.
"""

from __future__ import annotations

import fcntl
import os
import subprocess

from tandem import files
from tandem.console import DONE, FAILED
from tandem.control.client import ControlError, ask
from tandem.programs import PATH, find_program
from tandem.upgrade import report as reports
from tandem.upgrade.order import REPORT_MAX, parse_order, report_file
from tandem.upgrade.packages import MANAGERS, Manager, Upgradable
from tandem.upgrade.report import Report

REFRESH_S, LIST_S, INSTALL_S = 200.0, 60.0, 840.0  # less than the limits of `steps`
_TAIL = 4  # lines of a package manager that has failed


class JobError(Exception):
    """The job failed; the text is for people."""


def manager() -> Manager | None:
    """Return the package manager of this router; None: it has none."""
    return next((one for one in MANAGERS if os.access(find_program(one.name), os.X_OK)), None)


def read_report(control: str) -> Report:
    """Return the report of the last job on this router."""
    try:
        return reports.decode(files.read(report_file(control), REPORT_MAX))
    except OSError:
        return Report()


def run_job(order: str, control: str, by: str) -> int:
    """Do a job, one at a time, and write its report. A job whose number has a report is not done again."""
    parsed = parse_order(order)
    if parsed is None:
        return FAILED
    lock = os.open(f"{report_file(control)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _do(*parsed, control, by)
    except BlockingIOError:
        return FAILED  # another job is under way, whose report stays
    finally:
        os.close(lock)


def _do(job: str, number: str, control: str, by: str) -> int:
    if read_report(control).number == number:
        return DONE
    upgradable: Upgradable = {}
    try:
        _write(control, Report(number, reports.RUNNING))
        if job in ("failover", "resume"):
            ask(control, job, by=by)
        else:
            upgradable = _check() if job == "check" else _install()
    except (JobError, ControlError, OSError) as error:
        _write(control, Report(number, reports.FAILED, str(error)))
        return FAILED
    _write(control, Report(number, reports.DONE, "", upgradable))
    return DONE


def _write(control: str, report: Report) -> None:
    files.replace(report_file(control), reports.encode(report), 0o600)


def _check() -> Upgradable:
    found = _manager()
    _call(found, *found.refresh, limit=REFRESH_S)
    return _upgradable(found)


def _install() -> Upgradable:
    found = _manager()
    names = list(_upgradable(found))
    if names:
        said = _call(found, *found.upgrade, *names, limit=INSTALL_S)
        if left := _upgradable(found):
            raise JobError(f"{found.name} did not upgrade {', '.join(left)}: {_last(said)}")
    return {}


def _manager() -> Manager:
    found = manager()
    if found is None:
        raise JobError("there is neither apk nor opkg")
    return found


def _upgradable(found: Manager) -> Upgradable:
    return found.upgradable(_call(found, *found.listing, limit=LIST_S))


def _call(found: Manager, *arguments: str, limit: float) -> str:
    """Return what the package manager prints. JobError: it failed, with its last lines."""
    argv = [find_program(found.name), *arguments]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            env={"PATH": PATH, "HOME": "/root"},
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        raise JobError(f"{' '.join(argv)} took more than {limit:g} s") from None
    text = done.stdout.decode(errors="replace")
    if done.returncode:
        raise JobError(f"{' '.join(argv)} failed ({done.returncode}): {_last(text)}")
    return text


def _last(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-_TAIL:])
