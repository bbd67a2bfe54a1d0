"""Lists: conditions to listings of the view, rows to answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from horae_domain.errors import InvalidField
from horae_domain.instants import to_micros
from horae_projections import answers
from horae_projections import queues as in_queues
from horae_projections.definitions import COMMAND_TYPE, fold_text
from horae_projections.merged import Source, between, cursor, mark, merged
from horae_projections.messages import (
    ListDeadLetters,
    ListExecutions,
    ListQueues,
    ListSchedules,
    ScheduleHistory,
)
from horae_projections.places import schedule_cell
from horae_projections.ports import Listing, Page, ViewStore
from horae_projections.rows import (
    DECISIONS,
    EXECUTION_STATUSES,
    EXECUTIONS,
    PRIORITIES,
    QUEUES,
    SCHEDULE_STATUSES,
    SCHEDULES,
    TYPES,
    unpack,
)

KINDS = {name: kind for kind, name in answers.TRIGGERS.items()}
"""The kinds of identity of triggers that are told by other names."""
DECISION_STATUSES = (
    "missed", "skipped", "excluded", "planned", "backfill", "checked", "updated", "paused", "tripped",
    "resumed", "cancelled", "failed",
)  # fmt: skip

Answer = dict[str, Any]


# --- schedules -----------------------------------------------------------------------------------


async def schedules(views: ViewStore, tenant: str, query: ListSchedules, now: datetime) -> Answer:
    """The answer to `schedule.list`."""
    page = await page_of_schedules(views, tenant, query)
    found = [answers.schedule(id_, tenant, unpack(SCHEDULES, row), now) for id_, row in page.rows]
    return _answer(page, "schedules", found, cursor_of_schedules(query, page))


async def page_of_schedules(
    views: ViewStore, tenant: str, query: ListSchedules, *, totals: bool = True
) -> Page:
    """The rows that a list of schedules asks for; without `totals` its total means nothing."""
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
                *between("created", query.created_from, query.created_to),
                *between("next", query.next_from, query.next_to),
            ],
            all_of=_sets(query),
            any_of=[f"tag:{tag}" for tag in query.tags],
            contains=fold_text(query.name_contains or ""),
            descending=query.order == "desc",
            after=mark(_kind(query), query.cursor),
            totals=totals,
        )
    )


def cursor_of_schedules(query: ListSchedules, page: Page) -> str | None:
    """Where the next page begins; None if there is none."""
    return cursor(_kind(query), page.end)


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


def _answer(page: Page, name: str, found: list[Answer], end: str | None) -> Answer:
    return {
        "ok": True,
        "position": page.position,
        name: found,
        "total": page.total,
        "cursor": end,
    }


# --- executions ----------------------------------------------------------------------------------


async def executions(views: ViewStore, tenant: str, query: ListExecutions) -> Answer:
    """The answer to `execution.list`."""
    listing = _of_executions(
        EXECUTIONS, tenant, query.schedule_id, query.status or EXECUTION_STATUSES, query.limit
    )._replace(
        within=between("due", query.from_, query.to),
        all_of=[] if query.queue is None else [f"queue:{query.queue}"],
        any_of=[f"kind:{KINDS.get(each, each)}" for each in query.kind or ()],
        after=mark("executions", query.cursor),
    )
    page = await views.page(listing)
    found = [answers.execution(id_, unpack(EXECUTIONS, row), whole=False) for id_, row in page.rows]
    return _answer(page, "executions", found, cursor("executions", page.end))


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
            within=between("ended", query.since, None),
            all_of=sets,
            descending=True,
            after=mark("dead_letters", query.cursor),
        )
    )
    found = [answers.execution(id_, unpack(EXECUTIONS, row), whole=False) for id_, row in page.rows]
    return _answer(page, "dead_letters", found, cursor("dead_letters", page.end))


async def history(views: ViewStore, tenant: str, query: ScheduleHistory) -> Answer:
    """The answer to `schedule.history`."""

    def listing(table: str, known: Sequence[str]) -> Listing:
        statuses = [status for status in known if not query.status or status in query.status]
        return _of_executions(table, tenant, query.id, statuses, query.limit)._replace(
            within=between("due", query.from_, query.to)
        )

    sources = [
        Source(
            listing(EXECUTIONS, EXECUTION_STATUSES),
            lambda row: to_micros(row.due),
            lambda id_, row: {"event": "execution"} | answers.execution(id_, row, whole=False),
        ),
        Source(
            listing(DECISIONS, DECISION_STATUSES),
            lambda row: to_micros(row.at),
            lambda _, row: answers.decision(row),
        ),
    ]
    return await merged(views, sources, "history", query.cursor, query.limit)


# --- queues --------------------------------------------------------------------------------------


async def queues(views: ViewStore, tenant: str, query: ListQueues) -> Answer:
    """The answer to `queue.list`."""
    after = mark("queues", query.cursor)
    listing = Listing(QUEUES, tenant, "name", [["queue"]], query.limit, base="name", after=after)
    page = await views.page(listing)
    found = [in_queues.answer(id_, unpack(QUEUES, row)) for id_, row in page.rows]
    return _answer(page, "queues", found, cursor("queues", page.end))
