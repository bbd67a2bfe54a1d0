"""Every due instant gets one final decision: catch-up, overlap, cooldown, bounds, pauses, edits."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from histories import HERE, History, at, cause, create, definition, like, said

from horae_domain import decider, firing
from horae_domain.decider import trigger_id
from horae_domain.decision import Decision
from horae_domain.errors import IllegalState, ScheduleNotFound
from horae_domain.events import (
    AttemptFailed,
    ExecutionRequested,
    ExecutionSkipped,
    ExecutionSucceeded,
    ExecutionTimedOut,
    OccurrencesDecided,
    ScheduleCancelled,
    ScheduleCompleted,
    SchedulePaused,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.firing import CHUNK
from horae_domain.ledger import SINGLE_SKIPS, evolve
from horae_domain.occurrences import TICK, due_by, kind_of, next_occurrence
from horae_domain.schedule import UpdateSchedule

TENTHS = {"type": "interval", "every": "100ms"}
SECONDLY = {"type": "interval", "every": "1s"}
MANUAL = {"type": "manual"}
UNBOUNDED = {"start_to_close": None}
HOUR = 3600


def fired(seconds: float, **values):
    return like(ExecutionRequested, due=at(seconds), **values)


def skipped(seconds: float, reason: str, **values):
    return like(ExecutionSkipped, due=at(seconds), reason=reason, **values)


def decided(first: float, last: float, count: int | None, reason: str, **values):
    values |= {"first": at(first), "last": at(last), "count": count, "reason": reason}
    return like(OccurrencesDecided, **values)


def completed(reason: str):
    return like(ScheduleCompleted, reason=reason)


# --- on time -------------------------------------------------------------------------------------


def test_nothing_is_decided_before_its_instant():
    history = History()
    assert history.line.wake == at(60)
    assert history.settle(59.999999) == []


def test_instant_fires_when_it_is_due():
    history = History(tenant="acme", queue="slow", priority="high")
    (event,) = history.settle(60)
    assert event == ExecutionRequested(
        at=at(60),
        tenant="acme",
        schedule_id="job",
        execution_id=event.execution_id,
        kind="interval",
        due=at(60),
        nominal="2026-01-05T00:01:00Z",
        revision=1,
        run_number=1,
        priority="high",
        queue="slow",
        next_due=at(120),
    )
    assert history.line.through == at(60)
    assert history.settle(60) == []


def test_cron_instant_is_named_by_its_wall_time():
    cron = {"type": "cron", "expression": "30 8 * * *", "timezone": "Europe/Berlin"}
    history = History(trigger=cron)
    (event,) = history.settle(7.5 * HOUR)
    assert (event.kind, event.nominal) == ("calendar", "2026-01-05T08:30:00[Europe/Berlin]")


def test_settling_no_schedule_is_refused():
    with pytest.raises(ScheduleNotFound):
        firing.settle(Decision(None), cause(0))


# --- catch-up ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["all", "latest", "skip"])
def test_what_is_decided_within_the_grace_fires_in_every_mode(mode):
    history = History(catch_up={"mode": mode, "window": 0})
    assert history.settle(70) == [fired(60)]


@pytest.mark.parametrize("mode", ["all", "latest", "skip"])
def test_what_is_older_than_the_window_is_missed(mode):
    history = History(catch_up={"mode": mode, "window": "90s"}, overlap="allow")
    first, *_ = history.settle(300)
    assert first == decided(
        60, 180, 3, "catch_up_window", decision="missed", revision=1, next_due=at(240)
    )
    assert history.line.through == at(300)


def test_instant_at_the_edge_of_the_window_is_within_it():
    history = History(catch_up={"mode": "all", "window": "2m"}, overlap="allow")
    assert history.settle(180 + 0) == [fired(60), fired(120), fired(180)]
    history = History(catch_up={"mode": "all", "window": "2m"}, overlap="allow")
    missed, *rest = history.settle(180.000001)
    assert missed == decided(60, 60, 1, "catch_up_window", decision="missed")
    assert rest == [fired(120), fired(180)]


def test_catch_up_of_all_fires_each():
    history = History(catch_up={"mode": "all"}, overlap="allow")
    assert history.settle(200) == [
        fired(60, run_number=1, next_due=at(120)),
        fired(120, run_number=2, next_due=at(180)),
        fired(180, run_number=3, next_due=at(240)),
    ]


def test_catch_up_of_all_obeys_the_overlap_policy():
    history = History(catch_up={"mode": "all"})
    assert history.settle(200) == [fired(60), skipped(120, "overlap"), skipped(180, "overlap")]


def test_catch_up_of_the_latest_fires_it_and_records_the_others():
    history = History()
    assert history.settle(200) == [
        decided(60, 120, 2, "superseded", decision="skipped", next_due=at(180)),
        fired(180),
    ]


def test_catch_up_by_skip_fires_only_what_is_on_time():
    history = History(catch_up={"mode": "skip"})
    assert history.settle(185) == [
        decided(60, 120, 2, "overdue", decision="skipped", next_due=at(180)),
        fired(180),
    ]


def test_catch_up_by_skip_fires_nothing_when_all_is_late():
    history = History(catch_up={"mode": "skip"})
    assert history.settle(190.000001) == [decided(60, 180, 3, "overdue", decision="skipped")]
    assert history.line.wake == at(240)


def test_grace_is_inclusive():
    history = History(catch_up={"mode": "skip"})
    assert history.settle(70) == [fired(60)]


def test_once_beyond_its_window_is_missed_and_the_schedule_completes():
    history = History(trigger={"type": "once", "at": at(10)})
    assert history.settle(HOUR) == [
        decided(10, 10, 1, "catch_up_window", decision="missed", next_due=None),
        completed("exhausted"),
    ]


# --- more than one decision looks at -------------------------------------------------------------


def every_instant_once(history: History, through: float, step: float = 0.1) -> None:
    """All of a fixed interval's instants are decided, and none twice."""
    left = {at(0) + timedelta(seconds=step) * k for k in range(1, round(through / step) + 1)}
    for event in history.events:
        match event:
            case ExecutionRequested() | ExecutionSkipped():
                left.remove(event.due)
            case OccurrencesDecided():
                covered = {each for each in left if event.first <= each <= event.last}
                assert event.count in (None, len(covered))
                left -= covered
    assert left == set()


def settle_all(history: History, seconds: float) -> None:
    for _ in range(100):
        if not history.line.fires_by(at(seconds)):
            return
        assert history.settle(seconds)
    raise AssertionError("it never comes to an end")


@pytest.mark.parametrize("mode", ["all", "latest", "skip"])
@pytest.mark.parametrize("count", [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK])
def test_chunks_lose_nothing_and_repeat_nothing(mode, count):
    history = History(trigger=TENTHS, catch_up={"mode": mode, "window": "1h"})
    settle_all(history, count / 10)
    every_instant_once(history, count / 10)
    runs = [each for each in history.events if isinstance(each, ExecutionRequested)]
    assert len(runs) == 1
    if mode == "latest":
        assert runs[0].due == at(count / 10)


@pytest.mark.parametrize("window", [0, 0.05, 30, 99.8, 99.9, 100, 130])
def test_chunks_and_a_window_lose_nothing(window):
    """The instants at the edge of the window are at the edge of the chunk."""
    limits = {"mode": "latest", "window": window}
    history = History(trigger=TENTHS, catch_up=limits, overlap="allow")
    settle_all(history, 200)
    every_instant_once(history, 200)
    missed = [e for e in history.events if getattr(e, "decision", "") == "missed"]
    assert at(199.9) - timedelta(seconds=max(window, 10)) <= missed[-1].last
    assert missed[-1].last < at(200) - timedelta(seconds=max(window, 10))
    (run,) = history.live
    assert run.due == at(200)


def test_long_absence_is_one_range_that_is_not_counted():
    history = History(trigger=TENTHS)
    first, *_ = history.settle(HOUR)
    assert first == like(
        OccurrencesDecided, decision="missed", first=at(0.1), last=at(HOUR - 300) - TICK, count=None
    )
    assert first.next_due == at(HOUR - 300)


def test_full_chunk_does_not_say_yet_what_is_the_latest():
    history = History(trigger=TENTHS, catch_up={"mode": "latest", "window": "1h"})
    assert history.settle(100) == [decided(0.1, 99.9, CHUNK - 1, "superseded")]
    assert history.line.wake == at(100)
    assert history.settle(100) == [fired(100)]


def test_edit_decides_all_that_was_due_before_it():
    """What was due under the old revision is more than one decision looks at."""
    history = History(trigger=TENTHS, catch_up={"mode": "latest", "window": "1h"})
    events = history.update(250, trigger=SECONDLY)
    assert events == [
        decided(0.1, 99.9, 999, "superseded", revision=1),
        decided(100, 199.8, 999, "superseded", revision=1),
        decided(199.9, 249.9, 501, "superseded", revision=1),
        fired(250, revision=1),
        like(ScheduleUpdated, revision=2, next_due=at(251)),
    ]


@pytest.mark.parametrize("end", [History.pause, History.cancel])
def test_pause_and_cancel_decide_all_that_was_due_before_them(end):
    history = History(trigger=TENTHS, catch_up={"mode": "latest", "window": "1h"})
    assert fired(250) in end(history, 250)
    every_instant_once(history, 250)


# --- overlap -------------------------------------------------------------------------------------


def test_skip_records_the_run_in_the_way():
    history = History()
    history.settle(60)
    run = history.run
    assert history.settle(120) == [
        ExecutionSkipped(
            at=at(120),
            schedule_id="job",
            execution_id=history.events[-1].execution_id,
            kind="interval",
            due=at(120),
            nominal="2026-01-05T00:02:00Z",
            revision=1,
            reason="overlap",
            blocked_by=run.id,
            next_due=at(180),
        )
    ]
    assert history.line.fired == 1
    assert history.line.skips == 1


def test_skip_fires_again_after_the_run_has_ended():
    history = History()
    history.settle(60)
    history.start(60)
    history.settle(120)
    history.report(150, said())
    assert history.line.skips == 0
    assert history.settle(180) == [fired(180, run_number=2)]


@pytest.mark.parametrize(("concurrency", "runs"), [(1, 1), (2, 2), (3, 3), (None, 1)])
def test_skip_counts_unfinished_runs_against_the_concurrency(concurrency, runs):
    history = History(concurrency=concurrency)
    for minute in range(1, 5):
        history.settle(60 * minute)
    assert len(history.live) == runs
    assert history.line.blocked


@pytest.mark.parametrize(("concurrency", "running"), [(1, 1), (2, 2), (None, 4)])
def test_allow_fires_all_and_lets_the_concurrency_run(concurrency, running):
    history = History(overlap="allow", concurrency=concurrency)
    for minute in range(1, 5):
        history.settle(60 * minute)
    assert len(history.live) == 4
    assert not history.line.blocked
    for run in history.live:
        if history.line.may_start(run):
            history.start(241, run)
    assert sum(run.status == "running" for run in history.live) == running


def test_at_the_bound_of_single_skips_the_line_sleeps():
    history = History(trigger=SECONDLY, timeout=UNBOUNDED)
    history.settle(1)
    history.start(1)
    for second in range(2, 2 + SINGLE_SKIPS):
        assert history.line.wake == at(second)
        assert history.settle(second) == [skipped(second, "overlap")]
    assert history.line.skips == SINGLE_SKIPS
    assert history.line.wake is None


def blocked(**told) -> History:
    """Every second; one run since second 1, and ten skips that are recorded one by one."""
    history = History(trigger=SECONDLY, **({"timeout": UNBOUNDED} | told))
    history.settle(1)
    history.start(1)
    for second in range(2, 2 + SINGLE_SKIPS):
        history.settle(second)
    return history


@pytest.mark.parametrize(("seconds", "count"), [(20, 9), (500, 489), (HOUR, None)])
def test_skips_behind_a_long_run_are_one_range_which_its_end_closes(seconds, count):
    history = blocked()
    run = history.run
    assert history.report(seconds, said()) == [
        decided(12, seconds, count, "overlap", decision="skipped", blocked_by=run.id, revision=1),
        like(ExecutionSucceeded),
    ]
    assert history.line.skips == 0
    assert history.settle(seconds + 1) == [fired(seconds + 1)]
    every_instant_once(history, seconds + 1, step=1)


def test_range_of_skips_is_closed_before_the_run_times_out():
    history = blocked(timeout={"start_to_close": "1000s"}, retry={"max_attempts": 1})
    assert history.line.wake == at(1001)
    events = history.settle(1001)
    assert events == [
        decided(12, 1001, 990, "overlap"),
        like(AttemptFailed, outcome="timed_out"),
        like(ExecutionTimedOut),
    ]


def test_range_of_skips_is_not_closed_twice():
    history = blocked()
    assert history.settle(30) == [decided(12, 30, 19, "overlap")]
    assert history.settle(30) == []
    assert history.settle(31) == [decided(31, 31, 1, "overlap")]


def test_range_of_skips_can_be_the_end():
    history = blocked(end_at=at(40))
    assert history.report(90, said()) == [
        decided(12, 40, 29, "overlap", next_due=None),
        completed("end_at"),
        like(ExecutionSucceeded),
    ]
    assert history.line.settled


def test_skips_of_one_decision_turn_into_a_range():
    history = History(trigger=SECONDLY, catch_up={"mode": "all"})
    events = history.settle(100)
    singles = [skipped(second, "overlap") for second in range(2, 12)]
    assert events == [fired(1), *singles, decided(12, 100, 89, "overlap")]


def test_edit_closes_the_range_of_skips_and_counts_anew():
    history = blocked()
    assert history.update(20, trigger=SECONDLY, timeout=UNBOUNDED, tags=["x"]) == [
        decided(12, 20, 9, "overlap", revision=1),
        like(ScheduleUpdated, next_due=at(21)),
    ]
    assert history.line.skips == 0
    assert history.settle(21) == [skipped(21, "overlap", revision=2)]


def test_execution_under_another_revision_still_blocks():
    history = History()
    history.settle(60)
    history.update(61, tags=["x"])
    assert history.settle(120) == [skipped(120, "overlap", revision=2)]


# --- cooldown ------------------------------------------------------------------------------------


def test_cooldown_of_the_schedule_counts_from_the_decision():
    history = History(overlap="allow", cooldown="2m")
    assert history.settle(65) == [fired(60)]
    assert history.line.cooldown_until == at(185)
    assert history.settle(120) == [skipped(120, "cooldown", blocked_by=None)]
    assert history.settle(180) == [skipped(180, "cooldown")]
    assert history.line.skips == 0
    assert history.settle(240) == [fired(240)]


def test_cooldown_ends_at_its_instant():
    history = History(overlap="allow", cooldown="1m")
    history.settle(60)
    assert history.settle(120) == [fired(120)]


def test_cooldown_of_a_result_follows_the_success():
    history = History()
    history.settle(60)
    history.start(61)
    (done,) = history.report(70, said(cooldown=timedelta(seconds=100)))
    assert done == like(ExecutionSucceeded, cooldown_until=at(170))
    assert history.settle(120) == [skipped(120, "cooldown")]
    assert history.settle(180) == [fired(180)]


def test_success_without_cooldown_leaves_that_of_the_schedule():
    history = History(cooldown="10m")
    history.settle(60)
    history.start(60)
    history.report(70, said())
    assert history.line.cooldown_until == at(660)


def test_manual_run_neither_obeys_nor_begins_a_cooldown():
    history = History(overlap="allow", cooldown="10m")
    history.trigger(10, "k")
    assert history.line.cooldown_until is None
    history.settle(60)
    assert history.trigger(70, "k2") == [fired(70, nominal="k2")]
    assert history.line.cooldown_until == at(660)


# --- bounds --------------------------------------------------------------------------------------


def test_start_at_and_end_at_are_inclusive():
    history = History(start_at=at(90), end_at=at(210), overlap="allow")
    assert history.line.wake == at(90)
    assert history.settle(90) == [fired(90)]
    assert history.settle(150) == [fired(150)]
    assert history.settle(210) == [fired(210, next_due=None), completed("end_at")]


def test_end_between_two_instants_ends_with_the_last_before_it():
    history = History(end_at=at(179.999999), overlap="allow")
    history.settle(60)
    assert history.settle(120) == [fired(120), completed("end_at")]


def test_max_executions_counts_what_fired():
    history = History(max_executions=2)
    history.settle(60)
    history.start(60)
    history.settle(120)  # skipped for overlap
    history.trigger(125, "by hand")  # skipped as well
    history.report(130, said())
    history.trigger(131, "again by hand")
    history.start(131)
    history.report(132, said())
    assert history.line.fired == 1
    assert history.settle(180) == [
        fired(180, next_due=None, run_number=2),
        completed("max_executions"),
    ]
    assert history.settle(9999) == []


def test_max_executions_holds_within_one_decision():
    history = History(max_executions=3, overlap="allow", catch_up={"mode": "all"})
    assert history.settle(300) == [fired(60), fired(120), fired(180), completed("max_executions")]


def test_limit_that_is_lowered_to_what_has_fired_completes_the_schedule():
    history = History(overlap="allow")
    history.settle(60)
    history.settle(120)
    assert history.update(130, overlap="allow", max_executions=2) == [
        like(ScheduleUpdated),
        completed("max_executions"),
    ]


def test_limit_above_what_has_fired_goes_on():
    history = History(overlap="allow")
    history.settle(60)
    history.settle(120)
    assert history.update(130, overlap="allow", max_executions=3) == [like(ScheduleUpdated)]
    assert history.settle(180) == [fired(180), completed("max_executions")]


def test_new_incarnation_counts_anew():
    history = History(max_executions=1)
    history.settle(60)
    history.command(create(70, max_executions=1, overlap="allow"))
    assert history.line.fired == 0
    assert len(history.live) == 1
    assert history.settle(130) == [fired(130, run_number=1), completed("max_executions")]


def test_limit_is_the_reason_before_the_end():
    history = History(max_executions=1, end_at=at(60))
    assert history.settle(60) == [fired(60), completed("max_executions")]


def test_once_with_an_end_is_exhausted_by_itself():
    history = History(trigger={"type": "once", "at": at(10)}, end_at=at(20))
    assert history.settle(10) == [fired(10), completed("exhausted")]


def test_completed_schedule_keeps_its_runs():
    history = History(trigger={"type": "once", "at": at(10)})
    history.settle(10)
    assert not history.line.settled
    assert history.line.wake is None
    history.start(10)
    assert history.line.wake == at(310)
    history.report(11, said())
    assert history.line.settled


def test_manual_schedule_never_completes():
    history = History(trigger=MANUAL)
    assert history.line.wake is None
    assert history.settle(10**6) == []


# --- pause and resume ----------------------------------------------------------------------------


def test_paused_schedule_does_not_fire():
    history = History()
    history.pause(30)
    assert history.line.wake is None
    assert history.settle(600) == []


def test_pause_at_an_instant_comes_after_it():
    history = History()
    assert history.pause(60) == [fired(60), like(SchedulePaused)]


def test_resume_records_the_pause_as_one_range():
    history = History()
    history.pause(30)
    assert history.resume(200) == [
        decided(60, 180, 3, "paused", decision="skipped", revision=1, next_due=at(240)),
        like(ScheduleResumed, next_due=at(240)),
    ]
    assert history.line.through == at(200)
    assert history.settle(240) == [fired(240)]


def test_resume_at_an_instant_skips_it():
    history = History()
    history.pause(30)
    assert history.resume(60) == [decided(60, 60, 1, "paused"), like(ScheduleResumed)]


def test_short_pause_without_instants_records_nothing():
    history = History()
    history.pause(10)
    assert history.resume(20) == [like(ScheduleResumed, next_due=at(60))]


@pytest.mark.parametrize(("seconds", "count"), [(99.9, 999), (100, None), (500, None)])
def test_long_pause_is_not_counted(seconds, count):
    history = History(trigger=TENTHS)
    history.pause(0)
    assert history.resume(seconds)[0] == decided(0.1, seconds, count, "paused")


def test_resume_after_the_end_completes():
    history = History(end_at=at(100))
    history.pause(10)
    assert history.resume(200) == [
        decided(60, 60, 1, "paused", next_due=None),
        like(ScheduleResumed, next_due=None),
        completed("end_at"),
    ]


def test_once_that_was_paused_through_completes_on_resume():
    history = History(trigger={"type": "once", "at": at(60)})
    history.pause(10)
    assert history.resume(200) == [
        decided(60, 60, 1, "paused"),
        like(ScheduleResumed),
        completed("exhausted"),
    ]


def test_edit_while_paused_closes_the_pause_under_the_old_revision():
    history = History()
    history.pause(30)
    assert history.update(130, tags=["x"]) == [
        decided(60, 120, 2, "paused", revision=1),
        like(ScheduleUpdated, revision=2),
    ]
    assert history.resume(190) == [
        decided(180, 180, 1, "paused", revision=2),
        like(ScheduleResumed),
    ]


def test_pause_in_pause_decides_nothing():
    history = History()
    history.pause(30)
    assert history.pause(200) == []


# --- edits at the very instant -------------------------------------------------------------------


def test_edit_at_an_instant_decides_it_under_the_old_revision():
    history = History()
    assert history.update(60, trigger=SECONDLY) == [
        fired(60, revision=1),
        like(ScheduleUpdated, revision=2, next_due=at(61)),
    ]


def test_cancel_at_an_instant_comes_after_it():
    history = History()
    fired_, ended, dropped = history.cancel(60)
    assert fired_ == fired(60)
    assert ended == like(ScheduleCancelled)
    assert dropped.execution_id == fired_.execution_id


def test_edit_to_once_at_the_very_instant_fires_both():
    history = History(overlap="allow")
    once = {"type": "once", "at": at(60)}
    assert history.update(60, trigger=once, overlap="allow") == [
        fired(60, revision=1),
        like(ScheduleUpdated),
    ]
    assert history.settle(60) == [fired(60, revision=2), completed("exhausted")]
    assert len(history.live) == 2


def test_edit_of_a_once_schedule_keeps_its_instant():
    once = {"type": "once", "at": at(60)}
    history = History(trigger=once)
    history.update(30, trigger=once, tags=["x"])
    assert history.settle(60) == [fired(60, revision=2), completed("exhausted")]


def test_edit_at_the_last_instant_finds_the_schedule_ended():
    history = History(trigger={"type": "once", "at": at(60)})
    decision = Decision(history.line)
    with pytest.raises(IllegalState, match="completed"):
        decider.command(decision, UpdateSchedule(definition(), None, cause(60)))


def test_clock_that_goes_back_decides_nothing_again():
    history = History(overlap="allow")
    history.settle(600)
    assert history.settle(60) == []
    history.update(70, overlap="allow", tags=["x"])
    assert history.line.through == at(600)
    history.pause(80)
    history.resume(90)
    assert history.line.through == at(600)
    decision = Decision(history.line)
    firing.settle(decision, cause(130))
    assert decision.events == []
    assert history.settle(660) == [fired(660)]


# --- zones that change ---------------------------------------------------------------------------


def test_recorded_instant_that_no_longer_exists_is_asked_for_again():
    """As after another release of the time zones: the recorded next instant is not one now."""
    history = History()
    line = msgspec.structs.replace(history.line, next_due=at(50))
    decision = Decision(line)
    firing.settle(decision, cause(50))
    assert decision.events == []
    assert decision.line == history.line


def test_last_instant_that_no_longer_exists_completes_the_schedule():
    history = History(end_at=at(70))
    line = msgspec.structs.replace(history.line, next_due=at(65), through=at(60))
    decision = Decision(line)
    firing.settle(decision, cause(65))
    assert decision.events == [completed("end_at")]


def test_paused_instant_that_no_longer_exists_is_not_recorded():
    history = blocked()
    line = msgspec.structs.replace(history.line, next_due=at(11.5))
    decision = Decision(line)
    firing.settle(decision, cause(11.5))
    assert decision.events == []


# --- by hand -------------------------------------------------------------------------------------


def test_trigger_runs_now_and_leaves_the_calendar_alone():
    history = History()
    (event,) = history.trigger(10, "k", {"n": 1})
    assert event == like(
        ExecutionRequested,
        at=at(10),
        due=at(10),
        nominal="k",
        run_number=None,
        next_due=None,
        payload={"n": 1},
        overridden=True,
        revision=1,
    )
    assert event.kind == "key"
    assert event.execution_id == trigger_id("default", "job", 1, "k")
    assert (history.line.fired, history.line.next_due) == (0, at(60))
    assert history.line.through == at(0)


def test_trigger_without_payload_overrides_nothing():
    (event,) = History().trigger(10, "k")
    assert (event.payload, event.overridden) == (None, False)


def test_same_key_is_the_same_execution():
    history = History(overlap="allow")
    (first,) = history.trigger(10, "k")
    assert history.trigger(20, "k", {"other": 1}) == []
    decision = Decision(history.line)
    again = decider.trigger(decision, decider.Trigger("k", None, False, cause(30)))
    assert again == first.execution_id
    assert history.trigger(40, "other")[0].execution_id != first.execution_id


def test_trigger_obeys_the_overlap_policy():
    history = History()
    history.settle(60)
    run = history.run
    (event,) = history.trigger(70, "k")
    assert event == skipped(70, "overlap", blocked_by=run.id, next_due=None)
    assert event.kind == "key"
    assert history.line.skips == 0
    assert (history.line.next_due, history.line.through) == (at(120), at(60))


def test_trigger_comes_after_what_was_due():
    history = History(overlap="allow")
    assert history.trigger(60, "k") == [fired(60, nominal="2026-01-05T00:01:00Z"), fired(60)]


def test_paused_schedule_can_be_triggered():
    history = History()
    history.pause(1)
    assert history.trigger(70, "k") == [fired(70, nominal="k")]


def test_ended_schedule_cannot_be_triggered():
    history = History()
    history.cancel(1)
    with pytest.raises(IllegalState) as caught:
        history.trigger(2, "k")
    assert (caught.value.field, caught.value.details) == ("id", {"state": "cancelled"})


def test_trigger_of_no_schedule_is_refused():
    with pytest.raises(ScheduleNotFound):
        decider.trigger(Decision(None), decider.Trigger("k", None, False, cause(0)))


# --- occurrences ---------------------------------------------------------------------------------


def test_due_by_says_what_lies_between_two_instants():
    found = due_by(definition(), at(0), at(60), at(240), 10, tenant="t")
    assert [each.due for each in found] == [at(120), at(180), at(240)]
    assert len(due_by(definition(), at(0), at(60), at(240), 2, tenant="t")) == 2


def test_next_occurrence_lies_within_the_bounds():
    bounded = definition(start_at=at(180), end_at=at(240))
    found = [
        next_occurrence(bounded, at(180), at(after), tenant="t") for after in (0, 180, 239.9, 240)
    ]
    assert [each and each.due for each in found] == [at(180), at(240), at(240), None]
    assert next_occurrence(definition(trigger=MANUAL), at(0), at(0), tenant="t") is None


@pytest.mark.parametrize(
    ("trigger", "kind"),
    [
        (MANUAL, "key"),
        (SECONDLY, "interval"),
        ({"type": "once", "at": at(0)}, "once"),
        ({"type": "cron", "expression": "@daily"}, "calendar"),
    ],
)
def test_occurrences_are_identified_by_the_kind_of_their_trigger(trigger, kind):
    assert kind_of(definition(trigger=trigger)) == kind


def test_interval_is_anchored_where_it_is_told():
    told = {"type": "interval", "every": "1m", "anchor": at(-15)}
    history = History(trigger=told, start_at=at(50))
    assert history.line.schedule.anchor == at(-15)
    assert history.line.wake == at(105)


def test_skip_without_anything_before_says_nothing():
    assert evolve(None, skip_of_nobody()) is None


def skip_of_nobody() -> ExecutionSkipped:
    return ExecutionSkipped(
        at=at(0),
        schedule_id="job",
        execution_id="e",
        kind="interval",
        due=at(0),
        nominal="n",
        revision=1,
        reason="overlap",
    )


def test_handed_over_is_the_decision_with_its_first_attempt():
    history = History()
    history.settle(60)
    handed = history.hand_over()
    assert handed == like(ExecutionRequested, worker=HERE, deadline=at(360))
    started = History()
    started.settle(60)
    started.start(60)
    assert msgspec.structs.replace(history.run, version=0) == msgspec.structs.replace(
        started.run, version=0
    )
    assert (history.run.version, started.run.version) == (1, 2)


def test_what_is_buffered_ends_a_row_of_skips():
    history = History()
    history.settle(60)
    history.settle(120)
    history.settle(180)
    assert history.line.skips == 2
    history.update(181, overlap="buffer_all")
    history.settle(240)
    assert (len(history.parked), history.line.skips) == (1, 0)
