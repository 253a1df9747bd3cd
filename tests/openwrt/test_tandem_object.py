# SPDX-License-Identifier: GPL-2.0-or-later
"""The object `tandem` of a running daemon, on a real ubusd."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tandem.openwrt.blobmsg import encode
from tests.lab import Instance, LanLab, Router, Tandem, stays, wait_until
from tests.lab.router import STATUS_SCHEMA
from tests.openwrt_pieces import USR, needs_ubus
from tests.tools.json_schema import problems

from .ubusd import RawClient, Ubusd

pytestmark = needs_ubus

VIP = "192.168.1.4"
V1 = Instance("V1", "eth0", 51, (f"{VIP}/24",), priority=150, advert_s=0.1, version=3)
Open = Callable[[Any], Any]


def pair(open_lab: Open, socket: str) -> LanLab:
    """Two routers, r1 on ubus."""
    first = Tandem((V1,), ubus=(socket, str(USR / "lib")))
    lab: LanLab = open_lab(LanLab([first, Tandem((replace(V1, priority=100),))]))
    lab.elect()
    return lab


def published(ubusd: Ubusd) -> bool:
    return "tandem" in ubusd.cli("list").split()


@pytest.fixture
def r1(open_lab: Open, ubusd: Ubusd) -> Router:
    router = pair(open_lab, ubusd.socket).routers[0]
    wait_until(lambda: published(ubusd), 10, "the object is there")
    return router


def test_status_is_the_same_as_on_the_control_socket(r1: Router, ubusd: Ubusd) -> None:
    said, known = ubusd.call("tandem", "status"), Tandem.request(r1, "status")
    assert not list(problems(said, STATUS_SCHEMA))
    assert said["instances"][0]["state"] == "MASTER"
    assert still(said) == still(known)


def test_a_status_of_some_parts_has_no_others(r1: Router, ubusd: Ubusd) -> None:
    found = ubusd.call("tandem", "status", only="groups  router_id nothing")
    assert set(found) == {"groups", "router_id"} and found["groups"][0]["state"] == "MASTER"


MOVING = {"uptime_s", "since_s", "since", "last_advert_s", "late_max_ms", "late_count", "counters", "time"}


def still(value: Any) -> Any:
    """The value without what changes from one moment to the next: of that, the names."""
    if isinstance(value, dict):
        return {name: None if name in MOVING else still(item) for name, item in value.items()}
    return [still(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "arguments", ['{"group": 5}', '{"group": {}}', '{"group": null}', '{"other": "V1"}', '{"group": "a\\tb"}']
)
def test_other_arguments_than_the_policy_allows_are_refused(r1: Router, ubusd: Ubusd, arguments: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        ubusd.cli("call", "tandem", "standby", arguments)
    assert "Invalid argument" in refused.value.stderr
    assert r1.states() == {"V1": "MASTER"}


def test_the_reason_of_a_refusal_comes_with_it(r1: Router, ubusd: Ubusd) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        ubusd.cli("call", "tandem", "failover", '{"group": "nobody"}')
    assert json.loads(refused.value.stdout)["error"] == "no group 'nobody'; known: V1"


def test_the_methods_and_their_arguments(r1: Router, ubusd: Ubusd) -> None:
    group = {"group": 3}
    forced = {"group": 3, "force": 3}
    assert ubusd.connect().objects("tandem")["tandem"] == {
        "status": {"only": 3}, "history": {}, "reload": {}, "conntrack": {}, "services": {}, "checks": {},
        "service": {"action": 3, "name": 3, "by": 3},
        "failover": {**forced, "by": 3},
        "standby": {**forced, "once": 3, "by": 3},
        "resume": {**group, "by": 3},
    }  # fmt: skip


def test_commands_do_what_they_do_on_the_control_socket(open_lab: Open, ubusd: Ubusd) -> None:
    lab = pair(open_lab, ubusd.socket)
    r1, r2 = lab.routers
    wait_until(lambda: published(ubusd), 10)
    assert ubusd.call("tandem", "failover") == {"groups": {"V1": "BACKUP"}}
    wait_until(lambda: lab.active is r2, 10)
    assert ubusd.call("tandem", "standby", group="V1") == {"groups": {"V1": "FAULT"}}
    assert ubusd.call("tandem", "resume", ubus_rpc_session="0" * 32) == {"groups": {"V1": "BACKUP"}}
    wait_until(lambda: lab.active is r1, 10, explain=r1.log)
    history = ubusd.call("tandem", "history")["transitions"]
    assert [one["state"] for one in history] == ["BACKUP", "MASTER", "BACKUP", "FAULT", "BACKUP", "MASTER"]
    assert all(one["time"] > 1e9 and one["why"] and one["name"] == "V1" for one in history)


def test_reload_waits_and_tells_what_is_wrong(r1: Router, ubusd: Ubusd) -> None:
    assert ubusd.call("tandem", "reload") == {"result": "reloaded"}
    r1.file("conf").write_text("config vrrp_instance\n\toption nonsense '1'\n")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        ubusd.call("tandem", "reload")
    assert any("nonsense" in line for line in json.loads(refused.value.stdout)["errors"])
    assert r1.states() == {"V1": "MASTER"}


def test_many_reloads_at_once_are_bounded(r1: Router, ubusd: Ubusd) -> None:
    bus = ubusd.connect()
    found = bus.lookup("tandem")
    answers: list[Any] = []
    for _ in range(30):
        bus.call_async(found, "reload", {}, lambda *answer: answers.append(answer))
    wait_until(lambda: (bus.loop(0.01), len(answers) == 30)[1], 30)
    done = [answer for answer in answers if answer == (0, [{"result": "reloaded"}])]
    refused = [replies[0]["error"] for status, replies in answers if status]
    assert len(done) >= 8 and len(done) + len(refused) == 30
    assert all("try again" in error for error in refused)


def test_what_is_not_configured_says_so(r1: Router, ubusd: Ubusd) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        ubusd.call("tandem", "conntrack")
    assert "not replicated" in json.loads(refused.value.stdout)["error"]


def test_transitions_are_events_and_notifications(r1: Router, ubusd: Ubusd) -> None:
    bus = ubusd.connect()
    heard: list[tuple[str, dict[str, Any]]] = []
    bus.listen("tandem.*", lambda event, data: heard.append((event, data)))
    bus.subscribe("tandem", lambda kind, data: heard.append((kind, data)))
    Tandem.request(r1, "standby")
    wait_until(lambda: (bus.loop(0.01), len(heard) >= 2)[1], 10)
    assert {name for name, _ in heard[:2]} == {"tandem.transition", "transition"}
    transition = heard[0][1]
    assert transition.items() >= {"kind": "instance", "name": "V1", "state": "FAULT"}.items()
    assert transition == heard[1][1] and transition["why"] == "standby"
    assert bus.call("tandem", "history")[0]["transitions"][-1]["state"] == "FAULT"


def test_the_last_words_of_a_daemon_that_stops(r1: Router, ubusd: Ubusd) -> None:
    bus = ubusd.connect()
    heard: list[str] = []
    bus.listen("tandem.transition", lambda _event, data: heard.append(data["state"]))
    assert r1.stop() == 0
    wait_until(lambda: (bus.loop(0.01), heard)[1], 10)
    assert heard == ["STOP"]
    assert "tandem" not in bus.objects()


def test_ubusd_comes_later_and_again(open_lab: Open, ubusd: Ubusd) -> None:
    ubusd.kill()
    r1 = pair(open_lab, ubusd.socket).routers[0]
    for _ in range(2):
        ubusd.start()
        wait_until(lambda: published(ubusd), 15, explain=r1.log)
        assert ubusd.call("tandem", "status")["instances"][0]["state"] == "MASTER"
        ubusd.kill()
    assert r1.active and Tandem.request(r1, "status")["instances"][0]["transitions"] == 2


def test_a_hanging_ubusd_does_not_disturb_the_gateway(open_lab: Open, ubusd: Ubusd) -> None:
    ubusd.freeze()
    lab = pair(open_lab, ubusd.socket)  # it hangs while the daemon starts
    r1, r2 = lab.routers
    ubusd.thaw()
    wait_until(lambda: published(ubusd), 15, explain=r1.log)
    transitions = Tandem.request(r2, "status")["instances"][0]["transitions"]
    ubusd.freeze()
    asked = [ubusd.cli_start("call", "tandem", "status") for _ in range(5)]
    stays(lambda: lab.active is r1, 1.5, "active")
    Tandem.request(r1, "standby")  # there is something to tell
    wait_until(lambda: lab.active is r2, 10, explain=r1.log)
    Tandem.request(r1, "resume")
    wait_until(lambda: lab.active is r1, 10, explain=r1.log)
    assert Tandem.request(r2, "status")["instances"][0]["transitions"] == transitions + 2
    scheduling = Tandem.request(r1, "status")["scheduling"]
    assert scheduling["turn_max_ms"] < 500, "libubus itself would wait 30 s, or for ever"
    ubusd.thaw()
    for one in asked:
        one.communicate(timeout=20)
    assert ubusd.call("tandem", "status")["instances"][0]["state"] == "MASTER"


def test_a_flood_of_calls_does_not_disturb_the_gateway(open_lab: Open, ubusd: Ubusd) -> None:
    lab = pair(open_lab, ubusd.socket)
    r1, r2 = lab.routers
    wait_until(lambda: published(ubusd), 10)
    before = Tandem.request(r2, "status")["instances"][0]["transitions"]
    bus = ubusd.connect()
    found, asked = bus.lookup("tandem"), 0
    answers: list[int] = []
    while len(answers) < 1000:
        while asked - len(answers) < 50:
            bus.call_async(found, "status", {}, lambda status, _replies: answers.append(status))
            asked += 1
        bus.loop(0)
    wait_until(lambda: (bus.loop(0.01), len(answers) == asked)[1], 30)
    assert not any(answers)
    assert lab.active is r1 and Tandem.request(r2, "status")["instances"][0]["transitions"] == before


def test_memory_stays_below_15_mib(r1: Router, ubusd: Ubusd) -> None:
    for _ in range(20):
        ubusd.call("tandem", "status")
    assert r1.cost().rss_kib < 15 * 1024
    assert "libubus" in Path(f"/proc/{r1.pid}/maps").read_text()


def test_without_libubus_nothing_is_loaded(open_lab: Open, tmp_path: Path) -> None:
    lab: LanLab = open_lab(LanLab([Tandem((V1,), ubus=(str(tmp_path / "ubus.sock"), str(tmp_path)))]))
    lab.start()
    r1 = lab.routers[0]
    wait_until(lambda: r1.active, 15, explain=r1.log)
    assert "libubus" not in Path(f"/proc/{r1.pid}/maps").read_text()
    assert "ubus" not in r1.log()


def test_garbage_on_the_bus_does_not_disturb_the_gateway(r1: Router, ubusd: Ubusd) -> None:
    """Calls and events that no library makes, while it is being called as well."""
    found = ubusd.connect().lookup("tandem")
    rng = random.Random(7)
    good = encode({"group": "nobody", "data": {"id": 1, "path": "network.interface"}})[4:]
    with RawClient(ubusd.socket) as raw:
        for number in range(300):
            body = bytearray(good)
            for _ in range(rng.randrange(1, 4)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            raw.invoke(found, rng.choice(("failover", "standby", "history", "?")), bytes(body))
            event = encode({"id": "ubus.object.add", "data": {"path": number}})[4:]
            raw.invoke(1, "send", event)
    assert ubusd.call("tandem", "status")["instances"][0]["state"] == "MASTER"
    assert r1.running
