# SPDX-License-Identifier: GPL-2.0-or-later
"""A start without the planner: the kept plan is used when all that made it is the same, and only then."""

from __future__ import annotations

import marshal
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import tandem
from tandem.loop import Loop
from tandem.plan.kept import Kept, sign
from tandem.plan.result import PlanError, planner_argv
from tandem.plan.runner import LATE, Planning

PACKAGE_DIR = os.path.dirname(tandem.__path__[0])
TEXT = """
config globals
\toption router_id 'r1'
config vrrp_instance 'V1'
\toption interface 'eth0'
\toption virtual_router_id '51'
\tlist virtual_ipaddress '192.168.1.4/24'
config peer
\toption name 'r2'
\toption address '192.168.1.3'
\toption secret_file '{secret}'
config conntrack_sync
\tlist peer 'r2'
"""


class Bench:
    """A configuration with a secret, and the plan of it that a start has kept."""

    def __init__(self, directory: Path) -> None:
        for old in directory.iterdir():
            old.unlink()
        self.config, self.secret, self.file = (directory / name for name in ("config", "secret", "plan"))
        self.secret.write_text("q1Xn2+VbT0pLzR9mKc4hYd8wEaJ6uFgS")
        self.secret.chmod(0o600)
        self.config.write_text(TEXT.format(secret=self.secret))
        self.said: list[str] = []
        self.kept = Kept(str(self.file), str(self.config), self.said.append)
        if not OUTPUT:
            OUTPUT.append(self.plan())
        self.kept.save(OUTPUT[0])

    def plan(self) -> bytes:
        """The output of the planner."""
        argv = planner_argv(PACKAGE_DIR, str(self.config))
        return subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout


OUTPUT: list[bytes] = []  # the planner's, of the same files in every test


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    OUTPUT.clear()
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def bench(directory: Path) -> Bench:
    return Bench(directory)


def test_a_start_that_finds_everything_the_same_needs_no_planner(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.plan.runner.planner_argv", lambda *_: pytest.fail("the planner runs"))
    loop = Loop()
    plan = Planning(loop, PACKAGE_DIR, str(bench.config), bench.kept).first()
    assert [instance.name for instance in plan.config.instances] == ["V1"] and plan.instances["V1"].up
    assert stat.S_IMODE(bench.file.stat().st_mode) == 0o600 and not bench.said
    loop.close()


def test_the_first_plan_is_kept_when_there_is_a_directory(bench: Bench) -> None:
    bench.file.unlink()
    loop = Loop()
    planning = Planning(loop, PACKAGE_DIR, str(bench.config), bench.kept)
    planning.first()
    assert not bench.file.exists()
    planning.keep()
    assert bench.kept.load() is not None
    loop.close()


def test_the_plan_of_a_reload_is_kept(bench: Bench) -> None:
    loop = Loop()
    told: list[object] = []
    planning = Planning(loop, PACKAGE_DIR, str(bench.config), bench.kept)
    bench.config.write_text(bench.config.read_text().replace("'51'", "'52'"))
    assert bench.kept.load() is None
    planning.again(told.append)
    while not told:
        loop.turn(limit=10**9)
    plan = bench.kept.load()
    assert plan is not None and plan.config.instances[0].virtual_router_id == 52
    loop.close()


def test_a_planner_returns_the_kept_plan_until_something_has_changed(bench: Bench) -> None:
    """A reload that changes nothing takes a quarter of the time."""
    argv = planner_argv(PACKAGE_DIR, str(bench.config), str(bench.file))
    marked = marshal.dumps(marshal.loads(OUTPUT[0]) | {"warnings": ("from the file",)})
    bench.kept.save(marked)
    assert subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout == marked
    bench.config.write_text(bench.config.read_text().replace("'51'", "'52'"))
    anew = marshal.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
    assert anew["warnings"] == () and "inputs" in anew
    bench.file.write_bytes(bench.file.read_bytes()[:-1])
    done = subprocess.run(argv, capture_output=True, check=True)
    assert marshal.loads(done.stdout)["warnings"] == () and b"damaged" in done.stderr


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that hangs, and little patience."""
    monkeypatch.setattr("tandem.plan.runner.planner_argv", lambda *_: ["/bin/sleep", "600"])
    monkeypatch.setattr("tandem.plan.runner.PATIENCE", 300_000_000)


def test_a_planner_that_hangs_is_killed_and_does_not_stop_the_loop(bench: Bench, hangs: None) -> None:
    loop = Loop()
    told: list[object] = []
    beats: list[int] = []

    def beat(now: int) -> None:
        beats.append(now)
        loop.call_at("beat", now + 1_000_000, beat)

    beat(loop.now())
    planning = Planning(loop, PACKAGE_DIR, str(bench.config), bench.kept)
    planning.again(told.append)
    planning.again(told.append)  # this reload is planned after the one that hangs
    while not told:
        loop.turn(limit=10**9)
    assert isinstance(told[0], PlanError) and told[0].errors == (LATE,) and len(beats) > 3
    assert not planning._running
    while loop._timers.keys() != {"beat"}:  # both planners are collected
        loop.turn(limit=10**9)
    loop.close()


def test_a_planner_that_hangs_at_the_start_is_an_error(bench: Bench, hangs: None) -> None:
    loop = Loop()
    with pytest.raises(PlanError, match="killed"):
        Planning(loop, PACKAGE_DIR, str(bench.config)).first()
    loop.close()


def rewrite(path: Path) -> None:
    """Other content of the same length, at the same time."""
    before = path.stat()
    path.write_text(path.read_text().replace("1", "7"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("name", ["config", "secret"])
def test_a_file_that_the_planner_read_has_changed(bench: Bench, name: str) -> None:
    rewrite(getattr(bench, name))
    assert bench.kept.load() is None and not bench.said


def test_another_mode_of_the_secret_is_for_the_planner_to_refuse(bench: Bench) -> None:
    bench.secret.chmod(0o644)
    assert bench.kept.load() is None


def test_the_plan_names_all_that_it_is_made_of(bench: Bench) -> None:
    from marshal import loads

    inputs = dict(loads(OUTPUT[0])["inputs"])
    assert inputs.keys() >= {str(bench.config), str(bench.secret), "/etc/passwd", "/etc/group", "/var/state/"}
    assert any(path.endswith("/plan/encode_rtnl.py") for path in inputs)
    assert any(path.endswith("/pyroute2/netlink/rtnl") for path in inputs)
    assert all(sign(path) == found for path, found in inputs.items())


def test_another_version_and_another_configuration_have_other_plans(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Kept(str(bench.file), f"{bench.config}2", bench.said.append).load() is None
    monkeypatch.setattr("tandem.plan.kept.__version__", "99")
    assert Kept(str(bench.file), str(bench.config), bench.said.append).load() is None
    assert not bench.said


def open_to_others(file: Path) -> None:
    file.chmod(0o640)


def of_another_user(file: Path) -> None:
    os.chown(file, 65534, 0)


def a_link(file: Path) -> None:
    file.rename(file.with_name("real"))
    file.symlink_to("real")


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def with_another_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "spoil", [open_to_others, of_another_user, a_link, a_pipe, cut_off, with_another_byte]
)
def test_a_foreign_or_damaged_file_is_ignored_said_and_replaced(
    bench: Bench, spoil: Callable[[Path], None]
) -> None:
    spoil(bench.file)
    assert bench.kept.load() is None
    [line] = bench.said
    assert line.startswith(f"{bench.file} is ignored, and the configuration planned anew: ")
    bench.kept.save(OUTPUT[0])
    assert bench.kept.load() is not None and stat.S_IMODE(bench.file.stat().st_mode) == 0o600


def test_a_file_with_a_good_digest_and_no_plan_is_ignored(bench: Bench) -> None:
    for body in (b"", b"garbage", b"N", OUTPUT[0][:-5]):
        bench.kept.save(body)
        assert bench.kept.load() is None
        assert "it holds no plan" in bench.said.pop()


@pytest.mark.parametrize(
    ("name", "size", "by_content"),
    [("network", 9, True), ("network", 1 << 20, True), ("network", (1 << 20) + 1, False), ("a.py", 9, False)],
)
def test_a_file_is_known_by_its_content_unless_it_is_large_or_code(
    tmp_path: Path, name: str, size: int, by_content: bool
) -> None:
    path = tmp_path / name
    path.write_bytes(bytes(size))
    found = sign(str(path))
    os.utime(path, ns=(1, 1))
    assert (sign(str(path)) == found) is by_content
    path.write_bytes(b"x" + bytes(size - 1))
    assert sign(str(path)) != found


def test_a_pipe_as_configuration_is_planned_at_every_start(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert sign(str(pipe)) is None and sign(f"{tmp_path}/") == (True,) and sign(f"{pipe}/") == (False,)
    assert sign(str(tmp_path / "missing")) == sign(str(tmp_path / "missing")) != None  # noqa: E711


def test_a_plan_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    Kept(str(tmp_path / "nowhere" / "plan"), "config", said.append).save(b"x")
    assert said and "is not kept" in said[0]
