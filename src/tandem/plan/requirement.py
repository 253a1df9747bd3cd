# SPDX-License-Identifier: GPL-2.0-or-later
"""The planner's requirement: a pyroute2 that can write rtnetlink messages as Tandem wants them.

OpenWrt 22.03 has 0.5.16, the oldest that was tried; 23.05 to 25.12 have 0.7.9. Nothing here imports
pyroute2, which takes longer than everything else that `tandemd --check` does.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

FLOOR = (0, 5, 16)  # as in pyproject.toml and in the package's Makefile

_ASK = """\
import sys
sys.path.insert(0, sys.argv[1])
from tandem.plan.requirement import problem
print(problem() or "")
"""


def problem() -> str | None:
    """Return why this interpreter has no usable pyroute2, as one line; None: it has one."""
    floor = ".".join(map(str, FLOOR))
    cure = f"install pyroute2 {floor} or newer (OpenWrt: python3-pyroute2)"
    spec = PathFinder.find_spec("pyroute2")
    if spec is None or not spec.submodule_search_locations:
        return f"{sys.executable} has no module pyroute2: {cure}"
    version = _version(spec.submodule_search_locations[0])
    if version and () < _numbers(version) < FLOOR:
        return f"pyroute2 {version} is too old: {cure}"
    return None


def ask(package_dir: str) -> str | None:
    """Call `problem` in the planner's interpreter: the daemon's own knows no site-packages (-S)."""
    import subprocess  # the planner, which imports this module, does without

    flags = "-IB" if sys.dont_write_bytecode else "-I"
    argv = [sys.executable, flags, "-c", _ASK, package_dir]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=False, env={}
    )
    return done.stdout.strip() or (f"{sys.executable} does not run" if done.returncode else None)


def _version(package: str) -> str | None:
    """Return the version in pyroute2/config/version.py, or its bytecode; None: there is no such file."""
    spec = PathFinder.find_spec("version", [f"{package}/config"])
    if spec is None or spec.loader is None:
        return None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(getattr(module, "__version__", "")) or None


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers: (0, 9, 6) for 0.9.6.post1."""
    numbers = []
    for word in version.split("."):
        if not word.isdecimal():
            break
        numbers.append(int(word))
    return tuple(numbers)
