# SPDX-License-Identifier: GPL-2.0-or-later
"""The service on OpenWrt: starts it and waits until it runs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from glob import glob

from tandem.control.client import ControlError, NoDaemonError, ask
from tandem.programs import PATH

INIT_SCRIPT = "/etc/init.d/tandem"
BOOT_LINKS = "/etc/rc.d/S[0-9][0-9]tandem"  # of enabled services
APPEARS_S = 90.0  # Python takes ten seconds on the slowest router that was tried, and more on a busy one
_PAUSE_S = 0.2
_CLEAN = {"PATH": PATH}  # the environment of the programs started here
_LOG_LINES = 5


def installed() -> bool:
    """Return whether this is a router with the package."""
    return os.access(INIT_SCRIPT, os.X_OK)


def starts_at_boot() -> bool:
    """Return whether the service is enabled."""
    return bool(glob(BOOT_LINKS))


def start(config_file: str, control: str) -> list[str]:
    """Enable and restart the service, and wait until tandemd runs with this file; return the problems."""
    for verb in ("enable", "restart"):
        if subprocess.run([INIT_SCRIPT, verb], check=False, env=_CLEAN).returncode:
            return [f"{INIT_SCRIPT} {verb} failed"]
    end = time.monotonic() + APPEARS_S
    while True:
        why = _absent(config_file, control)
        if why is None:
            return []
        refused = subprocess.run([INIT_SCRIPT, "running"], check=False, env=_CLEAN).returncode != 0
        if refused or time.monotonic() > end:
            return [f"tandemd does not run: {why}", *_last_words()]
        time.sleep(_PAUSE_S)


def _absent(config_file: str, control: str) -> str | None:
    """Return why the daemon that was started does not answer; None: it does."""
    try:
        status = ask(control, "status")
    except NoDaemonError:
        return "it was not started, or has ended"
    except ControlError as error:
        return str(error)
    file = status.get("config_file") if isinstance(status, dict) else None
    return None if file == os.path.abspath(config_file) else f"the running daemon uses {file}"


def _last_words() -> Iterator[str]:
    """Yield the daemon's last log lines."""
    try:
        environment = {"PATH": os.environ.get("PATH", PATH)}
        argv = ["logread", "-e", "tandemd"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return
    yield from (f"log: {line}" for line in done.stdout.splitlines()[-_LOG_LINES:])
