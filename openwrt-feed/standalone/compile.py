# SPDX-License-Identifier: GPL-2.0-or-later
"""Compiles NetfilterQueue, the one module in C, for routers: Debian's cross compiler with musl's headers.

compile.py check ARCHITECTURE            says why this machine cannot, and ends with 1
compile.py ARCHITECTURE DIRECTORY        puts the Python package netfilterqueue into DIRECTORY

ARCHITECTURE is OpenWrt's name, such as aarch64_cortex-a53. One library serves every Python from 3.10 on,
because it uses the stable ABI only. It requires libnetfilter_queue.so.1 and libnfnetlink.so.0, which come
with OpenWrt's package libnetfilter-queue, and the C library that the router's Python has loaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from qemu import cache
from qemu.architectures import ARCHITECTURES
from qemu.debian import Debian, DebianError
from qemu.netfilterqueue import PYTHON, CompileError, run, source

PACKAGES = (
    f"libpython{PYTHON}-dev", "libnetfilter-queue-dev", "libnetfilter-queue1", "libnfnetlink-dev",
    "libnfnetlink0", "musl-dev", "linux-libc-dev",
)  # fmt: skip
# OpenWrt names a processor in detail. Debian's compiler for armhf makes code for every ARMv7 with an FPU.
FAMILIES = {"x86_64": "x86_64", "aarch64": "aarch64", "arm": "armv7"}


def main(argv: list[str]) -> int:
    try:
        match argv:
            case ["check", architecture]:
                family(architecture)
            case [architecture, directory]:
                fill(architecture, Path(directory))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except (CompileError, DebianError, OSError) as error:
        print(f"python3-netfilterqueue: not for {architecture}: {error}")
        return 1
    return 0


def family(architecture: str) -> str:
    """Return the name in ARCHITECTURES. CompileError: nothing here compiles for that processor."""
    found = FAMILIES.get(architecture.split("_cortex")[0].split("_generic")[0])
    floats = architecture.startswith("arm_") and "vfp" not in architecture and "neon" not in architecture
    if found is None or floats:
        raise CompileError("Debian has no compiler for routers of this kind; use OpenWrt's SDK")
    compiler = f"{ARCHITECTURES[found].gnu}-gcc"
    if shutil.which(compiler) is None:
        raise CompileError(f"{compiler} is not installed")
    return found


def fill(architecture: str, directory: Path) -> None:
    """Put the package's Python files and the library into `directory`."""
    kind = family(architecture)
    debian = Debian(kind)
    packages = {name: file for item in PACKAGES for name, file in debian.only(item).items()}
    parts = [*packages.values(), Path(__file__), Path(__file__).parents[2] / "qemu/netfilterqueue.py"]

    def make(place: Path) -> None:
        root = place / "root"
        debian.unpack(packages, root)
        module = source(place)
        compile_for(kind, root, module, place / "_impl.so")
        for path in module.glob("*.py"):
            shutil.copy(path, place)
        shutil.rmtree(root)

    place = cache.build(f"netfilterqueue-musl-{kind}", cache.key(parts), make)
    directory.mkdir(parents=True, exist_ok=True)
    for path in place.iterdir():
        if path.suffix in (".py", ".so"):
            shutil.copy(path, directory)
            (directory / path.name).chmod(0o644)


def compile_for(kind: str, root: Path, module: Path, output: Path) -> None:
    """Compile against musl: the headers of this machine's C library must not be found."""
    gnu = ARCHITECTURES[kind].gnu
    compiler = f"{gnu}-gcc"
    [musl] = root.glob("usr/include/*-linux-musl*")
    asked = [
        subprocess.run([compiler, option], capture_output=True, text=True, check=True).stdout.strip()
        for option in ("-print-file-name=include", "-print-libgcc-file-name")
    ]
    headers = [musl, Path(asked[0]), root / "usr/include", root / f"usr/include/{gnu}"]
    argv = [compiler, "-Os", "-w", "-s", "-shared", "-fPIC", "-fno-stack-protector", "-nostdinc", "-nostdlib"]
    argv += ["-DPy_LIMITED_API=0x030A0000", f"-I{module}", f"-I{root}/usr/include/python{PYTHON}"]
    argv += [item for path in headers for item in ("-isystem", str(path))]
    argv += [
        str(module / "_impl.c"),
        "-o",
        str(output),
        f"-L{root}/usr/lib/{gnu}",
        "-lnetfilter_queue",
        "-lnfnetlink",
    ]
    run([*argv, asked[1], "-Wl,--allow-shlib-undefined,--build-id=none"], PATH=os.environ["PATH"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
