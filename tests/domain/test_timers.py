"""Timers by name: moved, cancelled, refused."""

from __future__ import annotations

from typing import Any

import pytest
from histories import History, at, cause, like, said
from test_guards import BROKEN, answer, guarded

from horae_domain import conditions, execution, timers
from horae_domain.errors import (
    ExecutionNotFound,
    IllegalState,
    InvalidField,
    ScheduleNotFound,
    TimerNotFound,
)
from horae_domain.events import (
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionDropped,
    ExecutionTimedOut,
    ScheduleBackfillCompleted,
    ScheduleTripped,
    TimerCancelled,
    TimerMoved,
)
from horae_domain.execution import Status
from horae_domain.timers import TimerId, parse_timer_id, timers_of

RUN = "2a019b8b-7502-6057-266e-626ad33819ed"
ONCE: dict[str, Any] = {"trigger": {"type": "once", "at": at(60)}}
STEADY = {"delay": "10s", "jitter": 0}
BOOM = {"type": "Boom", "message": "no"}


def requested(**told: Any) -> History:
    history = History(**{**ONCE, "retry": STEADY, **told})
    history.settle(60)
    return history


def started(**told: Any) -> History:
    history = requested(**told)
    history.start(60)
    return history


def failed(**told: Any) -> History:
    """An attempt has failed at second 61; the next one is due at 71."""
    history = started(**told)
    history.report(61, said("failed", error=BOOM))
    return history


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "occurrence:desk:nightly.1@2026-01-05T00:01:00Z",
        "backfill:job@00ff",
        f"retry:{RUN}@2",
        f"overall:{RUN}",
    ],
)
def test_id_of_a_timer_is_read_as_it_is_written(text: str):
    assert str(parse_timer_id(text)) == text


def test_instant_of_an_occurrence_is_read_in_any_offset():
    read = parse_timer_id("occurrence:job@2026-01-05T01:01:00+01:00")
    assert read == timers.of_occurrence("job", at(60))
    assert read.due == at(60)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job",
        "occurrence:job",
        "occurrence:job@soon",
        "occurrence:a b@2026-01-05T00:01:00Z",
        "backfill:job",
        "retry:job",
        f"nap:{RUN}",
        f"retry:{RUN.upper()}",
    ],
)
def test_what_is_no_id_of_a_timer_is_refused(text: str):
    with pytest.raises(InvalidField) as caught:
        parse_timer_id(text)
    assert caught.value.field == "id"


def test_every_timer_of_an_execution_is_told():
    history = requested(timeout={"schedule_to_start": "30s", "overall": "1h", "heartbeat": "20s"})
    assert timers_of(history.run) == {"schedule_to_start": at(90), "overall": at(3660)}
    history.start(60)
    running = {"start_to_close": at(360), "heartbeat": at(80), "overall": at(3660)}
    assert timers_of(history.run) == running
    history.ask_to_stop(65)
    assert timers_of(history.run) == running | {"stop": at(95)}


def test_what_waits_to_be_tried_or_asked_again_is_told_apart():
    assert timers_of(failed().run) == {"retry": at(71)}
    history = started()
    history.report(61, said("again"))
    assert timers_of(history.run) == {"poll": at(121)}


def test_time_since_when_requeued_work_is_ready_is_no_timer():
    history = failed(retry={**STEADY, "max_attempts": 2})
    history.start(71)
    run = history.run
    history.report(72, said("failed", lease="2.1", error=BOOM))
    history.requeue(80, run)
    assert timers_of(history.run) == {}


# --- moved ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [65.0, 500.0])
def test_retry_that_is_moved_comes_at_its_new_instant(to: float):
    history = failed()
    (event,) = history.move_timer(62, "retry", to, "the bank is shut")
    assert event == like(TimerMoved, timer="retry", was=at(71), to=at(to), note="the bank is shut")
    assert history.line.wake == at(to)
    assert not history.run.ready(at(to - 1))
    assert history.run.ready(at(to))


def test_poll_that_is_moved_comes_at_its_new_instant():
    history = started()
    history.report(61, said("again", after=None))
    history.move_timer(62, "poll", 70)
    assert history.run.ready(at(70))


@pytest.mark.parametrize(
    ("kind", "timeout", "error"),
    [
        ("schedule_to_start", {"schedule_to_start": "30s"}, execution.LATE_START),
        ("overall", {"overall": "30s"}, execution.LATE_END),
    ],
)
def test_timeout_of_what_waits_is_over_at_its_new_instant(kind: str, timeout: dict, error: dict):
    history = requested(timeout=timeout)
    history.move_timer(61, kind, 200)
    assert history.settle(199) == []
    (event, *_) = history.settle(200)
    assert event == like(ExecutionTimedOut, error=error)


@pytest.mark.parametrize(
    ("kind", "timeout"),
    [("start_to_close", {"start_to_close": "30s"}), ("heartbeat", {"heartbeat": "30s"})],
)
def test_timeout_of_an_attempt_is_over_at_its_new_instant(kind: str, timeout: dict):
    history = started(timeout=timeout)
    history.move_timer(61, kind, 200)
    assert history.settle(199) == []
    history.settle(200)
    assert history.run.status is Status.DELAYED


def test_grace_of_what_was_asked_to_stop_is_moved():
    history = started()
    history.ask_to_stop(61)
    history.move_timer(62, "stop", 200)
    assert history.settle(199) == []
    assert history.settle(200)[0] == like(ExecutionCancelled, reason="enough")


def test_timer_that_is_there_already_is_not_moved():
    assert failed().move_timer(62, "retry", 71) == []


def test_timer_is_not_moved_into_the_past():
    with pytest.raises(InvalidField) as caught:
        failed().move_timer(62, "retry", 61)
    assert (caught.value.field, caught.value.value) == ("to", "2026-01-05T00:01:01Z")


# --- cancelled -----------------------------------------------------------------------------------


def test_retry_that_is_cancelled_is_given_up():
    history = failed()
    run = history.run
    assert history.cancel_timer(62, "retry", "the customer left")[0] == like(
        ExecutionDeadLettered,
        attempt=1,
        error={"type": "GivenUp", "message": "the customer left"},
    )
    assert history.told(run).status is Status.DEAD
    history.requeue(70, run)
    assert history.run.ready(at(70))


def test_retry_that_is_given_up_counts_among_failures():
    history = failed(trigger={"type": "interval", "every": "1 minute"}, pause_on_failures=1)
    assert history.cancel_timer(62, "retry")[-1] == like(ScheduleTripped, failures=1)


def test_poll_that_is_cancelled_ends_its_execution():
    history = started()
    history.report(61, said("again"))
    assert history.cancel_timer(62, "poll")[0] == like(ExecutionCancelled, reason="cancelled")
    assert history.live == []


@pytest.mark.parametrize(
    ("kind", "timeout"),
    [
        ("start_to_close", {"start_to_close": "30s"}),
        ("heartbeat", {"heartbeat": "30s", "start_to_close": None}),
        ("overall", {"overall": "30s", "start_to_close": None}),
    ],
)
def test_timeout_that_is_lifted_does_not_end_the_attempt(kind: str, timeout: dict):
    history = started(timeout=timeout)
    assert history.cancel_timer(61, kind, "let it")[0] == like(
        TimerCancelled, timer=kind, was=at(90), note="let it"
    )
    assert history.settle(1000) == []
    assert timers_of(history.run) == {}
    assert history.run.status is Status.RUNNING


def test_timeout_to_start_that_is_lifted_lets_it_wait():
    history = requested(timeout={"schedule_to_start": "30s"})
    history.cancel_timer(61, "schedule_to_start")
    assert history.settle(1000) == []


def test_last_timeout_of_an_attempt_elsewhere_is_not_lifted():
    history = requested(timeout={"start_to_close": "30s", "overall": "1h"})
    history.take(60)
    history.cancel_timer(61, "overall")
    with pytest.raises(IllegalState, match="nothing else would end"):
        history.cancel_timer(62, "start_to_close")


def test_what_was_asked_to_stop_is_not_asked_back():
    history = started()
    history.ask_to_stop(61)
    with pytest.raises(IllegalState, match="asked back") as caught:
        history.cancel_timer(62, "stop")
    assert (caught.value.field, caught.value.value) == ("id", f"stop:{history.run.id}@1")
    assert caught.value.details == {"state": "running"}


# --- not there -----------------------------------------------------------------------------------


def test_timer_of_an_attempt_that_is_over_is_not_there():
    history = failed()
    of_attempt_1 = TimerId("retry", history.run.id, "1")
    history.start(71)
    history.report(72, said("failed", lease="2.1", error=BOOM))
    with pytest.raises(TimerNotFound):
        history.do(timers.move, of_attempt_1, at(200), "", cause(73))


def test_timer_of_another_kind_is_not_there():
    with pytest.raises(TimerNotFound):
        failed().cancel_timer(62, "poll")


def test_timer_that_came_due_before_it_was_moved_is_not_there():
    history = started(timeout={"overall": "30s"})
    with pytest.raises(TimerNotFound):
        history.move_timer(95, "overall", 200)


def test_timer_of_no_execution_is_not_there():
    with pytest.raises(ExecutionNotFound):
        failed().do(timers.cancel, TimerId("retry", RUN, "1"), "", cause(62))


# --- backfills -----------------------------------------------------------------------------------


def test_backfill_that_is_cancelled_ends_and_what_it_requested_goes_on():
    history = History()
    history.settle(60)
    history.cancel_run(61)
    history.settle(120)
    history.cancel_run(121)
    history.backfill(150, 30, 130)
    run = history.run
    (event,) = history.do(timers.end_backfill, timers.of_backfill("job", "b"), cause(151))
    assert event == like(ScheduleBackfillCompleted, backfill_id="b", reason="cancelled", left=1)
    assert history.line.backfills == {}
    assert history.run == run
    with pytest.raises(TimerNotFound):
        history.do(timers.end_backfill, timers.of_backfill("job", "b"), cause(152))


def test_backfill_of_no_schedule_is_not_there():
    from horae_domain.decision import Decision

    with pytest.raises(ScheduleNotFound):
        timers.end_backfill(Decision(None), TimerId("backfill", "job", "b"), cause(1))


# --- checks --------------------------------------------------------------------------------------


def test_next_check_of_a_condition_is_moved_or_the_run_is_skipped():
    history = guarded(catch_up={"window": "10s"})
    history.settle(60)
    answer(history, 60, BROKEN)
    (run,) = history.parked
    assert timers_of(run) == {"check": at(61)}
    id_ = timers.of_execution("check", run.id, run.attempt)
    history.do(timers.move, id_, at(65), "", cause(60.5))
    assert [history.parked[0].asks(at(second)) for second in (64, 65)] == [False, True]
    assert history.do(timers.cancel, id_, "", cause(61)) == [
        like(ExecutionDropped, reason="skipped_by_hand")
    ]


# --- what follows from a definition --------------------------------------------------------------


WATCHING: dict[str, Any] = {
    "trigger": {"type": "condition", "check": "volatility", "when": "v > 0.05", "cooldown": "5m"}
}
RESTS = timers.of_cooldown("job", at(360))


def fires(history: History) -> None:
    history.do(conditions.judge, conditions.Looked(at(60), 1, True, {"v": 1}), cause(60))


@pytest.mark.parametrize(
    ("id_", "why"), [(timers.of_look("job", at(120)), "every interval"), (RESTS, "has fired")]
)
def test_look_and_the_end_of_a_cooldown_are_not_changed_by_hand(id_: TimerId, why: str):
    history = History(**WATCHING)
    fires(history)
    with pytest.raises(IllegalState, match=why) as caught:
        history.do(timers.refuse_fixed, id_, cause(61))
    assert caught.value.value == str(id_)
    assert parse_timer_id(str(id_)) == id_


def test_cooldown_that_is_over_and_look_of_no_check_are_not_there():
    history = History(**WATCHING)
    with pytest.raises(TimerNotFound):
        history.do(timers.refuse_fixed, RESTS, cause(1))
    fires(history)
    with pytest.raises(TimerNotFound):
        history.do(timers.refuse_fixed, RESTS, cause(360))
    with pytest.raises(TimerNotFound):
        History().do(timers.refuse_fixed, timers.of_look("job", at(60)), cause(1))


@pytest.mark.parametrize("kind", [timers.of_look, timers.of_cooldown])
@pytest.mark.parametrize("seconds", [60, 180, 10**6])
def test_look_and_cooldown_of_another_instant_are_not_there(kind: Any, seconds: int) -> None:
    history = History(**WATCHING)
    fires(history)
    with pytest.raises(TimerNotFound):
        history.do(timers.refuse_fixed, kind("job", at(seconds)), cause(61))
