"""The days that a recurrence rule allows, and the wall times of one below a day."""

from __future__ import annotations

from bisect import bisect_left
from calendar import isleap, monthrange
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from importlib import import_module
from math import gcd
from typing import Any

from horae_domain.rrule_text import refusal

DAY = 86_400
"""Seconds."""
SUBDAILY = 4
"""The frequencies of dateutil from `HOURLY` on."""
BY_DAYS = ("bymonth", "byweekno", "byyearday", "bymonthday", "byweekday", "byeaster")
"""The parts of a rule that say something of days, as dateutil names them."""
WALL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall time has no zone

_MINUTE = 60


class Steps:
    """The wall times of a rule below a day, worked out where the library tries one step after another.

    The steps of a rule show the same times of the day again after so many of them; within such a
    round it is known which ones the rule's clock allows.
    """

    def __init__(self, rule: Any, start: datetime) -> None:
        self._rule = rule
        unit = (3600, 60, 1)[rule._freq - SUBDAILY]  # noqa: SLF001
        self._step: int = rule._interval * unit  # noqa: SLF001
        self._start = _seconds(start)
        self._first = self._start // unit * unit
        self._round = DAY // gcd(self._step, DAY)
        self._fitting = self._within_round(unit)
        if not self._fitting:
            raise refusal("no time of a day fits this combination")
        self._offsets = _chosen(rule, _offsets(rule, unit))
        if not self._offsets:
            raise refusal("BYSETPOS leaves nothing of any period")
        told = rule._original_rule  # noqa: SLF001
        self._of_days = any(told.get(name) is not None for name in BY_DAYS)

    def _within_round(self, unit: int) -> Sequence[int]:
        """The steps of a round whose time of the day the rule allows."""
        hours, minutes, seconds = _clock(self._rule)
        limits = [
            (3600, 24, hours),
            *([(60, 60, minutes)] if unit <= _MINUTE else []),
            *([(1, 60, seconds)] if unit == 1 else []),
        ]
        limits = [each for each in limits if each[2]]
        steps = range(self._round)
        if not limits:
            return steps
        return [
            step
            for step in steps
            if all(
                (self._first + step * self._step) // size % count in allowed
                for size, count, allowed in limits
            )
        ]

    def walls(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Those strictly after a wall time, up to and including another one."""
        low, high = max(_seconds(after) + 1, self._start), _seconds(until)
        period = self._period((low - self._first) // self._step)
        while period <= high:
            day = WALL_EPOCH + timedelta(days=period // DAY)
            allowed = allowed_day(self._rule, day, until) if self._of_days else day
            if allowed is None:
                return
            if allowed > day:
                period = self._period(-((self._first - _seconds(allowed)) // self._step))
                continue
            for offset in self._offsets:
                if low <= period + offset <= high:
                    yield WALL_EPOCH + timedelta(seconds=period + offset)
            period = self._period((period - self._first) // self._step + 1)

    def _period(self, step: int) -> int:
        """The second in which the first step begins, not before one, that the clock allows."""
        rounds, step = divmod(step, self._round)
        index = bisect_left(self._fitting, step)
        if index == len(self._fitting):
            rounds, index = rounds + 1, 0
        return self._first + (rounds * self._round + self._fitting[index]) * self._step


def _seconds(wall: datetime) -> int:
    return (wall - WALL_EPOCH) // timedelta(seconds=1)


def _clock(rule: Any) -> tuple[Any, Any, Any]:
    return rule._byhour, rule._byminute, rule._bysecond  # noqa: SLF001


def _offsets(rule: Any, unit: int) -> list[int]:
    """The seconds after a period's begin at which it fires."""
    _, minutes, seconds = _clock(rule)
    if unit == 1:
        return [0]
    return sorted(
        minute * 60 + second
        for minute in (minutes if unit > _MINUTE else (0,))
        for second in seconds
    )


def _chosen(rule: Any, offsets: list[int]) -> list[int]:
    """What `BYSETPOS` leaves of them."""
    if not rule._bysetpos:  # noqa: SLF001
        return offsets
    places = {each - 1 if each > 0 else len(offsets) + each for each in rule._bysetpos}  # noqa: SLF001
    return [each for place, each in enumerate(offsets) if place in places]


def allowed_day(rule: Any, after: datetime, limit: datetime) -> datetime | None:
    """The first day that the rule's parts about days allow, from that of a wall time on.

    The library itself looks for one up to the year 9999.
    """
    day = after.replace(hour=0, minute=0, second=0)
    while day <= limit:
        if _allows(rule, day):
            return day
        day += timedelta(days=1)
    return None


def _allows(rule: Any, day: datetime) -> bool:
    """False if a part of the rule keeps it from firing on a day."""
    if rule._bymonth and day.month not in rule._bymonth:  # noqa: SLF001
        return False
    weekdays = rule._byweekday  # noqa: SLF001
    if weekdays and day.weekday() not in weekdays:
        return False
    length = monthrange(day.year, day.month)[1]
    if rule._bymonthday or rule._bynmonthday:  # noqa: SLF001
        counted = (day.day in rule._bymonthday, day.day - length - 1 in rule._bynmonthday)  # noqa: SLF001
        if not any(counted):
            return False
    if rule._byyearday:  # noqa: SLF001
        number, days = day.timetuple().tm_yday, 365 + isleap(day.year)
        if not {number, number - days - 1} & set(rule._byyearday):  # noqa: SLF001
            return False
    return _allows_week(rule, day)


def _allows_week(rule: Any, day: datetime) -> bool:
    if rule._byeaster:  # noqa: SLF001
        easter = import_module("dateutil.easter").easter(day.year)
        if (day.date() - easter).days not in rule._byeaster:  # noqa: SLF001
            return False
    if rule._byweekno:  # noqa: SLF001
        begin = _week(day.date(), rule._wkst)  # noqa: SLF001
        year = (begin + timedelta(days=3)).year
        first = _week(date(year, 1, 4), rule._wkst)  # noqa: SLF001
        week = (begin - first).days // 7 + 1
        weeks = (_week(date(year, 12, 28), rule._wkst) - first).days // 7 + 1  # noqa: SLF001
        return bool({week, week - weeks - 1} & set(rule._byweekno))  # noqa: SLF001
    return True


def _week(day: date, begin: int) -> date:
    """The first day of a day's week; the one with 4 January is the first of its year."""
    return day - timedelta(days=(day.weekday() - begin) % 7)
