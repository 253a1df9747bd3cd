# SPDX-License-Identifier: GPL-2.0-or-later
"""python3-netfilterqueue of `make feed`: compiled for routers, and this machine's Python can load it too."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging import packages

FAMILIES = {"x86_64": ("x86_64", "X86-64"), "aarch64": ("aarch64_cortex-a53", "AArch64")}
PROGRAM = "from netfilterqueue import NetfilterQueue, Packet; NetfilterQueue().unbind(); print(Packet.mark)"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site-packages of the package for this machine's processor, unpacked."""
    output = tmp_path_factory.mktemp("compiled")
    architecture, _ = FAMILIES.get(platform.machine(), ("", ""))
    check = [sys.executable, packages.FEED / "standalone/compile.py", "check", architecture]
    if (said := subprocess.run(check, capture_output=True, text=True)).returncode:
        pytest.skip(said.stdout.strip())
    sources = ["PACKAGE_SOURCES=python-netfilterqueue", f"PACKAGE_ARCH={architecture}"]
    packages.make_ipk(output, *sources)
    package = packages.read(output / f"python3-netfilterqueue_1.1.0-r1_{architecture}.ipk")
    assert package.fields["Architecture"] == architecture
    assert package.fields["Depends"] == "libc, python3-light, libnetfilter-queue"
    root = output / "root"
    for name, content in package.files.items():
        path = root / name.removeprefix("./").lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / "usr/lib/python3.11/site-packages"


def test_it_needs_only_what_the_router_has(stage: Path) -> None:
    said = subprocess.run(
        ["readelf", "-h", "-d", stage / "netfilterqueue/_impl.so"], capture_output=True, text=True, check=True
    ).stdout
    assert f"Machine:{' ' * 27}" in said and FAMILIES[platform.machine()][1] in said.replace(" ", "")
    assert set(re.findall(r"NEEDED.*\[(.*)\]", said)) == {"libnetfilter_queue.so.1", "libnfnetlink.so.0"}


def test_a_python_loads_it(stage: Path) -> None:
    argv = ["unshare", "-n", sys.executable, "-S", "-c", PROGRAM]
    done = subprocess.run(argv, env={"PYTHONPATH": str(stage)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_processor_without_a_compiler_gets_a_clear_word() -> None:
    argv = [sys.executable, packages.FEED / "standalone/compile.py", "check"]
    for architecture in ("mips_24kc", "arm_cortex-a7", "riscv64_generic"):
        done = subprocess.run([*argv, architecture], capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stdout.startswith(
            f"python3-netfilterqueue: not for {architecture}: Debian has no compiler"
        )


def test_the_archive_of_source_is_the_one_of_the_feed() -> None:
    makefile = (packages.FEED / "python-netfilterqueue/Makefile").read_text()
    from qemu.netfilterqueue import SHA256, VERSION

    assert f"PKG_HASH:={SHA256}\n" in makefile and f"PKG_VERSION:={VERSION}\n" in makefile
