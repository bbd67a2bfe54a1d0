"""Schedules that pause themselves after failures in a row (G10)."""

from __future__ import annotations

from typing import Any

import pytest
from histories import HERE, History, at, cause, like, said

from horae_domain import decider
from horae_domain.events import (
    AttemptFailed,
    ExecutionFailed,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionTimedOut,
    OccurrencesDecided,
    ScheduleCompleted,
    ScheduleTripped,
    ScheduleUpdated,
)
from horae_domain.execution import Execution
from horae_domain.schedule import Status

BOOM = {"type": "Boom", "message": "no"}


def fragile(failures: int = 2, **told: Any) -> History:
    """Fires every minute, tries once, and pauses itself after so many failures."""
    once = {"retry": {"max_attempts": 1}, "pause_on_failures": failures}
    return History(**(once | told))


def fail(history: History, minute: float, run: Execution | None = None) -> list[Any]:
    """Let the run of a minute fail a second later."""
    history.settle(60 * minute)
    history.start(60 * minute, run)
    return history.report(60 * minute + 1, said("failed", error=BOOM), run)


def succeed(history: History, minute: float) -> None:
    history.settle(60 * minute)
    history.start(60 * minute)
    history.report(60 * minute + 1, said())


def test_failure_that_is_one_too_many_pauses_the_schedule_in_the_same_decision():
    history = fragile(2)
    fail(history, 1)
    run = history.settle(120)[0]
    history.start(120)
    events = history.report(121, said("failed", error=BOOM))
    assert events == [
        like(AttemptFailed),
        like(ExecutionFailed, execution_id=run.execution_id),
        like(
            ScheduleTripped,
            at=at(121),
            failures=2,
            execution_id=run.execution_id,
            reason="2 executions in a row without success, the last one by Boom: no",
        ),
    ]
    assert history.line.schedule.status is Status.PAUSED
    assert history.line.schedule.note == events[2].reason
    assert history.settle(600) == []


def test_schedule_without_the_policy_goes_on():
    history = fragile(2, pause_on_failures=None)
    for minute in range(1, 6):
        fail(history, minute)
    assert history.line.active


def test_success_begins_the_count_anew():
    history = fragile(2)
    fail(history, 1)
    succeed(history, 2)
    fail(history, 3)
    assert history.line.active
    fail(history, 4)
    assert not history.line.active


def test_resume_begins_the_count_anew():
    history = fragile(2)
    fail(history, 1)
    fail(history, 2)
    history.resume(130)
    fail(history, 3)
    assert history.line.active
    assert fail(history, 4)[-1] == like(ScheduleTripped, failures=2)


def test_retries_are_not_counted_but_executions():
    history = fragile(2, retry={"max_attempts": 2, "delay": "1s", "jitter": 0})
    history.settle(60)
    history.start(60)
    history.report(61, said("failed", error=BOOM))
    history.settle(62)
    history.start(62)
    history.report(63, said("failed", "2.1", error=BOOM))
    assert (history.line.failures, history.line.active) == (1, True)


def test_cancelled_executions_neither_count_nor_begin_anew():
    history = fragile(2)
    fail(history, 1)
    history.settle(120)
    history.do(decider.cancel, history.run.id, "enough", cause(121))
    assert (history.line.failures, history.line.active) == (1, True)
    fail(history, 3)
    assert not history.line.active


def test_timeouts_count():
    history = fragile(1, timeout={"start_to_close": "30s"})
    history.settle(60)
    history.start(60)
    events = history.settle(90)
    assert events[1:] == [like(ExecutionTimedOut), like(ScheduleTripped, at=at(90), failures=1)]


def test_attempts_lost_with_their_process_count():
    history = fragile(1)
    history.settle(60)
    history.start(60)
    events = history.recover(70, f"not-{HERE}")
    assert events[1:] == [like(ExecutionFailed), like(ScheduleTripped, failures=1)]


def test_manual_runs_count():
    history = fragile(1, trigger={"type": "manual"})
    history.trigger(10, "k")
    history.start(10)
    assert history.report(11, said("failed", error=BOOM))[-1] == like(ScheduleTripped)


def test_what_is_due_is_decided_before_the_schedule_pauses_itself():
    history = fragile(1, timeout={"start_to_close": "60s"})
    history.settle(60)
    history.start(60)
    events = history.settle(120)
    assert events == [
        like(AttemptFailed, outcome="timed_out"),
        like(ExecutionTimedOut),
        like(ExecutionRequested, due=at(120)),
        like(ScheduleTripped, at=at(120)),
    ]


def test_more_than_one_chunk_of_what_is_due_is_decided_before_it():
    every = {"trigger": {"type": "interval", "every": "100ms"}, "overlap": "allow"}
    history = fragile(1, catch_up={"mode": "skip", "window": "1h"}, **every)
    history.settle(0.1)
    history.start(0.1)
    events = history.report(300, said("failed", error=BOOM))
    assert events[-1] == like(ScheduleTripped)
    assert history.line.through == at(300)
    skipped = sum(event.count for event in events if isinstance(event, OccurrencesDecided))
    fired = sum(isinstance(event, ExecutionRequested) for event in events)
    assert (fired, skipped + fired) == (101, 2999), "10 s of grace, and all since second 0.1"


def test_what_is_buffered_is_held_until_the_schedule_is_resumed():
    history = fragile(1, overlap="buffer_one")
    history.settle(60)
    history.start(60)
    history.settle(120)
    events = history.report(130, said("failed", error=BOOM))
    assert events[1:] == [like(ExecutionFailed), like(ScheduleTripped)]
    assert history.settle(170) == []
    assert history.resume(175)[1:] == [like(ExecutionReleased)]


def test_runs_beside_it_go_on_and_do_not_trip_twice():
    history = fragile(1, overlap="allow")
    history.settle(60)
    history.settle(120)
    first, second = history.live
    assert fail(history, 2, first)[-1] == like(ScheduleTripped)
    assert fail(history, 2, second)[-1] == like(ExecutionFailed)
    assert history.line.failures == 2


def test_schedule_that_has_ended_does_not_pause():
    history = fragile(1, trigger={"type": "once", "at": at(60)})
    history.settle(60)
    history.start(60)
    assert history.report(61, said("failed", error=BOOM))[-1] == like(ExecutionFailed)
    assert history.line.schedule.status is Status.COMPLETED


def test_schedule_whose_last_instant_comes_with_the_failure_is_completed():
    history = fragile(1, end_at=at(120), timeout={"start_to_close": "60s"})
    history.settle(60)
    history.start(60)
    assert history.settle(120)[-1] == like(ScheduleCompleted)


def test_last_instants_that_come_after_the_first_chunk_complete_it():
    every = {"trigger": {"type": "interval", "every": "100ms"}, "overlap": "allow"}
    history = fragile(1, end_at=at(200), catch_up={"mode": "skip", "window": "1h"}, **every)
    history.settle(0.1)
    history.start(0.1)
    events = history.settle(301)  # its time is over
    assert events[-1] == like(ScheduleCompleted, reason="end_at")


def test_edit_that_asks_for_fewer_failures_counts_at_the_next_one():
    history = fragile(5)
    fail(history, 1)
    fail(history, 2)
    (updated,) = history.update(125, retry={"max_attempts": 1}, pause_on_failures=2)
    assert updated == like(ScheduleUpdated)
    assert history.settle(180) == [like(ExecutionRequested)]
    history.start(180)
    assert history.report(181, said("failed", error=BOOM))[-1] == like(ScheduleTripped, failures=3)


@pytest.mark.parametrize("length", [10, 10_000])
def test_reason_has_bounded_length(length):
    history = fragile(1)
    history.settle(60)
    history.start(60)
    error = {"type": "Boom", "message": "x" * length}
    tripped = history.report(61, said("failed", error=error))[-1]
    assert len(tripped.reason) <= 500
    assert tripped.reason.startswith(
        "1 executions in a row without success, the last one by Boom: x"
    )
