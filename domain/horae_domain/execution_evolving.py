"""An execution by its own events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from horae_domain.events import (
    CompensationStarted,
    DelayEnded,
    Event,
    ExecutionBuffered,
    ExecutionChecking,
    ExecutionConfirmed,
    ExecutionHeld,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSkipped,
    FallbackStarted,
)
from horae_domain.execution_changes import changes, silent_by
from horae_domain.execution_state import Execution, Status

RETURNS = (DelayEnded, ExecutionConfirmed, FallbackStarted, CompensationStarted)
"""Events after which what waited outside is with its schedule again."""
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
        execution, version=execution.version + 1, **changes(execution, event)
    )


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
        silent_by=silent_by(event.at, event.heartbeat),
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
    return msgspec.structs.replace(execution, silent_by=silent_by(at, execution.heartbeat))
