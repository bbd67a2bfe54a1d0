from __future__ import annotations

import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from horae_domain.cron import ALIASES, MAX_TEXT, parse_cron
from horae_domain.errors import InvalidTrigger


def weekdays(text):
    return sorted(parse_cron(f"0 0 * * {text}").weekdays)


def test_five_fields_fire_at_second_zero():
    cron = parse_cron("1,3 2-8/3 * JAN,3-5 *")
    assert (cron.seconds, cron.minutes, cron.hours) == ((0,), (1, 3), (2, 5, 8))
    assert sorted(cron.months) == [1, 3, 4, 5]
    assert not cron.by_second


def test_six_fields_begin_with_seconds():
    cron = parse_cron("*/30 5 * * * *")
    assert (cron.seconds, cron.minutes) == ((0, 30), (5,))
    assert cron.by_second


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0", [0]),
        ("7", [0]),
        ("sun", [0]),
        ("MON-Fri", [1, 2, 3, 4, 5]),
        ("5-7", [0, 5, 6]),
        ("0-7/7", [0]),
        ("5-5", [5]),
        ("*/2", [0, 2, 4, 6]),
        ("1,1,3", [1, 3]),
        ("*,5", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_weekdays_have_names_and_two_sundays(text, days):
    assert weekdays(text) == days


def test_a_range_of_one_value_is_that_value():
    assert parse_cron("47-47 3 * * *").minutes == (47,)
    assert parse_cron("47-47/2 3 * * *").minutes == (47,)


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_stand_for_their_fields(alias):
    cron, meant = parse_cron(f" {alias.upper()} "), parse_cron(ALIASES[alias])
    assert cron.days_of(3, 31) == meant.days_of(3, 31)
    assert (cron.minutes, cron.hours, cron.months) == (meant.minutes, meant.hours, meant.months)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0 0 L * *", (31,)),
        ("0 0 1,L * *", (1, 31)),
        ("0 0 * * 5L", (28,)),
        ("0 0 * * L5", (28,)),
        ("0 0 * * 7L,1L", (30, 31)),
        ("0 0 * * MON#2", (10,)),
        ("0 0 * * 7#1,1#5", (2, 31)),
        ("0 0 13 * 5", (7, 13, 14, 21, 28)),
        ("0 0 */13 * 5", (14,)),
        ("0 0 1-7 * */7", (2,)),
        ("0 0 * * 1", (3, 10, 17, 24, 31)),
        ("0 0 31 * *", (31,)),
    ],
)
def test_days_of_a_month_of_31_days_that_begins_on_a_saturday(text, days):
    assert parse_cron(text).days_of(6, 31) == days


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("* * * *", "not 4"),
        ("", "not 0"),
        ("* * * * * * *", "a year field is not supported"),
        ("* * * * * * * *", "not 8"),
        ("@reboot", "`@reboot` is not supported"),
        ("@every 5m", "an alias is one of"),
        ("60 * * * *", "minute '60': values are from 0 to 59"),
        ("60 0 * * * *", "second '60': values are from 0 to 59"),
        ("* 24 * * *", "hour '24': values are from 0 to 23"),
        ("* * 0 * *", "day-of-month '0': values are from 1 to 31"),
        ("* * * 13 *", "month '13': values are from 1 to 12"),
        ("* * * * 8", "day-of-week '8': values are from 0 to 7"),
        ("* * * FOO *", "month 'FOO': not a name"),
        ("* * * MON *", "month 'MON': not a name"),
        ("* * * * JAN", "day-of-week 'JAN': not a name"),
        ("* 22-2 * * *", "hour '22-2': a range does not run backwards"),
        ("* * * * SAT-SUN", "day-of-week 'SAT-SUN': a range does not run backwards"),
        ("3/5 * * * *", "minute '3/5': a step follows `*` or a range"),
        ("*/0 * * * *", "minute '*/0': a step is from 1 to 60"),
        ("*/90 * * * *", "minute '*/90': a step is from 1 to 60"),
        ("* * ? * *", "day-of-month '?': `?` is not supported"),
        ("* * 15W * *", "day-of-month '15W': `W` (nearest weekday)"),
        ("* * LW * *", "day-of-month 'LW': `LW` (last weekday of the month)"),
        ("H * * * *", "minute 'H': hashed"),
        ("R(0-9) * * * *", "minute 'R(0-9)': hashed"),
        ("* * L-3 * *", "day-of-month 'L-3': `L` stands alone"),
        ("* * * * L", "day-of-week 'L': `L` stands alone"),
        ("* * * * MONL", "day-of-week 'MONL': `L` stands alone"),
        ("* * * * 1#6", "day-of-week '1#6': `#` needs one weekday"),
        ("* * * * 1-5#2", "day-of-week '1-5#2': `#` needs one weekday"),
        ("* * * * FOO#2", "day-of-week 'FOO': not a name"),
        ("* * 1#2 * *", "day-of-month '1#2': `#` needs one weekday"),
        ("1,,2 * * * *", "minute '': write `*`"),
        ("* * * * 1,5L", "day-of-week: dialects disagree on plain weekdays beside"),
        ("0 0 L * 1", "day-of-month and day-of-week: dialects disagree"),
        ("0 0 1 * 1#2", "day-of-month and day-of-week: dialects disagree"),
        ("0 0 30 2 *", "day-of-month: no month of the expression has such a day"),
        ("0 0 31 4,6,9,11 *", "day-of-month: no month of the expression has such a day"),
        ("\u0661 * * * *", "plain ASCII"),
        ("* * *\n* *", "plain ASCII text on one line"),
        ("*" * 257, "at most 256 characters"),
    ],
)
def test_what_is_not_portable_is_refused_with_field_and_reason(text, reason):
    with pytest.raises(InvalidTrigger) as refusal:
        parse_cron(text)
    assert reason in refusal.value.message
    assert refusal.value.field == "trigger.expression"
    assert refusal.value.value == text[:200]


def test_29_february_can_fire():
    assert parse_cron("0 0 29 2 *").days_of(0, 29) == (29,)
    assert parse_cron("0 0 29 2 *").days_of(0, 28) == ()
    assert parse_cron("0 0 31 2 0").days_of(0, 28) == (1, 8, 15, 22)


TOKENS = st.lists(st.sampled_from([*"*01579,-/#LW?@\t", "31", "59", "MON", "JAN"]))


@given(st.text() | TOKENS.map(" ".join) | TOKENS.map("".join))
@example("0" * MAX_TEXT)
@example("*," * 128)
@example("0-59/1," * 30 + "0 * * * *")
@settings(max_examples=400)
def test_any_text_is_an_expression_or_refused_in_bounded_steps(text):
    steps = 0

    def count(_frame, _event, _argument):
        nonlocal steps
        steps += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        cron = parse_cron.__wrapped__(text)
    except InvalidTrigger:
        cron = None
    finally:
        sys.setprofile(before)
    assert cron is None or cron.text == text
    assert steps < 5_000
