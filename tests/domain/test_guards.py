import pytest
from histories import History, at, cause, definition, like, said

from horae_domain.checking import Verdict, judge
from horae_domain.errors import InvalidField
from horae_domain.events import (
    ExecutionApproved,
    ExecutionBuffered,
    ExecutionCheckFailed,
    ExecutionChecking,
    ExecutionConditionsMet,
    ExecutionDropped,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionSkipped,
    ScheduleCompleted,
)
from horae_domain.execution import LONGEST_CHECK_PAUSE, Status

MET = Verdict(met=True)
CLOSED = Verdict(met=False, condition="open")
BROKEN = Verdict(met=False, condition="open", error={"type": "Boom", "message": "no feed"})


def guarded(**told):
    return History(requires=["open"], **told)


def answer(history, seconds, verdict, run=None):
    run = run or history.parked[0]
    return history.do(judge, run.id, verdict, cause(seconds))


def test_one_condition_may_be_named_without_a_list():
    assert definition(requires="open").requires == ("open",)
    assert definition(requires=["open", "funded"]).requires == ("open", "funded")


@pytest.mark.parametrize("requires", [["a b"], [".."], [""], ["a"] * 17, 3])
def test_what_is_no_name_of_a_condition_is_refused(requires):
    with pytest.raises(InvalidField) as caught:
        definition(requires=requires)
    assert caught.value.field.startswith("requires")


def test_an_occurrence_waits_for_its_conditions_and_fires_when_they_are_met():
    history = guarded()
    assert history.settle(60) == [
        like(ExecutionChecking, due=at(60), conditions=["open"], next_due=at(120))
    ]
    assert (history.live, history.line.fired) == ([], 0)
    assert history.line.unsettled
    assert answer(history, 61, MET) == [
        like(ExecutionConditionsMet, conditions=["open"]),
        like(ExecutionReleased, run_number=1),
    ]
    assert history.run.conditions == ["open"]
    assert history.line.fired == 1


def test_what_is_due_is_decided_before_an_answer():
    history = guarded()
    history.settle(60)
    assert answer(history, 121, MET)[0] == like(ExecutionChecking, due=at(120))


def test_what_does_not_meet_its_conditions_is_skipped_for_that_and_counts_for_nothing():
    history = guarded(max_executions=1, cooldown="1h")
    history.settle(60)
    assert answer(history, 61, CLOSED) == [like(ExecutionDropped, reason="condition_not_met:open")]
    assert (history.line.fired, history.line.cooldown_until) == (0, None)
    history.settle(120)
    assert [type(event) for event in answer(history, 121, MET)] == [
        ExecutionConditionsMet,
        ExecutionReleased,
        ScheduleCompleted,
    ]


def test_a_condition_that_fails_is_checked_again_and_then_the_occurrence_is_skipped():
    history = guarded(catch_up={"window": "10s"})
    history.settle(60)
    (run,) = history.parked
    assert answer(history, 60, BROKEN) == [
        like(ExecutionCheckFailed, condition="open", error=BROKEN.error, retry_at=at(61))
    ]
    (run,) = history.parked
    assert not run.asks(at(60.5))
    assert run.asks(at(61))
    assert history.line.wake == at(61)
    assert history.line.wake_unless_ready(at(61)) == at(120)
    assert not history.line.unsettled
    answer(history, 61, BROKEN)
    answer(history, 63, BROKEN)
    assert answer(history, 67, BROKEN) == [
        like(ExecutionCheckFailed, retry_at=None),
        like(ExecutionDropped, reason="condition_failed:open"),
    ]


def test_a_check_is_tried_again_up_to_the_end_of_the_window():
    for window, retry_at in ((1, at(61)), (0.9, None)):
        history = guarded(catch_up={"window": window})
        history.settle(60)
        assert answer(history, 60, BROKEN)[0] == like(ExecutionCheckFailed, retry_at=retry_at)


def test_the_pause_between_checks_is_bounded():
    history = guarded(
        trigger={"type": "once", "at": "2026-01-05T00:01:00Z"}, catch_up={"window": "1h"}
    )
    history.settle(60)
    seconds = 60.0
    for _ in range(10):
        (failed,) = answer(history, seconds, BROKEN)
        pause = failed.retry_at - at(seconds)
        seconds += pause.total_seconds()
    assert pause == LONGEST_CHECK_PAUSE


def test_failed_checks_take_no_retries_from_the_run():
    history = guarded()
    history.settle(60)
    answer(history, 60, BROKEN)
    answer(history, 61, MET)
    assert history.run.failures == 0


def test_an_answer_to_what_has_ended_changes_nothing():
    history = guarded()
    history.settle(60)
    (run,) = history.parked
    history.cancel_run(61, run)
    assert answer(history, 62, MET, run) == []


def test_what_is_crowded_out_is_not_checked():
    history = History()
    history.settle(60)
    history.update(61, requires=["open"])
    assert history.settle(120) == [like(ExecutionSkipped, reason="overlap")]


def test_what_has_met_its_conditions_obeys_the_overlap_policy_of_then():
    history = guarded()
    history.settle(60)
    history.settle(120)
    first, second = history.parked
    answer(history, 121, MET, first)
    assert answer(history, 122, MET, second) == [like(ExecutionDropped, reason="overlap")]
    history = guarded(overlap="buffer_one")
    history.settle(60)
    history.settle(120)
    first, second = history.parked
    answer(history, 121, MET, first)
    assert answer(history, 122, MET, second) == [like(ExecutionConditionsMet)]
    assert [run.status for run in history.parked] == [Status.BUFFERED]
    assert [type(event) for event in history.report(125, said(lease="0.0"))] != []


def test_others_are_ended_only_for_what_has_met_its_conditions():
    history = guarded(overlap="cancel_other")
    history.settle(60)
    answer(history, 60, MET)
    history.start(60)
    history.settle(120)
    assert history.run.stop_by is None
    answer(history, 121, CLOSED)
    assert history.run.stop_by is None
    history.settle(180)
    answer(history, 180, MET)
    assert history.run.stop_by is not None


def test_a_trigger_by_hand_is_checked_too():
    history = guarded()
    assert history.trigger(5, "now", payload={"a": 1}) == [
        like(ExecutionChecking, kind="key", payload={"a": 1}, next_due=None)
    ]
    assert [type(each) for each in answer(history, 6, MET)] == [
        ExecutionConditionsMet,
        ExecutionReleased,
    ]


def test_an_approval_by_hand_needs_no_condition():
    history = guarded()
    history.hold(1, 60)
    history.settle(60)
    history.approve(61, 60)
    assert [type(event) for event in history.events[-2:]] == [ExecutionApproved, ExecutionReleased]


def test_a_schedule_ends_after_its_last_conditions_were_checked():
    history = guarded(trigger={"type": "once", "at": "2026-01-05T00:01:00Z"})
    assert [type(each) for each in history.settle(60)] == [ExecutionChecking]
    assert [type(each) for each in answer(history, 61, CLOSED)] == [
        ExecutionDropped,
        ScheduleCompleted,
    ]


def test_while_it_is_paused_what_has_met_its_conditions_waits():
    history = guarded()
    history.settle(60)
    history.pause(61)
    assert answer(history, 62, MET) == [like(ExecutionConditionsMet)]
    assert [type(event) for event in history.resume(70)][-1] is ExecutionReleased


def test_a_cancelled_schedule_drops_what_is_being_checked():
    history = guarded()
    history.settle(60)
    assert like(ExecutionDropped, reason="schedule_cancelled") in history.cancel(61)


def test_a_requeued_run_keeps_the_conditions_that_were_met():
    history = guarded(retry={"max_attempts": 1})
    history.settle(60)
    answer(history, 60, MET)
    history.start(60)
    run = history.run
    history.report(61, said("failed", error={"type": "Boom", "message": ""}))
    history.requeue(62, run)
    assert history.run.conditions == ["open"]


def test_backfills_ask_for_no_conditions():
    history = guarded()
    history.settle(120)
    events = history.backfill(125, 60, 120)
    assert any(isinstance(event, ExecutionRequested) for event in events)
    assert not any(isinstance(event, ExecutionChecking | ExecutionBuffered) for event in events)


def test_what_was_moved_is_overdue_from_where_it_was_moved():
    history = guarded(catch_up={"window": "10s"})
    history.move(1, 60, 90)
    history.settle(90)
    assert answer(history, 91, BROKEN) == [like(ExecutionCheckFailed, retry_at=at(92))]
