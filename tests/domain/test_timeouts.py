"""Bounds of the waits of an execution: to start, to close, to be heard of, to end."""

from __future__ import annotations

from typing import Any

import pytest
from histories import HERE, History, at, cause, definition, like, said

from horae_domain import decider, execution
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionTimedOut,
)
from horae_domain.execution import Status, heard

ONCE: dict[str, Any] = {"trigger": {"type": "once", "at": at(60)}}
STEADY = {"delay": "10s", "jitter": 0}
BOOM = {"type": "Boom", "message": "no"}


def requested(**timeout: Any) -> History:
    """A schedule whose only instant, second 60, has fired."""
    history = History(**ONCE, timeout=timeout, retry=STEADY)
    history.settle(60)
    return history


def started(**timeout: Any) -> History:
    history = requested(**timeout)
    history.start(60)
    return history


# --- to start ------------------------------------------------------------------------------------


def test_execution_that_nobody_starts_in_time_has_timed_out():
    history = requested(schedule_to_start="30s")
    run = history.run
    assert (run.start_by, run.wake) == (at(90), at(90))
    assert history.line.wake_unless_ready(at(60)) == at(90)
    assert history.settle(89.999999) == []
    assert history.settle(90) == [
        ExecutionTimedOut(
            at=at(90),
            schedule_id="job",
            execution_id=run.id,
            attempt=0,
            error={"type": "Timeout", "message": "not started within schedule_to_start"},
        )
    ]
    assert history.told(run).status is Status.TIMED_OUT
    assert history.line.failures == 1


def test_execution_that_was_started_may_wait_for_its_retry_as_long_as_it_takes():
    history = started(schedule_to_start="5s")
    assert history.run.start_by is None
    history.report(61, said("failed", error=BOOM))
    assert history.run.wake == at(71)
    assert history.settle(1000) == []


def test_execution_handed_over_at_once_has_started():
    history = History(timeout={"schedule_to_start": "5s", "overall": "1h", "heartbeat": "20s"})
    history.settle(60)
    event = history.hand_over()
    assert event == like(
        ExecutionRequested, start_by=None, end_by=at(3660), deadline=at(360), heartbeat=20.0
    )
    run = history.run
    assert (run.start_by, run.end_by, run.silent_by) == (None, at(3660), at(80))


def test_trigger_by_hand_is_bounded_too():
    history = History(trigger={"type": "manual"}, timeout={"schedule_to_start": "5s"})
    history.trigger(10, "k")
    assert history.settle(15) == [like(ExecutionTimedOut, attempt=0)]


def test_taking_what_is_too_late_to_start_is_refused():
    history = requested(schedule_to_start="30s")
    with pytest.raises(Exception, match="timed_out"):
        history.take(90)


# --- to end --------------------------------------------------------------------------------------


def test_running_attempt_ends_with_the_whole_execution():
    history = started(overall="100s")
    assert history.run.wake == at(160)
    assert history.settle(160) == [
        like(
            AttemptFailed,
            outcome="timed_out",
            retry_at=None,
            error={"type": "Timeout", "message": "not ended within overall"},
        ),
        like(ExecutionTimedOut, attempt=1),
    ]


def test_waiting_for_a_worker_counts_to_the_whole():
    history = requested(overall="100s")
    assert history.line.wake_unless_ready(at(60)) == at(160)
    assert history.settle(160) == [like(ExecutionTimedOut, attempt=0)]


def test_waiting_for_a_retry_or_a_poll_counts_to_the_whole():
    for outcome in ("failed", "again"):
        history = started(overall="15s")
        history.report(70, said(outcome, error=BOOM))
        assert history.run.wake == at(75)
        assert history.settle(75) == [like(ExecutionTimedOut, attempt=1)]


def test_ready_retry_is_woken_for_by_its_end_only():
    history = started(overall="100s")
    history.report(61, said("failed", error=BOOM))
    assert history.line.wake == at(71)
    assert history.line.wake_unless_ready(at(70)) == at(71)
    assert history.line.wake_unless_ready(at(71)) == at(160)


def test_whole_that_was_over_before_the_retry_is_seen_at_once():
    history = started(start_to_close="20s", overall="30s")
    assert history.settle(500) == [
        like(AttemptFailed, outcome="timed_out", retry_at=at(510)),
        like(ExecutionTimedOut, attempt=1, error=like_error("not ended within overall")),
    ]


def like_error(message: str) -> dict[str, str]:
    return {"type": "Timeout", "message": message}


def test_end_of_the_whole_cancels_what_was_asked_to_stop():
    history = started(overall="20s")
    history.ask_to_stop(70)
    assert history.settle(80) == [
        like(AttemptFailed, outcome="timed_out"),
        like(ExecutionCancelled, reason="enough"),
    ]


# --- to be heard of ------------------------------------------------------------------------------


def test_silent_attempt_times_out_and_is_retried():
    history = started(heartbeat="20s")
    assert (history.run.heartbeat, history.run.wake) == (20.0, at(80))
    assert history.settle(80) == [
        like(
            AttemptFailed,
            outcome="timed_out",
            retry_at=at(90),
            error={"type": "HeartbeatTimeout", "message": "no heartbeat within its timeout"},
        )
    ]
    run = history.run
    assert (run.heartbeat, run.silent_by) == (None, None)
    assert history.start(90) == [like(AttemptStarted, attempt=2, heartbeat=20.0)]
    assert history.run.silent_by == at(110)


def test_heartbeat_puts_the_timeout_off():
    run = heard(started(heartbeat="20s").run, at(75))
    assert run.wake == at(95)
    assert execution.expire(run, definition(retry=STEADY), cause(94.999999)) == []
    assert len(execution.expire(run, definition(retry=STEADY), cause(95))) == 1


def test_heartbeat_of_what_needs_none_changes_nothing():
    run = started().run
    assert heard(run, at(75)) is run


def test_silence_can_be_excluded_from_retries():
    history = History(
        **ONCE, timeout={"heartbeat": "20s"}, retry={"non_retryable": ["HeartbeatTimeout"]}
    )
    history.settle(60)
    history.start(60)
    assert history.settle(80)[-1] == like(ExecutionTimedOut)


def test_silent_attempts_end_among_the_dead_letters():
    history = History(**ONCE, timeout={"heartbeat": "20s"}, retry=STEADY | {"max_attempts": 2})
    history.settle(60)
    history.start(60)
    history.settle(80)
    history.start(90)
    assert history.settle(110)[-1] == like(ExecutionDeadLettered)


@pytest.mark.parametrize(
    ("timeout", "heartbeat"),
    [
        ({"start_to_close": None}, 300.0),
        ({"start_to_close": None, "heartbeat": "7s"}, 7.0),
        ({"start_to_close": "1h"}, None),
        ({"start_to_close": "1h", "heartbeat": "7s"}, 7.0),
    ],
)
def test_attempt_elsewhere_that_nothing_else_bounds_must_be_heard_of(timeout, heartbeat):
    history = requested(**timeout)
    assert history.take(61) == [like(AttemptStarted, heartbeat=heartbeat)]
    assert history.take(65, "1.1") == [like(AttemptStarted, delivery=2, heartbeat=heartbeat)]
    assert history.run.silent_by == (None if heartbeat is None else at(65 + heartbeat))


def test_attempt_in_this_process_need_not_be_heard_of():
    history = started(start_to_close=None)
    assert (history.run.heartbeat, history.run.wake) == (None, None)


# --- all together --------------------------------------------------------------------------------


def test_first_of_the_timeouts_wakes_the_owner():
    history = started(start_to_close="50s", heartbeat="40s", overall="30s")
    assert history.run.wake == at(90)
    history = started(start_to_close="50s", heartbeat="40s", overall="60s")
    assert history.run.wake == at(100)
    history = started(start_to_close="50s", heartbeat="60s", overall="70s")
    assert history.run.wake == at(110)


def test_ended_execution_waits_for_nothing():
    history = started(heartbeat="20s", overall="1h", schedule_to_start="1m")
    run = history.run
    history.report(61, said())
    assert history.told(run).wake is None
    assert history.told(run).bound is None


def test_requeued_execution_has_all_its_time_again():
    history = History(
        **ONCE,
        timeout={"schedule_to_start": "30s", "overall": "100s"},
        retry={"max_attempts": 1},
    )
    history.settle(60)
    run = history.run
    history.settle(90)
    assert history.requeue(200, run) == [like(ExecutionRequeued, start_by=at(230), end_by=at(300))]
    assert history.settle(230) == [like(ExecutionTimedOut, attempt=0)]


def test_another_owner_changes_nothing_about_attempts_elsewhere():
    history = requested(start_to_close=None)
    history.take(61)
    assert history.do(decider.recover, "engine-2", cause(100)) == []
    assert history.run.worker != HERE
