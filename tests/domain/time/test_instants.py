from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from horae_domain.errors import InvalidField
from horae_domain.instants import format_instant, from_micros, parse_instant, to_micros

instants = st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("value", "instant"),
    [
        ("2026-12-01T09:00:00Z", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("2026-12-01t09:00:00z", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("2026-12-01 09:00+02:00", datetime(2026, 12, 1, 7, tzinfo=UTC)),
        ("2026-12-01T09:00:00.25-0330", datetime(2026, 12, 1, 12, 30, 0, 250_000, tzinfo=UTC)),
        ("2026-12-01T09:00:00.123456789Z", datetime(2026, 12, 1, 9, 0, 0, 123_456, tzinfo=UTC)),
        (
            datetime(2026, 12, 1, 9, tzinfo=timezone(timedelta(hours=1))),
            datetime(2026, 12, 1, 8, tzinfo=UTC),
        ),
    ],
)
def test_an_instant_is_aware_and_becomes_utc(value, instant):
    found = parse_instant(value, field="at")
    assert (found, found.tzinfo) == (instant, UTC)


@pytest.mark.parametrize("value", ["2026-12-01T09:00:00", datetime(2026, 12, 1, 9)])  # noqa: DTZ001
def test_a_naive_time_is_refused_by_its_rule(value):
    with pytest.raises(InvalidField, match="needs an offset from UTC") as refusal:
        parse_instant(value, field="trigger.at")
    assert refusal.value.field == "trigger.at"
    assert refusal.value.value == str(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "tomorrow",
        "2026-12-01",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-12-01T24:01:00Z",
        "2026-12-01T09:00:60Z",
        "2026-12-01T09:00:00+99:00",
        "2026-W49-2T09:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "\uff12026-12-01T09:00:00Z",
        1_780_000_000,
        None,
    ],
)
def test_what_is_no_instant_is_refused(value):
    with pytest.raises(InvalidField) as refusal:
        parse_instant(value, field="at")
    assert refusal.value.field == "at"
    assert refusal.value.value == (None if value is None else str(value))


def test_instants_are_written_in_utc_with_microseconds_only_if_there_are_any():
    noon = datetime(2026, 12, 1, 12, tzinfo=timezone(timedelta(hours=3)))
    assert format_instant(noon) == "2026-12-01T09:00:00Z"
    assert format_instant(noon.replace(microsecond=1)) == "2026-12-01T09:00:00.000001Z"


@given(instants)
def test_what_is_written_is_read_again(instant):
    assert parse_instant(format_instant(instant), field="at") == instant


@given(instants)
def test_microseconds_are_exact_both_ways(instant):
    assert from_micros(to_micros(instant)) == instant


def test_microseconds_count_from_1970():
    assert to_micros(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == 1_000_005
    assert from_micros(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
