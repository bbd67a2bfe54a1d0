import json
import sys
from datetime import UTC, datetime, time, timedelta
from itertools import islice
from pathlib import Path

import pytest
from dateutil.rrule import rrulestr
from hypothesis import given, settings
from hypothesis import strategies as st

from horae_domain.definition import parse_definition
from horae_domain.errors import InvalidTrigger
from horae_domain.occurrences import next_occurrence
from horae_domain.recurrence import preview
from horae_domain.rrule_text import MAX_COUNT
from horae_domain.rrules import check_rule, rrule_recurrence
from horae_domain.zones import load_zone

FILE = json.loads((Path(__file__).parents[2] / "cases" / "rrule.json").read_text())
ANCHOR = datetime(1997, 9, 2, 9, tzinfo=UTC)
"""What the cases without DTSTART begin at."""
LONG_AGO = datetime(1990, 1, 1, tzinfo=UTC)


def text_of(case):
    if case["kind"] != "rruleset":
        return case.get("rule") or case["text"]
    told = case["rruleset"]
    start = told["rrule"][0].split("\n")[0]
    rules = [each.split("\n")[1] for each in told["rrule"]]
    dates = {"RDATE": told["rdate"], "EXDATE": told["exdate"]}
    plain = [
        f"{name}:" + each.replace("-", "").replace(":", "")
        for name, all_ in dates.items()
        for each in all_
    ]
    return "\n".join([start, *rules, *plain])


def not_ours(case):
    return "TZID" in text_of(case) and "tzids" in case["opts"]


@pytest.mark.parametrize("case", FILE["cases"], ids=text_of)
def test_cases_of_dateutil(case):
    if not_ours(case):
        pytest.skip("zones have the names of IANA alone")
    recurrence = rrule_recurrence(text_of(case), "UTC", ANCHOR)
    expected = [datetime.fromisoformat(each).replace(tzinfo=UTC) for each in case["expected"]]
    found = preview(recurrence, LONG_AGO, len(expected) + 1)
    assert [each.due for each in found][: len(expected)] == expected
    before, back = expected[-1] + timedelta(seconds=1), []
    while (one := recurrence.previous(before)) is not None:
        back.append(one)
        before = one.due
    assert back[::-1] == found[: len(expected)]


@pytest.mark.parametrize("case", FILE["invalid"], ids=lambda case: case["text"])
def test_what_dateutil_refuses_is_refused(case):
    if "tzids" in case["opts"]:
        pytest.skip("zones have the names of IANA alone")
    with pytest.raises(InvalidTrigger) as caught:
        rrule_recurrence(case["text"], "UTC", ANCHOR)
    assert caught.value.field == "trigger.rule"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "RRULE or an RDATE"),
        ("DTSTART:20260101T000000", "RRULE or an RDATE"),
        ("RRULE:FREQ=DAILY;INTERVAL=0", "INTERVAL"),
        (f"RRULE:FREQ=DAILY;COUNT={MAX_COUNT + 1}", "COUNT"),
        ("RRULE:FREQ=DAILY;COUNT=x", "COUNT"),
        ("RRULE:FREQ=DAILY;COUNT=1;UNTIL=20260101T000000", "COUNT or an UNTIL"),
        ("RRULE:FREQ=DAILY;FREQ=DAILY", "once"),
        ("RRULE:INTERVAL=2", "FREQ"),
        ("RRULE:FREQ=FORTNIGHTLY", "no rule"),
        ("RRULE:FREQ=DAILY;BYPHASE=1", "no rule"),
        ("RRULE:FREQ=DAILY;BYHOUR=25;BYMONTH=A", "no rule"),
        ("RRULE:FREQ=DAILY;UNTIL=tomorrow", "UNTIL"),
        ("DTSTART:20260101T000000\nDTSTART:20260101T000000\nRRULE:FREQ=DAILY", "one DTSTART"),
        ("DTSTART:20260230T000000\nRRULE:FREQ=DAILY", "does not exist"),
        ("DTSTART;TZID=Mars/Olympus:20260101T000000\nRRULE:FREQ=DAILY", "IANA"),
        ("DTSTART;X=1:20260101T000000\nRRULE:FREQ=DAILY", "parameter X"),
        ("DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY;UNTIL=20270101T000000", "in UTC"),
        ("DTSTART:20260101T000000\nRRULE:FREQ=DAILY;UNTIL=20270101T000000Z", "without Z"),
        ("RRULE:FREQ=SECONDLY;INTERVAL=48;BYSETPOS=2;BYDAY=MO", "BYSETPOS leaves nothing"),
        ("RRULE:FREQ=HOURLY;BYMINUTE=1,2;BYSETPOS=-3", "BYSETPOS leaves nothing"),
        ("SUMMARY:lunch", "SUMMARY is not known"),
        ("RDATE:" + ",".join(["20260101"] * 1001), "dates"),
        ("RRULE:FREQ=DAILY;BYMONTH=" + "1," * 6000 + "1", "characters"),
    ],
)
def test_what_is_no_usable_rule_is_refused(text, reason):
    with pytest.raises(InvalidTrigger, match=reason):
        rrule_recurrence(text, "UTC", ANCHOR)


@pytest.mark.parametrize(
    ("within", "beyond"),
    [
        ("RRULE:FREQ=DAILY;COUNT=10000", "RRULE:FREQ=DAILY;COUNT=10001"),
        ("RRULE:FREQ=DAILY;INTERVAL=999999", "RRULE:FREQ=DAILY;INTERVAL=1000000"),
        ("RDATE:" + ",".join(["20260101"] * 1000), "RDATE:" + ",".join(["20260101"] * 1001)),
        ("RRULE:FREQ=DAILY" + " " * 9_984, "RRULE:FREQ=DAILY" + " " * 9_985),
    ],
    ids=lambda text: text[:40],
)
def test_bounds_of_a_rule(within, beyond):
    check_rule(within, "UTC")
    with pytest.raises(InvalidTrigger, match=r"10,000|999,999|1,000"):
        check_rule(beyond, "UTC")


def test_dates_that_are_added_and_left_out_are_counted_together():
    text = "RDATE:{}\nEXDATE:" + ",".join(["20260101"] * 500)
    check_rule(text.format(",".join(["20260101"] * 500)), "UTC")
    with pytest.raises(InvalidTrigger, match="1,000 dates"):
        check_rule(text.format(",".join(["20260101"] * 501)), "UTC")


def first_of(rule, after=ANCHOR, start="20260101T000000"):
    found = rrule_recurrence(f"DTSTART:{start}\nRRULE:{rule}", "UTC", ANCHOR).next(after)
    return found and found.due.isoformat()[:19]


@pytest.mark.parametrize(
    ("rule", "after", "found"),
    [
        # by years and months, from far away: the rule begins anew in step with its start
        ("FREQ=YEARLY;INTERVAL=3", "2040-01-01", "2041-01-01T00:00:00"),
        ("FREQ=YEARLY;INTERVAL=3", "2040-12-31", "2041-01-01T00:00:00"),
        ("FREQ=YEARLY;INTERVAL=3", "2041-01-01", "2044-01-01T00:00:00"),
        ("FREQ=MONTHLY;INTERVAL=5", "2030-01-01", "2030-03-01T00:00:00"),
        ("FREQ=MONTHLY;INTERVAL=5", "2030-03-01", "2030-08-01T00:00:00"),
        ("FREQ=MONTHLY;INTERVAL=12", "2030-12-31", "2031-01-01T00:00:00"),
        ("FREQ=WEEKLY;INTERVAL=2", "2030-01-01", "2030-01-10T00:00:00"),
        ("FREQ=DAILY;INTERVAL=10", "2030-01-01", "2030-01-10T00:00:00"),
        # what a rule takes from its start stays as it was there
        ("FREQ=YEARLY;BYMONTH=3", "2030-01-01", "2030-03-01T00:00:00"),
        ("FREQ=YEARLY;BYHOUR=5", "2030-01-02", "2031-01-01T05:00:00"),
        ("FREQ=MONTHLY;BYHOUR=5", "2030-01-02", "2030-02-01T05:00:00"),
        ("FREQ=WEEKLY;BYHOUR=5", "2030-01-01", "2030-01-03T05:00:00"),
        # days
        ("FREQ=HOURLY;BYYEARDAY=-1", "2027-06-01", "2027-12-31T00:00:00"),
        ("FREQ=HOURLY;BYYEARDAY=-1", "2028-06-01", "2028-12-31T00:00:00"),
        ("FREQ=HOURLY;BYYEARDAY=60", "2028-01-01", "2028-02-29T00:00:00"),
        ("FREQ=HOURLY;BYYEARDAY=366", "2026-06-01", "2028-12-31T00:00:00"),
        ("FREQ=HOURLY;BYYEARDAY=-366", "2026-06-01", "2028-01-01T00:00:00"),
        ("FREQ=HOURLY;BYMONTHDAY=-1", "2027-02-01", "2027-02-28T00:00:00"),
        ("FREQ=HOURLY;BYMONTHDAY=-29", "2027-01-31", "2027-03-03T00:00:00"),
        ("FREQ=HOURLY;BYEASTER=1", "2026-01-01", "2026-04-06T00:00:00"),
        ("FREQ=HOURLY;BYEASTER=-2", "2027-01-01", "2027-03-26T00:00:00"),
        ("FREQ=HOURLY;BYWEEKNO=1", "2026-06-01", "2027-01-04T00:00:00"),
        ("FREQ=HOURLY;BYWEEKNO=53", "2027-06-01", "2032-12-27T00:00:00"),
        ("FREQ=HOURLY;BYWEEKNO=-1", "2027-06-01", "2027-12-27T00:00:00"),
        ("FREQ=HOURLY;BYWEEKNO=1;WKST=SU", "2026-06-01", "2027-01-03T00:00:00"),
        ("FREQ=HOURLY;BYWEEKNO=1;WKST=SU", "2026-01-05", "2026-01-05T01:00:00"),
        # places within an hour
        ("FREQ=HOURLY;BYMINUTE=10,20,30;BYSETPOS=2", "2026-01-01", "2026-01-01T00:20:00"),
        ("FREQ=HOURLY;BYMINUTE=10,20,30;BYSETPOS=-1", "2026-01-01", "2026-01-01T00:30:00"),
        ("FREQ=HOURLY;BYMINUTE=10,20,30;BYSETPOS=-3", "2026-01-01", "2026-01-01T00:10:00"),
        ("FREQ=MINUTELY;BYSECOND=5,50;BYSETPOS=-1", "2026-01-01", "2026-01-01T00:00:50"),
    ],
)  # fmt: skip
def test_the_next_of_a_rule(rule, after, found):
    assert first_of(rule, datetime.fromisoformat(after).replace(tzinfo=UTC)) == found


@pytest.mark.parametrize(
    ("rule", "after", "found"),
    [
        ("FREQ=YEARLY", "2040-01-01", "2040-05-15T10:30:20"),
        ("FREQ=YEARLY;INTERVAL=3", "2040-06-01", "2041-05-15T10:30:20"),
        ("FREQ=YEARLY;BYMONTH=3", "2040-01-01", "2040-03-15T10:30:20"),
        ("FREQ=YEARLY;BYHOUR=4", "2040-01-01", "2040-05-15T04:30:20"),
        ("FREQ=YEARLY;BYMONTHDAY=7", "2040-01-01", "2040-01-07T10:30:20"),
        ("FREQ=MONTHLY", "2040-01-01", "2040-01-15T10:30:20"),
        ("FREQ=MONTHLY;INTERVAL=5", "2040-01-01", "2040-02-15T10:30:20"),
        ("FREQ=MONTHLY;BYMINUTE=4", "2040-01-01", "2040-01-15T10:04:20"),
        ("FREQ=MONTHLY;BYSECOND=4", "2040-01-16", "2040-02-15T10:30:04"),
        ("FREQ=WEEKLY", "2040-01-01", "2040-01-06T10:30:20"),
        ("FREQ=DAILY;BYMINUTE=4", "2040-01-01", "2040-01-01T10:04:20"),
        ("FREQ=HOURLY;BYMINUTE=4", "2040-01-01", "2040-01-01T00:04:20"),
        ("FREQ=MINUTELY", "2040-01-01", "2040-01-01T00:00:20"),
    ],
)
def test_what_a_rule_does_not_say_it_takes_from_its_start(rule, after, found):
    told = datetime.fromisoformat(after).replace(tzinfo=UTC)
    assert first_of(rule, told, start="20260515T103020") == found


def test_a_time_left_out_keeps_its_name():
    text, after = BERLIN + "RRULE:FREQ=DAILY", datetime(2026, 3, 28, 12, tzinfo=UTC)
    for gap in ("edge", "shift"):
        found = rrule_recurrence(text, "UTC", ANCHOR, gap).next(after)
        assert found.nominal == "2026-03-29T02:30:00[Europe/Berlin]"


def test_a_rule_that_counts_ends_with_its_last():
    rule = "FREQ=DAILY;COUNT=3"
    assert first_of(rule, datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-03T00:00:00"
    assert first_of(rule, datetime(2026, 1, 3, tzinfo=UTC)) is None


def test_a_rule_with_an_end_fires_at_it_and_no_more():
    for rule in ("FREQ=DAILY;UNTIL=20260103T000000", "FREQ=HOURLY;UNTIL=20260103T000000"):
        before = datetime(2026, 1, 2, 23, 30, tzinfo=UTC)
        assert first_of(rule, before) == "2026-01-03T00:00:00"
        assert first_of(rule, datetime(2026, 1, 3, tzinfo=UTC)) is None


def test_where_the_library_is_not_installed_the_refusal_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "dateutil.rrule", None)
    with pytest.raises(InvalidTrigger, match=r"horae\[rrule\]"):
        rrule_recurrence("RRULE:FREQ=DAILY;BYHOUR=1,2,3,4", "UTC", ANCHOR)


BERLIN = "DTSTART;TZID=Europe/Berlin:20260101T023000\n"


def walls(text, after, count=3, zone="Europe/Berlin", **told):
    found = preview(
        rrule_recurrence(text, zone, ANCHOR, **told), datetime.fromisoformat(after), count
    )
    return [each.due.astimezone(load_zone("Europe/Berlin")).isoformat()[5:] for each in found]


def test_a_time_in_a_gap_fires_at_its_end_unless_told_otherwise():
    text, after = BERLIN + "RRULE:FREQ=DAILY", "2026-03-28T12:00Z"
    assert walls(text, after, 2) == ["03-29T03:00:00+02:00", "03-30T02:30:00+02:00"]
    assert walls(text, after, 1, gap="skip") == ["03-30T02:30:00+02:00"]
    assert walls(text, after, 1, gap="shift") == ["03-29T03:30:00+02:00"]


def test_a_time_shown_twice_fires_in_the_first_pass_unless_told_otherwise():
    text, after = BERLIN + "RRULE:FREQ=DAILY", "2026-10-24T12:00Z"
    assert walls(text, after, 2) == ["10-25T02:30:00+02:00", "10-26T02:30:00+01:00"]
    assert walls(text, after, 1, overlap="last") == ["10-25T02:30:00+01:00"]
    assert walls(text, after, 2, overlap="both") == [
        "10-25T02:30:00+02:00", "10-25T02:30:00+01:00",
    ]  # fmt: skip
    found = preview(
        rrule_recurrence(text, "UTC", ANCHOR, overlap="both"), datetime(2026, 10, 24, 12, tzinfo=UTC), 2
    )  # fmt: skip
    assert [each.nominal for each in found] == [
        "2026-10-25T02:30:00[Europe/Berlin]",
        "2026-10-25T02:30:00[Europe/Berlin]/1",
    ]


def test_rules_below_a_day_follow_elapsed_time():
    text = BERLIN + "RRULE:FREQ=MINUTELY;INTERVAL=30"
    assert walls(text, "2026-03-29T00:29Z", 3) == [
        "03-29T01:30:00+01:00", "03-29T03:00:00+02:00", "03-29T03:30:00+02:00",
    ]  # fmt: skip
    assert walls(text, "2026-10-25T00:15Z", 4) == [
        "10-25T02:30:00+02:00", "10-25T02:00:00+01:00", "10-25T02:30:00+01:00", "10-25T03:00:00+01:00",
    ]  # fmt: skip


def test_dates_are_added_and_left_out_in_the_zone_of_the_rule():
    text = (
        BERLIN + "RRULE:FREQ=DAILY;UNTIL=20260104T020000Z\n"
        "EXDATE;TZID=America/New_York:20260101T203000\nEXDATE:20260103T013000Z\n"
        "RDATE;VALUE=DATE:20260102\n"
    )
    assert walls(text, "2025-12-01T00:00Z", 9) == [
        "01-01T02:30:00+01:00", "01-02T00:00:00+01:00", "01-04T02:30:00+01:00",
    ]  # fmt: skip


def test_a_rule_without_start_begins_with_the_schedule_in_its_zone():
    assert walls("RRULE:FREQ=WEEKLY", "2026-01-01T00:00Z", 2) == [
        "01-06T11:00:00+01:00", "01-13T11:00:00+01:00",
    ]  # fmt: skip


def test_what_leaves_out_all_that_it_has_fires_no_more():
    text = "DTSTART:20260101T000000\nRRULE:FREQ=DAILY\nEXRULE:FREQ=DAILY"
    assert rrule_recurrence(text, "UTC", ANCHOR).next(LONG_AGO) is None


@pytest.mark.parametrize(
    "rule",
    ["FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=HOURLY;INTERVAL=168;BYDAY=FR"],
)
def test_below_a_day_what_never_comes_is_none(rule):
    assert (
        rrule_recurrence(f"DTSTART:20260101T000000\nRRULE:{rule}", "UTC", ANCHOR).next(ANCHOR)
        is None
    )


@pytest.mark.parametrize(
    "rule", ["FREQ=MINUTELY;INTERVAL=1440;BYHOUR=5", "FREQ=SECONDLY;INTERVAL=2;BYSECOND=1,3"]
)
def test_a_combination_that_has_no_time_is_refused(rule):
    with pytest.raises(InvalidTrigger, match=r"combination|no rule"):
        check_rule(f"DTSTART:20260101T000000\nRRULE:{rule}", "UTC")


def test_a_rule_of_seconds_on_leap_days_is_found_by_arithmetic():
    rule = "FREQ=SECONDLY;INTERVAL=7;BYMONTH=2;BYMONTHDAY=29;BYHOUR=5;BYMINUTE=6;BYSECOND=7"
    found = rrule_recurrence(f"DTSTART:20260101T000000\nRRULE:{rule}", "UTC", ANCHOR).next(ANCHOR)
    second = datetime(2026, 1, 1, tzinfo=UTC)
    assert (found.due.month, found.due.day, found.due.time()) == (2, 29, time(5, 6, 7))
    assert (found.due - second) % timedelta(seconds=7) == timedelta()


def test_what_never_comes_is_none():
    recurrence = rrule_recurrence("RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "UTC", ANCHOR)
    assert recurrence.next(ANCHOR) is None
    assert recurrence.previous(ANCHOR) is None


def test_a_definition_has_its_rule_checked_and_its_bounds_kept():
    told = {"id": "a", "action": {"type": "function", "name": "f"}}
    trigger = {"type": "rrule", "rule": BERLIN + "RRULE:FREQ=DAILY"}
    definition = parse_definition(told | {"trigger": trigger, "dst": {"gap": "skip"}})
    found = next_occurrence(definition, ANCHOR, datetime(2026, 3, 28, 12, tzinfo=UTC), tenant="t")
    assert found.due == datetime(2026, 3, 30, 0, 30, tzinfo=UTC)
    for wrong in ({"rule": "FREQ=NEVER"}, {"rule": "FREQ=DAILY", "timezone": "Nowhere"}):
        with pytest.raises(InvalidTrigger):
            parse_definition(told | {"trigger": {"type": "rrule"} | wrong})


# --- against dateutil from the start --------------------------------------------------------------

numbers = {
    "BYMONTH": (1, 12), "BYMONTHDAY": (1, 28), "BYHOUR": (0, 23), "BYMINUTE": (0, 59),
    "BYSECOND": (0, 59), "BYSETPOS": (1, 1),
}  # fmt: skip


@st.composite
def rules(draw):
    frequency = draw(st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY"]))
    parts = [f"FREQ={frequency}", f"INTERVAL={draw(st.integers(1, 7))}"]
    for name in draw(st.sets(st.sampled_from(sorted(numbers)), max_size=3)):
        low, high = numbers[name]
        values = draw(st.lists(st.integers(low, high).filter(bool), min_size=1, max_size=4))
        parts.append(f"{name}={','.join(map(str, values))}")
    if draw(st.booleans()):
        days = draw(st.lists(st.sampled_from(["MO", "WE", "FR", "SU"]), min_size=1, max_size=3))
        parts.append(f"BYDAY={','.join(days)}")
    if any(part.startswith("BYSETPOS") for part in parts) and len(parts) == 3:
        parts = parts[:2]
    if draw(st.booleans()):
        parts.append("WKST=SU")
    return ";".join(parts)


@settings(max_examples=25, deadline=None)
@given(rules(), st.integers(0, 700), st.integers(0, 86_399), st.integers(1, 28))
def test_a_start_close_by_changes_nothing(rule, days, seconds, day):
    start = datetime(2024, 1, day, 9, 30, 15)  # noqa: DTZ001
    after = start + timedelta(days=days, seconds=seconds)
    text = f"DTSTART:{start:%Y%m%dT%H%M%S}\nRRULE:{rule}"
    try:
        naive = rrulestr(f"RRULE:{rule};UNTIL=20290101T000000", dtstart=start)
    except ValueError:  # out of step with its own hours
        with pytest.raises(InvalidTrigger):
            rrule_recurrence(text, "UTC", ANCHOR)
        return
    expected = naive.after(after)
    found = rrule_recurrence(text, "UTC", ANCHOR).next(after.replace(tzinfo=UTC))
    if expected is not None:
        assert found.due == expected.replace(tzinfo=UTC)
    else:
        assert found is None or found.due >= datetime(2029, 1, 1, tzinfo=UTC)


# --- against every step, one after another --------------------------------------------------------

SECOND = timedelta(seconds=1)
UNITS = {"HOURLY": 3600, "MINUTELY": 60, "SECONDLY": 1}
STEPS = 3_000


@st.composite
def subdaily(draw):
    """A frequency below a day, its interval and what the parts allow."""
    several = {"min_size": 1, "max_size": 20}
    numbers = {
        "BYHOUR": range(24), "BYMINUTE": range(60), "BYSECOND": range(60), "BYDAY": range(7),
        "BYMONTHDAY": range(1, 31), "BYWEEKNO": range(1, 53), "BYSETPOS": (1, 2, -1),
    }  # fmt: skip
    parts = {
        name: draw(st.sets(st.sampled_from(numbers[name]), **several))
        for name in draw(st.sets(st.sampled_from(sorted(numbers)), max_size=3))
    }
    if parts.keys() == {"BYSETPOS"}:
        parts = {}
    return draw(st.sampled_from(sorted(UNITS))), draw(st.integers(1, 100)), parts


def every_step(frequency, interval, parts, start):
    """The wall times of a rule by its definition, as far as so many steps go."""
    unit = UNITS[frequency]
    first = start - timedelta(seconds=((start - datetime(1970, 1, 1)) // SECOND) % unit)  # noqa: DTZ001
    minutes = sorted(parts.get("BYMINUTE", {start.minute}))
    seconds = sorted(parts.get("BYSECOND", {start.second}))
    inside = {
        3600: [timedelta(minutes=m, seconds=s) for m in minutes for s in seconds],
        60: [timedelta(seconds=s) for s in seconds],
        1: [timedelta()],
    }[unit]
    if chosen := parts.get("BYSETPOS"):
        chosen = {each - 1 if each > 0 else len(inside) + each for each in chosen}
        inside = [each for place, each in enumerate(inside) if place in chosen]
    for number in range(STEPS):
        period = first + number * interval * unit * SECOND
        shown = {
            "BYHOUR": period.hour, "BYDAY": period.weekday(), "BYMONTHDAY": period.day,
            "BYWEEKNO": period.isocalendar().week,
        }  # fmt: skip
        if unit <= UNITS["MINUTELY"]:
            shown["BYMINUTE"] = period.minute
        if unit == UNITS["SECONDLY"]:
            shown["BYSECOND"] = period.second
        if all(value in parts.get(name, {value}) for name, value in shown.items()):
            yield from (each for offset in inside if (each := period + offset) >= start)
    yield None


@settings(max_examples=60, deadline=None)
@given(subdaily(), st.integers(1, 28), st.integers(0, 86_399))
def test_rules_below_a_day_equal_a_walk_over_every_step(rule, day, second):
    frequency, interval, parts = rule
    start = datetime(2024, 1, day) + second * SECOND  # noqa: DTZ001
    names = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
    told = [
        f"{name}={','.join(names[each] if name == 'BYDAY' else str(each) for each in sorted(values))}"
        for name, values in parts.items()
    ]
    text = ";".join([f"RRULE:FREQ={frequency};INTERVAL={interval}", *told])
    try:
        recurrence = rrule_recurrence(f"DTSTART:{start:%Y%m%dT%H%M%S}\n{text}", "UTC", ANCHOR)
    except InvalidTrigger:
        assert next(every_step(frequency, interval, parts, start)) is None
        return
    after = start - SECOND
    last = start + STEPS * interval * UNITS[frequency] * SECOND
    for expected in islice(every_step(frequency, interval, parts, start), 6):
        found = recurrence.next(after.replace(tzinfo=UTC))
        if expected is None:
            assert found is None or found.due >= last.replace(tzinfo=UTC) - timedelta(hours=1)
            return
        assert found.due == expected.replace(tzinfo=UTC)
        after = expected
