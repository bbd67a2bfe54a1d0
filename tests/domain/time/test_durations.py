from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horae_domain.durations import MAX_DURATION, format_duration, parse_duration
from horae_domain.errors import InvalidField

CASES = json.loads((Path(__file__).parents[2] / "cases" / "durations.json").read_text())["cases"]


def differs(case):
    """The rule by which Horae reads a text otherwise than the dialect does; None if it agrees."""
    text, dialect = case["text"], case["dialect"]
    if text.startswith("-"):
        return "a duration is not negative"
    if ":" in text:
        return "a clock time is not a duration"
    if "y" in text.lower():
        return "years have no fixed length"
    if dialect == "prometheus" and case.get("invalid"):
        return {"1.5d": "a fraction is allowed"}.get(text) or (
            "up to a hundred years, whatever a 64-bit number of nanoseconds holds"
            if case.get("invalid") and text[-1] in "dhw"
            else None
        )
    return None


AGREED = [case for case in CASES if differs(case) is None]


@pytest.mark.parametrize("case", AGREED, ids=lambda case: f"{case['dialect']} {case['text'][:20]}")
def test_durations_of_other_projects(case):
    if case.get("invalid"):
        with pytest.raises(InvalidField):
            parse_duration(case["text"], field="every")
    else:
        micros = round(case["seconds"] * 1_000_000)
        assert parse_duration(case["text"], field="every") == timedelta(microseconds=micros)


def test_most_cases_of_other_projects_bind():
    assert len(AGREED) > 60
    assert {case["dialect"] for case in AGREED} == {"pytimeparse", "ms", "prometheus", "iso8601"}


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("5 minutes", 300_000_000),
        ("1h30m", 5_400_000_000),
        ("250ms", 250_000),
        ("PT5M", 300_000_000),
        ("P1DT2H", 93_600_000_000),
        ("P2W", 1_209_600_000_000),
        ("30 seconds", 30_000_000),
        ("1 day", 86_400_000_000),
        ("2 hours, 5 minutes", 7_500_000_000),
        ("1us", 1),
        ("3µs", 3),
        (90, 90_000_000),
        (0.25, 250_000),
        (0, 0),
        ("0s", 0),
        (timedelta(seconds=2), 2_000_000),
    ],
)
def test_a_duration_is_text_a_number_of_seconds_or_a_timedelta(value, micros):
    assert parse_duration(value, field="every") == timedelta(microseconds=micros)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "5",
        "5 fortnights",
        "1M",
        "1y",
        "1 month",
        "P1M",
        "P1Y",
        "P",
        "PT",
        "P1W2D",
        "PT1D",
        "-5m",
        "-PT5M",
        "1m1m",
        "1s1h",
        "5m,",
        "5m x",
        "m",
        "4:13",
        "nan",
        "infs",
        "1e3s",
        "٣s",
        "101 years",
        "36526 days",
        "9" * 99 + "d",
        "1s" * 60,
        -1,
        -0.5,
        float("nan"),
        float("inf"),
        10**30,
        timedelta(days=-1),
        timedelta.max,
        True,
        None,
        [],
        b"5m",
    ],
)
def test_what_is_no_duration_is_refused_with_its_field_and_value(value):
    with pytest.raises(InvalidField) as refusal:
        parse_duration(value, field="timeout.overall")
    assert refusal.value.field == "timeout.overall"
    assert refusal.value.value == (None if value is None else str(value)[:200])


def test_m_is_minutes():
    assert parse_duration("1m", field="every") == timedelta(minutes=1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(minutes=5), "5m"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(milliseconds=250), "250ms"),
        (timedelta(days=8, microseconds=7), "8d7us"),
        (timedelta(seconds=-90), "-1m30s"),
    ],
)
def test_durations_are_written_short(value, text):
    assert format_duration(value) == text


@given(st.timedeltas(min_value=timedelta(0), max_value=MAX_DURATION))
def test_what_is_written_is_read_again(value):
    assert parse_duration(format_duration(value), field="every") == value


@given(
    st.text(max_size=40) | st.from_regex(r"[0-9.]{1,4} ?[a-zµ]{1,4}[0-9hms ,.]*", fullmatch=True)
)
def test_any_text_is_a_duration_or_refused(text):
    try:
        found = parse_duration(text, field="every")
    except InvalidField:
        return
    assert timedelta(0) <= found <= MAX_DURATION
