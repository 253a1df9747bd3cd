# SPDX-License-Identifier: GPL-2.0-or-later
"""A neighbour: its connections, and its verdict for each segment; both tables row by row."""

from __future__ import annotations

from itertools import product

import pytest

from tandem.core import neighbour as n
from tandem.core.events import Partner
from tandem.core.neighbour import CHANNEL, Connections, Neighbour, Neighbours, Verdict
from tandem.core.packet import Advertisement
from tandem.core.strangers import SOURCES_MAX
from tandem.core.timers import SECOND

UNKNOWN, KNOWN, IN_STEP = Connections
ALIVE, SUSPECT, PARTITIONED, DEAD = Verdict
R1, R2 = bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))
LATE, LIMIT = SECOND, 3 * SECOND
HEARD, GOODBYE = Advertisement(3, 51, 100, 100, ()), Advertisement(3, 51, 0, 100, ())

# How to bring a neighbour to each state, and what each event leads to.
WAYS: dict[Connections, tuple[str, ...]] = {
    UNKNOWN: (),
    KNOWN: (n.WE_HOLD,),
    IN_STEP: (n.HOLDS_OURS,),
}
LEADS: dict[str, tuple[Connections, Connections, Connections]] = {  # in UNKNOWN, KNOWN and IN_STEP
    n.HOLDS_OURS: (IN_STEP, IN_STEP, IN_STEP),
    n.LACKS_OURS: (UNKNOWN, KNOWN, KNOWN),
    n.WE_HOLD: (KNOWN, KNOWN, IN_STEP),
    n.STREAM_OFF: (UNKNOWN, KNOWN, KNOWN),
    n.LOST: (UNKNOWN, KNOWN, KNOWN),
    n.GOODBYE: (UNKNOWN, UNKNOWN, UNKNOWN),
}
JUDGED: dict[str, tuple[Verdict, Verdict, Verdict, Verdict]] = {  # in ALIVE, SUSPECT, PARTITIONED and DEAD
    n.HEARD: (ALIVE, ALIVE, ALIVE, ALIVE),
    n.LATE: (SUSPECT, SUSPECT, PARTITIONED, DEAD),
    n.SILENT: (PARTITIONED, PARTITIONED, PARTITIONED, PARTITIONED),
    n.GONE: (DEAD, DEAD, DEAD, DEAD),
    n.SPEAKS: (ALIVE, SUSPECT, PARTITIONED, PARTITIONED),
}
# A silent segment cannot become late, and no other path of a dead neighbour speaks that could stay behind.
IMPOSSIBLE = ((PARTITIONED, n.LATE), (DEAD, n.LATE), (DEAD, n.SILENT))


def test_the_tables_have_a_row_for_everything() -> None:
    assert set(n.CONNECTIONS) == set(product(Connections, LEADS))
    assert set(n.VERDICTS) == set(product(Verdict, JUDGED))


@pytest.mark.parametrize(("state", "event"), n.CONNECTIONS)
def test_each_row_of_the_connections(state: Connections, event: str) -> None:
    one = Neighbour(frozenset())
    for step in WAYS[state]:
        one.handle(step, 0)
    assert one.connections is state
    one.handle(event, 0)
    assert one.connections is LEADS[event][list(Connections).index(state)]


def lan(*, channel: bool = False) -> Neighbour:
    """A neighbour that was heard on the segment `lan` at 10 s."""
    one = Neighbour(frozenset())
    if channel:
        one.heard(CHANNEL, 10 * SECOND, n.NEVER, n.NEVER)
    one.heard("lan", 10 * SECOND, LATE, LIMIT)
    return one


def brought(verdict: Verdict) -> Neighbour:
    """A neighbour with this verdict at 20 s."""
    one = lan(channel=verdict is PARTITIONED)
    if verdict in (ALIVE, SUSPECT):
        one.heard("lan", 20 * SECOND - (LATE if verdict is SUSPECT else 0), LATE, LIMIT)
    one.due(20 * SECOND)
    assert one.verdicts == {"lan": verdict}
    return one


def happen(one: Neighbour, verdict: Verdict, event: str) -> None:
    """Let this event of VERDICTS come about for the segment `lan`, at 20 s or later."""
    if (verdict, event) in IMPOSSIBLE:
        one._judge("lan", event)
    elif event == n.HEARD:
        if verdict is ALIVE:
            one.keep(())  # the first word from a segment finds it alive
        one.heard("lan", 20 * SECOND, LATE, LIMIT)
    elif event == n.LATE:
        one.due(21 * SECOND)
    elif event == n.SPEAKS:
        one.heard("dmz", 20 * SECOND, LATE, LIMIT)
    elif event == n.SILENT and verdict is PARTITIONED:
        one.heard("dmz", 20 * SECOND, LATE, LIMIT)
        one.lost("dmz")
    elif event == n.SILENT:
        one.heard(CHANNEL, 20 * SECOND, n.NEVER, n.NEVER)
        one.due(24 * SECOND)
    elif verdict is DEAD:
        one.handle(n.GOODBYE, 20 * SECOND)
    else:
        one.lost(CHANNEL if verdict is PARTITIONED else "lan")


class Noted(dict[tuple[Verdict, str], Verdict]):
    """A table that notes which rows are used."""

    def __init__(self, rows: dict[tuple[Verdict, str], Verdict]) -> None:
        super().__init__(rows)
        self.used: set[tuple[Verdict, str]] = set()

    def __getitem__(self, row: tuple[Verdict, str]) -> Verdict:
        self.used.add(row)
        return super().__getitem__(row)


@pytest.mark.parametrize(("verdict", "event"), n.VERDICTS)
def test_each_row_of_the_verdicts(verdict: Verdict, event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one, table = brought(verdict), Noted(n.VERDICTS)
    monkeypatch.setattr(n, "VERDICTS", table)
    happen(one, verdict, event)
    assert (verdict, event) in table.used
    assert one.verdicts["lan"] is JUDGED[event][list(Verdict).index(verdict)]
    if event == n.SPEAKS:
        assert one.verdicts["dmz"] is ALIVE


@pytest.mark.parametrize("verdict", [ALIVE, SUSPECT, DEAD])
def test_a_silent_segment_is_partitioned_while_another_path_speaks(verdict: Verdict) -> None:
    one = brought(verdict)
    one.heard(CHANNEL, 20 * SECOND, n.NEVER, n.NEVER)
    one.due(24 * SECOND)
    assert one.verdicts == {"lan": PARTITIONED}
    one.lost(CHANNEL)
    assert one.verdicts == {"lan": DEAD}


@pytest.mark.parametrize("verdict", Verdict)
def test_a_goodbye_ends_every_path(verdict: Verdict) -> None:
    one = brought(verdict)
    one.heard(CHANNEL, 20 * SECOND, n.NEVER, n.NEVER)
    one.handle(n.GOODBYE, 0)
    assert one.verdicts == {"lan": DEAD} and one.next_deadline() is None


def test_the_deadlines_of_one_path() -> None:
    one = lan()
    assert one.next_deadline() == 11 * SECOND
    one.due(11 * SECOND - 1)
    assert one.verdicts == {"lan": ALIVE}
    one.due(11 * SECOND)
    assert one.verdicts == {"lan": SUSPECT} and one.next_deadline() == 13 * SECOND
    one.due(13 * SECOND - 1)
    assert one.verdicts == {"lan": SUSPECT}
    one.due(13 * SECOND)
    assert one.verdicts == {"lan": DEAD} and one.next_deadline() is None


def test_the_segment_that_is_late_first_is_judged_first() -> None:
    one = lan()
    one.heard("dmz", 12 * SECOND, LATE, LIMIT)
    one.due(13 * SECOND)
    assert one.verdicts == {"lan": PARTITIONED, "dmz": SUSPECT}
    one.due(15 * SECOND)
    assert one.verdicts == {"lan": DEAD, "dmz": DEAD}
    one.heard("dmz", 16 * SECOND, LATE, LIMIT)
    assert one.verdicts == {"lan": PARTITIONED, "dmz": ALIVE}
    one.heard("lan", 17 * SECOND, LATE, LIMIT)
    assert one.verdicts == {"lan": ALIVE, "dmz": ALIVE}


def pair() -> tuple[Neighbours, Neighbour, Neighbour]:
    known = Neighbours()
    known.expect({"r1": frozenset([R1]), "r2": frozenset([R2])}, ["lan", "dmz"])
    r1, r2 = known
    return known, r1, r2


def test_partners_that_hold_all_of_our_connections() -> None:
    known, r1, r2 = pair()
    assert known.partner == Partner(False, False)
    r1.handle(n.HOLDS_OURS, 0)
    assert known.partner == Partner(True, True, frozenset([R1]))
    r2.handle(n.WE_HOLD, 0)
    assert known.partner == Partner(True, False, frozenset([R1])), "r2 may be active as well, and lacks them"
    r1.handle(n.STREAMS, 0)
    assert known.partner == Partner(True, True, frozenset([R1])), "r1 is the one that is active as well"
    r1.handle(n.QUIET, 0)
    r2.handle(n.HOLDS_OURS, 0)
    assert known.partner == Partner(True, True, frozenset([R1, R2]))
    r1.handle(n.GOODBYE, 0)
    assert known.partner == Partner(True, True, frozenset([R2]))


def test_a_partner_that_has_a_session_and_lacks_connections() -> None:
    known, r1, _ = pair()
    known.replicate(["r1"])
    for event, fills in (
        (n.OPENED, True), (n.HOLDS_OURS, False), (n.LACKS_OURS, True), (n.LOST, False),
    ):  # fmt: skip
        r1.handle(event, 0)
        assert known.partner.fills is fills, event
    r1.handle(n.OPENED, 0)
    known.replicate([])
    assert not known.partner.fills, "connections are not exchanged with it"


def test_a_session_that_ends_ends_the_stream() -> None:
    for event, streams in ((n.LOST, False), (n.GOODBYE, False), (n.LACKS_OURS, True), (n.STREAM_OFF, True)):
        _, r1, _ = pair()
        r1.handle(n.STREAMS, 0)
        r1.handle(event, 0)
        assert r1.streams is streams


def test_other_peers_in_the_configuration() -> None:
    known, r1, r2 = pair()
    r1.handle(n.HOLDS_OURS, 0)
    known.expect({"r1": frozenset([R2]), "r3": frozenset()}, [])
    assert known.get("r1") is r1 and known.get("r2") is None and known.get("r3") is not r2
    assert known.partner == Partner(True, True, frozenset([R2]))


def test_adverts_are_those_of_the_neighbour_that_has_told_their_source() -> None:
    known, r1, r2 = pair()
    known.told("r1", [(51, R1)])
    known.told("r2", [(51, R2)])
    known.told("nobody", [(51, R1)])
    known.advert("lan", (51, R1), HEARD, 100, 10 * SECOND)
    known.advert("lan", (52, R2), HEARD, 100, 10 * SECOND)
    assert r1.verdicts == {"lan": ALIVE} and r2.verdicts == {}
    assert r1.next_deadline() == 11 * SECOND + SECOND // 4
    known.due(11 * SECOND + SECOND // 4)
    assert r1.verdicts == {"lan": SUSPECT}, "an advert is late"
    r1.handle(n.OPENED, 11 * SECOND)
    known.due(14 * SECOND - 1)
    assert r1.verdicts == {"lan": SUSPECT} and r1.next_deadline() == 14 * SECOND
    known.due(14 * SECOND)
    assert r1.verdicts == {"lan": PARTITIONED}


def test_a_neighbour_that_resigns_is_expected_no_more() -> None:
    known, r1, _ = pair()
    known.told("r1", [(51, R1)])
    known.advert("lan", (51, R1), HEARD, 100, 10 * SECOND)
    known.advert("lan", (51, R1), GOODBYE, 100, 10 * SECOND)
    assert r1.verdicts == {"lan": DEAD} and r1.next_deadline() is None


def test_what_is_not_expected_any_more_is_forgotten() -> None:
    known, r1, _ = pair()
    known.told("r1", [(51, R1)])
    known.told("r2", [(51, R2)])
    r1.handle(n.OPENED, 10 * SECOND)
    for segment in ("lan", "dmz"):
        known.advert(segment, (51, R1), HEARD, 100, 10 * SECOND)
    known.expect({"r1": frozenset([R1])}, ["dmz"])
    assert r1.verdicts == {"dmz": ALIVE}
    known.due(20 * SECOND)
    assert r1.verdicts == {"dmz": PARTITIONED}, "the session is still there"
    known.expect({"r2": frozenset([R2])}, ["dmz"])
    known.advert("dmz", (51, R1), HEARD, 100, 21 * SECOND)
    known.advert("dmz", (51, R2), HEARD, 100, 21 * SECOND)
    [r2] = known
    assert r1.verdicts == {"dmz": PARTITIONED} and r2.verdicts == {}, "r2 has told no source yet"


def test_sources_end_with_the_session_and_are_bounded() -> None:
    known, r1, r2 = pair()
    known.told("r2", [(51, R2)])
    known.told("r1", [(51, bytes((10, 9, *divmod(number, 256)))) for number in range(2 * SOURCES_MAX)])
    known.advert("dmz", (51, bytes((10, 9, *divmod(SOURCES_MAX, 256)))), HEARD, 100, 0)
    assert r1.verdicts == {}
    known.advert("dmz", (51, bytes((10, 9, *divmod(SOURCES_MAX - 1, 256)))), HEARD, 100, 0)
    assert r1.verdicts == {"dmz": ALIVE}
    known.told("r1", [])
    known.advert("lan", (51, R1), HEARD, 100, 0)
    known.advert("lan", (51, R2), HEARD, 100, 0)
    assert r1.verdicts == {"dmz": ALIVE} and r2.verdicts == {"lan": ALIVE}


def test_the_longer_interval_of_the_two_counts() -> None:
    """A router of version 3 learns a longer one, and one of version 2 goes by its own."""
    known, r1, _ = pair()
    known.told("r1", [(51, R1)])
    for heard, own in ((100, 400), (400, 100)):
        known.advert("lan", (51, R1), Advertisement(3, 51, 100, heard, ()), own, 10 * SECOND)
        assert r1.next_deadline() == 15 * SECOND
        known.due(26 * SECOND - 1)
        assert r1.verdicts == {"lan": SUSPECT}
        known.due(26 * SECOND)
        assert r1.verdicts == {"lan": DEAD}
