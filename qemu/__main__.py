# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m qemu shell`: a console on a fresh router; `figures`: a row of README.md; `pin`: release pins."""

from __future__ import annotations

import argparse
import os
import select
import sys
import termios
import tty
from pathlib import Path

from tests.lab import LabError

from .architectures import ARCHITECTURES
from .figures import figures
from .lab_guest import lab_guest
from .release_guest import ReleaseError, pin
from .router import LabRouter, Pair

ESCAPE = b"\x1d"  # Ctrl-], as telnet has it


def shell(arguments: argparse.Namespace) -> int:
    """One router of a pair, with the lab's client and provider around it."""
    image = lab_guest(arguments.arch)
    with Pair([image, image], LabRouter) as lab:
        lab.up()
        router = lab.r1
        router.power_on()
        print(f"booting {image.name}; Ctrl-] ends the machine")
        router.console.expect(image.booted, 300)
        print(f"the client is in {lab.client.namespace}; install: lab-install /root/*.ipk; lab-service start")
        _terminal(router)
    return 0


def _terminal(router: LabRouter) -> None:
    """Connect this terminal with the console until Ctrl-] or the machine's end."""
    seen = router.console.position()
    router.console.send("\n")
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd) if os.isatty(fd) else None
    try:
        if before is not None:
            tty.setraw(fd)
        while router.running:
            text, seen = router.console.since(seen)
            os.write(sys.stdout.fileno(), text.encode())
            if select.select([fd], [], [], 0.02)[0]:
                typed = os.read(fd, 1024)
                if not typed or ESCAPE in typed:
                    return
                router.console.send(typed.decode(errors="replace"))
    finally:
        if before is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
        print()


def main() -> int:
    """Dispatch."""
    parser = argparse.ArgumentParser(prog="python -m qemu", description=__doc__)
    parser.add_argument("command", choices=["shell", "figures", "pin"])
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), default="x86_64")
    parser.add_argument("--runs", type=int, default=3, help="of each outage that is measured")
    arguments = parser.parse_args()
    try:
        if arguments.command == "pin":
            pin()
            return 0
        if arguments.command == "shell":
            return shell(arguments)
        image = lab_guest(arguments.arch)
        print(figures(image, arguments.runs, Path(f"build/qemu/logs/figures-{arguments.arch}")))
        return 0
    except (LabError, ReleaseError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
