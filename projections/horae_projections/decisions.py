"""What a schedule's history tells besides its executions: ranges, plans, backfills, and changes of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from horae_domain.codec import name_of
from horae_domain.events import (
    Event,
    OccurrenceApproved,
    OccurrenceEvent,
    OccurrenceHeld,
    OccurrenceMoved,
    OccurrencePayloadSet,
    OccurrencesDecided,
    OccurrenceSkipped,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
    ScheduleCancelled,
    ScheduleChecked,
    SchedulePaused,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleTripped,
    ScheduleUpdated,
)
from horae_projections import planned
from horae_projections.rows import DecisionRow

Told = tuple[str, datetime, dict[str, Any]]
"""Under which status it stands, when it was, and its facts."""


def decision_of(event: Event) -> DecisionRow | None:
    """The row of an event of a schedule; None if it has none."""
    tell = _TOLD.get(type(event))
    if tell is None:
        return None
    status, at, facts = tell(event)
    if event.actor is not None:
        facts["actor"] = event.actor
    return DecisionRow(
        schedule_id=event.schedule_id, event=name_of(event), status=status, at=at, facts=facts
    )


def _updated(event: ScheduleUpdated) -> Told:
    return "updated", event.at, {"revision": event.revision}


def _noted(event: SchedulePaused | ScheduleResumed | ScheduleCancelled) -> Told:
    return name_of(event).split(".")[1], event.at, {"reason": event.note}


def _tripped(event: ScheduleTripped) -> Told:
    return "tripped", event.at, _facts(event, "reason", "failures", "execution_id")


def _checked(event: ScheduleChecked) -> Told:
    facts: dict[str, Any] = {"outcome": event.outcome}
    if event.error is not None:
        facts["error"] = event.error
    return "checked", event.tick, facts


def _quarantined(event: ScheduleQuarantined) -> Told:
    return "failed", event.at, {"reason": event.reason}


def _decided(event: OccurrencesDecided) -> Told:
    facts = _facts(event, "reason", "first", "last", "count", "revision", "blocked_by")
    if event.moved_to is not None:
        facts |= {"nominal": event.nominal, "moved_to": event.moved_to}
    if event.backfill_id is not None:
        facts["backfill_id"] = event.backfill_id
    return event.decision, event.last, facts


def _planned(event: OccurrenceEvent) -> Told:
    return "planned", event.at, planned.facts_of(event)


def _backfill_started(event: ScheduleBackfillStarted) -> Told:
    names = ("backfill_id", "first", "last", "count", "overlap", "note")
    return "backfill", event.at, _facts(event, *names)


def _backfill_completed(event: ScheduleBackfillCompleted) -> Told:
    return "backfill", event.at, _facts(event, "backfill_id", "reason", "left")


def _facts(event: Event, *names: str) -> dict[str, Any]:
    return {name: getattr(event, name) for name in names}


_TOLD: dict[type[Event], Callable[[Any], Told]] = {
    ScheduleUpdated: _updated,
    SchedulePaused: _noted,
    ScheduleResumed: _noted,
    ScheduleCancelled: _noted,
    ScheduleTripped: _tripped,
    ScheduleChecked: _checked,
    ScheduleQuarantined: _quarantined,
    OccurrencesDecided: _decided,
    OccurrenceSkipped: _planned,
    OccurrenceMoved: _planned,
    OccurrenceHeld: _planned,
    OccurrenceApproved: _planned,
    OccurrencePayloadSet: _planned,
    ScheduleBackfillStarted: _backfill_started,
    ScheduleBackfillCompleted: _backfill_completed,
}
