"""What becomes of occurrences that a calendar does not let fire: each gets its decision (T9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from histories import START, History, at, create, definition, given, like

from horae_domain.errors import InvalidField, InvalidTrigger
from horae_domain.events import (
    ExecutionRequested,
    OccurrencesDecided,
    ScheduleCancelled,
    ScheduleCompleted,
    ScheduleCreated,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.identity import fraction
from horae_domain.ledger import SINGLE_SKIPS
from horae_domain.occurrences import left_out

HOUR = 3600
DAY = 24 * HOUR
HOURLY = {"type": "cron", "expression": "0 * * * *"}
NOON = {"type": "cron", "expression": "0 12 * * *"}
LATE = {"type": "cron", "expression": "30 18 * * *"}
MOVED = [{"type": "business_hours", "policy": "move"}]
UNBOUNDED = {"start_to_close": None}
ALWAYS = {"type": "blackout_hours", "from_time": "00:00", "to_time": "24:00"}


def begun(trigger=HOURLY, calendars=("business_hours",), **told) -> History:
    """From Monday, the 5th of January 2026."""
    told = {"overlap": "allow", "timeout": UNBOUNDED, **told}
    return History(trigger=trigger, calendars=list(calendars), **told)


def seconds(instant: datetime) -> float:
    return (instant - START).total_seconds()


def hour(day: int, number: float) -> datetime:
    return at(day * DAY + number * HOUR)


def fired(due: datetime, **told):
    return like(ExecutionRequested, due=due, **told)


def excluded(first: datetime, last: datetime, count: int | None, reason: str, **told):
    told |= {"decision": "excluded", "first": first, "last": last, "count": count}
    return like(OccurrencesDecided, reason=reason, **told)


# --- created -------------------------------------------------------------------------------------


def test_schedule_is_next_due_when_its_calendars_are_open():
    assert begun().line.wake == hour(0, 9)
    assert begun(calendars=["weekdays"]).line.wake == hour(0, 1)
    assert begun(calendars=[]).line.wake == hour(0, 1)


def test_definition_keeps_what_it_says_of_calendars():
    told = ["business_hours", {"type": "holidays", "dates": ["12-25"], "policy": "move"}]
    canonical = definition(trigger=HOURLY, calendars=told).canonical()
    assert canonical["calendars"] == [{"type": "business_hours"}, told[1]]
    assert definition(**canonical).canonical() == canonical
    zoned = {"type": "weekdays", "timezone": "Asia/Tokyo", "name": "work"}
    assert definition(calendars=[zoned]).canonical()["calendars"] == [zoned]


@pytest.mark.parametrize("policy", ["skip", "move"])
def test_calendars_that_let_nothing_fire_are_refused(policy):
    with pytest.raises(InvalidField) as refused:
        given().when(create(trigger=HOURLY, calendars=[ALWAYS | {"policy": policy}]))
    assert refused.value.field == "calendars"
    assert not isinstance(refused.value, InvalidTrigger)


def test_trigger_that_never_meets_its_calendar_is_refused():
    with pytest.raises(InvalidField) as refused:
        given().when(create(trigger=LATE, calendars=["business_hours"]))
    assert refused.value.field == "calendars"


def test_edit_to_calendars_that_let_nothing_fire_is_refused():
    history = begun()
    with pytest.raises(InvalidField):
        history.update(1, trigger=HOURLY, calendars=[ALWAYS])
    assert history.line.next_due == hour(0, 9)


def test_what_would_never_fire_without_calendars_either_is_the_fault_of_its_bounds():
    with pytest.raises(InvalidTrigger) as refused:
        given().when(create(trigger=HOURLY, calendars=["weekdays"], end_at="2026-01-05T00:10:00Z"))
    assert refused.value.field == "end_at"


# --- skipped -------------------------------------------------------------------------------------


def test_what_is_skipped_is_recorded_with_what_fires_next():
    history = begun()
    assert history.settle(seconds(hour(0, 8))) == []
    assert history.settle(seconds(hour(0, 9))) == [
        excluded(hour(0, 1), hour(0, 8), 8, "business_hours", next_due=hour(0, 9)),
        fired(hour(0, 9), moved_to=None, run_number=1, next_due=hour(0, 10)),
    ]
    assert history.line.through == hour(0, 9)


def test_weekend_is_one_range():
    history = begun(NOON, ["weekdays"])
    for day in range(5):
        history.settle(seconds(hour(day, 12)))
    assert history.line.wake == hour(7, 12)
    assert history.settle(seconds(hour(7, 12))) == [
        excluded(hour(5, 12), hour(6, 12), 2, "weekdays"),
        fired(hour(7, 12), run_number=6),
    ]


def test_calendar_goes_by_the_clock_of_the_trigger():
    berlin = {"type": "cron", "expression": "0 * * * *", "timezone": "Europe/Berlin"}
    assert begun(berlin).line.wake == hour(0, 8)
    tokyo = [{"type": "business_hours", "timezone": "Asia/Tokyo"}]
    assert begun(berlin, tokyo).line.wake == hour(0, 1)
    rule = "DTSTART;TZID=Europe/Berlin:20260101T000000\nRRULE:FREQ=HOURLY"
    assert begun({"type": "rrule", "rule": rule}).line.wake == hour(0, 8)
    assert begun({"type": "interval", "every": "1h"}).line.wake == hour(0, 9)


def test_several_days_that_were_missed_are_told_apart_from_what_is_excluded():
    history = begun(catch_up={"mode": "all", "window": "30m"}, calendars=[
        {"type": "business_hours", "from_time": "12:00", "to_time": "14:00"}
    ])  # fmt: skip
    events = history.settle(seconds(hour(2, 12)))
    assert events == [
        excluded(hour(0, 1), hour(0, 11), 11, "business_hours"),
        like(OccurrencesDecided, decision="missed", first=hour(0, 12), last=hour(0, 13), count=2),
        excluded(hour(0, 14), hour(1, 11), 22, "business_hours"),
        like(OccurrencesDecided, decision="missed", first=hour(1, 12), last=hour(1, 13), count=2),
        excluded(hour(1, 14), hour(2, 11), 22, "business_hours"),
        fired(hour(2, 12)),
    ]


def test_latest_of_a_day_is_caught_up():
    history = begun(catch_up={"mode": "latest", "window": "12h"})
    assert history.settle(seconds(hour(0, 11))) == [
        excluded(hour(0, 1), hour(0, 8), 8, "business_hours"),
        like(OccurrencesDecided, decision="skipped", reason="superseded", first=hour(0, 9), last=hour(0, 10)),
        fired(hour(0, 11)),
    ]  # fmt: skip


def test_unfinished_run_is_in_the_way_of_what_the_calendar_lets_through():
    secondly = {"type": "interval", "every": "10m"}
    history = begun(secondly, overlap="skip")
    for number in range(SINGLE_SKIPS + 1):
        history.settle(seconds(hour(0, 9)) + number * 600)
    assert history.line.waits_for_run
    assert history.line.wake is None
    events = history.cancel_run(seconds(hour(1, 9.5)))
    assert [each.decision for each in events[:3]] == ["skipped", "excluded", "skipped"]
    assert events[1] == excluded(
        hour(0, 17), hour(1, 9) - timedelta(minutes=10), 96, "business_hours"
    )


def test_runs_are_limited_by_what_fired_alone():
    history = begun(max_executions=2)
    history.settle(seconds(hour(0, 9)))
    *_, last, completed = history.settle(seconds(hour(0, 10)))
    assert last == fired(hour(0, 10), next_due=None)
    assert completed == like(ScheduleCompleted, reason="max_executions")


def test_schedule_ends_with_the_last_instant_that_its_calendar_leaves():
    history = begun(end_at="2026-01-05T20:00:00Z")
    for number in range(9, 16):
        history.settle(seconds(hour(0, number)))
    assert history.settle(seconds(hour(0, 16))) == [
        fired(hour(0, 16), next_due=None),
        like(ScheduleCompleted, reason="end_at"),
    ]


def test_what_lies_before_the_start_is_not_excluded():
    history = begun(start_at="2026-01-05T05:00:00Z")
    assert history.settle(seconds(hour(0, 9))) == [
        excluded(hour(0, 5), hour(0, 8), 4, "business_hours"),
        fired(hour(0, 9)),
    ]


def test_schedule_without_calendars_leaves_nothing_out():
    assert left_out(definition(trigger=HOURLY), START, at(0), at(DAY)) == []


# --- moved ---------------------------------------------------------------------------------------


def test_what_is_moved_keeps_its_nominal_instant_and_says_why():
    history = begun(LATE, MOVED)
    assert history.line.wake == hour(1, 9)
    (event,) = history.settle(seconds(hour(1, 9)))
    assert event == fired(
        hour(0, 18.5), at=hour(1, 9), moved_to=hour(1, 9), note="business_hours", planned_by=None,
        nominal="2026-01-05T18:30:00[UTC]", next_due=hour(2, 9),
    )  # fmt: skip


def test_of_those_that_are_moved_together_the_last_one_fires():
    history = begun(LATE, MOVED)
    for day in (1, 2, 3, 4):
        history.settle(seconds(hour(day, 9)))
    assert history.line.wake == hour(7, 9)
    assert history.settle(seconds(hour(7, 9))) == [
        excluded(hour(4, 18.5), hour(5, 18.5), 2, "superseded"),
        fired(hour(6, 18.5), moved_to=hour(7, 9)),
    ]


def test_one_that_is_due_where_others_are_moved_fires_as_itself():
    history = begun(calendars=MOVED)
    assert history.settle(seconds(hour(0, 9))) == [
        excluded(hour(0, 1), hour(0, 8), 8, "superseded"),
        fired(hour(0, 9), moved_to=None, note=""),
    ]


def test_one_time_run_is_moved():
    history = begun({"type": "once", "at": "2026-01-10T12:00:00Z"}, MOVED)
    assert history.line.wake == hour(7, 9)
    event, completed = history.settle(seconds(hour(7, 9)))
    assert event == fired(hour(5, 12), moved_to=hour(7, 9))
    assert completed == like(ScheduleCompleted, reason="exhausted")


def test_what_is_moved_is_not_late():
    history = begun(LATE, MOVED, catch_up={"mode": "all", "window": "1m"})
    assert history.settle(seconds(hour(1, 9)) + 60) == [fired(hour(0, 18.5))]
    history = begun(LATE, MOVED, catch_up={"mode": "all", "window": "1m"})
    (missed,) = history.settle(seconds(hour(1, 9)) + 61)
    assert missed == like(
        OccurrencesDecided, decision="missed", first=hour(0, 18.5), next_due=hour(2, 9)
    )


def test_one_moved_beyond_the_end_comes_all_the_same():
    history = begun(LATE, MOVED, end_at="2026-01-05T20:00:00Z")
    event, completed = history.settle(seconds(hour(1, 9)))
    assert event == fired(hour(0, 18.5), next_due=None)
    assert completed == like(ScheduleCompleted, reason="end_at")


def test_one_beyond_the_end_takes_no_ones_place():
    evenings = {"type": "cron", "expression": "0 18-23 * * *"}
    history = begun(evenings, MOVED, end_at="2026-01-05T20:00:00Z")
    excluded_, event, _ = history.settle(seconds(hour(1, 9)))
    assert excluded_ == excluded(hour(0, 18), hour(0, 19), 2, "superseded")
    assert event == fired(hour(0, 20), moved_to=hour(1, 9))


def test_jitter_comes_after_the_calendar_and_stays_within_its_hours():
    share = fraction("jitter", "default", "job", "2026-01-05T18:30:00[UTC]")
    history = begun(LATE, MOVED, jitter="2h")
    assert history.line.wake == hour(1, 9) + timedelta(
        microseconds=int(2 * HOUR * 1_000_000 * share)
    )
    history = begun(LATE, MOVED, jitter="10 days")
    assert history.line.wake == hour(1, 9) + timedelta(
        microseconds=int(8 * HOUR * 1_000_000 * share)
    )
    history = begun(LATE, [MOVED[0] | {"to_time": "21:00"}], spread="1 day")
    share = fraction("spread", "default", "job")
    assert history.line.wake == hour(0, 18.5) + timedelta(
        microseconds=int(2.5 * HOUR * 1_000_000 * share)
    )


def test_jitter_of_what_has_no_successor_has_all_its_room_while_open():
    share = fraction("jitter", "default", "job", "2026-01-05T09:00:00Z")
    once = {"type": "once", "at": "2026-01-05T09:00:00Z"}
    history = begun(once, ["weekdays"], jitter="1h")
    assert history.line.wake == hour(0, 9) + timedelta(microseconds=int(HOUR * 1_000_000 * share))


# --- what changes in between ---------------------------------------------------------------------


def test_edit_pause_and_end_record_what_was_excluded_before():
    told = {"trigger": HOURLY, "overlap": "allow", "timeout": UNBOUNDED}
    history = begun()
    assert history.update(seconds(hour(0, 3)), **told) == [
        excluded(hour(0, 1), hour(0, 3), 3, "business_hours"),
        like(ScheduleUpdated, next_due=hour(0, 4)),
    ]
    history = begun()
    history.pause(seconds(hour(0, 2)))
    assert history.resume(seconds(hour(0, 10.5))) == [
        excluded(hour(0, 1), hour(0, 8), 8, "business_hours"),
        like(OccurrencesDecided, reason="paused", first=hour(0, 9), last=hour(0, 10), count=2),
        like(ScheduleResumed, next_due=hour(0, 11)),
    ]
    history = begun()
    assert history.cancel(seconds(hour(0, 2.5))) == [
        excluded(hour(0, 1), hour(0, 2), 2, "business_hours"),
        like(ScheduleCancelled),
    ]


def test_edit_leaves_what_was_moved_beyond_it():
    history = begun(LATE, MOVED)
    (updated,) = history.update(
        seconds(hour(0, 20)), trigger=LATE, calendars=MOVED, overlap="allow", timeout=UNBOUNDED, tags=["a"]
    )  # fmt: skip
    assert updated == like(ScheduleUpdated, next_due=hour(1, 9))
    assert history.settle(seconds(hour(1, 9))) == [fired(hour(0, 18.5), revision=2)]


def test_calendar_that_is_gone_lets_come_only_what_is_due_after():
    history = begun(LATE, MOVED)
    (updated,) = history.update(
        seconds(hour(0, 20)), trigger=LATE, overlap="allow", timeout=UNBOUNDED
    )
    assert updated == like(ScheduleUpdated, next_due=hour(1, 18.5), through=None)


def test_calendar_that_is_new_moves_nothing_that_has_fired():
    history = begun(LATE, [])
    history.settle(seconds(hour(0, 18.5)))
    (updated,) = history.update(
        seconds(hour(0, 19)), trigger=LATE, calendars=MOVED, overlap="allow", timeout=UNBOUNDED
    )
    assert updated == like(ScheduleUpdated, next_due=hour(2, 9))


def test_schedule_that_has_ended_or_is_spent_excludes_nothing_more():
    history = begun(max_executions=1)
    history.settle(seconds(hour(0, 9)))
    assert history.line.schedule.status.ended
    with pytest.raises(Exception, match="completed"):
        history.cancel(seconds(hour(3, 0)))
    assert not [each for each in history.events if each.at > hour(0, 9)]


def test_one_moved_by_hand_is_excluded_by_no_calendar():
    history = begun(calendars=[])
    history.move(1, 2 * HOUR, 12.5 * HOUR)
    history.update(
        2, trigger=HOURLY, calendars=["business_hours"], overlap="allow", timeout=UNBOUNDED
    )
    assert history.settle(seconds(hour(0, 9))) == [
        excluded(hour(0, 1), hour(0, 1), 1, "business_hours"),
        excluded(hour(0, 3), hour(0, 8), 6, "business_hours"),
        fired(hour(0, 9)),
    ]
    for number in (10, 11, 12):
        history.settle(seconds(hour(0, number)))
    assert history.settle(seconds(hour(0, 12.5))) == [fired(hour(0, 2), moved_to=hour(0, 12.5))]


def test_plan_says_more_than_the_calendar():
    history = begun(LATE, MOVED)
    history.set_payload(1, seconds(hour(0, 18.5)), {"n": 1}, note="by hand")
    (event,) = history.settle(seconds(hour(1, 9)))
    assert event == fired(hour(0, 18.5), note="by hand", payload={"n": 1})
    history.set_payload(seconds(hour(1, 10)), seconds(hour(1, 18.5)), {"n": 2})
    (event,) = history.settle(seconds(hour(2, 9)))
    assert event == fired(hour(1, 18.5), note="business_hours", payload={"n": 2})


def test_occurrence_that_a_calendar_excludes_cannot_be_planned():
    history = begun()
    with pytest.raises(InvalidField) as refused:
        history.skip(1, seconds(hour(0, 8)))
    assert refused.value.details["nearest"] == ["2026-01-05T09:00:00Z"]


def test_backfill_runs_what_the_calendar_lets_through():
    history = begun()
    for number in range(9, 12):
        history.settle(seconds(hour(0, number)))
    events = history.backfill(seconds(hour(0, 11)), 0, 10 * HOUR, "allow")
    assert [each.due for each in events if isinstance(each, ExecutionRequested)] == [
        hour(0, 9),
        hour(0, 10),
    ]


@pytest.mark.parametrize("policy", ["skip", "move"])
def test_every_instant_of_a_fortnight_gets_one_decision(policy):
    calendars = [
        {"type": "business_hours", "policy": policy},
        {"type": "holidays", "dates": ["2026-01-07"]},
        {"type": "blackout", "start_at": "2026-01-13T00:00:00Z", "end_at": "2026-01-13T13:00:00Z", "policy": "move"},
    ]  # fmt: skip
    history = begun(calendars=calendars, catch_up={"mode": "all", "window": "1d"})
    for step in (8, 11, 40, 45, 90, 100, 170, 180, 210, 250, 14 * 24):
        history.settle(step * HOUR)
        if step == 45:
            history.pause(step * HOUR)
        if step == 90:
            history.resume(step * HOUR)
        if step == 180:
            history.update(180 * HOUR, trigger=HOURLY, calendars=calendars[:2], overlap="allow")
    history.cancel(14 * DAY + 60)
    decided: list[datetime] = []
    for event in history.events:
        if isinstance(event, ExecutionRequested):
            decided.append(event.due)
        elif isinstance(event, OccurrencesDecided):
            assert event.count is not None
            covered = int((event.last - event.first) / timedelta(hours=1)) + 1
            assert covered == event.count
            decided += [event.first + timedelta(hours=each) for each in range(covered)]
    assert sorted(decided) == [hour(0, number) for number in range(1, 14 * 24 + 1)]


def test_created_says_when_it_is_first_due():
    told = create(trigger=LATE, calendars=MOVED)
    given().when(told).then(like(ScheduleCreated, next_due=datetime(2026, 1, 6, 9, tzinfo=UTC)))
