"""The walk over a cron expression's sets in a time zone: the next instant after any instant.

A zone is a row of stretches, in each of which wall clock and elapsed time run alike; within a
stretch the next matching wall time is the next instant. What happens to wall times that a change
of the clocks leaves out (a gap) or shows twice (an overlap) is the policy, by the rule of Debian's
cron (cron(8), "Debian specific"):

- a job whose minute and hour are both fixed fires once, at the first instant after a gap (`edge`)
  and in the `first` pass of an overlap. It may ask for `skip` (no firing) or `shift` (later by the
  length of the gap), and for the `last` pass or `both`;
- a job whose minute or hour begins with `*` follows elapsed time, whatever is asked: it fires
  whenever the clock shows a matching time, so in a gap never, in an overlap twice;
- a six-field expression with a fixed time does as the latter unless a policy is asked for.

Seconds here are seconds since 1970: of UTC (`second`), or as the wall clock counts (`wall`).
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import date
from typing import Literal, NamedTuple

from horae_domain.cron import CronExpression
from horae_domain.zones import Change, Stretch, timeline

Gap = Literal["edge", "skip", "shift"]
Overlap = Literal["first", "last", "both"]

_DAY = 86_400
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LONGEST_WAIT = 41 * 366 * _DAY
"""An expression that can fire at all waits 40 years at most: for a 29 February on one weekday."""

_FIRST = (date(10, 1, 1).toordinal() - _EPOCH_DAY) * _DAY
_LAST_DAY = date(9900, 12, 31).toordinal() - _EPOCH_DAY
_NEVER = -(2**63)
_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FEBRUARY = 2


class Firing(NamedTuple):
    """When (UTC second) and for which wall time, and in which pass of an overlap (0 or 1)."""

    second: int
    wall: int
    fold: int


class Walker:
    """Finds the firings of one expression in one zone. Immutable but for caches; share it."""

    def __init__(
        self, cron: CronExpression, zone: str, gap: Gap | None, overlap: Overlap | None
    ) -> None:
        self.cron = cron
        self._stretch = timeline(zone).stretch
        debian = not cron.by_second
        self._gap = "skip" if cron.wildcard else gap or ("edge" if debian else "skip")
        self._overlap = "both" if cron.wildcard else overlap or ("first" if debian else "both")
        self._every_day = len(cron.months) == 12 and len(cron.days_of(0, 31)) == 31  # noqa: PLR2004
        self._first_of_hour = cron.minutes[0] * 60 + cron.seconds[0]
        self._first_time = cron.hours[0] * 3600 + self._first_of_hour

    def next(self, second: int) -> Firing | None:
        """The first firing at or after a UTC second; None after the year 9900."""
        second = max(second, _FIRST)
        while second < (_LAST_DAY + 1) * _DAY:
            stretch = self._stretch(second)
            found = self._within(stretch, second)
            if found is None or found.second < stretch.end:
                return found
            second = stretch.end
            if stretch.coming is None:
                # No clock is put back soon, so nothing fires before the wall time found; and where
                # it lies far from any change, its instant is certain.
                there = self._stretch(found.second)
                if there.last is None and there.coming is None:
                    return Firing(found.wall - there.offset, found.wall, 0)
                second = max(second, found.second - 2 * _DAY)
        return None

    def previous(self, second: int) -> Firing | None:
        """The last firing before a UTC second; None if there was none for 41 years."""
        step, low = 60, None
        while low is None and step < _LONGEST_WAIT:
            step *= 8
            low = self._before(second - step, second)
        high = second
        while low is not None and high - low.second > 1:
            middle = (low.second + 1 + high) // 2
            found = self._before(middle, second)
            if found is None:
                high = middle
            else:
                low = found
        return low

    def _before(self, first: int, end: int) -> Firing | None:
        found = self.next(first)
        return found if found is not None and found.second < end else None

    def _within(self, stretch: Stretch, second: int) -> Firing | None:
        """The first firing if the stretch that contains `second` went on for ever."""
        natural = self._natural(stretch, second)
        if natural is not None and stretch.last is not None:
            missed = self._missed(stretch.last, second)
            if missed is not None and missed.second < natural.second:
                return missed
        return natural

    def _natural(self, stretch: Stretch, second: int) -> Firing | None:
        """The first time that the clock shows, in the pass of an overlap that is wanted."""
        offset, last, coming = stretch.offset, stretch.last, stretch.coming
        repeated = last.at + last.before if last is not None else _NEVER
        start = second + offset
        if self._overlap == "first":
            start = max(start, repeated)
        wall = self._wall(start)
        if wall is None:
            return None
        if self._overlap == "last" and coming is not None and wall >= coming.at + coming.after:
            return Firing(max(coming.at, wall - offset), wall, 0)
        return Firing(wall - offset, wall, int(wall < repeated))

    def _missed(self, change: Change, second: int) -> Firing | None:
        """The first wall time that a gap left out, at the instant where the policy puts it."""
        if self._gap == "skip" or (self._gap == "edge" and second > change.at):
            return None
        wall = self._wall(max(second, change.at) + change.before)
        if wall is None or wall >= change.at + change.after:
            return None
        return Firing(change.at if self._gap == "edge" else wall - change.before, wall, 0)

    def _wall(self, wall: int) -> int | None:
        """The first matching wall time at or after one."""
        day, time = divmod(wall, _DAY)
        found = self._day(day)
        if found == day:
            later = self._time(time)
            if later is not None:
                return day * _DAY + later
            found = self._day(day + 1)
        return None if found is None else found * _DAY + self._first_time

    def _day(self, day: int) -> int | None:
        """The first matching day, counted from 1970, at or after one."""
        if day > _LAST_DAY:
            return None
        if self._every_day:
            return day
        ordinal = day + _EPOCH_DAY
        today = date.fromordinal(ordinal)
        year, month, number = today.year, today.month, today.day
        first = ordinal - number + 1
        while first <= _LAST_DAY + _EPOCH_DAY:
            length = _LENGTHS[month]
            if month == _FEBRUARY and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
                length = 29
            if month in self.cron.months:
                days = self.cron.days_of(first % 7, length)
                index = bisect_left(days, number)
                if index < len(days):
                    found = first + days[index] - 1 - _EPOCH_DAY
                    return found if found <= _LAST_DAY else None
            first, number, month = first + length, 1, month + 1
            if month == 13:  # noqa: PLR2004
                year, month = year + 1, 1
        return None

    def _time(self, time: int) -> int | None:
        """The first matching second of the day at or after one."""
        cron = self.cron
        hour, rest = divmod(time, 3600)
        minute, second = divmod(rest, 60)
        hours, minutes, seconds = cron.hours, cron.minutes, cron.seconds
        at_hour = bisect_left(hours, hour)
        if at_hour < len(hours) and hours[at_hour] == hour:
            at_minute = bisect_left(minutes, minute)
            if at_minute < len(minutes) and minutes[at_minute] == minute:
                at_second = bisect_left(seconds, second)
                if at_second < len(seconds):
                    return hour * 3600 + minute * 60 + seconds[at_second]
                at_minute += 1
            if at_minute < len(minutes):
                return hour * 3600 + minutes[at_minute] * 60 + seconds[0]
            at_hour += 1
        return hours[at_hour] * 3600 + self._first_of_hour if at_hour < len(hours) else None
