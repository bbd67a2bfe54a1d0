"""A recurrence under calendars: what they skip is no occurrence, what they move comes later (T9).

Of occurrences that are moved to the same instant, one is left: the last, which is the one that is due
there, if there is one. So each instant has one occurrence at most, and occurrences come in order.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from horae_domain.calendars import AnyCalendar
from horae_domain.instants import from_micros, to_micros
from horae_domain.open_times import OpenTimes, open_times
from horae_domain.recurrence import Occurrence, Recurrence

SUPERSEDED = "superseded"
"""The reason of what is moved to where a later one comes."""
COUNTED = 1000
"""Instants left out in a row that are counted one by one."""

_TICK = timedelta(microseconds=1)
_TRIES = 1000
"""Closed stretches in a row with something due, after which nothing fires any more."""


class LeftOut(NamedTuple):
    """Instants in a row that fire not, for one reason."""

    first: datetime
    last: datetime
    instants: int | None
    """How many; None if there are too many to count."""
    reason: str


class ObservedRecurrence:
    """The occurrences that calendars let come; made by `observed`."""

    def __init__(self, base: Recurrence, times: OpenTimes, end: datetime | None) -> None:
        self._base = base
        self._times = times
        self._end = end

    def next(self, after: datetime) -> Occurrence | None:
        """The first occurrence due strictly after an instant; None if there is none for long."""
        for _ in range(_TRIES):
            found = self._base.next(after)
            if found is None:
                return None
            piece = self._times.piece(to_micros(found.due))
            if not piece.closed_by:
                return found
            if not piece.skips:
                return self._moved(found, piece.closed_by)
            after = from_micros(piece.end) - _TICK
        return None

    def previous(self, before: datetime) -> Occurrence | None:
        """The last occurrence due strictly before an instant; None if there was none for long."""
        earlier = before
        for _ in range(_TRIES):
            found = self._base.previous(earlier)
            if found is None:
                return None
            piece = self._times.piece(to_micros(found.due))
            if not piece.closed_by:
                return found
            if not piece.skips:
                moved = self._moved(found, piece.closed_by)
                if moved is not None and moved.due < before:
                    return moved
            earlier = from_micros(piece.begin)
        return None

    def open_for(self, instant: datetime, limit: timedelta) -> timedelta:
        """How long the calendars stay open from an instant on, up to a limit."""
        bound = limit // _TICK
        return timedelta(microseconds=self._times.open_for(to_micros(instant), bound))

    def left_out(
        self, after: datetime, before: datetime, away: Container[str] = ()
    ) -> Iterator[LeftOut]:
        """What is due strictly between two instants and fires not, but for labels in `away`."""
        run: LeftOut | None = None
        found = self._base.next(after)
        while found is not None and found.due < before:
            reason = "" if found.nominal in away else self._reason(found)
            if run is not None and run.reason != reason:
                yield run
                run = None
            if reason:
                found, run = self._go_on(found, run, reason, before, jump=not away)
            found = self._base.next(found.due)
        if run is not None:
            yield run

    def _go_on(
        self,
        found: Occurrence,
        run: LeftOut | None,
        reason: str,
        before: datetime,
        *,
        jump: bool,
    ) -> tuple[Occurrence, LeftOut]:
        """One more that is left out, or from a number on all of the piece at once."""
        if run is None:
            return found, LeftOut(found.due, found.due, 1, reason)
        if run.instants is not None and (run.instants < COUNTED or not jump):
            return found, run._replace(last=found.due, instants=run.instants + 1)
        if reason != SUPERSEDED:
            end = from_micros(self._times.piece(to_micros(found.due)).end)
            found = self._base.previous(min(end, before)) or found
        return found, run._replace(last=found.due, instants=None)

    def _reason(self, found: Occurrence) -> str:
        """Why an occurrence of the bare recurrence fires not; empty if it does."""
        piece = self._times.piece(to_micros(found.due))
        if not piece.closed_by:
            return ""
        if piece.skips:
            return piece.closed_by
        moved = self._moved(found, piece.closed_by)
        if moved is None:
            return piece.closed_by
        return "" if moved.due == found.due else SUPERSEDED

    def _moved(self, found: Occurrence, reason: str) -> Occurrence | None:
        """The occurrence that comes where this one is moved to."""
        opens = self._times.opens(to_micros(found.due))
        if opens is None:
            return None
        target = from_micros(opens)
        bound = target if self._end is None else min(target, self._end)
        last = self._base.previous(bound + _TICK)
        while last is not None and last.due > found.due:
            piece = self._times.piece(to_micros(last.due))
            if not piece.closed_by:
                return last
            if not piece.skips:
                return last._replace(put_off_to=target, because=piece.closed_by)
            last = self._base.previous(from_micros(piece.begin))
        return found._replace(put_off_to=target, because=reason)


@lru_cache(maxsize=4096)
def observed(
    recurrence: Recurrence,
    calendars: tuple[AnyCalendar, ...],
    timezone: str,
    end: datetime | None = None,
) -> ObservedRecurrence:
    """A recurrence under calendars; the same object for the same arguments.

    Nothing that is due after `end` takes the place of what is due before.
    """
    return ObservedRecurrence(recurrence, open_times(calendars, timezone), end)
