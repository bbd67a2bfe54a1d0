"""The execution: one decided occurrence, its attempts and its one accepted outcome.

Work is delivered at least once, under a lease `attempt.delivery`; an outcome is accepted once, from
the holder of the current lease. An execution continues under the revision that decided it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

import msgspec

from horae_domain import stages
from horae_domain.definition import Definition
from horae_domain.errors import IllegalState
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    Because,
    CancellationRequested,
    CompensationStarted,
    Event,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionDelayed,
    ExecutionFailed,
    ExecutionRequested,
    ExecutionSucceeded,
    ExecutionTimedOut,
    FallbackStarted,
    ReportRefused,
    StageCompleted,
)
from horae_domain.execution_by_hand import give_up, lift_timer, move_timer, reprioritize, requeue
from horae_domain.execution_evolving import evolve, heard
from horae_domain.execution_parked import (
    LONGEST_CHECK_PAUSE,
    approve,
    check_failed,
    conditions_met,
    drop,
    release,
)
from horae_domain.execution_state import Execution, Status, about
from horae_domain.identity import fraction
from horae_domain.policies import Retry
from horae_domain.schedule import Cause
from horae_domain.timeouts import LATE_CLOSE, LATE_END, LATE_START, SILENT, attempt_bounds

__all__ = [
    "FAILURES",
    "LONGEST_CHECK_PAUSE",
    "STOP_GRACE",
    "Execution",
    "Outcome",
    "Report",
    "Status",
    "about",
    "approve",
    "ask_to_stop",
    "cancel",
    "carried",
    "check_failed",
    "conditions_met",
    "drop",
    "evolve",
    "expire",
    "give_up",
    "handed_over",
    "heard",
    "lift_timer",
    "lose",
    "move_timer",
    "release",
    "report",
    "reprioritize",
    "requeue",
    "retry_at",
    "start",
    "take",
    "unwind",
]

POLL_DELAY = timedelta(seconds=60)
"""When a handler that says 'again' does not say when (A6)."""

STOP_GRACE = timedelta(seconds=30)
"""How long an attempt that is asked to stop may still report, unless told."""

POLL_LIMIT = "poll_limit"
"""Why an execution failed that said 'again' once too often."""

STOPPED = "its handler stopped"
"""Why an execution was cancelled that nobody had asked to stop."""


class Outcome(StrEnum):
    """What a report says of an attempt."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    AGAIN = "again"
    CANCELLED = "cancelled"
    """It was asked to stop, or stopped by itself, without a result."""


class Report(NamedTuple):
    """The outcome of an attempt, by the holder of its lease."""

    lease: str
    outcome: Outcome
    result: Any = None
    error: dict[str, Any] | None = None
    """`type`, `message`, perhaps `stack` and `details`."""
    retry_after: timedelta | None = None
    final: bool = False
    """A failure that is not retried, whatever the policy."""
    after: timedelta | None = None
    limit: int | None = None
    """How often `again` may be said; one more is a failure."""
    cooldown: timedelta | None = None
    started_at: datetime | None = None
    worker: str | None = None
    logs: tuple[Any, ...] = ()
    metadata: dict[str, Any] | None = None


FAILURES = (ExecutionFailed, ExecutionTimedOut, ExecutionDeadLettered)
"""Events that end an execution without success, though nobody asked for it."""


def start(
    execution: Execution, definition: Definition, worker: str, cause: Cause, *, local: bool
) -> list[Event]:
    """Hand the next attempt to a worker."""
    return [
        AttemptStarted(
            attempt=execution.attempt + 1,
            worker=worker,
            local=local,
            stage=stages.current(definition, execution.stage),
            **attempt_bounds(definition, cause.at, local=local),
            **about(execution, cause),
        )
    ]


def take(
    execution: Execution, definition: Definition, worker: str, lease: str | None, cause: Cause
) -> list[Event]:
    """A worker that pulled the work from a queue takes its lease.

    The first delivery starts the attempt. A later one of the same attempt is a redelivery, because
    the former worker did not acknowledge in time: it gets a lease of its own and the former one is
    stale from then on.

    Raises:
        IllegalState: the execution has ended or is asked to stop, or the lease offered is an
            older one.
    """
    _require_alive(execution, "execution_id")
    if execution.status is not Status.RUNNING:
        offered = f"{execution.attempt + 1}.1"
        if lease not in (None, offered):
            raise IllegalState(f"the lease offered now is {offered}", field="lease", value=lease)
        if not execution.ready(cause.at):
            raise IllegalState(
                f"attempt {execution.attempt + 1} is not due yet", field="execution_id",
                state=str(execution.status),
            )  # fmt: skip
        return start(execution, definition, worker, cause, local=False)
    if execution.stopping:
        raise IllegalState(
            f"attempt {execution.attempt} is asked to stop", field="execution_id", state="running"
        )
    if lease is None or lease.split(".")[0] != str(execution.attempt) or execution.local:
        raise IllegalState(
            f"attempt {execution.attempt} is running", field="lease", value=lease, state="running"
        )
    return [
        AttemptStarted(
            attempt=execution.attempt,
            delivery=execution.delivery + 1,
            worker=worker,
            stage=stages.current(definition, execution.stage),
            **attempt_bounds(definition, cause.at, local=False),
            **about(execution, cause),
        )
    ]


def report(
    execution: Execution,
    definition: Definition,
    said: Report,
    cause: Cause,
    *,
    over: str | None = None,
) -> list[Event]:
    """The events of a report: none if it repeats one that was accepted; a stale one is only recorded.

    With `over`, the reason, it is not asked again.
    """
    if said.lease in execution.closed:
        return []
    if execution.status is not Status.RUNNING or said.lease != execution.lease:
        return [
            ReportRefused(
                lease=said.lease,
                outcome=str(said.outcome),
                worker=said.worker,
                **about(execution, cause),
            )
        ]
    match said.outcome:
        case Outcome.SUCCEEDED:
            return _did(execution, definition, said, cause)
        case Outcome.FAILED:
            error = said.error or {"type": "Error", "message": ""}
            return fail(execution, definition, "failed", error, cause, said=said, final=said.final)
        case Outcome.AGAIN:
            over = execution.stop_reason if execution.stopping else over
            if over is not None:
                return _cancelled(execution, definition, over, said, cause)
            return _again(execution, definition, said, cause)
        case Outcome.CANCELLED:
            why = execution.stop_reason or STOPPED
            return _cancelled(execution, definition, why, said, cause)
        case _:
            assert_never(said.outcome)


def _did(execution: Execution, definition: Definition, said: Report, cause: Cause) -> list[Event]:
    """An attempt has succeeded: the next stage, or the end."""
    stage = stages.current(definition, execution.stage)
    if stage.startswith(stages.UNDO):
        left = stages.undone(execution.done, stage)
        following = stages.undoing(definition, left)
        done = _stage_completed(execution, stage, following or stages.END, said, cause)
        if following is not None or execution.because is None:
            return [done]
        return [done, *conclude(execution, definition, execution.because, cause)]
    following = stages.after(definition, stage)
    if following is None:
        return [_succeeded(execution, said, cause)]
    done = _stage_completed(execution, stage, following, said, cause)
    if not execution.stopping:
        return [done]
    because = Because(end="cancelled", reason=execution.stop_reason or STOPPED)
    return [done, *unwind(_after(execution, done), definition, because, cause)]


def _stage_completed(
    execution: Execution, stage: str, following: str, said: Report, cause: Cause
) -> StageCompleted:
    return StageCompleted(
        attempt=execution.attempt,
        delivery=execution.delivery,
        stage=stage,
        next=following,
        started_at=said.started_at,
        result=said.result,
        logs=list(said.logs),
        metadata=said.metadata or {},
        **about(execution, cause),
    )


def _after(execution: Execution, event: Event) -> Execution:
    return evolve(execution, event) or execution


def _succeeded(execution: Execution, said: Report, cause: Cause) -> Event:
    return ExecutionSucceeded(
        attempt=execution.attempt,
        delivery=execution.delivery,
        started_at=said.started_at,
        result=said.result,
        cooldown_until=cause.at + said.cooldown if said.cooldown else None,
        logs=list(said.logs),
        metadata=said.metadata or {},
        **about(execution, cause),
    )


def _cancelled(
    execution: Execution, definition: Definition, reason: str, said: Report, cause: Cause
) -> list[Event]:
    """The attempt ends without a result, and the execution with it."""
    error = said.error or {"type": "Cancelled", "message": reason}
    closed = _attempt_failed(execution, "cancelled", error, None, cause, said)
    because = Because(end="cancelled", reason=reason)
    return [closed, *unwind(_after(execution, closed), definition, because, cause)]


def _again(execution: Execution, definition: Definition, said: Report, cause: Cause) -> list[Event]:
    if said.limit is not None and execution.polls >= said.limit:
        message = f"not yet after {execution.polls} polls"
        error = {"type": "PollLimit", "message": message, "reason": POLL_LIMIT}
        return fail(execution, definition, "failed", error, cause, said=said, final=True)
    return [
        ExecutionDelayed(
            attempt=execution.attempt,
            until=cause.at + (POLL_DELAY if said.after is None else said.after),
            limit=said.limit,
            started_at=said.started_at,
            result=said.result,
            logs=list(said.logs),
            metadata=said.metadata or {},
            **about(execution, cause),
        )
    ]


def fail(
    execution: Execution,
    definition: Definition,
    outcome: str,
    error: dict[str, Any],
    cause: Cause,
    *,
    said: Report | None = None,
    final: bool = False,
) -> list[Event]:
    """End an attempt as `failed`, `timed_out` or `lost`, and the execution if it was the last.

    It is the last if it was asked to stop: then the execution is cancelled. Where retries were
    wanted and are used up, it is a dead letter.
    """
    again = None
    if not final and not execution.stopping:
        again = retry_at(execution, definition.retry, outcome, error, said, cause.at)
    failed = _attempt_failed(execution, outcome, error, again, cause, said)
    if again is not None:
        return [failed]
    after = _after(execution, failed)
    if execution.stopping:
        because = Because(end="cancelled", reason=execution.stop_reason or STOPPED)
        return [failed, *unwind(after, definition, because, cause)]
    end = "timed_out" if outcome == "timed_out" else "failed"
    because = Because(end=end, reason=end, error=_short(error))
    retried = not final and definition.retry.max_attempts > 1
    if stages.last(execution.stage) or (retried and _retryable(definition.retry, error)):
        because = msgspec.structs.replace(because, end="dead")
    return [failed, *unwind(after, definition, because, cause)]


def _short(error: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in error.items() if key != "stack"}


def unwind(
    execution: Execution, definition: Definition, because: Because, cause: Cause
) -> list[Event]:
    """What follows when nothing is tried any more: what steps did is taken back, or `conclude`.

    A step of which it is not known what it did is taken back, too. What fails while it is a
    fallback, or takes something back, ends as it is.
    """
    stage = stages.current(definition, execution.stage)
    if stages.last(stage):
        return [_end(execution, because, cause)]
    done = execution.done
    if execution.unsure and stage.startswith(stages.STEP):
        done = (*done, stage.removeprefix(stages.STEP))
    undo = stages.undoing(definition, done)
    if undo is None:
        return conclude(execution, definition, because, cause)
    return [
        CompensationStarted(
            next=undo,
            done=list(done),
            because=because,
            run=carried(execution),
            **about(execution, cause),
        )
    ]


def conclude(
    execution: Execution, definition: Definition, because: Because, cause: Cause
) -> list[Event]:
    """The fallback, where there is one and nobody has cancelled it; else the end."""
    fallback = stages.fallback_for(definition, because.reason)
    if fallback is None or because.end == "cancelled":
        return [_end(execution, because, cause)]
    return [
        FallbackStarted(
            stage=fallback, because=because, run=carried(execution), **about(execution, cause)
        )
    ]


def _end(execution: Execution, because: Because, cause: Cause) -> Event:
    told = about(execution, cause)
    if because.end == "cancelled":
        told |= {"event_source": because.event_source, "event_id": because.event_id}
        return ExecutionCancelled(reason=because.reason, **told)
    taken_back = execution.stage.startswith(stages.UNDO) and because is execution.because
    end = "failed" if because.end == "dead" and taken_back else because.end
    return _BAD_ENDS[end](attempt=execution.attempt, error=because.error, **told)


_BAD_ENDS: dict[str, type[ExecutionFailed | ExecutionTimedOut | ExecutionDeadLettered]] = {
    "failed": ExecutionFailed,
    "timed_out": ExecutionTimedOut,
    "dead": ExecutionDeadLettered,
}


def carried(execution: Execution) -> dict[str, Any]:
    """All that its owner has to know of an execution that was in nobody's memory."""
    if not execution.outside:
        return {}
    told = {
        name: value
        for name, value in msgspec.structs.asdict(execution).items()
        if value != _FRESH.get(name, msgspec.UNSET)
    }
    plain: dict[str, Any] = msgspec.to_builtins(told)
    return plain


def _attempt_failed(
    execution: Execution,
    outcome: str,
    error: dict[str, Any],
    again: datetime | None,
    cause: Cause,
    said: Report | None,
) -> Event:
    return AttemptFailed(
        attempt=execution.attempt,
        outcome=outcome,
        error=error,
        retry_at=again,
        started_at=said.started_at if said else execution.started_at,
        logs=list(said.logs) if said else [],
        metadata=(said.metadata or {}) if said else {},
        **about(execution, cause),
    )


def expire(execution: Execution, definition: Definition, cause: Cause) -> list[Event]:
    """What follows from the first of its timeouts (G8), if that is over."""
    if not execution.late(cause.at):
        return []
    first = execution.bound
    if execution.status is not Status.RUNNING:
        late = LATE_END if first == execution.end_by else LATE_START
        because = Because(end="timed_out", reason="timed_out", error=late)
        return unwind(execution, definition, because, cause)
    if first == execution.end_by:
        return fail(execution, definition, "timed_out", LATE_END, cause, final=True)
    if first == execution.stop_by:
        return cancel(execution, definition, execution.stop_reason or STOPPED, cause)
    error = LATE_CLOSE if first == execution.deadline else SILENT
    return fail(execution, definition, "timed_out", error, cause)


def lose(execution: Execution, definition: Definition, cause: Cause) -> list[Event]:
    """End an attempt that ran inside a process which no longer owns it."""
    error = {"type": "WorkerLost", "message": f"{execution.worker} ended without an outcome"}
    return fail(execution, definition, "lost", error, cause)


def cancel(
    execution: Execution, definition: Definition, reason: str, cause: Cause, **event: Any
) -> list[Event]:
    """End it before its outcome; a running handler is told to stop and fenced.

    What its steps have done is taken back first; that cannot be cancelled.

    Args:
        execution: which.
        definition: that it runs by.
        reason: kept in the history.
        cause: of the decision.
        event: `event_source` and `event_id` of the external event that ends it.

    Raises:
        IllegalState: it has ended in another way.
    """
    stage = execution.stage
    if execution.status is Status.CANCELLED or (_undoes(execution) and execution.status.alive):
        return []
    _require_alive(execution)
    because = Because(
        end="cancelled",
        reason=reason,
        event_source=event.get("event_source"),
        event_id=event.get("event_id"),
    )
    running = execution.status is Status.RUNNING
    if not running or not stages.current(definition, stage).startswith(stages.STEP):
        return unwind(execution, definition, because, cause)
    error = {"type": "Cancelled", "message": reason}
    fenced = _attempt_failed(execution, "terminated", error, None, cause, None)
    return [fenced, *unwind(_after(execution, fenced), definition, because, cause)]


def _undoes(execution: Execution) -> bool:
    return execution.stage.startswith(stages.UNDO)


def ask_to_stop(execution: Execution, reason: str, grace: timedelta, cause: Cause) -> list[Event]:
    """Ask a running attempt to stop: what it reports within the grace counts, then it is fenced.

    Nothing for what does not run, for what takes steps back, and for what was asked before, unless
    the grace ends sooner.
    """
    deadline = cause.at + grace
    asked = execution.stop_by is not None and execution.stop_by <= deadline
    if asked or execution.status is not Status.RUNNING or _undoes(execution):
        return []
    return [
        CancellationRequested(
            attempt=execution.attempt, reason=reason, deadline=deadline, **about(execution, cause)
        )
    ]


def _require_alive(execution: Execution, field: str = "id") -> None:
    if not execution.status.alive:
        raise IllegalState(
            f"execution {execution.id} is {execution.status}",
            field=field,
            state=str(execution.status),
        )


def handed_over(
    requested: ExecutionRequested, definition: Definition, worker: str
) -> ExecutionRequested:
    """The same decision with attempt 1 given to a worker of this process at once."""
    bounded = attempt_bounds(definition, requested.at, local=True)
    return msgspec.structs.replace(requested, worker=worker, start_by=None, **bounded)


def retry_at(
    execution: Execution,
    retry: Retry,
    outcome: str,
    error: dict[str, Any],
    said: Report | None,
    at: datetime,
) -> datetime | None:
    """When the next attempt is due, or None if there is none (G7).

    A lost attempt is repeated at once, because nothing is known against it; it counts, so that a
    handler which kills its process comes to an end.
    """
    if execution.failures + 1 >= retry.max_attempts or not _retryable(retry, error):
        return None
    if outcome == "lost":
        return at
    if said is not None and said.retry_after is not None:
        return at + said.retry_after
    seconds = retry.delay.total_seconds() * retry.backoff ** min(execution.failures, 64)
    seconds = min(seconds, retry.max_delay.total_seconds())
    spread = 2 * fraction(execution.id, str(execution.attempt)) - 1
    return at + timedelta(seconds=seconds * (1 + retry.jitter * spread))


def _retryable(retry: Retry, error: dict[str, Any]) -> bool:
    return error.get("type") not in retry.non_retryable


_FRESH: dict[str, Any] = {
    field.name: field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    for field in msgspec.structs.fields(Execution)
    if not field.required
}
"""What an execution has of which nothing has been said."""
