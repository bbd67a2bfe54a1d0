"""What is planned for single occurrences, as the views keep and answer it (T12)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from horae_domain.backfills import Moves, followed
from horae_domain.events import (
    Event,
    OccurrenceApproved,
    OccurrenceEvent,
    OccurrenceMoved,
    OccurrencesDecided,
    OccurrenceSkipped,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
    ScheduleCancelled,
    ScheduleCompleted,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.instants import format_instant
from horae_domain.plans import Plan, Verdict, decided, kept, planned
from horae_projections.preview import payload_of
from horae_projections.rows import ScheduleRow


def follow(row: ScheduleRow, event: Event) -> None:
    """The plans after an event of the schedule."""
    match event:
        case OccurrenceSkipped() | OccurrenceApproved() if event.execution_id is not None:
            pass
        case OccurrenceEvent():
            row.plans = planned(row.plans or {}, event)
            if row.status != "paused":
                row.next_due = event.next_due
        case ScheduleBackfillStarted() | ScheduleBackfillCompleted():
            follow_backfill(row, event)
        case OccurrencesDecided() if event.backfill_id is not None:
            follow_backfill(row, event)
        case OccurrencesDecided():
            follow_decision(row, event.nominal or "", event.last, event.at)
        case ScheduleUpdated() | ScheduleResumed():
            row.plans = kept(row.plans or {}, event.through or event.at) or None
        case ScheduleCompleted() | ScheduleCancelled():
            row.plans = None
        case ScheduleQuarantined():
            row.plans, row.backfills = None, None
        case _:
            pass


def follow_backfill(row: ScheduleRow, event: Moves) -> None:
    """The backfills that go on after an event of one of them."""
    if row.backfills or isinstance(event, ScheduleBackfillStarted):
        row.backfills = followed(row.backfills or {}, event) or None


def follow_decision(row: ScheduleRow, nominal: str, due: datetime, at: datetime) -> None:
    """The plans after an occurrence got its decision, or all up to it."""
    if row.plans:
        plan = row.plans.get(nominal)
        through = at if plan is not None and plan.away else due
        row.plans = kept(decided(row.plans, nominal), through) or None


def answer(row: ScheduleRow, now: datetime) -> list[dict[str, Any]]:
    """What is planned, in the order in which it comes."""
    found = [
        (plan.comes, _plan(nominal, plan, row.told["action"].get("name")))
        for nominal, plan in (row.plans or {}).items()
        if not plan.decided and (plan.away or plan.due > now)
    ]
    return [shown for _, shown in sorted(found, key=lambda each: each[0])]


def _plan(nominal: str, plan: Plan, handler: str | None) -> dict[str, Any]:
    return {
        "due": format_instant(plan.due),
        "nominal": nominal,
        "moved_to": None if plan.at is None else format_instant(plan.at),
        "skipped": plan.verdict is Verdict.SKIP,
        "held": plan.verdict is Verdict.HOLD,
        "approved": plan.verdict is Verdict.APPROVED,
        "note": plan.note,
        "author": plan.author,
        **payload_of(plan, handler),
    }


def facts_of(event: OccurrenceEvent) -> dict[str, Any]:
    """What a schedule's history tells of a plan."""
    facts: dict[str, Any] = {"due": event.due, "nominal": event.nominal, "note": event.note}
    if isinstance(event, OccurrenceMoved):
        facts["moved_to"] = event.to
    if isinstance(event, OccurrenceSkipped | OccurrenceApproved) and event.execution_id:
        facts["execution_id"] = event.execution_id
    return facts
