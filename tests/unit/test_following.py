# SPDX-License-Identifier: GPL-2.0-or-later
"""Following: what a takeover does to the device, to netifd and to the peers, in this order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tandem.config.schema import Follow
from tandem.core.lease import Lease
from tandem.core.timers import MILLISECOND, SECOND
from tandem.effects.netlink import Unbound
from tandem.effects.process import Exit
from tandem.effects.rtmessages import AddressMessage, LinkMessage
from tandem.follow.following import DELETE_AFTER, Following
from tandem.follow.lans import LANS_MAX
from tandem.follow.lease import pack
from tandem.follow.losses import RESTORES_MAX
from tests.unit.follow_stage import LEASE, Stage, bound, followed, plan, set_stage
from tests.unit.test_follow_lease import MAC, STATUS
from tests.unit.test_follow_lease6 import LAN, STATUS6, WHOLE


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return set_stage(monkeypatch)


@pytest.fixture
def found(stage: Stage) -> Following:
    return followed(stage)


def test_a_takeover_with_the_lease_of_the_peer(stage: Stage, found: Following) -> None:
    found.received("r2", pack({"wan": LEASE}, 0))
    assert stage.take() == []
    found.begin("G")
    assert stage.take() == ["create", "place 203.0.113.7", "up wan"]
    assert [line for line in stage.lines if "203.0.113.7" in line and "of the peer is in place" in line]
    found.status("wan", STATUS, fresh=True)
    assert stage.take() == ["renew 203.0.113.7", "tell r2 203.0.113.7"]
    assert found.networks()[0]["state"] == "bound" and not stage.readers
    found.end("G")
    assert stage.take() == ["remove 203.0.113.7"] and stage.gone == [0]
    stage.run(DELETE_AFTER)
    assert stage.take() == ["delete"]
    stage.run(5 * SECOND)
    assert set(stage.take()) == {"deleted"}  # netifd may have set the port down


def test_a_lent_lease_that_netifd_clears_is_back_at_once(stage: Stage, found: Following) -> None:
    found.received("r2", pack({"wan": LEASE}, 0))
    found.begin("G")
    stage.take()
    (changed,) = stage.readers.values()
    down = LinkMessage(True, 7, "wan0", 0, True, 6, b"", 1500)
    gone = AddressMessage(False, 7, 4, b"\xcb\x00\x71\x07", 24, 0, 0, 0, 0)
    for message, restored in (
        (down, True), (gone, True), (LinkMessage(True, 7, "wan0", 1, True, 6, b"", 1500), False),
        (AddressMessage(True, 7, 4, b"\xcb\x00\x71\x07", 24, 0, 0, 0, 0), False),
        (AddressMessage(False, 8, 4, b"\0\0\0\0", 24, 0, 0, 0, 0), False),
    ):  # fmt: skip
        stage.messages = [message]
        changed()
        assert stage.take() == (["raise_device", "place 203.0.113.7"] if restored else [])
    for _ in range(2 * RESTORES_MAX):
        stage.messages = [gone]
        changed()
    assert len(stage.take()) == 2 * (RESTORES_MAX - 2)  # nobody is fought for ever


def test_a_quick_return_keeps_the_device(stage: Stage, found: Following) -> None:
    found.begin("G")
    found.status("wan", STATUS, fresh=True)
    found.end("G")
    stage.take()
    found.begin("G")
    stage.run(SECOND)
    assert stage.take() == ["create", "place 203.0.113.7", "up wan"]  # and no delete


def test_a_device_that_cannot_be_made_is_tried_again(stage: Stage, found: Following) -> None:
    stage.refuses = ("wan0: Device or resource busy",)
    found.begin("G")
    assert found.trouble == ["wan: wan0: Device or resource busy"]
    stage.refuses = ()
    found.refresh()
    assert stage.take()[-1] == "create" and found.trouble == []


def test_a_peer_with_another_mac_address_is_told_of(stage: Stage, found: Following) -> None:
    other = Lease("wan", "02:00:00:00:00:09", "203.0.113.7", 24, 100 * SECOND)
    found.received("r2", pack({"wan": other}, 0))
    assert found.trouble == [f"wan: r2 has the MAC address 02:00:00:00:00:09, and this router {MAC}"]
    found.received("r2", pack({"wan": LEASE}, 0))
    assert found.trouble == []
    found.received("r2", b"nonsense")
    assert stage.lines[-1] == "follow: r2 sent something that is no lease"


def test_a_backup_that_somebody_has_brought_up_is_taken_down(stage: Stage, found: Following) -> None:
    found.status("wan", STATUS, fresh=True)
    stage.run(100 * MILLISECOND)
    assert "down wan" in stage.take()


def test_a_reload_without_the_network_and_the_end(stage: Stage, found: Following) -> None:
    found.begin("G")
    found.status("wan", STATUS, fresh=True)
    stage.take()
    found.take_plan(plan(), ("G",))
    assert stage.take() == ["remove 203.0.113.7", "delete"] and found.networks() == []
    found.take_plan(plan("wan"), ("G",))
    assert stage.take() == ["create", "up wan"]
    found.stop()
    assert stage.take() == ["delete", "close"] and not stage.readers


def test_a_network_that_a_reload_has_left_out_has_no_deadlines(stage: Stage, found: Following) -> None:
    found.received("r2", pack({"wan": LEASE}, 0))
    found.begin("G")
    found.take_plan(plan(), ("G",))
    stage.take()
    stage.run(LEASE.until + SECOND)
    assert set(stage.take()) == {"delete", "deleted"}, "netifd may have made the device again"
    assert found.networks() == []


def test_a_peer_that_comes_is_told_the_lease(stage: Stage, found: Following) -> None:
    found.peer_opened("r3")
    assert stage.take() == [], "a backup has none of its own"
    bound(stage, found)
    found.peer_closed("r3")
    found.peer_opened("r4")
    assert stage.take() == ["tell r4 203.0.113.7"]
    found.status("wan", STATUS, fresh=True)
    assert sorted(stage.take()[1:]) == ["tell r2 203.0.113.7", "tell r4 203.0.113.7"]


def test_a_network_that_is_lost_is_told_and_its_connections_end_when_the_address_changes(
    stage: Stage, found: Following
) -> None:
    bound(stage, found)
    found.status("wan", {"up": False}, fresh=True)
    assert stage.take() == ["remove 203.0.113.7 (active)", "tell r2 nothing"]
    found.status("wan", STATUS, fresh=True)
    stage.take()
    other = STATUS | {"ipv4-address": [{"address": "203.0.113.8", "mask": 24}]}
    found.status("wan", other, fresh=True)
    flush = "-IS flush.py 203.0.113.7"
    told = ["renew 203.0.113.8", "tell r2 203.0.113.8"]
    assert stage.take() == ["remove 203.0.113.7 (active)", "at most 8 programs", flush, *told]
    stage.ended(Exit(0, 0))
    stage.lines.clear()
    found.status("wan", STATUS, fresh=True)
    assert stage.take()[1] == flush.replace("113.7", "113.8"), "by the programs that are there"
    stage.ended(Exit(1, 0))
    assert stage.lines == [
        "wan: 203.0.113.8 is lost: its connections end",
        "wan: 203.0.113.7/24, for 120 s,",
        "wan: the connections of 203.0.113.8 are not ended: exit status 1",
    ]
    found.stop()
    assert stage.take()[-2:] == ["end programs", "close"]


def test_the_lifetime_of_the_address_is_renewed(stage: Stage, found: Following) -> None:
    found.refresh()
    assert stage.take() == [], "nothing is in place on a backup"
    bound(stage, found)
    stage.fails = ("address 203.0.113.7: Permission denied",)
    found.refresh()
    assert stage.take() == ["renew 203.0.113.7"]
    assert found.trouble == ["wan: address 203.0.113.7: Permission denied"]
    assert "wan: address 203.0.113.7: Permission denied" in stage.lines
    stage.fails = ()
    found.refresh()
    assert found.trouble == []


def test_a_gateway_with_another_mac_address_is_told(stage: Stage, found: Following) -> None:
    stage.next_hops = (("203.0.113.1", "00:90:1a:00:00:01"),)
    bound(stage, found)
    assert found._networks["wan"].lease.next_hops == stage.next_hops  # type: ignore[union-attr]
    found.refresh()
    assert stage.take() == ["renew 203.0.113.7"], "nothing is new"
    stage.next_hops = (("203.0.113.1", "00:90:1a:00:00:02"),)
    found.refresh()
    assert stage.take()[-1] == "tell r2 203.0.113.7"
    assert found._networks["wan"].lease.next_hops == stage.next_hops  # type: ignore[union-attr]
    found.peer_closed("r2")
    stage.next_hops = ()
    found.refresh()
    assert stage.take() == ["renew 203.0.113.7"], "nobody is there to hear it"


def test_a_device_that_somebody_deletes_is_made_again_with_its_address(
    stage: Stage, found: Following
) -> None:
    bound(stage, found)
    stage.index = None
    found.refresh()
    assert stage.take() == ["create", "place 203.0.113.7"]
    stage.index, stage.time = None, 120 * SECOND
    found.refresh()
    assert stage.take() == ["create"], "the lease has expired"


def test_a_port_that_is_missing_is_told(stage: Stage, found: Following) -> None:
    stage.refuses = Unbound(("eth1",))
    found.begin("G")
    assert found.trouble == ["wan: there is no interface eth1"]
    assert found.networks()[0]["problem"] == "there is no interface eth1"


def test_a_port_that_is_not_silent_is_told(stage: Stage, found: Following) -> None:
    stage.fails = ("no IPv6",)
    found.take_plan(plan("wan"), ())
    assert stage.lines == ["wan: no IPv6"]


def test_a_reload_keeps_a_network_and_makes_a_changed_one_anew(stage: Stage, found: Following) -> None:
    bound(stage, found)
    found.take_plan(plan("wan"), ("G",))
    assert stage.take() == [] and found.networks()[0]["state"] == "bound"
    found.take_plan(plan("wan", device="wan1"), ("G",))
    assert stage.take() == ["remove 203.0.113.7", "delete", "create", "up wan"]
    found.take_plan(plan("wan", device="wan1"), ())
    assert found.networks()[0]["state"] == "away"


def test_a_network_that_is_gone_has_no_trouble(stage: Stage, found: Following) -> None:
    other = Lease("wan", "02:00:00:00:00:09", "203.0.113.7", 24, 100 * SECOND)
    found.received("r2", pack({"wan": other}, 0))
    found.take_plan(plan(), ())
    assert found.trouble == []
    found.take_plan(plan("wan"), ())
    assert found.trouble == []


def test_a_network_of_netifd_alone_is_only_asked_for(stage: Stage, found: Following) -> None:
    for _ in range(2):  # a reload changes nothing
        found.take_plan(plan("wan", device=""), ())
    stage.take()
    found.begin("G")
    found.status("wan", STATUS, fresh=True)
    assert stage.take() == ["up wan", "tell r2 203.0.113.7"]
    assert (found.networks()[0]["device"], found.networks()[0]["port"]) == (None, None)
    found.end("G")
    assert stage.take() == ["down wan"]


def test_the_status_of_a_network(stage: Stage, found: Following) -> None:
    away: dict[str, Any] = {
        "name": "wan", "group": "G", "state": "away", "device": "wan0", "port": "eth1", "mac": MAC,
        "address": None, "prefixes": [], "lease_left_s": None, "server": None, "problem": None,
    }  # fmt: skip
    assert found.networks() == [away]
    bound(stage, found)
    leased = {"state": "bound", "address": "203.0.113.7/24", "lease_left_s": 120, "server": "203.0.113.1"}
    assert found.networks() == [away | leased]
    stage.time = 120 * SECOND
    assert found.networks() == [away | {"state": "bound"}], "the lease has expired"


def test_a_lent_lease_that_expires_is_taken_away(stage: Stage, found: Following) -> None:
    """The provider has not answered in all its time, and may give the address to somebody else."""
    found.received("r2", pack({"wan": LEASE}, 0))
    found.begin("G")
    stage.take()
    stage.run(LEASE.until - 1)
    assert stage.take() == []
    stage.run(LEASE.until)
    assert stage.take()[0] == "remove 203.0.113.7 (active)" and found.networks()[0]["state"] == "asking"


def test_a_port_that_has_appeared_is_silenced(stage: Stage, found: Following) -> None:
    stage.lines.clear()
    stage.fails = ("no IPv6",)
    found.refresh()
    assert stage.lines == ["wan: no IPv6"]


def test_an_older_word_of_netifd_does_not_shorten_a_lease(stage: Stage, found: Following) -> None:
    """netifd does not say when it got the lease: it counts half, unless this router knows better."""
    bound(stage, found)
    found.status("wan", STATUS, fresh=False)
    assert found.networks()[0]["lease_left_s"] == 120
    found.status("wan", STATUS | {"ipv4-address": [{"address": "203.0.113.8", "mask": 24}]}, fresh=False)
    assert found.networks()[0]["lease_left_s"] == 60


# IPv6: a network on the device of another one


@pytest.fixture
def both(stage: Stage, found: Following) -> Following:
    found.take_plan(plan("wan6", "wan"), ())  # the order of the list does not matter
    stage.take()
    return found


PREFIX, OWN = "2001:db8:1::", "2001:db8:1::1"


def test_a_changed_port_begins_anew_with_all_that_is_on_it(stage: Stage, both: Following) -> None:
    both.begin("G")
    both.status("wan6", STATUS6, fresh=True)
    stage.take()
    both.take_plan(plan("wan", "wan6", port="eth2"), ("G",))
    assert [network["state"] for network in both.networks()] == ["asking", "asking"]
    assert both.networks()[1]["prefixes"] == [], "a lease of the former port"


def test_a_takeover_with_address_and_prefix(stage: Stage, both: Following) -> None:
    both.received("r2", pack({"wan": LEASE, "wan6": WHOLE}, 0))
    assert stage.take() == ["status lan", f"hold {PREFIX} {OWN}"]
    both.status("lan", LAN | {"up": False}, fresh=False)
    assert stage.take() == []
    both.status("lan", LAN | {"up": True}, fresh=False)  # now its device is known
    assert stage.take() == [f"leave {PREFIX} {OWN}", f"hold {PREFIX} {OWN}"]
    both.begin("G")
    first = ["create", "place 203.0.113.7", "up wan", f"leave {PREFIX} {OWN}"]
    assert stage.take() == [*first, "keep_link_local", f"place {PREFIX} {OWN}", "up wan6"]
    both.status("lan", LAN | {"up": True}, fresh=True)
    assert stage.take() == []
    both.status("wan6", STATUS6 | {"ipv6-prefix": []}, fresh=True)  # an advert, and no answer of DHCPv6
    assert stage.take() == []
    both.status("wan6", STATUS6, fresh=True)
    assert stage.take() == [f"renew {PREFIX} {OWN}", f"tell r2 {PREFIX} {OWN}"]
    both.refresh()
    assert stage.take() == ["renew 203.0.113.7", f"renew {PREFIX} {OWN}"]
    both.end("G")
    assert stage.take() == ["remove 203.0.113.7", f"remove {PREFIX} {OWN}", f"hold {PREFIX} {OWN}"]
    both.status("wan6", {"up": False}, fresh=True)
    assert stage.take() == [f"remove {PREFIX} {OWN}"]  # netifd has left it deprecated
    stage.run(DELETE_AFTER)
    assert stage.take() == ["delete"]
    stage.run(2 * SECOND)
    assert stage.take().count(f"remove {PREFIX} {OWN}") == 3  # netifd is slow, at times
    both.begin("G")
    stage.take()
    stage.run(5 * SECOND)
    assert f"remove {PREFIX} {OWN}" not in stage.take()


def test_the_prefixes_of_a_network_of_netifd_alone_are_left_to_netifd(stage: Stage, found: Following) -> None:
    found.take_plan(plan("wan", "wan6", device=""), ())
    found.received("r2", pack({"wan6": WHOLE}, 0))
    assert found.networks()[1]["prefixes"], "it is known"
    found.begin("G")
    found.status("wan6", STATUS6, fresh=True)
    found.end("G")
    assert not [done for done in stage.take() if done.startswith(("hold", "leave", "place", "remove"))]


def test_the_first_prefix_and_the_address_that_netifd_makes_of_it(stage: Stage, both: Following) -> None:
    both.begin("G")
    assert stage.take() == ["create", "up wan", "keep_link_local", "up wan6"]
    both.refresh()
    assert "keep_link_local" in stage.take()
    both.status("wan6", STATUS6, fresh=True)
    assert stage.take() == ["status lan", f"renew {PREFIX}", f"tell r2 {PREFIX}"]
    both.status("lan", LAN, fresh=True)
    assert stage.take() == [f"renew {PREFIX} {OWN}", f"tell r2 {PREFIX} {OWN}"]
    both.status("lan", LAN, fresh=True)
    assert stage.take() == []
    shown = both.networks()[1]
    assert (shown["name"], shown["state"], shown["device"]) == ("wan6", "bound", "wan0")
    assert (shown["address"], shown["prefixes"]) == ("2001:db8:ff::5/128", ["2001:db8:1::/56"])
    both.status("wan6", {"up": False}, fresh=True)
    assert stage.take() == [f"remove {PREFIX} {OWN} (active)", "tell r2 nothing"]


def test_a_device_that_somebody_has_deleted_gets_both_leases(stage: Stage, both: Following) -> None:
    both.received("r2", pack({"wan": LEASE, "wan6": WHOLE}, 0))
    both.begin("G")
    stage.take()
    stage.index = None
    both.refresh()
    assert stage.take() == ["create", "place 203.0.113.7", "keep_link_local", f"place {PREFIX} {OWN}"]


def test_a_peer_cannot_name_networks_without_end(stage: Stage, both: Following) -> None:
    for number in range(10):
        lans = tuple((f"lan{number}_{one}", WHOLE.lans[0][1]) for one in range(32))
        both.received("r2", pack({"wan6": replace(WHOLE, lans=lans)}, 0))
    assert sum(said.startswith("status ") for said in stage.take()) == LANS_MAX


def test_an_ipv6_address_that_netifd_clears(stage: Stage, both: Following) -> None:
    both.received("r2", pack({"wan": LEASE, "wan6": WHOLE}, 0))
    both.begin("G")
    stage.take()
    (changed,) = stage.readers.values()
    stage.messages = [AddressMessage(False, 7, 6, bytes(16), 64, 0, 0, 0, 0)]
    changed()
    assert stage.take() == ["raise_device", f"place {PREFIX} {OWN}"]


def test_another_mac_address_ends_both_networks(stage: Stage, both: Following) -> None:
    both.received("r2", pack({"wan": LEASE, "wan6": WHOLE}, 0))
    both.begin("G")
    stage.take()
    changed = plan("wan6", "wan")
    changed.config.follows = (changed.config.follows[0], Follow("wan", "eth1", "wan0", "02:00:00:00:00:09"))
    both.take_plan(changed, ("G",))
    said = stage.take()
    assert said[:3] == [f"remove {PREFIX} {OWN}", f"leave {PREFIX} {OWN}", "remove 203.0.113.7"]
    assert said[3:] == ["delete", "create", "up wan", "keep_link_local", "up wan6"]


def test_a_renewal_is_heard_and_told(stage: Stage, found: Following) -> None:
    """netifd says nothing of it: the peers would think that the lease has expired, and not use it."""
    bound(stage, found)
    left = lambda: found.networks()[0]["lease_left_s"]  # noqa: E731
    stage.run(70 * SECOND)
    assert left() == 50
    stage.heard("203.0.113.7", 120)
    assert left() == 120 and stage.take() == ["renew 203.0.113.7", "tell r2 203.0.113.7"]
    stage.heard("203.0.113.9", 900)
    assert left() == 120 and not stage.take(), "the client takes another address by netifd"
    stage.run(80 * SECOND)
    found.status("wan", STATUS, fresh=True)
    assert left() == 110, "the news was about something else"
    found.end("G")
    stage.take()
    stage.heard("203.0.113.7", 900)
    assert not stage.take()
