"""The events in which an occurrence's decision is recorded, made from the line that decides."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from horae_domain.events import (
    ExecutionBuffered,
    ExecutionRequested,
    ExecutionSkipped,
    OccurrencesDecided,
)
from horae_domain.identity import execution_id
from horae_domain.lanes import Lane
from horae_domain.ledger import CROWDED, Line
from horae_domain.occurrences import next_occurrence
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause, about
from horae_domain.timeouts import bounds


def occurrence_id(line: Line, kind: str, occurrence: Occurrence) -> str:
    """The id of the execution that an occurrence would have."""
    schedule = line.schedule
    instant = None if kind == "key" else occurrence.due
    return execution_id(
        schedule.tenant, schedule.id, schedule.incarnation, kind, occurrence.nominal, instant
    )


def next_due(line: Line, after: datetime, *, fired: int = 0) -> datetime | None:
    """The first occurrence after an instant; None beyond `max_executions`."""
    limit = line.definition.max_executions
    if limit is not None and line.fired + fired >= limit:
        return None
    occurrence = next_occurrence(line.definition, line.schedule.anchor, after)
    return occurrence.due if occurrence else None


def occurrence_fields(
    line: Line, kind: str, occurrence: Occurrence, cause: Cause
) -> dict[str, Any]:
    """What every decision says of its occurrence."""
    schedule = line.schedule
    belongs_to = None if kind == "key" else schedule.correlation_id
    return about(schedule.tenant, schedule.id, cause) | {
        "correlation_id": belongs_to or cause.correlation_id,
        "execution_id": occurrence_id(line, kind, occurrence),
        "kind": kind,
        "due": occurrence.due,
        "nominal": occurrence.nominal,
        "revision": schedule.revision,
    }


def requested(
    line: Line, kind: str, occurrence: Occurrence, cause: Cause, **payload: Any
) -> ExecutionRequested:
    """The occurrence fires, perhaps with a `payload` of its own (`overridden`)."""
    scheduled = kind != "key"
    return ExecutionRequested(
        run_number=line.fired + 1 if scheduled else None,
        priority=str(line.definition.priority),
        queue=line.definition.queue,
        next_due=next_due(line, occurrence.due, fired=1) if scheduled else None,
        **bounds(line.definition, cause.at),
        **payload,
        **occurrence_fields(line, kind, occurrence, cause),
    )


def buffered(
    line: Line, kind: str, occurrence: Occurrence, lane: Lane, cause: Cause, **payload: Any
) -> ExecutionBuffered:
    """The occurrence waits until the way is free."""
    return ExecutionBuffered(
        priority=str(line.definition.priority),
        queue=line.definition.queue,
        blocked_by=blocker(line, lane),
        next_due=next_due(line, occurrence.due) if kind != "key" else None,
        **payload,
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
        next_due=next_due(line, occurrence.due) if kind != "key" else None,
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
    """One decision for several occurrences; with `until` for all up to there, not counted."""
    schedule = line.schedule
    last = until or passed[-1].due
    return OccurrencesDecided(
        decision=decision,
        reason=reason,
        first=passed[0].due,
        last=last,
        count=None if until else len(passed),
        revision=schedule.revision,
        blocked_by=blocker(line, line.lane) if reason in CROWDED else None,
        next_due=next_due(line, last),
        **about(schedule.tenant, schedule.id, cause),
    )


def blocker(line: Line, lane: Lane) -> str | None:
    """The run that is in the way."""
    return next((run.id for run in line.unfinished(lane)), None)
