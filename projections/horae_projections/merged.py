"""Pages by cursor, of one listing or of several that are one list."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from horae_domain.errors import InvalidField
from horae_domain.instants import to_micros
from horae_domain.positions import parse_position
from horae_projections.ports import Listing, Mark, Page, Range, ViewStore
from horae_projections.rows import unpack

FOREVER = 2.0**60
"""A number above every instant and below infinity, which stands for no time at all."""
LAST = "\U0010ffff"
"""Behind every id."""

Answer = dict[str, Any]


def cursor(kind: str, end: Mark | None) -> str | None:
    """The wire form of where a page of a kind of list ends."""
    if end is None:
        return None
    return urlsafe_b64encode(msgspec.msgpack.encode((kind, *end))).decode().rstrip("=")


def mark(kind: str, text: str | None) -> Mark | None:
    """Where the page of a cursor begins.

    Raises:
        InvalidField: it is no cursor of this kind of list.
    """
    if text is None:
        return None
    try:
        packed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        of, group, key, id_ = msgspec.msgpack.decode(
            packed, type=tuple[str, int, int | float | str, str]
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidField("not a cursor of this system", field="cursor", value=text) from error
    if of != kind:
        raise InvalidField("the cursor is of a list in another order", field="cursor", value=text)
    return Mark(group, key, id_)


def between(order: str, low: datetime | None, high: datetime | None) -> list[Range]:
    """The range of an order from one instant to another, both inclusive; none for all."""
    if low is None and high is None:
        return []
    first = 0.0 if low is None else to_micros(low)
    return [Range(order, first, FOREVER if high is None else to_micros(high))]


class Source(NamedTuple):
    """One of several listings in the same direction, and what its rows are answered as."""

    listing: Listing
    key: Callable[[Any], float]
    """What the listing sorts a row by."""
    answer: Callable[[str, Any], Answer]
    page: Callable[[ViewStore, Listing], Awaitable[Page]] | None = None
    """Finds a page of what no order of the view sorts."""

    async def read(self, views: ViewStore, after: Mark | None) -> Page:
        """The page behind a mark."""
        listing = self.listing._replace(after=after)
        return await (views.page(listing) if self.page is None else self.page(views, listing))


async def merged(
    views: ViewStore, sources: Sequence[Source], name: str, text: str | None, limit: int
) -> Answer:
    """One list of several, by key, then by source, then by id."""
    start = mark(name, text)
    pages = [
        await source.read(views, _after(number, start)) for number, source in enumerate(sources)
    ]
    found = []
    for number, (source, page) in enumerate(zip(sources, pages, strict=True)):
        for id_, stored in page.rows:
            row = unpack(source.listing.table, stored)
            found.append((source.key(row), number, id_, source.answer(id_, row)))
    descending = sources[0].listing.descending
    found.sort(key=lambda each: each[:3], reverse=descending)
    end = None
    if len(found) > limit or any(page.end for page in pages):
        key, number, id_, _ = found[limit - 1]
        end = Mark(number, key, id_)
    return {
        "ok": True,
        "position": str(min(parse_position(page.position) for page in pages)),
        name: [answer for *_, answer in found[:limit]],
        "total": sum(page.total for page in pages),
        "cursor": cursor(name, end),
    }


def _after(number: int, start: Mark | None) -> Mark | None:
    """Where a source goes on: at the same key, those before the marked one are done or all ahead."""
    if start is None:
        return None
    id_ = start.id if number == start.group else LAST if number < start.group else ""
    return Mark(0, start.key, id_)
