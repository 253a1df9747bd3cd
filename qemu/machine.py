# SPDX-License-Identifier: GPL-2.0-or-later
"""A virtual machine as a host of the lab: its network cards are ports of the lab's switches.

QEMU runs in the namespace of the host, which is empty otherwise: so everything that ends a host of the lab
ends it too, and a later run clears up after one that was killed. Besides, QEMU dies with the process that
started it.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import socket
import struct
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab import Host, Lab, Port, netns, wait_until

from . import cache, cpio
from .architectures import ARCHITECTURES
from .console import Console
from .image import Image
from .qmp import Qmp, QmpError

NICE = 15
TB_SIZE_MIB = 128  # of translated code; QEMU's default is 1 GiB
BOOT_TIMEOUT = 600.0  # s; an OpenWrt under TCG takes three minutes on a busy machine

_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TAP, _IFF_NO_PI = 0x2, 0x1000


class Machine(Host):
    """A router that is a machine. Its cards are `cards`, in order: eth0, eth1, ... inside.

    `seed`: files for its disk, {"/etc/...": content}; texts that begin with "#!" are executable.
    """

    def __init__(
        self, name: str, cards: Sequence[Port], image: Image, seed: Mapping[str, bytes | Path] | None = None
    ) -> None:
        super().__init__(name, [])
        self.cards = tuple(cards)
        self.image = image
        self.seed = dict(seed or {})
        self.console: Console
        self.qmp: Qmp
        self._cables: list[Card] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid_of_qemu(self) -> int:
        """Process id of QEMU."""
        assert self._process
        return self._process.pid

    # Power

    def power_on(self) -> None:
        """Start the machine; returns when it has begun to boot. Its disk is what it was."""
        assert not self.running
        disk = self.file("qcow2")
        if not disk.exists():
            options = ["-q", "-f", "qcow2", "-F", "raw", "-b", str(self.image.disk)]
            netns.run(["qemu-img", "create", *options, str(disk)])
        self._cables = [self.plug_in(port) for port in self.cards]
        try:
            sockets = [self.file("console"), self.file("qmp")]
            for path in sockets:
                path.unlink(missing_ok=True)
            argv = ["nice", "-n", str(NICE), "setpriv", "--pdeathsig", "KILL", *self._argv()]
            inherited = [cable.descriptor for cable in self._cables]
            with self.file("qemu.log").open("ab") as log:
                self._process = self.popen(*argv, stdout=log, stderr=log, pass_fds=inherited)
        finally:
            for cable in self._cables:
                cable.started()
        self.console = Console(self._connected(sockets[0]))
        self.qmp = Qmp(self._connected(sockets[1]))

    def _connected(self, path: Path) -> socket.socket:
        """A connection to QEMU, as soon as it listens there."""

        def connect() -> socket.socket | None:
            if not self.running:
                raise RuntimeError(f"{self.name}: QEMU does not start:\n{self.file('qemu.log').read_text()}")
            opened = socket.socket(socket.AF_UNIX)
            try:
                opened.connect(str(path))
            except OSError:
                opened.close()
                return None
            return opened

        return wait_until(connect, 60, f"{self.name}: QEMU listens at {path}")

    def wait_booted(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Wait until the guest is up, and take a shell on its console."""
        self.console.expect(self.image.booted, timeout)
        self.console.shell(60)

    def power_off(self) -> None:
        """Pull the plug: QEMU ends at once, and the machine's cables are dead."""
        process = self._process
        if process is None:
            return
        if self.running:
            try:
                self.qmp.command("quit")
            except (QmpError, OSError):
                process.kill()
            process.wait(20)
        self._release()

    def _release(self) -> None:
        """Close what led to a QEMU that has ended; it may have ended before they were opened."""
        for name in ("console", "qmp"):
            if hasattr(self, name):
                getattr(self, name).close()
                delattr(self, name)
        for cable in self._cables:
            cable.close()
        self._cables = []
        self._process = None

    def forget(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._release()
        super().forget()

    def freeze(self) -> None:
        """Stop all processors of the machine; its memory stays."""
        self.qmp.command("stop")

    def thaw(self) -> None:
        """Let the processors go on; they know nothing of the time in between."""
        self.qmp.command("cont")

    # Cables

    def pull(self, device: str) -> None:
        """Unplug a cable: the guest's card loses its carrier."""
        self._link(device, False)

    def put(self, device: str) -> None:
        """Plug a cable in again."""
        self._link(device, True)

    def _link(self, device: str, up: bool) -> None:
        number = [card.device for card in self.cards].index(device)
        self.qmp.command("set_link", name=f"card{number}", up=up)

    # Programs

    def run(self, command: str, timeout: float = 60.0, check: bool = True) -> str:
        """Run a shell command in the guest, as root, and return its output."""
        return self.console.run(command, timeout, check)

    def log(self) -> str:
        """Return the log of the guest's programs up to now, over all its boots."""
        path = self.file("log")
        return path.read_text(errors="replace") if path.exists() else ""

    def keep_logs(self, directory: Path) -> None:
        """Copy the console's log, the system's and QEMU's."""
        directory.mkdir(parents=True, exist_ok=True)
        for kind in ("console.log", "log", "qemu.log"):
            if self.file(kind).exists():
                shutil.copy(self.file(kind), directory / f"{self.name}.{kind}")

    # How it is started

    def _argv(self) -> list[str]:
        image = self.image
        fast = accelerated(image)
        kind = ARCHITECTURES[image.architecture]
        argv = [kind.emulator, *kind.machine, "-cpu", "host" if fast else kind.cpu]
        argv += ["-accel", "kvm" if fast else f"tcg,tb-size={TB_SIZE_MIB}", "-smp", "1"]
        argv += ["-m", str(image.memory_mib), "-nodefaults", "-display", "none", "-name", self.name]
        argv += ["-kernel", str(image.kernel), "-append", image.append]
        if image.initrd:
            argv += ["-initrd", str(self._initrd(image.initrd))]
        argv += ["-drive", f"if=virtio,format=qcow2,file={self.file('qcow2')}"]
        argv += ["-chardev", self._chardev("console", f",logfile={self.file('console.log')},logappend=on")]
        argv += ["-serial", "chardev:console"]
        argv += ["-chardev", self._chardev("qmp"), "-mon", "chardev=qmp,mode=control"]
        argv += ["-device", "virtio-serial-pci", "-device", "virtserialport,chardev=log,name=log"]
        argv += ["-chardev", f"file,id=log,path={self.file('log')},append=on"]
        for number, cable in enumerate(self._cables):
            mac = f"52:54:00:00:{self.number:02x}:{number:02x}"
            argv += ["-netdev", cable.netdev(f"net{number}")]
            argv += ["-device", f"virtio-net-pci,netdev=net{number},id=card{number},mac={mac},romfile="]
        return argv

    def _chardev(self, name: str, options: str = "") -> str:
        return f"socket,id={name},path={self.file(name)},server=on,wait=off{options}"

    def _initrd(self, base: Path) -> Path:
        """The image's initramfs, with this machine's own files behind it."""
        path = self.file("initrd")
        if not path.exists():
            files = {f"/seed{name}": content for name, content in self.seed.items()}
            scripts = {name for name, data in files.items() if isinstance(data, bytes) and data[:2] == b"#!"}
            path.write_bytes(base.read_bytes() + (cpio.archive(files, scripts) if files else b""))
        return path

    def plug_in(self, port: Port) -> Card:
        """Lay the cable from a switch to one of the cards."""
        return Tap(self.lab, f"{self.name}.{port.switch}", port.switch)


class Card(ABC):
    """A network card for QEMU: a descriptor to inherit, and a netdev option that names it."""

    @property
    @abstractmethod
    def descriptor(self) -> int:
        """Return the descriptor of the machine's end."""

    @abstractmethod
    def netdev(self, name: str) -> str:
        """The value of -netdev."""

    @abstractmethod
    def started(self) -> None:
        """Take note that QEMU has inherited the descriptor."""

    @abstractmethod
    def close(self) -> None:
        """Close what this card holds, because the machine is off."""


class Tap(Card):
    """A port of a switch whose other end QEMU alone holds: it goes when QEMU goes."""

    def __init__(self, lab: Lab, name: str, switch: str) -> None:
        self._descriptor = open_tap(lab, name, switch)

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def netdev(self, name: str) -> str:
        return f"tap,id={name},fd={self._descriptor}"

    def started(self) -> None:
        os.close(self._descriptor)

    def close(self) -> None:
        pass


def open_tap(lab: Lab, name: str, switch: str) -> int:
    """A tap device of that name as a port of a switch; it exists as long as the descriptor is open."""

    def body() -> int:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        return descriptor

    descriptor = netns.enter(lab.switch_namespace, body)
    netns.ip_batch([f"link set {name} master {switch} up"], lab.switch_namespace)
    return descriptor


def accelerated(image: Image) -> bool:
    """Whether KVM works for this image: the file /dev/kvm alone proves nothing.

    The image's kernel is started without a root file system: with KVM it panics, and so ends, within a
    second; where KVM is broken it never gets there. The answer is kept until the host boots again.
    """
    if platform.machine() != image.architecture or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = cache.ROOT / f"kvm-{cache.key([boot, str(image.kernel)])}"
    if not answer.exists():
        kind = ARCHITECTURES[image.architecture]
        argv = [kind.emulator, *kind.machine, "-accel", "kvm"]
        argv += ["-cpu", "host", "-m", "128", "-nodefaults", "-display", "none"]
        argv += ["-no-reboot", "-kernel", str(image.kernel), "-append", "panic=-1 quiet"]
        try:
            works = subprocess.run(argv, capture_output=True, timeout=15).returncode == 0
        except subprocess.TimeoutExpired:
            works = False
        answer.write_text("yes" if works else "no")
    return answer.read_text() == "yes"
