"""Events of attempts and of what comes of them, the end of the execution among them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from horae_domain.events.base import Because, Confirmation, ExecutionEvent


class AttemptStarted(ExecutionEvent, frozen=True, kw_only=True):
    """Somebody took the work, under the lease `attempt.delivery`.

    It ends by the deadline, or when no heartbeat comes for `heartbeat` seconds.
    """

    attempt: int
    delivery: int = 1
    worker: str
    local: bool = False
    deadline: datetime | None = None
    heartbeat: float | None = None
    stage: str = ""
    """What it does: a step, a fallback and so on; the action, if empty."""


class AttemptFailed(ExecutionEvent, frozen=True, kw_only=True):
    """An attempt ended without success: `failed`, `timed_out`, `lost` or `cancelled`.

    Null retry is the last.
    """

    attempt: int
    outcome: str
    error: dict[str, Any]
    retry_at: datetime | None = None
    started_at: datetime | None = None
    logs: list[Any] = []
    metadata: dict[str, Any] = {}


class ExecutionDelayed(ExecutionEvent, frozen=True, kw_only=True):
    """The handler asked to be asked again at `until`; a poll is not a retry."""

    attempt: int
    until: datetime
    limit: int | None = None
    started_at: datetime | None = None
    result: Any = None
    logs: list[Any] = []
    metadata: dict[str, Any] = {}


class ExecutionSucceeded(ExecutionEvent, frozen=True, kw_only=True):
    """The accepted outcome of an attempt."""

    attempt: int
    delivery: int = 1
    started_at: datetime | None = None
    result: Any = None
    cooldown_until: datetime | None = None
    logs: list[Any] = []
    metadata: dict[str, Any] = {}


class ExecutionFailed(ExecutionEvent, frozen=True, kw_only=True):
    """Failed where no retry was wanted, or in a way that is not retried."""

    attempt: int
    error: dict[str, Any]


class ExecutionTimedOut(ExecutionEvent, frozen=True, kw_only=True):
    """Not started or not ended in time; or its attempt timed out where no retry was wanted."""

    attempt: int
    error: dict[str, Any]


class ExecutionDeadLettered(ExecutionEvent, frozen=True, kw_only=True):
    """Out of retries: it is among the dead letters until somebody requeues it."""

    attempt: int
    error: dict[str, Any]


class ExecutionRequeued(ExecutionEvent, frozen=True, kw_only=True):
    """It is tried again by hand: attempts are counted on, failures from `failures`.

    It says all that its owner has to know, since what had ended is in nobody's memory: `version`
    is how many events its stream had before, `closed` the leases with what their holders were told.
    """

    attempt: int
    kind: str
    due: datetime
    nominal: str
    revision: int
    requested_at: datetime
    version: int
    run_number: int | None = None
    payload: Any = None
    overridden: bool = False
    priority: str = "medium"
    queue: str = "default"
    failures: int = 0
    polls: int = 0
    stage: str = ""
    done: list[str] = []
    unsure: bool = False
    results: dict[str, Any] = {}
    confirmations: list[Confirmation] = []
    because: Because | None = None
    waited: float | None = None
    closed: dict[str, Any] = {}
    start_by: datetime | None = None
    end_by: datetime | None = None
    backfill_id: str | None = None
    unbounded: bool = False
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    carried: dict[str, str] = {}
    trigger: dict[str, Any] = {}
    conditions: list[str] = []


class ExecutionCancelled(ExecutionEvent, frozen=True, kw_only=True):
    """Ended before an outcome that counts: by command, or because it was asked to stop and did.

    Or by an external event, which is named.
    """

    reason: str
    event_source: str | None = None
    event_id: str | None = None


class CancellationRequested(ExecutionEvent, frozen=True, kw_only=True):
    """A running attempt was asked to stop; if it has not by `deadline`, it is cancelled then."""

    attempt: int
    reason: str
    deadline: datetime


class TimerMoved(ExecutionEvent, frozen=True, kw_only=True):
    """Somebody put one of its timers to another instant: `timer` is the kind of `timer.list`."""

    timer: str
    to: datetime
    was: datetime
    note: str = ""


class TimerCancelled(ExecutionEvent, frozen=True, kw_only=True):
    """Somebody lifted one of its timeouts; what ends it from now on is something else."""

    timer: str
    was: datetime
    note: str = ""


class ReportRefused(ExecutionEvent, frozen=True, kw_only=True):
    """Somebody reported under a lease that is not the current one; nothing else changed."""

    lease: str
    outcome: str
    worker: str | None = None
