"""The rows of executions that wait for confirmations, take steps, or fall back."""

from __future__ import annotations

from collections.abc import Callable
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


def completed(row: ExecutionRow, event: StageCompleted) -> None:
    """A stage is done, and another one follows."""
    saga = _saga(row)
    if event.stage.startswith(stages.UNDO):
        saga.undone.append(event.stage.removeprefix(stages.UNDO))
        saga.done = list(stages.undone(saga.done, event.stage))
    else:
        name = event.stage.removeprefix(stages.STEP) or "action"
        saga.results = saga.results | {name: event.result}
        if event.stage.startswith(stages.STEP):
            saga.done.append(name)
    _ready(row, saga, event.next)


def requeued(row: ExecutionRow, event: ExecutionRequeued) -> None:
    """It is tried again, from the stage at which it ended."""
    row.polls = event.polls
    if row.saga is not None:
        row.saga.stage = event.stage


def ended(row: ExecutionRow, at: datetime) -> None:
    """It waits no longer, however it has ended."""
    if row.saga is not None and row.status == "waiting":
        row.saga.waited_until = row.saga.waited_until or at


def _awaiting(row: ExecutionRow, event: AwaitingConfirmation) -> None:
    saga = _saga(row)
    row.status, saga.stage = "waiting", stages.WAIT
    saga.awaited, saga.need = event.waits, event.need
    saga.confirmations, saga.timed_out, saga.waited_until = [], False, None
    saga.waits_since, saga.waits_until = event.at, event.deadline


def _received(row: ExecutionRow, event: ConfirmationReceived | ExecutionConfirmed) -> None:
    told = msgspec.to_builtins(event.confirmation) | {"at": format_instant(event.at)}
    _saga(row).confirmations.append(told)


def _confirmed(row: ExecutionRow, event: ExecutionConfirmed) -> None:
    _received(row, event)
    saga = _saga(row)
    saga.waited_until = event.at
    _ready(row, saga, stages.THEN)


def _timed_out(row: ExecutionRow, event: ConfirmationTimedOut) -> None:
    saga = _saga(row)
    saga.timed_out, saga.waited_until = True, event.at


def _late(row: ExecutionRow, _: ConfirmationLate) -> None:
    _saga(row).late += 1


def _falls_back(row: ExecutionRow, event: FallbackStarted) -> None:
    _ready(row, _because(row, event), event.stage)


def _compensates(row: ExecutionRow, event: CompensationStarted) -> None:
    saga = _because(row, event)
    saga.done = list(event.done)
    _ready(row, saga, event.next)


def _because(row: ExecutionRow, event: FallbackStarted | CompensationStarted) -> Saga:
    saga = _saga(row)
    ended(row, event.at)
    saga.because = msgspec.to_builtins(event.because)
    return saga


def _saga(row: ExecutionRow) -> Saga:
    if row.saga is None:
        row.saga = Saga()
    return row.saga


def _ready(row: ExecutionRow, saga: Saga, stage: str) -> None:
    row.status, saga.stage = "pending", stage
    row.polls, row.poll_limit = 0, None


CHANGES: dict[type[Event], Callable[[ExecutionRow, Any], None]] = {
    AwaitingConfirmation: _awaiting,
    ConfirmationReceived: _received,
    ExecutionConfirmed: _confirmed,
    ConfirmationTimedOut: _timed_out,
    ConfirmationLate: _late,
    FallbackStarted: _falls_back,
    CompensationStarted: _compensates,
}
"""What the events of waits and fallbacks change of the row of an execution that there is."""


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
