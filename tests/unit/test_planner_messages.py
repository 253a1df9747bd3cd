# SPDX-License-Identifier: GPL-2.0-or-later
"""The planner loads the messages of pyroute2 and leaves the rest of it alone."""

from __future__ import annotations

import json
import marshal
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"
ASK = """
import json, sys
sys.path[:0] = sys.argv[1:]
from tandem import lean
from tandem.lean import dataclass
lean.take("dataclasses", dataclass)  # as the planner does (start.py)
from tandem.plan.messages import rtnl
loaded = [name for name in sys.modules if name.startswith("pyroute2")]
{then}
print(json.dumps([loaded, rtnl.RTM_NEWADDR, rtnl.ifaddrmsg.ifaddrmsg.__name__]))
"""

# A pyroute2 whose messages can't be loaded without the rest of it.
WHOLE_ONLY = """
import sys

class RefusesOnce:
    def find_spec(self, name, path=None, target=None):
        if name == "pyroute2.netlink.rtnl.fibmsg":
            sys.meta_path.remove(self)
            raise TypeError

sys.meta_path.insert(0, RefusesOnce())
"""


def ask(then: str = "", *places: Path) -> list[object]:
    argv = [sys.executable, "-c", ASK.format(then=then), *map(str, [*places, SRC])]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_the_planner_loads_few_modules_of_pyroute2() -> None:
    loaded, number, name = ask()
    assert isinstance(loaded, list) and 4 < len(loaded) < 40 and "pyroute2" not in loaded
    assert (number, name) == (20, "ifaddrmsg")


def test_the_planner_has_small_dataclasses_and_makes_the_same_plan(tmp_path: Path) -> None:
    """Those of the standard library, and `inspect` that they load, took a quarter of its time."""
    (tmp_path / "tandem").write_text(
        "config vrrp_instance 'I1'\n\toption interface 'lo'\n\toption virtual_router_id '51'\n"
        "\tlist virtual_ipaddress '192.168.1.4/24'\n"
    )
    plans = []
    small = "tandem.lean.dataclass"
    for first, said in ("import dataclasses", "dataclasses"), ("pass", small), (WHOLE_ONLY, small):
        program = f"{first}\nimport sys\nsys.path.insert(0, {str(SRC)!r})\n"
        program += "from tandem.plan.start import main\nstatus = main(sys.argv[1:])\n"
        program += "print(sys.modules['dataclasses'].__name__, file=sys.stderr)\nsys.exit(status)\n"
        argv = [sys.executable, "-c", program, "-c", str(tmp_path / "tandem")]
        done = subprocess.run(argv, capture_output=True, check=True)
        assert done.stderr == f"{said}\n".encode()
        plan = marshal.loads(done.stdout)
        plan.pop("inputs")  # the files of the modules that were loaded
        plans.append(plan)
    assert plans[0] == plans[1] == plans[2] and plans[0]["config"]


def test_who_imports_pyroute2_later_gets_all_of_it() -> None:
    ask("from pyroute2 import IPRoute; import pyroute2; assert pyroute2.IPRoute is IPRoute")


@pytest.mark.parametrize(
    "error",
    [
        "from pyroute2 import everything",
        "import pyroute2; pyroute2.everything",
        "import dataclasses; whole = dataclasses.dataclass(type('Whole', (), {}))",
    ],
)
def test_a_release_that_needs_its_whole_package_gets_it(tmp_path: Path, error: str) -> None:
    rtnl = tmp_path / "pyroute2/netlink/rtnl"
    rtnl.mkdir(parents=True)
    (tmp_path / "pyroute2/__init__.py").write_text("everything = 1\n")
    (tmp_path / "pyroute2/netlink/__init__.py").write_text(f"{error}\n")
    (rtnl / "__init__.py").write_text("RTM_NEWADDR = 21\n")
    for name in ("fibmsg", "ifaddrmsg", "ifinfmsg", "rtmsg"):
        (rtnl / f"{name}.py").write_text(f"class {name}: pass\n")
    loaded, number, _ = ask("", tmp_path)
    assert isinstance(loaded, list) and "pyroute2" in loaded and number == 21
