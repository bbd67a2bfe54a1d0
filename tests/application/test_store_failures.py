"""The store fails: nothing is lost, nothing is done twice, nobody is left without an answer."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest
from stepping import START, WORK, Clock, Stepped, Wrapped, number, reported, same_partition

from horae_application.ports import (
    AlreadyWritten,
    Batch,
    CommitUnknown,
    Fenced,
    NewEvent,
    StoreUnavailable,
)
from horae_domain.codec import encode, name_of
from horae_domain.events import (
    ExecutionRequested,
    RequestAnswered,
    ScheduleCreated,
    ScheduleQuarantined,
)
from horae_domain.identity import partition_of_stream, request_stream, schedule_stream
from horae_infrastructure.store.memory import MemoryStore

Faulty = tuple[Stepped, Wrapped]

MANUAL = {"id": "job", "trigger": {"type": "manual"}, "action": WORK}


def rounds(desk: Stepped, count: int = 12) -> None:
    """Rounds as the engine's thread does them, through failures."""
    for _ in range(count):
        desk.engine.round()


def ids(desk: Stepped) -> list[str]:
    return [event.execution_id for event in desk.events(ExecutionRequested)]


# --- nothing was written -------------------------------------------------------------------------


def test_command_is_refused_while_the_store_is_unavailable(faulty: Faulty) -> None:
    desk, store = faulty
    store.fail("append", StoreUnavailable("no room"))
    replies = desk.send("schedule.create", MANUAL)
    rounds(desk)
    assert replies[0].status == 503
    assert "no room" in replies[0].body["error"]["message"]
    assert desk.names() == []
    assert desk.ask("schedule.create", MANUAL).ok


def test_health_knows_of_the_store_until_it_is_back(faulty: Faulty) -> None:
    desk, store = faulty
    store.fail("append", StoreUnavailable("no room"))
    desk.send("schedule.create", MANUAL)
    rounds(desk, 1)
    assert desk.engine.store_error == "no room"
    rounds(desk, 1)
    assert desk.engine.store_error is None


@pytest.mark.parametrize("call", ["append", "load", "lines"])
def test_what_was_due_during_an_outage_fires_afterwards_once(faulty: Faulty, call: str) -> None:
    desk, store = faulty
    desk.create()
    desk.engine.lines.drop(list(dict(desk.engine.lines.all())))
    store.fail(call, StoreUnavailable("gone"), times=3)
    desk.clock.move(60)
    rounds(desk, 3)
    assert desk.executor.started == []
    rounds(desk)
    assert len(desk.executor.started) == len(ids(desk)) == 1


@pytest.mark.parametrize("seconds", [0, 3, 60])
def test_window_that_could_not_be_read_is_read_again(clock: Clock, seconds: int) -> None:
    store = Wrapped(MemoryStore(clock=clock.micros))
    first = Stepped(store, clock)  # type: ignore[arg-type]
    first.settle()
    first.create(every="30 seconds")
    desk = Stepped(store, clock, name="again")  # type: ignore[arg-type]
    clock.move(seconds)
    store.fail("due", StoreUnavailable("gone"), times=2)
    rounds(desk, 3)
    desk.advance(120 - seconds)
    # One a 30 s that nobody reports: the first is running, the others are skipped behind it.
    assert len(desk.executor.started) == 1
    assert desk.count("execution.skipped") + desk.count("occurrences.decided") >= 1


def test_next_window_that_could_not_be_read_is_read_again(faulty: Faulty) -> None:
    desk, store = faulty
    desk.create()
    desk.clock.move(57)  # the window with the instant is read now
    store.fail("due", StoreUnavailable("gone"))
    rounds(desk, 1)
    desk.advance(3)
    assert len(desk.executor.started) == 1


def test_failure_of_the_first_claim_is_repeated(clock: Clock) -> None:
    store = Wrapped(MemoryStore(clock=clock.micros))
    desk = Stepped(store, clock)  # type: ignore[arg-type]
    store.fail("claim", StoreUnavailable("gone"))
    rounds(desk, 1)
    clock.move(1)
    rounds(desk, 1)
    assert desk.ask("schedule.create", MANUAL).ok


# --- it is not known -----------------------------------------------------------------------------


def test_commit_that_happened_is_answered_and_its_work_started_once(faulty: Faulty) -> None:
    desk, store = faulty
    desk.ask("schedule.create", MANUAL)
    store.fail("append", CommitUnknown("torn"), after=True)
    replies = desk.send("schedule.trigger", {"id": "job", "key": "k"}, key="k")
    rounds(desk)
    assert replies[0].ok
    assert [event.position for event in store.read(0, 9)][-1] == number(replies[0])
    assert len(desk.executor.started) == len(ids(desk)) == 1


def test_commit_that_did_not_happen_is_refused_and_starts_nothing(faulty: Faulty) -> None:
    desk, store = faulty
    desk.ask("schedule.create", MANUAL)
    store.fail("append", CommitUnknown("torn"))
    replies = desk.send("schedule.trigger", {"id": "job", "key": "k"})
    rounds(desk)
    assert replies[0].status == 503
    assert desk.executor.started == []
    assert desk.trigger(key="k")
    assert len(desk.executor.started) == 1


@pytest.mark.parametrize("happened", [True, False])
def test_due_instant_of_an_unknown_commit_is_decided_once(faulty: Faulty, happened: bool) -> None:
    desk, store = faulty
    desk.create()
    store.fail("append", CommitUnknown("torn"), after=happened)
    desk.clock.move(60)
    rounds(desk)
    assert len(desk.executor.started) == len(ids(desk)) == 1


@pytest.mark.parametrize("happened", [True, False])
def test_read_back_that_fails_is_repeated_before_anything_is_decided(
    faulty: Faulty, happened: bool
) -> None:
    desk, store = faulty
    desk.ask("schedule.create", MANUAL)
    desk.create("clock")
    store.fail("append", CommitUnknown("torn"), after=happened)
    desk.clock.move(60)
    replies = desk.send("schedule.trigger", {"id": "job", "key": "k"})
    store.fail("load", StoreUnavailable("gone"))  # the key's look-up
    rounds(desk, 1)
    assert replies.pop().status == 503
    replies = desk.send("schedule.trigger", {"id": "job"})
    store.fail("load", StoreUnavailable("gone"), times=2)  # the read-back, twice
    rounds(desk, 1)
    assert replies == []
    others = desk.send("schedule.pause", {"id": "job"})
    rounds(desk, 1)
    assert replies == [], "not known yet"
    assert others[0].status == 503, "nobody waits for a store that is away"
    rounds(desk)
    assert replies[0].ok == happened
    assert len(desk.events(ExecutionRequested)) == (2 if happened else 1)
    started = [work.execution_id for work in desk.executor.started]
    assert sorted(started) == sorted(ids(desk))


def test_unknown_commit_of_partitions_lost_meanwhile_is_answered_and_starts_nothing(
    clock: Clock,
) -> None:
    store = Wrapped(Leased(clock=clock.micros))
    desk = Stepped(store, clock)  # type: ignore[arg-type]
    desk.settle()
    desk.ask("schedule.create", MANUAL)
    store.fail("append", CommitUnknown("torn"), after=True)
    replies = desk.send("schedule.trigger", {"id": "job"})
    store.fail("load", StoreUnavailable("gone"))
    rounds(desk, 1)
    clock.move(10)
    other = Stepped(store, clock, name="other")  # type: ignore[arg-type]
    other.engine.round()
    rounds(desk, 1)
    assert replies[0].ok, "it was committed"
    assert desk.executor.started == []
    other.settle()
    assert [work.attempt for work in other.executor.started] == [2]


class Leased(MemoryStore):
    """Several owners share it, as they do a database."""

    single_process = False


# --- another writer ------------------------------------------------------------------------------


def test_key_that_another_writer_took_has_his_answer(faulty: Faulty) -> None:
    desk, store = faulty
    raw = msgspec.json.encode(MANUAL)
    theirs = Wrapped(MemoryStore(clock=desk.clock.micros))
    there = Stepped(theirs, desk.clock)  # type: ignore[arg-type]
    there.ask("schedule.create", raw, key="k")
    event = there.events(RequestAnswered)[0]

    def meanwhile() -> None:
        row = NewEvent(
            request_stream("default", "schedule.create", "k"), 1, name_of(event), encode(event)
        )
        store.append(Batch({}, [row], [], []))

    store.fail("append", meanwhile)
    reply = desk.send("schedule.create", raw, key="k")
    rounds(desk)
    assert reply[0].ok
    assert desk.events(ScheduleCreated) == [], "it was answered by another"


def test_one_clash_does_not_refuse_the_commands_beside_it(faulty: Faulty) -> None:
    desk, store = faulty
    store.fail("append", AlreadyWritten(str(UUID(int=7)), 1), times=3)
    beside = [desk.send("schedule.create", MANUAL | {"id": f"s{n}"}) for n in range(20)]
    rounds(desk, 40)
    assert all(replies[0].ok for replies in beside)


def test_command_that_is_never_written_is_told_why_without_the_code_of_the_store(
    faulty: Faulty,
) -> None:
    desk, store = faulty
    store.fail("append", Fenced([]), times=40)
    replies = desk.send("schedule.create", MANUAL)
    rounds(desk, 40)
    assert replies[0].body["error"]["code"] == "unavailable"
    assert replies[0].body["error"]["message"] == "partitions [] belong to another owner"


def test_schedule_that_always_clashes_is_quarantined_and_the_others_fire(faulty: Faulty) -> None:
    desk, store = faulty
    desk.create("bad")
    desk.create("good")
    bad = schedule_stream("default", "bad")
    append = store._store.append

    def refuse(batch: Batch) -> Any:
        if any(row.stream == bad for row in batch.ledger):
            raise AlreadyWritten(bad, 9)
        return append(batch)

    store._store.append = refuse  # type: ignore[method-assign]
    desk.clock.move(60)
    rounds(desk, 40)
    assert [work.schedule_id for work in desk.executor.started] == ["good"]
    assert list(desk.engine.lines.quarantined) == [bad]


def test_command_that_cannot_be_written_is_answered_and_the_others_are_done(
    faulty: Faulty,
) -> None:
    desk, _ = faulty
    bad = desk.send("schedule.create", MANUAL | {"id": "bad"}, actor="\ud800")
    good = [desk.send("schedule.create", MANUAL | {"id": f"s{n}"}) for n in range(5)]
    rounds(desk, 20)
    assert bad[0].body["error"]["code"] == "internal"
    assert all(replies[0].ok for replies in good)


# --- fenced --------------------------------------------------------------------------------------


def test_fenced_engine_forgets_and_acknowledges_nothing(clock: Clock) -> None:
    store = Leased(clock=clock.micros)
    desk = Stepped(store, clock)
    desk.settle()
    desk.ask("schedule.create", MANUAL)
    desk.trigger()
    work = desk.executor.started[0]
    store.join("thief", "elsewhere", 60.0)
    store.claim("thief", range(64))
    late = desk.send("execution.report", reported(work))
    pausing = desk.send("schedule.pause", {"id": "job"})
    rounds(desk)
    assert late[0].status == pausing[0].status == 503
    assert desk.count("execution.succeeded") == desk.count("schedule.paused") == 0
    assert desk.engine.ownership.epochs == {}
    assert dict(desk.engine.lines.all()) == {}
    assert desk.executor.stopped == [(work.execution_id, work.lease)]


def test_fence_of_one_partition_leaves_the_others(clock: Clock) -> None:
    store = Leased(clock=clock.micros)
    desk = Stepped(store, clock)
    desk.settle()
    desk.create("mine")
    desk.create("theirs")
    lost = partition_of_stream(schedule_stream("default", "theirs"))
    store.claim("thief", [lost])
    store._lost.clear()  # the lease of this engine runs on
    clock.move(0.1)
    refused = desk.send("schedule.pause", {"id": "theirs"})
    rounds(desk, 1)
    assert refused == [], "it is asked again, of whoever owns it"
    assert len(desk.engine.ownership.epochs) == 63
    assert lost not in desk.engine.ownership.epochs
    assert desk.engine.lines.get(schedule_stream("default", "mine")) is not None


# --- the end -------------------------------------------------------------------------------------


def test_engine_that_stops_answers_everything_that_waits(faulty: Faulty) -> None:
    desk, store = faulty
    store.fail("append", CommitUnknown("torn"))
    store.fail("load", StoreUnavailable("gone"))
    unknown = desk.send("schedule.create", MANUAL)
    rounds(desk, 1)
    waiting = [desk.send("schedule.create", MANUAL | {"id": f"s{n}"}) for n in range(1500)]
    desk.engine.stop()
    desk.engine.run()
    assert unknown[0].status == 503
    assert all(replies[0].status == 503 for replies in waiting)
    assert store.ownership()[0].owner is None
    late = desk.send("schedule.create", MANUAL)
    assert late[0].status == 503


def test_command_that_comes_between_stop_and_end_is_answered(faulty: Faulty) -> None:
    desk, _ = faulty
    desk.engine._closed.set()
    replies = desk.send("schedule.create", MANUAL)
    assert replies[0].status == 503


def test_full_inbox_refuses(faulty: Faulty) -> None:
    desk, _ = faulty
    desk.engine.max_waiting = 2
    sent = [desk.send("schedule.create", MANUAL | {"id": f"s{n}"}) for n in range(3)]
    assert sent[2][0].status == 503
    desk.settle()
    assert sent[0][0].ok
    assert sent[1][0].ok


def test_store_that_cannot_be_left_does_not_keep_the_engine_from_ending(faulty: Faulty) -> None:
    desk, store = faulty
    store.fail("leave", StoreUnavailable("gone"))
    desk.engine.stop()
    desk.engine.run()
    assert desk.clock.now() == START


# --- what cannot be read -------------------------------------------------------------------------


def spoil(desk: Stepped, id_: str) -> str:
    """An event that nobody understands, in the stream of a schedule."""
    stream = schedule_stream("default", id_)
    version = len(desk.store.load([stream])[stream]) + 1
    row = NewEvent(stream, version, "schedule.unheard_of.v9", b"{}")
    desk.store.append(Batch({}, [row], [], []))
    return stream


def test_undecodable_schedule_is_quarantined_and_the_others_fire(
    desk: Stepped, restart: Any
) -> None:
    desk.create("good")
    desk.create("bad")
    bad = spoil(desk, "bad")
    later = restart()
    later.advance(60)
    assert [work.schedule_id for work in later.executor.started] == ["good"]
    assert list(later.engine.lines.quarantined) == [bad]


def test_commands_on_an_undecodable_schedule_are_refused_and_the_others_done(
    desk: Stepped, restart: Any
) -> None:
    desk.create("bad")
    spoil(desk, "bad")
    later = restart()
    later.settle()
    for _ in range(2):  # before and after it is known
        bad = later.send("schedule.create", {**MANUAL, "id": "bad"})
        good = later.send("schedule.create", {**MANUAL, "id": "good"})
        later.settle()
        assert bad[0].body["error"]["code"] == "illegal_state"
        assert bad[0].body["error"]["state"] == "failed"
        assert good[0].ok


def test_schedule_that_can_no_longer_be_evaluated_is_quarantined(
    desk: Stepped, restart: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.create("good")
    desk.create("bad")
    from horae_domain import firing

    real = firing.advance

    def settle(decision: Any, cause: Any) -> None:
        if decision.line.schedule.id == "bad" and decision.line.schedule.status == "active":
            raise LookupError("the zone is gone")
        real(decision, cause)

    monkeypatch.setattr(firing, "advance", settle)
    desk.advance(60)
    assert [work.schedule_id for work in desk.executor.started] == ["good"]
    (event,) = desk.events(ScheduleQuarantined)
    assert event.schedule_id == "bad"
    assert "the zone is gone" in event.reason
    refused = desk.ask("schedule.trigger", {"id": "bad"})
    assert refused.body["error"]["state"] == "failed"
    monkeypatch.undo()
    later = restart()
    later.advance(600)
    assert {work.schedule_id for work in later.executor.started} == {"good"}
    assert later.create("bad").body["revision"] == 2, "it can be made anew"
    later.advance(60)
    assert "bad" in {work.schedule_id for work in later.executor.started}
    assert later.count("schedule.quarantined") == 1


def test_schedule_that_fails_even_when_it_has_ended_is_left_alone(
    desk: Stepped, restart: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from horae_domain import firing

    desk.create("bad", timeout={"start_to_close": "90 seconds"})
    desk.advance(60)  # its attempt is out, so that the line lives on
    monkeypatch.setattr(firing, "advance", _fail)
    desk.advance(600)
    assert desk.count("schedule.quarantined") == 1
    (broken,) = desk.engine.lines.quarantined.values()
    assert broken.id == "bad"


def _fail(*_: Any) -> None:
    raise LookupError("the zone is gone")


def test_undecodable_schedule_is_recorded_once_as_failed(desk: Stepped, restart: Any) -> None:
    desk.create("bad")
    bad = spoil(desk, "bad")
    for _ in range(3):
        later = restart()
        later.advance(60)
    rows = later.store.load([bad])[bad]
    assert [row.name for row in rows].count("schedule.quarantined.v1") == 1
    assert rows[-1].version == 3
    assert later.executor.started == []


def test_record_of_a_quarantine_that_clashes_is_not_tried_for_ever(
    faulty: Faulty, restart: Any
) -> None:
    desk, store = faulty
    desk.create("good")
    desk.create("bad")
    bad = spoil(desk, "bad")
    desk.engine.lines.drop([bad])
    store.fail("append", AlreadyWritten(bad, 3))
    desk.clock.move(60)
    rounds(desk, 40)
    assert desk.count("schedule.quarantined") == 0
    assert desk.engine.lines.quarantined[bad].id == "bad"
    assert [work.schedule_id for work in desk.executor.started] == ["good"]


def test_undecodable_run_ends_its_schedule_which_can_be_made_anew(
    desk: Stepped, restart: Any
) -> None:
    desk.manual()
    id_ = desk.trigger()
    row = NewEvent(id_, 2, "execution.unheard_of.v9", b"{}")
    desk.store.append(Batch({}, [row], [], []))
    later = restart()
    later.settle()
    assert later.count("schedule.quarantined") == 1
    assert later.manual().body["revision"] == 2
    assert later.trigger()
    assert later.engine.lines.quarantined == {}


def test_undecodable_execution_is_a_refusal_of_its_own(desk: Stepped) -> None:
    desk.manual()
    desk.trigger()
    work = desk.executor.started[0]
    desk.report(work)
    row = NewEvent(work.execution_id, 3, "execution.unheard_of.v9", b"{}")
    desk.store.append(Batch({}, [row], [], []))
    bad = desk.send("execution.cancel", {"id": work.execution_id})
    good = desk.send("schedule.create", {**MANUAL, "id": same_partition("job")})
    desk.settle()
    assert bad[0].body["error"]["code"] == "internal"
    assert good[0].ok


def test_undecodable_beginning_of_an_execution_is_not_found(desk: Stepped) -> None:
    stray = str(UUID(int=5))
    desk.store.append(Batch({}, [NewEvent(stray, 1, "execution.unheard_of.v9", b"{}")], [], []))
    refused = desk.ask("execution.cancel", {"id": str(stray)})
    assert refused.body["error"]["code"] in {"internal", "execution_not_found"}


def test_ids_of_other_streams_are_no_executions(desk: Stepped) -> None:
    desk.manual()
    desk.ask("schedule.trigger", {"id": "job"}, key="k")
    for stream in (
        schedule_stream("default", "job"),
        request_stream("default", "schedule.trigger", "k"),
    ):
        refused = desk.ask("execution.cancel", {"id": str(stream)})
        assert refused.body["error"]["code"] == "execution_not_found"


def test_error_of_the_engine_itself_answers_and_goes_on(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, _ = faulty
    desk.ask("schedule.create", MANUAL)
    real = desk.engine.dispatch.assign
    monkeypatch.setattr(desk.engine.dispatch, "assign", lambda draft: 1 / 0)
    replies = desk.send("schedule.trigger", {"id": "job"})
    rounds(desk, 3)
    assert replies[0].body["error"]["code"] == "internal"
    monkeypatch.setattr(desk.engine.dispatch, "assign", real)
    assert desk.trigger()


def test_fenced_is_told_with_its_partitions() -> None:
    assert Fenced([3, 1, 3]).partitions == {1, 3}
