"""From events to rows: the read models as functions.

`project` changes the rows of a sheet, and the sheet tells the difference to what the view store
has. Folding the same events always gives the same rows.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from horae_domain.codec import name_of
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    CancellationRequested,
    CommandScheduled,
    DelayEnded,
    Event,
    ExecutionApproved,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionCheckFailed,
    ExecutionChecking,
    ExecutionConditionsMet,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionDropped,
    ExecutionEvent,
    ExecutionFailed,
    ExecutionHeld,
    ExecutionReleased,
    ExecutionReprioritised,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSkipped,
    ExecutionSucceeded,
    ExecutionTimedOut,
    ExternalEventReceived,
    HistoryErased,
    LimitEvent,
    OccurrenceEvent,
    OccurrencesDecided,
    ReportRefused,
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
    StageCompleted,
    TimerCancelled,
    TimerMoved,
)
from horae_domain.instants import parse_instant
from horae_domain.ledger import OFF_CALENDAR, UNPLANNED
from horae_projections import erasing, planned, queues, sagas, timed
from horae_projections.definitions import pack_command, pack_definition
from horae_projections.ports import Key
from horae_projections.rows import (
    DECISIONS,
    EXECUTIONS,
    KEPT,
    KEPT_LOGS,
    SCHEDULES,
    Attempt,
    Counts,
    DecisionRow,
    ExecutionRow,
    Pause,
    ScheduleRow,
    decision_id,
)
from horae_projections.sheet import BORN, Sheet

_NOW = {"running", "waiting", "buffered", "held"}
Born = ExecutionRequested | ExecutionBuffered | ExecutionChecking | ExecutionHeld | ExecutionSkipped
OF_OCCURRENCES = (
    OccurrencesDecided,
    OccurrenceEvent,
    ScheduleChecked,
    ScheduleBackfillStarted,
    ScheduleBackfillCompleted,
)
"""Events of a schedule's stream that do not change the schedule."""
CALENDAR, RRULE = "calendar", "rrule"
_ENDED = {"succeeded", "failed", "timed_out", "cancelled", "skipped", "dead"}


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
    _change_schedule(row, event)
    planned.follow(row, event)
    decision = _decision(event)
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


def _paused(row: ScheduleRow, note: str, pause: Pause) -> None:
    row.status, row.note, row.next_due, row.pause = "paused", note, None, pause


def _ended(row: ScheduleRow, status: str, note: str) -> None:
    row.status, row.note, row.next_due, row.pause = status, note, None, None


def _change_schedule(row: ScheduleRow, event: Event) -> None:
    match event:
        case ScheduleUpdated():
            row.definition = pack_definition(event.definition)
            row.revision = event.revision
            row.anchor = None if event.anchor == row.created_at else event.anchor
            if row.status != "paused":
                row.status = _begun(event.definition, event.at)
                row.next_due = event.next_due
        case SchedulePaused():
            _paused(row, event.note, Pause(event.at, event.actor))
        case ScheduleTripped():
            _paused(row, event.reason, Pause(event.at, tripped=True))
        case ScheduleResumed():
            row.status, row.note, row.pause = _begun(row.told, event.at), None, None
            row.next_due = event.next_due
        case OccurrencesDecided():
            _decided_at_once(row, event)
        case ScheduleChecked():
            message = None if event.error is None else str(event.error.get("message", ""))
            _counts(row).checked = (event.tick, event.outcome, message)
        case _:
            _end_schedule(row, event)


def _end_schedule(row: ScheduleRow, event: Event) -> None:
    match event:
        case ScheduleCompleted():
            _ended(row, "completed", event.reason)
        case ScheduleCancelled():
            _ended(row, "cancelled", event.note)
        case ScheduleQuarantined():
            _ended(row, "failed", event.reason)
        case _:
            pass


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


def _decision(event: Event) -> DecisionRow | None:
    """What a schedule's history tells besides its executions."""
    facts: dict[str, Any]
    match event:
        case ScheduleUpdated():
            status, at, facts = "updated", event.at, {"revision": event.revision}
        case SchedulePaused() | ScheduleResumed() | ScheduleCancelled():
            kind = name_of(event).split(".")[1]
            status, at, facts = kind, event.at, {"reason": event.note}
        case ScheduleTripped():
            status, at = "tripped", event.at
            facts = {
                "reason": event.reason,
                "failures": event.failures,
                "execution_id": event.execution_id,
            }
        case ScheduleChecked():
            status, at, facts = "checked", event.tick, {"outcome": event.outcome}
            if event.error is not None:
                facts["error"] = event.error
        case ScheduleQuarantined():
            status, at, facts = "failed", event.at, {"reason": event.reason}
        case _:
            told = _of_occurrences(event)
            if told is None:
                return None
            status, at, facts = told
    if event.actor is not None:
        facts["actor"] = event.actor
    return DecisionRow(
        schedule_id=event.schedule_id, event=name_of(event), status=status, at=at, facts=facts
    )


def _of_occurrences(event: Event) -> tuple[str, datetime, dict[str, Any]] | None:
    """What it tells of ranges, of plans and of backfills."""
    names: tuple[str, ...]
    match event:
        case OccurrencesDecided():
            names = ("reason", "first", "last", "count", "revision", "blocked_by")
            facts = {name: getattr(event, name) for name in names}
            if event.moved_to is not None:
                facts |= {"nominal": event.nominal, "moved_to": event.moved_to}
            if event.backfill_id is not None:
                facts["backfill_id"] = event.backfill_id
            return event.decision, event.last, facts
        case OccurrenceEvent():
            return "planned", event.at, planned.facts_of(event)
        case ScheduleBackfillStarted():
            names = ("backfill_id", "first", "last", "count", "overlap", "note")
        case ScheduleBackfillCompleted():
            names = ("backfill_id", "reason", "left")
        case _:
            return None
    return "backfill", event.at, {name: getattr(event, name) for name in names}


# --- executions ----------------------------------------------------------------------------------


def _project_execution(sheet: Sheet, event: ExecutionEvent) -> None:
    schedule: ScheduleRow | None = sheet.get(Key(SCHEDULES, event.tenant, event.schedule_id))
    key = Key(EXECUTIONS, event.tenant, event.execution_id)
    row: ExecutionRow | None
    if isinstance(event, BORN):
        before, row = None, _requested(event)
        if event.kind == CALENDAR and schedule is not None:
            row.kind = _calendar_of(schedule)
        sheet.set(key, row)
        if schedule is not None:
            _fired(schedule, event)
    else:
        row = sheet.get(key)
        if row is None:
            return
        before = row.status
        _change_execution(row, event)
        if schedule is not None and isinstance(event, ExecutionSucceeded) and event.cooldown_until:
            _counts(schedule).cooldown_until = event.cooldown_until
        sagas.follow(row, event)
        if schedule is not None and isinstance(event, ExecutionReleased):
            _released(schedule, row, event)
    timed.follow(row, event)
    _note(row, event)
    queues.moved(sheet, event, row, before)
    if schedule is not None and row.status != before:
        _count(schedule, before, row.status)


def _calendar_of(schedule: ScheduleRow) -> str:
    """Which calendar it is: identities of recurrence rules and of cron expressions are alike."""
    return RRULE if schedule.told["trigger"]["type"] == RRULE else CALENDAR


def _requested(event: Born) -> ExecutionRow:
    row = ExecutionRow(
        schedule_id=event.schedule_id,
        kind=event.kind,
        status="skipped",
        due=event.due,
        nominal=event.nominal,
        revision=event.revision,
        requested_at=event.at,
        correlation_id=event.correlation_id,
        attempts=[],
        timeline=[],
        backfill_id=event.backfill_id if isinstance(event, ExecutionRequested) else None,
        moved_to=event.moved_to,
        plan_note=event.note,
        planned_by=event.planned_by,
        traceparent=event.traceparent,
        trigger={} if isinstance(event, ExecutionHeld) else event.trigger,
    )
    if isinstance(event, ExecutionSkipped):
        row.reason, row.blocked_by, row.ended_at = event.reason, event.blocked_by, event.at
        row.payload = event.payload
        return row
    row.priority = event.priority
    row.queue = event.queue
    row.payload = event.payload
    if isinstance(event, ExecutionBuffered):
        row.status, row.blocked_by = "buffered", event.blocked_by
        return row
    if isinstance(event, ExecutionHeld | ExecutionChecking):
        row.status = "held" if isinstance(event, ExecutionHeld) else "checking"
        return row
    row.status, row.fired = "pending", True
    row.run_number = event.run_number
    if event.worker is not None:
        _start(row, 1, 1, event.worker, event.at)
    else:
        _delay(row, event.at)
    return row


def _delay(row: ExecutionRow, at: datetime) -> None:
    """What an event has triggered waits until it is due."""
    if row.trigger and row.due > at:
        row.status = "delayed"


def _fired(schedule: ScheduleRow, event: Born) -> None:
    if event.kind not in OFF_CALENDAR:
        _decided(schedule, event.next_due)
    if event.kind not in UNPLANNED:
        planned.follow_decision(schedule, event.nominal, event.due, event.at)
    if isinstance(event, ExecutionRequested):
        _last(schedule, event.kind, event.due, event.execution_id, event.at)
        if event.backfill_id is not None:
            planned.follow_backfill(schedule, event)


def _released(schedule: ScheduleRow, row: ExecutionRow, event: ExecutionReleased) -> None:
    if row.kind != "key":
        _decided(schedule, event.next_due)
    _last(schedule, row.kind, row.due, event.execution_id, event.at)


def _last(schedule: ScheduleRow, kind: str, due: datetime, execution_id: str, at: datetime) -> None:
    counts = _counts(schedule)
    counts.fired += 1
    counts.counted += kind not in OFF_CALENDAR
    schedule.last_due = due
    schedule.last_execution_id = execution_id
    if kind not in OFF_CALENDAR:
        counts.fired_at = at


def _count(schedule: ScheduleRow, before: str | None, after: str) -> None:
    """Keep the schedule's counters of what runs and of how runs ended."""
    counts = _counts(schedule)
    if before in _NOW or before in _ENDED:  # what has ended is tried again
        setattr(counts, before, getattr(counts, before) - 1)
    if after in _NOW or after in _ENDED:
        setattr(counts, after, getattr(counts, after) + 1)


def _counts(schedule: ScheduleRow) -> Counts:
    if schedule.counts is None:
        schedule.counts = Counts()
    return schedule.counts


def _start(row: ExecutionRow, number: int, delivery: int, worker: str, at: datetime) -> None:
    row.status = "running"
    row.first_started_at = row.first_started_at or at
    if row.attempts and row.attempts[-1].number == number:
        row.attempts.pop()
    row.attempts.append(Attempt(number=number, worker=worker, started_at=at, delivery=delivery))
    del row.attempts[:-KEPT]


def _change_execution(row: ExecutionRow, event: ExecutionEvent) -> None:
    match event:
        case AttemptStarted():
            _start(row, event.attempt, event.delivery, event.worker, event.at)
            row.attempts[-1].stage = event.stage
        case AttemptFailed():
            _reported(row, event, event.outcome, event.error)
            if event.retry_at is not None:
                row.status = "delayed"
        case ExecutionDelayed():
            _reported(row, event, "again", None)
            row.result = event.result
            row.status = "delayed"
            row.polls, row.poll_limit = row.polls + 1, event.limit
        case ExecutionSucceeded():
            _reported(row, event, "succeeded", None)
            row.result = event.result
            _end(row, "succeeded", event.at, None)
        case StageCompleted():
            _reported(row, event, "succeeded", None)
        case ExecutionRequeued():
            row.status, row.ended_at, row.reason = "pending", None, None
        case _:
            _end_execution(row, event)


def _end_execution(row: ExecutionRow, event: ExecutionEvent) -> None:
    """What ends without success."""
    match event:
        case ExecutionFailed():
            _end(row, "failed", event.at, _why(event.error))
        case ExecutionTimedOut():
            _end(row, "timed_out", event.at, _why(event.error))
        case ExecutionDeadLettered():
            _end(row, "dead", event.at, _why(event.error))
        case ExecutionCancelled():
            if row.attempts and row.attempts[-1].finished_at is None:
                _close(row, event.at, "cancelled", None)
            _end(row, "cancelled", event.at, event.reason)
        case _:
            _change_waiting(row, event)


def _change_waiting(row: ExecutionRow, event: ExecutionEvent) -> None:
    match event:
        case ExecutionReleased():
            row.status, row.run_number, row.fired = "pending", event.run_number, True
            _delay(row, event.at)
        case ExecutionApproved() | ExecutionConditionsMet():
            row.status = "buffered"
        case DelayEnded():
            row.status = "pending"
        case ExecutionDropped():
            _end(row, "skipped", event.at, event.reason)
            row.blocked_by = event.blocked_by or row.blocked_by
        case ExecutionReprioritised():
            row.priority = event.priority
        case _:
            pass


def _why(error: dict[str, Any]) -> object:
    return error.get("reason") or error.get("message")


def _end(row: ExecutionRow, status: str, at: datetime, reason: object) -> None:
    sagas.ended(row, at)
    row.status, row.ended_at = status, at
    row.reason = None if reason is None else str(reason)


def _close(row: ExecutionRow, at: datetime, outcome: str, error: dict[str, Any] | None) -> None:
    if row.attempts:
        attempt = row.attempts[-1]
        attempt.finished_at, attempt.outcome, attempt.error = at, outcome, error


def _reported(
    row: ExecutionRow,
    event: AttemptFailed | ExecutionDelayed | ExecutionSucceeded | StageCompleted,
    outcome: str,
    error: dict[str, Any] | None,
) -> None:
    _close(row, event.at, outcome, error)
    if event.started_at is not None and row.attempts:
        row.attempts[-1].started_at = event.started_at
        if len(row.attempts) == 1 and row.attempts[0].number == 1:
            row.first_started_at = event.started_at
    if event.logs:
        row.logs = [*row.logs, *event.logs][-KEPT_LOGS:]
    if event.metadata:
        row.metadata = row.metadata | event.metadata


def _note(row: ExecutionRow, event: ExecutionEvent) -> None:
    """Write the event into the execution's timeline."""
    row.timeline.append((event.at, name_of(event).split(".")[1], _detail(event)))
    if isinstance(event, ExecutionRequested) and event.worker is not None:
        row.timeline.append((event.at, "attempt_started", event.worker))
    del row.timeline[:-KEPT]


def _detail(event: ExecutionEvent) -> str | None:
    match event:
        case AttemptStarted():
            return event.worker
        case AttemptFailed():
            return event.outcome
        case (
            ExecutionSkipped() | ExecutionDropped() | ExecutionCancelled() | CancellationRequested()
        ):
            return event.reason
        case ExecutionBuffered():
            return event.blocked_by
        case ExecutionHeld():
            return event.note or None
        case ExecutionReprioritised():
            return event.priority
        case _:
            return _detail_of_wait(event)


def _detail_of_wait(event: ExecutionEvent) -> str | None:
    match event:
        case ExecutionChecking() | ExecutionConditionsMet():
            return ", ".join(event.conditions)
        case ExecutionCheckFailed():
            return f"{event.condition}: {event.error.get('message')}"
        case ReportRefused():
            return event.lease
        case TimerMoved() | TimerCancelled():
            return event.timer
        case _:
            return sagas.detail_of(event)
