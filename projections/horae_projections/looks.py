"""When the checks of schedules that wait for a condition are asked next (T6).

That follows from the clock alone: no event tells it, so no index can. It is found for each such
schedule when somebody asks.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from horae_domain.durations import parse_duration
from horae_domain.instants import parse_instant, to_micros
from horae_domain.occurrences import TICK
from horae_domain.recurrence import interval_recurrence
from horae_domain.triggers import ConditionTrigger
from horae_projections.ports import Listing, Mark, Page, ViewStore
from horae_projections.rows import SCHEDULES, ScheduleRow, unpack

MOST = 1_000
"""Rows read at once."""
_EVERY = ConditionTrigger.model_fields["every"].default


def next_look(row: ScheduleRow, now: datetime) -> datetime | None:
    """When the check of a schedule is asked next; None if never again."""
    told = row.told
    every = parse_duration(told["trigger"].get("every", _EVERY), field="trigger.every")
    ticks = interval_recurrence(every, row.anchor or row.created_at)
    start, end = _instant(told, "start_at"), _instant(told, "end_at")
    found = ticks.next(now if start is None else max(now, start - TICK))
    return None if found is None or (end is not None and found.due > end) else found.due


def _instant(told: dict[str, Any], name: str) -> datetime | None:
    text = told.get(name)
    return None if text is None else parse_instant(text, field=name)


async def page_of_looks(now: datetime, views: ViewStore, listing: Listing) -> Page:
    """The page of a listing of schedules with conditions, by when their checks are asked next."""
    position, rows = await _all(views, listing)
    found = sorted(
        (to_micros(due), id_, stored)
        for id_, stored in rows
        if (due := next_look(unpack(SCHEDULES, stored), now)) is not None
        and _within(listing, to_micros(due))
    )
    after = listing.after
    ahead = [each for each in found if after is None or each[:2] > (after.key, after.id)]
    shown = ahead[: listing.limit]
    end = Mark(0, *shown[-1][:2]) if len(ahead) > len(shown) else None
    return Page(position, len(found), [(id_, stored) for _, id_, stored in shown], end)


def _within(listing: Listing, key: float) -> bool:
    return all(each.low <= key <= each.high for each in listing.within)


async def _all(views: ViewStore, listing: Listing) -> tuple[str, list[tuple[str, bytes]]]:
    """Every row that a listing is about, whenever it comes, and the position of the first of them."""
    asked = listing._replace(limit=MOST, within=(), after=None, totals=False)
    first = page = await views.page(asked)
    rows = list(page.rows)
    while page.end is not None:
        page = await views.page(asked._replace(after=page.end))
        rows += page.rows
    return first.position, rows
