"""Commands as messages: what comes over NATS, from Python and from the command line.

A request is the same everywhere: a tenant, a name, a JSON object. Its models refuse unknown fields
and name the field that is wrong.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

import msgspec
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from horae_domain.backfills import Order
from horae_domain.definition import (
    Definition,
    Duration,
    EventType,
    Identifier,
    Instant,
    Model,
    Priority,
    Retry,
    Timeout,
    parse_definition,
    size_of,
)
from horae_domain.errors import HoraeError, InvalidField
from horae_domain.identity import command_id, limits_stream
from horae_domain.limits import MAX_RATE, Rate, checked_rate, parse_rate
from horae_domain.timers import OF_SCHEDULES, TimerId, parse_timer_id
from horae_domain.wire import (
    MAX_BULK,
    MAX_REQUEST,
    ExecutionId,
    Json,
    Key,
    Note,
    json_value,
    read_object,
    validate,
)

OK = 200
"""The status of the one success."""


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
        return self.status == OK


def refused(error: HoraeError, position: str | None = None) -> Reply:
    """The wire form of an error."""
    body: dict[str, Any] = {"ok": False, "error": error.to_json()}
    if position is not None:
        body["position"] = position
    return Reply(error.status, body)


# --- commands ------------------------------------------------------------------------------------


CommandName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/-]{1,128}$")]
"""What a type of commands of the application is called."""


class Command(Model):
    """Base of the commands; `name` is the last part of the subject."""

    name: ClassVar[str]

    @property
    def execution(self) -> str | None:
        """The id of the execution that it is about, if it names one."""
        return None

    def schedule(self, tenant: str) -> str | None:
        """The id of the schedule that it is about, unless it names an execution; of a tenant."""
        del tenant
        return None

    def limited(self, tenant: str) -> str | None:
        """The stream of the limits that it is about."""
        del tenant
        return None


class DefinitionCommand(Command):
    """About the schedule of a definition."""

    definition: Definition

    def schedule(self, tenant: str) -> str:
        """The id of the definition."""
        del tenant
        return self.definition.id


class SingleCommand(Command):
    """About one schedule."""

    id: Identifier

    def schedule(self, tenant: str) -> str:
        """The id told."""
        del tenant
        return self.id


class ExecutionCommand(Command):
    """About one execution."""

    id: ExecutionId

    @property
    def execution(self) -> str:
        """The id told."""
        return self.id


class AttemptCommand(Command):
    """About one execution, by whoever has or wants its lease."""

    execution_id: ExecutionId

    @property
    def execution(self) -> str:
        """The id told."""
        return self.execution_id


class CreateSchedule(DefinitionCommand):
    """`schedule.create`: the definition itself, and `allow_unknown`."""

    name = "schedule.create"
    allow_unknown: bool = False


class CreateMany(Command):
    """`schedule.create_many`: up to 10,000 definitions, each answered by itself."""

    name = "schedule.create_many"
    schedules: Annotated[list[Any], Field(min_length=1, max_length=10_000)]
    allow_unknown: bool = False
    dry_run: bool = False
    """Look at each as far as it can be judged by itself, and decide nothing."""


class ValidateSchedule(Command):
    """`schedule.validate`: what creating it would be refused for, and what to know before."""

    name = "schedule.validate"
    definition: dict[str, Any]
    allow_unknown: bool = False


class UpdateSchedule(DefinitionCommand):
    """`schedule.update`: the whole definition, guarded by `expected_revision` if given."""

    name = "schedule.update"
    expected_revision: int | None = None
    allow_unknown: bool = False


class PatchSchedule(SingleCommand):
    """`schedule.patch`: fields of a JSON merge patch (RFC 7396) of the definition, beside `id`."""

    name = "schedule.patch"
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Json]
    expected_revision: int | None = None
    allow_unknown: bool = False

    @property
    def patch(self) -> dict[str, Any]:
        """What is merged."""
        return self.__pydantic_extra__


Tag = Annotated[str, Field(min_length=1, max_length=128)]
Tags = Annotated[tuple[Tag, ...], Field(max_length=64)]


class RetagSchedule(SingleCommand):
    """`schedule.retag`: take tags away, then add others."""

    name = "schedule.retag"
    add: Tags = ()
    remove: Tags = ()


class TagChange(Model):
    """Tags to add and to take away."""

    add: Tags = ()
    remove: Tags = ()


class BulkSchedules(Command):
    """`schedule.bulk`: an operation on all schedules that match the filters of `schedule.list`."""

    name = "schedule.bulk"
    filter: dict[str, Any]
    operation: Literal["pause", "resume", "cancel", "retag"]
    note: Note = ""
    tags: TagChange | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _has_its_tags(self) -> Self:
        if (self.operation == "retag") != (self.tags is not None):
            raise PydanticCustomError(
                "tags", "`tags` belong to the operation retag, and it to them"
            )
        return self


class PauseSchedule(SingleCommand):
    """`schedule.pause`."""

    name = "schedule.pause"
    note: Note = ""


class ResumeSchedule(SingleCommand):
    """`schedule.resume`."""

    name = "schedule.resume"
    note: Note = ""


class CancelSchedule(SingleCommand):
    """`schedule.cancel`."""

    name = "schedule.cancel"
    note: Note = ""


class TriggerSchedule(SingleCommand):
    """`schedule.trigger`: run now; `key` makes it the same execution when asked again."""

    name = "schedule.trigger"
    key: Key | None = None
    payload: Json = None


class BackfillSchedule(SingleCommand):
    """`schedule.backfill`: run what was due from `from` to `to`, both inclusive, with its own times.

    With `dry_run` it is only told how many there are.
    """

    name = "schedule.backfill"
    from_: Annotated[Instant, Field(alias="from")]
    to: Instant
    overlap: Order = Order.BUFFER_ALL
    dry_run: bool = False
    note: Note = ""


class OccurrenceCommand(SingleCommand):
    """About one occurrence of a schedule: `at` is its nominal due instant, wherever it was moved."""

    at: Instant
    note: Note = ""


class SkipOccurrence(OccurrenceCommand):
    """`occurrence.skip`: let it not fire; if it is held, drop it."""

    name = "occurrence.skip"


class MoveOccurrence(OccurrenceCommand):
    """`occurrence.move`: let it fire at `to` instead; its own instant takes it back."""

    name = "occurrence.move"
    to: Instant


class HoldOccurrence(OccurrenceCommand):
    """`occurrence.hold`: let it wait for approval when it comes due."""

    name = "occurrence.hold"


class ApproveOccurrence(OccurrenceCommand):
    """`occurrence.approve`: let it fire after all; with `reject` it is skipped or dropped."""

    name = "occurrence.approve"
    reject: bool = False


class SetOccurrencePayload(OccurrenceCommand):
    """`occurrence.set_payload`: let it run with another payload than the schedule's."""

    name = "occurrence.set_payload"
    payload: Json


def _timer_id(value: str) -> str:
    try:
        return str(parse_timer_id(value))
    except HoraeError as error:
        raise PydanticCustomError("timer", "{reason}", {"reason": error.message}) from error


class TimerCommand(Command):
    """About one timer, by its id in `timer.list`; see `horae_domain.timers`."""

    id: Annotated[str, AfterValidator(_timer_id)]
    note: Note = ""

    @property
    def timer(self) -> TimerId:
        """Which timer."""
        return parse_timer_id(self.id)

    @property
    def execution(self) -> str | None:
        """The execution whose timer it is, if it is one's."""
        return None if self.timer.kind in OF_SCHEDULES else self.timer.subject

    def schedule(self, tenant: str) -> str | None:
        """The schedule whose timer it is, if it is one's."""
        del tenant
        return self.timer.subject if self.timer.kind in OF_SCHEDULES else None


class MoveTimer(TimerCommand):
    """`timer.move`: let it come at `to` instead; what that means depends on its kind."""

    name = "timer.move"
    to: Instant


class CancelTimer(TimerCommand):
    """`timer.cancel`: let it not come; what that means depends on its kind."""

    name = "timer.cancel"


class ReportError(Model):
    """What went wrong in an attempt."""

    type: Annotated[str, Field(max_length=255)] = "Error"
    message: Annotated[str, Field(max_length=16_384)] = ""
    stack: Annotated[str, Field(max_length=65_536)] | None = None
    retry_after: Duration | None = None
    final: bool = False
    """True if another attempt would fail in the same way: the policy is not asked."""


class RequeueDeadLetter(Command):
    """`dead_letter.requeue`: one by `id`, or `all`, or those that fit, at most 1,000 at a time."""

    name = "dead_letter.requeue"
    id: ExecutionId | None = None
    all: bool = False
    schedule_id: Identifier | None = None
    error_type: Annotated[str, Field(max_length=255)] | None = None
    since: Instant | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000

    @property
    def execution(self) -> str | None:
        """The id, if it is about one."""
        return self.id

    @model_validator(mode="after")
    def _one_or_many(self) -> Self:
        filters = (self.schedule_id, self.error_type, self.since)
        many = self.all or any(each is not None for each in filters)
        if many == (self.id is not None):
            raise PydanticCustomError("which", "either an id, or `all`, or a filter")
        return self


MAX_PROGRESS = 16 * 1024
"""Bytes of JSON that the progress told by a heartbeat may have."""


def _progress(value: Any) -> Any:
    if size_of(value) > MAX_PROGRESS:
        raise PydanticCustomError("too_large", "at most 16 KiB of JSON")
    return value


class StartExecution(AttemptCommand):
    """`execution.start`: take the lease of work that was pulled from a queue."""

    name = "execution.start"
    attempt: int | None = None
    lease: Annotated[str, Field(max_length=64)] | None = None
    worker: Annotated[str, Field(max_length=255)] = "worker"


class ReportExecution(AttemptCommand):
    """`execution.report`: the outcome of an attempt, by the holder of its lease."""

    name = "execution.report"
    attempt: int | None = None
    lease: Annotated[str, Field(max_length=64)]
    outcome: Literal["succeeded", "failed", "again", "cancelled"]
    result: Json = None
    error: ReportError | None = None
    after: Duration | None = None
    limit: Annotated[int, Field(ge=0)] | None = None
    cooldown: Duration | None = None
    started_at: Instant | None = None
    worker: Annotated[str, Field(max_length=255)] | None = None
    logs: Annotated[tuple[Any, ...], Field(max_length=1000)] = ()
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_validator("logs", "metadata")
    @classmethod
    def _bounded(cls, value: Any) -> Any:
        json_value(list(value) if isinstance(value, tuple) else value)
        return value


class TickAnswered(SingleCommand):
    """What the check of a schedule has answered at a tick; the engine's own, too."""

    name = "schedule.tick"
    tick: Instant
    revision: int
    holds: bool
    data: Json = None
    error: dict[str, Any] | None = None


class CheckAnswered(AttemptCommand):
    """Whether the conditions of an execution are met; the engine's own, and no request of the bus."""

    name = "execution.check"
    met: bool
    condition: str | None = None
    """The first one that is not, or that failed by `error`."""
    error: dict[str, Any] | None = None


class HeartbeatExecution(AttemptCommand):
    """`execution.heartbeat`: an attempt is alive, and asks whether it should stop; nothing is stored.

    With `ask` it only asks: the heartbeat timeout goes on.
    """

    name = "execution.heartbeat"
    lease: Annotated[str, Field(max_length=64)]
    progress: Annotated[Any, AfterValidator(_progress)] = None
    ask: bool = False


class CancelExecution(ExecutionCommand):
    """`execution.cancel`: at once, or with `graceful` once it has stopped or the grace is over."""

    name = "execution.cancel"
    reason: Note = ""
    mode: Literal["now", "graceful"] = "now"
    grace: Duration | None = None
    """How long a running attempt may take to stop; 30 s unless told. Only if graceful."""


class RetryExecution(ExecutionCommand):
    """`execution.retry`: try again what has ended without success, or now what is delayed."""

    name = "execution.retry"


class ReprioritizeExecution(ExecutionCommand):
    """`execution.reprioritize`: let an execution that waits do so under another priority."""

    name = "execution.reprioritize"
    priority: Priority


class ScheduleCommand(Command):
    """`command.schedule`: let a command of the application wait for `at`, or for `after` a delay.

    The same `key`, else the request's idempotency key, is the same scheduled command.
    """

    name = "command.schedule"
    command: CommandName
    data: Json = None
    at: Instant | None = None
    after: Annotated[Duration | None, Field(validate_default=True)] = None
    metadata: Annotated[dict[str, Any], BeforeValidator(json_value)] = Field(default_factory=dict)
    key: Key | None = None
    retry: Retry = Retry()
    timeout: Timeout = Timeout()
    priority: Priority = Priority.MEDIUM
    allow_past: bool = False
    allow_unknown: bool = False

    def schedule(self, tenant: str) -> str:
        """The id that the key stands for."""
        return command_id(tenant, self.key or "")

    @field_validator("after")
    @classmethod
    def _one_of(cls, value: timedelta | None, info: ValidationInfo) -> timedelta | None:
        if "at" in info.data and (value is None) == (info.data["at"] is None):
            raise PydanticCustomError("trigger", "a command has either `at` or `after`")
        return value


class CancelCommand(SingleCommand):
    """`command.cancel`: withdraw a scheduled command that has not begun; says whether it did."""

    name = "command.cancel"


class PublishEvent(Command):
    """`event.publish`: something has happened elsewhere; the same source and id are the same event.

    The id is the request's idempotency key unless told; `time` is when it happened, now unless told.
    """

    name = "event.publish"
    type: EventType
    data: Json = None
    id: Key | None = None
    source: Annotated[str, Field(max_length=512)] = ""
    time: Instant | None = None


class RateLimit(Model):
    """At most `count` attempts begin within any `per`."""

    count: Annotated[int, Field(ge=1, le=MAX_RATE)]
    per: Duration


Concurrency = Annotated[int, Field(ge=1, le=100_000)]


class LimitCommand(Command):
    """Fields that are left out stay as they are, null lifts a limit."""

    concurrency: Concurrency | None = None
    rate: RateLimit | str | None = None

    @field_validator("rate")
    @classmethod
    def _readable(cls, value: RateLimit | str | None) -> RateLimit | str | None:
        if value is not None:
            _rate_of(value)
        return value

    @property
    def changes(self) -> dict[str, Any]:
        """The limits that were given, by name."""
        told = {name: getattr(self, name) for name in self.model_fields_set & LIMITS}
        if told.get("rate") is not None:
            told["rate"] = _rate_of(told["rate"])
        return told


def _rate_of(value: RateLimit | str) -> Rate:
    if isinstance(value, RateLimit):
        return checked_rate(Rate(value.count, value.per), field="rate")
    return parse_rate(value, field="rate")


LIMITS = frozenset({"concurrency", "rate", "weight"})


class QueueCommand(Command):
    """About one queue."""

    queue: Identifier

    def limited(self, tenant: str) -> str:
        """The stream of the queue."""
        return limits_stream(tenant, self.queue)


class LimitQueue(LimitCommand, QueueCommand):
    """`queue.limit`: how many of a queue run at once, and how many attempts begin in a while."""

    name = "queue.limit"


class PauseQueue(QueueCommand):
    """`queue.pause`: let nothing of a queue begin; what runs goes on."""

    name = "queue.pause"
    note: Note = ""


class ResumeQueue(QueueCommand):
    """`queue.resume`: let what waits begin."""

    name = "queue.resume"
    note: Note = ""


class LimitTenant(LimitCommand):
    """`tenant.limit`: the same for all that a tenant runs, and its `weight` beside other tenants."""

    name = "tenant.limit"
    weight: Annotated[int, Field(ge=1, le=100)] = 1

    def limited(self, tenant: str) -> str:
        """The stream of the tenant's limits."""
        return limits_stream(tenant, None)


class SweepHistory(Command):
    """`history.sweep`: erase what has ended and was kept long enough (O5); `horae.cleanup` asks it."""

    name = "history.sweep"
    dry_run: bool = False
    """Count what could be erased, and erase nothing."""


class SweepSchedule(SingleCommand):
    """`history.sweep_schedule`: erase executions of one schedule, or the schedule with all of them.

    Its owner leaves alone what has to be kept, so that asking for too much does no harm.
    """

    name = "history.sweep_schedule"
    executions: Annotated[tuple[ExecutionId, ...], Field(max_length=1_000)] = ()
    whole: bool = False
    """These are all that it has, and it goes with them."""


COMMANDS: dict[str, type[Command]] = {
    kind.name: kind
    for kind in (
        CreateSchedule,
        CreateMany,
        ValidateSchedule,
        UpdateSchedule,
        PatchSchedule,
        RetagSchedule,
        BulkSchedules,
        PauseSchedule,
        ResumeSchedule,
        CancelSchedule,
        TriggerSchedule,
        BackfillSchedule,
        SkipOccurrence,
        MoveOccurrence,
        HoldOccurrence,
        ApproveOccurrence,
        SetOccurrencePayload,
        MoveTimer,
        CancelTimer,
        StartExecution,
        ReportExecution,
        HeartbeatExecution,
        CancelExecution,
        ReprioritizeExecution,
        RetryExecution,
        ScheduleCommand,
        CancelCommand,
        PublishEvent,
        RequeueDeadLetter,
        LimitQueue,
        PauseQueue,
        ResumeQueue,
        LimitTenant,
        SweepHistory,
        SweepSchedule,
    )
}

# --- reading -------------------------------------------------------------------------------------


def read_command(name: str, body: bytes) -> Command:
    """The command of a request.

    Raises:
        InvalidField, InvalidTrigger, PayloadTooLarge: with the offending field.
    """
    kind = COMMANDS.get(name)
    if kind is None:
        raise InvalidField(f"no such command: {name}", field="name", known=sorted(COMMANDS))
    content = read_object(body, MAX_BULK if kind is CreateMany else MAX_REQUEST)
    if kind is ValidateSchedule:
        known = content.pop("allow_unknown", False)
        return validate(kind, {"definition": content, "allow_unknown": known})
    if kind is CreateSchedule or kind is UpdateSchedule:
        options: dict[str, Any] = {
            option: content.pop(option)
            for option in ("allow_unknown", "expected_revision")
            if option in content and option in kind.model_fields
        }
        definition = parse_definition(content)
        return validate(kind, {"definition": definition, **options})
    return validate(kind, content)
