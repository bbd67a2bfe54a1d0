"""Lists: conditions to listings of the view, rows to answers, pages by cursor."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from horae_domain.errors import InvalidField
from horae_domain.instants import to_micros
from horae_domain.positions import parse_position
from horae_projections import answers
from horae_projections.messages import (
    ListDeadLetters,
    ListExecutions,
    ListSchedules,
    ListTimers,
    ScheduleHistory,
)
from horae_projections.ports import Listing, Mark, Page, Range, ViewStore
from horae_projections.rows import (
    COMMAND_TYPE,
    DECISIONS,
    EXECUTION_STATUSES,
    EXECUTIONS,
    PRIORITIES,
    SCHEDULE_STATUSES,
    SCHEDULES,
    TIMERS,
    TYPES,
    fold_text,
    schedule_cell,
    unpack,
)

FOREVER = 2.0**60
"""A number above every instant and below infinity, which stands for no time at all."""
DECISION_STATUSES = (
    "missed", "skipped", "planned", "backfill", "updated", "paused", "tripped", "resumed",
    "cancelled", "failed",
)  # fmt: skip

Answer = dict[str, Any]


# --- cursors -------------------------------------------------------------------------------------


def _cursor(kind: str, mark: Mark | None) -> str | None:
    if mark is None:
        return None
    return urlsafe_b64encode(msgspec.msgpack.encode((kind, *mark))).decode().rstrip("=")


def _mark(kind: str, cursor: str | None) -> Mark | None:
    if cursor is None:
        return None
    try:
        packed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        of, group, key, id_ = msgspec.msgpack.decode(
            packed, type=tuple[str, int, int | float | str, str]
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidField("not a cursor of this system", field="cursor", value=cursor) from error
    if of != kind:
        raise InvalidField("the cursor is of a list in another order", field="cursor", value=cursor)
    return Mark(group, key, id_)


def _range(order: str, low: datetime | None, high: datetime | None) -> list[Range]:
    if low is None and high is None:
        return []
    first = 0.0 if low is None else to_micros(low)
    return [Range(order, first, FOREVER if high is None else to_micros(high))]


# --- schedules -----------------------------------------------------------------------------------


async def schedules(views: ViewStore, tenant: str, query: ListSchedules, now: datetime) -> Answer:
    """The answer to `schedule.list`."""
    page = await page_of_schedules(views, tenant, query)
    found = [answers.schedule(id_, tenant, unpack(SCHEDULES, row), now) for id_, row in page.rows]
    return _answer(page, "schedules", found, cursor_of_schedules(query, page))


async def page_of_schedules(views: ViewStore, tenant: str, query: ListSchedules) -> Page:
    """The rows that a list of schedules asks for."""
    order = {"next_run": "next", "name": "name"}.get(query.sort, "created")
    return await views.page(
        Listing(
            SCHEDULES,
            tenant,
            order,
            _groups(query),
            query.limit,
            text=order == "name",
            within=[
                *_range("created", query.created_from, query.created_to),
                *_range("next", query.next_from, query.next_to),
            ],
            all_of=_sets(query),
            any_of=[f"tag:{tag}" for tag in query.tags],
            contains=fold_text(query.name_contains or ""),
            descending=query.order == "desc",
            after=_mark(_kind(query), query.cursor),
        )
    )


def cursor_of_schedules(query: ListSchedules, page: Page) -> str | None:
    """Where the next page begins; None if there is none."""
    return _cursor(_kind(query), page.end)


def _kind(query: ListSchedules) -> str:
    return f"{query.sort}.{query.order}"


def _groups(query: ListSchedules) -> list[list[str]]:
    """The cells to look in; by priority they follow one another."""
    statuses = query.status or SCHEDULE_STATUSES
    cells = [
        [schedule_cell(status, type_, priority) for status in statuses for type_ in _types(query)]
        for priority in PRIORITIES
    ]
    if query.sort != "priority":
        return [[cell for group in cells for cell in group]]
    return cells if query.order == "asc" else cells[::-1]


def _types(query: ListSchedules) -> Sequence[str]:
    types = query.type or TYPES
    if COMMAND_TYPE in types and query.sort == "name":
        raise InvalidField("commands are not sorted by name", field="sort", value=query.sort)
    if COMMAND_TYPE in types and query.created_by is not None:
        raise InvalidField("commands are not listed by who made them", field="created_by")
    return types


def _sets(query: ListSchedules) -> list[str]:
    sets = [f"tag:{tag}" for tag in query.tags_all]
    if query.handler is not None:
        sets.append(f"handler:{query.handler}")
    if query.created_by is not None:
        sets.append(f"by:{query.created_by}")
    return sets


def _answer(page: Page, name: str, found: list[Answer], cursor: str | None) -> Answer:
    return {
        "ok": True,
        "position": page.position,
        name: found,
        "total": page.total,
        "cursor": cursor,
    }


# --- executions ----------------------------------------------------------------------------------


async def executions(views: ViewStore, tenant: str, query: ListExecutions) -> Answer:
    """The answer to `execution.list`."""
    listing = _of_executions(
        EXECUTIONS, tenant, query.schedule_id, query.status or EXECUTION_STATUSES, query.limit
    )._replace(within=_range("due", query.from_, query.to), after=_mark("executions", query.cursor))
    page = await views.page(listing)
    found = [answers.execution(id_, unpack(EXECUTIONS, row), whole=False) for id_, row in page.rows]
    return _answer(page, "executions", found, _cursor("executions", page.end))


def _of_executions(
    table: str, tenant: str, schedule_id: str | None, statuses: Sequence[str], limit: int
) -> Listing:
    suffix = "" if schedule_id is None else f":{schedule_id}"
    cells = [f"{status}{suffix}" for status in statuses]
    return Listing(table, tenant, "due", [cells], limit, base="due", descending=True)


async def dead_letters(views: ViewStore, tenant: str, query: ListDeadLetters) -> Answer:
    """The answer to `dead_letter.list`."""
    cell = "dead" if query.schedule_id is None else f"dead:{query.schedule_id}"
    sets = [] if query.error_type is None else [f"error:{query.error_type}"]
    page = await views.page(
        Listing(
            EXECUTIONS,
            tenant,
            "ended",
            [[cell]],
            query.limit,
            base="ended",
            within=_range("ended", query.since, None),
            all_of=sets,
            descending=True,
            after=_mark("dead_letters", query.cursor),
        )
    )
    found = [answers.execution(id_, unpack(EXECUTIONS, row), whole=False) for id_, row in page.rows]
    return _answer(page, "dead_letters", found, _cursor("dead_letters", page.end))


async def history(views: ViewStore, tenant: str, query: ScheduleHistory) -> Answer:
    """The answer to `schedule.history`."""

    def listing(table: str, known: Sequence[str]) -> Listing:
        statuses = [status for status in known if not query.status or status in query.status]
        return _of_executions(table, tenant, query.id, statuses, query.limit)._replace(
            within=_range("due", query.from_, query.to)
        )

    sources = [
        _Source(
            listing(EXECUTIONS, EXECUTION_STATUSES),
            lambda row: row.due,
            lambda id_, row: {"event": "execution"} | answers.execution(id_, row, whole=False),
        ),
        _Source(
            listing(DECISIONS, DECISION_STATUSES),
            lambda row: row.at,
            lambda _, row: answers.decision(row),
        ),
    ]
    return await _merged(views, sources, "history", query.cursor, query.limit)


# --- timers --------------------------------------------------------------------------------------


async def timers(views: ViewStore, tenant: str, query: ListTimers) -> Answer:
    """The answer to `timer.list`."""
    kinds = query.kind or ("schedule", *TIMERS)
    suffix = "" if query.schedule_id is None else f":{query.schedule_id}"
    waits = [f"{kind}{suffix}" for kind in TIMERS if kind in kinds]
    waiting = _Source(
        Listing(EXECUTIONS, tenant, "wait", [waits], query.limit, base="wait"),
        lambda row: row.timer_due,
        answers.timer_of_execution,
    )
    cells = [
        schedule_cell(status, type_, priority)
        for status in ("active", "pending")
        for type_ in (*TYPES, COMMAND_TYPE)
        for priority in PRIORITIES
    ]
    only = () if query.schedule_id is None else (query.schedule_id,)
    scheduled = _Source(
        Listing(SCHEDULES, tenant, "next", [cells], query.limit, only=only)._replace(
            within=[Range("next", 0.0, FOREVER)]
        ),
        lambda row: row.fires_at,
        answers.timer_of_schedule,
    )
    sources = [waiting, scheduled] if "schedule" in kinds else [waiting]
    return await _merged(views, sources, "timers", query.cursor, query.limit)


# --- lists of two tables -------------------------------------------------------------------------


class _Source(NamedTuple):
    """One of several listings in the same direction, and what its rows are answered as."""

    listing: Listing
    key: Callable[[Any], datetime]
    answer: Callable[[str, Any], Answer]


async def _merged(
    views: ViewStore, sources: Sequence[_Source], name: str, cursor: str | None, limit: int
) -> Answer:
    """One list of several tables, by time and id."""
    after = _mark(name, cursor)
    pages = [await views.page(source.listing._replace(after=after)) for source in sources]
    found = []
    for source, page in zip(sources, pages, strict=True):
        for id_, stored in page.rows:
            row = unpack(source.listing.table, stored)
            found.append((to_micros(source.key(row)), id_, source.answer(id_, row)))
    found.sort(key=lambda each: each[:2], reverse=sources[0].listing.descending)
    more = len(found) > limit or any(page.end for page in pages)
    end = Mark(0, *found[limit - 1][:2]) if more else None
    return {
        "ok": True,
        "position": str(min(parse_position(page.position) for page in pages)),
        name: [answer for _, _, answer in found[:limit]],
        "total": sum(page.total for page in pages),
        "cursor": _cursor(name, end),
    }
