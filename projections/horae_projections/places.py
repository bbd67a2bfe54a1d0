"""The places that rows have in the indexes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from horae_domain.instants import to_micros
from horae_domain.plans import Plan, Verdict
from horae_domain.timers import of_backfill, of_cooldown, of_occurrence
from horae_projections.definitions import COMMAND_TYPE, facets_of, fold_text
from horae_projections.ports import INFINITY, Places
from horae_projections.rows import (
    ACTIVE,
    ALL_QUEUES,
    Counts,
    DecisionRow,
    ExecutionRow,
    QueueRow,
    Row,
    ScheduleRow,
    WaitRow,
)


def text_of(row: Row) -> str:
    """What a list sorts and searches names by; empty where the id is the name."""
    return facets_of(row.definition, row.created_by).text if isinstance(row, ScheduleRow) else ""


def places_of(id_: str, row: Row) -> Places:
    """Every place in an index that a row has."""
    return _PLACES[type(row)](id_, row)


def schedule_cell(status: str, type_: str, priority: str) -> str:
    """The cell of every order of schedules."""
    return f"{status}.{type_}.{priority}"


def _of_schedule(id_: str, row: ScheduleRow) -> Places:
    facets = facets_of(row.definition, row.created_by)
    cell = schedule_cell(row.status, facets.type, facets.priority)
    fires_at = row.fires_at
    places = {
        **facets.sets,
        f"created:{cell}": to_micros(row.created_at),
        f"next:{cell}": INFINITY if fires_at is None else to_micros(fires_at),
    }
    if facets.type != COMMAND_TYPE:
        places[f"name:{cell}"] = facets.text or fold_text(id_)
    return places


def _of_execution(_: str, row: ExecutionRow) -> Places:
    due = to_micros(row.due)
    places: dict[str, float | None] = {
        f"due:{row.status}": due,
        f"due:{row.status}:{row.schedule_id}": due,
        f"queue:{row.queue}": None,
        f"kind:{row.kind}": None,
    }
    for kind, until in row.timers.items():
        places |= _waiting(kind, row.schedule_id, until)
    if row.status == "held":
        places |= _waiting("held", row.schedule_id, None)
    if row.status == "dead" and row.ended_at is not None:
        ended = to_micros(row.ended_at)
        places["ended:dead"] = places[f"ended:dead:{row.schedule_id}"] = ended
        places[f"error:{row.error_type}"] = None
    return places


def _of_decision(_: str, row: DecisionRow) -> Places:
    return {f"due:{row.status}:{row.schedule_id}": to_micros(row.at)}


def _of_wait(_: str, row: WaitRow) -> Places:
    return _waiting(row.kind, row.schedule_id, row.due)


def _of_queue(id_: str, _: QueueRow) -> Places:
    return {} if id_ == ALL_QUEUES else {"name:queue": 0}


def _waiting(kind: str, schedule_id: str, due: datetime | None) -> dict[str, float]:
    key = INFINITY if due is None else to_micros(due)
    return {f"wait:{kind}": key, f"wait:{kind}:{schedule_id}": key}


_PLACES: dict[type[Row], Callable[[str, Any], Places]] = {
    ScheduleRow: _of_schedule,
    ExecutionRow: _of_execution,
    DecisionRow: _of_decision,
    WaitRow: _of_wait,
    QueueRow: _of_queue,
}


def waits_of(id_: str, row: Row) -> dict[str, WaitRow]:
    """What of a schedule waits besides its next occurrence, by the ids of the timers."""
    if not isinstance(row, ScheduleRow):
        return {}
    cooldown = {} if row.counts is None else _cooldown(id_, row, row.counts)
    return cooldown | _planned(id_, row) if row.plans or row.backfills else cooldown


def _cooldown(id_: str, row: ScheduleRow, counts: Counts) -> dict[str, WaitRow]:
    """How long it rests; nobody tells when that is over."""
    until = counts.cooldown_until
    if until is None or row.status not in (*ACTIVE, "paused"):
        return {}
    timer = str(of_cooldown(id_, until))
    return {timer: WaitRow(schedule_id=id_, kind="cooldown", due=until)}


def _planned(id_: str, row: ScheduleRow) -> dict[str, WaitRow]:
    first = row.next_plan
    moved = {
        str(of_occurrence(id_, plan.due)): WaitRow(
            schedule_id=id_, kind="moved", due=plan.waits_at, facts=_planned_facts(nominal, plan)
        )
        for nominal, plan in (row.plans or {}).items()
        if plan.waits_at is not None and row.status in ACTIVE and plan is not first
    }
    backfills = {
        str(of_backfill(id_, name)): WaitRow(
            schedule_id=id_, kind="backfill", due=None, facts={"left": going.left}
        )
        for name, going in (row.backfills or {}).items()
    }
    return moved | backfills


def _planned_facts(nominal: str, plan: Plan) -> dict[str, Any]:
    return {"nominal": nominal, "held": plan.verdict is Verdict.HOLD, "note": plan.note}
