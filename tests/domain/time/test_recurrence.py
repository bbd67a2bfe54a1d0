from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from horae_domain.errors import InvalidTrigger
from horae_domain.recurrence import (
    CronRecurrence,
    IntervalRecurrence,
    Occurrence,
    OnceRecurrence,
    cron_recurrence,
    preview,
    span,
)

SPECS = json.loads(
    (Path(__file__).parents[2] / "cases" / "interval_calendar_spec.json").read_text()
)["cases"]
TICK = timedelta(microseconds=1)


def at(text):
    return datetime.fromisoformat(text)


def fires(expression, zone, after, count=3, **options):
    found = preview(cron_recurrence(expression, zone, **options), at(after), count)
    return [one.due.astimezone(cron_zone(zone)).isoformat()[5:] for one in found]


def cron_zone(name):
    from horae_domain.zones import load_zone

    return load_zone(name)


def test_a_fixed_time_fires_once_at_the_first_instant_after_a_gap():
    found = preview(cron_recurrence("30 2 * * *", "Europe/Berlin"), at("2026-03-28T12:00Z"), 2)
    assert [one.due for one in found] == [at("2026-03-29T01:00Z"), at("2026-03-30T00:30Z")]
    assert found[0].nominal == "2026-03-29T02:30:00[Europe/Berlin]"


def test_times_left_out_by_one_gap_fire_once_together_with_the_time_after_it():
    assert fires("0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:59Z", 3) == [
        "03-29T03:00:00+02:00",
        "03-29T03:30:00+02:00",
        "03-30T02:00:00+02:00",
    ]
    shown = preview(cron_recurrence("0 2,3 * * *", "Europe/Berlin"), at("2026-03-29T00:59Z"), 1)
    assert shown[0].nominal == "2026-03-29T03:00:00[Europe/Berlin]"


def test_a_gap_may_be_skipped_or_shift_the_time():
    assert fires("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 1, gap="skip") == [
        "03-30T02:30:00+02:00"
    ]
    assert fires("20 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 2, gap="shift") == [
        "03-29T03:20:00+02:00",
        "03-30T02:20:00+02:00",
    ]
    assert fires("20,40 2 * * *", "Europe/Berlin", "2026-03-29T01:30Z", 1, gap="shift") == [
        "03-29T03:40:00+02:00"
    ]


@pytest.mark.parametrize(
    ("overlap", "firings"),
    [
        ("first", [("00:30", ""), ("25:30", "")]),
        ("last", [("01:30", "/1"), ("25:30", "")]),
        ("both", [("00:30", ""), ("01:30", "/1")]),
    ],
)
def test_a_fixed_time_in_an_overlap_fires_in_the_passes_asked_for(overlap, firings):
    recurrence = cron_recurrence("30 2 * * *", "Europe/Berlin", overlap=overlap)
    midnight = at("2026-10-25T00:00Z")
    for found, (time, fold) in zip(preview(recurrence, midnight, 2), firings, strict=True):
        hours, minutes = time.split(":")
        assert found.due == midnight + timedelta(hours=int(hours), minutes=int(minutes))
        assert found.nominal.removesuffix(fold).endswith(":00[Europe/Berlin]")


def test_the_last_pass_of_an_overlap_leaves_out_the_first_however_far_the_walk_comes_from():
    assert fires("59 2 25 10 *", "Europe/Berlin", "2025-11-01T00:00Z", 1, overlap="last") == [
        "10-25T02:59:00+01:00"
    ]


@pytest.mark.parametrize("options", [{}, {"gap": "edge", "overlap": "first"}, {"overlap": "last"}])
def test_a_time_with_a_star_follows_elapsed_time_whatever_is_asked(options):
    assert fires("*/30 2 * * *", "Europe/Berlin", "2026-10-25T00:00Z", 4, **options) == [
        "10-25T02:30:00+02:00",
        "10-25T02:00:00+01:00",
        "10-25T02:30:00+01:00",
        "10-26T02:00:00+01:00",
    ]
    assert fires("30 */2 * * *", "Europe/Berlin", "2026-03-28T23:00Z", 2, **options) == [
        "03-29T00:30:00+01:00",
        "03-29T04:30:00+02:00",
    ]


def test_six_fields_follow_the_wall_clock_unless_a_policy_is_asked_for():
    assert fires("0 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 1) == [
        "03-30T02:30:00+02:00"
    ]
    assert fires("0 30 2 * * *", "Europe/Berlin", "2026-10-25T00:00Z", 2) == [
        "10-25T02:30:00+02:00",
        "10-25T02:30:00+01:00",
    ]
    assert fires("5 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", 1, gap="edge") == [
        "03-29T03:00:00+02:00"
    ]


@pytest.mark.parametrize(
    ("zone", "expression", "after", "firings"),
    [
        (
            "Australia/Lord_Howe",
            "10 */6 * * *",
            "2026-04-04T10:00:00Z",
            ["04-05T00:10:00+11:00", "04-05T06:10:00+10:30"],
        ),
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2026-10-03T10:00:00Z",
            ["10-04T02:30:00+11:00", "10-05T02:15:00+11:00"],
        ),
        (
            "Asia/Beirut",
            "0 0 * * *",
            "2026-03-28T12:00:00Z",
            ["03-29T01:00:00+03:00", "03-30T00:00:00+03:00"],
        ),
        (
            "America/Asuncion",
            "30 23 * * *",
            "2023-03-25T12:00:00Z",
            ["03-25T23:30:00-03:00", "03-26T23:30:00-04:00"],
        ),
        (
            "America/Asuncion",
            "*/30 23 * * 6",
            "2023-03-26T02:00:00Z",
            ["03-25T23:30:00-03:00", "03-25T23:00:00-04:00"],
        ),
        (
            "Pacific/Apia",
            "0 12 * * *",
            "2011-12-29T12:00:00Z",
            ["12-29T12:00:00-10:00", "12-31T00:00:00+14:00"],
        ),
        (
            "Pacific/Apia",
            "0 0 * * *",
            "2011-12-30T09:00:00Z",
            ["12-31T00:00:00+14:00", "01-01T00:00:00+14:00"],
        ),
    ],
)
def test_unusual_changes_of_the_clocks(zone, expression, after, firings):
    assert fires(expression, zone, after, 2) == firings


def test_the_occurrence_is_the_same_whichever_zone_the_instant_is_told_in():
    recurrence = cron_recurrence("0 9 * * *", "America/New_York")
    east = datetime(2026, 7, 1, 23, 0, 0, 5, tzinfo=timezone(timedelta(hours=9)))
    assert recurrence.next(east) == recurrence.next(east.astimezone(UTC))
    assert recurrence.next(at("2026-07-01T13:00:00Z") - TICK).due == at("2026-07-01T13:00:00Z")
    assert recurrence.next(at("2026-07-01T13:00:00Z")).due == at("2026-07-02T13:00:00Z")


def test_schedules_that_share_an_expression_share_its_recurrence():
    assert cron_recurrence("0 9 * * *", "Asia/Tokyo") is cron_recurrence("0 9 * * *", "Asia/Tokyo")


def test_time_has_an_end_and_a_beginning():
    daily = cron_recurrence("0 0 * * *", "America/New_York")
    assert daily.next(datetime.max.replace(tzinfo=UTC)) is None
    assert daily.next(at("9900-12-31T12:00:00Z")) is None
    assert daily.next(datetime.min.replace(tzinfo=UTC)).nominal.startswith("0010-01-0")
    assert daily.previous(datetime.min.replace(tzinfo=UTC)) is None
    yearly = cron_recurrence("0 0 1 1 *", "UTC")
    assert yearly.next(at("9900-06-01T00:00:00Z")) is None
    weekly = cron_recurrence("0 12 31 12 *", "UTC")
    assert weekly.next(at("9900-12-31T13:00:00Z")) is None


def test_the_longest_wait_is_found_both_ways():
    rare = cron_recurrence("0 0 29 2 */7", "Europe/Berlin")
    assert rare.next(at("2088-03-01T00:00:00Z")).nominal.startswith("2128-02-29")
    assert rare.previous(at("2128-02-28T23:00:00Z")).nominal.startswith("2088-02-29")
    assert rare.previous(at("2128-02-28T23:00:00Z") + TICK).nominal.startswith("2128-02-29")


def test_an_instant_matches_in_its_minute_or_with_six_fields_in_its_second():
    assert cron_recurrence("30 2 * * *", "UTC").matches(at("2026-01-01T02:30:59Z"))
    assert not cron_recurrence("30 2 * * *", "UTC").matches(at("2026-01-01T02:31:00Z"))
    assert cron_recurrence("5 30 2 * * *", "UTC").matches(at("2026-01-01T02:30:05.9Z"))
    assert not cron_recurrence("5 30 2 * * *", "UTC").matches(at("2026-01-01T02:30:06Z"))
    assert not cron_recurrence("0 0 * * *", "UTC").matches(datetime.max.replace(tzinfo=UTC))


expressions = st.sampled_from(
    ["30 2 * * *", "*/20 1-3 * * *", "0 0 * * 0", "15 2 29 3 *", "7 30 2 * * *", "59 23 L * *"]
)
zones = st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "Asia/Beirut", "Pacific/Apia"])
gaps = st.sampled_from([None, "edge", "skip", "shift"])
overlaps = st.sampled_from([None, "first", "last", "both"])
instants = st.integers(1_262_304_000 * 10**6, 1_900_000_000 * 10**6).map(
    lambda micros: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
)


@given(expressions, zones, gaps, overlaps, instants, st.floats(0, 1))
@settings(max_examples=300)
def test_the_next_is_later_and_the_same_from_anywhere_before_it(
    expression, zone, gap, overlap, now, part
):
    recurrence = cron_recurrence(expression, zone, gap, overlap)
    found = recurrence.next(now)
    assert found.due > now
    between = now + (found.due - TICK - now) * part
    assume(now <= between < found.due)
    assert CronRecurrence(expression, zone, gap, overlap).next(between) == found
    assert recurrence.next(between) == found
    assert recurrence.previous(found.due + TICK) == found
    before = recurrence.previous(found.due)
    assert before.due <= now
    assert recurrence.next(before.due) == found


@given(expressions, zones, gaps, overlaps, st.lists(instants, min_size=2, max_size=9))
def test_what_was_asked_before_does_not_change_the_answer(expression, zone, gap, overlap, moments):
    asked = CronRecurrence(expression, zone, gap, overlap)
    for moment in [*moments, asked.next(moments[-1]).due, moments[-1] - TICK]:
        assert asked.next(moment) == CronRecurrence(expression, zone, gap, overlap).next(moment)


steps = st.integers(1, 10**13).map(lambda micros: timedelta(microseconds=micros))


@given(steps, instants, instants)
def test_an_interval_keeps_to_its_anchor_without_drift(every, anchor, after):
    found = IntervalRecurrence(every, anchor).next(after)
    assert after < found.due <= after + every
    assert (found.due - anchor) % every == timedelta(0)


def test_an_interval_is_labelled_by_its_instant():
    recurrence = IntervalRecurrence(timedelta(milliseconds=100), at("2026-01-01T01:00+01:00"))
    assert recurrence.next(at("2026-01-01T00:00:00Z")).nominal == "2026-01-01T00:00:00.100000Z"
    assert recurrence.next(datetime.max.replace(tzinfo=UTC)) is None


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(InvalidTrigger, match="longer than zero"):
        IntervalRecurrence(timedelta(0), at("2026-01-01T00:00Z"))


def test_once_is_once():
    once = OnceRecurrence(at("2026-12-01T09:00:00Z"))
    assert preview(once, at("2026-11-01T00:00:00Z"), 5) == [
        Occurrence(at("2026-12-01T09:00:00Z"), "2026-12-01T09:00:00Z")
    ]
    assert once.next(at("2026-12-01T09:00:00Z")) is None


def test_a_span_excludes_its_beginning_includes_its_end_and_is_bounded():
    hourly = IntervalRecurrence(timedelta(hours=1), at("2026-01-01T00:00Z"))
    start, end = at("2026-01-01T00:00Z"), at("2026-01-01T03:00Z")
    assert [one.due.hour for one in span(hourly, start, end, 10)] == [1, 2, 3]
    assert [one.due.hour for one in span(hourly, start, end, 2)] == [1, 2]
    assert span(hourly, start, end, 0) == []
    assert preview(hourly, start, 0) == []
    assert span(OnceRecurrence(end), start, end, 10) == [Occurrence(end, "2026-01-01T03:00:00Z")]


def test_the_previous_one_is_the_last_strictly_before():
    hourly = IntervalRecurrence(timedelta(hours=1), at("2026-01-01T00:00Z"))
    once = OnceRecurrence(at("2026-01-01T03:00Z"))
    for recurrence in (hourly, once):
        assert recurrence.previous(at("2026-01-01T03:00:00.000001Z")).due == at("2026-01-01T03:00Z")
    assert hourly.previous(at("2026-01-01T03:00Z")).due == at("2026-01-01T02:00Z")
    assert hourly.previous(at("2026-01-01T00:00Z")).due == at("2025-12-31T23:00Z")
    assert once.previous(at("2026-01-01T03:00Z")) is None


@pytest.mark.parametrize(
    "case",
    [case for case in SPECS if set(case["spec"]) <= {"intervals", "crons", "end_time"}],
    ids=lambda case: case["id"],
)
def test_unions_of_intervals_and_crons_of_another_scheduler(case):
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    spec = case["spec"]
    recurrences = [
        IntervalRecurrence(
            timedelta(seconds=one["every_s"]), epoch + timedelta(seconds=one["phase_s"])
        )
        for one in spec.get("intervals", [])
    ] + [cron_recurrence(text, case["tz"]) for text in spec.get("crons", [])]
    start = at(case["start"]).replace(tzinfo=UTC)
    wanted = [at(text).replace(tzinfo=UTC) for text in case["next"]]
    end = at(spec["end_time"]).replace(tzinfo=UTC) if "end_time" in spec else wanted[-1]
    found = {one.due for each in recurrences for one in span(each, start, end, 1000)}
    assert sorted(found) == wanted
