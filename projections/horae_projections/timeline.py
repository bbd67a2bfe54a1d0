"""The timeline of an execution: one line of each of its events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from horae_domain.events import (
    NAMES,
    AttemptFailed,
    AttemptStarted,
    CancellationRequested,
    CompensationStarted,
    ConfirmationLate,
    ConfirmationReceived,
    Event,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionCheckFailed,
    ExecutionChecking,
    ExecutionConditionsMet,
    ExecutionConfirmed,
    ExecutionDropped,
    ExecutionEvent,
    ExecutionHeld,
    ExecutionReprioritised,
    ExecutionRequested,
    ExecutionSkipped,
    FallbackStarted,
    ReportRefused,
    StageCompleted,
    TimerCancelled,
    TimerMoved,
)
from horae_projections.rows import KEPT, ExecutionRow


def follow(row: ExecutionRow, event: ExecutionEvent) -> None:
    """Write the event into the row's timeline."""
    kind = type(event)
    detail = _DETAILS.get(kind)
    row.timeline.append((event.at, _SHORT[kind], None if detail is None else detail(event)))
    if isinstance(event, ExecutionRequested) and event.worker is not None:
        row.timeline.append((event.at, "attempt_started", event.worker))
    del row.timeline[:-KEPT]


def _started(event: AttemptStarted) -> str:
    return event.worker


def _failed(event: AttemptFailed) -> str:
    return event.outcome


def _reason(
    event: ExecutionSkipped | ExecutionDropped | ExecutionCancelled | CancellationRequested,
) -> str:
    return event.reason


def _buffered(event: ExecutionBuffered) -> str | None:
    return event.blocked_by


def _held(event: ExecutionHeld) -> str | None:
    return event.note or None


def _reprioritised(event: ExecutionReprioritised) -> str:
    return event.priority


def _conditions(event: ExecutionChecking | ExecutionConditionsMet) -> str:
    return ", ".join(event.conditions)


def _check_failed(event: ExecutionCheckFailed) -> str:
    return f"{event.condition}: {event.error.get('message')}"


def _refused(event: ReportRefused) -> str:
    return event.lease


def _timer(event: TimerMoved | TimerCancelled) -> str:
    return event.timer


def _stage(event: StageCompleted) -> str:
    return event.stage or "action"


def _confirmed(event: ExecutionConfirmed | ConfirmationReceived) -> str:
    return event.confirmation.event_id


def _late(event: ConfirmationLate) -> str:
    return event.event_id


def _because(event: FallbackStarted | CompensationStarted) -> str:
    return event.because.reason


_SHORT = {kind: name.split(".")[1] for kind, name in NAMES.items()}
_DETAILS: dict[type[Event], Callable[[Any], str | None]] = {
    AttemptStarted: _started,
    AttemptFailed: _failed,
    ExecutionSkipped: _reason,
    ExecutionDropped: _reason,
    ExecutionCancelled: _reason,
    CancellationRequested: _reason,
    ExecutionBuffered: _buffered,
    ExecutionHeld: _held,
    ExecutionReprioritised: _reprioritised,
    ExecutionChecking: _conditions,
    ExecutionConditionsMet: _conditions,
    ExecutionCheckFailed: _check_failed,
    ReportRefused: _refused,
    TimerMoved: _timer,
    TimerCancelled: _timer,
    StageCompleted: _stage,
    ExecutionConfirmed: _confirmed,
    ConfirmationReceived: _confirmed,
    ConfirmationLate: _late,
    FallbackStarted: _because,
    CompensationStarted: _because,
}
