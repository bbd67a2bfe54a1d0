"""The rows of the read models, and their stored form.

Rows are packed as arrays of MessagePack: a waiting one-time schedule with its index entries stays
below 400 bytes in Valkey (requirement P1).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from horae_domain.backfills import Backfill
from horae_domain.plans import Plan
from horae_domain.policies import Priority
from horae_projections.definitions import unpack_definition

SCHEDULES = "s"
EXECUTIONS = "x"
DECISIONS = "d"
WAITS = "w"
"""What waits and is neither an execution nor the calendar's next instant of a schedule."""
QUEUES = "q"

FORMAT = 9
"""Of the rows and indexes; a view of another format is built anew beside the old one."""

TYPES = ("cron", "interval", "once", "rrule", "manual", "event", "outcome", "condition")
ACTIVE = ("active", "pending")
"""The statuses of a schedule that fires."""
SCHEDULE_STATUSES = ("active", "pending", "paused", "completed", "cancelled", "failed")
EXECUTION_STATUSES = (
    "pending", "delayed", "buffered", "held", "checking", "running", "waiting", "succeeded", "failed",
    "timed_out", "cancelled",
    "skipped", "dead",
)  # fmt: skip
PRIORITIES = tuple(str(each) for each in sorted(Priority, key=lambda priority: priority.rank))
LARGEST, FLOATING = 64, 1024
"""Bits from which on a whole number has no place in a row, and none in a float."""
KEPT = 100
"""Attempts and steps of the timeline that an execution's row keeps, the latest ones."""
KEPT_LOGS = 1000
"""Lines of log that an execution's row keeps, the latest ones."""


class Counts(msgspec.Struct, array_like=True, gc=False):
    """What has become of a schedule's occurrences, in this incarnation."""

    fired: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    cancelled: int = 0
    skipped: int = 0
    missed: int = 0
    running: int = 0
    buffered: int = 0
    dead: int = 0
    held: int = 0
    counted: int = 0
    """Of those fired, what counts towards `max_executions`."""
    cooldown_until: datetime | None = None
    """Set when something fires, and by the result of a run: the last word holds."""
    checked: tuple[datetime, str, str | None] | None = None
    """When the check of the schedule answered otherwise than before, how, and the error."""
    waiting: int = 0


class Pause(msgspec.Struct, array_like=True, gc=False):
    """Since when a schedule is paused, and by whom."""

    at: datetime
    by: str | None = None
    tripped: bool = False
    """True if it has paused itself, because of failures."""


class ScheduleRow(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """A schedule as it is answered."""

    definition: bytes
    """Packed by `pack_definition`, so that a firing does not touch it."""
    status: str
    revision: int
    created_at: datetime
    changed_at: datetime | None = None
    """None while nothing has changed since the creation."""
    anchor: datetime | None = None
    """None if it is the instant of the creation."""
    next_due: datetime | None = None
    created_by: str | None = None
    note: str | None = None
    last_due: datetime | None = None
    last_execution_id: str | None = None
    counts: Counts | None = None
    """None while nothing has been decided."""
    plans: dict[str, Plan] | None = None
    """What somebody planned for occurrences to come, by nominal label."""
    correlation_id: str | None = None
    """What a scheduled command belongs to."""
    pause: Pause | None = None
    backfills: dict[str, Backfill] | None = None
    """Backfills that go on, by their ids."""
    gone: dict[str, int] | None = None
    """Of the counts, what is erased (`HistoryErased.gone`)."""
    causation_id: str | None = None
    """The execution that has made it."""

    @property
    def fires_at(self) -> datetime | None:
        """When something next fires, by the calendar or because it was moved there."""
        if not self.plans or self.status not in ACTIVE:
            return self.next_due
        moments = [self.next_due, *(plan.waits_at for plan in self.plans.values())]
        return min((each for each in moments if each is not None), default=None)

    @property
    def next_plan(self) -> Plan | None:
        """What is planned for the occurrence that comes at `fires_at`."""
        coming = [
            plan
            for plan in (self.plans or {}).values()
            if not plan.decided and plan.comes == self.fires_at
        ]
        return min(coming, key=lambda plan: (not plan.away, plan.due), default=None)

    @property
    def told(self) -> dict[str, Any]:
        """The canonical definition without its id; not to be changed."""
        return unpack_definition(self.definition)


class Attempt(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """One try of an execution."""

    number: int
    worker: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: str | None = None
    error: dict[str, Any] | None = None
    delivery: int = 1
    stage: str = ""


class Saga(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """What an execution waits for, has waited for, and falls back on."""

    stage: str = ""
    awaited: list[dict[str, Any]] = []
    need: int = 0
    waits_since: datetime | None = None
    waits_until: datetime | None = None
    waited_until: datetime | None = None
    """When it was confirmed, or waited no longer."""
    timed_out: bool = False
    """True if no confirmation came in time."""
    confirmations: list[dict[str, Any]] = []
    late: int = 0
    """Confirmations that came when the wait was over."""
    because: dict[str, Any] | None = None
    """Why it fell back, or took back what its steps had done."""
    done: list[str] = []
    """Steps that are done and not taken back."""
    undone: list[str] = []
    results: dict[str, Any] = {}


class ExecutionRow(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """An execution as it is answered."""

    schedule_id: str
    kind: str
    status: str
    due: datetime
    nominal: str
    revision: int
    requested_at: datetime
    run_number: int | None = None
    payload: Any = None
    priority: str = "medium"
    queue: str = "default"
    attempts: list[Attempt] = []
    first_started_at: datetime | None = None
    ended_at: datetime | None = None
    timers: dict[str, datetime] = {}
    """What of it waits for an instant, by kind."""
    result: Any = None
    reason: str | None = None
    blocked_by: str | None = None
    correlation_id: str | None = None
    metadata: dict[str, Any] = {}
    logs: list[Any] = []
    timeline: list[tuple[datetime, str, str | None]] = []
    moved_to: datetime | None = None
    plan_note: str = ""
    backfill_id: str | None = None
    planned_by: str | None = None
    trigger: dict[str, Any] = {}
    """The facts of what made it run, if that was no calendar."""
    traceparent: str | None = None

    polls: int = 0
    """Of its present stage."""
    poll_limit: int | None = None
    saga: Saga | None = None
    """None unless it waits, takes steps, or falls back."""

    @property
    def attempt(self) -> int:
        """The number of the last attempt begun."""
        return self.attempts[-1].number if self.attempts else 0

    fired: bool = False
    """True if it was more than a decision against it."""

    @property
    def error_type(self) -> str:
        """Of its last attempt; empty if none was begun, or it has no error."""
        error = self.attempts[-1].error if self.attempts else None
        return str((error or {}).get("type", ""))


class DecisionRow(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """A fact of a schedule's history that is not one execution: a range, or a change of it."""

    schedule_id: str
    event: str
    status: str
    at: datetime
    facts: dict[str, Any] = {}


class WaitRow(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """Something of a schedule that waits; it follows from the schedule's row."""

    schedule_id: str
    kind: str
    due: datetime | None
    """When it comes; None if it does not wait for an instant."""
    facts: dict[str, Any] = {}


class QueueRow(msgspec.Struct, array_like=True, kw_only=True, gc=False):
    """A queue, or all of a tenant's under the id `ALL_QUEUES`: what is in it and what limits it."""

    waiting: int = 0
    running: int = 0
    delayed: int = 0
    buffered: int = 0
    held: int = 0
    failed: int = 0
    dead: int = 0
    concurrency: int | None = None
    rate: int | None = None
    per: float | None = None
    """Seconds."""
    begun: list[tuple[int, int]] = []
    """(until, count) of attempts that count for the rate up to an instant, microseconds."""
    paused_at: datetime | None = None
    paused_by: str | None = None
    note: str = ""
    weight: int = 1
    unconfirmed: int = 0
    """How many wait for a confirmation."""


ALL_QUEUES = "*"
"""The id of the row of a tenant's own limits; no queue is named so."""

Row = ScheduleRow | ExecutionRow | DecisionRow | WaitRow | QueueRow


def decision_id(number: int) -> str:
    """What a decision's row is called, by its event's number in the log."""
    return f"{number:016x}"


_encode = msgspec.msgpack.Encoder().encode
_DECODERS: dict[str, msgspec.msgpack.Decoder[Any]] = {
    SCHEDULES: msgspec.msgpack.Decoder(ScheduleRow),
    EXECUTIONS: msgspec.msgpack.Decoder(ExecutionRow),
    DECISIONS: msgspec.msgpack.Decoder(DecisionRow),
    WAITS: msgspec.msgpack.Decoder(WaitRow),
    QUEUES: msgspec.msgpack.Decoder(QueueRow),
}


def pack(row: Row) -> bytes:
    """The stored form; whole numbers of more than 64 bits, which it has not, become floats."""
    try:
        return _encode(row)
    except OverflowError:
        fields = {name: _tamed(getattr(row, name)) for name in row.__struct_fields__}
        return _encode(msgspec.structs.replace(row, **fields))


def _tamed(value: Any) -> Any:
    match value:
        case dict():
            return {key: _tamed(each) for key, each in value.items()}
        case list() | tuple():
            return [_tamed(each) for each in value]
        case int() if value.bit_length() >= LARGEST:
            return float(value) if value.bit_length() < FLOATING else str(value)
        case _:
            return value


def unpack(table: str, stored: bytes) -> Any:
    """The row of a stored form."""
    return _DECODERS[table].decode(stored)
