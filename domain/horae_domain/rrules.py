"""Recurrence rules of RFC 5545 (T13): `DTSTART`, `RRULE`, `RDATE`, `EXDATE` on the wall clock of a zone.

The `dateutil` library expands a rule from a start; it is an optional dependency. Here stand what it
lacks: a start near the instant asked for, so that an old rule costs no more than a new one, bounds,
and what a change of the clocks does to a wall time (`horae_domain.zones`).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from calendar import isleap, monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from importlib import import_module
from itertools import islice
from typing import Any, NamedTuple

from horae_domain.errors import InvalidTrigger
from horae_domain.instants import EPOCH
from horae_domain.recurrence import Occurrence
from horae_domain.walker import Gap, Overlap
from horae_domain.zones import load_zone, timeline

MAX_TEXT = 10_000
"""Characters of a rule with its dates."""
MAX_DATES = 1_000
"""Dates that are added or left out one by one."""
MAX_COUNT = 10_000
"""Occurrences of a rule that counts them."""
HORIZON = timedelta(days=41 * 366)
"""A rule that waits longer does not fire any more."""
CENTURIES = timedelta(days=1_000 * 366)
"""The same for one by years."""
COUNTED = timedelta(days=100 * 366)
"""How far from its start a rule that counts goes at most, unless by years."""
EXTRA = "rrule"

_LINE = re.compile(r"(?:(?P<name>[A-Z]+)(?P<parameters>(?:;[^:]*)?):)?(?P<value>.+)", re.IGNORECASE)
_DATE = re.compile(r"\d{8}(?:T\d{6}(?P<utc>Z?))?", re.IGNORECASE)
_NUMBER = re.compile(r"\d{1,6}")
_DAY = 86_400
_SUBDAILY = 4
"""The frequencies of dateutil from `HOURLY` on."""
_BY_DAYS = ("bymonth", "byweekno", "byyearday", "bymonthday", "byweekday", "byeaster")
_DAYS = {4: 400, 5: 100, 6: 10}
"""Days in a row on which a rule below a day may fire and does not, after which it never does; by
frequency, as looking through one takes the longer the finer it is."""
_SKIPS = 10_000
"""Occurrences left out in a row, after which there are no more."""


class _Parts(NamedTuple):
    """A rule as it is written, its dates on the wall clock."""

    start: datetime | None
    zone: str
    rules: tuple[str, ...]
    excluded_rules: tuple[str, ...]
    dates: tuple[datetime, ...]
    excluded: frozenset[datetime]


class RruleRecurrence:
    """The occurrences of a recurrence rule; made by `rrule_recurrence`."""

    def __init__(
        self, parts: _Parts, start: datetime, gap: Gap | None, overlap: Overlap | None
    ) -> None:
        self._zone = parts.zone
        self._timeline = timeline(parts.zone)
        self._rules = [_Rule(text, start) for text in parts.rules]
        self._excluding = [_Rule(text, start) for text in parts.excluded_rules]
        self._dates = sorted(parts.dates)
        self._excluded = parts.excluded
        elapsed = any(rule.subdaily for rule in self._rules)
        self._gap = gap or ("skip" if elapsed else "edge")
        self._overlap = overlap or ("both" if elapsed else "first")

    def next(self, after: datetime) -> Occurrence | None:
        """The first occurrence strictly after an instant; None if there is none in 41 years."""
        second = (after - EPOCH) // timedelta(seconds=1)
        stretch = self._timeline.stretch(second)
        changes = [each for each in (stretch.last, stretch.coming) if each is not None]
        doubt = sum(abs(each.after - each.before) for each in changes)
        wall = _EPOCH + timedelta(seconds=second + stretch.offset - doubt)
        best: Occurrence | None = None
        for found in self._walls(wall - timedelta(seconds=1)):
            if best is not None and found > _wall_of(best.due, self._timeline) + _LONGEST_CHANGE:
                break
            for occurrence in self._instants(found):
                if occurrence.due > after and (best is None or occurrence.due < best.due):
                    best = occurrence
            if best is not None and not self._near_change(best.due):
                break
        return best

    def previous(self, before: datetime) -> Occurrence | None:
        """The last occurrence strictly before an instant; None if there was none for 41 years."""
        step, low = timedelta(minutes=1), None
        while low is None and step < HORIZON:
            step *= 8
            low = self._between(max(before - step, _FIRST), before)
        while low is not None:
            later = self._between(low.due + (before - low.due) / 2, before)
            later = later or self._between(low.due, before)
            if later is None:
                return low
            low = later
        return None

    def _between(self, after: datetime, before: datetime) -> Occurrence | None:
        found = self.next(after)
        return found if found is not None and found.due < before else None

    def _near_change(self, due: datetime) -> bool:
        stretch = self._timeline.stretch((due - EPOCH) // timedelta(seconds=1))
        return stretch.last is not None or stretch.coming is not None

    def _walls(self, after: datetime) -> Iterator[datetime]:
        """The wall times after one, without what is left out, at most `_SKIPS` of these in a row."""
        skipped = 0
        while skipped < _SKIPS:
            found = [rule.next(after) for rule in self._rules]
            index = bisect_right(self._dates, after)
            found += self._dates[index : index + 1]
            coming = [each for each in found if each is not None]
            if not coming:
                return
            after = min(coming)
            if after in self._excluded or any(each.has(after) for each in self._excluding):
                skipped += 1
            else:
                skipped = 0
                yield after

    def _instants(self, wall: datetime) -> list[Occurrence]:
        """The instants of a wall time: one, or in a gap none, or in an overlap two, by the policy."""
        second = (wall - _EPOCH) // timedelta(seconds=1)
        offsets = {
            self._timeline.stretch(second + way * _DAY).offset for way in (-1, 0, 1)
        }  # no zone changes its clocks by more than a day
        instants = sorted(
            second - offset
            for offset in offsets
            if self._timeline.stretch(second - offset).offset == offset
        )
        if not instants:
            return self._missed(wall, second)
        if len(instants) == 1 or self._overlap == "first":
            return [self._occurrence(instants[0], wall, 0)]
        last = self._occurrence(instants[-1], wall, 1)
        return [last] if self._overlap == "last" else [self._occurrence(instants[0], wall, 0), last]

    def _missed(self, wall: datetime, second: int) -> list[Occurrence]:
        if self._gap == "skip":
            return []
        before = self._timeline.stretch(second - 2 * _DAY).offset
        change = self._timeline.stretch(second - before).last
        assert change is not None  # noqa: S101 - only a change leaves a wall time out
        at = change.at if self._gap == "edge" else second - change.before
        return [self._occurrence(at, wall, 0)]

    def _occurrence(self, second: int, wall: datetime, fold: int) -> Occurrence:
        suffix = "/1" if fold else ""
        nominal = f"{wall.isoformat()}[{self._zone}]{suffix}"
        return Occurrence(EPOCH + timedelta(seconds=second), nominal)


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall time has no zone
_FIRST = datetime(1000, 1, 1, tzinfo=UTC)
_LONGEST_CHANGE = timedelta(hours=26)


def _wall_of(due: datetime, zone: Any) -> datetime:
    second = (due - EPOCH) // timedelta(seconds=1)
    return _EPOCH + timedelta(seconds=second + zone.stretch(second).offset)


class _Rule:
    """One `RRULE` with its start."""

    def __init__(self, text: str, start: datetime) -> None:
        library = _library()
        self._start = start
        self._rule = _refusing(lambda: library.rrulestr(text, dtstart=start))
        self.subdaily = self._rule._freq >= _SUBDAILY  # noqa: SLF001 - it has no other way to tell
        told = self._rule._original_rule  # noqa: SLF001
        self._of_days = self.subdaily and any(told.get(name) is not None for name in _BY_DAYS)
        self._yearly = self._rule._freq == 0  # noqa: SLF001
        self._counted: list[datetime] | None = None
        self._explicit = _explicit(self._rule)
        self._ahead: tuple[datetime, Iterator[datetime], datetime] | None = None

    def next(self, after: datetime) -> datetime | None:
        """The first wall time strictly after one."""
        if self._rule._count is not None:  # noqa: SLF001
            index = bisect_right(self.all_counted, after)
            return self.all_counted[index] if index < len(self.all_counted) else None
        if after < self._start:
            after = self._start - timedelta(seconds=1)
        if self._ahead is not None and self._ahead[0] == after:
            _, walls, limit = self._ahead
        else:
            limit = min(after, _LAST) + (CENTURIES if self._yearly else HORIZON)
            walls = self._from(after, limit)
        for wall in walls:
            if wall > after:
                self._ahead = (wall, walls, limit)
                return wall
        return None

    def has(self, wall: datetime) -> bool:
        """True if the wall time is one of its own."""
        return self.next(wall - timedelta(seconds=1)) == wall

    @property
    def all_counted(self) -> list[datetime]:
        """All wall times of a rule that counts them."""
        if self._counted is None:
            until = min(self._start, _LAST) + (CENTURIES if self._yearly else COUNTED)
            walls = self._from(self._start - timedelta(seconds=1), until)
            self._counted = list(islice(walls, self._rule._count))  # noqa: SLF001
        return self._counted

    def _from(self, after: datetime, limit: datetime) -> Iterator[datetime]:
        """The rule as it goes on from a wall time; below a day, from one of its days to the next."""
        if not self._of_days:
            if self._day(after, limit) is not None:
                yield from self._stretch(after, limit)
            return
        day = after
        for _ in range(_DAYS[self._rule._freq]):  # noqa: SLF001
            found = self._day(day, limit)
            if found is None:
                return
            end = found + timedelta(days=1)
            second = timedelta(seconds=1)
            for wall in self._stretch(max(after, found - second), min(limit, end - second)):
                if wall >= found:
                    yield wall
            day = end

    def _day(self, after: datetime, limit: datetime) -> datetime | None:
        """The first day that the rule's parts about days allow, from that of a wall time on.

        The library itself looks for one up to the year 9999.
        """
        day = after.replace(hour=0, minute=0, second=0)
        while day <= limit:
            if self._allows(day):
                return day
            day += timedelta(days=1)
        return None

    def _allows(self, day: datetime) -> bool:
        """False if a part of the rule keeps it from firing on a day.

        What numbers of weeks say is open, unless weeks begin on Mondays.
        """
        rule = self._rule
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
        return self._allows_week(day)

    def _allows_week(self, day: datetime) -> bool:
        rule = self._rule
        if rule._byeaster:  # noqa: SLF001
            easter = import_module("dateutil.easter").easter(day.year)
            if (day.date() - easter).days not in rule._byeaster:  # noqa: SLF001
                return False
        if rule._byweekno and rule._wkst == 0:  # noqa: SLF001
            year, week, _ = day.isocalendar()
            weeks = date(year, 12, 28).isocalendar().week
            return bool({week, week - weeks - 1} & set(rule._byweekno))  # noqa: SLF001
        return True

    def _stretch(self, after: datetime, limit: datetime) -> Iterator[datetime]:
        """The rule from a period close before a wall time, up to another one."""
        start = _period_before(self._rule, self._start, after)
        told = self._explicit if start > self._start else {}
        if self._of_days and not (self._rule._byweekno and self._rule._wkst):  # noqa: SLF001
            told = told | dict.fromkeys(_BY_DAYS)  # the day was looked at already
        rule = self._rule.replace(
            count=None, dtstart=max(start, self._start), **told, **_bounded(self._rule, limit)
        )
        try:
            yield from rule
        except ValueError as error:  # some combinations are only found out here
            raise _refusal(f"no rule: {error}") from error


_LAST = datetime(9900, 1, 1) - CENTURIES  # noqa: DTZ001 - a wall time


def _bounded(rule: Any, limit: datetime) -> dict[str, datetime]:
    until = rule._until  # noqa: SLF001
    return {"until": limit if until is None else min(until, limit)}


def _explicit(rule: Any) -> dict[str, Any]:
    """What a rule takes from its start where it says nothing, so that the start may be another one."""
    start, told = rule._dtstart, rule._original_rule  # noqa: SLF001
    clock = {"byhour": start.hour, "byminute": start.minute, "bysecond": start.second}
    finer = ("byhour", "byminute", "bysecond")
    explicit = {
        name: clock[name]
        for level, name in enumerate(finer, _SUBDAILY)
        if told.get(name) is None and rule._freq < level  # noqa: SLF001
    }
    if all(told.get(name) is None for name in _BY_DAYS[1:]):
        explicit |= _days_of(rule._freq, start, told)  # noqa: SLF001
    return explicit


def _days_of(frequency: int, start: datetime, told: dict[str, Any]) -> dict[str, Any]:
    yearly, monthly, weekly = range(3)
    if frequency == yearly:
        month = {} if told.get("bymonth") is not None else {"bymonth": start.month}
        return {"bymonthday": start.day} | month
    if frequency == monthly:
        return {"bymonthday": start.day}
    return {"byweekday": start.weekday()} if frequency == weekly else {}


def _period_before(rule: Any, start: datetime, after: datetime) -> datetime:
    """A start in step with the rule's own, not after a wall time."""
    interval, frequency = rule._interval, rule._freq  # noqa: SLF001
    if frequency == 0:
        years = (after.year - start.year - 1) // interval * interval
        return start.replace(year=start.year + years, month=1, day=1) if years > 0 else start
    if frequency == 1:
        months = (after.year - start.year) * 12 + after.month - start.month - 1
        months = months // interval * interval
        year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
        return start.replace(year=year, month=month + 1, day=1) if months > 0 else start
    unit = (timedelta(weeks=1), timedelta(days=1), timedelta(hours=1), timedelta(minutes=1))
    step: timedelta = interval * (*unit, timedelta(seconds=1))[frequency - 2]
    steps: int = (after - start) // step - 1
    return start + max(0, steps) * step


# --- reading -------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def rrule_recurrence(
    text: str,
    timezone: str,
    anchor: datetime,
    gap: Gap | None = None,
    overlap: Overlap | None = None,
) -> RruleRecurrence:
    """The recurrence of a rule.

    Args:
        text: the lines of RFC 5545.
        timezone: of wall times without a zone of their own.
        anchor: where it begins, if it does not say so.
        gap: what a time does that the clock jumps over; None is `edge`, and `skip` for frequencies
            below a day, which follow elapsed time.
        overlap: what it does when the clock shows it twice; None is `first`, and `both` for those.

    Raises:
        InvalidTrigger: it is no rule, or is beyond the bounds, or the library is not installed.
    """
    parts = read_rule(text, timezone)
    start = parts.start
    if start is None:
        start = anchor.astimezone(load_zone(parts.zone)).replace(microsecond=0, tzinfo=None)
    return RruleRecurrence(parts, start, gap, overlap)


def check_rule(text: str, timezone: str) -> None:
    """Refuse what is no rule; errors as of `rrule_recurrence`."""
    rrule_recurrence(text, timezone, EPOCH)


def read_rule(text: str, timezone: str) -> _Parts:
    """The parts of a rule; errors as of `rrule_recurrence`."""
    if len(text) > MAX_TEXT:
        raise _refusal(f"a rule has at most {MAX_TEXT:,} characters")
    lines = [_line(each) for each in re.sub(r"\r?\n[ \t]", "", text).splitlines() if each.strip()]
    starts = [line for line in lines if line.name == "DTSTART"]
    if len(starts) > 1:
        raise _refusal("a rule has one DTSTART")
    zone, start = timezone, None
    if starts:
        (start,), told = _dates(starts[0], timezone)
        zone = told or timezone
        load_zone(zone, field="trigger.rule")
    aware = bool(starts) and told is not None
    by_name: dict[str, list[_Line]] = {}
    for line in lines:
        by_name.setdefault(line.name, []).append(line)
    strange = by_name.keys() - {"DTSTART", "RRULE", "EXRULE", "RDATE", "EXDATE"}
    if strange:
        raise _refusal(f"{min(strange)} is not known; there are DTSTART, RRULE, RDATE and EXDATE")
    added = [each for line in by_name.get("RDATE", ()) for each in _dates(line, zone)[0]]
    removed = [each for line in by_name.get("EXDATE", ()) for each in _dates(line, zone)[0]]
    if len(added) + len(removed) > MAX_DATES:
        raise _refusal(f"a rule has at most {MAX_DATES:,} dates")
    rules = [_rule_text(line.value, zone, aware=aware) for line in by_name.get("RRULE", ())]
    without = [_rule_text(line.value, zone, aware=aware) for line in by_name.get("EXRULE", ())]
    if not rules and not added:
        raise _refusal("a rule has an RRULE or an RDATE")
    return _Parts(start, zone, tuple(rules), tuple(without), tuple(added), frozenset(removed))


class _Line(NamedTuple):
    name: str
    parameters: dict[str, str]
    value: str


def _line(text: str) -> _Line:
    found = _LINE.fullmatch(text.strip())
    assert found is not None  # noqa: S101 - whatever is there is a value at least
    told = [each.partition("=") for each in (found["parameters"] or "").split(";") if each]
    parameters = {name.upper(): value for name, _, value in told}
    name = found["name"] or "RRULE"
    return _Line(name.upper(), parameters, found["value"])


def _dates(line: _Line, zone: str) -> tuple[list[datetime], str | None]:
    """Wall times in a zone, and the zone that the line names."""
    strange = line.parameters.keys() - {"TZID", "VALUE"}
    if strange:
        raise _refusal(f"{line.name} has no parameter {min(strange)}")
    named = line.parameters.get("TZID")
    texts = line.value.split(",")
    if any(text.strip().upper().endswith("Z") for text in texts):
        if named is not None:
            raise _refusal(f"{line.name} has a TZID and an instant in UTC")
        target = "UTC" if line.name == "DTSTART" else zone
        return [_local(text, target, line.name) for text in texts], "UTC"
    walls = [_wall(text, line.name) for text in texts]
    if named is not None and line.name != "DTSTART" and named != zone:
        there, here = load_zone(named, field="trigger.rule"), load_zone(zone)
        walls = [each.replace(tzinfo=there).astimezone(here).replace(tzinfo=None) for each in walls]
    return walls, named


def _wall(text: str, name: str) -> datetime:
    text = text.strip().upper()
    if _DATE.fullmatch(text) is None:
        raise _refusal(f"{name}: {text[:40]!r} is no date such as 20261201T090000")
    form = "%Y%m%dT%H%M%S" if "T" in text else "%Y%m%d"
    try:
        return datetime.strptime(text.removesuffix("Z"), form)  # noqa: DTZ007 - a wall time
    except ValueError as error:
        raise _refusal(f"{name}: {text} does not exist") from error


def _local(text: str, zone: str, name: str) -> datetime:
    """The wall time of an instant in UTC; of others the one told."""
    wall = _wall(text, name)
    if not text.strip().upper().endswith("Z"):
        return wall
    return wall.replace(tzinfo=UTC).astimezone(load_zone(zone)).replace(tzinfo=None)


def _rule_text(text: str, zone: str, *, aware: bool) -> str:
    """One `RRULE` as dateutil reads it, its end on the wall clock."""
    parts: dict[str, str] = {}
    for each in text.strip().upper().split(";"):
        name, _, value = each.partition("=")
        if not value or name in parts:
            raise _refusal(f"{each[:40]!r}: each part of a rule is NAME=VALUE, once")
        parts[name] = value
    if "FREQ" not in parts:
        raise _refusal("a rule has a FREQ")
    if "COUNT" in parts and "UNTIL" in parts:
        raise _refusal("a rule has a COUNT or an UNTIL")
    for name, most in (("INTERVAL", 999_999), ("COUNT", MAX_COUNT)):
        value = parts.get(name, "1")
        if not _NUMBER.fullmatch(value) or not 1 <= int(value) <= most:
            raise _refusal(f"{name} is a number from 1 to {most:,}")
    if "UNTIL" in parts:
        parts["UNTIL"] = _until(parts["UNTIL"], zone, aware=aware)
    return ";".join(f"{name}={value}" for name, value in parts.items())


def _until(text: str, zone: str, *, aware: bool) -> str:
    utc = text.endswith("Z")
    if "T" in text and utc != aware:
        needed = "in UTC, as DTSTART has a zone" if aware else "without Z, as DTSTART has no zone"
        raise _refusal(f"UNTIL is to be told {needed}")
    return _local(text, zone, "UNTIL").strftime("%Y%m%dT%H%M%S")


def _library() -> Any:
    try:
        return import_module("dateutil.rrule")
    except ImportError as error:
        raise _refusal(
            f"rules need the library of the extra `{EXTRA}`: pip install 'horae[{EXTRA}]'"
        ) from error


def _refusing(read: Any) -> Any:
    try:
        return read()
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        raise _refusal(f"no rule: {error}"[:300]) from error


def _refusal(reason: str) -> InvalidTrigger:
    return InvalidTrigger(reason, field="trigger.rule")
