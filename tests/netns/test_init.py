# SPDX-License-Identifier: GPL-2.0-or-later
"""`tandem init` on one router, its line on the other: the two elect, and replicate connections."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Instance, Router, SeedLab, Tandem, stays, wait_until
from tests.lab.router import TANDEM
from tests.lab.topology import seed_instances
from tests.openwrt_pieces import LOOPBACK

Open = Callable[[Any], Any]

NETWORK = (
    LOOPBACK
    + """
config interface 'lan'
	option device 'br-lan'
	option proto 'static'
	option ipaddr '192.168.1.{host}'
	option netmask '255.255.255.0'
	list ip6addr 'fd00:1::{host}/64'

config interface 'wan'
	option device 'eth0.2'
	option proto 'static'
	list ipaddr '192.168.0.{host}/24'
	option gateway '192.168.0.1'

config interface 'wan6'
	option device '@wan'
	option proto 'dhcpv6'
"""
)
DHCP = """
config dnsmasq
	option leasefile '/tmp/dhcp.leases'

config dhcp 'lan'
	option interface 'lan'
	option start '100'
	option ra 'server'
	option dhcpv6 'server'

config dhcp 'wan'
	option interface 'wan'
	option ignore '1'
"""


def as_init_names_them(instances: list[Instance]) -> list[Instance]:
    """The seed's instances by the names that `tandem init` gives: those of the networks."""
    return [replace(one, name=name) for one, name in zip(instances, ("lan", "wan"), strict=True)]


class Machine:
    """The files of one router, and `tandem init` on them."""

    def __init__(self, directory: Path, number: int) -> None:
        self.directory = directory / f"r{number}"
        self.directory.mkdir()
        self.config = self.directory / "tandem"
        self.secret = self.directory / "etc/secret"
        network = self.directory / "network"
        network.write_text(NETWORK.replace("{host}", str(number + 1)))
        dhcp = self.directory / "dhcp"
        dhcp.write_text(DHCP)
        files = [f"--config={self.config}", f"--network-config={network}", f"--secret-file={self.secret}"]
        files.append(f"--dhcp-config={dhcp}")
        self.init = [sys.executable, "-IS", str(TANDEM), "init", *files]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.init, *arguments], input=stdin, capture_output=True, text=True)

    def daemon(self) -> Tandem:
        """tandemd with the configuration that was written; without netifd, devices stand for networks."""
        text = self.config.read_text()
        for network, device in (("lan", "br-lan"), ("wan", "eth0.2")):
            text = text.replace(f"option interface '{network}'", f"option interface '{device}'")
        return Tandem(as_init_names_them(seed_instances()), text=text.replace("option dhcp '1'", ""))


@pytest.fixture
def machines(tmp_path: Path) -> list[Machine]:
    return [Machine(tmp_path, 1), Machine(tmp_path, 2)]


class Console:
    """A person at a terminal."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.screen = ""

    def expect(self, pattern: str) -> str:
        """Read until the pattern stands at the end of the screen; what came since the last time."""
        start = len(self.screen)
        os.set_blocking(self.descriptor, False)

        def there() -> bool:
            try:
                self.screen += os.read(self.descriptor, 4096).decode()
            except (BlockingIOError, OSError):
                pass  # nothing yet, or the other end is closed
            return re.search(pattern, self.screen[start:], re.DOTALL) is not None

        wait_until(there, 15, f"the terminal shows {pattern!r}", explain=lambda: self.screen[start:])
        return self.screen[start:]

    def type(self, line: str) -> None:
        os.write(self.descriptor, line.encode() + b"\n")

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.descriptor)[3] & termios.ECHO)


@contextmanager
def console(argv: list[str]) -> Iterator[tuple[Console, subprocess.Popen[bytes]]]:
    """The program with a terminal of its own, as on a serial line."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    try:
        yield Console(ours), child
    finally:
        child.kill()
        child.wait()
        os.close(ours)


def token(output: str) -> str:
    """The token in what `init` printed."""
    found = re.search(r"^  echo (\S+) \| tandem init --join --start\r?$", output, re.MULTILINE)
    assert found, output
    assert len(found[0]) < 512, "OpenWrt's shell would cut the line"
    return found[1]


def test_two_routers_elect_with_what_init_wrote(open_lab: Open, machines: list[Machine]) -> None:
    first, second = machines
    done = first.run("--network=lan=192.168.1.4,fd00:1::4", "--network=wan=192.168.0.4", "--peer=192.168.1.3")
    assert done.returncode == 0, done.stderr
    joined = second.run("--join", stdin=token(done.stdout) + "\n")
    assert joined.returncode == 0 and not joined.stderr, joined.stderr
    without = second.run("--join", "--force", "--dhcp-config=/nowhere", stdin=token(done.stdout) + "\n")
    assert without.returncode == 0 and "lan: dnsmasq gives no leases here" in without.stderr
    lab = open_lab(SeedLab(lambda number: machines[number - 1].daemon()))
    active, backup = lab.elect()
    wait_until(lambda: active.has("fd00:1::4"), 10, "IPv6 too")
    for router in lab.routers:
        wait_until(lambda router=router: in_step(router), 20, "connections are replicated")  # type: ignore[misc]
    assert "0% packet loss" in lab.client.exec("ping", "-c1", "-W2", "203.0.113.1")
    active.power_off()
    wait_until(lambda: lab.active is backup, 15, "the other one takes over")
    assert "0% packet loss" in lab.client.exec("ping", "-c1", "-W2", "203.0.113.1")


def in_step(router: Router) -> bool:
    status = Tandem.request(router, "conntrack")
    peer = status["channel"]["peers"][0]
    return bool(peer["state"] == "up" and (peer["in_step"] or peer["held_in_step"]))


def test_questions_at_a_terminal(machines: list[Machine]) -> None:
    first, second = machines
    with console(first.init) as (terminal, child):
        shown = terminal.expect(r"Networks with a shared address \[lan wan\]: $")
        assert "wan: 192.168.0.2/24 on eth0.2, way out by 192.168.0.1" in shown and "(wan6: dhcpv6" in shown
        terminal.type("lan guest")
        terminal.expect(r"not one of them: guest\s+Networks.*: $")
        terminal.type("")
        terminal.expect(r"Gateway address of the clients in lan .*192.168.1.2/24.*\[192.168.1.1\]: $")
        for wrong, why in {
            "192.168.1.2": "this router's own",
            "192.168.2.4": "not in the subnet",
            "192.168.1.255": "broadcast",
            "gateway": "not an IP address",
        }.items():
            terminal.type(wrong)
            terminal.expect(f"{why}.*\\s+Gateway address.*: $")
        terminal.type("192.168.1.4")
        terminal.expect(r"Shared address in wan .*\[192.168.0.254\]: $")
        terminal.type("192.168.0.1")
        terminal.expect(r"provider's router.*\s+Shared.*: $")
        terminal.type("192.168.0.4")
        terminal.expect(r"other router's own address.*\[192.168.1.3\]: $")
        terminal.type("192.168.1.4")
        terminal.expect(r"both routers share.*: $")
        terminal.type("192.168.1.3")
        shown = terminal.expect(r"Write this to .*\[y\]: $")
        assert shown.count("option dhcp '1'") == 2  # IPv4, and IPv6 as by default
        assert "src 192.168.0.4 to 0.0.0.0/0 via 192.168.0.1 metric 5" in shown
        assert not first.config.exists() and not first.secret.exists()
        terminal.type("")
        word = token(terminal.expect(r"To start it here: .*\n"))
        assert child.wait(10) == 0
    with console([*second.init, "--join"]) as (terminal, child):
        terminal.expect("Token of the other router: $")
        assert not terminal.echoes()
        terminal.type(word)
        terminal.expect(r"is written\.")
        assert child.wait(10) == 0
        assert word not in terminal.screen
    assert first.secret.read_text() == second.secret.read_text()
    for machine in machines:
        assert machine.secret.stat().st_mode & 0o777 == machine.config.stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_unless_the_person_agrees(machines: list[Machine]) -> None:
    first = machines[0]
    with console(first.init) as (terminal, child):
        for prompt in ("Networks with", "clients in lan", "Shared address in wan", "other router's own"):
            terminal.expect(f"{prompt}.*: $")
            terminal.type("")
        terminal.expect(r"Write this to .*: $")
        terminal.type("perhaps")
        terminal.expect(r"y or n\?.*\s+Write.*: $")
        terminal.type("n")
        assert child.wait(10) == 1
    with console(first.init) as (terminal, child):
        terminal.expect(r"Networks with.*: $")
        os.write(terminal.descriptor, b"\x04")  # Ctrl-D
        terminal.expect("nothing was written")
        assert child.wait(10) == 1
    assert not first.config.exists() and not first.secret.parent.exists()


def test_what_is_taken_already(open_lab: Open, machines: list[Machine], tmp_path: Path) -> None:
    """Somebody has the address; somebody else's virtual router has the id."""
    lab = open_lab(SeedLab(lambda number: Tandem(seed_instances(0.2))))
    lab.r1.start()
    wait_until(lambda: lab.r1.active, 15, "r1 is active")
    second = machines[1]
    inside = ["ip", "netns", "exec", lab.r2.namespace]
    argv = [*inside, *second.init, "--network=lan=192.168.1.4", "--peer=192.168.1.2"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 2 and "192.168.1.4 is taken in lan: 02:00:00:00:03:0a answers" in done.stderr
    argv[-2] = "--network=lan=192.168.1.5"
    # Each listens for a while: both at once.
    asked = lab.r2.popen(*argv[4:], "--vrid=51", f"--config={tmp_path}/asked", stderr=subprocess.PIPE)
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0 and "virtual_router_id '52'" in second.config.read_text()
    complaint = asked.communicate(timeout=60)[1].decode()
    assert asked.returncode == 2 and "id 51 is taken, by 192.168.1.2" in complaint
    assert not (tmp_path / "asked").exists()


def test_a_way_out_that_cannot_be_shared_is_followed(open_lab: Open, machines: list[Machine]) -> None:
    """The router without it hands over; when it is back the other one keeps the role."""
    first, second = machines
    for machine in machines:
        network = machine.directory / "network"
        text = network.read_text().partition("config interface 'wan'")[0]
        network.write_text(f"{text}config interface 'wan'\n\toption device 'eth0.2'\n\toption proto 'dhcp'\n")
    done = first.run("--network=lan=192.168.1.4", "--peer=192.168.1.3")
    assert done.returncode == 0 and "connections to the internet break" in done.stdout, done.stderr
    assert second.run("--join", stdin=token(done.stdout) + "\n").returncode == 0

    def daemon(machine: Machine) -> Tandem:
        made = machine.daemon()
        return Tandem(made.instances[:1], text=made.text.replace("'wan weight", "'eth0.2 weight"))

    lab = open_lab(SeedLab(lambda number: daemon(machines[number - 1])))
    active, backup = lab.elect()
    for router, other in ((active, backup), (backup, active)):
        lab.cut(router, "eth0.2")
        wait_until(lambda other=other: lab.active is other, 15, "the one with a way out")  # type: ignore[misc]
        lab.plug(router, "eth0.2")
        stays(lambda other=other: lab.active is other, 1, "it keeps the role")  # type: ignore[misc]
    # With no way out on either the LAN still has its gateway.
    lab.cut(backup, "eth0.2")
    lab.cut(active, "eth0.2")
    wait_until(lambda: lab.active is not None, 15, "one of them is active")
