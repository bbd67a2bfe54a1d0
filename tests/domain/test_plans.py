"""One occurrence as an object: skipped, moved, held, approved, with a payload of its own (T12)."""

from __future__ import annotations

import msgspec
import pytest
from histories import START, History, at, cause, create, like, said

from horae_domain import planning
from horae_domain.decision import Decision
from horae_domain.errors import (
    IllegalState,
    InvalidField,
    PayloadTooLarge,
    ScheduleNotFound,
    TooManyRequests,
)
from horae_domain.events import (
    ExecutionApproved,
    ExecutionCancelled,
    ExecutionDropped,
    ExecutionHeld,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionSkipped,
    OccurrenceApproved,
    OccurrenceEvent,
    OccurrenceHeld,
    OccurrenceMoved,
    OccurrencePayloadSet,
    OccurrencesDecided,
    OccurrenceSkipped,
    ScheduleCancelled,
    ScheduleCompleted,
    SchedulePaused,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.execution import Status
from horae_domain.firing import CHUNK
from horae_domain.instants import format_instant
from horae_domain.plans import MAX_PLANS, planned

MINUTELY = {"type": "interval", "every": "1m", "anchor": format_instant(START)}
HOURLY = {"type": "interval", "every": "1 hour", "anchor": format_instant(START)}
TENTHS = {"type": "interval", "every": "100ms"}


def once(seconds: float) -> dict[str, object]:
    return {"type": "once", "at": format_instant(at(seconds))}


def fired(seconds: float, **values: object) -> like:
    return like(ExecutionRequested, due=at(seconds), **values)


def skipped(seconds: float, reason: str = "skipped_by_hand", **values: object) -> like:
    return like(ExecutionSkipped, due=at(seconds), reason=reason, **values)


def held(seconds: float, **values: object) -> like:
    return like(ExecutionHeld, due=at(seconds), **values)


def decided(first: float, last: float, count: int | None, reason: str, **values: object) -> like:
    values |= {"first": at(first), "last": at(last), "count": count, "reason": reason}
    return like(OccurrencesDecided, **values)


# --- skipping ------------------------------------------------------------------------------------


def test_a_skipped_occurrence_does_not_fire_and_says_why_and_by_whom():
    history = History(overlap="allow")
    (planned_,) = history.skip(10, 120, "holiday", actor="ann")
    assert planned_ == OccurrenceSkipped(
        at=at(10),
        schedule_id="job",
        actor="ann",
        kind="interval",
        due=at(120),
        nominal="2026-01-05T00:02:00Z",
        note="holiday",
        next_due=at(60),
    )
    assert history.settle(60) == [fired(60, note="", planned_by=None)]
    (event,) = history.settle(120)
    assert event == skipped(120, note="holiday", planned_by="ann", next_due=at(180))
    assert history.line.plans == {}
    assert history.settle(180) == [fired(180, run_number=2)]


def test_skipping_twice_is_skipping_once():
    history = History()
    history.skip(0, 60)
    assert history.skip(1, 60, "again") == []


def test_a_skipped_occurrence_can_be_approved_again():
    history = History()
    history.skip(0, 60)
    assert history.approve(1, 60, "after all") == [like(OccurrenceApproved, note="after all")]
    assert history.approve(1, 60) == []
    assert history.settle(60) == [fired(60, note="after all")]


def test_the_latest_that_nobody_skipped_is_caught_up():
    history = History()
    history.skip(0, 180)
    assert history.settle(200) == [
        decided(60, 60, 1, "superseded"),
        fired(120, next_due=at(180)),
        skipped(180),
    ]


def test_nothing_is_caught_up_if_all_are_skipped():
    history = History()
    history.skip(0, 60)
    history.skip(0, 120)
    assert history.settle(120) == [skipped(60), skipped(120)]


def test_a_skipped_occurrence_interrupts_a_range():
    history = History(catch_up={"window": "1 minute"})
    history.skip(0, 180)
    events = history.settle(600)
    assert events[:3] == [
        decided(60, 120, 2, "catch_up_window", decision="missed"),
        skipped(180),
        decided(240, 480, 5, "catch_up_window", decision="missed"),
    ]


# --- moving --------------------------------------------------------------------------------------


def test_an_occurrence_moved_to_later_keeps_its_name_and_fires_there():
    history = History(overlap="allow")
    assert history.move(10, 60, 150, "market closed") == [
        like(OccurrenceMoved, due=at(60), to=at(150), note="market closed", next_due=at(120))
    ]
    assert history.line.wake == at(120)
    assert history.settle(60) == []
    assert history.settle(120) == [fired(120, run_number=1, next_due=at(180))]
    assert history.line.wake == at(150)
    (event,) = history.settle(150)
    assert event == fired(
        60,
        nominal="2026-01-05T00:01:00Z",
        moved_to=at(150),
        note="market closed",
        run_number=2,
        next_due=at(180),
    )
    assert history.line.plans == {}
    assert history.line.through == at(120)
    assert [run.moved_to for run in history.live] == [None, at(150)]


def test_an_occurrence_moved_to_earlier_fires_there_and_not_again():
    history = History(overlap="allow")
    history.move(10, 180, 30)
    (event,) = history.settle(30)
    assert event == fired(180, moved_to=at(30), run_number=1, next_due=at(60))
    assert history.line.through == START
    assert history.settle(60) == [fired(60)]
    assert history.settle(120) == [fired(120, next_due=at(240))]
    assert history.settle(180) == []
    assert history.settle(240) == [fired(240)]
    assert history.line.plans == {}


def test_a_moved_occurrence_has_the_id_that_it_would_have_had():
    moved, plain = History(), History()
    moved.move(0, 60, 90)
    (there,), (here,) = moved.settle(90), plain.settle(60)
    assert there.execution_id == here.execution_id


def test_moving_back_takes_the_move_back():
    history = History()
    history.move(0, 60, 90)
    assert history.move(1, 60, 60) == [like(OccurrenceMoved, next_due=at(60))]
    assert history.move(1, 60, 60) == []
    assert history.settle(60) == [fired(60, moved_to=None)]


def test_moving_to_where_it_is_already_changes_nothing():
    history = History()
    history.move(0, 60, 90)
    assert history.move(1, 60, 90) == []


def test_an_occurrence_is_not_moved_into_the_past():
    history = History()
    with pytest.raises(InvalidField) as caught:
        history.move(30, 60, 29)
    assert caught.value.field == "to"


def test_an_occurrence_may_move_onto_another_one():
    history = History(overlap="allow")
    history.move(0, 60, 120)
    assert history.settle(120) == [fired(60, moved_to=at(120)), fired(120)]


def test_a_moved_occurrence_counts_as_late_from_where_it_was_moved():
    for seconds, event in (
        (3010, fired(60, moved_to=at(3000))),
        (3010.1, decided(60, 60, 1, "overdue", moved_to=at(3000), decision="skipped")),
    ):
        history = History(catch_up={"mode": "skip"})
        history.move(0, 60, 3000)
        history.update(1, catch_up={"mode": "skip"}, trigger={"type": "manual"})
        assert history.settle(seconds) == [event]


def test_a_moved_occurrence_is_missed_by_itself():
    history = History(catch_up={"window": "1 minute"})
    history.move(0, 60, 130)
    history.move(0, 300, 150)
    events = history.settle(600)
    assert events[:5] == [
        decided(120, 120, 1, "catch_up_window", nominal=None, next_due=at(180)),
        decided(60, 60, 1, "catch_up_window", moved_to=at(130), next_due=at(180)),
        decided(
            300,
            300,
            1,
            "catch_up_window",
            decision="missed",
            nominal="2026-01-05T00:05:00Z",
            moved_to=at(150),
            next_due=at(180),
        ),
        decided(180, 240, 2, "catch_up_window", next_due=at(360)),
        decided(360, 480, 3, "catch_up_window", next_due=at(540)),
    ]


def test_a_moved_occurrence_can_be_superseded():
    history = History()
    history.move(0, 60, 130)
    assert history.settle(180) == [
        decided(120, 120, 1, "superseded"),
        decided(60, 60, 1, "superseded", moved_to=at(130)),
        fired(180),
    ]


def test_a_moved_occurrence_can_be_skipped_for_overlap_and_cooldown():
    history = History(cooldown="50s")
    history.move(0, 120, 70)
    history.settle(60)
    assert history.settle(70) == [skipped(120, "overlap", moved_to=at(70))]
    history = History(cooldown="50s", overlap="allow")
    history.move(0, 120, 70)
    history.settle(60)
    assert history.settle(70) == [skipped(120, "cooldown", moved_to=at(70))]


def test_an_uncounted_range_does_not_cover_what_was_moved():
    history = History(trigger=TENTHS, catch_up={"window": 0})
    history.move(0, 110, 2000)
    events = history.settle(300)
    assert events == [decided(0.1, 109.999999, None, "catch_up_window", next_due=at(110.1))]
    (first, *_) = history.settle(300)
    assert first == decided(110.1, 289.999999, None, "catch_up_window")
    while history.line.fires_by(at(300)):
        history.settle(300)
    assert history.line.fires_at == at(300.1)
    assert [plan.waits_at for plan in history.line.plans.values()] == [at(2000)]


def test_what_moved_beyond_what_was_looked_at_waits_for_the_next_look():
    history = History(trigger=TENTHS, overlap="allow", catch_up={"mode": "all"})
    history.move(0, 0.5, 0.1 * CHUNK + 0.25)
    events = history.settle(0.1 * CHUNK + 1)
    assert [event.due for event in events].count(at(0.5)) == 0
    assert fired(0.5) in history.settle(0.1 * CHUNK + 1)


def test_a_once_schedule_waits_for_where_its_occurrence_was_moved():
    history = History(trigger=once(60))
    assert history.move(0, 60, 90) == [like(OccurrenceMoved, next_due=None)]
    assert history.settle(60) == []
    assert history.line.wake == at(90)
    assert history.settle(90) == [fired(60, kind="once"), like(ScheduleCompleted)]


def test_a_once_schedule_completes_when_it_was_moved_ahead():
    history = History(trigger=once(60))
    history.move(0, 60, 30)
    assert history.settle(30) == [fired(60), like(ScheduleCompleted, reason="exhausted")]
    assert history.line.plans == {}


def test_the_last_occurrence_may_move_beyond_the_end():
    history = History(overlap="allow", end_at=format_instant(at(120)))
    history.move(0, 120, 500)
    assert history.settle(60) == [fired(60, next_due=None)]
    assert history.settle(400) == []
    assert history.settle(500) == [fired(120), like(ScheduleCompleted, reason="end_at")]


def test_a_moved_occurrence_counts_towards_the_limit():
    history = History(overlap="allow", max_executions=2)
    history.move(0, 180, 30)
    history.settle(30)
    assert history.settle(60) == [fired(60), like(ScheduleCompleted, reason="max_executions")]


def test_a_schedule_that_has_fired_often_enough_does_not_wait_for_what_was_moved():
    history = History(overlap="allow", max_executions=1)
    history.move(0, 180, 500)
    assert history.settle(60) == [fired(60), like(ScheduleCompleted)]
    assert history.line.plans == {}
    assert history.line.fires_at is None


def test_what_was_moved_does_not_fire_over_the_limit_while_something_keeps_the_schedule_open():
    history = History(overlap="buffer_all", max_executions=1)
    history.move(0, 180, 500)
    history.trigger(1, "a")
    history.start(1)
    history.trigger(2, "b")
    history.settle(60)
    history.report(61, said())
    first, second = history.live, history.parked
    assert (len(first), len(second)) == (1, 1)
    history.start(62)
    history.trigger(63, "c")
    history.report(64, said())
    assert history.line.spent
    assert [run.kind for run in history.parked] == ["key"]
    assert history.line.fires_at is None
    assert history.settle(500) == []


def test_nothing_fires_over_the_limit_in_one_decision():
    history = History(overlap="allow", max_executions=1, catch_up={"mode": "all"})
    history.move(0, 120, 60)
    assert history.settle(60) == [fired(60), like(ScheduleCompleted)]


# --- holding -------------------------------------------------------------------------------------


def holding(**told: object) -> History:
    """What was due at 60 seconds is held."""
    history = History(**told)
    history.hold(0, 60)
    history.settle(60)
    return history


def test_a_held_occurrence_waits_for_approval_and_is_in_nobodys_way():
    history = History()
    assert history.hold(0, 60, "check first") == [like(OccurrenceHeld, note="check first")]
    assert history.hold(0, 60) == []
    (event,) = history.settle(60)
    assert event == held(60, note="check first", next_due=at(120))
    assert [run.status for run in history.parked] == [Status.HELD]
    assert not history.line.unsettled
    assert history.settle(120) == [fired(120, run_number=1)]
    assert history.settle(121) == []


def test_an_approved_occurrence_is_released():
    history = holding(cooldown="1 hour")
    (waiting,) = history.parked
    assert history.approve(90, 60, "looks good") == [
        like(OccurrenceApproved, execution_id=waiting.id, due=at(60), note="looks good"),
        like(ExecutionApproved, execution_id=waiting.id),
        like(ExecutionReleased, run_number=1, next_due=at(120)),
    ]
    assert history.run.status is Status.PENDING
    assert (history.line.fired, history.line.cooldown_until) == (1, at(90 + 3600))
    assert history.settle(120) == [skipped(120, "overlap", blocked_by=waiting.id)]


def test_under_skip_an_approved_occurrence_is_dropped_behind_a_run():
    history = holding()
    history.settle(120)
    (waiting,), running = history.parked, history.run
    assert history.approve(130, 60) == [
        like(OccurrenceApproved),
        like(ExecutionDropped, execution_id=waiting.id, reason="overlap", blocked_by=running.id),
    ]
    assert history.live == [running]


def test_under_buffer_an_approved_occurrence_waits_for_the_run():
    history = holding(overlap="buffer_all")
    history.settle(120)
    assert history.approve(130, 60) == [like(OccurrenceApproved), like(ExecutionApproved)]
    assert [run.status for run in history.parked] == [Status.BUFFERED]
    history.start(131)
    assert history.report(132, said())[1:] == [like(ExecutionReleased, run_number=2)]


def test_under_terminate_an_approved_occurrence_takes_the_place_of_the_run():
    history = holding(overlap="terminate_other")
    history.settle(120)
    assert history.approve(130, 60) == [
        like(OccurrenceApproved),
        like(ExecutionCancelled, reason="terminated_by_overlap"),
        like(ExecutionApproved),
        like(ExecutionReleased),
    ]


def test_an_approved_occurrence_waits_for_the_end_of_the_cooldown():
    history = History(cooldown="100s", overlap="allow")
    history.hold(0, 120)
    history.settle(60)
    history.settle(120)
    assert history.approve(130, 120) == [like(OccurrenceApproved), like(ExecutionApproved)]
    assert history.settle(160) == [like(ExecutionReleased)]


def test_a_held_occurrence_can_be_dropped():
    history = holding()
    (waiting,) = history.parked
    assert history.skip(90, 60, "no") == [
        like(OccurrenceSkipped, execution_id=waiting.id, note="no"),
        like(ExecutionDropped, reason="skipped_by_hand"),
    ]
    assert history.parked == []
    assert history.line.fired == 0


def test_a_schedule_waits_for_the_answer_to_its_last_occurrence():
    history = holding(trigger=once(60))
    assert history.settle(90) == []
    assert history.skip(91, 60)[-1] == like(ScheduleCompleted, reason="exhausted")
    history = holding(trigger=once(60))
    assert history.approve(91, 60)[-1] == like(ScheduleCompleted, reason="exhausted")


def test_a_schedule_that_has_fired_often_enough_drops_what_is_held():
    history = holding(max_executions=1)
    assert history.settle(120) == [
        fired(120),
        like(ExecutionDropped, reason="max_executions"),
        like(ScheduleCompleted),
    ]


def test_an_occurrence_approved_in_time_fires():
    history = History()
    history.hold(0, 60)
    history.approve(30, 60)
    assert history.settle(60) == [fired(60)]


def test_what_is_neither_held_nor_skipped_needs_no_approval():
    history = History()
    with pytest.raises(IllegalState):
        history.approve(0, 60)
    history.move(0, 60, 70)
    with pytest.raises(IllegalState):
        history.approve(0, 60)


@pytest.mark.parametrize("act", ["move", "hold", "set_payload"])
def test_what_is_held_already_can_only_be_approved_or_skipped(act):
    history = History()
    history.hold(0, 60)
    history.settle(60)
    arguments = {"move": (70, 60, 90), "hold": (70, 60), "set_payload": (70, 60, {})}[act]
    with pytest.raises(IllegalState) as caught:
        getattr(history, act)(*arguments)
    assert caught.value.details["state"] == "held"


def test_a_hold_that_comes_due_behind_many_skips_is_held():
    history = History()
    history.hold(0, 60 * 30)
    history.settle(60)
    for minute in range(2, 12):
        history.settle(60 * minute)
    assert history.line.waits_for_run
    assert history.line.wake == at(60 * 30)
    assert history.settle(60 * 30 + 1) == [
        decided(60 * 12, 60 * 29, 18, "overlap"),
        held(60 * 30),
    ]


def test_a_hold_in_a_long_catch_up_behind_a_run_is_held():
    history = History(catch_up={"mode": "all", "window": "1 hour"})
    history.hold(0, 60 * 15)
    history.hold(0, 60 * 20)
    history.trigger(1, "k")
    events = history.settle(60 * 22)
    assert events[10:] == [
        decided(660, 840, 4, "overlap"),
        held(900),
        decided(960, 1140, 4, "overlap"),
        held(1200),
        decided(1260, 1320, 2, "overlap"),
    ]


def test_pause_leaves_what_is_held_and_what_is_approved_meanwhile():
    history = holding()
    assert history.pause(70) == [like(SchedulePaused)]
    assert [run.status for run in history.parked] == [Status.HELD]
    assert history.approve(80, 60) == [like(OccurrenceApproved), like(ExecutionApproved)]
    assert history.resume(90) == [like(ScheduleResumed), like(ExecutionReleased)]


def test_cancelling_a_schedule_drops_what_is_held():
    history = History()
    history.hold(0, 60)
    history.settle(60)
    assert history.cancel(70) == [
        like(ScheduleCancelled),
        like(ExecutionDropped, reason="schedule_cancelled"),
    ]
    assert history.line.settled


# --- payloads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [{"day": 1}, None, 2**80, [], ""])
def test_an_occurrence_runs_with_the_payload_of_its_own(payload):
    history = History(overlap="allow", payload={"day": 0})
    assert history.set_payload(0, 60, payload) == [like(OccurrencePayloadSet, payload=payload)]
    assert history.set_payload(1, 60, payload) == []
    first, second = *history.settle(60), *history.settle(120)
    assert (first.payload, first.overridden) == (payload, True)
    assert (second.payload, second.overridden) == (None, False)


def test_planned_payloads_together_are_bounded():
    history = History()
    history.set_payload(0, 60, "x" * 600_000)
    with pytest.raises(PayloadTooLarge):
        history.set_payload(0, 120, "x" * 600_000)
    history.set_payload(0, 60, "y" * 900_000)


def test_plans_of_several_kinds_combine():
    history = History()
    history.set_payload(0, 60, {"a": 1})
    history.move(1, 60, 90)
    history.hold(2, 60, "wait")
    (event,) = history.settle(90)
    assert event == held(60, moved_to=at(90), payload={"a": 1}, overridden=True, note="wait")
    history.approve(95, 60)
    assert (history.run.payload, history.run.overridden) == ({"a": 1}, True)
    assert (history.run.moved_to, history.run.note) == (at(90), "wait")


def test_what_was_skipped_is_skipped_where_it_was_moved():
    history = History()
    history.skip(0, 60)
    history.move(1, 60, 90)
    assert history.settle(90) == [skipped(60, moved_to=at(90))]


# --- which occurrence ----------------------------------------------------------------------------


def test_an_instant_without_occurrence_names_the_nearest():
    history = History(1, trigger=MINUTELY)
    for due, nearest in ((90, (60, 120)), (59, (60,)), (0.5, (60,)), (30, (60,))):
        with pytest.raises(InvalidField) as caught:
            history.skip(1, due)
        assert caught.value.field == "at"
        assert caught.value.details["nearest"] == [format_instant(at(each)) for each in nearest]


def test_an_instant_beyond_the_bounds_names_the_last():
    history = History(start_at=format_instant(at(100)), end_at=format_instant(at(200)))
    for due, nearest in ((220, (160,)), (60, (100,))):
        with pytest.raises(InvalidField) as caught:
            history.skip(1, due)
        assert caught.value.details["nearest"] == [format_instant(at(each)) for each in nearest]


def test_a_manual_schedule_has_no_occurrences():
    history = History(trigger={"type": "manual"})
    with pytest.raises(InvalidField) as caught:
        history.skip(0, 60)
    assert caught.value.details["nearest"] == []


@pytest.mark.parametrize("act", ["skip", "hold", "approve"])
def test_what_is_decided_cannot_be_planned(act):
    history = History(overlap="allow")
    history.move(0, 180, 30)
    history.settle(60)
    for due in (60, 180):
        with pytest.raises(IllegalState):
            getattr(history, act)(61, due)


def test_what_is_due_at_the_very_instant_fires_before_it_can_be_skipped():
    history = History()
    with pytest.raises(IllegalState):
        history.skip(60, 60)
    assert history.settle(60) == [fired(60)]


def test_what_is_due_is_decided_before_a_plan():
    history = History(overlap="allow")
    assert history.skip(61, 120) == [fired(60), like(OccurrenceSkipped)]


def test_an_instant_that_passed_in_a_pause_cannot_be_planned():
    history = History()
    history.hold(0, 60)
    history.pause(0)
    with pytest.raises(IllegalState):
        history.skip(90, 60)


def test_what_has_ended_has_no_occurrences_to_plan():
    history = History()
    history.cancel(0)
    with pytest.raises(IllegalState):
        history.skip(1, 60)
    with pytest.raises(ScheduleNotFound):
        planning.plan(Decision(None), planning.SkipOccurrence(at(60), "", cause(0)))


def test_only_so_many_occurrences_are_planned():
    history = History()
    plans = {
        f"p{number}": msgspec.structs.replace(plan, due=at(60 * number))
        for number in range(1, MAX_PLANS + 1)
        for plan in planned({}, made(number)).values()
    }
    line = msgspec.structs.replace(history.line, plans=plans)
    with pytest.raises(TooManyRequests):
        planning.plan(Decision(line), planning.SkipOccurrence(at(60 * 2000), "", cause(0)))
    assert planning.plan(Decision(line), planning.HoldOccurrence(at(60), "", cause(0))) is None


def made(number: int) -> OccurrenceSkipped:
    due = at(60 * number)
    return OccurrenceSkipped(at=START, schedule_id="job", kind="interval", due=due, nominal="p")


def test_only_plans_make_plans():
    with pytest.raises(TypeError):
        planned({}, OccurrenceEvent(at=START, schedule_id="job", kind="", due=START, nominal=""))


# --- edits, pauses, ends -------------------------------------------------------------------------


def test_plans_survive_an_edit():
    history = History(overlap="allow")
    history.skip(0, 120)
    history.move(0, 180, 200)
    (updated,) = history.update(1, overlap="allow", priority="high")
    assert updated == like(ScheduleUpdated, next_due=at(60))
    assert history.settle(60) == [fired(60)]
    assert history.settle(120) == [skipped(120)]
    assert history.line.wake == at(200)
    assert history.settle(200) == [fired(180, moved_to=at(200), priority="high", revision=2)]


def test_an_edit_knows_what_was_moved_away():
    history = History()
    history.move(0, 60, 600)
    assert history.update(1, priority="high") == [like(ScheduleUpdated, next_due=at(120))]


def test_what_was_moved_fires_though_the_new_definition_has_it_not():
    history = History(overlap="allow")
    history.move(0, 60, 90)
    history.move(0, 120, 3600 + 10)
    history.skip(0, 180)
    history.update(1, overlap="allow", trigger=HOURLY)
    assert history.settle(90) == [fired(60, kind="interval", moved_to=at(90), revision=2)]
    assert history.settle(3600) == [fired(3600)]
    assert list(history.line.plans) == ["2026-01-05T00:02:00Z"]
    assert history.settle(3610) == [fired(120, moved_to=at(3610))]


def test_what_was_moved_fires_though_the_new_definition_has_no_calendar():
    history = History()
    history.move(0, 60, 90)
    history.update(1, trigger={"type": "manual"})
    assert history.line.wake == at(90)
    assert history.settle(90) == [fired(60, kind="interval")]
    assert history.line.fires_at is None


def test_what_was_moved_ahead_does_not_fire_again_after_edits():
    history = History(overlap="allow")
    history.move(0, 180, 30)
    history.settle(30)
    history.update(40, overlap="allow", trigger=HOURLY)
    history.update(50, overlap="allow", trigger=MINUTELY)
    assert history.settle(60) == [fired(60)]
    assert history.settle(120) == [fired(120)]
    assert history.settle(180) == []


def test_plans_do_not_survive_the_end():
    history = History()
    history.move(0, 60, 90)
    history.cancel(1)
    assert history.line.plans == {}
    assert history.settle(90) == []


def test_plans_are_of_one_incarnation():
    history = History()
    history.skip(0, 60)
    history.cancel(1)
    history.command(create(2, trigger=MINUTELY))
    assert history.settle(60) == [fired(60)]


def test_a_pause_passes_over_what_is_planned_and_what_was_moved_out_of_it_stays():
    history = History()
    history.move(0, 120, 1000)
    history.move(0, 900, 150)
    history.skip(0, 240)
    history.hold(0, 300)
    history.pause(1)
    assert history.line.wake is None
    assert history.resume(420) == [
        decided(60, 60, 1, "paused"),
        decided(900, 900, 1, "paused", moved_to=at(150)),
        decided(180, 180, 1, "paused"),
        skipped(240),
        decided(300, 420, 3, "paused"),
        like(ScheduleResumed, next_due=at(480)),
    ]
    assert history.line.wake == at(480)
    assert sorted(plan.comes for plan in history.line.plans.values()) == [at(150), at(1000)]
    assert history.line.fires_at == at(480)


def test_a_long_pause_is_recorded_around_what_was_moved():
    history = History(trigger=TENTHS)
    history.move(0, 150, 2000)
    history.pause(0)
    events = history.resume(300)
    assert events[:2] == [
        decided(0.1, 149.999999, None, "paused"),
        decided(150.1, 300, None, "paused"),
    ]


def test_moving_while_paused_is_kept_for_later():
    history = History()
    history.pause(0)
    history.move(70, 120, 300)
    history.move(80, 120, 200)
    assert history.resume(150) == [
        decided(60, 60, 1, "paused"),
        like(ScheduleResumed, next_due=at(180)),
    ]
    assert history.settle(180) == [fired(180)]
    assert history.settle(200) == [skipped(120, "overlap")]


def test_a_report_after_a_held_one_is_judged_as_ever():
    history = History()
    history.hold(0, 60)
    history.settle(60)
    history.approve(61, 60)
    history.start(62)
    history.report(63, said())
    assert history.live == []
