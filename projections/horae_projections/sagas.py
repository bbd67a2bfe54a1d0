"""The rows of executions that wait for confirmations, take steps, or fall back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from horae_domain import stages
from horae_domain.events import (
    AwaitingConfirmation,
    CompensationStarted,
    ConfirmationLate,
    ConfirmationReceived,
    ConfirmationTimedOut,
    Event,
    ExecutionConfirmed,
    ExecutionRequeued,
    FallbackStarted,
    StageCompleted,
)
from horae_domain.instants import format_instant
from horae_projections.rows import ExecutionRow, Saga

OF_SAGAS = (
    AwaitingConfirmation,
    CompensationStarted,
    ConfirmationLate,
    ConfirmationReceived,
    ConfirmationTimedOut,
    ExecutionConfirmed,
    FallbackStarted,
    StageCompleted,
)


def follow(row: ExecutionRow, event: Event) -> None:
    """Let an event of a saga change the row of its execution."""
    if isinstance(event, ExecutionRequeued):
        _requeued(row, event)
        return
    if not isinstance(event, OF_SAGAS):
        return
    row.saga = saga = row.saga or Saga()
    match event:
        case StageCompleted():
            _completed(saga, event)
            _ready(row, saga, event.next)
        case AwaitingConfirmation():
            _waits(row, saga, event)
        case ConfirmationReceived() | ExecutionConfirmed():
            told = msgspec.to_builtins(event.confirmation) | {"at": format_instant(event.at)}
            saga.confirmations.append(told)
            if isinstance(event, ExecutionConfirmed):
                saga.waited_until = event.at
                _ready(row, saga, stages.THEN)
        case ConfirmationTimedOut():
            saga.timed_out, saga.waited_until = True, event.at
        case ConfirmationLate():
            saga.late += 1
        case FallbackStarted() | CompensationStarted():
            _falls_back(row, saga, event)


def ended(row: ExecutionRow, at: datetime) -> None:
    """It waits no longer, however it has ended."""
    if row.saga is not None and row.status == "waiting":
        row.saga.waited_until = row.saga.waited_until or at


def detail_of(event: Event) -> str | None:
    """What the timeline says of an event of a saga."""
    match event:
        case StageCompleted():
            return event.stage or "action"
        case ExecutionConfirmed() | ConfirmationReceived():
            return event.confirmation.event_id
        case ConfirmationLate():
            return event.event_id
        case FallbackStarted() | CompensationStarted():
            return event.because.reason
        case _:
            return None


def _completed(saga: Saga, event: StageCompleted) -> None:
    if event.stage.startswith(stages.UNDO):
        name = event.stage.removeprefix(stages.UNDO)
        saga.undone.append(name)
        saga.done = list(stages.undone(saga.done, event.stage))
        return
    name = event.stage.removeprefix(stages.STEP) or "action"
    saga.results = saga.results | {name: event.result}
    if event.stage.startswith(stages.STEP):
        saga.done.append(name)


def _ready(row: ExecutionRow, saga: Saga, stage: str) -> None:
    row.status, saga.stage = "pending", stage
    row.polls, row.poll_limit = 0, None


def _waits(row: ExecutionRow, saga: Saga, event: AwaitingConfirmation) -> None:
    row.status, saga.stage = "waiting", stages.WAIT
    saga.awaited, saga.need = event.waits, event.need
    saga.confirmations, saga.timed_out, saga.waited_until = [], False, None
    saga.waits_since, saga.waits_until = event.at, event.deadline


def _falls_back(
    row: ExecutionRow, saga: Saga, event: FallbackStarted | CompensationStarted
) -> None:
    ended(row, event.at)
    saga.because = msgspec.to_builtins(event.because)
    if isinstance(event, CompensationStarted):
        saga.done = list(event.done)
        _ready(row, saga, event.next)
    else:
        _ready(row, saga, event.stage)


def _requeued(row: ExecutionRow, event: ExecutionRequeued) -> None:
    row.polls = event.polls
    if row.saga is not None:
        row.saga.stage = event.stage


# --- answers -------------------------------------------------------------------------------------


def answer(row: ExecutionRow, now: datetime | None) -> dict[str, Any]:
    """What is told of an execution's waits, steps and fallback."""
    saga = row.saga or Saga()
    fell_back = saga.because is not None and saga.stage in {stages.FALLBACK, stages.UNCONFIRMED}
    return {
        "stage": saga.stage or None,
        "polls": row.polls,
        "poll_limit": row.poll_limit,
        "still_waiting": row.status == "waiting",
        "wait": _wait(row, saga, now),
        "timed_out": saga.timed_out or row.status == "timed_out",
        "fallback_executed": fell_back and row.status == "succeeded",
        "fallback": _fallback(saga),
        "steps": _steps(saga),
    }


def _wait(row: ExecutionRow, saga: Saga, now: datetime | None) -> dict[str, Any] | None:
    if saga.waits_since is None:
        return None
    until = saga.waited_until or (now if row.status == "waiting" else row.ended_at)
    lasted = None if until is None else round((until - saga.waits_since).total_seconds() * 1000, 3)
    return {
        "events": saga.awaited,
        "need": saga.need,
        "since": format_instant(saga.waits_since),
        "until": None if saga.waits_until is None else format_instant(saga.waits_until),
        "duration_ms": lasted,
        "confirmations": saga.confirmations,
        "late": saga.late,
    }


def _fallback(saga: Saga) -> dict[str, Any] | None:
    because = saga.because
    if because is None:
        return None
    return {"reason": because["reason"], "error": because.get("error"), "end": because["end"]}


def _steps(saga: Saga) -> dict[str, Any] | None:
    names = [name for name in saga.results if name != "action"]
    if not names and not saga.undone:
        return None
    return {"done": saga.done, "undone": saga.undone, "results": saga.results}
