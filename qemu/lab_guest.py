# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab guest: a router made entirely from Debian packages. It is not an OpenWrt and does not play one.

busybox is its init and shell; Debian's kernel, python3, iproute2, nftables and conntrack are what the
daemon runs on. Our .ipk is unpacked by a script (guest/lab-install), tandemd started by another.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import cache
from .architectures import ARCHITECTURES
from .debian import RELEASE, Debian
from .image import Image, ext4
from .kernel import debian_kernel

# busybox's own shell would run busybox's programs instead of iproute2's.
PACKAGES = ["busybox-static", "dash", "bash", "python3", "python3-pyroute2", "iproute2", "nftables"]
# The last one for the gate; NetfilterQueue itself is no Debian package.
PACKAGES += ["conntrack", "libnetfilter-queue1"]
# Depended on for installing, or for programs that nobody runs here.
WITHOUT = ["debconf", "debianutils", "base-files", "dpkg", "tar", "perl-base", "python3-psutil"]
WITHOUT += ["media-types", "readline-common"]
DISK_MIB = 160
MORE_MIB = 900  # sparse; with more packages
PYTHON = "3.11"  # of RELEASE
BOOTED = "lab guest: boot complete"

_GUEST = Path(__file__).with_name("guest")
_FILES = {
    "lab-boot": "etc/lab/boot",
    "lab-service": "usr/sbin/lab-service",
    "lab-install": "usr/sbin/lab-install",
}
_DIRECTORIES = ["dev", "proc", "sys", "tmp", "run", "root", "var/log", "var/lock", "etc/lab", "usr/sbin"]
_NOT_USED = ["lib2to3", "pydoc_data"]


def lab_guest(architecture: str, more: Sequence[str] = ()) -> Image:
    """The lab guest of that architecture, from the cache or newly made (half a minute).

    `more`: further packages of Debian; then the kernel has PPP and WireGuard too.
    """
    debian = Debian(architecture)
    packages = debian.closure([*PACKAGES, *more], WITHOUT)
    kernel = debian_kernel(architecture, bool(more))
    console = ARCHITECTURES[architecture].console
    sources = [Path(__file__), Path(__file__).with_name("image.py"), *(_GUEST / name for name in _FILES)]
    name = cache.key([RELEASE, *sorted(packages.values()), *sources])

    def make(place: Path) -> None:
        root = place / "root"
        root.mkdir()
        debian.unpack(packages, root)
        for path in ("usr/share", "usr/include", *(f"usr/lib/python{PYTHON}/{name}" for name in _NOT_USED)):
            shutil.rmtree(root / path, ignore_errors=True)
        for path in _DIRECTORIES:
            (root / path).mkdir(parents=True, exist_ok=True)
        for source, target in _FILES.items():
            shutil.copyfile(_GUEST / source, root / target)
            (root / target).chmod(0o755)
        _configure(root, console)
        _compile(root)
        ext4(root, place / "disk", MORE_MIB if more else DISK_MIB)
        shutil.rmtree(root)

    place = cache.build(f"lab-{architecture}", name, make)
    return Image(
        f"lab-{architecture}",
        architecture,
        kernel.image,
        kernel.initrd,
        place / "disk",
        f"console={console} quiet panic=5",
        BOOTED,
    )


def _configure(root: Path, console: str) -> None:
    for link, target in {"sbin/init": "/bin/busybox", "bin/sh": "dash"}.items():
        (root / link).unlink(missing_ok=True)
        (root / link).symlink_to(target)
    texts = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "etc/group": "root:x:0:\nnogroup:x:65534:\n",
        "etc/hostname": "lab\n",
        "etc/profile": "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nPS1='\\h# '\n",
        "etc/inittab": f"::sysinit:/etc/lab/boot\n{console}::respawn:-/bin/bash\n::ctrlaltdel:/sbin/reboot\n",
    }
    for name, text in texts.items():
        (root / name).write_text(text)


def _compile(root: Path) -> None:
    """Byte code, as Debian's installation makes it: Python starts several times faster, which TCG needs."""
    if "{}.{}".format(*sys.version_info) == PYTHON:
        library = str(root / "usr/lib")
        subprocess.run(
            [sys.executable, "-m", "compileall", "-q", "-s", str(root), "-p", "/", library],
            check=False,
            capture_output=True,
        )
