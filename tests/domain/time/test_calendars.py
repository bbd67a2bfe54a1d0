"""Calendars against an oracle that asks each minute whether everything is open (T9)."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from horae_domain import observed as observing
from horae_domain import open_times as opening
from horae_domain.calendars import Calendars, seconds_of
from horae_domain.instants import EPOCH, to_micros
from horae_domain.observed import LeftOut, observed
from horae_domain.open_times import DAY, LOOKED_AT, open_times
from horae_domain.recurrence import OnceRecurrence, cron_recurrence, interval_recurrence
from horae_domain.rrules import rrule_recurrence

CASES = {
    case["id"]: case
    for case in json.loads(
        (Path(__file__).parents[2] / "cases" / "interval_calendar_spec.json").read_text()
    )["cases"]
}
MINUTE = timedelta(minutes=1)
TICK = timedelta(microseconds=1)
read = TypeAdapter(Calendars).validate_python
BERLIN = "Europe/Berlin"
DAYS = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def times(zone, *calendars):
    return open_times(read(calendars), zone)


def opens(zone, moment, *calendars):
    found = times(zone, *calendars).opens(to_micros(at(moment)))
    return found and (EPOCH + timedelta(microseconds=found)).astimezone(ZoneInfo(zone)).isoformat()


def firings(recurrence, calendars, after, count, zone="UTC"):
    under = observed(recurrence, read(calendars), zone)
    found = []
    moment = at(after)
    for _ in range(count):
        occurrence = under.next(moment)
        if occurrence is None:
            break
        found.append(occurrence)
        moment = occurrence.due
    return found


def stretch(first, last, count, reason):
    return LeftOut(at(first), at(last), count, reason)


# --- when they are open --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "found"),
    [
        ("2026-01-09T16:59:59.999999+01:00", "2026-01-09T16:59:59.999999+01:00"),
        ("2026-01-09T17:00:00+01:00", "2026-01-12T09:00:00+01:00"),
        ("2026-01-12T08:59:59.999999+01:00", "2026-01-12T09:00:00+01:00"),
        ("2026-01-12T09:00:00+01:00", "2026-01-12T09:00:00+01:00"),
        ("2026-03-27T17:00:00+01:00", "2026-03-30T09:00:00+02:00"),
        ("2026-10-23T18:00:00+02:00", "2026-10-26T09:00:00+01:00"),
    ],
)
def test_after_friday_at_five_comes_monday_at_nine(moment, found):
    assert opens(BERLIN, moment, "business_hours") == found


@pytest.mark.parametrize(
    ("calendar", "moment", "found"),
    [
        ("weekdays", "2026-01-09T23:59:59Z", "2026-01-09T23:59:59+00:00"),
        ("weekdays", "2026-01-10T00:00:00Z", "2026-01-12T00:00:00+00:00"),
        ({"type": "weekdays", "days": ["SUN"]}, "2026-01-05T00:00:00Z", "2026-01-11T00:00:00+00:00"),
        ({"type": "holidays", "dates": ["2026-12-25"]}, "2026-12-25T00:00:00Z", "2026-12-26T00:00:00+00:00"),
        ({"type": "holidays", "dates": ["2026-12-25"]}, "2027-12-25T00:00:00Z", "2027-12-25T00:00:00+00:00"),
        ({"type": "holidays", "dates": ["12-25", "12-26"]}, "2027-12-25T12:00:00Z", "2027-12-27T00:00:00+00:00"),
        ({"type": "holidays", "dates": ["02-29"]}, "2028-02-29T12:00:00Z", "2028-03-01T00:00:00+00:00"),
        ({"type": "blackout_hours", "from_time": "02:00", "to_time": "03:30:15"}, "2026-01-05T02:00:00Z", "2026-01-05T03:30:15+00:00"),
        ({"type": "blackout_hours", "from_time": "22:00", "to_time": "06:00", "days": ["FRI"]}, "2026-01-09T22:00:00Z", "2026-01-10T06:00:00+00:00"),
        ({"type": "blackout_hours", "from_time": "22:00", "to_time": "06:00", "days": ["FRI"]}, "2026-01-09T05:00:00Z", "2026-01-09T05:00:00+00:00"),
        ({"type": "blackout_hours", "from_time": "22:00", "to_time": "06:00", "days": ["FRI"]}, "2026-01-10T22:00:00Z", "2026-01-10T22:00:00+00:00"),
        ({"type": "business_hours", "from_time": "20:00", "to_time": "24:00"}, "2026-01-09T23:59:59Z", "2026-01-09T23:59:59+00:00"),
        ({"type": "blackout", "start_at": "2026-01-05T00:00:00.5Z", "end_at": "2026-01-05T00:00:01.25Z"}, "2026-01-05T00:00:00.5Z", "2026-01-05T00:00:01.250000+00:00"),
        ({"type": "blackout", "start_at": "2026-01-05T00:00:00.5Z", "end_at": "2026-01-05T00:00:01.25Z"}, "2026-01-05T00:00:00.499999Z", "2026-01-05T00:00:00.499999+00:00"),
        ({"type": "blackout", "start_at": "2026-01-05T00:00:00Z", "end_at": "2226-01-05T00:00:00Z"}, "2026-02-05T00:00:00Z", "2226-01-05T00:00:00+00:00"),
        ({"type": "weekdays", "timezone": "Asia/Tokyo"}, "2026-01-09T15:00:00Z", "2026-01-11T15:00:00+00:00"),
    ],
)  # fmt: skip
def test_calendar_opens_at_its_edges(calendar, moment, found):
    assert opens("UTC", moment, calendar) == found


def test_two_blackouts_in_a_row_are_one():
    years = ["2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z", "2046-01-01T00:00:00Z"]
    both = [{"type": "blackout", "start_at": a, "end_at": b} for a, b in pairwise(years)]
    assert opens("UTC", years[0], *both, "business_hours") == "2046-01-01T09:00:00+00:00"


@pytest.mark.parametrize(
    "calendars",
    [
        [{"type": "blackout_hours", "from_time": "00:00", "to_time": "24:00"}],
        [{"type": "weekdays", "days": ["SAT"]}, {"type": "weekdays", "days": ["SUN"]}],
        ["business_hours", {"type": "blackout_hours", "from_time": "08:00", "to_time": "17:00"}],
        [
            {
                "type": "blackout",
                "start_at": "2020-01-01T00:00:00Z",
                "end_at": "9990-01-01T00:00:00Z",
            }
        ],
    ],
)
def test_what_is_never_open_is_found_out(calendars):
    assert opens("UTC", "2026-01-05T10:00:00Z", *calendars) is None
    assert firings(cron_recurrence("0 * * * *", "UTC"), calendars, "2026-01-05T10:00:00Z", 1) == []
    moved = [{"type": "weekdays"} if each == "weekdays" else each for each in calendars]
    moved = [{"type": each} if isinstance(each, str) else each for each in moved]
    moved = [each | {"policy": "move"} for each in moved]
    assert firings(cron_recurrence("0 * * * *", "UTC"), moved, "2026-01-05T10:00:00Z", 1) == []


def test_years_are_looked_at_for_an_open_instant():
    first = at("2026-01-01T00:00:00Z")
    dates = [(first + timedelta(days=each)).date().isoformat() for each in range(1099)]
    assert LOOKED_AT == 1098
    held = [{"type": "holidays", "dates": dates[n : n + 1000]} for n in (0, 1000)]
    assert opens("UTC", "2026-01-03T00:00:00Z", *held) == "2029-01-04T00:00:00+00:00"
    assert opens("UTC", "2026-01-02T00:00:00Z", *held) is None
    assert opens("UTC", "2025-12-31T00:00:00Z", *held) == "2025-12-31T00:00:00+00:00"


def test_days_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr(opening, "_KEPT", 2)
    hours = times("Asia/Kathmandu", "business_hours")
    for each in range(7):
        moment = to_micros(at(f"2026-01-{5 + each:02}T06:00:00Z"))
        assert bool(hours.piece(moment).closed_by) == (each > 4)
        assert len(hours._days) <= 2


def test_how_long_it_stays_open():
    hours = times("UTC", "business_hours")
    five = to_micros(at("2026-01-05T16:59:00Z"))
    assert hours.open_for(five, DAY) == 60_000_000
    assert hours.open_for(five, 60_000_000) == 60_000_000
    assert hours.open_for(five, 59_999_999) == 59_999_999
    always = times("UTC", {"type": "weekdays", "days": DAYS})
    assert always.open_for(five, 3 * DAY) == 3 * DAY


def test_reason_is_the_name_of_the_first_calendar_that_is_closed():
    named = {"type": "holidays", "dates": ["01-06"], "name": "epiphany", "policy": "move"}
    found = times("UTC", named, "business_hours")
    night, day, open_ = (
        to_micros(at(f"2026-01-0{d}T{h}:00:00Z")) for d, h in [(6, "03"), (6, "12"), (7, "12")]
    )
    assert [found.piece(each).closed_by for each in (night, day, open_)] == [
        "epiphany",
        "epiphany",
        "",
    ]
    assert [found.piece(each).skips for each in (night, day, open_)] == [True, False, False]


def test_time_of_day_counts_from_midnight():
    assert [seconds_of(each) for each in ("00:00", "01:02", "01:02:03", "24:00")] == [
        0,
        3720,
        3723,
        86400,
    ]


# --- the oracle ----------------------------------------------------------------------------------

ZONES = st.sampled_from(["UTC", BERLIN, "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
policies = st.sampled_from(["skip", "move"])
clock = st.integers(0, 23).map(lambda h: f"{h:02}:00") | st.sampled_from(
    ["01:30", "02:30", "24:00"]
)
days = st.lists(st.sampled_from(DAYS), min_size=1, max_size=7, unique=True)
CALENDAR = st.one_of(
    st.fixed_dictionaries({"type": st.just("weekdays"), "days": days, "policy": policies}),
    st.tuples(st.sampled_from(["business_hours", "blackout_hours"]), clock, clock, days, policies)
    .filter(lambda told: told[1] != "24:00" and told[1] != told[2])
    .map(lambda told: dict(zip(("type", "from_time", "to_time", "days", "policy"), told, strict=True))),
    st.fixed_dictionaries(
        {
            "type": st.just("holidays"),
            "dates": st.lists(st.sampled_from(["2026-03-29", "03-30", "10-25", "2026-10-26", "2026-11-01"]), min_size=1),
            "policy": policies,
        }
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("blackout"),
            "start_at": st.sampled_from(["2026-03-28T12:00:00Z", "2026-10-24T23:07:00Z"]),
            "end_at": st.sampled_from(["2026-10-26T05:00:00Z", "2026-10-31T12:00:00Z"]),
            "policy": policies,
        }
    ),
)  # fmt: skip
BASES = st.sampled_from(
    [
        cron_recurrence("*/30 * * * *", BERLIN),
        cron_recurrence("30 2 * * *", BERLIN),
        interval_recurrence(timedelta(minutes=95), at("2026-01-01T00:00:00Z")),
        rrule_recurrence("FREQ=HOURLY;INTERVAL=5", BERLIN, at("2026-01-01T00:00:00Z")),
        OnceRecurrence(at("2026-10-25T01:00:00Z")),
    ]
)
STARTS = st.sampled_from([at("2026-03-27T20:00:00Z"), at("2026-10-24T02:00:00Z")])


def is_closed(calendar, zone, instant):
    """What a person says who looks at the clock on the wall."""
    wall = instant.astimezone(ZoneInfo(zone))
    match calendar["type"]:
        case "weekdays":
            return DAYS[wall.weekday()] not in calendar["days"]
        case "holidays":
            return bool({wall.date().isoformat(), wall.strftime("%m-%d")} & set(calendar["dates"]))
        case "blackout":
            return at(calendar["start_at"]) <= instant < at(calendar["end_at"])
    second = wall.hour * 3600 + wall.minute * 60 + wall.second
    begin, end = (seconds_of(calendar[each]) for each in ("from_time", "to_time"))
    today = DAYS[wall.weekday()] in calendar["days"]
    yesterday = DAYS[wall.weekday() - 1] in calendar["days"]
    if begin < end:
        inside = today and begin <= second < end
    else:
        inside = (today and second >= begin) or (yesterday and second < end)
    return inside == (calendar["type"] == "blackout_hours")


def brute_force(base, calendars, zone, after, until):
    """Occurrences due between two instants and where they come, minute by minute."""
    moved: dict[datetime, datetime] = {}
    left = set()
    occurrence = base.next(after)
    while occurrence is not None and occurrence.due <= until:
        due = occurrence.due
        closing = [each for each in calendars if is_closed(each, zone, due)]
        if any(each["policy"] == "skip" for each in closing):
            left.add(due)
        else:
            target = due
            while any(is_closed(each, zone, target) for each in calendars):
                target += MINUTE
                if target > until:
                    return moved, left, due
            left |= {earlier for where, earlier in moved.items() if where == target}
            moved[target] = due
        occurrence = base.next(due)
    return moved, left, until


@settings(max_examples=40)
@given(BASES, st.lists(CALENDAR, min_size=1, max_size=3), ZONES, STARTS)
@example(
    cron_recurrence("*/30 * * * *", BERLIN),
    [{"type": "business_hours", "from_time": "01:30", "to_time": "02:30", "days": DAYS, "policy": "move"}],
    BERLIN,
    at("2026-10-24T02:00:00Z"),
)  # fmt: skip
def test_occurrences_are_those_of_the_oracle(base, calendars, zone, after):
    moved, left, seen = brute_force(base, calendars, zone, after, after + timedelta(days=3))
    by_due = {due: where for where, due in moved.items()}
    under = observed(base, read(calendars), zone)
    found = []
    occurrence = under.next(after)
    while occurrence is not None and occurrence.falls <= seen and occurrence.due < seen:
        found.append(occurrence)
        occurrence = under.next(occurrence.due)
    expected = {due: where for due, where in by_due.items() if due < seen}
    if found and expected:
        assert {each.due: each.falls for each in found} == {
            due: where for due, where in expected.items() if where <= seen
        }
    for one, following in pairwise(found):
        assert one.falls < following.due
        assert under.previous(following.due) == one
        assert {each.due for each in _between(base, one.due, following.due)} <= left
        between = list(under.left_out(one.due, following.due))
        count = len(_between(base, one.due, following.due))
        assert sum(each.instants for each in between if each.instants) == count
    for each in found:
        assert bool(each.because) == (each.falls != each.due)


def _between(base, after, before):
    found = []
    occurrence = base.next(after)
    while occurrence is not None and occurrence.due < before:
        found.append(occurrence)
        occurrence = base.next(occurrence.due)
    return found


# --- what is left out ----------------------------------------------------------------------------

HOURLY = cron_recurrence("0 * * * *", "UTC")


def test_what_is_left_out_is_told_by_reason():
    fest = {"type": "holidays", "dates": ["2026-01-07"], "name": "fest"}
    under = observed(HOURLY, read(["business_hours", fest]), "UTC")
    found = list(under.left_out(at("2026-01-05T16:00:00Z"), at("2026-01-08T09:00:00Z")))
    assert found == [
        stretch("2026-01-05T17:00:00Z", "2026-01-06T08:00:00Z", 16, "business_hours"),
        stretch("2026-01-06T17:00:00Z", "2026-01-07T08:00:00Z", 16, "business_hours"),
        stretch("2026-01-07T09:00:00Z", "2026-01-07T16:00:00Z", 8, "fest"),
        stretch("2026-01-07T17:00:00Z", "2026-01-08T08:00:00Z", 16, "business_hours"),
    ]


def test_what_is_moved_together_leaves_the_last():
    under = observed(
        HOURLY, read([{"type": "business_hours", "policy": "move", "from_time": "09:30"}]), "UTC"
    )
    last = under.next(at("2026-01-09T17:30:00Z"))
    assert (last.due, last.falls) == (at("2026-01-12T09:00:00Z"), at("2026-01-12T09:30:00Z"))
    assert last.because == "business_hours"
    assert list(under.left_out(at("2026-01-09T16:00:00Z"), last.due)) == [
        stretch("2026-01-09T17:00:00Z", "2026-01-12T08:00:00Z", 64, "superseded")
    ]
    assert list(under.left_out(at("2026-01-09T16:00:00Z"), at("2026-01-09T17:00:00Z"))) == []
    assert under.previous(last.due).due == at("2026-01-09T16:00:00Z")
    assert under.previous(last.due + TICK) == last


def test_one_that_is_skipped_among_those_moved_leaves_the_last_moved():
    calendars = [
        {"type": "weekdays", "policy": "move"},
        {"type": "blackout_hours", "from_time": "20:00", "to_time": "24:00"},
    ]
    under = observed(HOURLY, read(calendars), "UTC")
    found = under.next(at("2026-01-10T05:00:00Z"))
    assert (found.due, found.falls) == (at("2026-01-12T00:00:00Z"), at("2026-01-12T00:00:00Z"))
    bare = observed(cron_recurrence("0 1-23 * * *", "UTC"), read(calendars), "UTC")
    found = bare.next(at("2026-01-10T05:00:00Z"))
    assert (found.due, found.falls) == (at("2026-01-11T19:00:00Z"), at("2026-01-12T00:00:00Z"))


def test_labels_left_alone_are_in_no_range():
    under = observed(HOURLY, read(["weekdays"]), "UTC")
    away = {"2026-01-10T02:00:00[UTC]"}
    found = list(under.left_out(at("2026-01-10T00:00:00Z"), at("2026-01-10T05:00:00Z"), away))
    assert found == [
        stretch("2026-01-10T01:00:00Z", "2026-01-10T01:00:00Z", 1, "weekdays"),
        stretch("2026-01-10T03:00:00Z", "2026-01-10T04:00:00Z", 2, "weekdays"),
    ]


@pytest.mark.parametrize(("number", "told"), [(1000, 1000), (1001, None), (5000, None)])
def test_very_many_are_not_counted(number, told):
    secondly = interval_recurrence(timedelta(seconds=1), at("2026-01-10T00:00:00Z"))
    under = observed(secondly, read(["weekdays"]), "UTC")
    begin = at("2026-01-10T10:00:00Z")
    last = begin + timedelta(seconds=number)
    (found,) = under.left_out(begin, last + TICK)
    assert found == LeftOut(begin + timedelta(seconds=1), last, told, "weekdays")
    (found,) = under.left_out(begin, last + TICK, {"elsewhere"})
    assert found.instants == number


def test_very_many_over_several_days_are_one_range():
    secondly = interval_recurrence(timedelta(seconds=1), at("2026-01-10T00:00:00Z"))
    under = observed(secondly, read(["weekdays"]), "UTC")
    (found,) = under.left_out(at("2026-01-09T23:59:59Z"), at("2026-01-12T00:00:00Z"))
    assert found == stretch("2026-01-10T00:00:00Z", "2026-01-11T23:59:59Z", None, "weekdays")
    assert observing.COUNTED == 1000


def test_very_many_that_are_superseded_stop_before_the_one_that_comes():
    tens = interval_recurrence(timedelta(seconds=45), at("2026-01-10T00:00:00Z"))
    under = observed(tens, read([{"type": "weekdays", "policy": "move"}]), "UTC")
    (found,) = under.left_out(at("2026-01-10T00:00:00Z"), at("2026-01-13T00:00:00Z"))
    assert found == stretch("2026-01-10T00:00:45Z", "2026-01-11T23:59:15Z", None, "superseded")


def test_what_nothing_ever_opens_for_is_left_out_by_its_calendar():
    never = [{"type": "blackout_hours", "from_time": "00:00", "to_time": "24:00", "policy": "move"}]
    under = observed(HOURLY, read(never), "UTC")
    (found,) = under.left_out(at("2026-01-10T00:00:00Z"), at("2026-01-10T02:30:00Z"))
    assert found == stretch("2026-01-10T01:00:00Z", "2026-01-10T02:00:00Z", 2, "blackout_hours")
    assert under.previous(at("2026-01-10T00:00:00Z")) is None


def test_nothing_is_before_the_first():
    once = OnceRecurrence(at("2026-01-10T00:00:00Z"))
    under = observed(once, read([{"type": "weekdays", "policy": "move"}]), "UTC")
    assert under.previous(at("2026-01-10T00:00:00Z")) is None
    assert under.previous(at("2026-01-11T00:00:00Z")).falls == at("2026-01-12T00:00:00Z")
    assert under.next(at("2026-01-10T00:00:00Z")) is None
    skipping = observed(once, read(["weekdays"]), "UTC")
    assert skipping.next(at("2026-01-09T00:00:00Z")) is None
    assert skipping.previous(at("2026-01-12T00:00:00Z")) is None


# --- cases of another scheduler ------------------------------------------------------------------


def test_hours_that_another_scheduler_excludes_are_a_blackout():
    case = CASES["TestSpecExclude"]
    (spec,) = case["spec"]["intervals"]
    base = interval_recurrence(timedelta(seconds=spec["every_s"]), EPOCH)
    hours = {"type": "blackout_hours", "from_time": "12:00", "to_time": "15:00"}
    assert case["spec"]["exclude_hours"] == "12-14"
    found = firings(base, [hours], case["start"] + "Z", len(case["next"]))
    assert [each.due for each in found] == [at(each + "Z") for each in case["next"]]


def test_what_another_scheduler_excludes_all_of_ends():
    case = CASES["TestExcludeAll"]
    (spec,) = case["spec"]["intervals"]
    base = interval_recurrence(timedelta(seconds=spec["every_s"]), EPOCH)
    assert case["spec"]["exclude_hours"] == "*"
    always = {"type": "blackout_hours", "from_time": "00:00", "to_time": "24:00"}
    assert firings(base, [always], case["start"] + "Z", 1) == case["next"] == []


def test_every_case_of_calendars_is_told():
    assert {name for name, case in CASES.items() if "exclude_hours" in case["spec"]} == {
        "TestSpecExclude",
        "TestExcludeAll",
    }
