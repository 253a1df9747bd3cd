# SPDX-License-Identifier: GPL-2.0-or-later
"""Limits, expiry, drift and memory of the backup's table."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from tandem.conntrack.record import DESTROY, NEW, UPDATE
from tandem.replication.cache import ENTRY_COST, LACKING_MAX, SHARDS, Cache, entry_digest
from tandem.replication.journal import Journal
from tests.unit.test_conntrack_record import expectation, expected_key

SECOND = 1_000_000_000


def flow(number: int, *, assured: bool = True, timeout: int = 120, state: int = 3) -> tuple[bytes, bytes]:
    """A TCP connection with SNAT: the typical one."""
    third, port = number >> 14, 1024 + (number & 0x3FFF)
    key = b"\0\0\4\6" + bytes((10, 0, 1, third)) + b"\xc6\x33\x64\7" + port.to_bytes(2, "big") + b"\1\xbb"
    status = 0x0E if assured else 0x0A
    body = bytes((5, 0, status)) + timeout.to_bytes(4, "big") + bytes((state, 7, 7, 3, 3)) + b"\xc0\0\2"
    return key, body + bytes((1 + third,)) + port.to_bytes(2, "big")


def tidy(cache: Cache, now: int) -> None:
    """Take all the steps of one second."""
    for _ in cache.tidy(now):
        pass


def rounds(cache: Cache, start: int, seconds: int) -> int:
    """Let `tidy` be called every second for a time; returns the time at the end."""
    for second in range(seconds):
        tidy(cache, start + second * SECOND)
    return start + seconds * SECOND


def test_bounded_in_entries_and_bytes() -> None:
    cache = Cache(100, 1 << 30)
    for number in range(150):
        cache.apply((NEW, *flow(number)), 0)
    assert len(cache) == 100 and cache.overflow == 50
    cache.apply((UPDATE, *flow(5, state=7)), 0)  # what is there may still change
    assert cache.updated == 1 and cache.overflow == 50
    cache.apply((DESTROY, flow(5)[0], b""), 0)
    cache.apply((NEW, *flow(149)), 0)
    assert len(cache) == 100 and cache.overflow == 50
    small = Cache(1000, 10_000)
    for number in range(150):
        small.apply((NEW, *flow(number)), 0)
    assert 10_000 <= small.memory < 10_300 and small.overflow == 150 - len(small)
    assert small.room == 0
    small.apply((DESTROY, flow(0)[0], b""), 0)
    assert small.room == 1000 - len(small)
    assert small.memory == len(small) * (sum(map(len, flow(1))) + ENTRY_COST)
    exact = Cache(1000, small.memory)  # what is full to the last byte has no room
    for number in range(150):
        exact.apply((NEW, *flow(number)), 0)
    assert len(exact) == len(small) and exact.room == 0


def test_what_there_was_no_room_for_is_known_until_it_ends_or_comes() -> None:
    cache = Cache(100, 1 << 30)
    for number in range(150):
        cache.apply((NEW, *flow(number)), 0)
        cache.apply((UPDATE, *flow(number, state=4)), 0)  # what lacks is counted once
    assert (cache.lacking, cache.room, cache.lacks_more) == (50, 0, False)
    for number in (0, 1, 149):
        cache.apply((DESTROY, flow(number)[0], b""), 0)
    assert (cache.lacking, cache.room) == (49, 2)
    cache.apply((UPDATE, *flow(148)), 0)
    assert (cache.lacking, cache.room) == (48, 1)
    cache.begin_bulk()
    for number in range(20, 150):
        cache.apply((NEW, *flow(number)), 0)
    cache.end_bulk()
    assert len(cache) == 81 + 1 and cache.lacking == 48  # what the bulk did not bring still takes room
    for _ in range(40):
        tidy(cache, 0)
    assert cache.room == 18
    cache.begin_bulk()
    for number in range(20, 119):
        cache.apply((NEW, *flow(number)), 0)
    cache.end_bulk()
    assert cache.lacking == 0
    for number in range(200, 210):
        cache.apply((NEW, *flow(number)), 0)
    assert cache.lacking == 10
    cache.clear()
    assert (cache.lacking, cache.room) == (0, 100)


def test_the_keys_of_what_lacks_are_bounded() -> None:
    cache = Cache(1, 1 << 30)
    for number in range(LACKING_MAX + 10):
        cache.apply((NEW, *flow(number)), 0)
    assert cache.lacking == LACKING_MAX and cache.lacks_more
    cache.begin_bulk()
    assert cache.lacking == 0 and not cache.lacks_more


def test_a_lost_destroy_is_not_for_ever() -> None:
    """Neither the timeout nor `hold` alone lets an entry go: both must be over."""
    cache = Cache(1000, 1 << 30, hold=300)
    cache.apply((NEW, *flow(1, timeout=120)), 0)
    cache.apply((NEW, *flow(2, timeout=1000)), 0)
    now = rounds(cache, 0, 299)
    assert len(cache) == 2
    now = rounds(cache, now, 120)
    assert len(cache) == 1 and cache.expired == 1
    now = rounds(cache, now, 500)
    assert len(cache) == 1
    rounds(cache, now, 200)
    assert len(cache) == 0 and cache.expired == 2


def test_what_the_active_vouches_for_stays() -> None:
    """A flow that data keeps alive has no events: equal digests say that it lives."""
    cache = Cache(1000, 1 << 30, hold=300)
    cache.apply((NEW, *flow(1)), 0)
    now = 0
    for _ in range(10):
        now = rounds(cache, now, 200)
        cache.confirm(now)
    assert len(cache) == 1
    rounds(cache, now, 500)
    assert len(cache) == 0


def test_a_long_pause_does_not_make_one_long_call() -> None:
    """After a suspend all is due at once, and still goes little by little."""
    cache = Cache(100_000, 1 << 30, hold=1)
    for number in range(20_000):
        cache.apply((NEW, *flow(number, timeout=1)), 0)
    tidy(cache, 1000 * SECOND)
    assert 19_000 < len(cache) < 20_000
    rounds(cache, 1001 * SECOND, 130)
    assert len(cache) == 0


def test_a_bulk_replaces_what_it_does_not_name() -> None:
    cache = Cache(1000, 1 << 30)
    other = Cache(1000, 1 << 30)
    for number in range(100):
        cache.apply((NEW, *flow(number)), 0)
    cache.begin_bulk()
    for number in range(50, 120):
        cache.apply((UPDATE, *flow(number)), 0)
        other.apply((NEW, *flow(number)), 0)
    assert len(cache) == 120  # until it ends, all that is known may be needed
    cache.end_bulk()
    assert len(cache) == 70 and cache.digest() == other.digest()
    assert cache.get(flow(3)[0]) is None and sum(map(len, cache.slices())) == 70
    rounds(cache, 0, SHARDS // 32 + 1)
    assert cache.swept == 50 and cache.digest() == other.digest()


def test_to_abort_no_bulk_brings_nothing_back() -> None:
    cache = Cache(1000, 1 << 30)
    cache.apply((NEW, *flow(1)), 0)
    cache.begin_bulk()
    cache.end_bulk()
    cache.abort_bulk()
    assert len(cache) == 0 and cache.get(flow(1)[0]) is None


def test_an_update_keeps_what_it_leaves_out_unless_the_last_bulk_had_no_such_flow() -> None:
    key, whole = flow(1, state=4)
    unknown = whole[:7] + bytes(5) + whole[12:]
    helped = bytes((whole[0] | 0x80,)) + whole[1:] + b"\2\3ftp"
    cache = Cache(1000, 1 << 30)
    for known, op, told, expected in (
        (whole, UPDATE, unknown, whole), (whole, NEW, unknown, unknown), (helped, NEW, whole, whole),
        (helped, UPDATE, whole, helped), (helped, UPDATE, unknown, helped), (unknown, UPDATE, whole, whole),
    ):  # fmt: skip
        cache.clear()
        cache.apply((NEW, key, known), 0)
        cache.apply((op, key, told), 0)
        assert cache.get(key) == expected
        cache.begin_bulk()
        cache.apply((op, key, told), 0)
        assert cache.get(key) == expected  # the bulk tells a flow that is known
        cache.end_bulk()
        cache.begin_bulk()
        cache.end_bulk()
        assert cache.get(key) is None
        cache.apply((op, key, told), 0)
        assert cache.get(key) == told and len(cache) == 1


def test_what_the_last_bulk_left_behind_does_not_come_back() -> None:
    """The next bulk may begin before `work` has freed it, and may be broken off."""
    cache = Cache(1000, 1 << 30)
    for number in range(100):
        cache.apply((NEW, *flow(number)), 0)
    cache.begin_bulk()
    cache.apply((NEW, *flow(1)), 0)
    cache.end_bulk()
    cache.begin_bulk()
    cache.abort_bulk()
    assert len(cache) == 1 and [entry for part in cache.slices() for entry in part] == [flow(1)]


def test_a_sweep_names_what_it_frees() -> None:
    cache = Cache(10_000, 1 << 30)
    cache.apply_all([(NEW, *flow(number)) for number in range(200)], 0)
    assert not cache.sweeping and cache.sweep(SHARDS) == []
    cache.begin_bulk()
    cache.apply_all([(NEW, *flow(number)) for number in range(100)], 0)
    cache.end_bulk()
    first = cache.sweep(SHARDS // 2)
    assert cache.sweeping and 0 < len(first) < 100
    assert sorted(first + cache.sweep(2 * SHARDS)) == sorted(flow(number)[0] for number in range(100, 200))
    assert not cache.sweeping and cache.swept == 100 == len(cache)


def test_a_bulk_that_leaves_nothing_behind_needs_no_sweep() -> None:
    """The digest of this router's own table can be told at once: tables.py tells none during a sweep."""
    cache = Cache(100, 1 << 30)
    for _ in range(2):
        cache.begin_bulk()
        cache.apply((NEW, *flow(1)), 0)
        cache.end_bulk()
        assert not cache.sweeping and len(cache) == 1


def test_no_bulk_waits_for_the_sweep_of_the_one_before() -> None:
    """With 300,000 entries that took a turn of 58 ms at least, and 300 where half of them were stale."""
    cache = Cache(10_000, 1 << 30)
    cache.apply_all([(NEW, *flow(number)) for number in range(4000)], 0)
    cache.begin_bulk()
    cache.apply_all([(NEW, *flow(number)) for number in range(1000)], 0)
    cache.end_bulk()
    alive = len(cache), cache.digest(), cache.memory
    cache.begin_bulk()
    assert cache.swept == 0 and (len(cache), cache.digest(), cache.memory) == alive
    second = 1_000_000_000
    for number in range(1, 4000):
        tidy(cache, number * second)
        assert (len(cache), cache.digest(), cache.memory) == alive, "nothing of this bulk is swept"
        if cache.swept == 3000:
            break
    assert cache.swept == 3000
    cache.end_bulk()
    assert len(cache) == 0


def test_a_bulk_that_begins_again_forgets_what_came_before() -> None:
    cache = Cache(1000, 1 << 30)
    for number in range(10):
        cache.apply((NEW, *flow(number)), 0)
    cache.begin_bulk()
    cache.apply((NEW, *flow(1)), 0)
    cache.begin_bulk()
    cache.apply((NEW, *flow(2)), 0)
    assert len(cache) == 10
    cache.end_bulk()
    assert [entry for part in cache.slices() for entry in part] == [flow(2)]


def test_every_shard_is_looked_at_once_in_32_seconds() -> None:
    cache = Cache(100_000, 1 << 30, hold=300)
    cache.apply_all([(NEW, *flow(number, timeout=1)) for number in range(20_000)], 0)
    now = rounds(cache, 0, 301)
    assert len(cache) == 20_000
    for _ in range(32):
        before = len(cache)
        now = rounds(cache, now, 1)
        assert 0 < before - len(cache) < 1000  # a little at a time
    assert len(cache) == 0


@pytest.mark.parametrize("left", [1000, 0])
def test_a_shard_gives_up_what_it_had_allocated(left: int) -> None:
    """A dict never shrinks by itself: a million connections would keep 40 MiB for ever."""

    def size() -> int:
        return sum(map(sys.getsizeof, cache._shards))

    cache = Cache(200_000, 1 << 30)
    empty = size()
    cache.apply_all([(NEW, *flow(number)) for number in range(100_000)], 0)
    now, full = rounds(cache, 1000 * SECOND, 40), size()
    assert full > 4_000_000
    cache.apply_all([(DESTROY, flow(number)[0], b"") for number in range(100_000 - left)], now)
    assert size() == full
    rounds(cache, now, 40)
    assert size() < empty + 500_000 and len(cache) == left
    assert not left or cache.get(flow(99_500)[0]) == flow(99_500)[1]


def test_what_goes_in_comes_out() -> None:
    """Keys stand without a zone of 0 there, and bodies as integers, which do not show zeros before them."""
    plain = b"\0\0\4\21" + bytes(range(12)), b"\0\0\x08\0\0\0\1"  # nothing but UDP and IPv4: the kind 0
    zoned = b"\4\21" + plain[0][2:], b"\x40\0\x08\0\0\0\1"  # the zone looks like family and protocol
    long = b"\0\0\6\21" + bytes(36), b"\x10\0\x08\0\0\0\1"
    expected = [(expected_key(family), expectation(family)) for family in (4, 6)]
    entries = sorted([plain, zoned, long, *expected, flow(7)])
    cache = Cache(100, 1 << 20)
    cache.apply_all([(NEW, *entry) for entry in entries], 70 * SECOND)
    assert not cache.invalid
    assert sorted(entry for part in cache.slices() for entry in part) == entries
    assert [cache.get(key) for key, _ in entries] == [body for _, body in entries]
    for key, _ in entries:
        cache.apply((DESTROY, key, b""), 0)
    assert len(cache) == 0 and cache.digest() == Cache(1, 1).digest() and cache.memory == 0


def test_what_a_bulk_left_out_is_freed_32_shards_at_a_time() -> None:
    cache = Cache(100_000, 1 << 30)
    cache.apply_all([(NEW, *flow(number)) for number in range(20_000)], 0)
    parts = [len(cache.shards(start, 32)) for start in range(0, SHARDS, 32)]
    assert sum(parts) == 20_000 and cache.shards(SHARDS - 1, 2) == cache.shards(SHARDS - 1, 1) + cache.shards(
        0, 1
    )
    cache.begin_bulk()
    cache.end_bulk()
    for part in reversed(parts):
        before = cache.swept
        tidy(cache, 0)
        assert cache.swept - before == part
    assert cache.room == 100_000


def test_a_table_that_is_cleared_again_and_again_does_not_add_up() -> None:
    """Two routers that take the role from each other every 5 s for five minutes."""
    records, cache, now = [(NEW, *flow(number)) for number in range(3000)], Cache(1 << 20, 1 << 30), 0
    most = []
    for _ in range(60):
        cache.apply_all(records, now)
        cache.clear()
        most.append(sys.getallocatedblocks())
        now = rounds(cache, now, 5)
    assert most[-1] - most[0] < 4 * 2 * len(records)  # a key and a value each


def test_an_empty_table_in_a_bulk_is_cleared_like_any_other() -> None:
    cache = Cache(1000, 1 << 30)
    for _ in range(2):
        cache.apply_all([(NEW, *flow(number)) for number in range(10)], 0)
        cache.begin_bulk()
        cache.end_bulk()
        cache.clear()  # while stale entries wait for `work`
        assert (len(cache), cache.memory, cache.digest()) == (0, 0, Cache(1, 1).digest())
        cache.apply((NEW, *flow(1)), 0)
        tidy(cache, 0)
        assert cache.swept == 0 and cache.digest()[0] == len(cache) == 1
        cache.clear()


def test_the_memory_is_that_of_the_living() -> None:
    cache = Cache(1000, 1 << 30)
    cache.apply_all([(NEW, *flow(number)) for number in range(10)], 0)
    one = cache.memory // 10
    cache.begin_bulk()
    cache.apply((NEW, *flow(1)), 0)
    assert cache.memory == 10 * one
    cache.end_bulk()
    assert cache.memory == one and cache.room == 990
    assert sum(map(len, cache.slices())) == 1 and len(cache.shards(0, SHARDS)) == 1
    cache.begin_bulk()
    assert cache.memory == one and sum(map(len, cache.slices())) == 1


def test_entries_are_as_old_as_their_last_record() -> None:
    cache = Cache(1000, 1 << 30, hold=300)
    cache.apply((NEW, *flow(1, timeout=1)), 0)
    now = rounds(cache, 0, 200)
    cache.apply((NEW, *flow(2, timeout=1)), now)
    now = rounds(cache, now, 180)
    assert cache.expired == 1 and cache.get(flow(2)[0])
    cache.apply((UPDATE, *flow(2, timeout=1)), now)
    now = rounds(cache, now, 300)
    assert len(cache) == 1
    now = rounds(cache, now, 70)
    assert len(cache) == 0
    cache.apply((NEW, *flow(3, timeout=1)), now)  # the first entry of an empty table
    now = rounds(cache, now, 299)
    assert len(cache) == 1
    rounds(cache, now, 70)
    assert len(cache) == 0


@pytest.mark.parametrize("pause_ms", [40, 700, 1000])
def test_every_shard_is_looked_at_once_in_32_seconds_at_any_pace(pause_ms: int) -> None:
    """The part of a shard that a call did not get to is not forgotten."""
    cache = Cache(2000, 1 << 30, hold=300)
    cache.apply_all([(NEW, *flow(number, timeout=1)) for number in range(2000)], 0)
    now = rounds(cache, 0, 300)
    assert len(cache) == 2000
    for moment in range(now, now + 33 * SECOND, pause_ms * SECOND // 1000):
        tidy(cache, moment)
    assert len(cache) == 0
    assert cache.expired == 2000


def test_what_is_freed_is_told_to_the_journal() -> None:
    """Ends that no record says: of a bulk that left them out, and of an active router that is gone."""
    journal = Journal()
    cache = Cache(1000, 1 << 30, hold=300, journal=journal)
    cache.apply_all([(NEW, *flow(number)) for number in range(10)], 0)
    journal.start(whole=True)
    cache.begin_bulk()
    cache.apply_all([(NEW, *flow(number)) for number in range(5)], 0)
    cache.end_bulk()
    now = rounds(cache, 0, 32)
    assert journal.take_gone().keys() == {flow(number)[0] for number in range(5, 10)}
    rounds(cache, now, 500)
    assert journal.take_gone().keys() == {flow(number)[0] for number in range(5)} and cache.expired == 5


def test_an_expectation_expires_by_its_own_timeout() -> None:
    cache = Cache(1000, 1 << 30, hold=300)
    key = expected_key(4)
    cache.apply((NEW, key, expectation(4)[:1] + (1000).to_bytes(4, "big") + expectation(4)[5:]), 0)
    now = rounds(cache, 0, 990)
    assert len(cache) == 1
    rounds(cache, now, 80)
    assert len(cache) == 0
    assert entry_digest(key, expectation(4)) == entry_digest(key, expectation(4, b"sip\0\0"))
    assert entry_digest(key, expectation(4)) != entry_digest(expected_key(6), expectation(6))


def test_equal_changes_of_two_flows_do_not_cancel_out() -> None:
    """As they would in a XOR or a sum of CRCs."""
    left, right = Cache(100, 1 << 30), Cache(100, 1 << 30)
    for number in range(4):
        left.apply((NEW, *flow(number, assured=True)), 0)
        right.apply((NEW, *flow(number, assured=number > 1)), 0)
    assert left.digest()[0] == right.digest()[0] and left.digest()[1] != right.digest()[1]


def test_the_digest_leaves_out_what_runs_down() -> None:
    key, body = flow(1, timeout=100)
    assert entry_digest(key, body) == entry_digest(*flow(1, timeout=99))
    assert entry_digest(key, body) == entry_digest(*flow(1, state=0))
    tailed = bytes((body[0] | 0x80,)) + body[1:] + b"\2\3ftp"
    assert entry_digest(key, body) == entry_digest(key, tailed)
    assert entry_digest(key, body) != entry_digest(*flow(2)) != entry_digest(*flow(1, assured=False))


def test_the_digest_of_other_versions_is_the_same() -> None:
    """Two routers compare digests, and one of them may run an older Tandem."""
    udp = b"\0\0\4\x11" + b"\1" * 12, b"\0\0\x0e\0\0\0\x78"
    assert entry_digest(*flow(1)) == 0x5BBF3D393AE6A991
    assert entry_digest(*flow(20_000)) == 0x1807EE5AFEC58AF2
    assert entry_digest(*udp) == 0xECAC31FBE6601A74
    assert entry_digest(expected_key(4), expectation(4)) == 0x627C3100B8637279
    cache = Cache(10, 1 << 20)
    cache.apply_all([(NEW, *flow(1)), (NEW, *flow(20_000)), (NEW, *udp)], 0)
    assert cache.digest() == (3, 0x60735D90200C4EF7.to_bytes(8, "big"))


def test_nothing_for_the_garbage_collector() -> None:
    cache = Cache(100_000, 1 << 30)
    gc.collect()
    before = len(gc.get_objects())
    for number in range(10_000):
        cache.apply((NEW, *flow(number)), 0)
    gc.collect()
    assert len(gc.get_objects()) - before < SHARDS + 100


MEASURE = """
import sys
from tandem.replication.cache import Cache
from tandem.conntrack.record import NEW
from tests.unit.test_replication_cache import flow
def rss():
    # Not VmRSS: the kernel may take pages of files back meanwhile.
    words = open("/proc/self/status").read().split()
    return int(words[words.index("RssAnon:") + 1]) << 10
cache = Cache(1 << 20, 1 << 30)
# Takes the memory that the imports have freed: 2 MB more when this file had to be compiled.
spare = [bytes(size) for size in (60, 400, 2000) for _ in range(10_000)]
before = rss()
for number in range(100_000):
    cache.apply((NEW, *flow(number)), 0)
print((rss() - before) / 100_000, cache.memory / 100_000)
"""


def test_at_most_160_bytes_an_entry() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    measured, estimated = map(float, done.stdout.split())
    assert measured <= 160
    assert abs(estimated - measured) < 30


MILLION = """
import sys, time
from tandem.replication.cache import Cache
from tandem.conntrack.record import DESTROY, NEW
from tests.unit.test_replication_cache import flow, tidy
cache = Cache(1_000_000, 1 << 30)
records = [(NEW, *flow(number)) for number in range(1_000_100)]
for start in range(0, len(records), 1000):
    cache.apply_all(records[start:start + 1000], 0)
assert len(cache) == 1_000_000 and cache.overflow == 100, (len(cache), cache.overflow)
assert cache.memory <= 200 * 1_000_000, cache.memory
longest = max(len(part) for part in cache.slices())
assert longest < 1500, longest  # a slice of the loop's time, not the table
cache.begin_bulk()
cache.apply_all(records[:500_000], 1)
cache.end_bulk()
assert len(cache) == 500_000
for second in range(40):
    tidy(cache, second)
cache.apply_all(records[500_000:], 2)
assert len(cache) == 1_000_000
cache.apply_all([(DESTROY, key, b"") for _, key, _ in records], 3)
assert len(cache) == 0 and cache.digest() == Cache(1, 1).digest()
"""


def test_a_million_entries() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MILLION],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_entries_of_keys_are_those_that_are_there_then() -> None:
    cache = Cache(100, 1 << 20)
    flows = [flow(number) for number in range(6)]
    cache.apply_all([(NEW, *one) for one in flows[:5]], 0)
    cache.begin_bulk()
    cache.apply_all([(NEW, *one) for one in flows[2:5]], 0)
    keys = [key for key, _ in flows]
    assert list(cache.found(keys)) == flows[:5]
    cache.end_bulk()
    found = cache.found(keys)
    assert next(found) == flows[2]
    cache.apply_all([(DESTROY, keys[3], b""), (NEW, *flows[5])], 0)
    assert list(found) == flows[4:6] == [(key, cache.get(key)) for key in keys[4:]]
