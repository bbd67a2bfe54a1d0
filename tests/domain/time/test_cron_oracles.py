"""The walk against independent ones: a brute-force walk of our own, cronsim, croniter's sets."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise, takewhile

import pytest
from croniter import croniter
from cronsim import CronSim
from oracle import expected

from horae_domain.cron import parse_cron
from horae_domain.errors import InvalidTrigger
from horae_domain.recurrence import cron_recurrence, span
from horae_domain.zones import load_zone

pytestmark = pytest.mark.no_cover  # tracing would take as long again; examples cover the lines

ZONES = {
    "Europe/Berlin": 2026,
    "America/New_York": 2026,
    "Australia/Lord_Howe": 2026,
    "Asia/Beirut": 2026,
    "America/Asuncion": 2023,
    "Africa/Casablanca": 2026,
    "America/Sao_Paulo": 2018,
    "Antarctica/Troll": 2026,
    "Asia/Tehran": 2021,
    "Asia/Kathmandu": 2026,
}
"""The zone, and a year in which its clocks change (if they do)."""

DIFFERENCES = {
    "gap at midnight": (
        "cronsim goes to the midnight of a day even if a gap leaves it out, and counts elapsed time "
        "from there; the clock never showed it"
    ),
    "stepped single": (
        "cronsim reads a step on a range of one value, `4-4/2`, as `4/2`; it is that one value"
    ),
    "half-hour change": (
        "cronsim moves by whole hours of real time from a full hour, and so misses hours that begin "
        "at a half hour after a change of 30 minutes; the clock shows them, so a job with `*` fires"
    ),
}
"""Where cronsim is wrong, and why; every row is met, every difference has one."""


@cache
def windows(zone, year):
    """Thirty hours around each change of the clocks in a year, or around the new year."""
    hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(365 * 24)]
    info = load_zone(zone)
    changes = [
        right
        for left, right in pairwise(hours)
        if left.astimezone(info).utcoffset() != right.astimezone(info).utcoffset()
    ]
    return [
        (at - timedelta(hours=15), at + timedelta(hours=15)) for at in changes or hours[5000:5001]
    ]


def a_field(rng, low, high, names=()):
    """Plain items, most of them such as people write."""

    def value(at_least=low):
        number = rng.randint(at_least, high)
        if names and rng.random() < 0.3:
            return number, names[(number - low) % len(names)]
        return number, str(number)

    def item():
        kind = rng.random()
        if kind < 0.5:
            return value()[1]
        step = rng.choice(["", "", f"/{rng.randint(1, high - low)}"])
        if kind < 0.6:
            return "*" + step
        first, text = value()
        last = rng.randint(first, high)
        return f"{text}-{last}{step}"

    if rng.random() < 0.25:
        return "*"
    if rng.random() < 0.3:
        return f"*/{rng.randint(1, high - low)}"
    return ",".join(item() for _ in range(rng.choice([1, 1, 1, 2, 3])))


def an_expression(rng):
    """A portable expression; times near the changes, days often free."""
    hours = a_field(rng, 0, 23) if rng.random() < 0.5 else a_field(rng, 0, 4)
    day = a_field(rng, 1, 31) if rng.random() < 0.3 else "*"
    month = a_field(rng, 1, 12, MONTHS) if rng.random() < 0.1 else "*"
    weekday = a_field(rng, 0, 7, WEEKDAYS) if rng.random() < 0.3 else "*"
    if weekday == "*" and rng.random() < 0.03:
        day = "L"
    if day == "*" and rng.random() < 0.06:
        weekday = rng.choice([f"{rng.randint(0, 7)}#{rng.randint(1, 5)}", f"{rng.randint(0, 7)}L"])
    fields = [a_field(rng, 0, 59), hours, day, month, weekday]
    if rng.random() < 0.1:
        fields.insert(0, ",".join(str(rng.randint(0, 59)) for _ in range(rng.randint(1, 3))))
    return " ".join(fields)


MONTHS = ["JAN", "feb", "Mar", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "mon", "Tue", "WED", "THU", "FRI", "SAT", "SUN"]


def drawn(count, seed):
    """Expressions with a zone and a window each; those that can never fire are left out."""
    rng = random.Random(seed)
    around = {zone: windows(zone, year) for zone, year in ZONES.items()}
    while count:
        text, zone = an_expression(rng), rng.choice(list(ZONES))
        start, end = rng.choice(around[zone])
        if fires(text):
            count -= 1
            yield text, zone, start, end


def fires(text):
    """Whether there is a month with a matching day, by the oracle's lights."""
    try:
        parse_cron(text)
    except InvalidTrigger:
        return False
    return True


def walked(text, zone, start, end):
    found = span(cron_recurrence(text, zone), start - timedelta(microseconds=1), end, 200_000)
    return [one.due for one in found if one.due < end]


@pytest.mark.parametrize("seed", range(4))
def test_the_walk_equals_the_brute_force_walk(seed):
    for text, zone, start, end in drawn(500, seed):
        assert walked(text, zone, start, end) == expected(text, zone, start, end), (text, zone)


def test_the_walk_equals_cronsim_but_where_a_rule_says_why():
    met = set()
    for text, zone, start, end in drawn(800, 99):
        ours = walked(text, zone, start, end)[:30]
        first = (start - timedelta(seconds=1)).astimezone(load_zone(zone))
        theirs = takewhile(
            lambda at, end=end: at < end, (at.astimezone(UTC) for at in CronSim(text, first))
        )
        if ours != [at for at, _ in zip(theirs, range(30), strict=False)]:
            rule = why_cronsim_differs(text, zone)
            assert rule is not None, (text, zone, start)
            met.add(rule)
    assert met == set(DIFFERENCES)


def why_cronsim_differs(text, zone):
    if zone == "Australia/Lord_Howe" and parse_cron(text).wildcard:
        return "half-hour change"
    if zone in MIDNIGHT_GAPS and parse_cron(text).wildcard:
        return "gap at midnight"
    if any(is_stepped_single(item) for item in text.replace(",", " ").split()):
        return "stepped single"
    return None


MIDNIGHT_GAPS = {"Asia/Beirut", "America/Asuncion", "America/Sao_Paulo", "Asia/Tehran"}


def is_stepped_single(item):
    span, _, step = item.partition("/")
    first, _, last = span.partition("-")
    return bool(step) and first == last


def test_croniter_expands_plain_fields_to_the_same_sets():
    rng = random.Random(7)
    bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
    for _ in range(300):
        text = " ".join(a_field(rng, low, high) for low, high in bounds)
        if not fires(text) or any(
            one in text for one in (f"{n}-{n}" for n in range(60))
        ):  # croniter reads a range of one value as the whole field
            continue
        cron = parse_cron(text)
        ours = [cron.minutes, cron.hours, cron.days, cron.months, cron.weekdays]
        for values, theirs, (low, high) in zip(ours, croniter.expand(text)[0], bounds, strict=True):
            everything = set(range(low, high + 1))
            assert set(values) == (everything if "*" in theirs else set(theirs)), text
