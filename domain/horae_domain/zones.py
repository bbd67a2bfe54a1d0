"""Time zones from the pinned `tzdata` package, never from the host.

Two machines, or one before and after an update of its system, must agree on when a schedule is
due; so the database is a dependency like any other, and its version is recorded with decisions.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from importlib import import_module, resources
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from horae_domain.errors import InvalidTrigger

_DAY = 86_400
_BLOCK = 6 * _DAY
"""A block has one change at most: no zone ever kept an offset for less than 6.9 days (a test
reads them all)."""

_KEPT = 4096
"""Blocks of a zone that are kept: 67 years."""

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


@cache
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
    """A time during which a zone keeps its offset from UTC: it ends before `end`.

    `last` and `coming` are the changes nearest before and after it, if within six days.
    """

    offset: int
    end: int
    last: Change | None
    coming: Change | None


class Timeline:
    """When a zone's offset from UTC changes, in whole seconds; read in blocks that are kept."""

    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._blocks: dict[int, tuple[Stretch, ...]] = {}
        self._changes: dict[int, Change] = {}

    def stretch(self, second: int) -> Stretch:
        """The stretch that contains a UTC second."""
        number = second // _BLOCK
        block = self._blocks.get(number) or self._read(number)
        return block[0] if second < block[0].end else block[1]

    def _read(self, number: int) -> tuple[Stretch, ...]:
        offsets = [self._offset(n * _BLOCK) for n in range(number - 1, number + 3)]
        before, change, after = (
            None if left == right else self._change(n, left, right)
            for n, (left, right) in enumerate(pairwise(offsets), number - 1)
        )
        end = (number + 1) * _BLOCK
        if change is None:
            block: tuple[Stretch, ...] = (Stretch(offsets[1], end, before, after),)
        else:
            block = (
                Stretch(change.before, change.at, before, change),
                Stretch(change.after, end, change, after),
            )
        if len(self._blocks) >= _KEPT:
            self._blocks.clear()
            self._changes.clear()
        self._blocks[number] = block
        return block

    def _change(self, number: int, before: int, after: int) -> Change:
        """The change in a block: after its first second, up to the first of the next block."""
        found = self._changes.get(number)
        if found is None:
            edge = self._edge(number * _BLOCK, (number + 1) * _BLOCK, before)
            found = self._changes[number] = Change(edge, before, after)
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
        offset = datetime.fromtimestamp(second, self.zone).utcoffset()
        assert offset is not None  # noqa: S101 - a ZoneInfo always knows
        return offset.days * _DAY + offset.seconds


@cache
def timeline(name: str) -> Timeline:
    """The shared timeline of a zone; errors as in `load_zone`."""
    return Timeline(load_zone(name))
