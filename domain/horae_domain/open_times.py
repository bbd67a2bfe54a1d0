"""When calendars are open: the time line in pieces, a day at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from horae_domain.calendars import AnyCalendar, Blackout, WallCalendar
from horae_domain.instants import to_micros
from horae_domain.zones import timeline

SECOND = 1_000_000
DAY_SECONDS = 86_400
DAY = DAY_SECONDS * SECOND
LOOKED_AT = 3 * 366
"""Days without an open instant, not counting those of a blackout, after which there is none."""

_KEPT = 4096
_LAST = to_micros(datetime(9900, 1, 1, tzinfo=UTC))


class Piece(NamedTuple):
    """Some time in which nothing opens or closes, in microseconds since 1970; it ends before `end`."""

    begin: int
    end: int
    closed_by: str
    """The reason of the first calendar that is closed; empty while all are open."""
    skips: bool
    """True if one that is closed skips what is due."""


class OpenTimes:
    """When all of some calendars are open; made by `open_times`."""

    def __init__(self, calendars: Sequence[AnyCalendar], timezone: str) -> None:
        self._calendars = calendars
        self._zone = timezone
        self._days: dict[int, tuple[Piece, ...]] = {}
        self._shut = _LAST
        """From here on it is not open for longer than anybody looks."""

    def piece(self, instant: int) -> Piece:
        """The piece of an instant."""
        return next(each for each in self._day(instant // DAY) if instant < each.end)

    def opens(self, instant: int) -> int | None:
        """The first open instant not before another one; None if there is none for years."""
        begin, horizon = instant, instant + LOOKED_AT * DAY
        piece = self.piece(instant)
        while piece.closed_by:
            instant = self._blackout_end(piece)
            horizon += instant - piece.end
            if instant >= min(horizon, self._shut):
                self._shut = min(self._shut, begin)
                return None
            piece = self.piece(instant)
        return instant

    def open_for(self, instant: int, limit: int) -> int:
        """How long it stays open from an open instant on, as far as that is less than a limit."""
        piece = self.piece(instant)
        while not piece.closed_by:
            if piece.end - instant >= limit:
                return limit
            piece = self.piece(piece.end)
        return piece.begin - instant

    def _blackout_end(self, piece: Piece) -> int:
        """The end of a piece, or of the blackout that covers it."""
        ends = [
            to_micros(each.end_at)
            for each in self._calendars
            if isinstance(each, Blackout) and to_micros(each.start_at) <= piece.begin
        ]
        return max([piece.end, *ends])

    def _day(self, number: int) -> tuple[Piece, ...]:
        found = self._days.get(number)
        if found is None:
            if len(self._days) >= _KEPT:
                self._days.clear()
            found = self._days[number] = tuple(self._pieces(number))
        return found

    def _pieces(self, number: int) -> Iterator[Piece]:
        begin, end = number * DAY, (number + 1) * DAY
        edges = {each for calendar in self._calendars for each in self._edges(calendar, number)}
        inner = sorted(each for each in edges if begin < each < end)
        piece: Piece | None = None
        for left, right in pairwise([begin, *inner, end]):
            closing = [each for each in self._calendars if self._closed(each, left)]
            reason = closing[0].reason if closing else ""
            skips = any(each.policy == "skip" for each in closing)
            if piece is not None and (piece.closed_by, piece.skips) == (reason, skips):
                piece = piece._replace(end=right)
                continue
            if piece is not None:
                yield piece
            piece = Piece(left, right, reason, skips)
        assert piece is not None  # noqa: S101 - a day has at least one
        yield piece

    def _edges(self, calendar: AnyCalendar, number: int) -> Iterator[int]:
        """When a calendar may open or close around a day."""
        if isinstance(calendar, Blackout):
            yield to_micros(calendar.start_at)
            yield to_micros(calendar.end_at)
            return
        stretch_of = timeline(calendar.timezone or self._zone).stretch
        second, end = number * DAY_SECONDS, (number + 1) * DAY_SECONDS
        while second < end:
            stretch = stretch_of(second)
            last = min(stretch.end, end)
            yield second * SECOND
            first_day = (second + stretch.offset) // DAY_SECONDS
            for day in range(first_day, (last + stretch.offset) // DAY_SECONDS + 1):
                for each in (0, *calendar.edges):
                    found = day * DAY_SECONDS + each - stretch.offset
                    if second < found < last:
                        yield found * SECOND
            second = last

    def _closed(self, calendar: AnyCalendar, instant: int) -> bool:
        if isinstance(calendar, Blackout):
            return to_micros(calendar.start_at) <= instant < to_micros(calendar.end_at)
        return self._wall_closed(calendar, instant // SECOND)

    def _wall_closed(self, calendar: WallCalendar, second: int) -> bool:
        stretch = timeline(calendar.timezone or self._zone).stretch(second)
        return calendar.closed(*divmod(second + stretch.offset, DAY_SECONDS))


@lru_cache(maxsize=1024)
def open_times(calendars: tuple[AnyCalendar, ...], timezone: str) -> OpenTimes:
    """When all of some calendars are open; the same object for the same arguments.

    `timezone` is that of calendars that name none.
    """
    return OpenTimes(calendars, timezone)
