"""The execution: one decided occurrence, its attempts and its one accepted outcome.

Work is delivered at least once, under a lease `attempt.delivery`; an outcome is accepted once, from
the holder of the current lease. An execution continues under the revision that decided it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

import msgspec

from horae_domain import stages
from horae_domain.definition import Definition, Priority, Retry
from horae_domain.errors import IllegalState
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    AwaitingConfirmation,
    Because,
    CancellationRequested,
    CompensationStarted,
    Confirmation,
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
    ReportRefused,
    StageCompleted,
    TimerCancelled,
    TimerMoved,
)
from horae_domain.identity import fraction
from horae_domain.instants import first_of, to_micros
from horae_domain.schedule import Cause
from horae_domain.timeouts import (
    LATE_CLOSE,
    LATE_END,
    LATE_START,
    SILENT,
    TIMERS,
    attempt_bounds,
    bounds,
)

POLL_DELAY = timedelta(seconds=60)
"""When a handler that says 'again' does not say when (A6)."""

STOP_GRACE = timedelta(seconds=30)
"""How long an attempt that is asked to stop may still report, unless told."""
PRIORITY_STEP = 60_000_000
"""How much longer a less urgent execution waits than one a priority above it, in microseconds."""

CHECK_PAUSE = timedelta(seconds=1)
"""How long a condition that could not be checked waits for the second try; then twice as long."""
LONGEST_CHECK_PAUSE = timedelta(seconds=30)
POLL_LIMIT = "poll_limit"
"""Why an execution failed that said 'again' once too often."""

STOPPED = "its handler stopped"
"""Why an execution was cancelled that nobody had asked to stop."""

GIVEN_UP = "GivenUp"
"""The type of the error of what is not tried again because somebody said so."""

KEPT_LEASES = 8
"""Of how many closed leases an execution knows what their holders were told, the latest ones."""

# --- commands ------------------------------------------------------------------------------------


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


# --- state ---------------------------------------------------------------------------------------


class Status(StrEnum):
    """Where an execution stands; those before `succeeded` are alive."""

    PENDING = "pending"
    DELAYED = "delayed"
    BUFFERED = "buffered"
    HELD = "held"
    CHECKING = "checking"
    RUNNING = "running"
    WAITING = "waiting"
    """For a confirmation; it holds no worker and is in nobody's way."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    DEAD = "dead"

    alive: bool
    """True if it can still change."""
    parked: bool
    """True if it is alive and has not fired yet."""
    fired: bool
    """True if it has fired, and something of it is to be done."""

    def __init__(self, value: str) -> None:
        self.parked = value in {"buffered", "held", "checking"}
        self.fired = value in {"pending", "delayed", "running"}
        self.alive = self.parked or self.fired or value == "waiting"


FAILURES = (ExecutionFailed, ExecutionTimedOut, ExecutionDeadLettered)
"""Events that end an execution without success, though nobody asked for it."""


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """An execution as its own events tell it."""

    id: str
    tenant: str
    schedule_id: str
    kind: str
    due: datetime
    nominal: str
    revision: int
    status: Status
    requested_at: datetime
    priority: str = "medium"
    queue: str = "default"
    run_number: int | None = None
    payload: Any = None
    overridden: bool = False
    attempt: int = 0
    delivery: int = 0
    worker: str | None = None
    local: bool = False
    started_at: datetime | None = None
    deadline: datetime | None = None
    heartbeat: float | None = None
    """Seconds that the attempt may be silent."""
    silent_by: datetime | None = None
    """When it was silent for too long; what its owner hears puts it off, and is no event."""
    resume_at: datetime | None = None
    """When it is ready again; since when, if it is."""
    delay: str = "delay"
    """What `resume_at` is the end of, a kind of timer."""
    aside: bool = False
    """True while it waits for the end of its delay and no line holds it."""
    start_by: datetime | None = None
    end_by: datetime | None = None
    stop_by: datetime | None = None
    """Until when an attempt that was asked to stop may still report."""
    stop_reason: str | None = None
    failures: int = 0
    """Of its stage."""
    polls: int = 0
    """Of its stage."""
    stage: str = ""
    """What it does or waits for, see `horae_domain.stages`; empty at the first one."""
    done: tuple[str, ...] = ()
    """Steps that are done and not taken back."""
    unsure: bool = False
    """True if an attempt at its stage ended without anybody having told how."""
    results: dict[str, Any] = {}
    """What its stages have answered, where others follow."""
    waits: tuple[dict[str, Any], ...] = ()
    """The events that it waits for, each by its type and the values in its data."""
    need: int = 0
    """How many of them have to come."""
    wait_until: datetime | None = None
    confirmations: tuple[Confirmation, ...] = ()
    because: Because | None = None
    """Why it falls back, or what its steps have done is taken back."""
    closed: dict[str, str] = {}
    """Leases that their holders' reports have closed, with the status that these were told."""
    correlation_id: str | None = None
    reason: str | None = None
    """Why it did not fire."""
    backfill_id: str | None = None
    unbounded: bool = False
    """True if nothing that is unfinished keeps it from running."""
    moved_to: datetime | None = None
    """Where somebody moved it."""
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    """The trace context of the request that asked for it, if it had one."""
    carried: dict[str, str] = {}
    """What travels with it."""
    trigger: dict[str, Any] = {}
    """The facts of what made it run, if that was no calendar."""
    conditions: list[str] = []
    """Those of its schedule that were met."""
    version: int = 0
    """How many events its stream has."""

    @property
    def lease(self) -> str:
        """What the holder of the current delivery shows with its report."""
        return f"{self.attempt}.{self.delivery}"

    def ready(self, now: datetime) -> bool:
        """True if it waits for nothing but a worker."""
        if self.status is Status.DELAYED:
            return self.resume_at is not None and self.resume_at <= now
        return self.status is Status.PENDING

    def asks(self, now: datetime) -> bool:
        """True if its conditions are to be checked."""
        pauses = self.resume_at is not None and self.resume_at > now
        return self.status is Status.CHECKING and not pauses

    @property
    def outside(self) -> bool:
        """True if it is alive and no line holds it."""
        return self.status is Status.WAITING or (self.aside and self.status.alive)

    @property
    def returns_at(self) -> datetime | None:
        """When what no line holds has to be looked at, if nobody says anything before."""
        return self.wake if self.aside else self.waits_until

    @property
    def stopping(self) -> bool:
        """True if its attempt was asked to stop and may still report."""
        return self.stop_by is not None

    @property
    def urgency(self) -> int:
        """The order among those that wait, the smallest first.

        By priority, and each step of it is worth a minute of waiting, so that nobody waits for ever
        while more urgent work keeps coming (G5).
        """
        since = self.resume_at or self.requested_at
        return to_micros(since) + Priority(self.priority).rank * PRIORITY_STEP

    @property
    def wake(self) -> datetime | None:
        """When it next needs its owner, if nobody says anything before."""
        return self.wake_after(None)

    def wake_after(self, now: datetime | None) -> datetime | None:
        """The same; if it is ready by now, leaving out that it waits for a worker."""
        if self.status is not Status.DELAYED or (now is not None and self.ready(now)):
            return self.bound
        return first_of(self.resume_at, self.end_by)

    @property
    def waits_until(self) -> datetime | None:
        """When what waits for a confirmation has waited long enough."""
        return first_of(self.wait_until, self.end_by)

    @property
    def bound(self) -> datetime | None:
        """When the first of its timeouts is over."""
        if self.status is Status.RUNNING:
            return first_of(self.deadline, self.silent_by, self.stop_by, self.end_by)
        if self.start_by is None and self.end_by is None:
            return None
        return first_of(self.start_by, self.end_by) if self.status.alive else None

    def late(self, now: datetime) -> bool:
        """True if one of its timeouts is over."""
        first = self.bound
        return first is not None and first <= now


# --- decide --------------------------------------------------------------------------------------


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
            **_about(execution, cause),
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
            **_about(execution, cause),
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
                **_about(execution, cause),
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
        **_about(execution, cause),
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
        **_about(execution, cause),
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
            **_about(execution, cause),
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
            **_about(execution, cause),
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
            stage=fallback, because=because, run=carried(execution), **_about(execution, cause)
        )
    ]


def _end(execution: Execution, because: Because, cause: Cause) -> Event:
    told = _about(execution, cause)
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
        for name in execution.__struct_fields__
        if (value := getattr(execution, name)) != _FRESH.get(name, msgspec.UNSET)
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
        **_about(execution, cause),
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


def heard(execution: Execution, at: datetime) -> Execution:
    """The execution after a heartbeat; its attempt may be silent for as long again."""
    if execution.heartbeat is None:
        return execution
    silent_by = _silent_by(at, execution.heartbeat)
    return msgspec.structs.replace(execution, silent_by=silent_by)


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


def give_up(execution: Execution, message: str, cause: Cause) -> list[Event]:
    """Do not try again what waits for its retry; it is a dead letter."""
    error = {"type": GIVEN_UP, "message": message}
    return [
        ExecutionDeadLettered(attempt=execution.attempt, error=error, **_about(execution, cause))
    ]


def move_timer(
    execution: Execution, timer: str, was: datetime, to: datetime, note: str, cause: Cause
) -> list[Event]:
    """Put one of its timers to another instant."""
    if was == to:
        return []
    return [TimerMoved(timer=timer, to=to, was=was, note=note, **_about(execution, cause))]


def lift_timer(
    execution: Execution, timer: str, was: datetime, note: str, cause: Cause
) -> list[Event]:
    """Let one of its timeouts not come.

    Raises:
        IllegalState: nothing else would end an attempt elsewhere if its worker were gone.
    """
    event = TimerCancelled(timer=timer, was=was, note=note, **_about(execution, cause))
    after = evolve(execution, event)
    elsewhere = execution.status is Status.RUNNING and not execution.local
    if elsewhere and after is not None and after.bound is None:
        raise IllegalState(
            "nothing else would end the attempt if its worker were gone", field="id",
            state=str(execution.status),
        )  # fmt: skip
    return [event]


def approve(execution: Execution, cause: Cause) -> list[Event]:
    """Let what is held wait for its way like others that are buffered."""
    return [ExecutionApproved(**_about(execution, cause))]


def conditions_met(execution: Execution, definition: Definition, cause: Cause) -> list[Event]:
    """Let what met its conditions wait for its way like others that are buffered."""
    met = list(definition.requires)
    return [ExecutionConditionsMet(conditions=met, **_about(execution, cause))]


def check_failed(
    execution: Execution,
    definition: Definition,
    condition: str,
    error: dict[str, Any],
    cause: Cause,
) -> list[Event]:
    """Check again soon, as long as the occurrence is not overdue; then it is skipped for that."""
    pause = min(CHECK_PAUSE * 2 ** min(execution.failures, 16), LONGEST_CHECK_PAUSE)
    comes = execution.moved_to or execution.due
    again = cause.at + pause if cause.at + pause <= comes + definition.catch_up.window else None
    failed = ExecutionCheckFailed(
        condition=condition, error=error, retry_at=again, **_about(execution, cause)
    )
    if again is not None:
        return [failed]
    return [failed, *drop(execution, f"condition_failed:{condition}", cause)]


def drop(
    execution: Execution, reason: str, cause: Cause, *, blocked_by: str | None = None
) -> list[Event]:
    """End what is buffered or held without having fired."""
    return [ExecutionDropped(reason=reason, blocked_by=blocked_by, **_about(execution, cause))]


def release(
    execution: Execution,
    definition: Definition,
    run_number: int | None,
    next_due: datetime | None,
    cause: Cause,
) -> ExecutionReleased:
    """Let what is buffered fire."""
    ready = max(cause.at, execution.due) if execution.trigger else cause.at
    return ExecutionReleased(
        run_number=run_number,
        next_due=next_due,
        **bounds(definition, ready),
        **_about(execution, cause),
    )


def reprioritize(execution: Execution, priority: Priority, cause: Cause) -> list[Event]:
    """Let it wait under another priority (G5).

    Raises:
        IllegalState: it runs, or has ended.
    """
    if not execution.status.alive or execution.status is Status.RUNNING:
        raise IllegalState(
            f"execution {execution.id} is {execution.status}", field="id",
            state=str(execution.status),
        )  # fmt: skip
    if execution.priority == priority:
        return []
    return [ExecutionReprioritised(priority=str(priority), **_about(execution, cause))]


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
            attempt=execution.attempt,
            reason=reason,
            deadline=deadline,
            **_about(execution, cause),
        )
    ]


def _require_alive(execution: Execution, field: str = "id") -> None:
    if not execution.status.alive:
        raise IllegalState(
            f"execution {execution.id} is {execution.status}",
            field=field,
            state=str(execution.status),
        )


def requeue(execution: Execution, definition: Definition, cause: Cause) -> list[Event]:
    """Try again, by hand, what has ended without success, or now what waits for a retry or a poll.

    Attempts are counted on; failures anew, unless it had not ended.

    Raises:
        IllegalState: it runs, or has succeeded or never fired.
    """
    if execution.status is Status.PENDING:
        return []
    if execution.status not in _TRIED_AGAIN:
        raise IllegalState(
            f"execution {execution.id} is {execution.status}",
            field="id",
            state=str(execution.status),
        )
    delayed = execution.status is Status.DELAYED
    bounded = bounds(definition, cause.at)
    if delayed:
        bounded = {"end_by": execution.end_by}
    told = {name: getattr(execution, name) for name in _REQUEUED}
    return [
        ExecutionRequeued(
            failures=execution.failures if delayed else 0,
            polls=execution.polls if delayed else 0,
            done=list(execution.done),
            confirmations=list(execution.confirmations),
            **told,
            **bounded,
            **_about(execution, cause),
        )
    ]


_TRIED_AGAIN = {Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.DEAD, Status.DELAYED}
_REQUEUED = (
    "attempt", "kind", "due", "nominal", "revision", "requested_at", "version", "run_number",
    "payload", "overridden", "priority", "queue", "closed", "backfill_id", "unbounded", "moved_to",
    "note", "planned_by", "trigger", "conditions", "stage", "unsure", "results", "because",
    "traceparent", "carried",
)  # fmt: skip
"""What of an execution its requeueing hands on as it is."""


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


def about(execution: Execution, cause: Cause) -> dict[str, Any]:
    """What all events of an execution say."""
    return _about(execution, cause)


def _about(execution: Execution, cause: Cause) -> dict[str, Any]:
    return {
        "tenant": execution.tenant,
        "schedule_id": execution.schedule_id,
        "execution_id": execution.id,
        "at": cause.at,
        "command_id": cause.command_id,
        "correlation_id": cause.correlation_id or execution.correlation_id,
        "actor": cause.actor,
    }


# --- evolve --------------------------------------------------------------------------------------


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
            waits = {"waits": tuple(event.waits), "need": event.need, "wait_until": event.deadline}
            return {"status": Status.WAITING, "stage": stages.WAIT, "confirmations": ()} | waits
        case ConfirmationReceived():
            return {"confirmations": (*execution.confirmations, event.confirmation)}
        case ExecutionConfirmed():
            confirmed = {"confirmations": (*execution.confirmations, event.confirmation)}
            return _next_stage(stages.THEN, event.at) | confirmed
        case DelayEnded():
            return {"status": Status.PENDING, "aside": False}
        case FallbackStarted():
            return _next_stage(event.stage, event.at) | _falls_back(event.because)
        case CompensationStarted():
            left = {"done": tuple(event.done)}
            return _next_stage(event.next, event.at) | _falls_back(event.because) | left
        case _:
            return {}


def _falls_back(because: Because) -> dict[str, Any]:
    """Nothing bounds what comes then as a whole."""
    return {"because": because, "end_by": None}


RETURNS = (DelayEnded, ExecutionConfirmed, FallbackStarted, CompensationStarted)
"""Events after which what waited outside is with its schedule again."""


def _next_stage(stage: str, at: datetime) -> dict[str, Any]:
    """Ready for a stage, with nothing said of it."""
    fresh = {"failures": 0, "polls": 0, "unsure": False, "start_by": None, "aside": False}
    waits = {"waits": (), "need": 0, "wait_until": None}
    return _NO_ATTEMPT | fresh | waits | {"status": Status.PENDING, "stage": stage, "resume_at": at}


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
    told = {name: getattr(event, name) for name in _REQUEUED}
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


_FRESH: dict[str, Any] = {
    field.name: field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    for field in msgspec.structs.fields(Execution)
    if not field.required
}
"""What an execution has of which nothing has been said."""
