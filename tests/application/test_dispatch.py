"""Who does the work, in which order, and how much at once."""

from __future__ import annotations

from typing import Any

import pytest
from stepping import Clock, Recorder, RecordingBus, Stepped, Wrapped, reported

from horae_application.ports import StoreUnavailable
from horae_domain.events import (
    AttemptStarted,
    ExecutionEvent,
    ExecutionRequested,
    ExecutionSucceeded,
)
from horae_infrastructure.store.memory import MemoryStore

QUEUE = {"type": "queue", "queue": "reports"}
PROCESS = {"type": "process", "command": ["true"]}


def engine(clock: Clock, slots: int = 16, bus: RecordingBus | None = None) -> Stepped:
    desk = Stepped(MemoryStore(clock=clock.micros), clock, executor=Recorder(slots=slots), bus=bus)
    desk.settle()
    return desk


def finish(desk: Stepped) -> None:
    """Report the attempt that has run longest."""
    work = next(iter(desk.executor.running.values()))
    assert desk.report(work).ok


def test_waiting_work_goes_out_by_urgency_then_by_age(clock: Clock) -> None:
    desk = engine(clock, slots=1)
    desk.manual("first")
    desk.trigger("first")
    for priority in ("low", "medium", "high", "critical"):
        for turn in (1, 2):
            clock.move(1)
            desk.manual(f"{priority}{turn}", priority=priority)
            desk.trigger(f"{priority}{turn}")
    for _ in range(9):
        finish(desk)
    assert [work.schedule_id for work in desk.executor.started] == [
        "first",
        *("critical1", "critical2", "high1", "high2", "medium1", "medium2", "low1", "low2"),
    ]


def test_less_urgent_work_is_not_starved_by_more_urgent_work_that_keeps_coming(
    clock: Clock,
) -> None:
    desk = engine(clock, slots=1)
    desk.manual("first")
    desk.manual("low", priority="low")
    desk.manual("urgent", priority="critical", overlap="allow")
    desk.trigger("first")
    desk.trigger("low")
    began = clock.time
    for _ in range(30):
        clock.move(10)
        desk.trigger("urgent")
        desk.trigger("urgent")
        finish(desk)
        if desk.executor.started[-1].schedule_id == "low":
            break
    waited = (clock.time - began).total_seconds()
    assert 180 < waited <= 370, "three steps of a minute, and what was there by then"
    assert desk.executor.started[1].schedule_id == "urgent"


def test_no_more_is_started_than_the_executor_has_slots(clock: Clock) -> None:
    desk = engine(clock, slots=3)
    desk.manual(overlap="allow")
    for _ in range(10):
        desk.trigger()
        assert desk.executor.free() >= 0
    assert len(desk.executor.running) == 3
    while desk.executor.running:
        finish(desk)
        assert len(desk.executor.running) <= 3
    assert len({work.execution_id for work in desk.executor.started}) == 10


def test_slots_of_a_refused_commit_are_free_again(clock: Clock) -> None:
    store = Wrapped(MemoryStore(clock=clock.micros))
    desk = Stepped(store, clock)  # type: ignore[arg-type]
    desk.settle()
    desk.manual()
    held: list[int] = []
    hold = desk.executor.hold
    desk.executor.hold = lambda count: held.append(count) or hold(count)  # type: ignore[method-assign, func-returns-value]
    store.fail("append", StoreUnavailable("gone"))
    desk.send("schedule.trigger", {"id": "job"})
    desk.engine.round()
    assert held == [1, 0]


def test_overlap_skip_lets_one_be_unfinished(clock: Clock) -> None:
    desk = engine(clock)
    desk.create(every="1 minute")
    desk.advance(180)
    assert len(desk.executor.started) == 1
    finish(desk)
    desk.advance(60)
    assert len(desk.executor.started) == 2
    assert desk.count("execution.skipped") == 2


def test_overlap_skip_with_concurrency_lets_so_many_be_unfinished(clock: Clock) -> None:
    desk = engine(clock)
    desk.create(every="1 minute", concurrency=3)
    desk.advance(300)
    assert len(desk.executor.running) == 3
    assert desk.count("execution.skipped") == 2


@pytest.mark.parametrize("limit", [1, 2])
def test_overlap_allow_runs_so_many_at_once_and_the_rest_waits(clock: Clock, limit: int) -> None:
    desk = engine(clock)
    desk.manual(overlap="allow", concurrency=limit)
    for _ in range(5):
        desk.trigger()
    for _ in range(5):
        assert len(desk.executor.running) <= limit
        finish(desk)
    assert len(desk.executor.started) == 5


def test_limit_holds_at_every_position_of_the_log(clock: Clock) -> None:
    desk = engine(clock)
    desk.create(every="1 minute", overlap="allow", concurrency=1)
    desk.advance(60)
    report = reported(desk.executor.started[0])
    clock.move(60)
    desk.send("execution.report", report)  # decided with the second run, which is due before
    desk.settle()
    running: set[str] = set()
    for event in desk.events(ExecutionEvent):
        if isinstance(event, ExecutionSucceeded):
            running.remove(event.execution_id)
        elif isinstance(event, AttemptStarted | ExecutionRequested) and event.worker is not None:
            running.add(event.execution_id)
        assert len(running) <= 1
    assert len(desk.executor.started) == 2
    assert running == {desk.executor.started[1].execution_id}


@pytest.mark.parametrize("limit", [1, 2])
def test_limit_holds_for_work_elsewhere(clock: Clock, limit: int) -> None:
    bus = RecordingBus()
    desk = engine(clock, bus=bus)
    desk.manual(action=QUEUE, overlap="allow", concurrency=limit)
    for _ in range(5):
        desk.trigger()
    done: list[str] = []
    while bus.outstanding:
        assert len(bus.outstanding) <= limit
        for work in list(bus.outstanding.values()):
            body = {"execution_id": work.execution_id, "lease": work.lease}
            assert desk.ask("execution.start", body).ok
            assert desk.ask("execution.report", reported(work)).ok
            done.append(work.execution_id)
    assert len(set(done)) == 5


def test_delayed_attempt_counts_against_no_limit_of_running_ones(clock: Clock) -> None:
    desk = engine(clock)
    desk.manual(overlap="allow", concurrency=1, retry={"delay": "1 minute", "jitter": 0})
    desk.trigger()
    desk.trigger()
    first = desk.executor.started[0]
    desk.report(first, "failed")
    assert len(desk.executor.running) == 1
    finish(desk)
    desk.advance(60)
    assert [work.attempt for work in desk.executor.running.values()] == [2]


def test_command_lines_run_only_where_they_are_allowed(clock: Clock) -> None:
    desk = engine(clock)
    desk.manual(action=PROCESS)
    desk.trigger()
    assert desk.executor.started == []
    desk.executor.processes = True
    desk.engine.look_again()
    desk.settle()
    assert len(desk.executor.started) == 1


def test_published_work_is_done_here_once_this_process_serves_it(clock: Clock) -> None:
    bus = RecordingBus()
    desk = engine(clock, bus=bus)
    desk.manual(action={"type": "function", "name": "other"})
    desk.manual("queue", action=QUEUE)
    desk.trigger()
    desk.trigger("queue")
    assert len(bus.published) == 2
    desk.executor.names = ("work", "other")
    desk.engine.look_again()
    desk.settle()
    assert [work.schedule_id for work in desk.executor.started] == ["job"]
    assert [work.schedule_id for work in bus.outstanding.values()] == ["queue"]
    finish(desk)
    assert desk.count("execution.succeeded") == 1
    assert len(bus.published) == 2


def test_work_that_this_process_does_not_serve_is_published(clock: Clock) -> None:
    bus = RecordingBus()
    desk = engine(clock, bus=bus)
    desk.manual("here")
    desk.manual("there", action={"type": "function", "name": "other"})
    desk.manual("queue", action=QUEUE)
    for id_ in ("here", "there", "queue"):
        desk.trigger(id_)
    assert [work.schedule_id for work in desk.executor.started] == ["here"]
    assert [work.schedule_id for work in bus.published] == ["there", "queue"]


@pytest.mark.parametrize("how", ["taken", "cancelled", "schedule cancelled"])
def test_published_work_is_withdrawn_once_when_nobody_needs_it(clock: Clock, how: str) -> None:
    bus = RecordingBus()
    desk = engine(clock, bus=bus)
    desk.manual(action=QUEUE)
    id_ = desk.trigger()
    match how:
        case "taken":
            desk.ask("execution.start", {"execution_id": id_, "lease": "1.1"})
            desk.ask("execution.report", reported(bus.published[0]))
        case "cancelled":
            desk.ask("execution.cancel", {"id": id_})
        case _:
            desk.ask("schedule.cancel", {"id": "job"})
    assert bus.withdrawn == [id_]
    assert bus.outstanding == {}


def test_retry_elsewhere_is_published_again_when_it_is_due(clock: Clock) -> None:
    bus = RecordingBus()
    desk = engine(clock, bus=bus)
    desk.manual(action=QUEUE, retry={"delay": "1 minute", "jitter": 0})
    id_ = desk.trigger()
    desk.ask("execution.start", {"execution_id": id_, "lease": "1.1"})
    desk.ask("execution.report", reported(bus.published[0], "failed"))
    assert len(bus.published) == 1
    desk.advance(60)
    assert [(work.attempt, work.lease) for work in bus.published] == [(1, "1.1"), (2, "2.1")]


def test_no_more_is_published_than_fits_and_the_rest_follows(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("horae_application.crews.UNTOLD", 4)
    bus = RecordingBus()
    desk = engine(clock, bus=bus)
    desk.manual(action=QUEUE, overlap="allow")
    for _ in range(10):
        desk.trigger()
    assert len(bus.outstanding) == 4
    while bus.outstanding:
        clock.move(1)
        work = next(iter(bus.outstanding.values()))
        body = {"execution_id": work.execution_id, "lease": work.lease}
        assert desk.ask("execution.start", body).ok
        assert len(bus.outstanding) <= 4
    assert len({work.execution_id for work in bus.published}) == 10


def test_queue_that_nobody_serves_holds_up_no_other(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("horae_application.crews.UNTOLD", 4)
    bus = RecordingBus()
    desk = engine(clock, bus=bus)
    desk.manual("dead", action={"type": "queue", "queue": "dead"}, overlap="allow")
    desk.manual("alive", action={"type": "queue", "queue": "alive"})
    for _ in range(10):
        desk.trigger("dead")
    id_ = desk.trigger("alive")
    assert len(bus.outstanding) == 5
    assert id_ in bus.outstanding


def test_work_of_lost_partitions_is_withdrawn(clock: Clock) -> None:
    bus = RecordingBus()
    desk = engine(clock, bus=bus)
    desk.manual(action=QUEUE)
    id_ = desk.trigger()
    desk.engine._lose(frozenset(range(64)))
    assert bus.withdrawn == [id_]


def test_hung_attempt_makes_room_when_its_time_is_over(clock: Clock) -> None:
    desk = engine(clock, slots=1)
    desk.manual("hung", timeout={"start_to_close": "10 seconds"}, retry={"max_attempts": 1})
    desk.trigger("hung")
    desk.manual("next")
    desk.trigger("next")
    desk.advance(10)
    hung = desk.executor.started[0]
    assert desk.executor.stopped == [(hung.execution_id, hung.lease)]
    assert [work.schedule_id for work in desk.executor.started] == ["hung", "next"]
    assert desk.count("execution.timed_out") == 1


def test_attempt_whose_commit_failed_waits_as_before(clock: Clock) -> None:
    from stepping import Wrapped

    from horae_application.ports import StoreUnavailable

    store = Wrapped(MemoryStore(clock=clock.micros))
    desk = Stepped(store, clock, executor=Recorder(slots=0))  # type: ignore[arg-type]
    desk.settle()
    desk.manual("a", priority="low")
    desk.manual("b", priority="high")
    desk.trigger("a")
    desk.trigger("b")
    desk.executor.slots = 2
    store.fail("append", StoreUnavailable("gone"))
    desk.engine.round()
    assert desk.executor.started == []
    desk.settle()
    assert [work.schedule_id for work in desk.executor.started] == ["b", "a"]


@pytest.mark.parametrize(
    ("trigger", "facts"),
    [
        (
            {"type": "cron", "expression": "* * * * *"},
            {"kind": "cron", "expression": "* * * * *", "timezone": "UTC"},
        ),
        ({"type": "interval", "every": "1 minute"}, {"kind": "interval", "every": "1m"}),
        ({"type": "once", "after": "1 minute"}, {"kind": "once"}),
    ],
)
def test_work_says_why_it_runs(clock: Clock, trigger: Any, facts: dict[str, Any]) -> None:
    desk = engine(clock)
    desk.create(trigger=trigger, payload={"a": 1}, timeout={"start_to_close": "30 seconds"})
    desk.advance(60)
    work = desk.executor.started[0]
    assert facts.items() <= work.trigger.items()
    assert (work.run_number, work.payload, work.timeout) == (1, {"a": 1}, 30.0)
    assert work.revision == 1


def test_work_of_a_trigger_has_its_key_and_correlation(clock: Clock) -> None:
    desk = engine(clock)
    desk.manual()
    desk.ask("schedule.trigger", {"id": "job", "key": "k"}, correlation_id="c-1")
    work = desk.executor.started[0]
    assert work.trigger == {"kind": "manual", "key": "k"}
    assert work.correlation_id == "c-1"
    assert work.run_number is None
