# SPDX-License-Identifier: GPL-2.0-or-later
"""Every command runs with those parts of Python's standard library that the packages declare, and no others.

Sources are compiled anew, as at the first start on a router: a name such as "\\N{BULLET}" takes a module too.
"""

from __future__ import annotations

import marshal
import os
import py_compile
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tandem import tandemd
from tandem.plan import requirement
from tandem.plan.result import load_plan, planner_argv
from tests.packaging.packages import FEED, REPOSITORY
from tests.packaging.parts import absent
from tests.packaging.router_feeds import python310

RUNNER = Path(__file__).with_name("stdlib_parts.py")
PROGRAMS = REPOSITORY / "files/usr"
PYROUTE2 = Path(sys.prefix) / "pyroute2"
OLDEST = ".".join(map(str, requirement.FLOOR))
CONFIG = """config globals 'globals'
	option enabled '1'

config vrrp_instance 'I1'
	option interface 'v0'
	option virtual_router_id '51'
	option version '3'
	option use_vmac '1'
	option dhcp '1'
	list virtual_ipaddress '192.168.1.4/24 label v0:1'
	list virtual_routes 'src 192.168.1.4 to 0.0.0.0/0 via 192.168.1.1 dev v0 metric 5 mtu 1400'
	list virtual_routes '10.0.0.0/8 nexthop via 192.168.1.1 dev v0 nexthop via 192.168.1.7 dev v0 weight 2'
	list virtual_routes 'blackhole 10.1.0.0/16 table 1000'
	list virtual_rules 'from 192.168.1.4 iif v0 fwmark 1/7 table 100'

config vrrp_instance 'I6'
	option interface 'v0'
	option virtual_router_id '51'
	option version '3'
	option dhcp '1'
	option accept '0'
	list virtual_ipaddress 'fe80::4/64'
	list virtual_ipaddress '2001:db8::4/64'
	list virtual_ipaddress '2001:db8::5/128'
	list virtual_routes '::/0 via fe80::1 dev v0'
	list virtual_rules 'to 2001:db8:1::/48 goto 20000'

config conntrack_sync
	list peer '192.168.1.3'
	option secret 'at least sixteen bytes, the same on both routers'
"""
NETWORK = """
config interface 'lan'
	option device 'v0'
	option proto 'static'
	option ipaddr '192.168.1.2'
	option netmask '255.255.255.0'
"""
KEEPALIVED = """
vrrp_instance I1 { interface v0
 virtual_router_id 51
 virtual_ipaddress { 192.168.1.4/24 }
}
"""


PLAN = """\
import sys
sys.path[:0] = sys.argv[1].split(":")
from tandem.plan import start
sys.exit(start.main(["-c", sys.argv[2]]))
"""


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A directory with the files that the commands read."""
    (tmp_path / "tandem").write_text(CONFIG)
    (tmp_path / "network").write_text(NETWORK)
    (tmp_path / "keepalived.conf").write_text(KEEPALIVED)
    return tmp_path


def run(
    there: Path,
    program: str,
    *arguments: str,
    without: set[str],
    path: str = "",
    interpreter: str = sys.executable,
) -> subprocess.CompletedProcess[bytes]:
    fresh = ["-ISB", "-X", f"pycache_prefix={there}/none"]
    argv = [interpreter, *fresh, str(RUNNER), program, ",".join(sorted(without)), path, *arguments]
    return subprocess.run(argv, cwd=there, capture_output=True, timeout=120, stdin=subprocess.DEVNULL)


def interpreters() -> list[str]:
    """This one, and OpenWrt 22.03's where there is one."""
    library = python310()
    oldest = library and library.parents[1] / "bin/python3.10"
    return [sys.executable, *([str(oldest)] if oldest and oldest.exists() else [])]


@pytest.mark.parametrize("interpreter", interpreters())
def test_every_import_finds_its_module(there: Path, interpreter: str) -> None:
    done = run(there, "every", without=absent(), interpreter=interpreter)
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (0, "", "")


COMMANDS = [
    ("bin/tandem", "--help", 0),
    ("bin/tandem", "status", 1),
    ("bin/tandem", "conntrack", 1),
    ("bin/tandem", "failover", 1),
    ("bin/tandem", "import keepalived.conf", 0),
    ("bin/tandem", "init --network lan --no-sync --force --dry-run --network-config network", 0),
    ("bin/tandem", "doctor --listen 0 --control none --config tandem", None),
    ("bin/tandem", "dhcp hold --config tandem", None),
    ("sbin/tandemd", "--help", 0),
    ("sbin/tandemd", "--version", 0),
]


@pytest.mark.parametrize("interpreter", interpreters())
@pytest.mark.parametrize(("program", "arguments", "status"), COMMANDS)
def test_commands_run(
    there: Path, program: str, arguments: str, status: int | None, interpreter: str
) -> None:
    done = run(there, str(PROGRAMS / program), *arguments.split(), without=absent(), interpreter=interpreter)
    said = done.stderr.decode()
    assert not any(word in said for word in ("Traceback", "No module", "unicodedata")), said
    assert status in (None, done.returncode), said


@pytest.mark.parametrize("interpreter", interpreters())
def test_sources_are_compiled_at_installation(there: Path, interpreter: str) -> None:
    script = (REPOSITORY / "files/etc/uci-defaults/tandem").read_text()
    (program,) = re.findall(r"python3 -ISXno_debug_ranges -c '(.*?)'", script, re.S)
    library = there / "lib/tandem"
    library.mkdir(parents=True)
    (library / "module.py").write_text("what = 1\n")
    done = run(there, "-c", program, str(there / "lib"), without=absent(), interpreter=interpreter)
    assert (done.returncode, done.stderr) == (0, b"")
    assert list(there.rglob("module.*.pyc"))


# pyroute2


needs_versions = pytest.mark.skipif(
    not PYROUTE2.exists(), reason="no other pyroute2: remove .venv/.test, make test"
)
# Its distutils and email are of the Python that 22.03 has.
on_oldest = [interpreter for interpreter in interpreters() if "3.10" in interpreter]


@needs_versions
@pytest.mark.parametrize("version", [OLDEST, "0.7.9"])
def test_the_plan_is_the_same_with_every_pyroute2(there: Path, version: str) -> None:
    """The bytes for the kernel, for each kind of thing that a configuration can ask for."""
    plans = [
        subprocess.run(
            [sys.executable, "-c", PLAN, path, "tandem"],
            cwd=there,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for path in (str(REPOSITORY / "src"), f"{PYROUTE2 / version}:{REPOSITORY / 'src'}")
    ]
    here, there_too = map(marshal.loads, plans)
    assert here.pop("inputs") != there_too.pop("inputs")  # they name the modules of pyroute2
    assert here == there_too
    assert load_plan(plans[0]).config.instances


@needs_versions
def test_the_planners_tests_pass_with_that_of_openwrt() -> None:
    """0.7.9 is that of 23.05, 24.10 and 25.12."""
    tests = map(str, sorted(Path(__file__).parent.glob("test_planner_*.py")))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", *tests],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(PYROUTE2 / "0.7.9")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout


@needs_versions
@pytest.mark.skipif(not on_oldest, reason="no Python 3.10")
def test_the_planner_runs_with_what_openwrt_22_03_has(there: Path) -> None:
    without = absent(planner=True)
    path = str(PYROUTE2 / OLDEST)
    done = run(there, "planner", "-c", "tandem", without=without, path=path, interpreter=on_oldest[0])
    assert (done.returncode, done.stderr) == (0, b"")


# Without one that can be used


def fake_pyroute2(directory: Path, version: str, bytecode: bool = False) -> str:
    config = directory / "pyroute2/config"
    config.mkdir(parents=True)
    (directory / "pyroute2/__init__.py").write_text("raise RuntimeError('imported')\n")
    (config / "version.py").write_text(f"__version__ = {version!r}\n")
    if bytecode:  # as OpenWrt's packages have it
        py_compile.compile(str(config / "version.py"), str(config / "version.pyc"))
        (config / "version.py").unlink()
    return str(directory)


@pytest.mark.parametrize("bytecode", [False, True])
def test_an_old_pyroute2_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytecode: bool
) -> None:
    monkeypatch.setattr(sys, "path", [fake_pyroute2(tmp_path, "0.5.9", bytecode)])
    cure = f"install pyroute2 {OLDEST} or newer (OpenWrt: python3-pyroute2)"
    assert requirement.problem() == f"pyroute2 0.5.9 is too old: {cure}"


@pytest.mark.parametrize("version", [OLDEST, "0.7.9", "0.9.7.post1", "1.0", "unknown"])
def test_newer_ones_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(sys, "path", [fake_pyroute2(tmp_path, version)])
    assert requirement.problem() is None


def test_without_pyroute2_every_way_to_a_plan_says_so_in_one_line(there: Path) -> None:
    """The daemon at its start, a check before it, and `tandem check`; none with a traceback."""
    base = os.path.realpath(sys.executable)  # not the venv's: no site-packages of it
    argv = [base, "-IS", *planner_argv(str(REPOSITORY / "src"), str(there / "tandem"))[2:]]
    done = subprocess.run(argv, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (2, b"")
    (line,) = marshal.loads(done.stdout)["errors"]
    assert line.startswith(f"{base} has no module pyroute2: install pyroute2")
    done = run(there, str(PROGRAMS / "bin/tandem"), "check", "tandem", without=set(), interpreter=base)
    assert done.returncode == 1
    assert done.stderr.decode().count("\n") == 1 and "no module pyroute2" in done.stderr.decode()


def test_the_check_before_a_start_asks_the_planners_interpreter(
    there: Path, capfd: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(requirement, "_ASK", "print('pyroute2 0.5.9 is too old')")
    assert tandemd.main(["--check", "-c", str(there / "tandem")]) == 2
    assert capfd.readouterr().err == "pyroute2 0.5.9 is too old\n"
    monkeypatch.undo()
    assert tandemd.main(["--check", "-c", str(there / "tandem")]) == 0


def test_a_planner_that_fails_says_where_in_one_line(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = PLAN.replace(
        "sys.exit", "from tandem.plan import process; process.plan_file = lambda path: 1 // 0; sys.exit"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(REPOSITORY / "src"), "tandem"], cwd=there, capture_output=True
    )
    (line,) = marshal.loads(done.stdout)["errors"]
    assert line.startswith("tandem: could not be planned: ZeroDivisionError: ") and "<string>:" in line
    assert (done.returncode, done.stderr) == (2, b"")


def test_the_floor_is_stated_everywhere() -> None:
    assert f'"pyroute2>={OLDEST}"' in (REPOSITORY / "src/pyproject.toml").read_text()
    assert f"python3-pyroute2 (>={OLDEST})" in (FEED / "tandem/Makefile").read_text()
    assert OLDEST in (REPOSITORY / "Makefile").read_text().partition("PYROUTE2 :=")[2].splitlines()[0].split()
