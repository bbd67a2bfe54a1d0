"""What is out of retries is kept, and tried again when somebody says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from histories import HERE, History, at, cause, create, like, said

from horae_domain import decider, execution
from horae_domain.errors import IllegalState, TooManyRequests
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionFailed,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSucceeded,
    ExecutionTimedOut,
    ReportRefused,
    ScheduleCancelled,
)
from horae_domain.execution import Execution, Status

ONCE: dict[str, Any] = {"trigger": {"type": "once", "at": at(60)}}
TWICE = {"max_attempts": 2, "delay": "10s", "jitter": 0}
BOOM = {"type": "Boom", "message": "no", "stack": "…"}


def started(**told: Any) -> History:
    """A schedule whose only instant, second 60, runs in this process."""
    history = History(**(ONCE | {"retry": TWICE} | told))
    history.settle(60)
    history.start(60)
    return history


def dead(**told: Any) -> tuple[History, Execution]:
    """The same, failed at 70 and 90."""
    history = started(**told)
    history.report(70, said("failed", error=BOOM))
    history.start(80)
    run = history.run
    history.report(90, said("failed", "2.1", error=BOOM))
    return history, history.told(run)


# --- dead, failed, timed out ---------------------------------------------------------------------


def test_execution_out_of_retries_is_a_dead_letter_with_its_cause():
    history, run = dead()
    assert history.events[-1] == like(
        ExecutionDeadLettered, attempt=2, error={"type": "Boom", "message": "no"}
    )
    assert run.status is Status.DEAD
    assert not run.status.alive
    assert history.line.failures == 1


@pytest.mark.parametrize(
    ("told", "report", "end"),
    [
        ({"retry": {"max_attempts": 1}}, said("failed"), ExecutionFailed),
        ({}, said("failed", final=True), ExecutionFailed),
        ({"retry": {"non_retryable": ["Boom"]}}, said("failed", error=BOOM), ExecutionFailed),
        ({}, said("again", limit=0), ExecutionFailed),
    ],
)
def test_what_was_not_to_be_retried_is_no_dead_letter(told, report, end):
    assert started(**told).report(70, report) == [like(AttemptFailed), like(end)]


def test_time_out_where_no_retry_was_wanted_is_no_dead_letter():
    assert started(retry={"max_attempts": 1}).settle(400)[-1] == like(ExecutionTimedOut)


def test_time_out_of_the_last_retry_is_a_dead_letter():
    history = started()
    history.settle(360)
    history.start(370)
    assert history.settle(1000)[-1] == like(ExecutionDeadLettered, attempt=2)


# --- requeue -------------------------------------------------------------------------------------


def test_dead_letter_is_tried_again_with_further_attempts():
    history, run = dead()
    assert history.requeue(200, run) == [
        ExecutionRequeued(
            at=at(200),
            schedule_id="job",
            execution_id=run.id,
            attempt=2,
            kind="once",
            due=at(60),
            nominal=run.nominal,
            revision=1,
            requested_at=at(60),
            version=run.version,
            run_number=1,
            closed={"1.1": "delayed", "2.1": "dead"},
        )
    ]
    again = history.run
    assert (again.status, again.attempt, again.failures) == (Status.PENDING, 2, 0)
    assert again.ready(at(200))
    assert again.version == run.version + 1
    assert history.start(201) == [like(AttemptStarted, attempt=3)]
    assert history.report(202, said("failed", "3.1", error=BOOM)) == [
        like(AttemptFailed, attempt=3, retry_at=at(212))
    ]
    history.start(212)
    assert history.report(213, said(lease="4.1")) == [like(ExecutionSucceeded, attempt=4)]


def test_requeued_execution_is_all_that_it_was():
    history = History(
        trigger={"type": "manual"}, retry={"max_attempts": 1}, priority="high", queue="slow"
    )
    asked = decider.Trigger("k", {"a": 1}, True, execution.Cause(at(1), "c", "corr-1"))
    history.do(decider.trigger, asked)
    history.start(2)
    run = history.run
    history.report(3, said("failed"))
    ended = history.told(run)
    history.requeue(4, ended)
    changed = {
        "status": Status.PENDING,
        "resume_at": at(4),
        "failures": 0,
        "delivery": 0,
        "started_at": None,
        "version": ended.version + 1,
    }
    assert history.run == msgspec.structs.replace(ended, **changed)
    assert history.run.payload == {"a": 1}


@pytest.mark.parametrize("end", ["failed", "timed_out", "cancelled", "dead"])
def test_every_end_without_success_can_be_tried_again(end):
    if end == "dead":
        history, run = dead()
    else:
        history = started(retry={"max_attempts": 1})
        run = history.run
        match end:
            case "failed":
                history.report(70, said("failed"))
            case "timed_out":
                history.settle(360)
            case _:
                history.do(decider.cancel, run.id, "enough", cause(70))
    assert history.told(run).status == end
    assert history.requeue(1000, run) == [
        like(ExecutionRequeued, attempt=history.told(run).attempt)
    ]
    assert history.start(1001) == [like(AttemptStarted)]


def test_success_is_not_tried_again():
    history = started()
    run = history.run
    history.report(70, said())
    with pytest.raises(IllegalState) as caught:
        history.requeue(80, run)
    assert (caught.value.field, caught.value.details) == ("id", {"state": "succeeded"})


def test_what_runs_is_not_tried_again_and_what_waits_for_a_worker_is_already():
    history = started()
    with pytest.raises(IllegalState):
        history.requeue(61, history.run)
    history, run = dead()
    history.requeue(200, run)
    assert history.requeue(201, run) == []


def test_retry_that_is_delayed_is_due_now_and_keeps_its_count():
    history = started(timeout={"overall": "1h"})
    history.report(70, said("failed", error=BOOM))
    run = history.run
    assert history.requeue(71, run) == [
        like(ExecutionRequeued, attempt=1, failures=1, start_by=None, end_by=at(3660))
    ]
    assert history.run.ready(at(71))
    history.start(72)
    assert history.report(73, said("failed", "2.1"))[-1] == like(ExecutionDeadLettered)


def test_poll_that_is_delayed_is_due_now_and_keeps_its_count():
    history = started()
    history.report(70, said("again", limit=1))
    assert history.requeue(71, history.run) == [like(ExecutionRequeued, polls=1, failures=0)]
    history.start(72)
    assert history.report(73, said("again", "2.1", limit=1))[-1] == like(ExecutionFailed)


def test_requeue_that_comes_with_the_end_of_the_whole_begins_anew():
    history = started(timeout={"overall": "50s"})
    history.report(70, said("failed", error=BOOM, retry_after=timedelta(hours=1)))
    assert history.requeue(200, history.run) == [
        like(ExecutionTimedOut),
        like(ExecutionRequeued, failures=0, end_by=at(250)),
    ]


def test_requeue_decides_first_what_was_due():
    history = History(retry={"max_attempts": 1})
    history.settle(60)
    history.start(60)
    run = history.run
    history.report(61, said("failed"))
    assert history.requeue(120, run) == [
        like(ExecutionRequested, due=at(120)),
        like(ExecutionRequeued),
    ]


def test_requeued_execution_waits_while_as_many_run_as_the_schedule_allows():
    history = History(retry={"max_attempts": 1})
    history.settle(60)
    history.start(60)
    first = history.run
    history.report(61, said("failed"))
    history.settle(120)
    history.start(120)
    second = history.run
    history.requeue(121, first)
    again = history.line.live[first.id]
    assert not history.line.may_start(again)
    with pytest.raises(TooManyRequests):
        history.do(decider.take, first.id, "far", None, cause(122))
    history.report(123, said(), second)
    assert history.line.may_start(again)


def test_requeued_execution_is_in_the_way_of_the_next_occurrence():
    history, run = dead(trigger={"type": "interval", "every": "60s"})
    history.requeue(100, run)
    (event,) = history.settle(120)
    assert event.reason == "overlap"  # type: ignore[attr-defined]
    assert event.blocked_by == run.id  # type: ignore[attr-defined]


def test_dead_letter_of_a_former_incarnation_runs_by_its_own_revision():
    history, run = dead()
    history.command(create(200, retry={"max_attempts": 7}))
    history.requeue(201, run)
    assert history.line.definition_of(history.run).retry.max_attempts == 2
    history.start(202)
    assert history.run.worker == HERE


# --- a cancelled schedule ------------------------------------------------------------------------


def cancelled(**told: Any) -> History:
    """A schedule that was cancelled at 65, with a run that goes on."""
    history = started(trigger={"type": "interval", "every": "60s"}, **told)
    assert history.cancel(65) == [like(ScheduleCancelled)]
    return history


def test_run_of_a_cancelled_schedule_goes_on_to_its_end():
    assert cancelled().report(70, said()) == [like(ExecutionSucceeded)]


def test_run_of_a_cancelled_schedule_is_not_retried():
    assert cancelled().report(70, said("failed", error=BOOM)) == [
        like(AttemptFailed, retry_at=None),
        like(ExecutionFailed),
    ]
    assert cancelled().settle(360) == [
        like(AttemptFailed, outcome="timed_out", retry_at=None),
        like(ExecutionTimedOut),
    ]
    assert cancelled().recover(70, "engine-2") == [
        like(AttemptFailed, outcome="lost", retry_at=None),
        like(ExecutionFailed),
    ]


def test_run_of_a_cancelled_schedule_is_not_asked_again():
    assert cancelled().report(70, said("again")) == [
        like(AttemptFailed, outcome="cancelled"),
        like(ExecutionCancelled, reason="schedule_cancelled"),
    ]


def test_run_of_a_cancelled_schedule_can_be_tried_again_by_hand():
    history = cancelled()
    run = history.run
    history.report(70, said("failed", error=BOOM))
    assert history.line.settled
    history.requeue(80, run)
    assert not history.line.settled
    history.start(81)
    assert history.report(82, said("failed", "2.1", error=BOOM))[-1] == like(ExecutionFailed)


# --- reports that come again ---------------------------------------------------------------------


def test_repeated_report_of_an_earlier_attempt_changes_nothing():
    history = started()
    history.report(70, said("failed", error=BOOM))
    history.start(80)
    assert history.report(81, said("failed", error=BOOM)) == []
    assert history.run.status is Status.RUNNING
    assert history.run.closed == {"1.1": "delayed"}


def test_holder_of_a_closed_lease_is_told_what_it_was_told_first():
    history, run = dead()
    assert run.closed == {"1.1": "delayed", "2.1": "dead"}
    history.requeue(200, run)
    history.start(201)
    assert history.report(202, said("failed", "2.1", error=BOOM)) == []
    history.report(203, said(lease="3.1"))
    assert history.told(run).closed == {"1.1": "delayed", "2.1": "dead", "3.1": "succeeded"}


def test_polls_close_their_leases_too():
    history = started()
    history.report(70, said("again", after=timedelta(0)))
    history.start(70)
    assert history.report(71, said("again")) == []


def test_lease_that_nobody_closed_stays_stale():
    history = started()
    history.recover(70, "engine-2")
    history.start(71)
    assert history.report(72, said()) == [like(ReportRefused, lease="1.1")]


def test_only_the_latest_closed_leases_are_known():
    history = started(retry={"max_attempts": 20, "delay": 0})
    for attempt in range(1, 11):
        if attempt > 1:
            history.start(60 + attempt)
        history.report(60 + attempt, said("failed", f"{attempt}.1"))
    assert list(history.run.closed) == [f"{attempt}.1" for attempt in range(3, 11)]
    assert history.report(80, said("failed", "2.1")) == [like(ReportRefused)]


def test_what_was_delayed_when_it_was_cancelled_had_been_told_so():
    history = started()
    run = history.run
    history.report(70, said("again"))
    history.do(decider.cancel, run.id, "enough", cause(71))
    assert history.told(run).closed == {"1.1": "delayed"}
    assert isinstance(history.events[-2], ExecutionDelayed)


def test_requeueing_hands_on_all_that_an_execution_is():
    """A field that is new has to be told by the event, or to begin anew."""
    anew = {
        "status", "delivery", "worker", "local", "started_at", "deadline", "heartbeat", "silent_by",
        "resume_at", "start_by", "end_by", "stop_by", "stop_reason", "failures", "polls", "reason",
        "waits", "need", "wait_since", "wait_until", "delay", "aside",
    }  # fmt: skip
    told = set(ExecutionRequeued.__struct_fields__) | {"id"}
    assert set(Execution.__struct_fields__) - told == anew - told
