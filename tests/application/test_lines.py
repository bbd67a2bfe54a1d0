"""What waits stays in the store; what is due, fires; whatever happens to clocks and processes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from stepping import START, WORK, Clock, Recorder, RecordingBus, Stepped, reported

from horae_domain.events import AttemptFailed, ExecutionRequested, OccurrencesDecided
from horae_domain.instants import format_instant
from horae_infrastructure.store.memory import MemoryStore
from horae_infrastructure.store.sqlite import SqliteStore


def once(seconds: float) -> dict[str, Any]:
    return {"type": "once", "at": format_instant(START + timedelta(seconds=seconds))}


def held(desk: Stepped) -> int:
    return len(dict(desk.engine.lines.all()))


def fired(desk: Stepped) -> list[str]:
    return [work.schedule_id for work in desk.executor.started]


def test_schedule_far_ahead_is_not_in_memory_and_fires_in_time(desk: Stepped, restart: Any) -> None:
    desk.create("far", trigger=once(3600))
    later = restart()
    later.settle()
    assert held(later) == 0
    later.advance(3599)
    assert fired(later) == []
    later.advance(1)
    assert fired(later) == ["far"]


@pytest.mark.parametrize("hours", [1, 5, 30])
def test_clock_that_jumps_ahead_fires_by_the_catch_up_policy(desk: Stepped, hours: int) -> None:
    desk.create("job", every="1 minute")
    desk.create("late", trigger=once(1800), catch_up={"window": "2 days"})
    desk.clock.jump(hours * 3600)
    desk.settle()
    assert sorted(fired(desk)) == ["job", "late"]
    ranges = desk.events(OccurrencesDecided)
    counted = sum(event.count or 0 for event in ranges if event.schedule_id == "job")
    uncounted = any(event.count is None for event in ranges)
    assert counted == hours * 60 - 1 or uncounted


def test_clock_that_goes_back_fires_nothing_again(desk: Stepped) -> None:
    desk.create("job", every="1 minute", overlap="allow")
    desk.advance(600)
    assert desk.count("execution.requested") == 10
    desk.clock.jump(-3600)
    desk.settle()
    for _ in range(60):
        desk.clock.move(60)
        desk.settle()
    assert desk.count("execution.requested") == 10
    desk.advance(60)
    assert desk.count("execution.requested") == 11
    assert len({event.execution_id for event in desk.events(ExecutionRequested)}) == 11


def test_restart_keeps_what_is_delayed(desk: Stepped, restart: Any) -> None:
    desk.manual(retry={"delay": "10 minutes", "jitter": 0})
    desk.trigger()
    desk.report(desk.executor.started[0], "failed", error={"type": "E", "message": ""})
    later = restart()
    later.advance(599)
    assert fired(later) == []
    later.advance(1)
    assert [work.attempt for work in later.executor.started] == [2]


def test_restart_loses_what_ran_inside_the_process_and_runs_it_again(
    desk: Stepped, restart: Any
) -> None:
    desk.manual()
    desk.trigger()
    work = desk.executor.started[0]
    later = restart()
    later.settle()
    assert [event.outcome for event in later.events(AttemptFailed)] == ["lost"]
    assert [each.attempt for each in later.executor.started] == [2]
    assert later.report(work).body["error"]["code"] == "stale_lease"
    assert later.report(later.executor.started[0]).ok
    assert later.count("execution.succeeded") == 1


def test_restart_keeps_what_runs_elsewhere(clock: Clock) -> None:
    store = MemoryStore(clock=clock.micros)
    desk = Stepped(store, clock, bus=RecordingBus())
    desk.settle()
    desk.manual(action={"type": "queue", "queue": "q"})
    id_ = desk.trigger()
    desk.ask("execution.start", {"execution_id": id_, "lease": "1.1", "worker": "far"})
    bus = RecordingBus()
    later = Stepped(store, clock, name="again", bus=bus)
    later.settle()
    assert bus.published == []
    body = {"execution_id": id_, "lease": "1.1", "outcome": "succeeded"}
    assert later.ask("execution.report", body).ok
    assert later.events(AttemptFailed) == []


def test_deadline_of_work_elsewhere_is_kept_over_a_restart(clock: Clock) -> None:
    store = MemoryStore(clock=clock.micros)
    desk = Stepped(store, clock, bus=RecordingBus())
    desk.settle()
    desk.manual(
        action={"type": "queue", "queue": "q"},
        timeout={"start_to_close": "1 hour"},
        retry={"max_attempts": 1},
    )
    id_ = desk.trigger()
    desk.ask("execution.start", {"execution_id": id_, "lease": "1.1"})
    later = Stepped(store, clock, name="again", bus=RecordingBus())
    later.advance(3599)
    assert later.count("execution.timed_out") == 0
    later.advance(1)
    assert later.count("execution.timed_out") == 1


def test_restart_hands_out_what_was_pending(clock: Clock) -> None:
    store = MemoryStore(clock=clock.micros)
    desk = Stepped(store, clock, executor=Recorder(slots=0))
    desk.settle()
    desk.manual()
    desk.trigger()
    later = Stepped(store, clock, name="again")
    later.settle()
    assert [work.attempt for work in later.executor.started] == [1]


def test_occurrences_of_a_downtime_are_decided_at_the_start(desk: Stepped, restart: Any) -> None:
    desk.create("job", every="1 minute", catch_up={"mode": "all", "window": "1 hour"})
    desk.clock.move(600)
    later = restart()
    later.settle()
    assert len(fired(later)) == 1, "overlap skip: the others wait behind it"
    decided = later.count("execution.requested") + later.count("execution.skipped")
    assert decided == 10


def test_more_due_at_once_than_fits_a_round(desk: Stepped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("horae_application.engine.MAX_DUE", 7)
    monkeypatch.setattr("horae_application.lines.PAGE", 5)
    monkeypatch.setattr("horae_application.engine.PREFETCH", 3)
    desk.executor.slots = 1000
    for index in range(50):
        desk.create(f"s{index}", trigger=once(60))
    desk.advance(60)
    assert sorted(fired(desk)) == sorted(f"s{index}" for index in range(50))


@pytest.mark.no_cover  # tracing would take as long again; examples cover the lines
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_many_waiting_schedules_take_no_memory_and_fire(
    kind: str, clock: Clock, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("horae_application.lines.CACHE", 200)
    store = (
        MemoryStore(clock=clock.micros)
        if kind == "memory"
        else SqliteStore(tmp_path / "horae.db", clock=clock.micros)
    )
    desk = Stepped(store, clock, executor=Recorder(slots=10_000))
    desk.settle()
    body = {"trigger": once(3600), "action": WORK}
    for index in range(2_000):
        desk.send("schedule.create", {"id": f"s{index}", **body})
    desk.settle()
    assert held(desk) <= 200
    later = Stepped(store, clock, name="again", executor=Recorder(slots=10_000))
    later.advance(3594)
    assert held(later) == 0
    later.advance(6)
    assert len(later.executor.started) == len(set(fired(later))) == 2_000
    for work in list(later.executor.started):
        later.send("execution.report", reported(work))
    later.executor.running.clear()
    later.settle()
    assert held(later) == 0, "what has ended is forgotten"
    assert store.due(range(64), None, 2**62, 10) == []
    store.close()


def test_retry_far_ahead_fires_although_its_line_was_forgotten(desk: Stepped, restart: Any) -> None:
    desk.manual(retry={"delay": "20 minutes", "jitter": 0})
    desk.trigger()
    desk.report(desk.executor.started[0], "failed")
    later = restart()
    later.settle()
    assert held(later) == 0
    later.advance(1200)
    assert [work.attempt for work in later.executor.started] == [2]


def test_schedule_made_anew_after_its_end_fires_again(desk: Stepped, restart: Any) -> None:
    for turn in (1, 2):
        desk.create("job", trigger={"type": "once", "after": "10 seconds"})
        desk.advance(10)
        desk.report(desk.executor.started[-1])
        assert len(fired(desk)) == turn
        assert held(desk) == 0
    assert len({work.execution_id for work in desk.executor.started}) == 2


def test_next_wake_is_when_something_is_due_or_read(desk: Stepped) -> None:
    desk.create("job", trigger=once(2))
    desk.settle()
    wake = desk.engine.lines.next_wake()
    assert wake is not None
    assert wake - desk.clock.micros() == 2_000_000
    desk.ask("schedule.cancel", {"id": "job"})
    later = desk.engine.lines.next_wake()
    assert later is not None
    assert later > wake
