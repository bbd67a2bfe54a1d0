"""The execution: attempts, leases, one accepted outcome, retries, polls, deadlines, cancellation."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from histories import HERE, History, at, cause, create, definition, like, said

from horae_domain import decider, execution, ledger
from horae_domain.decision import Decision
from horae_domain.errors import ExecutionNotFound, IllegalState, ScheduleNotFound, TooManyRequests
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionFailed,
    ExecutionRequested,
    ExecutionSkipped,
    ExecutionSucceeded,
    ExecutionTimedOut,
    OccurrencesDecided,
    ReportRefused,
)
from horae_domain.execution import Status, retry_at
from horae_domain.ledger import fold
from horae_domain.policies import Retry

ONCE: dict[str, Any] = {"trigger": {"type": "once", "at": at(60)}}
STEADY = {"delay": "10s", "jitter": 0}
BOOM = {"type": "Boom", "message": "no", "stack": "…"}


def requested(**told: Any) -> History:
    """A schedule whose only instant, second 60, has fired."""
    history = History(**(ONCE | told))
    history.settle(60)
    return history


def started(**told: Any) -> History:
    """The same with attempt 1 running in this process since second 60."""
    history = requested(**told)
    history.start(60)
    return history


def failed(seconds: float, lease: str = "1.1", **told: Any) -> tuple[float, Any]:
    return seconds, said("failed", lease, error=BOOM, **told)


# --- start and take ------------------------------------------------------------------------------


def test_requested_execution_waits_for_a_worker():
    run = requested().run
    assert run.status is Status.PENDING
    assert run.ready(at(60))
    assert run.wake is None
    assert (run.attempt, run.delivery, run.lease) == (0, 0, "0.0")
    assert (run.due, run.requested_at, run.kind, run.run_number) == (at(60), at(60), "once", 1)


def test_requested_execution_knows_where_it_belongs():
    run = requested(tenant="acme", queue="slow", priority="high").run
    assert (run.tenant, run.schedule_id, run.queue, run.priority) == ("acme", "job", "slow", "high")
    assert (run.nominal, run.revision) == ("2026-01-05T00:01:00Z", 1)


def test_started_attempt_has_a_lease_and_a_deadline():
    history = requested()
    run = history.run
    assert history.start(61) == [
        AttemptStarted(
            at=at(61),
            schedule_id="job",
            execution_id=run.id,
            attempt=1,
            worker=HERE,
            local=True,
            deadline=at(361),
        )
    ]
    run = history.run
    assert (run.status, run.lease, run.worker, run.local) == (Status.RUNNING, "1.1", HERE, True)
    assert (run.started_at, run.wake) == (at(61), at(361))
    assert not run.ready(at(61))


def test_unbounded_attempt_has_no_deadline():
    history = started(timeout={"start_to_close": None})
    assert history.run.deadline is None
    assert history.line.wake is None
    assert history.settle(10**7) == []


def test_worker_elsewhere_takes_the_lease():
    history = requested()
    (event,) = history.take(61)
    assert event == like(AttemptStarted, worker="far", local=False, attempt=1, delivery=1)
    assert not history.run.local
    history = requested()
    assert history.take(61, "1.1") == [like(AttemptStarted, attempt=1)]


def test_redelivery_gets_a_lease_of_its_own():
    history = requested()
    history.take(61)
    (event,) = history.take(100, "1.1", "other")
    assert event == like(
        AttemptStarted, attempt=1, delivery=2, worker="other", local=False, deadline=at(400)
    )
    assert history.run.lease == "1.2"
    assert history.take(101, "1.1") == [like(AttemptStarted, delivery=3)]
    assert history.report(102, said(lease="1.2")) == [
        like(ReportRefused, lease="1.2", outcome="succeeded")
    ]
    assert history.report(103, said(lease="1.3")) == [like(ExecutionSucceeded, delivery=3)]


def test_lease_of_another_attempt_is_refused():
    with pytest.raises(IllegalState) as caught:
        requested().take(61, "2.1")
    assert (caught.value.field, caught.value.value) == ("lease", "2.1")
    assert "1.1" in caught.value.message


@pytest.mark.parametrize("lease", [None, "2.1", "0.1", "11.1"])
def test_running_attempt_is_redelivered_only_to_who_shows_its_lease(lease):
    history = requested()
    history.take(61)
    with pytest.raises(IllegalState) as caught:
        history.take(62, lease)
    assert caught.value.field == "lease"
    assert caught.value.details == {"state": "running"}


def test_attempt_in_this_process_is_not_redelivered():
    with pytest.raises(IllegalState, match="attempt 1 is running"):
        started().take(62, "1.1")


def test_delayed_attempt_cannot_be_taken_before_its_time():
    history = started(retry=STEADY)
    history.report(*failed(70))
    with pytest.raises(IllegalState, match="attempt 2 is not due yet") as caught:
        history.take(79.999)
    assert (caught.value.field, caught.value.details) == ("execution_id", {"state": "delayed"})
    assert history.take(80) == [like(AttemptStarted, attempt=2, delivery=1)]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_no_more_attempts_are_taken_than_the_schedule_allows_at_once(concurrency):
    history = History(overlap="allow", concurrency=concurrency)
    for key in "abc":
        history.trigger(1, key)
    *running, last = history.live[: concurrency + 1]
    for run in running:
        history.do(decider.take, run.id, "far", None, cause(2))
    with pytest.raises(TooManyRequests) as caught:
        history.do(decider.take, last.id, "far", None, cause(3))
    assert (caught.value.field, caught.value.value) == ("execution_id", last.id)
    assert not history.line.may_start(last)
    history.do(decider.take, running[0].id, "other", "1.1", cause(4))
    history.report(5, said(lease="1.2"), running[0])
    assert history.line.may_start(last)
    assert history.do(decider.take, last.id, "far", None, cause(6)) == [like(AttemptStarted)]


def test_ended_execution_cannot_be_taken():
    run = started().run
    ended = execution.evolve(run, ExecutionCancelled(at=at(1), reason="", **about(run)))
    assert ended is not None
    with pytest.raises(IllegalState) as caught:
        execution.take(ended, definition(), "w", None, cause(2))
    assert (caught.value.field, caught.value.details) == ("execution_id", {"state": "cancelled"})


def about(run: execution.Execution) -> dict[str, Any]:
    return {"schedule_id": run.schedule_id, "execution_id": run.id}


@pytest.mark.parametrize("act", [decider.start, decider.take, decider.cancel])
def test_unknown_execution_is_refused(act):
    arguments = {
        decider.start: ("x", HERE, cause(70)),
        decider.take: ("x", "far", None, cause(70)),
        decider.cancel: ("x", "why", cause(70)),
    }
    with pytest.raises(ExecutionNotFound) as caught:
        act(Decision(requested().line), *arguments[act])
    assert (caught.value.field, caught.value.value) == ("execution_id", "x")
    with pytest.raises(ScheduleNotFound):
        act(Decision(None), *arguments[act])


def test_taking_decides_first_what_was_due():
    history = History()
    history.settle(60)
    assert history.take(120) == [like(ExecutionSkipped, due=at(120)), like(AttemptStarted)]


# --- reports -------------------------------------------------------------------------------------


def test_success_ends_the_execution():
    history = started()
    run = history.run
    report = said(
        result={"rows": 3},
        started_at=at(60.5),
        logs=("a", "b"),
        metadata={"k": 1},
        worker=HERE,
    )
    assert history.report(70, report) == [
        ExecutionSucceeded(
            at=at(70),
            attempt=1,
            delivery=1,
            started_at=at(60.5),
            result={"rows": 3},
            logs=["a", "b"],
            metadata={"k": 1},
            **about(run),
        )
    ]
    assert history.live == []


def test_report_decides_first_what_was_due():
    history = History()
    history.settle(60)
    history.start(60)
    assert history.report(120, said()) == [
        like(ExecutionSkipped, due=at(120)),
        like(ExecutionSucceeded),
    ]


def test_events_of_a_report_say_on_whose_word():
    history = requested()
    run = history.run
    word = execution.Cause(at(61), "c-9", None, "bob")
    (event,) = execution.cancel(run, history.line.definition, "why", word)
    assert (event.command_id, event.correlation_id, event.actor) == ("c-9", None, "bob")
    assert (event.tenant, event.at) == ("default", at(61))


def test_correlation_of_the_request_is_handed_on():
    history = History(overlap="allow")
    asked = decider.Trigger("k", None, False, execution.Cause(at(1), "c", "corr-1"))
    history.do(decider.trigger, asked)
    assert history.start(2)[0].correlation_id == "corr-1"
    told = execution.cancel(
        history.run, history.line.definition, "", execution.Cause(at(3), None, "corr-2")
    )
    assert told[0].correlation_id == "corr-2"


def test_repeated_report_changes_nothing():
    history = started(retry=STEADY)
    history.report(*failed(70))
    assert history.report(*failed(71)) == []
    assert history.report(72, said()) == []


def test_report_on_what_has_ended_decides_nothing():
    history = started()
    run = history.run
    history.report(70, said())
    assert history.report(71, said(), run) == []


def test_repeated_report_of_what_has_ended_is_known_from_its_own_events():
    run = started().run
    done = execution.evolve(run, ExecutionSucceeded(at=at(70), attempt=1, **about(run)))
    assert done is not None
    assert execution.report(done, definition(), said(), cause(71)) == []
    stale = execution.report(done, definition(), said(lease="9.9", worker="w"), cause(71))
    assert stale == [
        ReportRefused(at=at(71), lease="9.9", outcome="succeeded", worker="w", **about(run))
    ]


@pytest.mark.parametrize("lease", ["1.2", "2.1", "0.0", "", "nonsense"])
def test_stale_report_is_recorded_and_changes_nothing(lease):
    history = started()
    before = history.run
    assert history.report(70, said("failed", lease, worker="old")) == [
        ReportRefused(at=at(70), lease=lease, outcome="failed", worker="old", **about(before))
    ]
    assert history.run.version == before.version + 1
    assert history.run.status is Status.RUNNING
    assert history.report(71, said()) == [like(ExecutionSucceeded)]


def test_report_without_a_start_is_stale():
    history = requested()
    assert history.report(61, said()) == [like(ReportRefused, lease="1.1")]
    assert history.report(61, said(lease="0.0")) == [like(ReportRefused, lease="0.0")]
    assert history.run.status is Status.PENDING


def test_report_at_the_deadline_is_late():
    history = started(retry={"max_attempts": 1})
    run = history.run
    events = history.report(360, said())
    assert events == [like(AttemptFailed, outcome="timed_out"), like(ExecutionTimedOut)]
    assert history.report(361, said(), run) == []


def test_report_after_the_deadline_of_one_of_several_attempts_is_refused():
    history = started(retry=STEADY)
    assert history.report(361, said()) == [
        like(AttemptFailed, outcome="timed_out", retry_at=at(371)),
        like(ReportRefused, lease="1.1"),
    ]
    assert history.run.status is Status.DELAYED


def test_report_just_before_the_deadline_is_accepted():
    assert started().report(359.999999, said()) == [like(ExecutionSucceeded)]


# --- failures and retries ------------------------------------------------------------------------


def test_failure_is_retried_after_its_delay():
    history = started(retry=STEADY)
    run = history.run
    report = said("failed", error=BOOM, started_at=at(61), logs=("x",), metadata={"m": 1})
    assert history.report(70, report) == [
        AttemptFailed(
            at=at(70),
            attempt=1,
            outcome="failed",
            error=BOOM,
            retry_at=at(80),
            started_at=at(61),
            logs=["x"],
            metadata={"m": 1},
            **about(run),
        )
    ]
    run = history.run
    assert (run.status, run.wake, run.failures) == (Status.DELAYED, at(80), 1)
    assert (run.worker, run.local, run.deadline) == (None, False, None)
    assert not run.ready(at(79.999999))
    assert run.ready(at(80))
    assert history.start(80) == [like(AttemptStarted, attempt=2, deadline=at(380))]
    assert (history.run.resume_at, history.run.lease) == (None, "2.1")
    assert history.report(81, said(lease="2.1")) == [like(ExecutionSucceeded, attempt=2)]


def test_last_attempt_ends_the_execution_and_keeps_no_stack_twice():
    history = started(retry=STEADY | {"max_attempts": 2})
    run = history.run
    history.report(*failed(70))
    history.start(80)
    assert history.report(*failed(90, "2.1")) == [
        like(AttemptFailed, attempt=2, retry_at=None, error=BOOM),
        ExecutionDeadLettered(
            at=at(90), attempt=2, error={"type": "Boom", "message": "no"}, **about(run)
        ),
    ]
    assert history.line.failures == 1


def test_failure_without_an_error_has_a_general_one():
    (event,) = started().report(70, said("failed"))
    assert event == like(AttemptFailed, error={"type": "Error", "message": ""}, started_at=None)


def test_default_is_three_retries():
    history = started()
    for attempt in range(1, 5):
        now = 60 + (attempt - 1) * 10_000
        if attempt > 1:
            history.start(now)
        last = history.report(*failed(now + 1, f"{attempt}.1"))
        assert (len(last) == 2) == (attempt == 4)


def test_error_that_is_not_retried_ends_it_at_once():
    history = started(retry=STEADY | {"non_retryable": ["Fatal", "Boom"]})
    assert history.report(*failed(70)) == [like(AttemptFailed), like(ExecutionFailed, attempt=1)]


def test_other_errors_are_retried():
    history = started(retry=STEADY | {"non_retryable": ["Fatal"]})
    assert history.report(*failed(70)) == [like(AttemptFailed, retry_at=at(80))]


def test_delay_of_the_error_wins():
    history = started(retry=STEADY)
    report = said("failed", error=BOOM, retry_after=timedelta(seconds=7))
    assert history.report(70, report) == [like(AttemptFailed, retry_at=at(77))]
    history = started(retry=STEADY)
    report = said("failed", error=BOOM, retry_after=timedelta(0))
    assert history.report(70, report) == [like(AttemptFailed, retry_at=at(70))]


def delay_of(failures: int, **retry: Any) -> float:
    """Seconds that the retry after so many failures waits."""
    run = msgspec.structs.replace(started().run, failures=failures)
    found = retry_at(run, Retry(**retry), "failed", BOOM, None, at(0))
    assert found is not None
    return (found - at(0)).total_seconds()


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 60), (1, 120), (2, 240), (4, 960), (5, 1800), (900, 1800)]
)
def test_backoff_doubles_up_to_the_cap(failures, seconds):
    assert delay_of(failures, max_attempts=1000, jitter=0) == seconds


def test_backoff_can_be_fixed_or_steeper():
    assert delay_of(5, max_attempts=9, delay="5s", backoff=1, jitter=0) == 5
    assert delay_of(2, max_attempts=9, delay="5s", backoff=10, jitter=0) == 500
    assert delay_of(999 - 1, max_attempts=1000, backoff=100, jitter=0) == 1800


def test_jitter_is_a_function_of_execution_and_attempt_within_its_bounds():
    run = started().run
    delays = set()
    for attempt in range(200):
        tried = msgspec.structs.replace(run, attempt=attempt)
        found = retry_at(tried, Retry(), "failed", BOOM, None, at(0))
        assert found == retry_at(tried, Retry(), "failed", BOOM, None, at(0))
        assert found is not None
        delays.add((found - at(0)).total_seconds())
    assert len(delays) == 200
    assert 54 <= min(delays) < 55
    assert 65 < max(delays) <= 66


# --- polls ---------------------------------------------------------------------------------------


def test_not_yet_is_asked_again_and_is_no_retry():
    history = started(retry={"max_attempts": 1})
    run = history.run
    report = said(
        "again",
        after=timedelta(seconds=30),
        result="waiting",
        started_at=at(60),
        logs=("l",),
        metadata={"m": 1},
    )
    assert history.report(70, report) == [
        ExecutionDelayed(
            at=at(70),
            attempt=1,
            until=at(100),
            started_at=at(60),
            result="waiting",
            logs=["l"],
            metadata={"m": 1},
            **about(run),
        )
    ]
    run = history.run
    assert (run.status, run.polls, run.failures, run.wake) == (Status.DELAYED, 1, 0, at(100))
    assert (run.worker, run.local, run.deadline) == (None, False, None)
    assert history.report(71, report) == []
    assert history.start(100) == [like(AttemptStarted, attempt=2)]


def test_not_yet_is_asked_again_in_a_minute_unless_told():
    assert started().report(70, said("again")) == [like(ExecutionDelayed, until=at(130))]
    at_once = said("again", after=timedelta(0))
    assert started().report(70, at_once) == [like(ExecutionDelayed, until=at(70))]


def test_poll_over_its_limit_fails_without_a_retry():
    history = started()
    history.report(70, said("again", limit=1, after=timedelta(0)))
    history.start(70)
    report = said("again", "2.1", limit=1, started_at=at(70), logs=("l",))
    assert history.report(71, report) == [
        like(
            AttemptFailed,
            attempt=2,
            outcome="failed",
            retry_at=None,
            error={
                "type": "PollLimit",
                "message": "not yet after 1 polls",
                "reason": "poll_limit",
            },
            started_at=at(70),
            logs=["l"],
        ),
        like(ExecutionFailed, attempt=2),
    ]


def test_poll_limit_of_zero_allows_none():
    assert started().report(70, said("again", limit=0)) == [
        like(AttemptFailed),
        like(ExecutionFailed),
    ]


def test_failure_between_polls_is_retried():
    history = started(retry=STEADY | {"max_attempts": 2})
    history.report(70, said("again", after=timedelta(0)))
    history.start(70)
    assert history.report(*failed(71, "2.1")) == [like(AttemptFailed, retry_at=at(81))]
    assert (history.run.polls, history.run.failures) == (1, 1)


# --- deadlines -----------------------------------------------------------------------------------


def test_attempt_times_out_at_its_deadline_and_is_retried():
    history = started(retry=STEADY)
    run = history.run
    assert history.settle(359.999999) == []
    assert history.settle(360) == [
        AttemptFailed(
            at=at(360),
            attempt=1,
            outcome="timed_out",
            error={"type": "Timeout", "message": "no outcome within start_to_close"},
            retry_at=at(370),
            started_at=at(60),
            **about(run),
        )
    ]
    assert history.settle(361) == []


def test_last_attempt_that_times_out_says_so():
    history = started(retry={"max_attempts": 1})
    assert history.settle(400) == [
        like(AttemptFailed, outcome="timed_out"),
        like(ExecutionTimedOut, attempt=1),
    ]
    assert history.line.failures == 1


def test_timeout_can_be_excluded_from_retries():
    history = started(retry={"non_retryable": ["Timeout"]})
    assert history.settle(400)[-1] == like(ExecutionTimedOut)


def test_timeout_releases_the_instant_at_the_same_moment():
    history = History(
        trigger={"type": "interval", "every": "10m"},
        timeout={"start_to_close": "10m"},
        retry={"max_attempts": 1},
    )
    history.settle(600)
    history.start(600)
    assert history.settle(1200)[-1] == like(ExecutionRequested, due=at(1200))


# --- owners --------------------------------------------------------------------------------------


def test_attempt_of_a_lost_process_is_repeated_at_once():
    history = started()
    assert history.recover(70, "engine-2") == [
        like(
            AttemptFailed,
            outcome="lost",
            error={"type": "WorkerLost", "message": f"{HERE} ended without an outcome"},
            retry_at=at(70),
        )
    ]
    assert history.run.ready(at(70))
    assert history.report(71, said()) == [like(ReportRefused, lease="1.1")]


def test_attempts_that_kill_their_process_come_to_an_end():
    history = started(retry={"max_attempts": 2})
    history.recover(70, "engine-2")
    history.do(decider.start, history.run.id, "engine-2", cause(71))
    assert history.recover(80, "engine-3") == [
        like(AttemptFailed, outcome="lost", retry_at=None),
        like(ExecutionDeadLettered, attempt=2),
    ]


def test_same_owner_keeps_its_attempts():
    assert started().recover(70, HERE) == []


def test_attempts_elsewhere_and_waiting_runs_survive_another_owner():
    history = requested()
    assert history.recover(61, "engine-2") == []
    history.take(62)
    assert history.recover(63, "engine-2") == []
    local = started(retry=STEADY)
    local.report(*failed(70))
    assert local.recover(71, "engine-2") == []


def test_all_attempts_of_a_lost_process_are_found():
    history = History(overlap="allow")
    history.trigger(1, "a")
    history.trigger(2, "b")
    for run in history.live:
        history.start(3, run)
    assert len(history.recover(4, "engine-2")) == 2


def test_handed_over_attempt_is_lost_with_its_process():
    history = requested(trigger={"type": "interval", "every": "60s"})
    history.hand_over()
    assert history.run.lease == "1.1"
    assert history.recover(70, "engine-2") == [like(AttemptFailed, outcome="lost", attempt=1)]


# --- cancel --------------------------------------------------------------------------------------


def cancel(history: History, seconds: float, id_: str) -> list[Any]:
    return history.do(decider.cancel, id_, "enough", cause(seconds))


@pytest.mark.parametrize("make", [requested, started])
def test_execution_is_cancelled_before_its_outcome(make):
    history = make()
    run = history.run
    assert cancel(history, 70, run.id) == [
        ExecutionCancelled(at=at(70), reason="enough", **about(run))
    ]
    assert history.live == []
    assert history.line.failures == 0


def test_cancelling_decides_first_what_was_due():
    history = History()
    history.settle(60)
    assert cancel(history, 120, history.run.id) == [
        like(ExecutionSkipped, due=at(120)),
        like(ExecutionCancelled),
    ]
    assert history.settle(180) == [like(ExecutionRequested, due=at(180))]


def test_cancelled_execution_stays_so_and_others_cannot_be():
    history = started()
    run, terms = history.run, history.line.definition
    gone = execution.evolve(run, ExecutionCancelled(at=at(70), reason="", **about(run)))
    done = execution.evolve(run, ExecutionSucceeded(at=at(70), attempt=1, **about(run)))
    assert gone is not None
    assert done is not None
    assert execution.cancel(gone, terms, "", cause(71)) == []
    with pytest.raises(IllegalState) as caught:
        execution.cancel(done, terms, "", cause(71))
    assert (caught.value.field, caught.value.details) == ("id", {"state": "succeeded"})


# --- state ---------------------------------------------------------------------------------------


def test_six_states_are_alive():
    assert {each for each in Status if each.alive} == {
        Status.PENDING,
        Status.DELAYED,
        Status.BUFFERED,
        Status.HELD,
        Status.CHECKING,
        Status.RUNNING,
        Status.WAITING,
    }
    assert {each for each in Status if each.parked} == {
        Status.BUFFERED,
        Status.HELD,
        Status.CHECKING,
    }


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (ExecutionSucceeded, Status.SUCCEEDED),
        (ExecutionFailed, Status.FAILED),
        (ExecutionTimedOut, Status.TIMED_OUT),
        (ExecutionDeadLettered, Status.DEAD),
    ],
)
def test_ends_leave_nothing_to_wait_for(event, status):
    run = started().run
    told = {} if event is ExecutionSucceeded else {"error": {}}
    ended = execution.evolve(run, event(at=at(70), attempt=1, **told, **about(run)))
    assert ended is not None
    assert (ended.status, ended.version) == (status, run.version + 1)
    assert (ended.worker, ended.deadline, ended.resume_at, ended.local) == (None, None, None, False)
    assert ended.wake is None
    assert not ended.ready(at(10**6))


def test_skipped_execution_is_known_by_its_one_event():
    history = History()
    history.settle(60)
    (event,) = history.settle(120)
    found = execution.evolve(None, event)
    assert found is not None
    assert (found.status, found.due, found.version) == (Status.SKIPPED, at(120), 1)
    assert (found.nominal, found.revision, found.kind) == ("2026-01-05T00:02:00Z", 1, "interval")
    assert (found.requested_at, found.id) == (at(120), event.execution_id)


def test_events_of_an_unknown_execution_change_nothing():
    history = started()
    stray = ExecutionSucceeded(at=at(1), schedule_id="job", execution_id="stray", attempt=1)
    assert execution.evolve(None, stray) is None
    assert ledger.evolve(history.line, stray) is history.line
    assert ledger.evolve(None, stray) is None


def test_failures_count_until_a_success():
    history = History(retry={"max_attempts": 1}, overlap="allow")
    for minute in (1, 2):
        history.settle(60 * minute)
        history.start(60 * minute)
        history.report(*failed(60 * minute + 1))
    assert history.line.failures == 2
    history.settle(180)
    cancel(history, 181, history.run.id)
    assert history.line.failures == 2
    history.settle(240)
    history.start(240)
    history.report(241, said())
    assert history.line.failures == 0


def test_execution_runs_by_the_revision_that_decided_it():
    history = History(timeout={"start_to_close": "10s"}, retry=STEADY | {"max_attempts": 2})
    history.settle(60)
    history.update(61, timeout={"start_to_close": "99s"}, retry={"max_attempts": 1})
    history.start(62)
    assert history.run.deadline == at(72)
    assert history.settle(72) == [like(AttemptFailed, retry_at=at(82))]
    assert history.take(82) == [like(AttemptStarted, deadline=at(92))]
    assert history.report(83, said("failed", "2.1"))[-1] == like(ExecutionDeadLettered)


def test_execution_of_a_forgotten_revision_runs_by_the_present_one():
    history = requested()
    schedule = msgspec.structs.replace(history.line.schedule, definitions={})
    line = msgspec.structs.replace(history.line, schedule=schedule)
    assert line.definition_of(history.run) == line.definition


# --- lines ---------------------------------------------------------------------------------------


def test_line_wakes_for_the_first_of_what_it_waits_for():
    history = History(retry=STEADY)
    history.settle(60)
    history.start(60)
    assert history.line.wake == at(120)
    history.report(*failed(70))
    assert history.line.wake == at(80)
    assert history.line.wake_unless_ready(at(79)) == at(80)
    assert history.line.wake_unless_ready(at(80)) == at(120)


def test_line_is_unsettled_while_work_is_out_or_ready():
    history = History(retry=STEADY)
    assert not history.line.unsettled
    history.settle(60)
    assert history.line.unsettled
    history.start(60)
    assert history.line.unsettled
    history.report(*failed(70))
    assert not history.line.unsettled
    assert not history.line.settled


def test_line_that_says_no_more_than_its_schedule_is_packed_as_nothing():
    history = History()
    assert ledger.pack(history.line) == b""
    assert ledger.live_ids(b"") == []
    history.pause(1)
    assert ledger.pack(history.line) == b""
    history.resume(2)
    assert ledger.pack(history.line) != b""


def test_packed_line_names_its_live_executions():
    history = started()
    assert ledger.live_ids(ledger.pack(history.line)) == [history.run.id]


def test_range_moves_the_line_and_never_back():
    history = History()
    early = OccurrencesDecided(
        at=at(1),
        schedule_id="job",
        decision="skipped",
        reason="r",
        first=at(-60),
        last=at(-30),
        revision=1,
        next_due=at(60),
    )
    line = ledger.evolve(history.line, early)
    assert line is not None
    assert line.through == at(0)


def test_recreated_schedule_keeps_what_still_runs():
    history = started()
    history.command(create(71))
    assert history.run.status is Status.RUNNING
    assert history.settle(131) == [like(ExecutionSkipped, blocked_by=history.run.id)]
    assert fold(history.events) == history.line
