# SPDX-License-Identifier: GPL-2.0-or-later
"""Hosts, cables and switches, made of namespaces, veth pairs and bridges.

    with Lab("demo") as lab:
        lan = lab.switch("lan")
        client = lab.add(Host("client", [Port("eth0", lan, "192.168.1.10/24")], gateway="192.168.1.4"))
        lab.up()
        client.exec("ping", "-c1", "192.168.1.4")
        lab.cut(client)

All switches are bridges in one namespace, so that one `ip` process can pull several cables at
once. A cut cable is the switch's end set down: the host's end loses its carrier, as when somebody
unplugs it.
"""

from __future__ import annotations

import atexit
import itertools
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from . import netns, process
from .rtnetlink import Addresses

T = TypeVar("T")
H = TypeVar("H", bound="Host")
L = TypeVar("L", bound="Lab")
OPEN: list[Lab] = []  # for the report of a failed test, which prints their logs
_FIRST_INDEX = 10  # of the interfaces with a cable


class Port:
    """A host's network interface and the switch that its cable goes to."""

    def __init__(self, device: str, switch: str, *addresses: str) -> None:
        self.device = device
        self.switch = switch
        self.addresses = addresses


class Host:
    """A machine of the lab: a namespace. `gateway` and `routes` ("203.0.113.0/24 via ...") are static."""

    forwarding = False

    def __init__(
        self, name: str, ports: Sequence[Port], *, gateway: str | None = None, routes: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.ports = tuple(ports)
        self.routes = [*([f"default via {gateway}"] if gateway else []), *routes]
        self.lab: Lab
        self.number = 0  # set by Lab.add; in the MAC addresses
        self.loopback: tuple[str, ...] = ()  # far addresses that this host answers for
        self.children: list[subprocess.Popen[bytes]] = []  # to reap
        self._addresses: Addresses | None = None

    @property
    def namespace(self) -> str:
        """Name of the network namespace."""
        return f"{self.lab.prefix}{self.name}"

    @property
    def devices(self) -> list[str]:
        """Names of the interfaces with a cable."""
        return [port.device for port in self.ports]

    def cable(self, device: str) -> str:
        """Name of the switch's end of a cable, for tcpdump and `ip link` in the switch."""
        port = next(port for port in self.ports if port.device == device)
        return f"{self.name}.{port.switch}"

    def mac(self, device: str) -> str:
        """The MAC address of an interface with a cable."""
        return f"02:00:00:00:{self.number:02x}:{_FIRST_INDEX + self.devices.index(device):02x}"

    def exec(self, *argv: str, stdin: str = "", check: bool = True) -> str:
        """Run a command inside and return its output; LabError when it fails."""
        return netns.run(["ip", "netns", "exec", self.namespace, *argv], stdin=stdin, check=check)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a program inside, in a session of its own: Ctrl-C at the terminal is for us alone."""
        options = {"stdin": subprocess.DEVNULL, "start_new_session": True, **options}
        child = subprocess.Popen(["ip", "netns", "exec", self.namespace, *argv], **options)
        self.children.append(child)
        return child

    def enter(self, function: Callable[[], T]) -> T:
        """Call a function in a thread inside the namespace (to open sockets there)."""
        return netns.enter(self.namespace, function)

    def sysctl(self, key: str) -> str:
        """A value under /proc/sys/net, for example "ipv4/conf/eth0/arp_ignore"."""
        return netns.read_sysctl(self.namespace, key)

    def ip(self, *commands: str) -> None:
        """Run `ip` commands inside, in one process."""
        netns.ip_batch(commands, self.namespace)

    def addresses(self) -> dict[str, tuple[int, int]]:
        """All addresses now: {"192.168.1.4": (prefix length, interface index)}."""
        if self._addresses is None:
            self._addresses = Addresses(self.namespace)
        return self._addresses.read()

    def has(self, address: str) -> bool:
        """Whether the host holds the address (written with or without "/prefix length")."""
        return address.split("/")[0] in self.addresses()

    def prepare(self) -> None:
        """Set up the new namespace; subclasses override this."""

    def forget(self) -> None:
        """End all programs inside, and close the socket that holds the namespace."""
        for child in self.children:
            # By pid as well: `ip netns exec` may not have entered the namespace yet.
            if child.poll() is None:
                process.send_signal(process.tree(child.pid), signal.SIGKILL)
            child.wait(10)
        self.children = []
        netns.kill_inside([self.namespace])
        if self._addresses:
            self._addresses.close()
        self._addresses = None

    def file(self, name: str) -> Path:
        """A path for a file of this host: a daemon keeps its state in the directory of its socket."""
        return self.lab.directory / self.name / name


class Lab:
    """A set of hosts and switches. Everything is removed on exit, whatever the reason of the exit."""

    def __init__(self, tag: str) -> None:
        self.prefix = netns.prefix(tag)
        self.directory = Path(tempfile.mkdtemp(prefix=self.prefix))
        self.hosts: dict[str, Host] = {}
        self.switches: list[str] = []
        self._index = itertools.count(1000)
        OPEN.append(self)
        atexit.register(self.close)

    @property
    def switch_namespace(self) -> str:
        """The namespace that all switches are in."""
        return f"{self.prefix}switches"

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def switch(self, name: str) -> str:
        """Declare a switch and return its name."""
        self.switches.append(name)
        return name

    def add(self, host: H) -> H:
        """Declare a host."""
        host.lab = self
        self.hosts[host.name] = host
        host.number = len(self.hosts)
        (self.directory / host.name).mkdir(exist_ok=True)
        return host

    def up(self: L) -> L:
        """Build everything that was declared: about 0.1 s."""
        netns.remove_stale()
        netns.ip_batch([f"netns add {self.switch_namespace}"])
        lines = [f"link add {name} type bridge mcast_snooping 0" for name in self.switches]
        netns.ip_batch([*lines, *(f"link set {name} up" for name in self.switches)], self.switch_namespace)
        netns.enter(self.switch_namespace, _without_netfilter)
        self._build(list(self.hosts.values()))
        return self

    def _build(self, hosts: Sequence[Host]) -> None:
        netns.ip_batch(f"netns add {host.namespace}" for host in hosts)
        for host in hosts:
            netns.write_sysctls(
                host.namespace,
                {
                    "ipv4/ip_forward": int(host.forwarding),
                    "ipv6/conf/all/forwarding": int(host.forwarding),
                    "ipv4/conf/all/rp_filter": 0,  # Debian and OpenWrt differ
                    "ipv4/conf/default/rp_filter": 0,
                    "ipv6/conf/default/accept_dad": 0,  # link-local addresses usable at once
                    "ipv6/conf/default/accept_ra": 0,
                },
            )
        cables = []
        for host in hosts:
            for number, port in enumerate(host.ports, _FIRST_INDEX):
                # The two ends must not have the same index: a veth whose index equals its iflink is for the
                # kernel an ordinary NIC, whose lost carrier it reports up to 1 s late
                # (linkwatch_urgent_event in net/core/link_watch.c).
                cable = host.cable(port.device)
                end = f"{port.device} index {number} address {host.mac(port.device)} netns {host.namespace}"
                cables += [
                    f"link add name {cable} index {next(self._index)} type veth peer name {end}",
                    f"link set {cable} master {port.switch} up",
                ]
        netns.ip_batch(cables, self.switch_namespace)
        for host in hosts:
            lines = ["link set lo up"]
            lines += [f"address add {address} dev lo" for address in host.loopback]
            for port in host.ports:
                lines.append(f"link set {port.device} up")
                for address in port.addresses:
                    nodad = " nodad" if ":" in address else ""
                    lines.append(f"address add {address} dev {port.device}{nodad}")
            lines += [f"route add {route}" for route in host.routes]
            netns.ip_batch(lines, host.namespace)
            host.prepare()

    def rebuild(self, host: Host) -> None:
        """Give a host a new namespace, as a reboot does: nothing in the kernel survives."""
        host.forget()
        cables = [f"link delete {host.cable(device)}" for device in host.devices]
        netns.ip_batch(cables, self.switch_namespace, force=True)
        netns.remove([host.namespace])
        self._build([host])

    def cut(self, host: Host, *devices: str) -> None:
        """Unplug cables of a host, all at once; without names: every cable."""
        self._cables(host, devices, up=False)

    def plug(self, host: Host, *devices: str) -> None:
        """Plug the cables in again."""
        self._cables(host, devices, up=True)

    def _cables(self, host: Host, devices: Sequence[str], up: bool) -> None:
        netns.set_links(self.switch_namespace, map(host.cable, devices or host.devices), up)

    def partition(self, host: Host, device: str, switch: str) -> None:
        """Move a cable to another switch, keeping its link: a fault that no router can see by itself."""
        netns.ip_batch([f"link set {host.cable(device)} master {switch}"], self.switch_namespace)

    def logs(self, lines: int = 60) -> str:
        """The last lines of every log, for the report of a failed test."""
        out = []
        for path in sorted(self.directory.glob("*/log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            out += [f"==> {path.parent.name} <==", *tail]
        return "\n".join(out)

    def close(self) -> None:
        """Remove everything; a second Ctrl-C waits until this is done."""
        if self not in OPEN:
            return
        with _uninterrupted():
            OPEN.remove(self)
            for host in self.hosts.values():
                host.forget()
            netns.remove([*(host.namespace for host in self.hosts.values()), self.switch_namespace])
            shutil.rmtree(self.directory, ignore_errors=True)
            atexit.unregister(self.close)

    def __enter__(self: L) -> L:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP until the block is done."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def open_log(host: Host) -> IO[bytes]:
    """The host's log file, for appending."""
    return host.file("log").open("ab")


def _without_netfilter() -> None:
    """Keep the frames of a switch from every firewall: where br_netfilter is loaded, a bridge shows them."""
    for setting in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*"):
        setting.write_text("0")
