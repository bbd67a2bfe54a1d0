"""What each event changes of an execution that there is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from horae_domain import stages
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    AwaitingConfirmation,
    Because,
    CancellationRequested,
    CompensationStarted,
    ConfirmationReceived,
    DelayEnded,
    Event,
    ExecutionApproved,
    ExecutionCancelled,
    ExecutionCheckFailed,
    ExecutionConditionsMet,
    ExecutionConfirmed,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionDropped,
    ExecutionFailed,
    ExecutionReleased,
    ExecutionReprioritised,
    ExecutionSucceeded,
    ExecutionTimedOut,
    FallbackStarted,
    StageCompleted,
    TimerCancelled,
    TimerMoved,
)
from horae_domain.execution_state import Execution, Status
from horae_domain.timeouts import TIMERS

KEPT_LEASES = 8
"""Of how many closed leases an execution knows what their holders were told, the latest ones."""
Changes = dict[str, Any]


def changes(execution: Execution, event: Event) -> Changes:
    """The fields of an execution that an event changes; none if it only counts."""
    change = _CHANGES.get(type(event))
    return {} if change is None else change(execution, event)


# --- attempts ------------------------------------------------------------------------------------


def _started(_: Execution, event: AttemptStarted) -> Changes:
    return {
        "status": Status.RUNNING,
        "attempt": event.attempt,
        "delivery": event.delivery,
        "worker": event.worker,
        "local": event.local,
        "started_at": event.at,
        "deadline": event.deadline,
        "heartbeat": event.heartbeat,
        "silent_by": silent_by(event.at, event.heartbeat),
        "resume_at": None,
        "start_by": None,
    }


def _delayed(execution: Execution, event: ExecutionDelayed) -> Changes:
    waits = {"status": Status.DELAYED, "resume_at": event.until, "delay": "poll"}
    closed = _closed(execution, Status.DELAYED)
    return _NO_ATTEMPT | waits | {"closed": closed, "polls": execution.polls + 1}


def _succeeded(execution: Execution, _: ExecutionSucceeded) -> Changes:
    closed = _closed(execution, Status.SUCCEEDED)
    return _OVER | {"status": Status.SUCCEEDED, "closed": closed}


def _asked_to_stop(_: Execution, event: CancellationRequested) -> Changes:
    return {"stop_by": event.deadline, "stop_reason": event.reason}


def _timer_moved(_: Execution, event: TimerMoved) -> Changes:
    return {TIMERS[event.timer]: event.to}


def _timer_cancelled(_: Execution, event: TimerCancelled) -> Changes:
    if event.timer == "heartbeat":
        return {"heartbeat": None, "silent_by": None}
    return {TIMERS[event.timer]: None}


# --- what has not fired --------------------------------------------------------------------------


def _conditions_met(_: Execution, event: ExecutionConditionsMet) -> Changes:
    waits = {"status": Status.BUFFERED, "resume_at": None, "failures": 0}
    return waits | {"conditions": event.conditions}


def _check_failed(execution: Execution, event: ExecutionCheckFailed) -> Changes:
    return {"resume_at": event.retry_at, "failures": execution.failures + 1}


def _approved(_: Execution, __: ExecutionApproved) -> Changes:
    return {"status": Status.BUFFERED}


def _released(execution: Execution, event: ExecutionReleased) -> Changes:
    later = bool(execution.trigger) and execution.due > event.at
    return {
        "status": Status.DELAYED if later else Status.PENDING,
        "resume_at": execution.due if later else None,
        "run_number": event.run_number,
        "start_by": event.start_by,
        "end_by": event.end_by,
    }


def _dropped(_: Execution, __: ExecutionDropped) -> Changes:
    return {"status": Status.SKIPPED}


def _reprioritised(_: Execution, event: ExecutionReprioritised) -> Changes:
    return {"priority": event.priority}


# --- waits, steps and fallbacks ------------------------------------------------------------------


def _stage_completed(execution: Execution, event: StageCompleted) -> Changes:
    return _next_stage(event.next, event.at) | _completed(execution, event)


def _awaiting(_: Execution, event: AwaitingConfirmation) -> Changes:
    waits = {"waits": tuple(event.waits), "need": event.need, "confirmations": ()}
    times = {"wait_since": event.at, "wait_until": event.deadline}
    return {"status": Status.WAITING, "stage": stages.WAIT} | waits | times


def _received(execution: Execution, event: ConfirmationReceived | ExecutionConfirmed) -> Changes:
    return {"confirmations": (*execution.confirmations, event.confirmation)}


def _confirmed(execution: Execution, event: ExecutionConfirmed) -> Changes:
    back = _received(execution, event) | _waited(execution, event.at)
    return _next_stage(stages.THEN, event.at) | back


def _delay_ended(_: Execution, __: DelayEnded) -> Changes:
    return {"status": Status.PENDING, "aside": False}


def _fallback_started(execution: Execution, event: FallbackStarted) -> Changes:
    back = _falls_back(event.because) | _waited(execution, event.at)
    return _next_stage(event.stage, event.at) | back


def _compensation_started(execution: Execution, event: CompensationStarted) -> Changes:
    back = _falls_back(event.because) | _waited(execution, event.at)
    return _next_stage(event.next, event.at) | back | {"done": tuple(event.done)}


def _falls_back(because: Because) -> dict[str, Any]:
    """Nothing bounds what comes then as a whole."""
    return {"because": because, "end_by": None}


def _waited(execution: Execution, at: datetime) -> dict[str, Any]:
    """How long it has waited for confirmations, if that is over now."""
    since = execution.wait_since
    return {} if since is None else {"waited": (at - since).total_seconds()}


def _next_stage(stage: str, at: datetime) -> dict[str, Any]:
    """Ready for a stage, with nothing said of it."""
    return _FRESH_STAGE | {"stage": stage, "resume_at": at}


def _completed(execution: Execution, event: StageCompleted) -> dict[str, Any]:
    """What a stage has left behind."""
    closed = {"closed": _closed(execution, Status.PENDING)}
    if event.stage.startswith(stages.UNDO):
        return closed | {"done": stages.undone(execution.done, event.stage)}
    name = event.stage.removeprefix(stages.STEP)
    results = {"results": execution.results | {name or "action": event.result}}
    if event.stage == stages.FIRST:
        return closed | results
    return closed | results | {"done": (*execution.done, name)}


_NO_ATTEMPT: dict[str, Any] = {
    "deadline": None, "heartbeat": None, "silent_by": None, "worker": None, "local": False,
    "stop_by": None, "stop_reason": None, "resume_at": None,
}  # fmt: skip
_FRESH_STAGE: dict[str, Any] = _NO_ATTEMPT | {
    "status": Status.PENDING, "failures": 0, "polls": 0, "unsure": False, "start_by": None,
    "aside": False, "waits": (), "need": 0, "wait_since": None, "wait_until": None,
}  # fmt: skip
_OVER: dict[str, Any] = _NO_ATTEMPT | {"start_by": None, "end_by": None}


def _attempt_over(execution: Execution, event: AttemptFailed) -> dict[str, Any]:
    changes = _NO_ATTEMPT | {"failures": execution.failures + 1, "resume_at": event.retry_at}
    if event.retry_at is not None:
        changes |= {"status": Status.DELAYED, "delay": "retry"}
    if event.outcome in _REPORTED:
        changes["closed"] = _closed(execution, Status.DELAYED)
    if event.outcome != "failed":
        changes["unsure"] = True
    return changes


_REPORTED = {"failed", "cancelled"}
"""Ends of an attempt that its holder has told; of the others it knows nothing."""


def _ended(status: Status) -> Callable[[Execution, Event], Changes]:
    """Ends without success; whoever has just reported was told so."""

    def change(execution: Execution, _: Event) -> Changes:
        changes = _OVER | {"status": status}
        if execution.status is Status.RUNNING and execution.lease in execution.closed:
            changes["closed"] = _closed(execution, status)
        return changes

    return change


def _closed(execution: Execution, told: Status) -> dict[str, str]:
    """The closed leases with the present one, whose holder was told where the execution stands."""
    kept = {**execution.closed, execution.lease: str(told)}
    return kept if len(kept) <= KEPT_LEASES else dict(list(kept.items())[-KEPT_LEASES:])


def silent_by(at: datetime, heartbeat: float | None) -> datetime | None:
    """When an attempt is silent for too long that was heard of at an instant."""
    return None if heartbeat is None else at + timedelta(seconds=heartbeat)


_CHANGES: dict[type[Event], Callable[[Execution, Any], Changes]] = {
    AttemptStarted: _started,
    AttemptFailed: _attempt_over,
    ExecutionDelayed: _delayed,
    ExecutionSucceeded: _succeeded,
    ExecutionFailed: _ended(Status.FAILED),
    ExecutionTimedOut: _ended(Status.TIMED_OUT),
    ExecutionDeadLettered: _ended(Status.DEAD),
    ExecutionCancelled: _ended(Status.CANCELLED),
    CancellationRequested: _asked_to_stop,
    TimerMoved: _timer_moved,
    TimerCancelled: _timer_cancelled,
    ExecutionConditionsMet: _conditions_met,
    ExecutionCheckFailed: _check_failed,
    ExecutionApproved: _approved,
    ExecutionReleased: _released,
    ExecutionDropped: _dropped,
    ExecutionReprioritised: _reprioritised,
    StageCompleted: _stage_completed,
    AwaitingConfirmation: _awaiting,
    ConfirmationReceived: _received,
    ExecutionConfirmed: _confirmed,
    DelayEnded: _delay_ended,
    FallbackStarted: _fallback_started,
    CompensationStarted: _compensation_started,
}
"""What an event changes, by its kind: every execution passes here several times in each round."""
