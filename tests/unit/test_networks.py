# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of networks and their devices, in every order in which netifd, ubusd and the daemon may come up."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest

from tandem.config.load import load_text
from tandem.log import Logger
from tandem.openwrt import libubus as lib
from tandem.openwrt import netifd
from tandem.openwrt.netifd import HOLD_NS, Networks, names_in
from tandem.openwrt.ubus import UbusError
from tests.lab.log import Lines


class FakeLoop:
    """Time that stands still until `pass_ns`."""

    def __init__(self) -> None:
        self.time = 0
        self.timers: dict[Hashable, tuple[int, Callable[[int], None]]] = {}

    def now(self) -> int:
        return self.time

    def call_at(self, key: Hashable, when: int, callback: Callable[[int], None]) -> None:
        self.timers[key] = (when, callback)

    def pass_ns(self, duration: int) -> None:
        self.time += duration
        for key, (when, callback) in list(self.timers.items()):
            if when <= self.time:
                del self.timers[key]
                callback(self.time)


class FakeBus:
    """ubusd and netifd: `networks` are those that netifd knows; None: ubusd is not there."""

    def __init__(self) -> None:
        self.connected = True
        self.networks: dict[str, dict[str, Any]] | None = None
        self.questions: list[tuple[str, Callable[[int, list[dict[str, Any]]], None]]] = []
        self.settings: list[tuple[str, list[str]]] = []
        self.orders: list[tuple[str, str]] = []  # network, "up" or "down"
        self.cancelled = 0
        self.hangs = False
        self.notify: Callable[[str, dict[str, Any]], None] = lambda _kind, _data: None
        self.gone: Callable[[], None] = lambda: None
        self.event: Callable[[str, dict[str, Any]], None]

    def attempt(self, action: Callable[[], None]) -> bool:
        if self.hangs:
            return False
        action()
        return True

    def soon(self, step: Callable[[], None]) -> None:
        try:
            step()
        except UbusError:
            pass  # the connection counts it

    def listen(self, _pattern: str, callback: Callable[[str, dict[str, Any]], None]) -> None:
        self.event = callback

    def subscribe(self, _path: str, callback: Any, gone: Any, _only: Any) -> int:
        if self.networks is None:
            raise UbusError(lib.NOT_FOUND)
        self.notify, self.gone = callback, gone
        return 7

    def call_async(
        self, object_id: int, method: str, arguments: dict[str, Any] | None, done: Any, _only: Any = None
    ) -> Any:
        if method in ("up", "down"):
            assert arguments is None and self.networks is not None
            self.orders.append((list(self.networks)[object_id - 100], method))
            return None
        assert object_id == 7 and arguments is not None
        if method == "set_data":
            self.set_data(**arguments)
            return None
        assert method == "status"
        self.questions.append((arguments["interface"], done))
        return self.questions[-1]

    def lookup(self, path: str) -> int:
        name = path.removeprefix("network.interface.")
        if name not in (self.networks or {}):
            raise UbusError(lib.NOT_FOUND)
        return 100 + list(self.networks or {}).index(name)

    def set_data(self, interface: str, dns: list[str]) -> None:
        """As netifd does it: the answer to a change is a notification of the whole."""
        assert self.networks is not None
        self.settings.append((interface, dns))
        network = self.networks[interface]
        if network.get("data", {}).get("dns") != dns:
            network["data"] = {**network.get("data", {}), "dns": dns}
            self.notify("interface.update", {"interface": interface, **network})

    def cancel(self, _pending: Any) -> None:
        self.cancelled += 1

    def answer(self) -> None:
        questions, self.questions = self.questions, []
        for name, done in questions:
            known = (self.networks or {}).get(name)
            done(lib.NOT_FOUND if known is None else lib.OK, [] if known is None else [known])


class Case:
    """A Networks that follows lan and eth0; `told` is what it said last."""

    def __init__(self, expected: bool) -> None:
        self.loop, self.bus, self.told = FakeLoop(), FakeBus(), {}
        self.bus.bus = self.bus  # type: ignore[attr-defined]
        self.lines = Lines()
        self.followed: list[tuple[str, bool, bool]] = []  # network, whether it is up, whether that is news
        log = Logger("info", self.lines)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(netifd, "PROGRAM", "/" if expected else "/nothing")
            self.networks = Networks(self.bus, self.loop, log, self.tell, self.hear)  # type: ignore[arg-type]
        self.networks.follow(["lan", "eth0"])
        self.networks.start()

    def tell(self, devices: dict[str, str | None]) -> None:
        self.told = devices

    def hear(self, name: str, status: dict[str, Any], fresh: bool) -> None:
        self.followed.append((name, status["up"], fresh))

    def connect(self) -> None:
        for step in self.networks.steps():
            step()


UP = {"up": True, "l3_device": "br-lan", "device": "br-lan"}


def test_without_netifd_a_name_is_a_device_at_once() -> None:
    assert Case(expected=False).told == {}


def test_a_name_is_held_until_netifd_has_answered() -> None:
    case = Case(expected=True)
    assert case.told == {"lan": None, "eth0": None}
    case.bus.networks = {"lan": UP}
    case.connect()
    assert case.told == {"lan": None, "eth0": None}
    case.bus.answer()
    assert case.told == {"lan": "br-lan"}


def test_a_netifd_that_does_not_come_is_not_waited_for_for_ever() -> None:
    case = Case(expected=True)
    case.connect()
    case.loop.pass_ns(HOLD_NS - 1)
    assert case.told == {"lan": None, "eth0": None}
    case.loop.pass_ns(1)
    assert case.told == {}
    case.bus.networks = {"lan": UP}
    case.bus.event("ubus.object.add", {"id": 7, "path": "network.interface"})
    case.bus.answer()
    assert case.told == {"lan": "br-lan"}


def test_a_question_without_an_answer_is_asked_again() -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": UP}
    case.connect()
    assert sorted(name for name, _ in case.bus.questions) == ["eth0", "lan"]
    for times in (1, 2, 3):
        case.bus.questions.clear()
        case.loop.pass_ns(netifd.ANSWER_NS - 1)
        assert case.bus.questions == []
        case.loop.pass_ns(1)
        assert case.bus.cancelled == 2 * times
    case.bus.answer()
    assert case.told == {"lan": "br-lan"}


@pytest.mark.parametrize("status", [lib.OK, lib.TIMEOUT])
def test_an_answer_that_says_nothing_is_none(status: int) -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": UP}
    case.connect()
    for _, done in case.bus.questions:
        done(status, [])
    assert case.told == {"lan": None, "eth0": None}
    case.bus.questions.clear()
    case.loop.pass_ns(netifd.ANSWER_NS)
    case.bus.answer()
    assert case.told == {"lan": "br-lan"}


def test_a_question_that_could_not_be_sent_is_asked_later() -> None:
    case = Case(expected=True)
    case.bus.networks, case.bus.hangs = {"lan": UP}, True
    case.connect()
    assert case.bus.questions == []
    case.bus.hangs = False
    case.loop.pass_ns(netifd.ANSWER_NS)
    case.bus.answer()
    assert case.told == {"lan": "br-lan"}
    case.loop.pass_ns(10 * netifd.ANSWER_NS)
    assert case.bus.questions == []  # nothing more to ask


def test_the_layer_3_device_counts_and_only_while_up() -> None:
    case = Case(expected=False)
    case.bus.networks = {"lan": {"up": True, "l3_device": "pppoe-wan", "device": "eth1"}}
    case.connect()
    case.bus.answer()
    assert case.told == {"lan": "pppoe-wan"}
    case.bus.notify("interface.down", {"interface": "lan", "up": False, "device": "eth1"})
    assert case.told == {"lan": None}
    case.bus.notify("interface.update", {"interface": "lan", "up": True, "device": "eth1"})
    assert case.told == {"lan": "eth1"}
    for garbage in ({"up": True}, {"up": "yes", "device": "eth1"}, {"up": True, "l3_device": 5}, {}):
        case.bus.notify("interface.update", {"interface": "lan", **garbage})
        assert case.told == {"lan": None}, garbage
    case.bus.notify("interface.update", {"interface": "other", "up": True, "device": "eth1"})
    case.bus.notify("interface.update", {"up": True, "device": "eth1"})
    assert case.told == {"lan": None}


def test_what_is_known_outlives_netifd_and_ubusd() -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": UP}
    case.connect()
    case.bus.answer()
    case.bus.gone()
    case.networks.lost()
    assert case.told == {"lan": "br-lan"}
    case.bus.networks = {"lan": {**UP, "l3_device": "eth5"}}
    case.connect()
    assert case.told == {"lan": "br-lan"}
    case.bus.answer()
    assert case.told == {"lan": "eth5"}


def test_a_network_that_is_deleted_does_not_become_a_device() -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": UP}
    case.connect()
    case.bus.answer()
    case.bus.networks = {}
    case.networks.lost()
    case.connect()
    case.bus.answer()
    assert case.told == {"lan": None}
    case.bus.networks = {"lan": UP}
    case.bus.event("ubus.object.add", {"id": 8, "path": "network.interface.lan"})
    case.bus.event("ubus.object.add", {"id": 9, "path": "network.interface.other"})
    assert [name for name, _ in case.bus.questions] == ["lan"]
    case.bus.answer()
    assert case.told == {"lan": "br-lan"}


def test_other_names_after_a_reload() -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": UP, "wan": {"up": True, "l3_device": "eth1"}}
    case.connect()
    case.bus.answer()
    case.networks.follow(["wan"])
    assert case.told == {"wan": None}  # held until netifd has answered
    case.bus.answer()
    assert case.told == {"wan": "eth1"}


def test_the_names_of_a_configuration() -> None:
    text = """
config globals 'globals'
	option enabled '1'
config vrrp_instance
	option name 'V'
	option interface 'lan'
	option virtual_router_id '5'
	list virtual_ipaddress '192.168.1.4/24'
	list virtual_ipaddress '192.168.7.4/24 dev br-guest'
	list virtual_ipaddress_excluded '10.0.0.1/24 dev guest'
	list virtual_routes '10.1.0.0/16 via 10.0.0.2 dev dmz'
	list virtual_routes '10.2.0.0/16 nexthop via 10.0.0.2 dev hop_1 nexthop via 10.0.0.3 dev eth0.2'
	list track_interface 'wan'
config static_ipaddress
	list address '10.3.0.1/24 dev static1'
config conntrack_sync
	option enabled '1'
	option secret 'at least sixteen bytes'
	list peer '192.168.1.3 dev sync'
	list peer 'fe80::2%scope'
config check 'ping'
	option kind 'ping'
	option host '192.0.2.1'
	option interface 'checked'
config internet 'targets'
	option network 'line'
	list check 'ping'
"""
    loaded = load_text(text, "test")
    assert loaded.config is not None, loaded
    assert names_in(loaded.config) == {
        "lan", "guest", "dmz", "hop_1", "wan", "static1", "sync", "scope", "checked", "line"
    }  # fmt: skip


def test_odhcpd_gets_the_virtual_resolver_by_netifd() -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": dict(UP), "guest": dict(UP, l3_device="br-guest"), "eth0": {"up": False}}
    case.connect()
    case.bus.answer()
    assert case.bus.settings == []
    case.networks.follow(["lan"], {"lan": ("fd00::4",), "guest": ("fd01::4",)})
    case.bus.answer()
    assert sorted(case.bus.settings) == [("guest", ["fd01::4"]), ("lan", ["fd00::4"])]
    assert case.told == {"lan": "br-lan"}  # guest is no name of the configuration
    # netifd forgets it when the network goes down.
    case.bus.networks["lan"] = {"up": False}
    case.bus.notify("interface.down", {"interface": "lan", "up": False})
    case.bus.networks["lan"] = dict(UP)
    case.bus.notify("interface.update", {"interface": "lan", **UP})
    assert case.bus.settings[2:] == [("lan", ["fd00::4"])]
    # Another one after a reload, and none.
    case.networks.follow(["lan"], {"lan": ("fd00::5",)})
    case.bus.answer()
    assert sorted(case.bus.settings[3:]) == [("guest", []), ("lan", ["fd00::5"])]
    case.networks.follow(["lan"])
    case.bus.answer()
    assert case.bus.networks["lan"]["data"] == {"dns": []}


def test_what_somebody_else_told_netifd_stays() -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": dict(UP, data={"dns": ["fd00::53"], "zone": "x"})}
    case.networks.follow(["lan"], {"lan": ("fd00::4",)})
    case.connect()
    case.bus.answer()
    assert case.bus.settings == []


def test_what_netifd_says_of_a_network_is_logged_when_it_changes() -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": UP}
    case.connect()
    case.bus.answer()
    case.bus.notify("interface.update", {"interface": "lan", **UP})
    case.bus.notify("interface.down", {"interface": "lan", "up": False})
    assert case.lines.lines == ["info network lan: device br-lan", "info network lan: down"]


# Networks that follow the role


def test_the_owner_hears_of_followed_networks_and_whether_it_is_news() -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": UP, "wan": {"up": False}, "guest": UP}
    case.connect()
    case.networks.follow(["lan", "eth0"], followed=frozenset({"wan"}))
    case.bus.answer()
    assert case.followed == [("wan", False, False)]
    case.bus.notify("interface.update", {"interface": "wan", "up": True, "l3_device": "eth1"})
    case.bus.notify("interface.update", {"interface": "lan", **UP})
    case.bus.notify("interface.update", {"interface": "guest", **UP})
    assert case.followed[1:] == [("wan", True, True)]
    assert case.told == {"lan": "br-lan"}, "it is no name of an interface"


def test_a_further_network_is_heard_of_when_its_status_is_asked_for() -> None:
    case = Case(expected=True)
    case.bus.networks = {"lan": UP, "wan": {"up": True, "l3_device": "eth1"}}
    case.connect()
    case.bus.answer()
    case.networks.ask("status", "wan")
    assert case.told == {"lan": "br-lan", "wan": None} and case.followed == []
    case.bus.answer()
    assert case.told == {"lan": "br-lan", "wan": "eth1"} and case.followed == [("wan", True, False)]
    case.bus.notify("interface.down", {"interface": "wan", "up": False})
    assert case.told == {"lan": "br-lan", "wan": None} and case.followed[1:] == [("wan", False, True)]
    case.networks.follow(["lan"])
    assert case.told == {"lan": "br-lan", "wan": None}, "a reload does not forget it"


def test_a_network_is_brought_up_and_down_when_netifd_is_there() -> None:
    case = Case(expected=True)
    case.networks.ask("up", "wan")
    assert case.bus.orders == []
    case.bus.networks = {"lan": UP, "wan": {"up": False}}
    case.connect()
    assert case.bus.orders == [("wan", "up")]
    case.networks.ask("down", "wan")
    assert case.bus.orders[1:] == [("wan", "down")]
    case.bus.gone()
    case.bus.event("ubus.object.add", {"id": 7, "path": "network.interface"})
    assert case.bus.orders[2:] == [("wan", "down")], "netifd is a new one, and hears the last word"
    case.bus.event("ubus.object.add", {"id": 9, "path": "network.interface.wan"})
    case.bus.event("ubus.object.add", {"id": 9, "path": "network.interface.lan"})
    case.bus.event("ubus.object.add", {"id": 9, "path": "network.device"})
    assert case.bus.orders[3:] == [("wan", "down")], "the network is a new one"
