"""Several engines share the partitions: one owner each, no double start, busy ones are kept."""

from __future__ import annotations

import time
from typing import Any

import pytest
from stepping import WORK, Clock, Stepped, Wrapped, events_of, log_of, reported

from horae_application.ownership import TICK, TTL
from horae_application.ports import CommitUnknown, EventStore, StoreUnavailable
from horae_domain.events import AttemptFailed, ExecutionRequested
from horae_domain.identity import partition_of
from horae_domain.instants import from_micros
from horae_infrastructure.store.memory import MemoryStore

MANUAL = {"trigger": {"type": "manual"}, "action": WORK}


class Leased(MemoryStore):
    """Several owners share it, as they do a database."""

    single_process = False


@pytest.fixture
def store(clock: Clock) -> Leased:
    return Leased(clock=clock.micros)


def engine(store: Any, clock: Clock, name: str) -> Stepped:
    return Stepped(store, clock, name=name)


def tick(clock: Clock, *engines: Stepped) -> None:
    """A renewal of every lease."""
    clock.move(TICK)
    for each in engines:
        each.settle()


def owned(desk: Stepped) -> set[int]:
    return set(desk.engine.ownership.epochs)


def test_second_engine_gets_its_half(store: Leased, clock: Clock) -> None:
    first, second = engine(store, clock, "a"), engine(store, clock, "b")
    first.settle()
    assert len(owned(first)) == 64
    second.settle()
    for _ in range(3):
        tick(clock, first, second)
    assert len(owned(first)) == len(owned(second)) == 32
    assert not owned(first) & owned(second)
    directory = first.engine.ownership.directory
    assert {directory[each] for each in owned(second)} == {"address-of-b"}


def test_engine_that_is_gone_is_replaced_after_its_lease(store: Leased, clock: Clock) -> None:
    first, second = engine(store, clock, "a"), engine(store, clock, "b")
    first.settle()
    first.create("job", every="1 minute")
    second.settle()
    clock.move(TTL + 0.1)
    second.settle()
    assert len(owned(second)) == 64
    second.advance(60)
    assert len(second.executor.started) == 1


def test_partitions_with_running_work_are_not_given_away(store: Leased, clock: Clock) -> None:
    first, second = engine(store, clock, "a"), engine(store, clock, "b")
    first.settle()
    busy = [f"job{index}" for index in range(200)]
    first.executor.slots = 1000
    for id_ in busy:
        first.ask("schedule.create", {"id": id_, **MANUAL})
        first.trigger(id_)
    partitions = {partition_of("default", id_) for id_ in busy}
    assert len(partitions) > 40
    for _ in range(3):
        tick(clock, first, second)
    assert partitions <= owned(first)
    for work in list(first.executor.running.values()):
        assert first.report(work).ok
    for _ in range(3):
        tick(clock, first, second)
    assert len(owned(first)) == len(owned(second)) == 32
    assert events_of(store, AttemptFailed) == []


def test_hand_over_starts_nothing_twice_and_misses_nothing(store: Leased, clock: Clock) -> None:
    first, second = engine(store, clock, "a"), engine(store, clock, "b")
    first.executor.slots = second.executor.slots = 1000
    first.settle()
    for index in range(100):
        first.ask(
            "schedule.create",
            {
                "id": f"s{index}",
                "trigger": {"type": "interval", "every": "3 seconds"},
                "action": WORK,
            },
        )
    started: list[str] = []
    for step in range(30):
        engines = (first, second) if step < 20 else (second,)
        tick(clock, *engines)
        for each in engines:
            for work in list(each.executor.running.values()):
                started.append(work.execution_id)
                each.report(work)
        if step == 20:
            first.engine.stop()
            first.engine.run()
    assert len(started) == len(set(started))
    requested = events_of(store, ExecutionRequested)
    assert len({(event.schedule_id, event.due) for event in requested}) == len(requested)
    assert len(requested) == 100 * 10, "every 3 s for 30 s"


def test_engine_that_was_stopped_past_its_lease_changes_nothing(
    store: Leased, clock: Clock
) -> None:
    first, second = engine(store, clock, "a"), engine(store, clock, "b")
    first.settle()
    first.ask("schedule.create", {"id": "job", **MANUAL})
    first.trigger()
    work = first.executor.started[0]
    clock.move(TTL + 0.1)  # the first one sleeps
    second.settle()
    assert [each.attempt for each in second.executor.started] == [2]
    head = store.head()
    late = first.send("execution.report", reported(work))
    pausing = first.send("schedule.pause", {"id": "job"})
    first.engine.round()
    first.settle()
    assert store.head() == head
    assert late[0].body["error"]["moved"] is True
    assert pausing[0].body["error"]["moved"] is True
    assert first.executor.stopped == [(work.execution_id, work.lease)]
    assert first.engine.ownership.owner == "a.1"


@pytest.mark.parametrize("winner", ["report", "take-over"])
def test_report_and_take_over_have_one_winner(store: Leased, clock: Clock, winner: str) -> None:
    first, second = engine(store, clock, "a"), engine(store, clock, "b")
    first.settle()
    first.ask("schedule.create", {"id": "job", **MANUAL})
    first.trigger()
    work = first.executor.started[0]
    replies = first.send("execution.report", reported(work))
    if winner == "report":
        first.settle()
    clock.move(TTL + 0.1)
    second.settle()
    first.settle()
    assert replies[0].ok == (winner == "report")
    assert [each.attempt for each in second.executor.started] == ([2] if winner != "report" else [])
    outcomes = [row.name for row in log_of(store) if "succeeded" in row.name]
    assert len(outcomes) == (winner == "report")


@pytest.mark.parametrize("call", ["join", "members", "ownership", "claim", "release"])
@pytest.mark.parametrize("error", [StoreUnavailable("gone"), CommitUnknown("torn")])
@pytest.mark.parametrize("after", [False, True])
def test_shares_are_right_although_the_store_fails_while_they_are_made(
    store: Leased, clock: Clock, call: str, error: Exception, after: bool
) -> None:
    wrapped = Wrapped(store)
    first, second = engine(wrapped, clock, "a"), engine(store, clock, "b")
    first.settle()
    first.ask("schedule.create", {"id": "job", **MANUAL})
    wrapped.fail(call, error, after=after)
    second.settle()
    for _ in range(6):
        clock.move(TICK)
        for each in (first, second):
            each.engine.round()
            each.settle()
    assert owned(first) | owned(second) == set(range(64))
    assert len(owned(first)) == len(owned(second)) == 32
    assert {each.owner for each in store.ownership()} == {"a", "b"}


def test_claim_whose_answer_was_lost_is_made_again(store: Leased, clock: Clock) -> None:
    wrapped = Wrapped(store)
    desk = engine(wrapped, clock, "a")
    wrapped.fail("claim", CommitUnknown("torn"), after=True)
    desk.engine.round()
    assert owned(desk) == set()
    clock.move(TICK)
    desk.settle()
    assert len(owned(desk)) == 64
    assert desk.ask("schedule.create", {"id": "job", **MANUAL}).ok


# --- over one PostgreSQL --------------------------------------------------------------------------


@pytest.mark.postgres
def test_two_engines_over_one_database_have_one_winner(
    postgres_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from horae_infrastructure.store.postgres import PostgresStore

    stores: list[EventStore] = [PostgresStore(postgres_url), PostgresStore(postgres_url)]
    clock.time = from_micros(stores[0].now())
    # Engines compare their clock, which stands still here, with the store's.
    monkeypatch.setattr(PostgresStore, "now", lambda _: clock.micros())
    first, second = (engine(each, clock, name) for each, name in zip(stores, "ab", strict=True))
    try:
        first.settle()
        assert len(owned(first)) == 64
        first.ask("schedule.create", {"id": "job", **MANUAL})
        first.trigger()
        work = first.executor.started[0]
        stores[0].join("a", "", 0.01)  # its lease ends; it does not know
        deadline = time.monotonic() + 100
        while len(owned(second)) < 64:
            assert time.monotonic() < deadline, "it takes over"
            second.engine.ownership.next_tick = 0.0
            second.engine.round()
        second.settle()
        assert [each.attempt for each in second.executor.started] == [2]
        late = first.send("execution.report", reported(work))
        first.engine.round()  # fenced: nothing is acknowledged
        assert not any(reply.ok for reply in late)
        assert first.executor.stopped == [(work.execution_id, work.lease)]
        assert second.report(second.executor.started[0]).ok
        names = [row.name for row in log_of(stores[1])]
        assert names.count("execution.succeeded.v1") == 1
        assert first.executor.started == [work]
    finally:
        for each in stores:
            each.close()
