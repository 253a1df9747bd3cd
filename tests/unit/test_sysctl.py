# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest

from tandem.core.settings import Address, Instance
from tandem.effects import vmac
from tandem.effects.sysctl import Sysctls, ipv4, ipv6

IGNORE = ipv4("br-lan", "arp_ignore")
ANNOUNCE = ipv4("br-lan", "arp_announce")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "sys"
    for interface in ("all", "br-lan", "eth0.2", "vrrp7"):
        for family in ("ipv4", "ipv6"):
            (root / "net" / family / "conf" / interface).mkdir(parents=True)
            (root / "net" / family / "conf" / interface / "forwarding").write_text("1\n")
        for name in ("arp_ignore", "arp_announce", "rp_filter"):
            (root / "net/ipv4/conf" / interface / name).write_text("0\n")
    return root


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "run" / "sysctls.json"


def sysctls(state: Path, root: Path) -> Sysctls:
    return Sysctls(str(state), str(root))


def value(root: Path, *path: str) -> str:
    return root.joinpath(*path).read_text().strip()


def test_sets_and_puts_back(root: Path, state: Path) -> None:
    settings = sysctls(state, root)
    assert settings.hold("lan", [(IGNORE, "1"), (ipv4("eth0.2", "arp_ignore"), "1")]) == []
    assert value(root, *IGNORE) == "1"
    assert value(root, "net", "ipv4", "conf", "eth0.2", "arp_ignore") == "1"
    assert state.stat().st_mode & 0o777 == 0o600
    assert settings.restore_all() == []
    assert value(root, *IGNORE) == "0"
    assert not state.exists()


def test_stays_until_the_last_owner_lets_go(root: Path, state: Path) -> None:
    settings = sysctls(state, root)
    settings.hold("lan", [(IGNORE, "1"), (ANNOUNCE, "2")])
    settings.hold("guest", [(IGNORE, "1")])
    settings.release("lan")
    assert (value(root, *IGNORE), value(root, *ANNOUNCE)) == ("1", "0")
    settings.release("guest")
    assert value(root, *IGNORE) == "0"
    assert settings.release("guest") == []


def test_holding_twice_remembers_the_first_original(root: Path, state: Path) -> None:
    settings = sysctls(state, root)
    settings.hold("lan", [(ANNOUNCE, "1")])
    settings.hold("lan", [(ANNOUNCE, "2")])
    settings.release("lan")
    assert value(root, *ANNOUNCE) == "0"


def test_holding_anew_lets_go_of_the_rest(root: Path, state: Path) -> None:
    settings = sysctls(state, root)
    settings.hold("lan", [(IGNORE, "1"), (ANNOUNCE, "2")])
    settings.hold("guest", [(IGNORE, "1")])
    settings.hold("lan", [])
    assert (value(root, *IGNORE), value(root, *ANNOUNCE)) == ("1", "0")
    assert [row[0] for row in json.loads(state.read_text())] == [list(IGNORE)]


def test_a_change_by_someone_else_is_what_comes_back(root: Path, state: Path) -> None:
    settings = sysctls(state, root)
    settings.hold("lan", [(ANNOUNCE, "2")])
    root.joinpath(*ANNOUNCE).write_text("1\n")
    settings.hold("lan", [(ANNOUNCE, "2")])
    assert value(root, *ANNOUNCE) == "2"
    settings.restore_all()
    assert value(root, *ANNOUNCE) == "1"


def test_reads_what_is_there_without_us(root: Path, state: Path) -> None:
    settings = sysctls(state, root)
    settings.hold("lan", [(ANNOUNCE, "2")])
    assert settings.read(ANNOUNCE) == "0"
    root.joinpath(*ANNOUNCE).write_text("1\n")
    assert settings.read(ANNOUNCE) == "1"


def test_asking_twice_for_a_virtual_mac_changes_nothing(root: Path, state: Path) -> None:
    root.joinpath(*ipv4("all", "rp_filter")).write_text("1\n")
    settings = sysctls(state, root)
    wanted = vmac.settings_of(instance(use_vmac="vrrp7"), settings.read)
    settings.hold("lan", wanted)
    assert value(root, *ipv4("br-lan", "rp_filter")) == "2"
    assert vmac.settings_of(instance(use_vmac="vrrp7"), settings.read) == wanted


def test_what_someone_else_has_changed_is_left_alone(root: Path, state: Path) -> None:
    settings = sysctls(state, root)
    settings.hold("lan", [(ANNOUNCE, "2")])
    root.joinpath(*ANNOUNCE).write_text("1\n")
    settings.restore_all()
    assert value(root, *ANNOUNCE) == "1"


def test_survives_kill(root: Path, state: Path) -> None:
    sysctls(state, root).hold("lan", [(IGNORE, "1"), (ANNOUNCE, "2")])
    after = sysctls(state, root)
    assert after.load() == []
    after.hold("lan", [(IGNORE, "1")])
    assert after.settle() == []  # the new configuration doesn't want it any more
    assert (value(root, *IGNORE), value(root, *ANNOUNCE)) == ("1", "0")
    after.restore_all()
    assert value(root, *IGNORE) == "0"
    assert not state.exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '[["x", 1]]', '[[["net", "../x"], "0", "1"]]', '[["net/x", "0", "1"]]']
)
def test_a_damaged_state_file_is_reported(root: Path, state: Path, text: str) -> None:
    state.parent.mkdir()
    state.write_text(text)
    settings = sysctls(state, root)
    assert len(settings.load()) == 1
    assert settings.hold("lan", [(IGNORE, "1")]) == []
    assert [row[0] for row in json.loads(state.read_text())] == [list(IGNORE)]


def test_missing_settings_are_reported(root: Path, state: Path) -> None:
    settings = sysctls(state, root)
    missing = ipv6("br-lan", "addr_gen_mode")
    assert settings.hold("lan", [(missing, "1"), (IGNORE, "1")]) == [
        "no setting net/ipv6/conf/br-lan/addr_gen_mode"
    ]
    assert value(root, *IGNORE) == "1"
    assert settings.read(missing) is None


def test_a_vanished_interface_is_forgotten(root: Path, state: Path) -> None:
    settings = sysctls(state, root)
    settings.hold("lan", [(IGNORE, "1"), (ipv4("vrrp7", "arp_ignore"), "1")])
    settings.forget("vrrp7")
    assert [row[0][3] for row in json.loads(state.read_text())] == ["br-lan"]
    settings.hold("lan", [(ipv4("vrrp7", "arp_ignore"), "1")])
    root.joinpath(*ipv4("vrrp7", "arp_ignore")).unlink()
    assert settings.restore_all() == []
    assert value(root, *IGNORE) == "0"


@pytest.mark.parametrize("name", ["../../kernel", "a/b", "..", ".", "", "a\0b"])
def test_paths_cant_leave_their_place(root: Path, state: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a setting"):
        sysctls(state, root).hold("lan", [(ipv4(name, "arp_ignore"), "1")])


def test_an_unwritable_state_file_is_reported_and_the_setting_made(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Sysctls(str(tmp_path / "file" / "sysctls.json"), str(root))
    assert len(settings.hold("lan", [(IGNORE, "1")])) == 1
    assert value(root, *IGNORE) == "1"


def test_the_kernel_refuses_a_value(root: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root.joinpath(*IGNORE)
    path.unlink()
    path.symlink_to("/proc/sys/net/ipv4/conf/lo/no_such_file")
    settings = sysctls(state, root)
    monkeypatch.setattr(settings, "_present", lambda path: "0")
    assert settings.hold("lan", [(IGNORE, "1")]) == [
        "can't set net/ipv4/conf/br-lan/arp_ignore to 1: No such file or directory"
    ]


# --- what a virtual MAC needs ----------------------------------------------------------


def instance(**options: object) -> Instance:
    return Instance(name="lan", interface="br-lan", virtual_router_id=7, **options)  # type: ignore[arg-type]


def test_no_vmac_no_settings() -> None:
    assert vmac.settings_of(instance(priority=255), lambda path: "0") == []
    assert vmac.settings_of(instance(family=6), lambda path: "0") == []
    assert vmac.settings_of(instance(family=6, promote_secondaries=True), lambda path: "0") == [
        (ipv4("br-lan", "promote_secondaries"), "1")
    ]


def test_who_may_stand_in_for_an_owner_hears_it() -> None:
    assert vmac.settings_of(instance(), lambda path: "0") == [(ipv4("br-lan", "accept_local"), "1")]


def test_reverse_path_filter_is_only_loosened_where_it_is_strict() -> None:
    def reader(everywhere: str, base: str, macvlan: str):  # type: ignore[no-untyped-def]
        values = {"all": everywhere, "br-lan": base, "vrrp7": macvlan}
        return lambda path: values[path[3]] if path[4] == "rp_filter" else "1"

    def loosened(*values: str) -> list[str]:
        settings = vmac.settings_of(instance(use_vmac="vrrp7"), reader(*values))
        assert all(value == "2" for path, value in settings if path[4] == "rp_filter")
        return [path[3] for path, _ in settings if path[4] == "rp_filter"]

    assert loosened("0", "0", "0") == []
    assert loosened("1", "0", "0") == ["br-lan", "vrrp7"]
    assert loosened("0", "1", "0") == ["br-lan"]
    assert loosened("2", "1", "1") == []


def test_ipv6_runs_on_the_macvlan_only_where_it_has_addresses() -> None:
    six = Address("2001:db8::4", 64, 6)
    elsewhere = Address("2001:db8::4", 64, 6, device="eth1")

    def disabled(**options: object) -> str:
        return dict(vmac.settings_of(instance(use_vmac="vrrp7", **options), lambda path: "0"))[
            ipv6("vrrp7", "disable_ipv6")
        ]

    assert disabled() == "1"
    assert disabled(excluded_addresses=(elsewhere,)) == "1"
    assert disabled(excluded_addresses=(six,)) == "0"
    assert disabled(family=6, version=3) == "0"
