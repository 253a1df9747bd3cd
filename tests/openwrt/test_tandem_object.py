# SPDX-License-Identifier: GPL-2.0-or-later
"""The object `tandem` of a running daemon, on a real ubusd."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.lab import Instance, LanLab, Router, Tandem, wait_until
from tests.openwrt_pieces import USR, needs_ubus

from .ubusd import Ubusd

pytestmark = needs_ubus

VIP = "192.168.1.4"
V1 = Instance("V1", "eth0", 51, (f"{VIP}/24",), priority=150, advert_s=0.1, version=3)
Open = Callable[[Any], Any]


def pair(open_lab: Open, socket: str) -> LanLab:
    """Two routers, r1 on ubus."""
    first = Tandem((V1,), ubus=(socket, str(USR / "lib")))
    lab: LanLab = open_lab(LanLab([first, Tandem((replace(V1, priority=100),))]))
    lab.start()
    wait_until(lambda: lab.active is lab.routers[0], 15, "r1 is active")
    return lab


def published(ubusd: Ubusd) -> bool:
    return "tandem" in ubusd.cli("list").split()


@pytest.fixture
def r1(open_lab: Open, ubusd: Ubusd) -> Router:
    router = pair(open_lab, ubusd.socket).routers[0]
    wait_until(lambda: published(ubusd), 10, "the object is there")
    return router


def test_status_is_the_same_as_on_the_control_socket(r1: Router, ubusd: Ubusd) -> None:
    said = ubusd.call("tandem", "status")
    known = Tandem.request(r1, "status")
    assert said.keys() == known.keys()
    assert said["instances"][0]["state"] == "MASTER"
    assert said["pid"] == known["pid"] and said["history"] == known["history"]


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
