"""What an execution is at a moment, and what its events say of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from horae_domain.events import Because, Confirmation
from horae_domain.instants import first_of, to_micros
from horae_domain.policies import Priority
from horae_domain.schedule import Cause

PRIORITY_STEP = 60_000_000
"""How much longer a less urgent execution waits than one a priority above it, in microseconds."""


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
    wait_since: datetime | None = None
    wait_until: datetime | None = None
    waited: float | None = None
    """Seconds that it waited for them, once that is over."""
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


def about(execution: Execution, cause: Cause) -> dict[str, Any]:
    """What all events of an execution say."""
    return {
        "tenant": execution.tenant,
        "schedule_id": execution.schedule_id,
        "execution_id": execution.id,
        "at": cause.at,
        "command_id": cause.command_id,
        "correlation_id": cause.correlation_id or execution.correlation_id,
        "actor": cause.actor,
    }
