# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenWrt's own root on a router of the lab, in a throw-away overlay."""

from __future__ import annotations

from pathlib import Path

from tests.lab import Router, wait_until
from tests.openwrt_pieces import ROOT


class Booted:
    """A container that lives until the lab ends. `script` starts with OVERLAY, touches `ready` and waits."""

    def __init__(self, router: Router, log: str, script: str, ready: Path, **environment: object) -> None:
        """`log`: the name of the router's file for what it says; the environment is the script's."""
        self._router, self._log = router, router.file(log)
        work = router.file("work")
        work.mkdir(exist_ok=True)
        ready.unlink(missing_ok=True)
        variables = {"WORK": work, "LOWER": ROOT, **environment}
        with self._log.open("ab") as file:
            self._boot = router.popen(
                "env", *(f"{name}={value}" for name, value in variables.items()),
                "unshare", "--mount", "sh", "-c", script, stdout=file, stderr=file,
            )  # fmt: skip

        def booted() -> bool:
            assert self._boot.poll() is None, self.log()
            return ready.exists()

        wait_until(booted, 30, f"{log}: it has booted", explain=self.log)

    def log(self) -> str:
        """Return the output of the container."""
        return self._log.read_text(errors="replace")

    def run(self, *argv: str) -> str:
        """A command inside. LabError when it fails."""
        root = f"{self._router.file('work')}/root"
        inside = ["nsenter", f"--mount=/proc/{self._boot.pid}/ns/mnt", "chroot", root]
        return self._router.exec(*inside, *argv)
