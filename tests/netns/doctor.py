# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem doctor` on a router of the lab."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.lab import Router
from tests.lab.router import TANDEM

Finding = dict[str, str]


def visit(router: Router, *arguments: str) -> tuple[list[Finding], list[str]]:
    """Findings and notes; the exit status must agree."""
    control = ["--control", str(router.file("sock"))]
    argv = ["ip", "netns", "exec", router.namespace, sys.executable, "-I", str(TANDEM), "doctor", "--json"]
    argv += ["--listen", "1"]  # adverts come every half second
    done = subprocess.run([*argv, *control, *arguments], capture_output=True, text=True, timeout=100)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert done.returncode == bool(found["findings"])
    return found["findings"], found["notes"]


def doctor(router: Router, *arguments: str) -> list[Finding]:
    """The doctor's findings from this router; the other router has answered."""
    findings, notes = visit(router, *arguments)
    assert not notes
    return findings


def checks(findings: list[Finding]) -> set[tuple[str, str]]:
    """Return the checks that found something, each with its router."""
    return {(finding["check"], finding["router"]) for finding in findings}
