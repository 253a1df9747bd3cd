# SPDX-License-Identifier: GPL-2.0-or-later
"""The feeds of a router: our packages, a later release of them, and what stands in for OpenWrt's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.openwrt_pieces import GATE, ROOT
from tests.packaging import packages
from tests.packaging.parts import absent, declared

# The pyroute2 of the test root's release, 22.03, and what that release has of Python's standard library for
# it, which the root has not: from another Python 3.10. sqlite3 is only imported, never used.
PYROUTE2 = packages.venv() / "pyroute2/0.5.16/pyroute2"
STDLIB = ("distutils", "logging", "multiprocessing")
SQLITE3 = """
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return (lambda *_: None) if name.startswith("register") else type(name, (Exception,), {})
"""


def build(feed: Path, srv: Path) -> None:
    """Make in `srv` test.sh and the feeds: tandem (a copy of `feed`), next (a later one), standin, python."""
    shutil.copytree(feed, srv / "tandem")
    shutil.copy(packages.FEED / "tandem/test.sh", srv)
    packages.make_ipk(srv / "next", "PKG_RELEASE=2")
    standin = srv / "standin"
    standin.mkdir()
    for name in ("kmod-nf-conntrack-netlink", "kmod-macvlan", "kmod-nft-nat", "kmod-nft-queue"):
        packages.stand_in(standin, name)
    packages.stand_in(standin, "python3-scapy")
    packages.stand_in(standin, "python3-netfilterqueue", dict(netfilterqueue()))
    sqlite3 = srv / "sqlite3.py"
    sqlite3.write_text(SQLITE3)
    files = {f"/usr/lib/python3.10/{path}": source for path, source in stdlib()} | {
        f"/usr/lib/python3.10/site-packages/{path}": source for path, source in pyroute2()
    }
    files["/usr/lib/python3.10/sqlite3.py"] = sqlite3
    packages.stand_in(standin, "python3-pyroute2", files, version="0.5.16-r2")
    packages.packer().index(standin)
    _python(srv / "python")


def _python(feed: Path) -> None:
    """The Python of the test root as packages, for a root of this processor that has none."""
    feed.mkdir()
    left_out = absent(planner=True)
    files = {
        f"/{path.relative_to(ROOT)}": path
        for path in sorted((ROOT / "usr/lib/python3.10").rglob("*"))
        if path.is_file() and path.name.partition(".")[0] not in left_out and not left_out & set(path.parts)
    }
    for path in (*ROOT.glob("usr/lib/libpython3*.so.*"), *ROOT.glob("usr/lib/libffi.so.*")):
        files[f"/usr/lib/{path.name}"] = path
    for name in ("python3", "python3.10"):
        files[f"/usr/bin/{name}"] = ROOT / "usr/bin" / name
    if (ROOT / "usr/bin/python3").exists():
        packages.stand_in(feed, "python3-light", files)
        for part in sorted(declared()):
            packages.stand_in(feed, f"python3-{part}")
    packages.packer().index(feed)


def pyroute2() -> Iterator[tuple[str, Path]]:
    for path in PYROUTE2.rglob("*.py"):
        yield f"pyroute2/{path.relative_to(PYROUTE2)}", path


def netfilterqueue() -> Iterator[tuple[str, Path]]:
    """The module and its library, as built for the test root; none, where nobody has built them."""
    yield from ((f"/usr/lib/{path.name}", path) for path in GATE.glob("*.so.*"))
    for path in GATE.glob("netfilterqueue/*"):
        yield f"/usr/lib/python3.10/site-packages/netfilterqueue/{path.name}", path


def stdlib() -> Iterator[tuple[str, Path]]:
    """Modules of a Python 3.10 on this machine; none when there is none: then nothing can be planned."""
    library = python310()
    for name in STDLIB if library else ():
        assert library is not None
        path = library / name
        for source in path.rglob("*.py") if path.is_dir() else [path]:
            if "test" not in source.relative_to(library).parts:
                yield str(source.relative_to(library)), source


def no_planner() -> str | None:
    """Why a router of the test root can't have a planner; None: it can."""
    if not PYROUTE2.exists():
        return f"no {PYROUTE2}: remove .venv/.test, make test"
    return None if python310() else "no python3.10: the test root lacks parts of it that pyroute2 imports"


def python310() -> Path | None:
    for program in [shutil.which("python3.10"), *Path("/root/.pyenv/versions").glob("3.10.*/bin/python3.10")]:
        if program is None:
            continue
        done = subprocess.run(
            [program, "-c", "import os; print(os.path.dirname(os.__file__))"], capture_output=True, text=True
        )
        if done.returncode == 0:
            return Path(done.stdout.strip())
    return None
