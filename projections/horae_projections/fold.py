"""From events to rows: the read models as functions.

`project` changes the rows of a sheet, and the sheet tells the difference to what the view store
has. Folding the same events always gives the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from horae_domain.events import (
    CommandScheduled,
    Event,
    ExecutionEvent,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionSucceeded,
    ExternalEventReceived,
    HistoryErased,
    LimitEvent,
    OccurrenceEvent,
    OccurrencesDecided,
    RequestAnswered,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
    ScheduleCancelled,
    ScheduleChecked,
    ScheduleCompleted,
    ScheduleCreated,
    ScheduleErased,
    SchedulePaused,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleTripped,
    ScheduleUpdated,
)
from horae_domain.instants import parse_instant
from horae_domain.ledger import OFF_CALENDAR, UNPLANNED
from horae_projections import erasing, planned, queues, runs, timed, timeline
from horae_projections.decisions import decision_of
from horae_projections.definitions import facets_of, pack_command, pack_definition
from horae_projections.ports import Key
from horae_projections.rows import (
    DECISIONS,
    EXECUTIONS,
    SCHEDULES,
    Counts,
    ExecutionRow,
    Pause,
    ScheduleRow,
    decision_id,
)
from horae_projections.sheet import BORN, Sheet

OF_OCCURRENCES = (
    OccurrencesDecided,
    OccurrenceEvent,
    ScheduleChecked,
    ScheduleBackfillStarted,
    ScheduleBackfillCompleted,
)
"""Events of a schedule's stream that do not change the schedule."""
CALENDAR, RRULE = "calendar", "rrule"
_COUNTED = {
    "running", "waiting", "buffered", "held",
    "succeeded", "failed", "timed_out", "cancelled", "skipped", "dead",
}  # fmt: skip
"""The statuses of executions that their schedule counts."""


def project(sheet: Sheet, number: int, event: Event) -> None:
    """Let an event, the one of that number in the log, change the rows."""
    if isinstance(event, ExecutionEvent):
        _project_execution(sheet, event)
    elif isinstance(event, LimitEvent):
        queues.limited(sheet, event)
    elif not isinstance(event, RequestAnswered | ExternalEventReceived):
        _project_schedule(sheet, number, event)


# --- schedules -----------------------------------------------------------------------------------


def _project_schedule(sheet: Sheet, number: int, event: Event) -> None:
    if isinstance(event, HistoryErased | ScheduleErased):
        erasing.follow(sheet, event)
        return
    key = Key(SCHEDULES, event.tenant, event.schedule_id)
    if isinstance(event, ScheduleCreated | CommandScheduled):
        begun = _created(event) if isinstance(event, ScheduleCreated) else _scheduled(event)
        sheet.set(key, begun)
        return
    row: ScheduleRow | None = sheet.get(key)
    if row is None:
        return
    if not isinstance(event, OF_OCCURRENCES):
        row.changed_at = event.at
    change = _CHANGES.get(type(event))
    if change is not None:
        change(row, event)
    planned.follow(row, event)
    decision = decision_of(event)
    if decision is not None:
        sheet.set(Key(DECISIONS, event.tenant, decision_id(number)), decision)


def _created(event: ScheduleCreated) -> ScheduleRow:
    return ScheduleRow(
        definition=pack_definition(event.definition),
        status=_begun(event.definition, event.at),
        revision=event.revision,
        created_at=event.at,
        anchor=None if event.anchor == event.at else event.anchor,
        next_due=event.next_due,
        created_by=event.actor,
        causation_id=event.causation_id,
    )


def _scheduled(event: CommandScheduled) -> ScheduleRow:
    return ScheduleRow(
        definition=pack_command(event),
        status="active",
        revision=1,
        created_at=event.at,
        next_due=event.first_due,
        created_by=event.actor,
        correlation_id=event.correlation_id,
    )


def _begun(definition: dict[str, Any], at: datetime) -> str:
    """`pending` before `start_at`; the first decision on an occurrence makes it `active`."""
    start = definition.get("start_at")
    return "pending" if start and parse_instant(start, field="start_at") > at else "active"


def _updated(row: ScheduleRow, event: ScheduleUpdated) -> None:
    row.definition = pack_definition(event.definition)
    row.revision = event.revision
    row.anchor = None if event.anchor == row.created_at else event.anchor
    if row.status != "paused":
        row.status = _begun(event.definition, event.at)
        row.next_due = event.next_due


def _paused(row: ScheduleRow, event: SchedulePaused) -> None:
    _stop(row, "paused", event.note)
    row.pause = Pause(event.at, event.actor)


def _tripped(row: ScheduleRow, event: ScheduleTripped) -> None:
    _stop(row, "paused", event.reason)
    row.pause = Pause(event.at, tripped=True)


def _resumed(row: ScheduleRow, event: ScheduleResumed) -> None:
    row.status, row.note, row.pause = _begun(row.told, event.at), None, None
    row.next_due = event.next_due


def _completed(row: ScheduleRow, event: ScheduleCompleted) -> None:
    _stop(row, "completed", event.reason)


def _cancelled(row: ScheduleRow, event: ScheduleCancelled) -> None:
    _stop(row, "cancelled", event.note)


def _quarantined(row: ScheduleRow, event: ScheduleQuarantined) -> None:
    _stop(row, "failed", event.reason)


def _stop(row: ScheduleRow, status: str, note: str) -> None:
    row.status, row.note, row.next_due, row.pause = status, note, None, None


def _checked(row: ScheduleRow, event: ScheduleChecked) -> None:
    message = None if event.error is None else str(event.error.get("message", ""))
    _counts(row).checked = (event.tick, event.outcome, message)


def _decided_at_once(row: ScheduleRow, event: OccurrencesDecided) -> None:
    if event.backfill_id is None:
        _decided(row, event.next_due)
    if event.decision == "missed":
        _counts(row).missed += event.count or 0
    elif event.decision == "skipped":
        _counts(row).skipped += event.count or 0


def _decided(row: ScheduleRow, next_due: datetime | None) -> None:
    if row.status == "pending":
        row.status = "active"
    if row.status == "active":
        row.next_due = next_due


_CHANGES: dict[type[Event], Callable[[ScheduleRow, Any], None]] = {
    ScheduleUpdated: _updated,
    SchedulePaused: _paused,
    ScheduleTripped: _tripped,
    ScheduleResumed: _resumed,
    ScheduleCompleted: _completed,
    ScheduleCancelled: _cancelled,
    ScheduleQuarantined: _quarantined,
    ScheduleChecked: _checked,
    OccurrencesDecided: _decided_at_once,
}


# --- executions ----------------------------------------------------------------------------------


def _project_execution(sheet: Sheet, event: ExecutionEvent) -> None:
    schedule: ScheduleRow | None = sheet.get(Key(SCHEDULES, event.tenant, event.schedule_id))
    key = Key(EXECUTIONS, event.tenant, event.execution_id)
    row: ExecutionRow | None
    if isinstance(event, BORN):
        before, row = None, runs.begun(event)
        sheet.set(key, row)
        if schedule is not None:
            _fired(schedule, row, event)
    else:
        row = sheet.get(key)
        if row is None:
            return
        before = row.status
        runs.change(row, event)
        if schedule is not None:
            _followed(schedule, row, event)
    timed.follow(row, event)
    timeline.follow(row, event)
    queues.moved(sheet, event, row, before)
    if schedule is not None and row.status != before:
        _count(schedule, before, row.status)


def _fired(schedule: ScheduleRow, row: ExecutionRow, event: runs.Born) -> None:
    if event.kind == CALENDAR and facets_of(schedule.definition, schedule.created_by).type == RRULE:
        row.kind = RRULE  # identities of recurrence rules and of cron expressions are alike
    if event.kind not in OFF_CALENDAR:
        _decided(schedule, event.next_due)
    if event.kind not in UNPLANNED:
        planned.follow_decision(schedule, event.nominal, event.due, event.at)
    if isinstance(event, ExecutionRequested):
        _last(schedule, event.due, event, counts=event.kind not in OFF_CALENDAR)
        if event.backfill_id is not None:
            planned.follow_backfill(schedule, event)


def _followed(schedule: ScheduleRow, row: ExecutionRow, event: ExecutionEvent) -> None:
    """What an event of an execution that there is says of its schedule."""
    if isinstance(event, ExecutionSucceeded):
        if event.cooldown_until:
            _counts(schedule).cooldown_until = event.cooldown_until
    elif isinstance(event, ExecutionReleased):
        if row.kind != "key":
            _decided(schedule, event.next_due)
        _last(schedule, row.due, event, counts=row.kind != "key")


def _last(schedule: ScheduleRow, due: datetime, event: ExecutionEvent, *, counts: bool) -> None:
    """It has fired, and perhaps rests from now on: only by what `counts`."""
    told = _counts(schedule)
    told.fired += 1
    told.counted += counts
    schedule.last_due = due
    schedule.last_execution_id = event.execution_id
    rest = facets_of(schedule.definition, schedule.created_by).rest if counts else None
    if rest is not None:
        told.cooldown_until = event.at + rest


def _count(schedule: ScheduleRow, before: str | None, after: str) -> None:
    """Keep the schedule's counters of what runs and of how runs ended."""
    counts = _counts(schedule)
    if before in _COUNTED:  # also what has ended: it is tried again
        setattr(counts, before, getattr(counts, before) - 1)
    if after in _COUNTED:
        setattr(counts, after, getattr(counts, after) + 1)


def _counts(schedule: ScheduleRow) -> Counts:
    if schedule.counts is None:
        schedule.counts = Counts()
    return schedule.counts
