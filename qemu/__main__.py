# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m qemu shell`: a console on a fresh router; `figures`: a row of README.md; `pin`: release pins."""

from __future__ import annotations

import argparse
import os
import select
import sys
import tempfile
import termios
import tty
from contextlib import redirect_stdout
from pathlib import Path

from tests.lab import LabError
from tests.packaging.packages import make_ipk
from tests.packaging.router_feeds import build

from .architectures import ARCHITECTURES
from .figures import figures
from .openwrt_router import OpenWrtPair
from .pairs import MissingError, pair
from .release_guest import ReleaseError, pin
from .router import Pair, RouterMachine

ESCAPE = b"\x1d"  # Ctrl-], as telnet has it


def shell(lab: Pair) -> None:
    """One router of a pair, with the lab's client and provider around it."""
    with lab.up():
        router = lab.r1
        router.power_on()
        print(f"booting {router.image.name}; Ctrl-] ends the machine")
        if isinstance(lab, OpenWrtPair):
            router.wait_booted()
            lab.serve()
            install = "opkg update && opkg install tandem, or apk --update-cache add tandem; then tandem init"
        else:
            router.console.expect(router.image.booted, 300)
            install = "lab-install /root/*.ipk; lab-service start"
        print(f"the client is in {lab.client.namespace}; install: {install}")
        _terminal(router)


def _terminal(router: RouterMachine) -> None:
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
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m qemu", description=__doc__)
    parser.add_argument("command", choices=["shell", "figures", "pin"])
    parser.add_argument("--arch", choices=sorted(ARCHITECTURES), default="x86_64")
    parser.add_argument("--guest", choices=["lab", "root", "release"], default="lab", help="see README.md")
    parser.add_argument("--runs", type=int, default=3, help="of each outage that is measured")
    arguments = parser.parse_args()
    name = f"{arguments.guest}-{arguments.arch}"
    try:
        if arguments.command == "pin":
            pin()
            return 0
        with tempfile.TemporaryDirectory(prefix="tandem-feeds-") as directory:
            lab = pair(name, lambda: _feeds(Path(directory)))
            if arguments.command == "shell":
                shell(lab)
            else:
                print(figures(lab, arguments.runs, Path(f"build/qemu/logs/figures-{name}")))
        return 0
    except (LabError, MissingError, ReleaseError) as error:
        print(error, file=sys.stderr)
        return 1


def _feeds(directory: Path) -> Path:
    with redirect_stdout(sys.stderr):
        make_ipk(directory / "ipk")
        build(directory / "ipk", directory)
    return directory


if __name__ == "__main__":
    sys.exit(main())
