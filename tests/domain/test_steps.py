"""Actions of several steps, and how what they did is taken back (W9)."""

from __future__ import annotations

import pytest
from histories import at, like, said
from sagas import STEADY, WAIT, SagaHistory, function, paid, step

from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    AwaitingConfirmation,
    Because,
    CancellationRequested,
    CompensationStarted,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionFailed,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSucceeded,
    ExecutionTimedOut,
    FallbackStarted,
    SchedulePaused,
    StageCompleted,
)
from horae_domain.replaying import ReplayDiffers, replay

THREE = {"type": "steps", "steps": [step("reserve"), step("notify", undo=False), step("charge")]}
BOOM = {"type": "Boom", "message": "no"}


def begun(*, done: int = 0, **told):
    """An order whose first steps are done, and whose next one runs."""
    history = SagaHistory(**{"action": THREE, "retry": {"max_attempts": 1}, **told})
    history.begin(1)
    history.start(2)
    for number in range(done):
        history.report(3 + number, said(lease=f"{number + 1}.1", result=number))
        history.start(3 + number)
    return history


def test_steps_are_taken_one_after_the_other():
    history = begun(done=2)
    stages = [each.stage for each in history.events if isinstance(each, AttemptStarted)]
    assert stages == ["step:reserve", "step:notify", "step:charge"]
    assert history.run.results == {"reserve": 0, "notify": 1}
    assert history.report(9, said(lease="3.1", result="ok")) == [
        like(ExecutionSucceeded, result="ok", attempt=3)
    ]
    (commands,) = replay(history.events).values()
    id_ = history.last.id
    assert [each.id for each in commands] == [f"{id_}:{stage}" for stage in stages]


def test_each_step_has_its_own_retries_and_polls():
    history = begun(retry=STEADY)
    assert history.report(3, said("failed", error=BOOM)) == [like(AttemptFailed, retry_at=at(13))]
    history.start(13)
    assert history.report(14, said("again", "2.1", limit=3)) == [like(ExecutionDelayed, limit=3)]
    history.start(74)
    assert (history.run.failures, history.run.polls) == (1, 1)
    history.report(75, said(lease="3.1"))
    assert (history.run.failures, history.run.polls) == (0, 0)


def test_failure_takes_back_what_was_done_in_reverse():
    steps = {"type": "steps", "steps": [step("reserve"), step("pack"), step("charge")]}
    history = begun(done=2, action=steps)
    because = Because(end="failed", reason="failed", error=BOOM)
    assert history.report(9, said("failed", "3.1", error=BOOM)) == [
        like(AttemptFailed),
        like(
            CompensationStarted,
            next="undo:pack",
            done=["reserve", "pack"],
            because=because,
        ),
    ]
    history.start(10)
    assert history.report(11, said(lease="4.1")) == [
        like(StageCompleted, stage="undo:pack", next="undo:reserve")
    ]
    assert history.run.done == ("reserve",)
    history.start(12)
    assert history.report(13, said(lease="5.1")) == [
        like(StageCompleted, stage="undo:reserve", next="end"),
        like(ExecutionFailed, error=BOOM),
    ]


def test_steps_that_nothing_takes_back_are_passed_over():
    history = begun(done=2)
    told = history.report(9, said("failed", "3.1", error=BOOM))
    assert told[-1] == like(CompensationStarted, next="undo:reserve", done=["reserve", "notify"])


def test_failure_of_the_first_step_has_nothing_to_take_back():
    assert begun().report(9, said("failed", error=BOOM))[-1] == like(ExecutionFailed)


def test_step_of_which_nobody_knows_what_it_did_is_taken_back():
    history = begun(done=2, timeout={"start_to_close": "10s"})
    told = history.settle(20)
    assert told[-1] == like(
        CompensationStarted, next="undo:charge", done=["reserve", "notify", "charge"]
    )
    assert told[-1].because.end == "timed_out"
    for number, seconds in ((4, 21), (5, 23)):
        history.start(seconds)
        last = history.report(seconds + 1, said(lease=f"{number}.1"))
    assert last[-1] == like(ExecutionTimedOut)


def test_fallback_follows_when_all_is_taken_back():
    history = begun(done=1, fallback=function("rescue"))
    history.report(8, said("failed", "2.1", error=BOOM))
    history.start(9)
    assert history.report(10, said(lease="3.1"))[-1] == like(FallbackStarted, stage="fallback")
    history.start(11)
    assert history.report(12, said(lease="4.1")) == [like(ExecutionSucceeded)]


def test_dead_letter_is_none_when_all_is_taken_back():
    history = begun(done=1, retry=STEADY)
    history.report(8, said("failed", "2.1", error=BOOM))
    history.start(18)
    history.report(19, said("failed", "3.1", error=BOOM))
    history.start(20)
    assert history.report(21, said(lease="4.1"))[-1] == like(ExecutionFailed)


def test_taking_back_that_fails_is_a_dead_letter_and_goes_on_there():
    history = begun(done=1)
    history.report(8, said("failed", "2.1", error=BOOM))
    history.start(9)
    assert history.report(10, said("failed", "3.1", error=BOOM))[-1] == like(ExecutionDeadLettered)
    assert history.requeue(20, history.last) == [
        like(ExecutionRequeued, stage="undo:reserve", done=["reserve"])
    ]
    history.start(21)
    assert history.report(22, said(lease="4.1"))[-1] == like(ExecutionFailed, error=BOOM)


def test_step_that_is_dead_goes_on_where_it_was():
    steps = {"type": "steps", "steps": [step("look", undo=False), step("charge")]}
    history = begun(done=1, action=steps, retry=STEADY)
    history.report(8, said("failed", "2.1", error=BOOM))
    history.start(18)
    assert history.report(19, said("failed", "3.1", error=BOOM))[-1] == like(ExecutionDeadLettered)
    history.requeue(30, history.last)
    assert history.start(31) == [like(AttemptStarted, stage="step:charge", attempt=4)]


# --- cancelling ----------------------------------------------------------------------------------


def test_cancellation_takes_back_the_running_step_too():
    history = begun(done=2)
    assert history.cancel_run(9) == [
        like(AttemptFailed, outcome="terminated"),
        like(CompensationStarted, next="undo:charge", done=["reserve", "notify", "charge"]),
    ]
    assert history.cancel_run(10) == []
    assert history.ask_to_stop(10) == []
    history.start(11)
    assert history.ask_to_stop(11) == []
    assert history.cancel_run(11) == []
    history.report(12, said(lease="4.1"))
    history.start(13)
    told = history.report(14, said(lease="5.1"))
    assert told[-1] == like(ExecutionCancelled, reason="enough")


def test_cancellation_between_two_steps_takes_back_those_done():
    history = begun()
    history.report(8, said())
    assert history.cancel_run(9) == [
        like(CompensationStarted, next="undo:reserve", done=["reserve"])
    ]


def test_step_that_stops_when_asked_is_taken_back():
    history = begun(done=1)
    assert history.ask_to_stop(8) == [like(CancellationRequested)]
    told = history.report(9, said("cancelled", "2.1"))
    assert told == [
        like(AttemptFailed, outcome="cancelled"),
        like(CompensationStarted, next="undo:reserve"),
    ]


def test_step_that_succeeds_though_it_was_asked_to_stop_is_taken_back():
    history = begun(done=2)
    history.ask_to_stop(8)
    assert history.report(9, said(lease="3.1")) == [like(ExecutionSucceeded)]
    history = begun()
    history.ask_to_stop(8)
    assert history.report(9, said()) == [
        like(StageCompleted, stage="step:reserve"),
        like(CompensationStarted, next="undo:reserve", done=["reserve"]),
    ]


def test_step_that_does_not_stop_in_time_is_taken_back():
    history = begun(done=2)
    history.ask_to_stop(8, grace=5)
    assert history.settle(13) == [
        like(AttemptFailed, outcome="terminated"),
        like(CompensationStarted, next="undo:charge"),
    ]


def test_step_that_fails_while_asked_to_stop_is_cancelled():
    history = begun(done=1)
    history.ask_to_stop(8)
    told = history.report(9, said("failed", "2.1", error=BOOM))
    assert told[-1].because.end == "cancelled"


def test_what_is_taken_back_is_not_made_way_by():
    history = begun(done=2, overlap="terminate_other")
    assert history.begin(20, key="two") == [
        like(AttemptFailed, outcome="terminated"),
        like(CompensationStarted),
        like(ExecutionBuffered),
    ]
    assert history.begin(21, key="three")[-1] == like(ExecutionBuffered)


# --- waits ---------------------------------------------------------------------------------------


def confirmed_after(**told):
    wait = WAIT | {"then": function("finalise")}
    history = begun(done=2, wait_for=wait, **told)
    assert history.report(9, said(lease="3.1")) == [
        like(StageCompleted, stage="step:charge", next="wait"),
        like(AwaitingConfirmation, deadline=at(609)),
    ]
    return history


def test_steps_that_nobody_confirms_are_taken_back():
    history = confirmed_after()
    told = history.expire(609)[-1]
    assert told == like(CompensationStarted, next="undo:charge")
    assert told.because.reason == "confirmation_not_received"
    assert history.run.stage == "undo:charge"


def test_steps_that_are_cancelled_while_they_wait_are_taken_back():
    history = confirmed_after()
    told = history.cancel_run(20, history.waiter)
    assert told == [like(CompensationStarted, next="undo:charge")]


def test_failed_confirmation_takes_the_steps_back():
    history = confirmed_after()
    history.confirm(paid(20))
    history.start(21)
    assert history.report(22, said("failed", "4.1"))[-1] == like(CompensationStarted)


# --- replay --------------------------------------------------------------------------------------


def test_replay_of_another_decision_is_found():
    history = begun(done=1)
    (index,) = [
        index for index, event in enumerate(history.events) if isinstance(event, StageCompleted)
    ]
    without = history.events[:index] + history.events[index + 1 :]
    with pytest.raises(ReplayDiffers) as caught:
        replay(without)
    assert (caught.value.recorded, caught.value.replayed) == ("step:notify", "step:reserve")


def test_replay_of_an_attempt_that_nothing_leads_to_is_found():
    history = begun()
    gone = [each for each in history.events if not isinstance(each, ExecutionRequested)]
    assert replay(gone) == {}
    history.report(9, said("failed", error=BOOM))
    stray = [each for each in history.events if isinstance(each, AttemptStarted)]
    with pytest.raises(ReplayDiffers) as caught:
        replay([*history.events, *stray])
    assert caught.value.replayed is None
    assert replay(stray) == {}


def test_what_has_not_begun_is_told_nothing():
    events = begun().events
    started = next(n for n, each in enumerate(events) if isinstance(each, AttemptStarted))
    assert replay(events[:started]) == {}
    (commands,) = replay(events[: started + 1]).values()
    assert len(commands) == 1


def test_replay_passes_over_what_belongs_to_no_schedule():
    history = begun()
    paused = SchedulePaused(at=at(1), schedule_id="elsewhere")
    (commands,) = replay([paused, *history.events]).values()
    assert [each.stage for each in commands] == ["step:reserve"]
