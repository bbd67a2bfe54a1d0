"""The queries as messages; every one may wait for a position (Q6)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from horae_domain.definition import Identifier, Instant, Model, Trigger
from horae_domain.errors import InvalidField
from horae_domain.wire import ExecutionId, read_object, validate


class Query(Model):
    """Base of the queries: `min_position` waits up to `wait_ms` for the view to reach it."""

    name: ClassVar[str]
    min_position: str | None = None
    wait_ms: Annotated[int, Field(ge=0, le=60_000)] = 5_000


class GetSchedule(Query):
    """`schedule.get`: one schedule with its next fire times."""

    name = "schedule.get"
    id: Identifier
    count: Annotated[int, Field(ge=0, le=1000)] = 5


class Page(Query):
    """What lists have in common."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: str | None = None


class ListSchedules(Page):
    """`schedule.list`: by type, status, tags, name; Q1."""

    name = "schedule.list"
    type: str | None = None
    status: str | None = None
    tags: list[str] = []
    tags_all: list[str] = []
    name_contains: str | None = None
    handler: str | None = None
    created_by: str | None = None
    created_from: Instant | None = None
    created_to: Instant | None = None
    next_from: Instant | None = None
    next_to: Instant | None = None
    sort: Literal["created", "next_run", "name", "priority"] = "created"
    order: Literal["asc", "desc"] = "asc"


class PreviewSchedule(Query):
    """`schedule.preview`: of a schedule by `id`, or of a `trigger`; `from` is exclusive."""

    name = "schedule.preview"
    id: Identifier | None = None
    trigger: Trigger | None = None
    dst: Any = None
    from_: Annotated[Instant | None, Field(alias="from")] = None
    count: Annotated[int, Field(ge=1, le=1000)] = 10


class ScheduleHistory(Page):
    """`schedule.history`: the events of a schedule and its executions' decisions, newest first."""

    name = "schedule.history"
    id: Identifier
    status: str | None = None
    from_: Annotated[Instant | None, Field(alias="from")] = None
    to: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 10


class GetExecution(Query):
    """`execution.get`: one execution with attempts, logs and timeline."""

    name = "execution.get"
    id: ExecutionId


class ListExecutions(Page):
    """`execution.list`: newest first, by schedule, status and time."""

    name = "execution.list"
    schedule_id: Identifier | None = None
    status: str | None = None
    from_: Annotated[Instant | None, Field(alias="from")] = None
    to: Instant | None = None


class ListTimers(Page):
    """`timer.list`: what waits for a time, soonest first (Q12)."""

    name = "timer.list"
    schedule_id: Identifier | None = None
    kind: str | None = None


class Health(Query):
    """`health`: the components, their state and their issues (Q5)."""

    name = "health"


QUERIES: dict[str, type[Query]] = {
    kind.name: kind
    for kind in (
        GetSchedule,
        ListSchedules,
        PreviewSchedule,
        ScheduleHistory,
        GetExecution,
        ListExecutions,
        ListTimers,
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
