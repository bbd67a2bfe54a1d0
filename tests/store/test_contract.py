"""The contract of the port `EventStore`, over every adapter."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_examples import START, batch, event, new_stream, stream_number

from horae_application.ports import AlreadyWritten, EventStore, Fenced, LedgerRow, StoredEvent
from horae_domain.identity import request_stream

HOUR = 3_600_000_000


def line(n: int, due: int | None, partition: int = 0, state: bytes = b"") -> LedgerRow:
    return LedgerRow(partition, stream_number(n), due, state)


class TestAppending:
    def test_an_empty_log_has_no_events(self, store: EventStore):
        assert store.head() == 0
        assert store.read(0, 10) == []
        assert store.load([new_stream()]) == {}

    def test_events_are_read_in_the_order_of_the_batch(self, store: EventStore):
        a, b = new_stream(), new_stream()
        events = [event(b, 1), event(a, 1), event(b, 2), event(a, 2)]
        positions = store.append(batch(*events))
        assert list(positions) == sorted(positions)
        assert [(e.position, e.stream, e.version, e.state) for e in store.read(0, 10)] == [
            (p, e.stream, e.version, e.state) for p, e in zip(positions, events, strict=True)
        ]
        assert store.head() == positions[-1]

    def test_an_event_keeps_its_name_and_bytes(self, store: EventStore):
        stream = new_stream()
        state = bytes(range(256)) * 5000
        store.append(batch(event(stream)._replace(state=state, name="größe.v2")))
        [stored] = store.load([stream])[stream]
        assert (stored.name, stored.state) == ("größe.v2", state)
        assert type(stored.state) is bytes

    def test_a_stream_is_loaded_in_the_order_of_its_versions(self, store: EventStore):
        stream = new_stream()
        store.append(batch(event(stream, 2), event(stream, 1)))
        store.append(batch(event(stream, 3)))
        assert [e.version for e in store.load([stream])[stream]] == [1, 2, 3]

    def test_many_streams_are_loaded_at_once_and_absent_ones_left_out(self, store: EventStore):
        streams = [new_stream() for _ in range(1203)]
        store.append(batch(*(event(stream) for stream in streams[:-3])))
        loaded = store.load(streams)
        assert set(loaded) == set(streams[:-3])
        assert all(loaded[s][0].stream == s for s in streams[:-3])

    def test_events_of_some_names_are_read_between_two_positions(self, store: EventStore):
        stream = new_stream()
        names = ["a.v1", "b.v1", "c.v1", "a.v1", "b.v1", "a.v1"]
        events = [event(stream, n)._replace(name=name) for n, name in enumerate(names, 1)]
        positions = store.append(batch(*events))
        after, until = positions[0], positions[4]
        found = store.read_named(after, until, ("a.v1", "b.v1"), 10)
        assert [each.version for each in found] == [2, 4, 5]
        assert found[0] == store.load([stream])[stream][1]
        assert [e.version for e in store.read_named(0, until, ("a.v1",), 1)] == [1]
        assert store.read_named(until, positions[5], ("c.v1",), 10) == []

    def test_reading_goes_on_after_a_position_by_pages(self, store: EventStore):
        stream = new_stream()
        positions = store.append(batch(*(event(stream, v) for v in range(1, 8))))
        pages, after = [], 0
        while page := store.read(after, 3):
            pages.append([e.version for e in page])
            after = page[-1].position
        assert pages == [[1, 2, 3], [4, 5, 6], [7]]
        assert after == positions[-1]

    def test_a_version_is_written_once(self, store: EventStore):
        stream = new_stream()
        store.append(batch(event(stream, 1, n=1)))
        with pytest.raises(AlreadyWritten) as refused:
            store.append(batch(event(stream, 1, n=2)))
        assert (refused.value.stream, refused.value.version) == (stream, 1)
        assert [e.state for e in store.load([stream])[stream]] == [b'{"n":1}']

    def test_a_version_is_refused_twice_in_one_batch(self, store: EventStore):
        stream = new_stream()
        with pytest.raises(AlreadyWritten) as refused:
            store.append(batch(event(stream, 1), event(stream, 1)))
        assert (refused.value.stream, refused.value.version) == (stream, 1)
        assert store.head() == 0

    def test_a_refused_batch_leaves_nothing(self, store: EventStore):
        taken, other = new_stream(), new_stream()
        store.append(batch(event(taken), ledger=[line(1, 5)]))
        with pytest.raises(AlreadyWritten):
            store.append(
                batch(
                    event(other),
                    event(taken),
                    ledger=[line(1, 6), line(2, 7)],
                    settled=[(0, stream_number(1))],
                )
            )
        assert store.load([other]) == {}
        assert store.lines([stream_number(1), stream_number(2)]) == {stream_number(1): line(1, 5)}
        assert len(store.read(0, 10)) == 1

    def test_positions_grow_past_a_refused_batch(self, store: EventStore):
        stream = new_stream()
        [first] = store.append(batch(event(stream)))
        with pytest.raises(AlreadyWritten):
            store.append(batch(event(new_stream()), event(stream)))
        [second] = store.append(batch(event(new_stream())))
        assert second > first
        assert [e.position for e in store.read(0, 10)] == [first, second]

    def test_an_empty_batch_is_fenced_and_writes_nothing(self, store: EventStore):
        assert list(store.append(batch(epochs={3: 0}))) == []
        with pytest.raises(Fenced):
            store.append(batch(epochs={3: 1}))
        assert store.head() == 0

    def test_racing_writers_of_one_version_have_one_winner(self, store: EventStore):
        stream = new_stream()
        gate = threading.Barrier(8)

        def race(n: int) -> bool:
            gate.wait()
            try:
                store.append(batch(event(new_stream()), event(stream, 1, n=n)))
            except AlreadyWritten:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(race, range(8)))
        assert won.count(True) == 1
        assert store.load([stream])[stream][0].state == b'{"n":%d}' % won.index(True)
        assert len(store.read(0, 100)) == 2


class TestClock:
    def test_recorded_at_is_the_stores_clock(self, store: EventStore):
        before = store.now()
        store.append(batch(event(new_stream())))
        assert before <= store.read(0, 1)[0].recorded_at <= store.now()


class TestLedger:
    def test_a_line_is_inserted_replaced_and_settled(self, store: EventStore):
        one = stream_number(1)
        store.append(batch(ledger=[line(1, 5, 3, b"a")]))
        assert store.lines([one, stream_number(2)]) == {one: line(1, 5, 3, b"a")}
        store.append(batch(ledger=[line(1, None, 3, b"b")]))
        assert store.lines([one]) == {one: line(1, None, 3, b"b")}
        store.append(batch(settled=[(3, one)]))
        assert store.lines([one]) == {}

    def test_the_last_of_two_lines_in_one_batch_stays(self, store: EventStore):
        store.append(batch(ledger=[line(1, 5, 3, b"a"), line(1, 6, 3, b"b")]))
        assert store.lines([stream_number(1)]) == {stream_number(1): line(1, 6, 3, b"b")}

    def test_a_line_written_and_settled_in_one_batch_is_gone(self, store: EventStore):
        store.append(batch(ledger=[line(1, 5, 3)], settled=[(3, stream_number(1))]))
        assert store.lines([stream_number(1)]) == {}
        assert store.due(range(64), None, 100, 10) == []

    def test_settling_what_is_not_there_is_nothing(self, store: EventStore):
        store.append(batch(settled=[(3, stream_number(1))]))
        assert store.lines([stream_number(1)]) == {}

    def test_due_lines_come_in_order_of_instant_and_stream(self, store: EventStore):
        lines = [line(3, 10), line(1, 20), line(2, 10, 1), line(4, 30), line(5, None)]
        store.append(batch(ledger=lines))
        assert store.due([0, 1], None, 30, 10) == [lines[2], lines[0], lines[1]]

    def test_due_lines_are_those_of_the_partitions_asked_for(self, store: EventStore):
        store.append(batch(ledger=[line(n, 10 + n, n % 4) for n in range(1, 13)]))
        assert [row.due for row in store.due([1, 3], None, 100, 4)] == [11, 13, 15, 17]
        assert store.due([], None, 100, 4) == []

    def test_due_lines_are_paged_by_their_key(self, store: EventStore):
        lines = [line(n, n // 3, n % 64) for n in range(1, 30)]
        store.append(batch(ledger=lines))
        paged, after = [], None
        while page := store.due(range(64), after, 1000, 4):
            paged += page
            after = (page[-1].due, page[-1].stream)
        assert paged == lines

    def test_a_replaced_instant_is_due_once(self, store: EventStore):
        store.append(batch(ledger=[line(1, 5)]))
        store.append(batch(ledger=[line(1, 9)]))
        assert store.due([0], None, 100, 10) == [line(1, 9)]


class TestOwnership:
    def test_a_new_store_has_free_partitions(self, store: EventStore):
        owned = store.ownership()
        assert [o.partition for o in owned] == list(range(64))
        assert {(o.epoch, o.owner) for o in owned} == {(0, None)}

    def test_a_claim_gives_a_new_epoch(self, store: EventStore):
        store.join("a", "address", 60)
        assert store.claim("a", [3, 5]) == {3: 1, 5: 1}
        assert store.ownership()[3] == (3, 1, "a")

    def test_the_owner_appends_and_the_former_one_is_fenced(self, store: EventStore):
        store.join("a", "", 60)
        store.join("b", "", 60)
        old = store.claim("a", [3, 5])
        store.append(batch(event(new_stream()), epochs=old))
        store.release("a", [5])
        assert store.claim("b", [5]) == {5: 2}
        with pytest.raises(Fenced) as refused:
            store.append(batch(event(new_stream()), epochs=old, ledger=[line(1, 5)]))
        assert refused.value.partitions == {5}
        assert len(store.read(0, 10)) == 1
        assert store.lines([stream_number(1)]) == {}
        store.append(batch(event(new_stream()), epochs={3: 1}))

    def test_an_append_before_the_claim_stands(self, store: EventStore):
        store.join("a", "", 60)
        store.join("b", "", 60)
        old = store.claim("a", [5])
        store.append(batch(event(new_stream()), epochs=old))
        store.release("a", [5])
        store.claim("b", [5])
        assert len(store.read(0, 10)) == 1

    def test_an_unknown_partition_is_fenced(self, store: EventStore):
        with pytest.raises(Fenced) as refused:
            store.append(batch(event(new_stream()), epochs={64: 0}))
        assert refused.value.partitions == {64}

    def test_only_the_owner_releases(self, store: EventStore):
        store.join("a", "", 60)
        store.claim("a", [1])
        store.release("b", [1])
        assert store.ownership()[1].owner == "a"
        store.release("a", [1])
        assert store.ownership()[1] == (1, 1, None)

    def test_who_leaves_gives_up_everything(self, store: EventStore):
        store.join("a", "", 60)
        store.claim("a", [1, 2])
        store.leave("a")
        assert store.members() == []
        assert {o.owner for o in store.ownership()} == {None}

    def test_members_are_those_whose_lease_runs(self, store: EventStore):
        before = store.now()
        store.join("b", "there", 60)
        store.join("a", "here", 30)
        store.join("gone", "nowhere", -1)
        a, b = store.members()
        assert (a.owner, a.address, b.owner, b.address) == ("a", "here", "b", "there")
        assert 29_000_000 < a.expires_at - before < 60_000_000
        store.join("a", "elsewhere", 90)
        assert store.members()[0].address == "elsewhere"

    def test_who_did_not_hear_of_its_claim_claims_again(self, store: EventStore):
        store.join("a", "", 60)
        store.claim("a", [1, 2])
        assert store.claim("a", [1, 2]) == {1: 2, 2: 2}
        store.join("a", "", 60)
        assert store.ownership()[1] == (1, 2, "a")

    def test_racing_claims_leave_one_owner(self, store: EventStore):
        gate = threading.Barrier(6)
        for n in range(6):
            store.join(f"e{n}", "", 60)

        def race(n: int) -> dict[int, int]:
            gate.wait()
            return store.claim(f"e{n}", range(64))

        with ThreadPoolExecutor(6) as pool:
            granted = list(pool.map(race, range(6)))
        for partition, epoch, owner in store.ownership():
            winners = [n for n in range(6) if granted[n].get(partition) == epoch]
            assert [f"e{n}" for n in winners] == [owner]

    def test_who_lost_partitions_cannot_join_again_under_its_name(self, store: EventStore):
        store.join("a", "", 60)
        store.claim("a", [1, 2])
        store.join("a", "", -1)  # its lease has run out
        store.join("b", "", 60)
        assert store.claim("b", [2]) == {2: 2}
        with pytest.raises(Fenced) as refused:
            store.join("a", "", 60)
        assert refused.value.partitions == {2}
        store.leave("a")
        store.join("a", "", 60)


class TestTail:
    def test_waiting_ends_at_once_if_there_is_more(self, store: EventStore):
        store.append(batch(event(new_stream())))
        assert store.wait(0, 60)

    def test_waiting_ends_without_news_after_its_time(self, store: EventStore):
        assert not store.wait(0, 0.01)

    def test_an_append_wakes_who_waits(self, store: EventStore):
        with ThreadPoolExecutor(1) as pool:
            woken = pool.submit(store.wait, 0, 60)
            store.append(batch(event(new_stream())))
            assert woken.result(100)

    def test_closing_wakes_who_waits(self, store: EventStore):
        with ThreadPoolExecutor(1) as pool:
            woken = pool.submit(store.wait, 0, 60)
            store.close()
            assert not woken.result(100)

    def test_a_reader_beside_three_writers_misses_nothing(self, adapter):
        store = adapter.open()
        writers = [store if store.single_process else adapter.open() for _ in range(3)]
        seen: list[StoredEvent] = []
        done = threading.Event()

        def follow() -> None:
            while not (done.is_set() and store.head() == (seen[-1].position if seen else 0)):
                after = seen[-1].position if seen else 0
                if store.wait(after, 0.05):
                    seen.extend(store.read(after, 50))

        def write(writer: EventStore) -> list[int]:
            return [
                position
                for _ in range(100)
                for position in writer.append(batch(event(new_stream()), event(new_stream())))
            ]

        with ThreadPoolExecutor(4) as pool:
            follower = pool.submit(follow)
            written = [p for positions in pool.map(write, writers) for p in positions]
            done.set()
            follower.result(100)
        assert [e.position for e in seen] == sorted(written)
        assert len(seen) == 600
        recorded = [e.recorded_at for e in seen]
        assert recorded == sorted(recorded)


class TestLifetime:
    def test_what_was_written_is_there_after_reopening(self, adapter):
        store = adapter.open()
        stream = new_stream()
        store.join("a", "", 60)
        store.claim("a", [1])
        store.append(batch(event(stream), ledger=[line(1, 5)]))
        log, identity, owned = store.read(0, 10), store.identity, store.ownership()
        if adapter.kind != "memory":
            store.close()
        store = adapter.open()
        assert (store.read(0, 10), store.identity, store.ownership()) == (log, identity, owned)
        assert store.lines([stream_number(1)]) == {stream_number(1): line(1, 5)}
        [position] = store.append(batch(event(stream, 2)))
        assert position > log[-1].position
        assert store.head() == position

    def test_erased_streams_are_gone_with_the_commit_that_says_so(self, store: EventStore):
        gone, kept = new_stream(), new_stream()
        store.append(batch(event(gone), event(kept), event(gone, 2), event(kept, 2)))
        said = event(new_stream(), name="schedule.history_erased.v1")
        [position] = store.append(batch(said)._replace(erased=[gone]))
        assert [(e.position, e.stream) for e in store.read(0, 10)] == [
            (2, kept), (4, kept), (5, said.stream),
        ]  # fmt: skip
        assert [e.position for e in store.read(1, 1)] == [2]
        assert store.load([gone, kept]).keys() == {kept}
        assert store.head() == position == 5
        assert store.append(batch(event(gone, 1))) is not None

    def test_refused_batch_erases_nothing(self, store: EventStore):
        gone, taken = new_stream(), new_stream()
        store.append(batch(event(gone), event(taken)))
        before = store.read(0, 10)
        with pytest.raises(AlreadyWritten):
            store.append(batch(event(taken))._replace(erased=[gone]))
        with pytest.raises(Fenced):
            store.append(batch(event(new_stream()), epochs={3: 99})._replace(erased=[gone]))
        assert store.read(0, 10) == before


def test_closing_twice_is_nothing(adapter):
    store = adapter.open()
    store.append(batch(event(new_stream())))
    store.close()
    store.close()
    assert adapter.open().head() == 1


def test_recorded_at_never_goes_back(adapter):
    if adapter.kind == "postgres":
        pytest.skip("the database's clock cannot be moved; see test_postgres")
    store = adapter.open()
    store.append(batch(event(new_stream())))
    adapter.clock.move(-3600)
    store.append(batch(event(new_stream())))
    if adapter.kind != "memory":
        store.close()
    store = adapter.open()
    store.append(batch(event(new_stream())))
    adapter.clock.move(7200)
    store.append(batch(event(new_stream())))
    assert [e.recorded_at - START for e in store.read(0, 9)] == [0, 0, 0, HOUR]


def test_old_records_of_requests_are_forgotten(adapter):
    store = adapter.open()
    old, new = (request_stream("default", "schedule.pause", key) for key in ("old", "new"))
    store.append(batch(event(old), event(new_stream())))
    if adapter.kind == "postgres":
        between = store.now() + 1
    else:
        adapter.clock.move(3600)
        between = adapter.clock()
    store.append(batch(event(new), event(new_stream())))
    assert store.forget_requests(between - HOUR, 10) == 0
    assert store.forget_requests(between, 10) == 1
    assert store.forget_requests(between, 10) == 0
    assert store.load([old, new]).keys() == {new}
    assert [e.position for e in store.read(0, 10)] == [2, 3, 4]
    store.compact()
    assert store.head() == 4
