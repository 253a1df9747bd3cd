# SPDX-License-Identifier: GPL-2.0-or-later
"""Two routers with LuCI's pages in front, on one LAN with a desk, where the browser is."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.lab import Host, Lab, Port
from tests.lab.router import ROOT, TANDEMD

HERE = Path(__file__).parent
NETWORK = """\
config interface 'lan'
	option device 'lan'
	option proto 'static'
	option ipaddr '192.168.1.{number}'
	option netmask '255.255.255.0'

config interface 'wan'
	option device 'wan'
	option proto 'static'
	option ipaddr '192.168.0.{number}'
	option netmask '255.255.255.0'
	option gateway '192.168.0.1'

config interface 'dsl'
	option device 'dsl-port'
	option proto 'pppoe'
"""
DHCP = "config dhcp 'lan'\n\toption interface 'lan'\n\toption ignore '1'\n"
# What /etc/init.d/tandem does, as far as it is needed.
INIT = """\
#!/bin/sh
case $1 in
restart | start | stop) ;;
*) exit 0 ;;
esac
[ ! -e {w}/pid ] || kill "$(cat {w}/pid)"
rm -f {w}/pid
[ "$1" != stop ] || exit 0
setsid unshare --uts sh -c 'hostname {name}; exec {python} -IS {tandemd} \\
    -c {w}/tandem --control {w}/control.sock --ubus ""' >>{w}/log 2>&1 </dev/null &
echo $! >{w}/pid
"""
# Port 7 of the provider's router.
ACCEPT = """
import socket
server, calls = socket.create_server(("", 7)), []
while True:
    calls.append(server.accept())
"""


class Pair(Lab):
    """r1 and r2 on `lan` and `wan`, the provider's router, and the desk on the LAN."""

    def __init__(self) -> None:
        super().__init__("luci")
        lan, wan = self.switch("lan"), self.switch("wan")
        self.routers = [
            self.add(
                Host(
                    f"r{number - 1}",
                    [
                        Port("lan", lan, f"192.168.1.{number}/24"),
                        Port("wan", wan, f"192.168.0.{number}/24"),
                    ],
                )
            )
            for number in (2, 3)
        ]
        for router in self.routers:
            router.forwarding = True
        self.provider = self.add(Host("provider", [Port("eth0", wan, "192.168.0.1/24")]))
        self.desk = self.add(Host("desk", [Port("eth0", lan, "192.168.1.50/24")], gateway="192.168.1.1"))

    def directory_of(self, number: int) -> Path:
        """The directory of a router's files, 2 or 3."""
        return self.directory / f"r{number - 1}"

    def accept(self) -> None:
        """Let the provider's router accept connections at port 7."""
        self.provider.popen(sys.executable, "-c", ACCEPT)

    def serve(self) -> None:
        """Start the stand-in's server on each router."""
        for number, router in zip((2, 3), self.routers, strict=True):
            where = self.directory_of(number)
            (where / "network").write_text(NETWORK.format(number=number))
            (where / "dhcp").write_text(DHCP)
            (where / "tandem").write_text("config globals 'globals'\n\toption enabled '0'\n")
            (where / "init").write_text(
                INIT.format(w=where, name=router.name, python=sys.executable, tandemd=TANDEMD)
            )
            (where / "init").chmod(0o755)
            argv = [sys.executable, "-m", "tests.luci.standin.server", str(where), f"192.168.1.{number}"]
            programs = where / "bin"
            programs.mkdir()
            (programs / "logread").write_text(f"#!/bin/sh\nsed 's/^/tandemd[1]: /' {where}/log\n")
            (programs / "logread").chmod(0o755)
            with router.file("log").open("ab") as log:
                router.popen(
                    *argv, cwd=ROOT, stdout=log, stderr=log,
                    env={**os.environ, "PYTHONPATH": f"{ROOT}/src"},
                )  # fmt: skip

    def browse(self, backend: str, shots: str, only: str = "") -> list[str]:
        """The command that runs the scenarios at the desk.

        TANDEM_SERVICE is a program that does what `service tandem VERB` does: TANDEM_SERVICE ROUTER VERB.
        """
        service = self.directory / "service"
        if not service.exists():
            service.write_text(
                f'#!/bin/sh\nexec ip netns exec "{self.prefix}$1" {self.directory}/$1/init "$2"\n'
            )
            service.chmod(0o755)
        values = {
            "TANDEM_R1": "http://192.168.1.2", "TANDEM_R2": "http://192.168.1.3", "TANDEM_BACKEND": backend,
            "TANDEM_SHOTS": shots, "TANDEM_ONLY": only, "TANDEM_SERVICE": service, "HOME": self.directory,
        }  # fmt: skip
        node = shutil.which("node") or "node"
        return ["env", *(f"{name}={value}" for name, value in values.items()), node, str(HERE / "run.mjs")]
