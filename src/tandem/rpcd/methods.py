# SPDX-License-Identifier: GPL-2.0-or-later
"""Methods of `tandem.commands` that are commands as well, and the log."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from dataclasses import asdict
from itertools import count, islice
from typing import Any

from tandem import files
from tandem.config.load import Loaded, load_file, load_text
from tandem.config.problem import Problem
from tandem.config.uci import LARGEST_FILE
from tandem.control.commands import flows, running_config
from tandem.control.flows import line
from tandem.programs import PATH
from tandem.rpcd.request import Request

MOST_FLOWS = 500  # in one answer
MOST_READ = 50_000  # flows that a search looks at
MOST_LINES = 1000  # of the log
LISTEN_S = 4
DOCTOR_LOCK, DOCTOR_FILE = "doctor.lock", "doctor.json"
_LOG_BYTES = 4 << 20
_OWN_LINES = "^tandem[^ ]*: "  # what logread compares begins after the time and the facility


def check(request: Request) -> dict[str, Any]:
    """Check a configuration: the argument `text`, or the file where there is none."""
    text = request.text("text", LARGEST_FILE)
    loaded = load_text(text, "tandem") if text else load_file(request.files.config)
    errors = list(map(problem, loaded.errors)) or [{"reason": why} for why in _unusable(loaded)]
    found: dict[str, Any] = {"errors": errors, "warnings": list(map(problem, loaded.warnings))}
    if not errors and loaded.config is not None:
        from tandem.config.effective import render

        found["effective"] = render(loaded.config)
    return found


def problem(found: Problem) -> dict[str, Any]:
    """Return an error or a warning with its place, for a program."""
    place = {"section": found.section, "type": found.section_type, "option": found.option}
    values = {"line": found.line or None, **place, "value": found.value, "reason": found.reason}
    return {key: value for key, value in values.items() if value is not None}


def _unusable(loaded: Loaded) -> list[str]:
    """Return why a configuration without errors can't be used on this router, as `tandem check` does."""
    from tandem.plan.process import problems
    from tandem.plan.requirement import problem as missing

    if loaded.config is None:
        return []
    why = missing()
    return [why] if why else [str(item) for item in problems(loaded.config)]


def conntrack_list(request: Request) -> dict[str, Any]:
    """Return flows as lines: this router's own, or those held for `peer`, with all words of `search` in them.

    "more": there are further lines, or not all flows were searched.
    """
    words = request.text("search", 200).lower().split()
    limit = request.number("limit", 100, 1, MOST_FLOWS)
    left = count(MOST_READ, -1)
    lines = (line(flow) for flow in flows(request.files.control, request.text("peer") or None, MOST_READ))
    matching = (text for text in lines if next(left) and all(word in text.lower() for word in words))
    found = list(islice(matching, limit))
    return {"flows": found, "more": next(matching, None) is not None or next(left) <= 0}


def log(request: Request) -> dict[str, Any]:
    """Return the last lines of the system log that are Tandem's."""
    lines = request.number("lines", 200, 1, MOST_LINES)
    argv = ["logread", "-e", _OWN_LINES]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=10, check=False, env={"PATH": PATH})
    except subprocess.TimeoutExpired:
        return {"error": "logread did not answer in 10 s"}
    return {"lines": done.stdout[-_LOG_BYTES:].decode("utf-8", "replace").splitlines()[-lines:]}


# The doctor takes longer than a browser waits: a process of its own examines, and the result lies in a file.


def doctor(request: Request) -> dict[str, Any]:
    """Return the last result of the doctor, and whether one is at work; `start`: begin unless one is.

    "ago_s": the age of the result; without a result there are no "findings".
    """
    os.makedirs(request.files.state, 0o700, exist_ok=True)
    lock = os.open(
        os.path.join(request.files.state, DOCTOR_LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    path = os.path.join(request.files.state, DOCTOR_FILE)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return {"running": True}
        if request.switch("start"):
            _examine(request, path)
            return {"running": True}
        with open(path, "rb") as file:
            age, found = time.time() - os.fstat(file.fileno()).st_mtime, json.load(file)
    except (FileNotFoundError, ValueError):
        return {"running": False}
    finally:
        os.close(lock)
    return {"running": False, "ago_s": max(0, round(age)), **found}


def _examine(request: Request, path: str) -> None:
    """Start the examination; the child has inherited the locks, which end with it."""
    if os.fork():
        return
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        from tandem.doctor.visit import visit

        config = running_config(request.files.control)
        found = asdict(visit(config, request.files.control, LISTEN_S))
        files.replace(path, json.dumps(found).encode(), 0o600)
        status = 0
    except Exception as error:  # noqa: BLE001 - there is no other place to tell it
        files.replace(path, json.dumps({"error": f"the doctor failed: {error!r}"}).encode(), 0o600)
    finally:
        os._exit(status)
