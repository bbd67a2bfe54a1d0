"""Time zones from the pinned `tzdata` package, never from the host.

Two machines, or one before and after an update of its system, must agree on when a schedule is
due; so the database is a dependency like any other, and its version is recorded with decisions.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime
from functools import cache
from importlib import import_module, resources
from typing import NamedTuple
from zoneinfo import ZoneInfo

from horae_domain.errors import InvalidTrigger

_DAY = 86_400
_SPAN = 365 * _DAY
_STEP = 6 * _DAY
"""No zone since 1900 kept an offset for less than 6.9 days (a test reads them all)."""

_ROOT = resources.files("tzdata")


def load_zone(name: str, *, field: str = "trigger.timezone") -> ZoneInfo:
    """The zone of an IANA name, such as `Europe/Berlin`.

    Raises:
        InvalidTrigger: no zone has this name (names are case-sensitive); nothing outside the
            database's own list is ever opened.
    """
    if not isinstance(name, str) or name not in _names():
        raise InvalidTrigger(
            f"no IANA time zone has this name (tzdata {tzdata_version()})", field=field, value=name
        )
    return _load(name)


def tzdata_version() -> str:
    """The release of the IANA database in use, such as `2026a`."""
    return str(import_module("tzdata").IANA_VERSION)


@cache
def _names() -> frozenset[str]:
    return frozenset(_ROOT.joinpath("zones").read_text(encoding="ascii").split())


@cache
def _load(name: str) -> ZoneInfo:
    with _ROOT.joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


class Change(NamedTuple):
    """The clocks change at `at` (seconds since 1970 UTC) from offset `before` to `after`."""

    at: int
    before: int
    after: int


class Stretch(NamedTuple):
    """A time, within one span, during which a zone keeps its offset from UTC.

    `last` and `coming` are the changes nearest before and after, if within the span or six days
    of it; the stretch begins at the last one or earlier, and ends before `end`.
    """

    offset: int
    end: int
    last: Change | None
    coming: Change | None


class Timeline:
    """When a zone's offset from UTC changes, in whole seconds.

    Read from the zone in spans of a year's length, which are kept.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._spans: dict[int, tuple[list[int], list[Stretch]]] = {}

    def stretch(self, second: int) -> Stretch:
        """The stretch that contains a UTC second."""
        number = second // _SPAN
        starts, stretches = self._spans.get(number) or self._read(number)
        return stretches[bisect_right(starts, second)]

    def _read(self, number: int) -> tuple[list[int], list[Stretch]]:
        first, end = number * _SPAN, (number + 1) * _SPAN
        changes = self._changes(first - _STEP, end + _STEP)
        starts = [change.at for change in changes]
        stretches = []
        for index in range(len(changes) + 1):
            last = changes[index - 1] if index else None
            coming = changes[index] if index < len(changes) else None
            offset = last.after if last else coming.before if coming else self._offset(first)
            stretches.append(Stretch(offset, min(coming.at, end) if coming else end, last, coming))
        self._spans[number] = starts, stretches
        return starts, stretches

    def _changes(self, first: int, end: int) -> list[Change]:
        found = []
        left, before = first, self._offset(first)
        while left < end:
            right = left + _STEP
            after = self._offset(right)
            if after != before:
                found.append(Change(self._edge(left, right, before), before, after))
            left, before = right, after
        return found

    def _edge(self, left: int, right: int, before: int) -> int:
        """The first second with another offset; `left` has `before`, `right` has not."""
        while right - left > 1:
            middle = (left + right) // 2
            if self._offset(middle) == before:
                left = middle
            else:
                right = middle
        return right

    def _offset(self, second: int) -> int:
        wall = datetime.fromtimestamp(second, UTC).astimezone(self.zone)
        offset = wall.utcoffset()
        assert offset is not None  # noqa: S101 - a ZoneInfo always knows
        return offset.days * _DAY + offset.seconds


@cache
def timeline(name: str) -> Timeline:
    """The shared timeline of a zone; errors as in `load_zone`."""
    return Timeline(load_zone(name))
