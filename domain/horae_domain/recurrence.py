"""Recurrences: what gives a schedule its occurrences, without regard to bounds or calendars."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec

from horae_domain.cron import parse_cron
from horae_domain.errors import InvalidTrigger
from horae_domain.instants import EPOCH, format_instant
from horae_domain.walker import Firing, Gap, Overlap, Walker
from horae_domain.zones import load_zone

_SECOND = timedelta(seconds=1)


class Occurrence(NamedTuple):
    """When something is due (UTC), and the label that identifies it whatever moves it.

    The nominal of a cron occurrence is its wall time, zone and, in the second pass of an overlap,
    `/1`: `2026-03-29T02:30:00[Europe/Berlin]`. Of the others it is the instant.
    """

    due: datetime
    nominal: str
    moved_to: datetime | None = None
    """Where somebody moved it; it keeps its nominal instant and its label."""
    instant: datetime | None = None
    """What its identity is ordered by, if not by `due`: what an edit of the schedule cannot change."""
    put_off_to: datetime | None = None
    """Where its schedule puts it: not before its nominal instant, and before the next one's."""
    because: str = ""
    """The calendar that is closed at its nominal instant, if it was moved for that."""

    @property
    def falls(self) -> datetime:
        """When its schedule has it."""
        return self.put_off_to or self.due

    @property
    def comes(self) -> datetime:
        """When it is to be decided."""
        return self.moved_to or self.put_off_to or self.due


class Recurrence(Protocol):
    """A row of occurrences in time."""

    def next(self, after: datetime) -> Occurrence | None:
        """The first occurrence strictly after an instant; None if there is none."""
        ...

    def previous(self, before: datetime) -> Occurrence | None:
        """The last occurrence strictly before an instant; None if there is none."""
        ...

    def __hash__(self) -> int: ...


class _Stretch(NamedTuple):
    """Seconds, both inclusive, from each of which on this is the next occurrence."""

    first: int
    last: int
    occurrence: Occurrence | None


class CronRecurrence:
    """The instants of a cron expression in a zone; made by `cron_recurrence`."""

    def __init__(
        self, expression: str, timezone: str, gap: Gap | None, overlap: Overlap | None
    ) -> None:
        self.expression = expression
        self.timezone = load_zone(timezone).key
        self._walker = Walker(parse_cron(expression), timezone, gap, overlap)
        self._known = _Stretch(1, 0, None)

    def next(self, after: datetime) -> Occurrence | None:
        """The first occurrence strictly after an instant; None after the year 9900."""
        second = (after - EPOCH) // _SECOND + 1
        known = self._known
        if known.first <= second <= known.last:
            return known.occurrence
        firing = self._walker.next(second)
        found = self._occurrence(firing)
        if firing is not None:
            self._known = _Stretch(second, firing.second, found)
        return found

    def previous(self, before: datetime) -> Occurrence | None:
        """The last occurrence strictly before an instant; None if none in 41 years."""
        return self._occurrence(self._walker.previous(-((EPOCH - before) // _SECOND)))

    def matches(self, at: datetime) -> bool:
        """Whether an occurrence is due in the minute of `at`, or in its second with six fields."""
        second = (at - EPOCH) // _SECOND
        if not self._walker.cron.by_second:
            second -= second % 60
        found = self._walker.next(second)
        return found is not None and found.second == second

    def _occurrence(self, firing: Firing | None) -> Occurrence | None:
        if firing is None:
            return None
        wall = (EPOCH + timedelta(seconds=firing.wall)).replace(tzinfo=None).isoformat()
        fold = "/1" if firing.fold else ""
        return Occurrence(
            EPOCH + timedelta(seconds=firing.second), f"{wall}[{self.timezone}]{fold}"
        )


@lru_cache(maxsize=16_384)
def cron_recurrence(
    expression: str, timezone: str, gap: Gap | None = None, overlap: Overlap | None = None
) -> CronRecurrence:
    """The recurrence of a cron expression; the same object for the same arguments.

    Args:
        expression: as in `horae_domain.cron`.
        timezone: an IANA name.
        gap: what a job at a fixed time does when the clock jumps over it; None is Debian's rule.
        overlap: what it does when the clock shows its time twice; None is Debian's rule.

    Raises:
        InvalidTrigger: the expression or the zone is not one.
    """
    return CronRecurrence(expression, timezone, gap, overlap)


class IntervalRecurrence(msgspec.Struct, frozen=True):
    """Every `every` from an anchor, before it as after it, in exact microseconds without drift."""

    every: timedelta
    anchor: datetime

    def __post_init__(self) -> None:
        if self.every <= timedelta(0):
            raise InvalidTrigger(
                "an interval is longer than zero", field="trigger.every", value=self.every
            )

    def next(self, after: datetime) -> Occurrence | None:
        """The first `anchor + k * every` strictly after an instant, for any whole k."""
        return self._occurrence((after - self.anchor) // self.every + 1)

    def previous(self, before: datetime) -> Occurrence | None:
        """The last `anchor + k * every` strictly before an instant, for any whole k."""
        return self._occurrence(-((self.anchor - before) // self.every) - 1)

    def _occurrence(self, steps: int) -> Occurrence | None:
        return _at_step(self.anchor, self.every, steps)


@lru_cache(maxsize=16_384)
def _at_step(anchor: datetime, every: timedelta, steps: int) -> Occurrence | None:
    """Asked for several times in the course of one firing."""
    try:
        due = (anchor + steps * every).astimezone(UTC)
    except OverflowError:
        return None
    return Occurrence(due, format_instant(due))


@lru_cache(maxsize=16_384)
def interval_recurrence(every: timedelta, anchor: datetime) -> IntervalRecurrence:
    """The recurrence of an interval; the same object for the same arguments."""
    return IntervalRecurrence(every, anchor)


class OnceRecurrence(msgspec.Struct, frozen=True):
    """One instant."""

    at: datetime

    def next(self, after: datetime) -> Occurrence | None:
        """The instant, if it is strictly after another."""
        due = self.at.astimezone(UTC)
        return Occurrence(due, format_instant(due)) if due > after else None

    def previous(self, before: datetime) -> Occurrence | None:
        """The instant, if it is strictly before another."""
        due = self.at.astimezone(UTC)
        return Occurrence(due, format_instant(due)) if due < before else None


def preview(recurrence: Recurrence, after: datetime, count: int) -> list[Occurrence]:
    """The first occurrences strictly after an instant, at most `count`."""
    return [found for _, found in zip(range(count), _walk(recurrence, after), strict=False)]


def span(recurrence: Recurrence, after: datetime, until: datetime, limit: int) -> list[Occurrence]:
    """The occurrences with `after < due <= until`, the first `limit` of them."""
    found: list[Occurrence] = []
    for occurrence in _walk(recurrence, after):
        if occurrence.due > until or len(found) >= limit:
            break
        found.append(occurrence)
    return found


def _walk(recurrence: Recurrence, after: datetime) -> Iterator[Occurrence]:
    occurrence = recurrence.next(after)
    while occurrence is not None:
        yield occurrence
        occurrence = recurrence.next(occurrence.due)
