"""What of an execution waits for an instant, as its events tell it (Q12)."""

from __future__ import annotations

from datetime import datetime, timedelta

from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    AwaitingConfirmation,
    CancellationRequested,
    CompensationStarted,
    ConfirmationTimedOut,
    DelayEnded,
    ExecutionCheckFailed,
    ExecutionChecking,
    ExecutionConditionsMet,
    ExecutionConfirmed,
    ExecutionDelayed,
    ExecutionEvent,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionRequeued,
    FallbackStarted,
    StageCompleted,
    TimerCancelled,
    TimerMoved,
)
from horae_projections.rows import ExecutionRow

ENDED = frozenset({"succeeded", "failed", "timed_out", "cancelled", "skipped", "dead"})

Timers = dict[str, datetime]
"""By kind, as `horae_domain.timeouts.TIMERS` names them."""


def follow(row: ExecutionRow, event: ExecutionEvent) -> None:
    """The timers of a row that has been changed by an event."""
    if row.status in ENDED:
        row.timers = {}
    else:
        row.timers = _after(row, event)


def _after(row: ExecutionRow, event: ExecutionEvent) -> Timers:
    match event:
        case ExecutionRequested() if event.worker is None:
            return _to_begin(event) | _delay(row)
        case ExecutionRequested():
            return _of_attempt(event) | _told(overall=event.end_by)
        case ExecutionReleased() | ExecutionRequeued():
            return _to_begin(event) | _delay(row)
        case AttemptStarted():
            return _of_attempt(event) | _overall(row)
        case AttemptFailed():
            return _told(retry=event.retry_at) | _overall(row)
        case ExecutionDelayed():
            return {"poll": event.until} | _overall(row)
        case ExecutionChecking():
            comes = event.moved_to or event.due
            return {"check": comes} if comes > event.at else {}
        case ExecutionCheckFailed():
            return _told(check=event.retry_at)
        case ExecutionConditionsMet():
            return {}
        case _:
            return _changed(row, event)


def _changed(row: ExecutionRow, event: ExecutionEvent) -> Timers:
    match event:
        case CancellationRequested():
            return row.timers | {"stop": event.deadline}
        case TimerMoved():
            return row.timers | {event.timer: event.to}
        case TimerCancelled():
            return {kind: at for kind, at in row.timers.items() if kind != event.timer}
        case DelayEnded():
            return {kind: at for kind, at in row.timers.items() if kind != "delay"}
        case AwaitingConfirmation():
            return _told(confirmation=event.deadline) | _overall(row)
        case StageCompleted() | ExecutionConfirmed() | ConfirmationTimedOut():
            return _overall(row)
        case FallbackStarted() | CompensationStarted():
            return {}
        case _:
            return row.timers


def _to_begin(event: ExecutionRequested | ExecutionReleased | ExecutionRequeued) -> Timers:
    return _told(schedule_to_start=event.start_by, overall=event.end_by)


def _delay(row: ExecutionRow) -> Timers:
    return {"delay": row.due} if row.status == "delayed" else {}


def _of_attempt(event: ExecutionRequested | AttemptStarted) -> Timers:
    silent = None if event.heartbeat is None else event.at + timedelta(seconds=event.heartbeat)
    return _told(start_to_close=event.deadline, heartbeat=silent)


def _overall(row: ExecutionRow) -> Timers:
    return _told(overall=row.timers.get("overall"))


def _told(**timers: datetime | None) -> Timers:
    return {kind: at for kind, at in timers.items() if at is not None}
