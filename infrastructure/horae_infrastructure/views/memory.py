"""The view store in this process's memory: for embedding without servers, and for tests."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice

from horae_projections.ports import (
    Change,
    Key,
    Listing,
    Mark,
    Page,
    PlaceKey,
    Range,
    Rows,
    StaleProjector,
    Step,
    ViewUnavailable,
)

Place = tuple[float | str, str]
"""The key and the id of a row in the order of a cell; no id where the key is the id, so that it
comes first among its like, as in the other adapters."""

LAST = "\U0010ffff"
"""Behind every id."""


class _Version:
    """One version of a view: rows, cells and sets, and the position that they rest on."""

    def __init__(self) -> None:
        self.position: str | None = None
        self.rows: dict[Key, bytes] = {}
        self.texts: dict[Key, str] = {}
        self.cells: dict[tuple[str, str, str], list[Place]] = {}
        self.sets: dict[tuple[str, str, str], set[str]] = {}

    def change(self, change: Change) -> None:
        key = change.key
        for name, by in change.drop.items():
            self._drop(key, name, by)
        for name, by in change.add.items():
            self._add(key, name, by)
        if change.row is None:
            self.rows.pop(key, None)
            self.texts.pop(key, None)
        else:
            self.rows[key] = change.row
            self.texts[key] = change.text or key.id.lower()

    def _add(self, key: Key, name: str, by: PlaceKey) -> None:
        index = (key.table, key.tenant, name)
        if by is None:
            self.sets.setdefault(index, set()).add(key.id)
        else:
            insort(self.cells.setdefault(index, []), _place(by, key.id))

    def _drop(self, key: Key, name: str, by: PlaceKey) -> None:
        index = (key.table, key.tenant, name)
        if by is None:
            self.sets[index].discard(key.id)
            return
        cell = self.cells[index]
        place = _place(by, key.id)
        at = bisect_left(cell, place)
        if at < len(cell) and cell[at] == place:
            del cell[at]

    # --- lists ------------------------------------------------------------------------------------

    def page(self, listing: Listing) -> Page:
        allowed = self._allowed(listing)
        found = list(islice(self._walk(listing, allowed), listing.limit + 1))
        end = found[listing.limit - 1] if len(found) > listing.limit else None
        rows = [(mark.id, self._row(listing, mark.id)) for mark in found[: listing.limit]]
        total = self._total(listing, allowed) if listing.totals else 0
        return Page(self.position or "", total, rows, end)

    def _row(self, listing: Listing, id_: str) -> bytes:
        return self.rows[Key(listing.table, listing.tenant, id_)]

    def _cell(self, listing: Listing, order: str, cell: str) -> list[Place]:
        return self.cells.get((listing.table, listing.tenant, f"{order}:{cell}"), [])

    def _cells(self, listing: Listing) -> list[str]:
        return [cell for group in listing.groups for cell in group]

    def _allowed(self, listing: Listing) -> set[str] | None:
        """The ids that satisfy every condition but the cells and the order's own range."""
        conditions = [self._set(listing, name) for name in listing.all_of]
        if listing.any_of:
            conditions.append(set().union(*(self._set(listing, name) for name in listing.any_of)))
        conditions += [
            self._within(listing, within)
            for within in listing.within
            if within.order != listing.order
        ]
        if listing.only:
            conditions.append(set(listing.only))
        if listing.contains:
            conditions.append(self._containing(listing))
        return set.intersection(*conditions) if conditions else None

    def _set(self, listing: Listing, name: str) -> set[str]:
        return self.sets.get((listing.table, listing.tenant, name), set())

    def _within(self, listing: Listing, within: Range) -> set[str]:
        cells = (self._cell(listing, within.order, name) for name in self._cells(listing))
        return {id_ for cell in cells for _, id_ in _between(cell, within.low, within.high)}

    def _containing(self, listing: Listing) -> set[str]:
        ids = (
            id_
            for name in self._cells(listing)
            for _, id_ in self._cell(listing, listing.base, name)
        )
        table, tenant = listing.table, listing.tenant
        return {id_ for id_ in ids if listing.contains in self.texts[Key(table, tenant, id_)]}

    def _bounded(self, listing: Listing, name: str) -> list[Place]:
        cell = self._cell(listing, listing.order, name)
        for within in listing.within:
            if within.order == listing.order:
                cell = _between(cell, within.low, within.high)
        return cell

    def _walk(self, listing: Listing, allowed: set[str] | None) -> Iterator[Mark]:
        for number, group in enumerate(listing.groups):
            after = listing.after
            if after is not None and number < after.group:
                continue
            start = (
                _place(after.key, after.id) if after is not None and number == after.group else None
            )
            cells = [
                _after(self._bounded(listing, name), start, descending=listing.descending)
                for name in group
            ]
            for key, named in merge(*cells, reverse=listing.descending):
                id_ = named or str(key)
                if allowed is None or id_ in allowed:
                    yield Mark(number, key, id_)

    def _total(self, listing: Listing, allowed: set[str] | None) -> int:
        cells = [self._bounded(listing, name) for name in self._cells(listing)]
        if allowed is None:
            return sum(map(len, cells))
        return sum((id_ or key) in allowed for cell in cells for key, id_ in cell)


def _place(key: float | str, id_: str) -> Place:
    return (key, "" if key == id_ else id_)


def _between(cell: list[Place], low: float, high: float) -> list[Place]:
    first = bisect_left(cell, (low, ""))
    last = bisect_left(cell, (high, LAST))
    return cell if last - first == len(cell) else cell[first:last]


def _after(cell: list[Place], start: Place | None, *, descending: bool) -> Iterator[Place]:
    if descending:
        end = len(cell) if start is None else bisect_left(cell, start)
        return (cell[index] for index in range(end - 1, -1, -1))
    begin = 0 if start is None else bisect_right(cell, start)
    return (cell[index] for index in range(begin, len(cell)))


class MemoryViews:
    """A `ViewStore` that ends with its process."""

    def __init__(self) -> None:
        self._versions: dict[str, _Version] = {}
        self._live: str | None = None

    async def check(self) -> None:
        """Nothing can be amiss."""

    async def live(self) -> str | None:
        """The name of the live version."""
        return self._live

    async def publish(self, version: str | None, *, instead_of: str | None) -> bool:
        """Make a version the live one and forget all others; see the port."""
        if self._live != instead_of:
            return False
        self._live = version
        self._versions = {name: held for name, held in self._versions.items() if name == version}
        return True

    async def drop(self, version: str) -> None:
        """Forget a version."""
        self._versions.pop(version, None)

    async def position(self, version: str) -> str | None:
        """Where a version stands."""
        held = self._versions.get(version)
        return held.position if held else None

    async def apply(self, version: str, steps: Sequence[Step]) -> None:
        """Take steps; see the port."""
        for step in steps:
            held = self._versions.get(version)
            if (held.position if held else None) != step.expected:
                raise StaleProjector(held.position if held else None)
            held = self._versions.setdefault(version, _Version())
            for change in step.changes:
                held.change(change)
            held.position = step.position

    async def load(self, version: str, keys: Sequence[Key]) -> list[bytes | None]:
        """Rows of a version."""
        held = self._versions.get(version)
        return [held.rows.get(key) if held else None for key in keys]

    async def rows(self, keys: Sequence[Key]) -> Rows:
        """Rows of the live version."""
        held = self._read()
        return Rows(held.position or "", [held.rows.get(key) for key in keys])

    async def page(self, listing: Listing) -> Page:
        """A page of the live version."""
        return self._read().page(listing)

    def _read(self) -> _Version:
        held = self._versions.get(self._live) if self._live else None
        if held is None:
            raise ViewUnavailable("the view is being built")
        return held

    async def close(self) -> None:
        """Nothing to release."""
