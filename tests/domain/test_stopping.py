"""A running attempt is asked to stop: what it reports within the grace counts, then it is fenced."""

from __future__ import annotations

from typing import Any

import pytest
from histories import HERE, History, at, cause, like, said

from horae_domain import decider, execution
from horae_domain.errors import ExecutionNotFound, IllegalState
from horae_domain.events import (
    AttemptFailed,
    CancellationRequested,
    ExecutionCancelled,
    ExecutionRequested,
    ExecutionSucceeded,
    ReportRefused,
)
from horae_domain.execution import STOP_GRACE, Status

BOOM = {"type": "Boom", "message": "no"}


def running(**told: Any) -> History:
    """A schedule whose only instant, second 60, runs in this process."""
    history = History(**({"trigger": {"type": "once", "at": at(60)}} | told))
    history.settle(60)
    history.start(60)
    return history


def stopping(**told: Any) -> History:
    """The same, asked at second 70 to stop by second 100."""
    history = running(**told)
    history.ask_to_stop(70)
    return history


def test_running_attempt_is_asked_and_goes_on():
    history = running()
    run = history.run
    assert history.ask_to_stop(70) == [
        CancellationRequested(
            at=at(70),
            schedule_id="job",
            execution_id=run.id,
            attempt=1,
            reason="enough",
            deadline=at(100),
        )
    ]
    run = history.run
    assert (run.status, run.lease, run.worker, run.stopping) == (Status.RUNNING, "1.1", HERE, True)
    assert run.wake == at(100)


def test_grace_is_half_a_minute_unless_told():
    assert STOP_GRACE.total_seconds() == 30


@pytest.mark.parametrize("make", ["pending", "delayed"])
def test_what_does_not_run_is_cancelled_at_once(make):
    history = History(trigger={"type": "once", "at": at(60)})
    history.settle(60)
    if make == "delayed":
        history.start(60)
        history.report(61, said("failed", error=BOOM))
    assert history.ask_to_stop(70) == [like(ExecutionCancelled, reason="enough")]
    assert history.live == []


def test_asking_again_only_shortens_the_grace():
    history = stopping()
    assert history.ask_to_stop(75) == []
    assert history.ask_to_stop(75, grace=25) == []
    assert history.ask_to_stop(75, grace=5) == [
        like(CancellationRequested, deadline=at(80)),
    ]
    assert history.settle(80) == [like(ExecutionCancelled)]


def test_ended_execution_is_not_asked():
    run = running().run
    told: dict[str, Any] = {"at": at(70), "schedule_id": "job", "execution_id": run.id}
    done = execution.evolve(run, ExecutionSucceeded(attempt=1, **told))
    gone = execution.evolve(run, ExecutionCancelled(reason="", **told))
    assert done is not None
    assert gone is not None
    assert execution.ask_to_stop(gone, "", STOP_GRACE, cause(71)) == []
    assert execution.ask_to_stop(done, "", STOP_GRACE, cause(71)) == []


def test_result_within_the_grace_counts():
    assert stopping().report(99.999, said(result="late")) == [
        like(ExecutionSucceeded, result="late")
    ]


def test_attempt_that_says_it_stopped_ends_the_execution_as_cancelled():
    history = stopping()
    run = history.run
    report = said("cancelled", logs=("swept",), metadata={"k": 1}, started_at=at(61))
    assert history.report(80, report) == [
        like(
            AttemptFailed,
            outcome="cancelled",
            retry_at=None,
            error={"type": "Cancelled", "message": "enough"},
            logs=["swept"],
            metadata={"k": 1},
            started_at=at(61),
        ),
        ExecutionCancelled(at=at(80), schedule_id="job", execution_id=run.id, reason="enough"),
    ]
    assert history.live == []
    assert history.line.failures == 0


def test_attempt_may_stop_without_being_asked():
    assert running().report(80, said("cancelled", error=BOOM)) == [
        like(AttemptFailed, outcome="cancelled", error=BOOM),
        like(ExecutionCancelled, reason="its handler stopped"),
    ]


def test_failure_of_what_was_asked_to_stop_is_not_retried():
    assert stopping().report(80, said("failed", error=BOOM)) == [
        like(AttemptFailed, outcome="failed", retry_at=None, error=BOOM),
        like(ExecutionCancelled, reason="enough"),
    ]


def test_poll_of_what_was_asked_to_stop_is_not_asked_again():
    assert stopping().report(80, said("again")) == [
        like(AttemptFailed, outcome="cancelled"),
        like(ExecutionCancelled, reason="enough"),
    ]


def test_lost_attempt_that_was_asked_to_stop_is_not_repeated():
    assert stopping().recover(80, "engine-2") == [
        like(AttemptFailed, outcome="lost", retry_at=None),
        like(ExecutionCancelled, reason="enough"),
    ]


def test_attempt_is_fenced_when_the_grace_is_over():
    history = stopping()
    run = history.run
    assert history.settle(99.999999) == []
    assert history.settle(100) == [like(ExecutionCancelled, reason="enough")]
    ended = run
    for event in history.events:
        ended = execution.evolve(ended, event) or ended
    assert execution.report(ended, history.line.definition, said(), cause(101)) == [
        like(ReportRefused, lease="1.1")
    ]


def test_deadline_within_the_grace_comes_first():
    history = running(timeout={"start_to_close": "15s"})
    history.ask_to_stop(70)
    assert history.run.wake == at(75)
    assert history.settle(200) == [
        like(AttemptFailed, outcome="timed_out", retry_at=None),
        like(ExecutionCancelled, reason="enough"),
    ]


def test_attempt_that_is_asked_to_stop_is_not_delivered_again():
    history = History(trigger={"type": "once", "at": at(60)})
    history.settle(60)
    history.take(61)
    history.ask_to_stop(70)
    with pytest.raises(IllegalState, match="asked to stop") as caught:
        history.take(75, "1.1")
    assert (caught.value.field, caught.value.details) == ("execution_id", {"state": "running"})


def test_asking_decides_first_what_was_due():
    history = History(overlap="allow")
    history.settle(60)
    history.start(60)
    assert history.ask_to_stop(120) == [
        like(ExecutionRequested, due=at(120)),
        like(CancellationRequested),
    ]


def test_end_that_came_before_the_request_stays():
    history = running(retry={"max_attempts": 1})
    run = history.run
    history.settle(360)
    with pytest.raises(ExecutionNotFound):
        history.do(decider.ask_to_stop, run.id, "", STOP_GRACE, cause(361))
