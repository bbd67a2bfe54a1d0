"""When Debian's cron runs a job, found by walking every minute of real time.

Slow on purpose and independent on purpose: it imports nothing of Horae, asks of every minute
whether the expression holds, and keeps the virtual clock of Debian's cron for fixed-time jobs.
The expression must be one that is valid.
"""

from __future__ import annotations

import calendar
from datetime import date, datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
MINUTE = timedelta(minutes=1)

Shown = tuple[datetime, int, int]
"""An instant, and the hour and minute that the clock shows at it."""


def expected(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The instants in UTC at which the job runs, `start <= instant < end`."""
    fields = ALIASES.get(expression, expression).lower().split()
    seconds = [0]
    if len(fields) == 6:
        seconds = [value for value in range(60) if holds(fields[0], value, 0, 59, [])]
    minute, hour, day, month, weekday = fields[-5:]
    minutes = {value for value in range(60) if holds(minute, value, 0, 59, [])}
    hours = {value for value in range(24) if holds(hour, value, 0, 23, [])}
    wildcard = minute.startswith("*") or hour.startswith("*")
    follows_elapsed_time = wildcard or len(fields) == 6
    found: list[datetime] = []
    for shown_on, clock, virtual_clock in days(zone, start, end):
        if runs_on(shown_on, day, month, weekday):
            ticks = clock if follows_elapsed_time else virtual_clock
            found += [at for at, h, m in ticks if m in minutes and h in hours]
    instants = {at + timedelta(seconds=second) for at in found for second in seconds}
    return sorted(at for at in instants if start <= at < end)


@lru_cache(maxsize=32)
def days(zone: str, start: datetime, end: datetime) -> list[tuple[date, list[Shown], list[Shown]]]:
    """For each date: the minutes that the clock shows, and those of the virtual clock.

    The virtual clock makes up at once for the minutes that a gap leaves out, at the first instant
    after it, and stands still in an overlap until the shown time has caught up.
    """
    with files("tzdata").joinpath("zoneinfo", *zone.split("/")).open("rb") as file:
        info = ZoneInfo.from_file(file)
    clock: dict[date, list[Shown]] = {}
    virtual_clock: dict[date, list[Shown]] = {}
    at = start.replace(second=0, microsecond=0) - timedelta(days=3)
    virtual = at.astimezone(info).replace(tzinfo=None) - MINUTE
    while at < end:
        wall = at.astimezone(info).replace(tzinfo=None)
        seen = at > start - MINUTE
        if seen:
            clock.setdefault(wall.date(), []).append((at, wall.hour, wall.minute))
        while virtual < wall:
            virtual += MINUTE
            if seen:
                shown = (at, virtual.hour, virtual.minute)
                virtual_clock.setdefault(virtual.date(), []).append(shown)
        at += MINUTE
    dates = clock.keys() | virtual_clock.keys()
    return [(day, clock.get(day, []), virtual_clock.get(day, [])) for day in dates]


def runs_on(shown: date, day: str, month: str, weekday: str) -> bool:
    """Vixie's rule: both must hold if one of the two begins with a star, else either."""
    if not holds(month, shown.month, 1, 12, ["", *MONTHS]):
        return False
    by_day = any(
        shown.day == calendar.monthrange(shown.year, shown.month)[1]
        if item == "l"
        else holds(item, shown.day, 1, 31, [])
        for item in day.split(",")
    )
    by_weekday = any(holds_weekday(item, shown) for item in weekday.split(","))
    if day.startswith("*") or weekday.startswith("*"):
        return by_day and by_weekday
    return by_day or by_weekday


def holds_weekday(item: str, shown: date) -> bool:
    number = shown.isoweekday() % 7
    if "#" in item:
        wanted, nth = item.split("#")
        return holds_weekday(wanted, shown) and (shown.day - 1) // 7 + 1 == int(nth)
    if len(item) == 2 and "l" in item:
        is_last = (shown + timedelta(days=7)).month != shown.month
        return is_last and holds_weekday(item.replace("l", ""), shown)
    return any(
        holds(item, value, 0, 7, WEEKDAYS) for value in ([0, 7] if number == 0 else [number])
    )


def holds(text: str, value: int, low: int, high: int, names: list[str]) -> bool:
    """Whether a field of plain items holds for one value."""

    def number(word: str) -> int:
        return names.index(word) if word in names else int(word)

    for item in text.split(","):
        span, _, step = item.partition("/")
        first, last = low, high
        if span != "*":
            left, _, right = span.partition("-")
            first, last = number(left), number(right or left)
        if first <= value <= last and (value - first) % int(step or 1) == 0:
            return True
    return False
