# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of `tandem init`: what it asks, says and writes, on either router, and when it stops."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tandem.control import cli
from tandem.places import DEFAULT_VRID
from tandem.setup import segment, steps, token
from tests.unit.test_setup import DHCP_WAN, NETWORK, OTHER

Init = Callable[..., "Done"]
DHCP = "config dhcp 'lan'\n\toption interface 'lan'\n\toption dhcpv4 'server'\n"


class Terminal(io.StringIO):
    """What a person types, or what comes through a pipe."""

    def __init__(self, text: str, terminal: bool) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Done:
    """The end of a run."""

    def __init__(self, status: int, out: str, err: str, directory: Path) -> None:
        self.status, self.out, self.err = status, out, err
        self.directory = directory

    @property
    def config(self) -> str | None:
        file = self.directory / "config"
        return file.read_text() if file.exists() else None

    @property
    def token(self) -> str:
        (word,) = re.findall(r"echo (\S+) \| tandem init --join --start", self.out)
        return word


@pytest.fixture
def init(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Init:
    """Runs `tandem init` with the arguments and the input; nobody else is on the networks."""
    monkeypatch.setattr(steps, "used_ids", lambda devices: {})
    monkeypatch.setattr(segment, "who_has", lambda *_: None)
    capsys.readouterr()

    def run(
        *arguments: str, typed: str = "", terminal: bool = False, network: str = NETWORK, router: str = "1"
    ) -> Done:
        directory = tmp_path / router
        directory.mkdir(exist_ok=True)
        (directory / "network").write_text(network)
        files = [f"--{name}-config={directory}/{name}" for name in ("network", "dhcp")]
        monkeypatch.setattr("sys.stdin", Terminal(typed, terminal))
        places = [f"--config={directory}/config", f"--secret-file={directory}/etc/secret"]
        status = cli.main(["init", *files, *places, *arguments])
        return Done(status, *capsys.readouterr(), directory)

    return run


LAN = "--network=lan=192.168.1.4", "--peer=192.168.1.3"


# The first router, without questions


def test_what_the_options_say_is_written(init: Init) -> None:
    done = init(*LAN)
    assert (done.status, done.err) == (0, "")
    assert done.config and "list virtual_ipaddress '192.168.1.4/24'" in done.config
    assert f"{done.directory}/config is written." in done.out and "before is in" not in done.out
    assert "To start it here:" in done.out and (done.directory / "etc/secret").stat().st_size
    again = init(*LAN, "--force")
    assert again.status == 0 and "What was there before is in " in again.out


def test_a_file_that_is_in_use_is_not_replaced(init: Init) -> None:
    assert init(*LAN).status == 0
    before = init("--dry-run", *LAN)
    assert before.status == 0
    done = init(*LAN, "--vrid=77")
    assert done.status == 2 and done.config and "'77'" not in done.config


def test_the_peer_is_proposed_and_left_out(init: Init) -> None:
    proposed = init("--network=lan=192.168.1.4")
    assert proposed.config and "list address '192.168.1.3'" in proposed.config
    alone = init("--network=lan=192.168.1.4", "--no-sync", "--force")
    assert alone.config and "config peer" not in alone.config and "secret" not in alone.out


def test_a_mistake_is_told_once_and_nothing_is_written(init: Init) -> None:
    done = init("--network=none", "--network=wan=192.168.0.2", "--peer=10.0.0.1")
    assert done.status == 2 and done.config is None
    assert "no network none" in done.err and "own address" in done.err and "10.0.0.1" in done.err


def test_without_a_terminal_there_are_no_questions(init: Init) -> None:
    done = init(typed="lan\n")
    assert done.status == 2 and "give --network NAME and --peer ADDRESS" in done.err


def test_an_address_that_a_host_has_is_refused(init: Init, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "who_has", lambda *_: "02:00:00:00:00:01")
    done = init(*LAN)
    assert done.status == 2 and "02:00:00:00:00:01" in done.err and done.config is None
    assert init(*LAN, "--force").status == 0


@pytest.mark.parametrize(
    ("used", "arguments", "found"),
    [
        ([], [], DEFAULT_VRID),
        ([DEFAULT_VRID], [], DEFAULT_VRID + 1),
        ([*range(DEFAULT_VRID, 256)], [], 1),
        ([*range(DEFAULT_VRID, 256), 1, 2], [], 3),
        ([*range(1, 256)], [], DEFAULT_VRID),
        ([5], ["--vrid=7"], 7),
        ([7], ["--vrid=7", "--force"], 7),
        ([7], ["--vrid=7"], None),
    ],
)
def test_the_id_is_one_that_nobody_uses(
    init: Init, monkeypatch: pytest.MonkeyPatch, used: list[int], arguments: list[str], found: int | None
) -> None:
    monkeypatch.setattr(steps, "used_ids", lambda devices: dict.fromkeys(used, "192.168.1.9"))
    done = init(*LAN, *arguments)
    if found is None:
        assert done.status == 2 and "taken, by 192.168.1.9: choose another --vrid" in done.err
    else:
        assert done.config and f"option virtual_router_id '{found}'" in done.config


def test_files_that_are_missing_or_not_readable_are_named(init: Init, tmp_path: Path) -> None:
    done = init(*LAN, f"--network-config={tmp_path}/nothing")
    assert done.status == 1 and "nothing: No such file or directory" in done.err
    assert "tandem: :" not in done.err


def test_a_way_out_that_cannot_be_shared_is_told_after_the_file(init: Init) -> None:
    done = init(*LAN, network=DHCP_WAN.replace("{proto}", "dhcp"))
    assert "connections to the internet break" in done.out
    quiet = init(*LAN, "--force", "--no-track", network=DHCP_WAN.replace("{proto}", "dhcp"))
    assert "connections to the internet break" not in quiet.out


def test_a_long_token_is_pasted(init: Init, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SHELL_LINE", 100)
    done = init(*LAN)
    assert "and paste at its question:" in done.out and "echo " not in done.out.split("The token")[0]
    monkeypatch.setattr(steps, "SHELL_LINE", 512)
    line = next(one for one in init(*LAN, "--force").out.splitlines() if one.startswith("  echo"))
    monkeypatch.setattr(steps, "SHELL_LINE", len(line.strip()))
    assert "and paste" in init(*LAN, "--force").out
    monkeypatch.undo()
    assert steps.SHELL_LINE == 512


# The first router, with questions


ANSWERS = "lan\n192.168.1.4\n192.168.1.3\n"


def test_a_person_answers(init: Init) -> None:
    done = init("--vrid=9", typed=ANSWERS + "y\n", terminal=True)
    assert (done.status, done.err) == (0, "")
    assert "Listening for other virtual routers..." in done.out
    assert f"Write this to {done.directory}/config?" in done.out
    assert done.out.index("config vrrp_instance") < done.out.index("Write this to")
    assert done.config and "'9'" in done.config and "list address '192.168.1.3'" in done.config


def test_a_person_refuses(init: Init) -> None:
    done = init(typed=ANSWERS + "n\n", terminal=True)
    assert done.status == 1 and done.config is None and "is written" not in done.out


def test_a_person_goes_away(init: Init) -> None:
    done = init(typed="lan\n", terminal=True)
    assert done.status == 1 and done.config is None
    assert "there are no more answers; nothing was written" in done.err and done.out.endswith("\n")


def test_a_person_without_replication_is_not_asked_for_the_peer(init: Init) -> None:
    done = init("--no-sync", "--force", typed="lan\n192.168.1.4\ny\n", terminal=True)
    assert done.status == 0 and done.config and "config peer" not in done.config
    assert "Listening" not in done.out


@pytest.mark.parametrize(("answer", "tracks"), [("y", True), ("n", False)])
def test_a_person_decides_about_the_way_out(init: Init, answer: str, tracks: bool) -> None:
    network = DHCP_WAN.replace("{proto}", "pppoe")
    done = init(typed=f"lan\n192.168.1.4\n192.168.1.3\n1\n{answer}\ny\n", terminal=True, network=network)
    assert done.status == 0 and done.config and ("track_interface" in done.config) is tracks
    assert done.out.count("connections to the internet break") == 1


# The second router


def test_the_second_router_joins(init: Init) -> None:
    first = init(*LAN)
    second = init("--join", typed=first.token + "\n", network=OTHER, router="2")
    assert (second.status, second.err) == (0, "")
    assert second.config and "list address '192.168.1.2'" in second.config
    assert f"{second.directory}/config is written." in second.out
    secrets = [(done.directory / "etc/secret").read_text() for done in (first, second)]
    assert secrets[0] == secrets[1]


def test_a_dry_run_of_the_second_router_only_prints(init: Init) -> None:
    word = init(*LAN).token
    done = init("--join", "--dry-run", typed=word, network=OTHER, router="2")
    assert done.status == 0 and done.config is None and "config vrrp_instance" in done.out


@pytest.mark.parametrize("option", ["--network=lan", "--peer=192.168.1.2"])
def test_the_token_says_all(init: Init, option: str) -> None:
    done = init("--join", option, typed="x")
    assert done.status == 2 and "takes the networks and the peer from the token" in done.err


def test_a_second_router_without_leases_is_told_so(init: Init, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1/dhcp").write_text(DHCP)
    word = init(*LAN).token
    done = init("--join", typed=word, network=OTHER, router="2")
    assert done.status == 0 and "lan: dnsmasq gives no leases here (/etc/config/dhcp)" in done.err
    (tmp_path / "2/dhcp").write_text(DHCP)
    assert init("--join", "--force", typed=word, network=OTHER, router="2").err == ""


def test_the_longest_token_is_read_to_its_end(init: Init, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe may bring more than a token, and lines that end as those of Windows do."""
    word = init(*LAN).token
    monkeypatch.setattr(token, "LONGEST", len(word))
    done = init("--join", typed=f"{word}\r\nmore\n", network=OTHER, router="2")
    assert (done.status, done.err) == (0, "")
    monkeypatch.setattr(token, "LONGEST", len(word) - 1)
    assert init("--join", "--force", typed=word, network=OTHER, router="2").status == 2


# Both: the service


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A router with the package; the list holds each start of the service."""
    starts: list[tuple[str, str]] = []

    def start(config: str, control: str) -> list[str]:
        starts.append((config, control))
        return []

    monkeypatch.setattr("tandem.setup.service.installed", lambda: True)
    monkeypatch.setattr("tandem.setup.service.start", start)
    return starts


@pytest.mark.parametrize(
    ("arguments", "answers", "asked", "started"),
    [
        (["--start"], "y\n", False, True),
        ([], "y\ny\n", True, True),
        ([], "y\nn\n", True, False),
    ],
)
def test_a_person_decides_whether_the_service_starts(
    init: Init, service: list[tuple[str, str]], arguments: list[str], answers: str, asked: bool, started: bool
) -> None:
    done = init(*arguments, typed=ANSWERS + answers, terminal=True)
    assert done.status == 0 and ("Start tandem on this router now?" in done.out) is asked
    assert bool(service) is started and ("tandem runs here: tandem status" in done.out) is started
    assert ("To start it here: /etc/init.d/tandem enable" in done.out) is not started


def test_nobody_is_asked_for_the_start_where_options_give_all(
    init: Init, service: list[tuple[str, str]]
) -> None:
    assert "Start tandem" not in init(*LAN).out and service == []
    assert "tandem runs here" in init(*LAN, "--force", "--start").out
    [(config, _)] = service
    assert config.endswith("/1/config")


def test_a_service_that_does_not_start_is_a_failure(init: Init, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.setup.service.start", lambda *_: ["tandemd does not run: no license"])
    done = init(*LAN, "--start")
    assert (
        done.status == 1 and "tandemd does not run: no license" in done.err and "runs here:" not in done.out
    )


def test_a_token_is_read_from_a_terminal(init: Init, monkeypatch: pytest.MonkeyPatch) -> None:
    word = init(*LAN).token
    monkeypatch.setattr(steps, "getpass", lambda question: word)
    assert init("--join", terminal=True, network=OTHER, router="2").status == 0

    def closed(_question: str) -> str:
        raise EOFError

    monkeypatch.setattr(steps, "getpass", closed)
    done = init("--join", "--force", terminal=True, network=OTHER, router="2")
    assert done.status == 1 and "nothing was written" in done.err
