"""What of an execution waits for an instant, as its events tell it (Q12)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    AwaitingConfirmation,
    CancellationRequested,
    CompensationStarted,
    ConfirmationTimedOut,
    DelayEnded,
    Event,
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
    elif (after := _AFTER.get(type(event))) is not None:
        row.timers = after(row, event)


def _requested(row: ExecutionRow, event: ExecutionRequested) -> Timers:
    if event.worker is None:
        return _to_begin(row, event)
    return _of_attempt(event) | _told(overall=event.end_by)


def _to_begin(
    row: ExecutionRow, event: ExecutionRequested | ExecutionReleased | ExecutionRequeued
) -> Timers:
    delay = row.due if row.status == "delayed" else None
    return _told(schedule_to_start=event.start_by, overall=event.end_by, delay=delay)


def _started(row: ExecutionRow, event: AttemptStarted) -> Timers:
    return _of_attempt(event) | _overall(row)


def _failed(row: ExecutionRow, event: AttemptFailed) -> Timers:
    return _told(retry=event.retry_at) | _overall(row)


def _delayed(row: ExecutionRow, event: ExecutionDelayed) -> Timers:
    return {"poll": event.until} | _overall(row)


def _checking(_: ExecutionRow, event: ExecutionChecking) -> Timers:
    comes = event.moved_to or event.due
    return {"check": comes} if comes > event.at else {}


def _check_failed(_: ExecutionRow, event: ExecutionCheckFailed) -> Timers:
    return _told(check=event.retry_at)


def _asked_to_stop(row: ExecutionRow, event: CancellationRequested) -> Timers:
    return row.timers | {"stop": event.deadline}


def _moved(row: ExecutionRow, event: TimerMoved) -> Timers:
    return row.timers | {event.timer: event.to}


def _cancelled(row: ExecutionRow, event: TimerCancelled) -> Timers:
    return _without(row, event.timer)


def _delay_ended(row: ExecutionRow, _: DelayEnded) -> Timers:
    return _without(row, "delay")


def _awaiting(row: ExecutionRow, event: AwaitingConfirmation) -> Timers:
    return _told(confirmation=event.deadline) | _overall(row)


def _only_overall(row: ExecutionRow, _: ExecutionEvent) -> Timers:
    return _overall(row)


def _none(_: ExecutionRow, __: ExecutionEvent) -> Timers:
    return {}


def _without(row: ExecutionRow, timer: str) -> Timers:
    return {kind: at for kind, at in row.timers.items() if kind != timer}


def _of_attempt(event: ExecutionRequested | AttemptStarted) -> Timers:
    silent = None if event.heartbeat is None else event.at + timedelta(seconds=event.heartbeat)
    return _told(start_to_close=event.deadline, heartbeat=silent)


def _overall(row: ExecutionRow) -> Timers:
    return _told(overall=row.timers.get("overall"))


def _told(**timers: datetime | None) -> Timers:
    return {kind: at for kind, at in timers.items() if at is not None}


_AFTER: dict[type[Event], Callable[[ExecutionRow, Any], Timers]] = {
    ExecutionRequested: _requested,
    ExecutionReleased: _to_begin,
    ExecutionRequeued: _to_begin,
    AttemptStarted: _started,
    AttemptFailed: _failed,
    ExecutionDelayed: _delayed,
    ExecutionChecking: _checking,
    ExecutionCheckFailed: _check_failed,
    ExecutionConditionsMet: _none,
    CancellationRequested: _asked_to_stop,
    TimerMoved: _moved,
    TimerCancelled: _cancelled,
    DelayEnded: _delay_ended,
    AwaitingConfirmation: _awaiting,
    StageCompleted: _only_overall,
    ExecutionConfirmed: _only_overall,
    ConfirmationTimedOut: _only_overall,
    FallbackStarted: _none,
    CompensationStarted: _none,
}
"""What waits after an event; after one of another kind, what has waited before."""
