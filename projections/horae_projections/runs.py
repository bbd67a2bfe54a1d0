"""What each event changes of the row of its execution."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    DelayEnded,
    Event,
    ExecutionApproved,
    ExecutionBuffered,
    ExecutionCancelled,
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
    StageCompleted,
)
from horae_projections import sagas
from horae_projections.rows import KEPT, KEPT_LOGS, Attempt, ExecutionRow

Born = ExecutionRequested | ExecutionBuffered | ExecutionChecking | ExecutionHeld | ExecutionSkipped


# --- begun ---------------------------------------------------------------------------------------


def begun(event: Born) -> ExecutionRow:
    """The row of an execution that begins with an event."""
    row = ExecutionRow(
        schedule_id=event.schedule_id,
        kind=event.kind,
        status="skipped",
        due=event.due,
        nominal=event.nominal,
        revision=event.revision,
        requested_at=event.at,
        payload=event.payload,
        correlation_id=event.correlation_id,
        attempts=[],
        timeline=[],
        moved_to=event.moved_to,
        plan_note=event.note,
        planned_by=event.planned_by,
        traceparent=event.traceparent,
        trigger={} if isinstance(event, ExecutionHeld) else event.trigger,
    )
    if isinstance(event, ExecutionSkipped):
        row.reason, row.blocked_by, row.ended_at = event.reason, event.blocked_by, event.at
        return row
    row.priority, row.queue = event.priority, event.queue
    if isinstance(event, ExecutionRequested):
        _requested(row, event)
    elif isinstance(event, ExecutionBuffered):
        row.status, row.blocked_by = "buffered", event.blocked_by
    else:
        row.status = "held" if isinstance(event, ExecutionHeld) else "checking"
    return row


def _requested(row: ExecutionRow, event: ExecutionRequested) -> None:
    row.status, row.fired = "pending", True
    row.run_number, row.backfill_id = event.run_number, event.backfill_id
    if event.worker is not None:
        _start(row, 1, 1, event.worker, event.at)
    else:
        _delay(row, event.at)


def _delay(row: ExecutionRow, at: datetime) -> None:
    """What an event has triggered waits until it is due."""
    if row.trigger and row.due > at:
        row.status = "delayed"


def _start(row: ExecutionRow, number: int, delivery: int, worker: str, at: datetime) -> None:
    row.status = "running"
    row.first_started_at = row.first_started_at or at
    if row.attempts and row.attempts[-1].number == number:
        row.attempts.pop()
    row.attempts.append(Attempt(number=number, worker=worker, started_at=at, delivery=delivery))
    del row.attempts[:-KEPT]


# --- attempts ------------------------------------------------------------------------------------


def change(row: ExecutionRow, event: ExecutionEvent) -> None:
    """Let an event change a row that there is."""
    found = _CHANGES.get(type(event))
    if found is not None:
        found(row, event)


def _started(row: ExecutionRow, event: AttemptStarted) -> None:
    _start(row, event.attempt, event.delivery, event.worker, event.at)
    row.attempts[-1].stage = event.stage


def _failed(row: ExecutionRow, event: AttemptFailed) -> None:
    _reported(row, event, event.outcome, event.error)
    if event.retry_at is not None:
        row.status = "delayed"


def _delayed(row: ExecutionRow, event: ExecutionDelayed) -> None:
    _reported(row, event, "again", None)
    row.result = event.result
    row.status = "delayed"
    row.polls, row.poll_limit = row.polls + 1, event.limit


def _succeeded(row: ExecutionRow, event: ExecutionSucceeded) -> None:
    _reported(row, event, "succeeded", None)
    row.result = event.result
    _end(row, "succeeded", event.at, None)


def _stage_completed(row: ExecutionRow, event: StageCompleted) -> None:
    _reported(row, event, "succeeded", None)
    sagas.completed(row, event)


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


def _close(row: ExecutionRow, at: datetime, outcome: str, error: dict[str, Any] | None) -> None:
    if row.attempts:
        attempt = row.attempts[-1]
        attempt.finished_at, attempt.outcome, attempt.error = at, outcome, error


# --- ends ----------------------------------------------------------------------------------------


def _ended(
    status: str,
) -> Callable[[ExecutionRow, ExecutionFailed | ExecutionTimedOut | ExecutionDeadLettered], None]:
    def change(
        row: ExecutionRow, event: ExecutionFailed | ExecutionTimedOut | ExecutionDeadLettered
    ) -> None:
        _end(row, status, event.at, event.error.get("reason") or event.error.get("message"))

    return change


def _cancelled(row: ExecutionRow, event: ExecutionCancelled) -> None:
    if row.attempts and row.attempts[-1].finished_at is None:
        _close(row, event.at, "cancelled", None)
    _end(row, "cancelled", event.at, event.reason)


def _dropped(row: ExecutionRow, event: ExecutionDropped) -> None:
    _end(row, "skipped", event.at, event.reason)
    row.blocked_by = event.blocked_by or row.blocked_by


def _end(row: ExecutionRow, status: str, at: datetime, reason: object) -> None:
    sagas.ended(row, at)
    row.status, row.ended_at = status, at
    row.reason = None if reason is None else str(reason)


# --- what waits ----------------------------------------------------------------------------------


def _requeued(row: ExecutionRow, event: ExecutionRequeued) -> None:
    row.status, row.ended_at, row.reason = "pending", None, None
    sagas.requeued(row, event)


def _released(row: ExecutionRow, event: ExecutionReleased) -> None:
    row.status, row.run_number, row.fired = "pending", event.run_number, True
    _delay(row, event.at)


def _buffered(row: ExecutionRow, _: ExecutionApproved | ExecutionConditionsMet) -> None:
    row.status = "buffered"


def _delay_ended(row: ExecutionRow, _: DelayEnded) -> None:
    row.status = "pending"


def _reprioritised(row: ExecutionRow, event: ExecutionReprioritised) -> None:
    row.priority = event.priority


_CHANGES: dict[type[Event], Callable[[ExecutionRow, Any], None]] = {
    AttemptStarted: _started,
    AttemptFailed: _failed,
    ExecutionDelayed: _delayed,
    ExecutionSucceeded: _succeeded,
    StageCompleted: _stage_completed,
    ExecutionFailed: _ended("failed"),
    ExecutionTimedOut: _ended("timed_out"),
    ExecutionDeadLettered: _ended("dead"),
    ExecutionCancelled: _cancelled,
    ExecutionDropped: _dropped,
    ExecutionRequeued: _requeued,
    ExecutionReleased: _released,
    ExecutionApproved: _buffered,
    ExecutionConditionsMet: _buffered,
    DelayEnded: _delay_ended,
    ExecutionReprioritised: _reprioritised,
    **sagas.CHANGES,
}
