"""Recurrence rules of RFC 5545 (T13): `DTSTART`, `RRULE`, `RDATE`, `EXDATE` on the wall clock of a zone.

The `dateutil` library expands a rule from a start; it is an optional dependency. Here stand what it
lacks: a start near the instant asked for, so that an old rule costs no more than a new one, bounds,
and what a change of the clocks does to a wall time (`horae_domain.zones`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib import import_module
from itertools import islice
from typing import Any

from horae_domain.instants import EPOCH
from horae_domain.recurrence import Occurrence
from horae_domain.rrule_steps import BY_DAYS, DAY, SUBDAILY, WALL_EPOCH, Steps, allowed_day
from horae_domain.rrule_text import Parts, read_rule, refusal
from horae_domain.walker import Gap, Overlap
from horae_domain.zones import load_zone, timeline

HORIZON = timedelta(days=41 * 366)
"""A rule that waits longer does not fire any more."""
CENTURIES = timedelta(days=1_000 * 366)
"""The same for one by years."""
COUNTED = timedelta(days=100 * 366)
"""How far from its start a rule that counts goes at most, unless by years."""
EXTRA = "rrule"

_SKIPS = 10_000
"""Occurrences left out in a row, after which there are no more."""


class RruleRecurrence:
    """The occurrences of a recurrence rule; made by `rrule_recurrence`."""

    def __init__(
        self, parts: Parts, start: datetime, gap: Gap | None, overlap: Overlap | None
    ) -> None:
        self.timezone = parts.zone
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
        wall = WALL_EPOCH + timedelta(seconds=second + stretch.offset - doubt)
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
        second = (wall - WALL_EPOCH) // timedelta(seconds=1)
        offsets = {
            self._timeline.stretch(second + way * DAY).offset for way in (-1, 0, 1)
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
        before = self._timeline.stretch(second - 2 * DAY).offset
        change = self._timeline.stretch(second - before).last
        assert change is not None  # noqa: S101 - only a change leaves a wall time out
        at = change.at if self._gap == "edge" else second - change.before
        return [self._occurrence(at, wall, 0)]

    def _occurrence(self, second: int, wall: datetime, fold: int) -> Occurrence:
        suffix = "/1" if fold else ""
        nominal = f"{wall.isoformat()}[{self.timezone}]{suffix}"
        return Occurrence(EPOCH + timedelta(seconds=second), nominal)


_FIRST = datetime(1000, 1, 1, tzinfo=UTC)
_LONGEST_CHANGE = timedelta(hours=26)


def _wall_of(due: datetime, zone: Any) -> datetime:
    second = (due - EPOCH) // timedelta(seconds=1)
    return WALL_EPOCH + timedelta(seconds=second + zone.stretch(second).offset)


class _Rule:
    """One `RRULE` with its start."""

    def __init__(self, text: str, start: datetime) -> None:
        library = _library()
        self._start = start
        self._rule = _refusing(lambda: library.rrulestr(text, dtstart=start))
        self.subdaily = self._rule._freq >= SUBDAILY  # noqa: SLF001 - it has no other way to tell
        self._steps = Steps(self._rule, start) if self.subdaily else None
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
        """The rule as it goes on from a wall time."""
        if self._steps is not None:
            return self._steps.walls(after, _bounded(self._rule, limit)["until"])
        return self._stretch(after, limit)

    def _stretch(self, after: datetime, limit: datetime) -> Iterator[datetime]:
        """The rule from a period close before a wall time, up to another one."""
        if allowed_day(self._rule, after, limit) is None:
            return
        start = _period_before(self._rule, self._start, after)
        told = self._explicit if start > self._start else {}
        rule = self._rule.replace(
            count=None, dtstart=max(start, self._start), **told, **_bounded(self._rule, limit)
        )
        yield from rule


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
        for level, name in enumerate(finer, SUBDAILY)
        if told.get(name) is None and rule._freq < level  # noqa: SLF001
    }
    if all(told.get(name) is None for name in BY_DAYS[1:]):
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


def _library() -> Any:
    try:
        return import_module("dateutil.rrule")
    except ImportError as error:
        raise refusal(
            f"rules need the library of the extra `{EXTRA}`: pip install 'horae[{EXTRA}]'"
        ) from error


def _refusing(read: Any) -> Any:
    try:
        return read()
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError) as error:
        raise refusal(f"no rule: {error}"[:300]) from error
