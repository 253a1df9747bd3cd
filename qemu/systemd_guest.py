# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab guest with systemd as its init, and with podman; tandemd runs as a unit. One machine, no cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from . import cpio
from .image import Image
from .lab_guest import lab_guest
from .machine import Machine

PACKAGES = ("systemd", "podman", "crun")
MEMORY_MIB = 768  # podman is a large program of Go
BOOTED = "lab guest: boot complete"
ROOT = Path(__file__).resolve().parents[1]

# The lab guest's shell and programs, under another init.
_FIRST_BOOT = """#!/bin/sh
/bin/busybox --install -s 2>/dev/null
ln -sf /lib/systemd/systemd /sbin/init
ln -sf lab.target /etc/systemd/system/default.target
mkdir -p /var/tmp
rm -rf /var/run
ln -s /run /var/run
"""
_TARGET = """[Unit]
Requires=basic.target
Wants=lab.service
AllowIsolate=yes
"""
_CONSOLE = f"""[Unit]
After=basic.target

[Service]
ExecStartPre=/bin/sh -c 'echo "{BOOTED}" >/dev/console'
ExecStart=-/bin/bash
StandardInput=tty
StandardOutput=tty
TTYPath=/dev/ttyS0
Restart=always
"""
# systemd would end the guardian with the daemon, but it is there to stop the services then.
_TANDEMD = """[Service]
ExecStart=/root/tandem/files/usr/sbin/tandemd -c /etc/config/tandem
KillMode=process
Restart=on-failure
RestartSec=1
"""
_STORAGE = """[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
"""


def systemd_guest() -> Image:
    """The image; x86_64. UnreachableError: its packages can't be had."""
    return replace(lab_guest("x86_64", PACKAGES), memory_mib=MEMORY_MIB, booted=BOOTED)


def systemd_machine(name: str, image: Image, config: str) -> Machine:
    """A machine with /etc/config/tandem; `systemctl start tandemd` starts the daemon of this checkout."""
    texts = {
        "/first-boot": _FIRST_BOOT,
        "/etc/machine-id": "0123456789abcdef0123456789abcdef\n",  # without, systemd asks for its first set-up
        "/etc/systemd/system/lab.target": _TARGET,
        "/etc/systemd/system/lab.service": _CONSOLE,
        "/etc/systemd/system/tandemd.service": _TANDEMD,
        "/etc/containers/storage.conf": _STORAGE,
        "/etc/containers/containers.conf": '[engine]\ncgroup_manager = "cgroupfs"\n',  # there is no D-Bus
        "/etc/containers/policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}\n',
        "/etc/config/tandem": config,
    }
    files: dict[str, bytes | Path] = {path: text.encode() for path, text in texts.items()}
    for part in ("src/tandem", "files"):
        files |= cpio.directory(ROOT / part, f"/root/tandem/{part}")
    return Machine(name, [], image, {path: file for path, file in files.items() if not path.endswith(".pyc")})
