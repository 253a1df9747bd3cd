# SPDX-License-Identifier: GPL-2.0-or-later
"""README and docs/ say what works: their commands are run, their configurations read, their links followed.

A command that needs a router, or changes this machine, is in ELSEWHERE: a test that runs it, or the reason
why no test can. A new command in a page fails here until somebody has decided.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tandem.config.guessable import guessable
from tandem.config.load import load_text
from tandem.control import cli
from tandem.control.command_table import TABLE
from tests.unit.fake_daemon import FakeDaemon
from tests.unit.status_snapshot import STATUS
from tests.unit.test_conntrack_cli import REPLICATION

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Command: a test file that runs it, and words that stand in that file; or "" and why no test runs it.
ELSEWHERE = {
    "service tandem start": ("tests/packaging/test_init.py", "def test_start("),
    "service tandem stop": ("tests/packaging/test_init.py", "test_stop_waits_until_the_daemon_has_gone"),
    "service tandem reload": ("tests/packaging/test_init.py", "def test_reload("),
    "uci commit tandem": ("tests/packaging/test_opkg.py", "uci commit tandem; reload_config"),
    "reload_config": ("tests/packaging/test_opkg.py", "uci commit tandem; reload_config"),
    "opkg update": ("tests/packaging/test_opkg.py", "opkg"),
    "opkg install tandem": ("tests/packaging/test_opkg.py", "opkg install tandem"),
    "opkg install tandem-import": ("tests/packaging/test_opkg.py", '"opkg install tandem-import && '),
    "opkg remove tandem": ("tests/packaging/test_opkg.py", "opkg remove"),
    "opkg upgrade tandem": ("tests/packaging/test_opkg.py", "opkg upgrade tandem"),
    "apk update": ("tests/packaging/test_apk.py", "apk"),
    "apk add tandem": ("tests/packaging/test_apk.py", "apk"),
    "apk upgrade tandem": ("tests/packaging/test_apk.py", "apk update && apk upgrade"),
    "apk del tandem": ("tests/packaging/test_apk.py", "apk del tandem-tools tandem-import tandem"),
    "ubus listen tandem.transition": ("tests/openwrt/test_tandem_object.py", "bus.listen"),
    "ubus subscribe tandem": ("tests/openwrt/test_tandem_object.py", "bus.subscribe"),
    'ubus call tandem failover \'{"group": "G1"}\'': ("tests/openwrt/test_tandem_object.py", "failover"),
    "./scripts/feeds update tandem": ("", "needs OpenWrt's buildroot, which is no package"),
    "./scripts/feeds install -a -p tandem": ("", "needs OpenWrt's buildroot, which is no package"),
}
# The same for commands of `tandem` that the daemon's stand-in does not answer; this test parses them.
TANDEM_ELSEWHERE = {
    "init": ("tests/netns/test_init.py", "test_questions_at_a_terminal"),
    "doctor": ("tests/netns/test_doctor.py", "def test_"),
    "import": ("tests/netns/test_import.py", "cli.main"),
    "capture": ("tests/netns/test_vrrp_socket.py", "capture("),
    "dhcp": ("tests/packaging/test_dhcp.py", "dhcp"),
    "witness": ("tests/netns/test_witness.py", '"witness"'),
    "upgrade": ("tests/netns/test_upgrade.py", '"upgrade"'),
    "follow": ("tests/unit/test_setup_line.py", '["follow", "release"'),
    "init --one-line wan": ("tests/unit/test_setup_line.py", "--one-line=wan"),
    "status --watch": ("tests/unit/test_cli.py", '"--watch"'),
}
# What the examples of one part leave out.
BEFORE = """\
config globals 'globals'
        option enabled '1'
        option router_id 'r1'
config peer 'r9'
        list address '192.168.1.9'
        option secret 'Zr4uJ8w2bQ0nTe9LkVx3yHs7'
config vrrp_instance
        option name 'I1'
        option interface 'br-lan'
        option virtual_router_id '51'
        list virtual_ipaddress '192.168.1.4/24'
"""
_FETCHES = (
    "wget ",
    "echo ",
)  # lines of the feed's own page, see tests/packaging/test_signed_feed.py


def blocks(kind: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for text in re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(), re.M | re.S):
            yield page.name, text


def commands() -> list[str]:
    """Return each command once, without prompt, environment, explanation and what follows in a pipe."""
    found: dict[str, None] = {}
    for _, text in blocks("sh"):
        for line in text.splitlines():
            line = re.sub(r"^(router# |NO_COLOR=1 )", "", line.split("  ")[0])
            found |= dict.fromkeys(part.split(" | jq")[0] for part in line.split(" && ") if part)
    return list(found)


def configurations() -> list[str]:
    return [text for _, text in blocks("uci")]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    daemon = FakeDaemon(tmp_path / "control")
    yield daemon
    daemon.close()


def run_tandem(words: list[str], daemon: FakeDaemon, tmp_path: Path) -> int:
    """Run a command against the daemon's stand-in; `check` gets the configuration of README."""
    daemon.answers |= {name: {"groups": {"G1": "BACKUP"}} for name in ("failover", "standby", "resume")}
    daemon.answers |= {"services": {"services": STATUS["services"]}, "service": "asked for"}
    daemon.answers["checks"] = {key: STATUS[key] for key in ("checks", "virtual_servers")}
    daemon.answers |= {"reload": "reloaded", "conntrack": REPLICATION}
    daemon.answers["conntrack_list"] = {"entries": [], "next": None}
    if words[0] == "check":
        (tmp_path / "tandem").write_text(configurations()[0])
        words = ["check", str(tmp_path / "tandem")]
    return cli.main(["--control", daemon.path, *words])


@pytest.mark.parametrize("command", [command for command in commands() if command not in ELSEWHERE])
def test_a_command_works(command: str, daemon: FakeDaemon, tmp_path: Path) -> None:
    if command.startswith(_FETCHES):
        assert "192.168.1.10" in command, "the address of the example's web server"
        return
    program, *words = shlex.split(command)
    if program == "tandem":
        cli._parser().parse_args(words)
        if words[0] not in TANDEM_ELSEWHERE and " ".join(words[:2]) not in TANDEM_ELSEWHERE:
            assert run_tandem(words, daemon, tmp_path) == 0
    elif program == "make":
        if shutil.which("make") is None:
            pytest.skip("no make here")
        done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif program == "head":
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
        assert not guessable(done.stdout.strip().encode())
    else:
        pytest.fail(f"no test runs {command}: add it to ELSEWHERE")


@pytest.mark.parametrize("command", [*ELSEWHERE, *TANDEM_ELSEWHERE])
def test_a_command_is_run_elsewhere(command: str) -> None:
    file, words = (ELSEWHERE | TANDEM_ELSEWHERE)[command]
    assert any(command in shown for shown in commands()), "no page has it any more"
    assert words in ((ROOT / file).read_text() if file else words)


@pytest.mark.parametrize("text", configurations())
def test_a_configuration_is_sound(text: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("Zr4uJ8w2bQ0nTe9LkVx3yHs7")
    whole = text if "config vrrp_instance" in text else BEFORE + text
    loaded = load_text(re.sub(r"/etc/tandem/\w+", str(secret), whole), "page")
    assert [str(problem) for problem in loaded.errors] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_sentences_exist(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    parser = cli._parser()
    for command in re.findall(r"`(tandem [^`]+)`", text):
        words = shlex.split(command)[1:]
        if len(words) == 1:
            assert words[0] in {known.name for known in TABLE}, command
        elif not any(word.isupper() for word in words):
            parser.parse_args(words)
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert re.search(rf"^[a-z -]*\b{target}\b[a-z -]*:", (ROOT / "Makefile").read_text(), re.M), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        other = page.parent / target if target else page
        assert other.exists(), target
        headings = re.findall(r"^#+ (.*)$", other.read_text(), re.M) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, anchor
    for path in re.findall(r"`((?:src|tests|files|docs|openwrt-feed|qemu)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path
