"""`timer.list`: everything that waits in one list, the soonest first (Q12).

Each kind is a source of its own. What an execution waits for is in its row, by the kinds of
`horae_domain.timeouts`; what a schedule waits for besides its next instant, in rows that follow from
its own (`places.waits_of`). A new kind of either is listed here as soon as it is named in `KINDS`. When
checks are asked next, no row tells (`looks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from horae_domain.instants import to_micros
from horae_domain.occurrences import TICK
from horae_domain.plans import Verdict
from horae_domain.timeouts import TIMERS
from horae_domain.timers import of_execution, of_look, of_occurrence
from horae_projections.answers import instant
from horae_projections.definitions import COMMAND_TYPE
from horae_projections.looks import next_look, page_of_looks
from horae_projections.merged import FOREVER, Answer, Source, between, merged
from horae_projections.messages import ListTimers
from horae_projections.places import schedule_cell
from horae_projections.ports import INFINITY, Listing, Range, ViewStore
from horae_projections.preview import due_of_next
from horae_projections.rows import (
    ACTIVE,
    EXECUTIONS,
    PRIORITIES,
    SCHEDULES,
    TYPES,
    WAITS,
    ExecutionRow,
    ScheduleRow,
    WaitRow,
)

OF_SCHEDULES = ("moved", "backfill", "cooldown")
OF_EXECUTIONS = ("held", *TIMERS)
KINDS = ("schedule", *OF_SCHEDULES, "look", *OF_EXECUTIONS)
"""In the order in which they come at the same instant."""
NOBODY = ""
"""The id of no schedule."""


async def timers(views: ViewStore, tenant: str, query: ListTimers, now: datetime) -> Answer:
    """The answer to `timer.list`."""
    wanted = query.kind or KINDS
    sources = [_source(kind, tenant, query, now) for kind in KINDS if kind in wanted]
    return await merged(views, sources, "timers", query.cursor, query.limit)


def _source(kind: str, tenant: str, query: ListTimers, now: datetime) -> Source:
    if kind == "schedule":
        return Source(_next_instants(tenant, query), _next_key, partial(_next, tenant))
    if kind == "look":
        return _looks(tenant, query, now)
    if kind == "cooldown":  # one that is over has no event
        query = query.model_copy(update={"from_": max(query.from_ or now, now + TICK)})
    listing = _waiting(kind, tenant, query)
    if kind in OF_SCHEDULES:
        return Source(listing, lambda row: _key(row.due), _wait)
    due: Callable[[ExecutionRow], datetime | None] = lambda row: row.timers.get(kind)  # noqa: E731
    return Source(listing, lambda row: _key(due(row)), partial(_of_execution, kind))


def _waiting(kind: str, tenant: str, query: ListTimers) -> Listing:
    """Those of one kind, but for the next instants of schedules."""
    cell = kind if query.schedule_id is None else f"{kind}:{query.schedule_id}"
    table = WAITS if kind in OF_SCHEDULES else EXECUTIONS
    only = () if query.execution_id is None else (query.execution_id,)
    within = between("wait", query.from_, query.to)
    return Listing(
        table, tenant, "wait", [[cell]], query.limit, base="wait", only=only, within=within
    )


def _next_instants(tenant: str, query: ListTimers) -> Listing:
    within = between("next", query.from_, query.to) or [Range("next", 0.0, FOREVER)]
    listing = _schedules(tenant, query, (*TYPES, COMMAND_TYPE))
    return listing._replace(order="next", within=within)


def _looks(tenant: str, query: ListTimers, now: datetime) -> Source:
    within = between("look", query.from_, query.to)
    return Source(
        _schedules(tenant, query, ("condition",))._replace(within=within),
        lambda row: _key(next_look(row, now)),
        partial(_look, now),
        partial(page_of_looks, now),
    )


def _schedules(tenant: str, query: ListTimers, types: Sequence[str]) -> Listing:
    """Those of some types that fire, or the one that is asked for."""
    cells = [
        schedule_cell(status, type_, priority)
        for status in ACTIVE
        for type_ in types
        for priority in PRIORITIES
    ]
    only = [] if query.schedule_id is None else [query.schedule_id]
    if query.execution_id is not None:
        only = [NOBODY]
    return Listing(SCHEDULES, tenant, "created", [cells], query.limit, only=only)


# --- as they are answered ------------------------------------------------------------------------


def _key(due: datetime | None) -> float:
    return INFINITY if due is None else to_micros(due)


def _next_key(row: ScheduleRow) -> float:
    return _key(row.fires_at)


def _next(tenant: str, id_: str, row: ScheduleRow) -> Answer:
    """The next instant of a schedule, under the name of the occurrence that comes then."""
    plan, due = row.next_plan, row.fires_at
    assert due is not None  # noqa: S101 - only what fires is in this list
    if plan is None:
        due = due_of_next(tenant, id_, row, due)
        plans = (row.plans or {}).values()
        plan = next((each for each in plans if each.due == due and not each.away), None)
    else:
        due = plan.due
    return _timer(
        str(of_occurrence(id_, due)),
        "schedule",
        row.fires_at,
        id_,
        moved=plan is not None and plan.away,
        skipped=plan is not None and plan.verdict is Verdict.SKIP,
        held=plan is not None and plan.verdict is Verdict.HOLD,
    )


def _look(now: datetime, id_: str, row: ScheduleRow) -> Answer:
    due = next_look(row, now)
    assert due is not None  # noqa: S101 - who is asked no more is not in this list
    return _timer(str(of_look(id_, due)), "look", due, id_, check=row.told["trigger"]["check"])


def _wait(id_: str, row: WaitRow) -> Answer:
    return _timer(id_, row.kind, row.due, row.schedule_id, **row.facts)


def _of_execution(kind: str, id_: str, row: ExecutionRow) -> Answer:
    if kind == "held":
        name = of_occurrence(row.schedule_id, row.due)
        due = None
    else:
        name = of_execution(kind, id_, row.attempt)
        due = row.timers.get(kind)
    return _timer(str(name), kind, due, row.schedule_id, id_, status=row.status)


def _timer(
    id_: str,
    kind: str,
    due: datetime | None,
    schedule_id: str,
    execution_id: str | None = None,
    **facts: Any,
) -> Answer:
    return {
        "id": id_,
        "kind": kind,
        "due": instant(due),
        "schedule_id": schedule_id,
        "execution_id": execution_id,
        **facts,
    }
