"""An execution by its own events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

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
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionCheckFailed,
    ExecutionChecking,
    ExecutionConditionsMet,
    ExecutionConfirmed,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionDropped,
    ExecutionFailed,
    ExecutionHeld,
    ExecutionReleased,
    ExecutionReprioritised,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSkipped,
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
REQUEUED = (
    "attempt", "kind", "due", "nominal", "revision", "requested_at", "version", "run_number",
    "payload", "overridden", "priority", "queue", "closed", "backfill_id", "unbounded", "moved_to",
    "note", "planned_by", "trigger", "conditions", "stage", "unsure", "results", "because",
    "waited", "traceparent", "carried",
)  # fmt: skip
"""What of an execution its requeueing hands on as it is."""


def evolve(execution: Execution | None, event: Event) -> Execution | None:
    """The execution after an event of its stream."""
    begin = _BEGINNINGS.get(type(event))
    if begin is not None:
        return begin(event)
    if execution is None and isinstance(event, RETURNS) and event.run:
        execution = msgspec.convert(event.run, Execution)
    if execution is None:
        return None
    return msgspec.structs.replace(
        execution, version=execution.version + 1, **_changes(execution, event)
    )


def _changes(execution: Execution, event: Event) -> dict[str, Any]:
    match event:
        case AttemptStarted():
            return {
                "status": Status.RUNNING,
                "attempt": event.attempt,
                "delivery": event.delivery,
                "worker": event.worker,
                "local": event.local,
                "started_at": event.at,
                "deadline": event.deadline,
                "heartbeat": event.heartbeat,
                "silent_by": _silent_by(event.at, event.heartbeat),
                "resume_at": None,
                "start_by": None,
            }
        case AttemptFailed():
            return _attempt_over(execution, event)
        case ExecutionDelayed():
            waits = {"status": Status.DELAYED, "resume_at": event.until, "delay": "poll"}
            closed = _closed(execution, Status.DELAYED)
            return _NO_ATTEMPT | waits | {"closed": closed, "polls": execution.polls + 1}
        case ExecutionSucceeded():
            closed = _closed(execution, Status.SUCCEEDED)
            return _OVER | {"status": Status.SUCCEEDED, "closed": closed}
        case CancellationRequested():
            return {"stop_by": event.deadline, "stop_reason": event.reason}
        case TimerMoved():
            return {TIMERS[event.timer]: event.to}
        case TimerCancelled(timer="heartbeat"):
            return {"heartbeat": None, "silent_by": None}
        case TimerCancelled():
            return {TIMERS[event.timer]: None}
        case _:
            if type(event) in _ENDS:
                return _ended(execution, _ENDS[type(event)])
            return _changes_of_checked(execution, event) or _changes_of_waiting(execution, event)


def _changes_of_checked(execution: Execution, event: Event) -> dict[str, Any]:
    match event:
        case ExecutionConditionsMet(conditions=met):
            waits = {"status": Status.BUFFERED, "resume_at": None, "failures": 0}
            return waits | {"conditions": met}
        case ExecutionCheckFailed(retry_at=again):
            return {"resume_at": again, "failures": execution.failures + 1}
        case _:
            return {}


def _changes_of_waiting(execution: Execution, event: Event) -> dict[str, Any]:
    match event:
        case ExecutionApproved():
            return {"status": Status.BUFFERED}
        case ExecutionReleased():
            bounded = {"start_by": event.start_by, "end_by": event.end_by}
            later = bool(execution.trigger) and execution.due > event.at
            return {
                "status": Status.DELAYED if later else Status.PENDING,
                "resume_at": execution.due if later else None,
                "run_number": event.run_number,
                **bounded,
            }
        case ExecutionDropped():
            return {"status": Status.SKIPPED}
        case ExecutionReprioritised():
            return {"priority": event.priority}
        case _:
            return _changes_of_saga(execution, event)


def _changes_of_saga(execution: Execution, event: Event) -> dict[str, Any]:
    match event:
        case StageCompleted():
            return _next_stage(event.next, event.at) | _completed(execution, event)
        case AwaitingConfirmation():
            waits = {"waits": tuple(event.waits), "need": event.need, "confirmations": ()}
            times = {"wait_since": event.at, "wait_until": event.deadline}
            return {"status": Status.WAITING, "stage": stages.WAIT} | waits | times
        case ConfirmationReceived():
            return {"confirmations": (*execution.confirmations, event.confirmation)}
        case ExecutionConfirmed():
            confirmed = {"confirmations": (*execution.confirmations, event.confirmation)}
            return _next_stage(stages.THEN, event.at) | confirmed | _waited(execution, event.at)
        case DelayEnded():
            return {"status": Status.PENDING, "aside": False}
        case FallbackStarted():
            back = _falls_back(event.because) | _waited(execution, event.at)
            return _next_stage(event.stage, event.at) | back
        case CompensationStarted():
            left = {"done": tuple(event.done)}
            back = _falls_back(event.because) | _waited(execution, event.at)
            return _next_stage(event.next, event.at) | back | left
        case _:
            return {}


def _falls_back(because: Because) -> dict[str, Any]:
    """Nothing bounds what comes then as a whole."""
    return {"because": because, "end_by": None}


def _waited(execution: Execution, at: datetime) -> dict[str, Any]:
    """How long it has waited for confirmations, if that is over now."""
    since = execution.wait_since
    return {} if since is None else {"waited": (at - since).total_seconds()}


RETURNS = (DelayEnded, ExecutionConfirmed, FallbackStarted, CompensationStarted)
"""Events after which what waited outside is with its schedule again."""


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
_ENDS: dict[type[Event], Status] = {
    ExecutionFailed: Status.FAILED,
    ExecutionTimedOut: Status.TIMED_OUT,
    ExecutionDeadLettered: Status.DEAD,
    ExecutionCancelled: Status.CANCELLED,
}


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


def _ended(execution: Execution, status: Status) -> dict[str, Any]:
    """Ended without success; whoever has just reported was told so."""
    changes = _OVER | {"status": status}
    if execution.status is Status.RUNNING and execution.lease in execution.closed:
        changes["closed"] = _closed(execution, status)
    return changes


def _closed(execution: Execution, told: Status) -> dict[str, str]:
    """The closed leases with the present one, whose holder was told where the execution stands."""
    kept = {**execution.closed, execution.lease: str(told)}
    return kept if len(kept) <= KEPT_LEASES else dict(list(kept.items())[-KEPT_LEASES:])


def _silent_by(at: datetime, heartbeat: float | None) -> datetime | None:
    return None if heartbeat is None else at + timedelta(seconds=heartbeat)


def _decided(
    event: ExecutionRequested
    | ExecutionBuffered
    | ExecutionHeld
    | ExecutionChecking
    | ExecutionSkipped,
    status: Status,
    **more: Any,
) -> Execution:
    """What every decision on an occurrence says, and what this one says besides."""
    return Execution(
        id=event.execution_id,
        tenant=event.tenant,
        schedule_id=event.schedule_id,
        kind=event.kind,
        due=event.due,
        nominal=event.nominal,
        revision=event.revision,
        status=status,
        requested_at=event.at,
        payload=event.payload,
        overridden=event.overridden,
        traceparent=event.traceparent,
        carried=event.carried,
        trigger={} if isinstance(event, ExecutionHeld) else event.trigger,
        version=1,
        **more,
    )


def _requested(event: ExecutionRequested) -> Execution:
    handed = event.worker is not None
    later = bool(event.trigger) and event.due > event.at
    waiting = Status.DELAYED if later else Status.PENDING
    return _decided(
        event,
        Status.RUNNING if handed else waiting,
        resume_at=event.due if later else None,
        priority=event.priority,
        queue=event.queue,
        run_number=event.run_number,
        attempt=1 if handed else 0,
        delivery=1 if handed else 0,
        worker=event.worker,
        local=handed,
        started_at=event.at if handed else None,
        deadline=event.deadline,
        heartbeat=event.heartbeat,
        silent_by=_silent_by(event.at, event.heartbeat),
        start_by=event.start_by,
        end_by=event.end_by,
        correlation_id=event.correlation_id,
        backfill_id=event.backfill_id,
        unbounded=event.unbounded,
        moved_to=event.moved_to,
        note=event.note,
        planned_by=event.planned_by,
        aside=event.aside,
    )


_PARKED_AS: dict[type[Event], Status] = {
    ExecutionBuffered: Status.BUFFERED,
    ExecutionHeld: Status.HELD,
    ExecutionChecking: Status.CHECKING,
}


def _parked(event: ExecutionBuffered | ExecutionHeld | ExecutionChecking) -> Execution:
    comes = event.moved_to or event.due
    later = isinstance(event, ExecutionChecking) and comes > event.at
    return _decided(
        event,
        _PARKED_AS[type(event)],
        resume_at=comes if later else None,
        priority=event.priority,
        queue=event.queue,
        correlation_id=event.correlation_id,
        moved_to=event.moved_to,
        note=event.note,
        planned_by=event.planned_by,
    )


def _requeued(event: ExecutionRequeued) -> Execution:
    """From the event alone, so that it is the same for whoever has not known the execution."""
    told = {name: getattr(event, name) for name in REQUEUED}
    return Execution(
        id=event.execution_id,
        tenant=event.tenant,
        schedule_id=event.schedule_id,
        status=Status.PENDING,
        resume_at=event.at,
        failures=event.failures,
        polls=event.polls,
        start_by=event.start_by,
        end_by=event.end_by,
        correlation_id=event.correlation_id,
        **told
        | {
            "version": event.version + 1,
            "done": tuple(event.done),
            "confirmations": tuple(event.confirmations),
        },
    )


def _skipped(event: ExecutionSkipped) -> Execution:
    return _decided(event, Status.SKIPPED, reason=event.reason)


_BEGINNINGS: dict[type[Event], Callable[[Any], Execution]] = {
    ExecutionRequested: _requested,
    ExecutionBuffered: _parked,
    ExecutionHeld: _parked,
    ExecutionChecking: _parked,
    ExecutionSkipped: _skipped,
    ExecutionRequeued: _requeued,
}
"""Events that say all of an execution by themselves."""


def heard(execution: Execution, at: datetime) -> Execution:
    """The execution after a heartbeat; its attempt may be silent for as long again."""
    if execution.heartbeat is None:
        return execution
    silent_by = _silent_by(at, execution.heartbeat)
    return msgspec.structs.replace(execution, silent_by=silent_by)
