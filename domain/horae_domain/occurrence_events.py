"""The events in which an occurrence's decision is recorded, made from the line that decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from horae_domain.circles import deepened, depth_in
from horae_domain.definition import Definition
from horae_domain.events import (
    ExecutionBuffered,
    ExecutionChecking,
    ExecutionHeld,
    ExecutionRequested,
    ExecutionSkipped,
    OccurrencesDecided,
)
from horae_domain.identity import execution_id
from horae_domain.lanes import Lane
from horae_domain.ledger import CROWDED, OFF_CALENDAR, UNPLANNED, UNTIMED, Line
from horae_domain.occurrences import kind_of, next_occurrence
from horae_domain.policies import Overlap
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause, about
from horae_domain.timeouts import bounds

_ASKED_FOR = frozenset({"key", "event"})
"""Kinds of executions that belong to the trace of whatever is decided upon; others to their schedule's."""


def occurrence_id(line: Line, kind: str, occurrence: Occurrence) -> str:
    """The id of the execution that an occurrence would have."""
    schedule = line.schedule
    instant = None if kind == "key" else occurrence.instant or occurrence.due
    return execution_id(
        schedule.tenant, schedule.id, schedule.incarnation, kind, occurrence.nominal, instant
    )


def kind_on(line: Line, occurrence: Occurrence) -> str:
    """What kind of identity an occurrence has; what was moved keeps that of its first definition."""
    plan = line.plans.get(occurrence.nominal)
    return plan.kind if plan is not None and plan.away else kind_of(line.definition)


def payload_on(line: Line, occurrence: Occurrence) -> dict[str, Any]:
    """`payload` and `overridden`, if somebody has given the occurrence a payload of its own."""
    plan = line.plans.get(occurrence.nominal)
    if plan is None or not plan.payload:
        return {}
    return {"payload": msgspec.json.decode(plan.payload), "overridden": True}


def on_calendar(line: Line, definition: Definition, after: datetime) -> Occurrence | None:
    """A definition's first occurrence after an instant that was not moved elsewhere."""
    anchor, tenant = line.schedule.anchor, line.schedule.tenant
    occurrence = next_occurrence(definition, anchor, after, tenant=tenant)
    while occurrence is not None:
        plan = line.plans.get(occurrence.nominal)
        if plan is None or not plan.away:
            break
        occurrence = next_occurrence(definition, anchor, occurrence.due, tenant=tenant)
    return occurrence


def next_due(line: Line, after: datetime, *, fired: int = 0) -> datetime | None:
    """The calendar's first instant after another one; None beyond `max_executions`."""
    limit = line.definition.max_executions
    if limit is not None and line.fired + fired >= limit:
        return None
    occurrence = on_calendar(line, line.definition, after)
    return occurrence.falls if occurrence else None


def _next_after(
    line: Line, kind: str, occurrence: Occurrence, *, fired: int = 0
) -> datetime | None:
    """The calendar's next instant once an occurrence is decided; None if it is not the calendar's."""
    if kind in UNPLANNED:
        return None
    after = line.through if occurrence.moved_to else max(occurrence.due, line.through)
    return next_due(line, after, fired=fired)


def occurrence_fields(
    line: Line, kind: str, occurrence: Occurrence, cause: Cause
) -> dict[str, Any]:
    """What every decision says of its occurrence."""
    schedule = line.schedule
    belongs_to = None if kind == "key" else schedule.correlation_id
    asked = cause if kind in _ASKED_FOR else schedule
    return {
        **about(schedule.tenant, schedule.id, cause),
        "correlation_id": belongs_to or cause.correlation_id,
        "traceparent": asked.traceparent,
        "carried": deepened(asked.carried, depth_in(schedule.carried)),
        "execution_id": occurrence_id(line, kind, occurrence),
        "kind": kind,
        "due": occurrence.due,
        "nominal": occurrence.nominal,
        "revision": schedule.revision,
        **_plan_fields(line, kind, occurrence),
    }


def _plan_fields(line: Line, kind: str, occurrence: Occurrence) -> dict[str, Any]:
    """What somebody planned for it, and who; or where its schedule puts it."""
    if kind in UNPLANNED:
        return {}
    moved_to = occurrence.moved_to or occurrence.put_off_to
    plan = line.plans.get(occurrence.nominal)
    if plan is None:
        return {} if moved_to is None else {"moved_to": moved_to, "note": occurrence.because}
    note = plan.note or occurrence.because
    return {"moved_to": moved_to, "note": note, "planned_by": plan.author}


def requested(
    line: Line, kind: str, occurrence: Occurrence, cause: Cause, **payload: Any
) -> ExecutionRequested:
    """The occurrence fires, perhaps with a `payload` of its own (`overridden`) or a `trigger`."""
    scheduled = kind not in OFF_CALENDAR
    later = kind in UNTIMED and occurrence.due > cause.at
    return ExecutionRequested(
        run_number=line.fired + 1 if scheduled else None,
        priority=str(line.definition.priority),
        queue=line.definition.place,
        **bounds(line.definition, max(cause.at, occurrence.due) if kind in UNTIMED else cause.at),
        next_due=_next_after(line, kind, occurrence, fired=1),
        aside=later and line.definition.overlap is Overlap.ALLOW,
        **payload,
        **occurrence_fields(line, kind, occurrence, cause),
    )


def buffered(
    line: Line, kind: str, occurrence: Occurrence, lane: Lane, cause: Cause, **payload: Any
) -> ExecutionBuffered:
    """The occurrence waits until the way is free."""
    return ExecutionBuffered(
        priority=str(line.definition.priority),
        queue=line.definition.place,
        blocked_by=blocker(line, lane),
        next_due=_next_after(line, kind, occurrence),
        **payload,
        **occurrence_fields(line, kind, occurrence, cause),
    )


def checking(
    line: Line, kind: str, occurrence: Occurrence, cause: Cause, **payload: Any
) -> ExecutionChecking:
    """The occurrence waits until the conditions that its schedule requires are checked."""
    return ExecutionChecking(
        conditions=list(line.definition.requires),
        priority=str(line.definition.priority),
        queue=line.definition.queue,
        next_due=_next_after(line, kind, occurrence),
        **payload,
        **occurrence_fields(line, kind, occurrence, cause),
    )


def held(line: Line, occurrence: Occurrence, cause: Cause) -> ExecutionHeld:
    """The occurrence waits for approval."""
    kind = kind_on(line, occurrence)
    return ExecutionHeld(
        priority=str(line.definition.priority),
        queue=line.definition.place,
        next_due=_next_after(line, kind, occurrence),
        **payload_on(line, occurrence),
        **occurrence_fields(line, kind, occurrence, cause),
    )


def skipped(
    line: Line,
    kind: str,
    occurrence: Occurrence,
    reason: str,
    lane: Lane,
    cause: Cause,
    **payload: Any,
) -> ExecutionSkipped:
    """The occurrence does not fire, and why."""
    return ExecutionSkipped(
        reason=reason,
        blocked_by=blocker(line, lane) if reason in CROWDED else None,
        next_due=_next_after(line, kind, occurrence),
        **payload,
        **occurrence_fields(line, kind, occurrence, cause),
    )


def ranged(
    line: Line,
    passed: Sequence[Occurrence],
    decision: str,
    reason: str,
    cause: Cause,
    *,
    until: datetime | None = None,
) -> OccurrencesDecided:
    """One decision for several occurrences; with `until` for all up to there, not counted.

    One that was moved is alone.
    """
    schedule = line.schedule
    last = until or passed[-1].due
    moved = passed[0] if passed[0].moved_to is not None else None
    return OccurrencesDecided(
        decision=decision,
        reason=reason,
        first=passed[0].due,
        last=last,
        count=None if until else len(passed),
        revision=schedule.revision,
        blocked_by=blocker(line, line.lane) if reason in CROWDED else None,
        next_due=next_due(line, line.through if moved else max(last, line.through)),
        nominal=moved.nominal if moved else None,
        moved_to=moved.moved_to if moved else None,
        **about(schedule.tenant, schedule.id, cause),
    )


def blocker(line: Line, lane: Lane) -> str | None:
    """The run that is in the way."""
    return next((run.id for run in line.unfinished(lane)), None)
