"""Jitter and spreading: when an occurrence comes, and that all else goes by its nominal instant (T10)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from histories import START, History, at, create, definition, given, like
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from horae_domain import jitter
from horae_domain.decider import trigger_id
from horae_domain.errors import IllegalState
from horae_domain.events import (
    ExecutionRequested,
    ExecutionSkipped,
    OccurrencesDecided,
    ScheduleCompleted,
    ScheduleCreated,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.identity import execution_id, fraction
from horae_domain.instants import format_instant
from horae_domain.occurrences import (
    TICK,
    due_by,
    due_within,
    next_occurrence,
    passed_by,
    previous_occurrence,
)

(JITTERED,) = json.loads(
    (Path(__file__).parents[1] / "cases" / "interval_calendar_spec.json").read_text()
)["jitter"]
HOURLY = {"type": "interval", "every": "1h", "anchor": "2026-01-05T00:00:00Z"}
HOUR = 3600
UNBOUNDED = {"start_to_close": None}


def micros(seconds: float) -> timedelta:
    return timedelta(microseconds=int(seconds * 1_000_000))


def late(number: int, window: float, id_: str = "job", tenant: str = "default") -> timedelta:
    """How much later the hour of a number comes, by what the page on definitions says."""
    nominal = format_instant(at(number * HOUR))
    return micros(window * fraction("jitter", tenant, id_, nominal))


def comes(number: int, window: float) -> datetime:
    return at(number * HOUR) + late(number, window)


def seconds(instant: datetime) -> float:
    return (instant - START).total_seconds()


def jittered(window: float = 600, **told) -> History:
    return History(trigger=HOURLY, jitter=window, overlap="allow", timeout=UNBOUNDED, **told)


# --- how much ------------------------------------------------------------------------------------


def test_jitter_is_a_part_of_its_window_by_a_hash_of_the_occurrence():
    history = jittered()
    assert 0 < seconds(comes(1, 600)) - HOUR < 600
    assert history.line.next_due == comes(1, 600)
    assert history.events[0] == like(ScheduleCreated, next_due=comes(1, 600))
    assert comes(1, 600) - at(HOUR) != comes(2, 600) - at(2 * HOUR)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": "a"}, {"id": "b"}),
        ({"tenant": "a"}, {"tenant": "b"}),
    ],
)
@pytest.mark.parametrize("field", ["jitter", "spread"])
def test_schedules_and_tenants_differ(field, one, other):
    told = {"trigger": HOURLY, field: "10m"}
    dues = [given().when(create(**told, **each)).after[0].next_due for each in (one, other, one)]
    assert dues[0] != dues[1]
    assert dues[0] == dues[2]
    assert all(at(HOUR) < due < at(HOUR + 600) for due in dues)


def test_spread_is_the_same_part_of_its_window_for_every_occurrence():
    share = micros(600 * fraction("spread", "default", "job"))
    found = due_within(definition(trigger=HOURLY, spread="10m"), START, at(0), at(9 * HOUR), 20)
    anonymous = micros(600 * fraction("spread", "", "job"))
    assert {each.falls - each.due for each in found} == {anonymous}
    assert len(found) == 10
    assert History(trigger=HOURLY, spread="10m").line.next_due == at(HOUR) + share


def test_jitter_comes_on_top_of_the_spread():
    share = micros(600 * fraction("spread", "default", "job"))
    line = History(trigger=HOURLY, spread="10m", jitter="20m").line
    assert line.next_due == comes(1, 1200) + share


@pytest.mark.parametrize("field", ["jitter", "spread"])
def test_what_there_is_no_room_for_is_scaled_to_the_room(field):
    line = History(trigger=HOURLY, **{field: "10 days"}).line
    parts = ["default", "job", *(["2026-01-05T01:00:00Z"] if field == "jitter" else [])]
    assert line.next_due == at(HOUR) + micros(HOUR * fraction(field, *parts))


def test_jitter_has_what_room_the_spread_leaves():
    share = micros(HOUR * fraction("spread", "default", "job"))
    left = HOUR - share.total_seconds()
    line = History(trigger=HOURLY, spread="1 day", jitter="1 day").line
    assert line.next_due == at(HOUR) + share + late(1, left)


def test_what_is_due_once_has_all_the_room_that_is_asked_for():
    once = {"type": "once", "at": "2026-01-05T01:00:00Z"}
    assert History(trigger=once, jitter="10 days").line.next_due == comes(1, 10 * 24 * HOUR)


@drawn(st.integers(0, 10**12), st.text(max_size=8))
def test_delay_is_less_than_the_room(room, nominal):
    told = definition(trigger=HOURLY, jitter="30 days", spread="30 days")
    bound = timedelta(microseconds=room + 1)
    assert timedelta(0) <= jitter.delay(told, "t", nominal, bound) < bound


def test_fraction_close_to_one_never_takes_all_of_the_room(monkeypatch):
    monkeypatch.setattr(jitter, "fraction", lambda *_: 1 - 2.0**-48)
    told = definition(trigger=HOURLY, jitter="100000ms")
    assert jitter.delay(told, "t", "n", None) == timedelta(seconds=100) - TICK
    assert jitter.delay(told, "t", "n", TICK) == timedelta(0)


def test_case_of_another_scheduler_keeps_its_property():
    (interval,) = JITTERED["spec"]["intervals"]
    every, window = interval["every_s"], JITTERED["spec"]["jitter_s"]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    told = definition(trigger={"type": "interval", "every": every}, jitter=window)
    nominals = [datetime.fromisoformat(each).replace(tzinfo=UTC) for each in JITTERED["nominal"]]
    first, last = nominals[0], nominals[-1]
    found = due_by(told, epoch, first - TICK, last + timedelta(seconds=every), 99, tenant="t")
    again = due_by(told, epoch, first - TICK, last + timedelta(seconds=every), 99, tenant="t")
    assert [each.due for each in found] == nominals
    assert found == again
    assert all(each.due <= each.falls < each.due + timedelta(seconds=every) for each in found)


TRIGGERS = st.sampled_from(
    [
        HOURLY,
        {"type": "interval", "every": "7m", "anchor": "2026-03-01T00:03:00Z"},
        {"type": "cron", "expression": "*/20 1-4 * * *", "timezone": "Europe/Berlin"},
        {"type": "cron", "expression": "30 2 * * *", "timezone": "Europe/Berlin"},
        {"type": "rrule", "rule": "FREQ=DAILY;BYHOUR=1,2,3", "timezone": "Europe/Berlin"},
    ]
)
windows = st.sampled_from([0, 1, 59.5, 900, 7200, 86400 * 3])


@settings(max_examples=40)
@drawn(TRIGGERS, windows, windows, st.integers(0, 4 * 24 * 3600))
def test_occurrences_come_in_order_between_their_own_instant_and_the_next(
    trigger, window, spread, offset
):
    anchor = datetime(2026, 3, 27, tzinfo=UTC)
    told = definition(trigger=trigger, jitter=window, spread=spread or None)
    bare = definition(trigger=trigger)
    instant = anchor + timedelta(seconds=offset)
    expected = due_by(bare, anchor, instant, instant + timedelta(days=3), 12, tenant="t")
    found = []
    after = instant
    for nominal in expected:
        occurrence = next_occurrence(told, anchor, after, tenant="t")
        assert occurrence is not None
        assert occurrence.nominal == nominal.nominal
        assert occurrence.due == nominal.due == after or occurrence.due > after
        found.append(occurrence)
        after = occurrence.due
    assert [each.due for each in found] == [each.due for each in expected]
    for one, following in pairwise(found):
        assert one.due <= one.falls < following.due
        assert previous_occurrence(told, anchor, following.due, tenant="t") == one
    for each in found:
        for moment in (each.due - TICK, each.due, each.falls - TICK, each.falls):
            behind = passed_by(told, anchor, moment, tenant="t")
            first = next_occurrence(told, anchor, behind, tenant="t")
            assert first is not None
            assert first.falls > moment
            last = previous_occurrence(told, anchor, behind + TICK, tenant="t")
            assert last is None or last.falls <= moment


# --- when it fires -------------------------------------------------------------------------------


def test_occurrence_fires_when_it_comes_under_its_nominal_instant():
    history = jittered()
    due = comes(1, 600)
    assert history.settle(seconds(due - TICK)) == []
    (event,) = history.settle(seconds(due))
    nominal = "2026-01-05T01:00:00Z"
    id_ = execution_id("default", "job", 1, "interval", nominal, at(HOUR))
    assert event == like(
        ExecutionRequested, due=at(HOUR), nominal=nominal, execution_id=id_, at=due,
        moved_to=due, note="", planned_by=None, next_due=comes(2, 600),
    )  # fmt: skip
    assert history.line.wake == comes(2, 600)
    assert history.run.moved_to == due


def test_schedule_without_jitter_says_nothing_of_it():
    history = History(trigger=HOURLY)
    (event,) = history.settle(HOUR)
    assert event == like(ExecutionRequested, moved_to=None)
    assert "jitter" not in history.events[0].definition


@pytest.mark.parametrize("mode", ["all", "latest", "skip"])
def test_what_comes_within_the_catch_up_window_is_not_late(mode):
    history = jittered(3000, catch_up={"mode": mode, "window": "10s"})
    assert late(1, 3000) > timedelta(seconds=60)
    (event,) = history.settle(seconds(comes(1, 3000)) + 10)
    assert event == like(ExecutionRequested, due=at(HOUR))


def test_what_came_longer_ago_than_the_window_is_missed_and_what_is_to_come_is_not():
    history = jittered(3000, catch_up={"mode": "all", "window": "10s"})
    passed, pending = comes(2, 3000), comes(3, 3000)
    between = max(seconds(passed) + 11, 3 * HOUR)
    assert between < seconds(pending)
    (event,) = history.settle(between)
    assert event == like(
        OccurrencesDecided, decision="missed", first=at(HOUR), last=at(2 * HOUR), count=2,
        next_due=pending,
    )  # fmt: skip
    assert history.settle(seconds(pending)) == [like(ExecutionRequested, due=at(3 * HOUR))]


def test_uncounted_range_leaves_out_what_is_yet_to_come():
    tenths = {"type": "interval", "every": "100ms", "anchor": "2026-01-05T00:00:00Z"}
    told = {"trigger": tenths, "jitter": "100ms", "catch_up": {"mode": "all", "window": 0}}
    history = History(**told, timeout=UNBOUNDED)
    now = 1000.0
    while True:  # an instant between an occurrence and its coming
        last = previous_occurrence(
            definition(**told), START, at(now) - timedelta(seconds=10), tenant="default"
        )
        assert last is not None
        if last.falls > last.due + timedelta(milliseconds=20):
            break
        now += 0.1
    moment = last.due + timedelta(seconds=10) + (last.falls - last.due) / 2
    first, *_ = history.settle(seconds(moment))
    assert first == like(OccurrencesDecided, decision="missed", count=None, last=last.due - TICK)
    assert last.due not in {
        each.due for each in history.events if isinstance(each, ExecutionSkipped)
    }


def test_bounds_are_of_nominal_instants():
    bounds = {"start_at": "2026-01-05T01:00:00Z", "end_at": "2026-01-05T02:00:00Z"}
    history = jittered(**bounds)
    assert history.line.next_due == comes(1, 600)
    history.settle(seconds(comes(1, 600)))
    assert comes(2, 600) > at(2 * HOUR)
    events = history.settle(seconds(comes(2, 600)))
    assert events[0] == like(ExecutionRequested, due=at(2 * HOUR), next_due=None)
    assert events[1] == like(ScheduleCompleted, reason="end_at")


def test_trigger_by_hand_and_backfill_are_not_put_off():
    history = jittered()
    now = seconds(comes(2, 600))
    history.settle(now)
    (event,) = history.trigger(now, "k")
    assert event == like(ExecutionRequested, moved_to=None, due=at(now))
    assert event.execution_id == trigger_id("default", "job", 1, "k")
    _, first, second = history.backfill(now, HOUR, 2 * HOUR, "allow")
    assert first == like(ExecutionRequested, due=at(HOUR), moved_to=None, at=at(now))
    assert second == like(ExecutionRequested, due=at(2 * HOUR), moved_to=None)


# --- what changes in between ---------------------------------------------------------------------


def pending() -> tuple[History, float]:
    """A history, and an instant between the second occurrence and its coming."""
    history = jittered()
    history.settle(seconds(comes(1, 600)))
    return history, 2 * HOUR + late(2, 600).total_seconds() / 2


def test_occurrence_that_is_put_off_beyond_an_edit_comes_after_it():
    history, now = pending()
    (updated,) = history.update(
        now, trigger=HOURLY, jitter=600, overlap="allow", timeout=UNBOUNDED, tags=["new"]
    )
    assert updated == like(ScheduleUpdated, next_due=comes(2, 600), through=at(2 * HOUR) - TICK)
    (event,) = history.settle(seconds(comes(2, 600)))
    assert event == like(ExecutionRequested, due=at(2 * HOUR), revision=2, run_number=2)


def test_occurrence_that_comes_with_an_edit_is_decided_before_it():
    history, _ = pending()
    now = seconds(comes(2, 600))
    fired, updated = history.update(
        now, trigger=HOURLY, jitter=600, overlap="allow", timeout=UNBOUNDED, tags=["new"]
    )
    assert fired == like(ExecutionRequested, due=at(2 * HOUR), revision=1)
    assert updated == like(ScheduleUpdated, next_due=comes(3, 600), through=None)


def test_edit_at_the_nominal_instant_leaves_the_occurrence_to_come():
    history, _ = pending()
    (updated,) = history.update(
        2 * HOUR, trigger=HOURLY, jitter=600, overlap="allow", timeout=UNBOUNDED, tags=["new"]
    )
    assert updated == like(ScheduleUpdated, next_due=comes(2, 600), through=at(2 * HOUR) - TICK)


def test_what_is_put_off_goes_with_its_trigger():
    history, now = pending()
    half = {"type": "interval", "every": "30m", "anchor": "2026-01-05T00:00:00Z"}
    (updated,) = history.update(now, trigger=half, overlap="allow", timeout=UNBOUNDED, jitter=1)
    share = micros(fraction("jitter", "default", "job", "2026-01-05T02:30:00Z"))
    assert updated == like(ScheduleUpdated, next_due=at(2.5 * HOUR) + share, through=None)


def test_what_is_put_off_goes_with_its_anchor():
    floating = {"type": "interval", "every": "1h"}
    history = History(trigger=floating, jitter=600, start_at="2026-01-05T00:00:00Z")
    history.settle(seconds(comes(1, 600)))
    now = 2 * HOUR + late(2, 600).total_seconds() / 2
    (*_, updated) = history.update(
        now, trigger=floating, jitter=600, start_at="2026-01-05T00:20:00Z"
    )
    assert updated == like(ScheduleUpdated, through=None, anchor=at(1200))


def test_jitter_that_is_new_puts_off_nothing_that_was_decided():
    history = History(trigger=HOURLY, overlap="allow", timeout=UNBOUNDED)
    history.settle(HOUR)
    (updated,) = history.update(
        HOUR, trigger=HOURLY, jitter=600, overlap="allow", timeout=UNBOUNDED
    )
    assert updated == like(ScheduleUpdated, next_due=comes(2, 600), through=None)


def test_jitter_that_is_gone_lets_come_what_was_due():
    history, now = pending()
    updated, *_ = history.update(now, trigger=HOURLY, overlap="allow", timeout=UNBOUNDED)
    assert updated == like(ScheduleUpdated, next_due=at(3 * HOUR), through=None)


def test_pause_skips_what_comes_in_it_and_nothing_that_comes_after():
    history, now = pending()
    history.pause(now)
    resumed, *more = history.resume(now + 1)
    assert resumed == like(ScheduleResumed, next_due=comes(2, 600), through=at(2 * HOUR) - TICK)
    assert more == []
    history.pause(now + 2)
    skipped, resumed = history.resume(seconds(comes(2, 600)))
    assert skipped == like(
        OccurrencesDecided, reason="paused", first=at(2 * HOUR), last=at(2 * HOUR), count=1
    )
    assert resumed == like(ScheduleResumed, next_due=comes(3, 600), through=None)


# --- plans ---------------------------------------------------------------------------------------


def test_occurrence_that_is_put_off_can_be_planned_until_it_comes():
    history, now = pending()
    history.skip(now, 2 * HOUR)
    assert history.settle(seconds(comes(2, 600))) == [
        like(ExecutionSkipped, reason="skipped_by_hand", due=at(2 * HOUR), moved_to=comes(2, 600))
    ]
    with pytest.raises(IllegalState) as refused:
        history.skip(seconds(comes(2, 600)), 2 * HOUR)
    assert refused.value.details["state"] == "decided"


def test_occurrence_that_has_come_is_decided():
    history, _ = pending()
    with pytest.raises(IllegalState):
        history.skip(seconds(comes(2, 600)), 2 * HOUR)


def test_what_somebody_moved_comes_exactly_there():
    history, now = pending()
    history.move(now, 2 * HOUR, 2.5 * HOUR)
    assert history.line.next_due == comes(3, 600)
    (event,) = history.settle(2.5 * HOUR)
    assert event == like(ExecutionRequested, due=at(2 * HOUR), moved_to=at(2.5 * HOUR))
    (event,) = history.settle(seconds(comes(3, 600)))
    assert event == like(ExecutionRequested, due=at(3 * HOUR), moved_to=comes(3, 600))


def test_plan_for_what_is_put_off_survives_an_edit():
    history, now = pending()
    history.set_payload(now, 2 * HOUR, {"n": 1})
    history.update(
        now + 1, trigger=HOURLY, jitter=600, overlap="allow", timeout=UNBOUNDED, tags=["a"]
    )
    (event,) = history.settle(seconds(comes(2, 600)))
    assert event == like(ExecutionRequested, due=at(2 * HOUR), payload={"n": 1})
    assert history.line.plans == {}


def test_planned_occurrence_that_was_put_off_leaves_nothing_behind_undecided():
    history, now = pending()
    history.set_payload(now, 2 * HOUR, 1)
    history.set_payload(now, 3 * HOUR, 2)
    history.settle(seconds(comes(2, 600)))
    assert history.line.through == at(2 * HOUR)
    assert list(history.line.plans) == ["2026-01-05T03:00:00Z"]


def test_what_is_to_be_held_behind_a_run_is_held_when_it_comes():
    history = History(trigger={"type": "interval", "every": "1m"}, jitter=50, timeout=UNBOUNDED)
    for number in range(1, 13):
        history.settle(60 * number + 55)
    assert history.line.waits_for_run
    history.hold(13 * 60 - 1, 14 * 60)
    wake = history.line.wake
    steps = 0
    while not history.parked:
        steps += 1
        assert steps < 4, "it is woken for nothing"
        assert wake is not None
        history.settle(seconds(wake))
        wake = history.line.wake
    assert history.parked[0].due == at(14 * 60)
