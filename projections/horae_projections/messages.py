"""The queries as messages; every one may wait for a position (Q6)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, Field

from horae_domain.calendars import Calendars
from horae_domain.errors import InvalidField
from horae_domain.fields import DottedPath, EventType, Identifier, Instant, Model, Nothing
from horae_domain.policies import Dst
from horae_domain.triggers import Trigger
from horae_domain.wire import ExecutionId, read_object, validate

TriggerType = Literal[
    "cron", "interval", "once", "rrule", "manual", "event", "outcome", "condition", "command"
]
ScheduleStatus = Literal["pending", "active", "paused", "completed", "cancelled", "failed"]
ExecutionStatus = Literal[
    "pending",
    "delayed",
    "buffered",
    "held",
    "checking",
    "running",
    "waiting",
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
    "skipped",
    "dead",
]
HistoryStatus = (
    ExecutionStatus
    | Literal[
        "missed",
        "excluded",
        "planned",
        "backfill",
        "checked",
        "updated",
        "paused",
        "tripped",
        "resumed",
    ]
)
RunKind = Literal[
    "cron", "interval", "once", "rrule", "manual", "backfill", "event", "outcome", "condition"
]
TimerKind = Literal[
    "schedule",
    "moved",
    "backfill",
    "cooldown",
    "look",
    "held",
    "retry",
    "poll",
    "delay",
    "check",
    "schedule_to_start",
    "start_to_close",
    "overall",
    "heartbeat",
    "stop",
    "confirmation",
]


def _several(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


T = TypeVar("T")
Several = Annotated[tuple[T, ...], BeforeValidator(_several), Field(max_length=16)]
Tags = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(max_length=64),
]


class Query(Model):
    """Base of the queries: `min_position` waits up to `wait_ms` for the view to reach it."""

    name: ClassVar[str]
    min_position: str | None = None
    wait_ms: Annotated[int, Field(ge=0, le=60_000)] = 5_000
    as_of: Nothing = None
    """An instant or a position of the past; not offered yet."""


class GetSchedule(Query):
    """`schedule.get`: one schedule, its next `count` fire times, its last `executions`."""

    name = "schedule.get"
    id: Identifier
    count: Annotated[int, Field(ge=0, le=1000)] = 5
    executions: Annotated[int, Field(ge=0, le=100)] = 0


class Page(Query):
    """What lists have in common."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: str | None = None


class ListSchedules(Page):
    """`schedule.list` (Q1): conditions add up; times are inclusive, names ignore case.

    `status` and `type` take one or several, separated by commas or as a list. Scheduled commands
    are listed only where the type `command` is asked for, and not by name.
    """

    name = "schedule.list"
    type: Several[TriggerType] | None = None
    status: Several[ScheduleStatus] | None = None
    tags: Tags = ()
    """Any of these."""
    tags_all: Tags = ()
    """All of these."""
    name_contains: Annotated[str, Field(max_length=255)] | None = None
    handler: str | None = None
    created_by: str | None = None
    created_from: Instant | None = None
    created_to: Instant | None = None
    next_from: Instant | None = None
    next_to: Instant | None = None
    sort: Literal["created", "next_run", "name", "priority"] = "created"
    order: Literal["asc", "desc"] = "asc"


class ScheduleDigests(Page):
    """`schedule.digests`: what each schedule's definition is, in short, to compare with a file.

    Of those that somebody created, or of those that are named.
    """

    name = "schedule.digests"
    created_by: Annotated[str, Field(max_length=255)] | None = None
    ids: Annotated[tuple[Identifier, ...], Field(max_length=10_000)] | None = None
    limit: Annotated[int, Field(ge=1, le=10_000)] = 10_000


class PreviewSchedule(Query):
    """`schedule.preview`: of a schedule by `id`, or of a `trigger`; `from` is exclusive, else now."""

    name = "schedule.preview"
    id: Identifier | None = None
    trigger: Trigger | None = None
    dst: Dst = Dst()
    start_at: Instant | None = None
    end_at: Instant | None = None
    calendars: Calendars = ()
    from_: Annotated[Instant | None, Field(alias="from")] = None
    count: Annotated[int, Field(ge=1, le=1000)] = 10


class ScheduleHistory(Page):
    """`schedule.history`: executions, ranges decided at once and changes, newest first (Q2)."""

    name = "schedule.history"
    id: Identifier
    status: Several[HistoryStatus] | None = None
    from_: Annotated[Instant | None, Field(alias="from")] = None
    to: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 10


class GetExecution(Query):
    """`execution.get`: one execution with attempts, logs and timeline."""

    name = "execution.get"
    id: ExecutionId


class GetCommand(Query):
    """`command.get`: a scheduled command, where it stands and what came of it."""

    name = "command.get"
    id: Identifier


class ExecutionLogs(Query):
    """`execution.logs`: what its handler logged, and how its attempts ended."""

    name = "execution.logs"
    id: ExecutionId


class ListExecutions(Page):
    """`execution.list`: the latest due first; `from` and `to` are when they were due, inclusive."""

    name = "execution.list"
    schedule_id: Identifier | None = None
    status: Several[ExecutionStatus] | None = None
    queue: Identifier | None = None
    kind: Several[RunKind] | None = None
    from_: Annotated[Instant | None, Field(alias="from")] = None
    to: Instant | None = None


class ListDeadLetters(Page):
    """`dead_letter.list`: executions out of retries, the latest first (G9); `since` is inclusive."""

    name = "dead_letter.list"
    schedule_id: Identifier | None = None
    error_type: Annotated[str, Field(max_length=255)] | None = None
    since: Instant | None = None


class ListTimers(Page):
    """`timer.list`: everything that waits, the soonest first (Q12); times are inclusive.

    What waits for no instant, but for an approval or for room, comes last, and not between times.
    """

    name = "timer.list"
    schedule_id: Identifier | None = None
    execution_id: ExecutionId | None = None
    kind: Several[TimerKind] | None = None
    from_: Annotated[Instant | None, Field(alias="from")] = None
    to: Instant | None = None


class ListQueues(Page):
    """`queue.list`: the queues that were used, limited or paused, by name."""

    name = "queue.list"


class GetQueue(Query):
    """`queue.get`: what is in a queue, and what limits it."""

    name = "queue.get"
    queue: Identifier


class GetTenant(Query):
    """`tenant.get`: what is in all queues of the tenant, and what limits them together."""

    name = "tenant.get"


class FindEvent(Query):
    """`event.find`: the first external event of a type with values, received since an instant."""

    name = "event.find"
    type: EventType
    match: Annotated[dict[DottedPath, Any], Field(max_length=16)] = Field(default_factory=dict)
    since: Instant


class Health(Query):
    """`health`: the components, their state and their issues (Q5)."""

    name = "health"


QUERIES: dict[str, type[Query]] = {
    kind.name: kind
    for kind in (
        GetSchedule,
        ListSchedules,
        ScheduleDigests,
        PreviewSchedule,
        ScheduleHistory,
        GetExecution,
        GetCommand,
        ListExecutions,
        ExecutionLogs,
        ListDeadLetters,
        ListTimers,
        ListQueues,
        GetQueue,
        GetTenant,
        FindEvent,
        Health,
    )
}


def read_query(name: str, body: bytes) -> Query:
    """The query of a request.

    Raises:
        InvalidField, InvalidTrigger, PayloadTooLarge: with the offending field.
    """
    kind = QUERIES.get(name)
    if kind is None:
        raise InvalidField(f"no such query: {name}", field="name", known=sorted(QUERIES))
    return validate(kind, read_object(body))
