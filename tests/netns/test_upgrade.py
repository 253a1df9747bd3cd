# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem upgrade` on a pair, whose package managers exchange the files under running programs.

Both routers begin with copies of this release that call themselves another one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import FAR, Router, SeedLab, Tandem, wait_until
from tests.lab.router import ROOT
from tests.netns import package_stand_in

from .live import FIREWALL, SyncedTandem, connections, no_resets, settle, started, synced

OLD, NEW = "0.0.9-r1", "0.9.9-r1"
MANAGERS = {1: "opkg", 2: "apk"}  # what each router has
pytestmark = pytest.mark.skipif(
    any(shutil.which(name) for name in MANAGERS.values()), reason="a package manager of this machine"
)
# What a router has beside this machine's programs: its own package manager.
_PROGRAMS = 'mount -t overlay overlay -o "lowerdir=$1:/usr/sbin" /usr/sbin && shift && exec "$@"'


class Installed(SyncedTandem):
    """tandemd from files that belong to this router alone."""

    number = 0

    def prepare(self, router: Router) -> None:
        """Set up the firewall, by another name than fw4's, which the doctor would examine."""
        router.exec("nft", "-f", "-", stdin=FIREWALL.replace("inet fw4", "inet own") + self.rules)

    def tree(self, router: Router) -> Path:
        return router.file("tree")

    def write(self, router: Router) -> None:
        super().write(router)
        tree, programs = self.tree(router), router.file("sbin")
        if tree.exists():
            return
        shutil.copytree(ROOT / "files/usr", tree / "files/usr", symlinks=True)
        shutil.copytree(
            ROOT / "src/tandem", tree / "src/tandem", ignore=shutil.ignore_patterns("__pycache__")
        )
        init = tree / "src/tandem/__init__.py"
        init.write_text(f'__version__ = "{OLD}"\n')
        programs.mkdir()
        manager = programs / MANAGERS[self.number]
        manager.write_text(f"#!{sys.executable}\n{Path(package_stand_in.__file__).read_text()}")
        manager.chmod(0o755)
        settings = {
            "version": NEW, "source": str(ROOT), "tree": str(tree), "control": str(router.file("sock")),
            "start": self.program(router), "log": str(router.file("log")),
        }  # fmt: skip
        (programs / f"{manager.name}.json").write_text(json.dumps(settings))

    def program(self, router: Router) -> list[str]:
        [argv] = super().commands(router)
        return [*argv[:2], str(self.tree(router) / "files/usr/sbin/tandemd"), *argv[3:]]

    def commands(self, router: Router) -> list[list[str]]:
        return [["sh", "-c", _PROGRAMS, "sh", str(router.file("sbin")), *self.program(router)]]


def installed(number: int, *, preempt: bool = False, allow: bool = True) -> Installed:
    made = synced(number, preempt=preempt)
    made.__class__ = Installed
    assert made.text is not None and isinstance(made, Installed)
    made.number = number
    name = f"\toption router_id 'r{number}'\n\toption allow_upgrade '{int(allow)}'\n"
    made.text = made.text.replace("\toption router_id 'lab'\n", name)
    assert name in made.text
    return made


def command(router: Router, *arguments: str) -> list[str]:
    """`tandem upgrade` of the router's own files."""
    program = str(router.file("tree") / "files/usr/bin/tandem")
    control = ["--control", str(router.file("sock"))]
    inside = ["ip", "netns", "exec", router.namespace, "sh", "-c", _PROGRAMS, "sh", str(router.file("sbin"))]
    return [*inside, sys.executable, "-I", program, "upgrade", *arguments, *control]


def upgrade(router: Router, *arguments: str) -> tuple[int, str]:
    """The exit status, and what it says."""
    done = subprocess.run(command(router, *arguments), capture_output=True, text=True, timeout=180)
    return done.returncode, done.stdout + done.stderr


def versions(lab: SeedLab) -> list[str]:
    """The releases that the daemons of the pair are."""
    return [Tandem.request(router, "version")["version"] for router in lab.routers]


def test_downloads_survive_the_upgrade_of_both(open_lab: Callable[[SeedLab], SeedLab]) -> None:
    """Started on the active router, which is the preferred one: it gets its role back."""
    lab = open_lab(SeedLab(lambda number: installed(number, preempt=True), "upgrade"))
    started(lab)
    wait_until(lambda: lab.active is lab.r1, 20, "the preferred router is active")
    settle(lab)
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=True)
        flows.add(lab.client, lab.server, FAR, 10, server_speaks=False)
        flows.all_go_on()
        status, said = upgrade(lab.r1)
        assert (status, versions(lab)) == (0, [NEW, NEW]), said
        assert said.endswith("finished; r1 is MASTER\n") and "r1 hands over to 192.168.1.3" in said
        flows.all_go_on()
        settle(lab)
        assert lab.active is lab.r1


def test_it_stops_and_goes_on_and_needs_no_terminal(open_lab: Callable[[SeedLab], SeedLab]) -> None:
    """Started on the backup, whose upgrade fails at first. Then its terminal is gone."""
    lab = open_lab(SeedLab(installed, "upgrade"))
    active, backup = started(lab)
    with connections() as flows, no_resets(lab):
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        broken = backup.file("sbin") / f"{MANAGERS[1 if backup is lab.r1 else 2]}.broken"
        broken.touch()
        status, said = upgrade(backup)
        assert status == 1 and "no space left on device" in said.splitlines()[-1], said
        assert lab.active is active and versions(lab) == [OLD, OLD]
        assert "The gateway is on" in said and "upgrade tandem" in said
        flows.all_go_on()
        broken.unlink()
        terminal = subprocess.Popen(command(backup), stdout=subprocess.PIPE, text=True)
        assert terminal.stdout is not None and terminal.stdout.readline()
        terminal.kill()
        terminal.wait(10)
        terminal.stdout.close()
        status, said = upgrade(backup)
        assert status == 0 and said.startswith("an upgrade is under way:\n"), said
        assert versions(lab) == [NEW, NEW]
        flows.all_go_on()
        settle(lab)


def test_a_peer_obeys_only_if_it_may(open_lab: Callable[[SeedLab], SeedLab]) -> None:
    lab = open_lab(SeedLab(lambda number: installed(number, allow=number == 1), "upgrade"))
    started(lab)
    status, said = upgrade(lab.r1)
    assert status == 1 and "192.168.1.3 takes no orders: its `option allow_upgrade` is 0" in said
    status, said = upgrade(lab.r2, "--check")
    assert (status, versions(lab)) == (0, [OLD, OLD]), said
    assert f"r2: tandem {OLD} -> {NEW}; 192.168.1.2: tandem {OLD} -> {NEW}" in said


SYSUPGRADE = """#!/bin/sh
[ "$1" = --test ] && { [ "$(cat $2)" = good ] || { echo 'Image metadata not present'; exit 1; }; exit; }
: >"$1.installed"
"""


def test_an_image_is_installed_in_standby_which_ends_by_itself(
    open_lab: Callable[[SeedLab], SeedLab],
) -> None:
    lab = open_lab(SeedLab(lambda number: installed(number, allow=False), "upgrade"))
    active, backup = started(lab)
    program, image, note = (active.file(name) for name in ("sbin", "image", "sock.returning"))
    program = program / "sysupgrade"
    program.write_text(SYSUPGRADE)
    program.chmod(0o755)
    with connections() as flows:
        flows.add(lab.client, lab.server, FAR, 20, server_speaks=True)
        image.write_text("bad")
        status, said = upgrade(active, "--sysupgrade", str(image))
        assert status == 1 and "Image metadata not present; nothing was changed" in said
        assert lab.active is active and not note.exists()
        image.write_text("good")
        status, said = upgrade(active, "--sysupgrade", str(image))
        assert status == 0, said
        assert Path(f"{image}.installed").exists() and note.exists()
        assert lab.active is backup and active.all_in("FAULT")
        assert upgrade(active, "--return")[0] == 0 and active.all_in("FAULT"), "it has not been away"
        flows.all_go_on()
        active.power_off()
        active.power_on()
        note.write_text("the boot before\n")  # all namespaces have one
        active.wait_started()
        assert upgrade(active, "--return")[0] == 0
        wait_until(lambda: active.all_in("BACKUP"), 10, "the standby has ended")
        assert not note.exists()
        settle(lab)
        flows.all_go_on()
