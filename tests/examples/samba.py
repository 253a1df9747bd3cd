# SPDX-License-Identifier: GPL-2.0-or-later
"""Samba: a share at one address, and Debian's smbclient, which writes files and reads them back."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab import LanLab

from .server import ADDRESS, RUN, Client, Server

CONFIG = f"""[global]
	server role = standalone server
	map to guest = Bad User
	disable netbios = yes
	smb ports = 445
	load printers = no
	disable spoolss = yes
	pid directory = {RUN}
	lock directory = {RUN}
	state directory = {RUN}
	cache directory = {RUN}
	private dir = {RUN}
	ncalrpc dir = {RUN}/ncalrpc
	log file = {RUN}/log
[data]
	path = {{data}}
	guest ok = yes
	read only = no
	force user = root
"""


class SambaClient(Client):
    """Puts a new file each time, and gets it back."""

    port = 445

    def __init__(self, lab: LanLab) -> None:
        self._number = 0
        self._kept: list[int] = []
        self._files = lab.directory / "smb.sent", lab.directory / "smb.got"
        super().__init__(lab)

    def ask(self) -> bool:
        self._number += 1
        number, (sent, got) = self._number, self._files
        self.reach()
        sent.write_text(str(number))
        words = f"put {sent} {number}; get {number} {got}"
        try:
            subprocess.run(
                ["smbclient", f"//{ADDRESS}/data", "--no-pass", "--configfile=/dev/null", "-c", words],
                capture_output=True,
                timeout=1,
                check=True,
            )
        except subprocess.SubprocessError:
            return False
        assert got.read_text() == str(number)
        self._kept.append(number)
        return True

    def lost(self) -> str:
        gone = [number for number in self._kept if (self.data / str(number)).read_text() != str(number)]
        return f"files {gone}" if gone else ""


class Samba(Server):
    name, comm = "samba", "smbd"

    def write(self, directory: Path) -> None:
        data = directory / "data"
        data.mkdir(exist_ok=True)
        (directory / "smb.conf").write_text(CONFIG.format(data=data))

    def command(self, directory: Path) -> str:
        return f"/usr/sbin/smbd --foreground --no-process-group --configfile={directory}/smb.conf"

    def client(self, lab: LanLab) -> Client:
        return SambaClient(lab)
