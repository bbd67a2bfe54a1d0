"""Events of an execution until an attempt at it starts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from horae_domain.events.base import ExecutionEvent


class ExecutionRequested(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence fired. With a worker, attempt 1 was handed over in the same commit.

    With `trigger`, the facts of an event or of another execution's outcome, it is ready at `due`.

    It ends if it has not started by `start_by`, or not ended by `end_by`. It came at `moved_to`, if
    somebody moved it there or its schedule put it off; `note` and `planned_by` are of whoever planned
    this occurrence. `aside` says that its schedule's line does not hold it before its delay is over.
    """

    kind: str
    due: datetime
    nominal: str
    revision: int
    run_number: int | None = None
    payload: Any = None
    overridden: bool = False
    priority: str = "medium"
    queue: str = "default"
    worker: str | None = None
    deadline: datetime | None = None
    next_due: datetime | None = None
    heartbeat: float | None = None
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
    aside: bool = False


class ExecutionSkipped(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence did not fire, and why; `blocked_by` is the run that was in the way."""

    kind: str
    due: datetime
    nominal: str
    revision: int
    reason: str
    blocked_by: str | None = None
    next_due: datetime | None = None
    payload: Any = None
    overridden: bool = False
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    carried: dict[str, str] = {}
    trigger: dict[str, Any] = {}


class ExecutionBuffered(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence waits until `blocked_by`, or whatever is in the way then, is out of the way."""

    kind: str
    due: datetime
    nominal: str
    revision: int
    payload: Any = None
    overridden: bool = False
    priority: str = "medium"
    queue: str = "default"
    blocked_by: str | None = None
    next_due: datetime | None = None
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    carried: dict[str, str] = {}
    trigger: dict[str, Any] = {}


class ExecutionHeld(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence came due and waits for approval."""

    kind: str
    due: datetime
    nominal: str
    revision: int
    payload: Any = None
    overridden: bool = False
    priority: str = "medium"
    queue: str = "default"
    next_due: datetime | None = None
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    carried: dict[str, str] = {}


class ExecutionChecking(ExecutionEvent, frozen=True, kw_only=True):
    """An occurrence came due, and the conditions that its schedule requires are being checked."""

    kind: str
    due: datetime
    nominal: str
    revision: int
    conditions: list[str] = []
    payload: Any = None
    overridden: bool = False
    trigger: dict[str, Any] = {}
    priority: str = "medium"
    queue: str = "default"
    next_due: datetime | None = None
    moved_to: datetime | None = None
    note: str = ""
    planned_by: str | None = None
    traceparent: str | None = None
    carried: dict[str, str] = {}


class ExecutionConditionsMet(ExecutionEvent, frozen=True, kw_only=True):
    """All conditions are met: from here on it is buffered, and fires unless others are in the way."""

    conditions: list[str] = []


class ExecutionCheckFailed(ExecutionEvent, frozen=True, kw_only=True):
    """A condition could not be checked; without `retry_at` it is not tried again."""

    condition: str
    error: dict[str, Any]
    retry_at: datetime | None = None


class ExecutionApproved(ExecutionEvent, frozen=True, kw_only=True):
    """What was held is approved: from here on it is buffered."""


class ExecutionReleased(ExecutionEvent, frozen=True, kw_only=True):
    """What was buffered fired after all; `next_due` is the schedule's, if it counts its runs."""

    run_number: int | None = None
    next_due: datetime | None = None
    start_by: datetime | None = None
    end_by: datetime | None = None


class ExecutionDropped(ExecutionEvent, frozen=True, kw_only=True):
    """What was buffered or held will not fire: it ends as skipped, and why."""

    reason: str
    blocked_by: str | None = None


class ExecutionReprioritised(ExecutionEvent, frozen=True, kw_only=True):
    """It waits under another priority from here on."""

    priority: str
