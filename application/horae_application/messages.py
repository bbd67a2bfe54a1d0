"""Commands and queries as messages: what comes over NATS, from Python and from the command line.

A request is the same everywhere: a tenant, a name, a JSON object. Its models refuse unknown fields
and name the field that is wrong.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from pydantic import BeforeValidator, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from horae_domain.definition import (
    MAX_PAYLOAD,
    Definition,
    Duration,
    Identifier,
    Instant,
    Model,
    Trigger,
    parse_definition,
    size_of,
    translate,
)
from horae_domain.errors import HoraeError, InvalidField, PayloadTooLarge

MAX_REQUEST = 2 * MAX_PAYLOAD
"""Bytes of a whole request; `schedule.create_many` may have `MAX_BULK`."""
MAX_BULK = 16 * MAX_PAYLOAD


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One command or query on its way to whoever answers it."""

    tenant: str
    name: str
    """Such as `schedule.create`."""
    body: bytes = b"{}"
    """A JSON object."""
    key: str | None = None
    """Idempotency key: the same key and body get the first answer again."""
    command_id: str | None = None
    correlation_id: str | None = None
    actor: str | None = None
    traceparent: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """The answer: `status` is 200 or that of the error; `body` goes out as it is."""

    status: int
    body: dict[str, Any]

    @property
    def ok(self) -> bool:
        """True unless refused."""
        return self.status == 200  # noqa: PLR2004 - the one success


def accepted(position: str, **facts: Any) -> Reply:
    """A positive answer, resting on a committed position."""
    return Reply(200, {"ok": True, "position": position, **facts})


def refused(error: HoraeError, position: str | None = None) -> Reply:
    """The wire form of an error."""
    body: dict[str, Any] = {"ok": False, "error": error.to_json()}
    if position is not None:
        body["position"] = position
    return Reply(error.status, body)


def _json_value(value: Any) -> Any:
    if size_of(value) > MAX_PAYLOAD:
        raise PydanticCustomError("too_large", "at most 1 MiB of JSON")
    return value


Json = Annotated[Any, BeforeValidator(_json_value)]
ExecutionId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]
Note = Annotated[str, Field(max_length=1024)]
Key = Annotated[str, Field(min_length=1, max_length=255)]

# --- commands ------------------------------------------------------------------------------------


class Command(Model):
    """Base of the commands; `name` is the last part of the subject."""

    name: ClassVar[str]


class CreateSchedule(Command):
    """`schedule.create`: the definition itself, and `allow_unknown`."""

    name = "schedule.create"
    definition: Definition
    allow_unknown: bool = False


class CreateMany(Command):
    """`schedule.create_many`: up to 10,000 definitions, each answered by itself."""

    name = "schedule.create_many"
    schedules: Annotated[list[Any], Field(min_length=1, max_length=10_000)]
    allow_unknown: bool = False


class UpdateSchedule(Command):
    """`schedule.update`: the whole definition, guarded by `expected_revision` if given."""

    name = "schedule.update"
    definition: Definition
    expected_revision: int | None = None
    allow_unknown: bool = False


class PauseSchedule(Command):
    """`schedule.pause`."""

    name = "schedule.pause"
    id: Identifier
    note: Note = ""


class ResumeSchedule(Command):
    """`schedule.resume`."""

    name = "schedule.resume"
    id: Identifier
    note: Note = ""


class CancelSchedule(Command):
    """`schedule.cancel`."""

    name = "schedule.cancel"
    id: Identifier
    note: Note = ""


class TriggerSchedule(Command):
    """`schedule.trigger`: run now; `key` makes it the same execution when asked again."""

    name = "schedule.trigger"
    id: Identifier
    key: Key | None = None
    payload: Json = None


class ReportError(Model):
    """What went wrong in an attempt."""

    type: Annotated[str, Field(max_length=255)] = "Error"
    message: Annotated[str, Field(max_length=16_384)] = ""
    stack: Annotated[str, Field(max_length=65_536)] | None = None
    retry_after: Duration | None = None


class StartExecution(Command):
    """`execution.start`: take the lease of work that was pulled from a queue."""

    name = "execution.start"
    execution_id: ExecutionId
    attempt: int | None = None
    lease: Annotated[str, Field(max_length=64)] | None = None
    worker: Annotated[str, Field(max_length=255)] = "worker"


class ReportExecution(Command):
    """`execution.report`: the outcome of an attempt, by the holder of its lease."""

    name = "execution.report"
    execution_id: ExecutionId
    attempt: int | None = None
    lease: Annotated[str, Field(max_length=64)]
    outcome: Literal["succeeded", "failed", "again"]
    result: Json = None
    error: ReportError | None = None
    after: Duration | None = None
    limit: Annotated[int, Field(ge=0)] | None = None
    cooldown: Duration | None = None
    started_at: Instant | None = None
    worker: Annotated[str, Field(max_length=255)] | None = None
    logs: Annotated[list[Any], Field(max_length=1000)] = []
    metadata: dict[str, Any] = {}

    @field_validator("logs", "metadata")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        return _json_value(value)


class CancelExecution(Command):
    """`execution.cancel`."""

    name = "execution.cancel"
    id: ExecutionId
    reason: Note = ""


COMMANDS: dict[str, type[Command]] = {
    kind.name: kind
    for kind in (
        CreateSchedule,
        CreateMany,
        UpdateSchedule,
        PauseSchedule,
        ResumeSchedule,
        CancelSchedule,
        TriggerSchedule,
        StartExecution,
        ReportExecution,
        CancelExecution,
    )
}

# --- queries -------------------------------------------------------------------------------------


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

# --- reading -------------------------------------------------------------------------------------

M = TypeVar("M", bound=Model)


def read_object(body: bytes, limit: int = MAX_REQUEST) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        PayloadTooLarge: over `limit` bytes.
        InvalidField: not JSON, not an object, or nested too deeply.
    """
    if len(body) > limit:
        raise PayloadTooLarge(f"a request has at most {limit} bytes", limit=limit, size=len(body))
    try:
        content = msgspec.json.decode(body) if body else {}
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidField(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidField("a request is a JSON object")
    return content


def validate(kind: type[M], content: dict[str, Any]) -> M:
    """A message of a kind.

    Raises:
        InvalidField: with the path of the first field that is wrong.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise translate(error) from error


def read_command(name: str, body: bytes) -> Command:
    """The command of a request.

    Raises:
        InvalidField, InvalidTrigger, PayloadTooLarge: with the offending field.
    """
    kind = COMMANDS.get(name)
    if kind is None:
        raise InvalidField(f"no such command: {name}", field="name", known=sorted(COMMANDS))
    content = read_object(body, MAX_BULK if kind is CreateMany else MAX_REQUEST)
    if kind is CreateSchedule or kind is UpdateSchedule:
        options = {
            option: content.pop(option)
            for option in ("allow_unknown", "expected_revision")
            if option in content and option in kind.model_fields
        }
        definition = parse_definition(content)
        return validate(kind, {"definition": definition, **options})
    return validate(kind, content)


def read_query(name: str, body: bytes) -> Query:
    """The query of a request; errors as for commands."""
    kind = QUERIES.get(name)
    if kind is None:
        raise InvalidField(f"no such query: {name}", field="name", known=sorted(QUERIES))
    return validate(kind, read_object(body))
