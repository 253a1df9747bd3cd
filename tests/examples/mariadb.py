# SPDX-License-Identifier: GPL-2.0-or-later
"""MariaDB with its data on a common disk: its client commits one row after the other.

Its engines lock their files (fcntl), so the kernel tells a second server that somebody has the data open:
the second one writes that to its log.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab import LanLab

from .server import ADDRESS, MONITOR_S, RUN, Client, Server, primitive

CONFIG = """[mariadbd]
user = root
skip-name-resolve
bind-address = 0.0.0.0
log_warnings = 1
# The client tries the port first, and does not log in then.
max_connect_errors = 1000000
"""
FIRST = """
CREATE DATABASE example;
CREATE TABLE example.numbers (number INT PRIMARY KEY) ENGINE=InnoDB;
FLUSH PRIVILEGES;
CREATE USER client@'%';
GRANT ALL ON example.* TO client@'%';
"""
SECTION = f"\toption agent 'ocf:heartbeat:mysql'\n\toption monitor_interval '{MONITOR_S}'\n"
LOCKED = "Can't lock aria control file"


class MariadbClient(Client):
    """Commits a new number each time."""

    port = 3306

    def __init__(self, lab: LanLab) -> None:
        self._number = 0
        self._kept: list[int] = []
        super().__init__(lab)

    def ask(self) -> bool:
        self._number += 1
        self.reach()
        if self._query(f"INSERT INTO numbers VALUES ({self._number})") is None:
            return False
        self._kept.append(self._number)
        return True

    def lost(self) -> str:
        text = self.lab.client.enter(lambda: self._query("SELECT number FROM numbers"))
        if text is None:
            return "not known: no server answers"
        gone = set(self._kept) - set(map(int, text.split()))
        return f"rows {sorted(gone)}" if gone else ""

    def _query(self, statement: str) -> str | None:
        argv = ["mariadb", "--no-defaults", f"--host={ADDRESS}", "--user=client", "--connect-timeout=1"]
        try:
            return subprocess.run(
                [*argv, "--skip-column-names", "--batch", f"--execute={statement}", "example"],
                capture_output=True,
                text=True,
                timeout=2,
                check=True,
            ).stdout
        except subprocess.SubprocessError:
            return None


class Mariadb(Server):
    name, comm = "mariadb", "mariadbd"

    def write(self, directory: Path) -> None:
        (directory / "my.cnf").write_text(CONFIG)
        data = directory / "data"
        if data.exists():
            return
        (directory / "first.sql").write_text(FIRST)
        options = ["--no-defaults", "--user=root", "--auth-root-authentication-method=normal"]
        more = [f"--datadir={data}", "--skip-test-db", f"--extra-file={directory}/first.sql"]
        subprocess.run(["mariadb-install-db", *options, *more], capture_output=True, check=True)

    def command(self, directory: Path) -> str:
        log, data = self._log(directory), f"--datadir={directory}/data"
        files = f"--pid-file={RUN}/pid --socket={RUN}/socket --log-error={log}"
        return f"/usr/sbin/mariadbd --defaults-file={directory}/my.cnf {data} {files}"

    def parameters(self, directory: Path) -> dict[str, str]:
        """Those of ocf:heartbeat:mysql."""
        return {
            "binary": "/usr/sbin/mariadbd",
            "client_binary": "/usr/bin/mariadb",
            "config": f"{directory}/my.cnf",
            "datadir": f"{directory}/data",
            "user": "root",
            "group": "root",
            "log": str(self._log(directory)),
            "pid": f"{RUN}/pid",
            "socket": f"{RUN}/socket",
        }

    def section(self, directory: Path) -> str:
        parameters = self.parameters(directory).items()
        return SECTION + "".join(f"\tlist param '{key}={value}'\n" for key, value in parameters)

    def primitive(self, directory: Path) -> str:
        agent = 'class="ocf" provider="heartbeat" type="mysql"'
        return primitive(self.name, agent, self.parameters(directory))

    def client(self, lab: LanLab) -> Client:
        return MariadbClient(lab)

    def twice(self, directory: Path) -> int:
        log = self._log(directory)
        return log.read_text().count(LOCKED) if log.exists() else 0

    def _log(self, directory: Path) -> Path:
        return directory / "mariadb.log"  # of both servers
