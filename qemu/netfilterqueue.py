# SPDX-License-Identifier: GPL-2.0-or-later
"""NetfilterQueue for the lab guest, which Debian has no package of: compiled here for its processor."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from . import cache
from .architectures import ARCHITECTURES
from .debian import Debian
from .lab_guest import PYTHON

VERSION = "1.1.0"
# As openwrt-feed/python-netfilterqueue has it. The C source in it does not know Python 3.11: it is made anew.
SHA256 = "e30eff999325617f54bd95b3d8d3353214cc77b5e3188f90ec3a6f6288888d72"
CYTHON = "3.3.1"
_HEADERS = [f"libpython{PYTHON}-dev", "libnetfilter-queue-dev", "libnetfilter-queue1", "libnfnetlink-dev"]
_TARGET = "/usr/lib/python3/dist-packages/netfilterqueue"


class CompileError(RuntimeError):
    """There is no compiler, no source, or it does not compile."""


def netfilterqueue(architecture: str) -> dict[str, bytes | Path]:
    """Files for the guest's disk. CompileError: not on this machine."""
    compiler = f"{ARCHITECTURES[architecture].gnu}-gcc"
    if not shutil.which(compiler):
        raise CompileError(f"{compiler} is not installed and could not be")
    debian = Debian(architecture)
    packages = {name: file for item in _HEADERS for name, file in debian.only(item).items()}
    name = cache.key([VERSION, CYTHON, *packages.values(), Path(__file__)])

    def make(place: Path) -> None:
        root = place / "root"
        debian.unpack(packages, root)
        module = source(place)
        library = root / "usr/lib" / ARCHITECTURES[architecture].gnu
        output = place / "_impl.so"
        argv = [
            compiler,
            "-O2",
            "-w",
            "-shared",
            "-fPIC",
            "-DPy_LIMITED_API=0x030A0000",
            f"-I{root}/usr/include/python{PYTHON}",
        ]
        argv += [f"-I{root}/usr/include", f"-I{module}", str(module / "_impl.c"), "-o", str(output)]
        run([*argv, f"-L{library}", "-lnetfilter_queue", "-Wl,--allow-shlib-undefined"])
        for path in module.glob("*.py"):
            shutil.copy(path, place)
        shutil.rmtree(root)

    place = cache.build(f"netfilterqueue-{architecture}", name, make)
    return {f"{_TARGET}/{path.name}": path for path in place.iterdir() if path.suffix in (".py", ".so")}


def source(place: Path) -> Path:
    """Unpack the module under `place`, translate it to C and return its directory."""
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    # Not ":all:": pip would build Cython as well, which takes minutes, only to read the module's metadata.
    download = [*pip, "download", "--no-deps", "--no-binary", "NetfilterQueue", "-d", str(place)]
    run([*download, f"NetfilterQueue=={VERSION}"])
    (file,) = place.glob("*.tar.gz")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SHA256:
        raise CompileError(f"{file.name}: sha256 {found}, expected {SHA256}")
    with tarfile.open(file) as tar:
        tar.extractall(place / "root/source", filter="data")
    (module,) = (place / "root/source").glob("*/netfilterqueue")
    # The stable ABI has no access to a type's name, which is for people only.
    text = (module / "_impl.pyx").read_text()
    (module / "_impl.pyx").write_text(re.sub(r"^ +tp\.tp_name = .*\n", "", text, flags=re.MULTILINE))
    cython = place / "root/cython"
    run([*pip, "install", "--target", str(cython), f"cython=={CYTHON}"])
    program = "import sys; from Cython.Compiler.Main import main; main(command_line=1)"
    run([sys.executable, "-c", program, "-3", str(module / "_impl.pyx")], PYTHONPATH=str(cython))
    return module


def run(argv: list[str], **environment: str) -> None:
    """Run a program. CompileError: it failed, with what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode:
        raise CompileError(f"{' '.join(argv)}: {done.stderr or done.stdout}")
