# SPDX-License-Identifier: GPL-2.0-or-later
"""Agents: command lines, OCF's environment, exit statuses and reasons; and the messages to peers."""

from __future__ import annotations

import pytest

from tandem.core.service import Operation
from tandem.core.service_claims import Hold, Word
from tandem.core.settings import Service
from tandem.services.agents import AGENTS, environment, line, reason_of, status_of, timeout_ms
from tandem.services.messages import pack, unpack

PROBE, START, MONITOR, STOP = Operation.PROBE, Operation.START, Operation.MONITOR, Operation.STOP


@pytest.mark.parametrize(
    ("agent", "lines"),
    [
        (
            "ocf:heartbeat:nginx",
            ["/usr/lib/ocf/resource.d/heartbeat/nginx " + word for word in ("start", "monitor", "stop")],
        ),
        ("procd:x", ["/etc/init.d/x start", "/etc/init.d/x running", "/etc/init.d/x stop"]),
        ("lsb:x", ["/etc/init.d/x start", "/etc/init.d/x status", "/etc/init.d/x stop"]),
        ("systemd:x@1", ["systemctl start x@1", "systemctl is-active --quiet x@1", "systemctl stop x@1"]),
        (
            "docker:x",
            ["docker start x", "docker container inspect --format {{.State.Running}} x", "docker stop x"],
        ),
    ],
)
def test_command_lines(agent: str, lines: list[str]) -> None:
    service = Service("s", agent)
    assert [" ".join(line(service, operation)) for operation in (START, MONITOR, STOP)] == lines
    assert line(service, PROBE) == line(service, MONITOR)


def test_the_environment_of_an_ocf_agent() -> None:
    service = Service("s", "ocf:heartbeat:mysql", params=(("datadir", "/srv"), ("OCF_CHECK_LEVEL", "10")))
    found = environment(service, MONITOR, "r1")
    assert found["OCF_RESKEY_datadir"] == "/srv" and found["OCF_CHECK_LEVEL"] == "10"
    assert (
        found["OCF_RESKEY_CRM_meta_interval"] == "10000" and found["OCF_RESKEY_CRM_meta_timeout"] == "20000"
    )
    assert (found["OCF_RESOURCE_PROVIDER"], found["OCF_RESOURCE_TYPE"]) == ("heartbeat", "mysql")
    assert environment(service, PROBE, "r1")["OCF_RESKEY_CRM_meta_interval"] == "0", (
        "agents know a probe by it"
    )
    assert environment(Service("s", "procd:x"), START, "r1") == {}


def test_each_operation_has_its_time() -> None:
    service = Service("s", "procd:x", start_timeout_ms=1, stop_timeout_ms=2, monitor_timeout_ms=3)
    assert [timeout_ms(service, one) for one in (START, STOP, MONITOR, PROBE)] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("agent", "status", "output", "means"),
    [
        ("ocf:a:b", 5, b"", 5), ("systemd:x", 0, b"", 0), ("systemd:x", 3, b"", 7), ("systemd:x", 4, b"", 5),
        ("lsb:x", 3, b"", 7), ("lsb:x", 1, b"", 7), ("lsb:x", 2, b"", 7), ("lsb:x", 4, b"", 4),
        ("procd:x", 1, b"", 7),
        ("docker:x", 0, b"true\n", 0), ("docker:x", 0, b"false\n", 7), ("docker:x", 1, b"no daemon", 1),
        ("docker:x", 1, b"[]\nError: No such container: x", 5), ("podman:x", 125, b"no such container x", 5),
    ],
)  # fmt: skip
def test_exit_statuses_of_monitors(agent: str, status: int, output: bytes, means: int) -> None:
    assert status_of(Service("s", agent), MONITOR, status, output) == means
    assert status_of(Service("s", agent), STOP, status, output) == status


def test_what_is_not_there_is_stopped() -> None:
    """Otherwise a router without the unit would keep the other one from its start."""
    assert status_of(Service("s", "systemd:x"), STOP, 5, b"Unit x.service not loaded.") == 7
    assert status_of(Service("s", "systemd:x"), START, 5, b"Unit x.service not found.") == 5
    late = b"Cannot connect to the Docker daemon at unix:///var/run/docker.sock."
    assert status_of(Service("s", "docker:x"), PROBE, 1, late) == 7, "Docker starts later at boot"
    assert status_of(Service("s", "docker:x"), MONITOR, 1, late) == 1, "its containers may live on"
    assert status_of(Service("s", "docker:x"), STOP, 1, late) == 1


def test_every_class_can_do_everything() -> None:
    assert all(set(agent.lines) == {START, STOP, MONITOR} for agent in AGENTS.values())


def test_reasons() -> None:
    assert reason_of(b"") == ""
    assert reason_of(b"one\ntwo\n\n") == "two"
    assert reason_of(b'Job for x.service failed.\nSee "systemctl status x"\n') == "Job for x.service failed."
    assert reason_of(b"x\nocf-exit-reason:no such user\nlog: y\n") == "no such user"
    assert reason_of(b"\x1b[31mred\x00" + b"x" * 999) == ("[31mred" + "x" * 999)[:200]


def test_messages() -> None:
    words = {"a": Word(Hold.HELD, True), "b": Word(Hold.FREE, False)}
    assert unpack(pack(words, 3, 2, 1)) == (words, 3, 2, 1)
    for wrong in (
        b"",
        b"x",
        b"[]",
        b"[2,1,1,1,{}]",
        b'[1,1,1,1,{"a":[9,1]}]',
        b"[1,-1,1,1,{}]",
        b"[1,1,true,1,{}]",
        b"[1,0,0,%d,{}]" % (1 << 63),
        b"[" * 9999,
    ):
        assert unpack(wrong) is None
    assert unpack(b"[1,0,0,%d,{}]" % ((1 << 63) - 1)) == ({}, 0, 0, (1 << 63) - 1)
    assert pack(words, 3, 2, 1) == b'[1,3,2,1,{"a":[2,1],"b":[0,0]}]', "other releases read it"


@pytest.mark.parametrize(("hold", "byte"), [("FREE", 0), ("CLAIMED", 1), ("HELD", 2), ("BLOCKED", 3)])
def test_a_hold_has_its_number(hold: str, byte: int) -> None:
    assert pack({"a": Word(Hold[hold], False)}, 0, 0, 0) == b'[1,0,0,0,{"a":[%d,0]}]' % byte


def test_messages_are_bounded() -> None:
    many = {f"{number:064}x": Word(Hold.FREE, True) for number in range(512)}
    found = unpack(pack(many, 1, 1, 1))
    assert found is not None and list(found[0]) == [name[:64] for name in many]
    assert unpack(pack({**many, "one": Word(Hold.FREE, True)}, 1, 1, 1)) is None
