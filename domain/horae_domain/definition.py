"""What a user asks for: the definition of a schedule, validated at the boundary.

The wire form is that of `schedule.create`. A definition is immutable; its canonical form, which
leaves out what has its default, is what events carry and what two definitions are compared by.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, Any, Literal, Self

import msgspec
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    PlainSerializer,
    Tag,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from horae_domain.calendars import Calendars
from horae_domain.cron import parse_cron
from horae_domain.durations import format_duration, parse_duration
from horae_domain.errors import (
    HoraeError,
    InvalidExpression,
    InvalidField,
    InvalidTrigger,
    PayloadTooLarge,
)
from horae_domain.expressions import compile_expression
from horae_domain.fields import Instant, Model
from horae_domain.rrules import check_rule
from horae_domain.templates import TAGGED, check_template
from horae_domain.urls import parse_url
from horae_domain.zones import load_zone

MAX_PAYLOAD = 1024 * 1024
"""Bytes of JSON that a payload, a result or an override may have."""

ID_PATTERN = r"^[A-Za-z0-9_.:-]{1,128}$"
NAME_PATTERN = r"^[A-Za-z0-9_.:/-]{1,255}$"
SERVICE_PATTERN = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"
CHECK_PATTERN = r"^[A-Za-z0-9_:-]+(\.[A-Za-z0-9_:-]+)*$"
COMMAND_PATTERN = r"^[A-Za-z0-9_-]{1,128}$"


def _duration(value: Any) -> timedelta:
    try:
        return parse_duration(value, field="")
    except HoraeError as error:
        raise PydanticCustomError("duration", "{reason}", {"reason": error.message}) from error


def _positive(value: timedelta) -> timedelta:
    if not value:
        raise PydanticCustomError("duration", "a duration over zero is needed here")
    return value


def _dotted(value: str) -> str:
    if not all(value.split(".")):
        raise PydanticCustomError("path", "names joined by single dots are needed here")
    return value


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _not_yet(neutral: object) -> AfterValidator:
    """A field of the interface that this version knows and refuses unless it asks for nothing."""

    def check(value: object) -> object:
        if value not in (neutral, None):
            raise PydanticCustomError("unsupported", "this version of the engine does not offer it")
        return value

    return AfterValidator(check)


def _expression(value: str, info: ValidationInfo) -> str:
    """Compiled, unless it was when its definition was accepted."""
    if not (info.context or {}).get("accepted"):
        try:
            compile_expression(value)
        except HoraeError as error:
            told = {"reason": error.message}
            raise PydanticCustomError("expression", "{reason}", told) from error
    return value


Expression = Annotated[str, Field(min_length=1), AfterValidator(_expression)]
"""A text of `horae_domain.expressions`, over any variables."""
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
]
Span = Annotated[Duration, AfterValidator(_positive)]
Identifier = Annotated[str, Field(pattern=ID_PATTERN)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
CheckName = Annotated[str, Field(pattern=CHECK_PATTERN, max_length=128)]
DottedPath = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_dotted)]
Place = Annotated[
    str, Field(pattern=r"^(trigger|payload)(\.[^.]+)*$", max_length=255), AfterValidator(_dotted)
]
"""Where an execution has a value: a path that begins with `trigger` or `payload`."""

Nothing = Annotated[Any, _not_yet(None)]


class Overlap(StrEnum):
    """What happens to an occurrence while earlier ones are unfinished."""

    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    CANCEL_OTHER = "cancel_other"
    TERMINATE_OTHER = "terminate_other"
    ALLOW = "allow"


class CatchUpMode(StrEnum):
    """What happens, within the window, to occurrences that came due while nobody decided."""

    ALL = "all"
    LATEST = "latest"
    SKIP = "skip"


class Priority(StrEnum):
    """The order in which waiting executions are handed out, the last one first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the most urgent."""
        return _RANKS[self]


_RANKS = {Priority.CRITICAL: 0, Priority.HIGH: 1, Priority.MEDIUM: 2, Priority.LOW: 3}


class CronTrigger(Model):
    """Fires at the wall-clock instants of a cron expression (T1)."""

    type: Literal["cron"] = "cron"
    expression: str
    timezone: str = "UTC"

    @field_validator("expression")
    @classmethod
    def _parses(cls, value: str) -> str:
        try:
            parse_cron(value)
        except HoraeError as error:
            raise PydanticCustomError("trigger", "{reason}", {"reason": error.message}) from error
        return value

    @field_validator("timezone")
    @classmethod
    def _exists(cls, value: str) -> str:
        try:
            load_zone(value)
        except HoraeError as error:
            raise PydanticCustomError("trigger", "{reason}", {"reason": error.message}) from error
        return value


class IntervalTrigger(Model):
    """Fires every so often from an anchor, without drift (T2); 100 ms is the shortest."""

    type: Literal["interval"] = "interval"
    every: Span
    anchor: Instant | None = None

    @field_validator("every")
    @classmethod
    def _not_too_short(cls, value: timedelta) -> timedelta:
        if value < timedelta(milliseconds=100):
            raise PydanticCustomError("trigger", "an interval is at least 100ms")
        return value


class OnceTrigger(Model):
    """Fires once, at an instant or after a delay from the creation (T3)."""

    type: Literal["once"] = "once"
    at: Instant | None = None
    after: Duration | None = None
    allow_past: bool = False

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.at is None) == (self.after is None):
            raise PydanticCustomError("trigger", "a once trigger has either `at` or `after`")
        return self


class RruleTrigger(Model):
    """Fires by a recurrence rule of RFC 5545 (T13), in the zone that its DTSTART names, else this one."""

    type: Literal["rrule"] = "rrule"
    rule: Annotated[str, Field(min_length=1)]
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _reads(self, info: ValidationInfo) -> Self:
        if not (info.context or {}).get("accepted"):
            try:
                load_zone(self.timezone)
                check_rule(self.rule, self.timezone)
            except HoraeError as error:
                told = {"reason": error.message}
                raise PydanticCustomError("trigger", "{reason}", told) from error
        return self


class ManualTrigger(Model):
    """Fires only when somebody triggers it (T7)."""

    type: Literal["manual"] = "manual"


def _pattern(value: str) -> str:
    tokens = value.split(".")
    named = tokens[:-1] if tokens[-1] == ">" else tokens
    if not all(each == "*" or (each and not {"*", ">"} & set(each)) for each in named):
        raise PydanticCustomError("pattern", "`*` stands for one token and `>` for all at the end")
    return value


EventType = Annotated[str, Field(pattern=r"^[^\s*>\x00-\x1f\x7f]{1,255}$")]
"""What kind of external event it is, tokens with dots between them."""
EventPattern = Annotated[
    str, Field(pattern=r"^[^\s\x00-\x1f\x7f]{1,255}$"), AfterValidator(_pattern)
]
"""A type of events, or with `*` and `>` in place of tokens several."""


class EventTrigger(Model):
    """Fires for each external event of a type, perhaps some time after it (T5)."""

    type: Literal["event"] = "event"
    event: EventPattern
    filter: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """An expression over the event that has to be true."""
    delay: Duration = timedelta(0)


class OutcomeTrigger(Model):
    """Fires when an execution of another schedule has ended in one of these ways (T11), or later."""

    type: Literal["outcome"] = "outcome"
    schedule: Identifier
    of: Annotated[
        tuple[Literal["succeeded", "failed", "timed_out", "cancelled", "skipped"], ...],
        Field(min_length=1),
    ] = ("succeeded",)
    delay: Duration = timedelta(0)


class ConditionTrigger(Model):
    """Fires when an expression over the data of a check holds; the check is asked every so often (T6)."""

    type: Literal["condition"] = "condition"
    check: CheckName
    when: Expression | None = None
    """Over the check's data, whose fields are its variables; none where the check itself says so."""
    every: Span = timedelta(seconds=60)
    mode: Literal["level", "edge"] = "level"
    """`level` fires at every tick at which it holds, `edge` when it begins to hold."""
    cooldown: Span | None = None

    @field_validator("every")
    @classmethod
    def _not_too_short(cls, value: timedelta) -> timedelta:
        if value < timedelta(milliseconds=100):
            raise PydanticCustomError("trigger", "a check is asked every 100ms at most")
        return value


Trigger = Annotated[
    CronTrigger
    | IntervalTrigger
    | OnceTrigger
    | RruleTrigger
    | ManualTrigger
    | EventTrigger
    | OutcomeTrigger
    | ConditionTrigger,
    Field(discriminator="type"),
]
AWAITED = (EventTrigger, OutcomeTrigger, ConditionTrigger)
"""Triggers without a calendar: something else has to happen."""


class CancelOn(Model):
    """An external event that ends an execution before its outcome (W2).

    `match` has paths into the event's data with the places of the values that have to stand there, such as
    `trigger.data.ticket_id`.
    """

    event: EventPattern
    match: Annotated[dict[DottedPath, Place], Field(max_length=16)] = Field(default_factory=dict)


Ends = Annotated[
    Annotated[CancelOn, Tag("one")]
    | Annotated[tuple[CancelOn, ...], Field(min_length=1, max_length=16), Tag("many")],
    Discriminator(lambda value: "many" if isinstance(value, list | tuple) else "one"),
]
"""One such event, or several of which any will do."""


class FunctionAction(Model):
    """A Python function registered by name (A1)."""

    type: Literal["function"] = "function"
    name: Name
    isolation: Literal["inline", "thread", "process"] = "inline"


class QueueAction(Model):
    """Work that a worker in any language pulls from a queue and reports."""

    type: Literal["queue"] = "queue"
    queue: Identifier


class ProcessLimits(Model):
    """Bounds of a process action: CPU in seconds, memory in bytes, open files."""

    cpu: Annotated[int, Field(gt=0)] | None = None
    memory: Annotated[int, Field(gt=0)] | None = None
    files: Annotated[int, Field(gt=2)] | None = None


class ProcessAction(Model):
    """A command line run without a shell (A8); executors run it only if allowed to."""

    type: Literal["process"] = "process"
    command: Annotated[tuple[Annotated[str, Field(max_length=131072)], ...], Field(min_length=1)]
    env: dict[str, str] = Field(default_factory=dict)
    user: str | None = None
    cwd: str | None = None
    stdin: str | None = None
    limits: ProcessLimits = ProcessLimits()


class CommandAction(Model):
    """A command to a service in any language over NATS (A2).

    With `reply` the service's answer is the result, waited for as long as `timeout`; without, it is
    done when JetStream has stored the command.
    """

    type: Literal["command"] = "command"
    service: Annotated[str, Field(pattern=SERVICE_PATTERN, max_length=128)]
    """Tokens with dots between them, such as `trading` or `agents.research`."""
    command: Annotated[str, Field(pattern=COMMAND_PATTERN)]
    reply: bool = True
    timeout: Span = timedelta(seconds=5)


def _url(value: str) -> str:
    try:
        parse_url(value)
    except ValueError as error:
        raise PydanticCustomError("url", "{reason}", {"reason": str(error)}) from error
    return value


def _header(value: str) -> str:
    if value.lower() in HEADERS_TAKEN or value.lower().startswith(("webhook-", "horae-")):
        raise PydanticCustomError("header", "this header is not for a definition to set")
    return value


HEADERS_TAKEN = frozenset(
    [
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "te",
        "trailer",
        "traceparent",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    ]
)
"""Headers of HTTP calls that the connection, or Horae, sets."""
HeaderName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$"), AfterValidator(_header)
]
HeaderValue = Annotated[str, Field(pattern=r"^[\t\x20-\x7e]*$", max_length=8192)]


class HttpAction(Model):
    """An HTTP call (A3).

    The body is `body`, else the payload of the execution: JSON, or text as it is where a header
    `content-type` that is not JSON goes with it.
    """

    type: Literal["http"] = "http"
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "POST"
    url: Annotated[str, AfterValidator(_url)]
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=64)] = Field(
        default_factory=dict
    )
    body: JsonValue = None
    secret: Annotated[str, Field(pattern=ID_PATTERN)] | None = None
    """The name of the executors' secret that signs the call, by Standard Webhooks."""
    connect_timeout: Annotated[Span, Field(le=timedelta(minutes=1))] = timedelta(seconds=5)
    """For looking the name up, the connection, and TLS."""
    timeout: Annotated[Span, Field(le=timedelta(minutes=30))] = timedelta(seconds=15)
    """For all of the call."""


class ScheduleAction(Model):
    """A schedule made from a template, by `horae_domain.templates` (T5)."""

    type: Literal["schedule"] = "schedule"
    template: dict[str, JsonValue]

    @field_validator("template")
    @classmethod
    def _can_be_filled(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if not (info.context or {}).get("accepted"):
            check_template(value, Definition.model_validate)
        return value


Deed = FunctionAction | QueueAction | ProcessAction | CommandAction | HttpAction | ScheduleAction
"""What one attempt does."""


def _told(deed: Deed) -> dict[str, Any]:
    return deed.model_dump(mode="json", exclude_defaults=True) | {"type": deed.type}


InnerAction = Annotated[
    Deed,
    Field(discriminator="type"),
    PlainSerializer(_told, return_type=dict[str, Any], when_used="json"),
]
"""An action inside another part of a definition."""


class NoAction(Model):
    """Nothing is done first: the execution waits for its confirmation at once."""

    type: Literal["none"] = "none"


class Step(Model):
    """One step of several, and what takes it back (W9)."""

    name: Identifier
    action: InnerAction
    compensate: InnerAction | None = None


class StepsAction(Model):
    """Several actions one after the other; if one fails, those done are taken back in reverse."""

    type: Literal["steps"] = "steps"
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=100)]

    @field_validator("steps")
    @classmethod
    def _distinct(cls, value: tuple[Step, ...]) -> tuple[Step, ...]:
        if len({step.name for step in value}) < len(value):
            raise PydanticCustomError("steps", "each step has a name of its own")
        return value


Action = Annotated[
    FunctionAction
    | QueueAction
    | ProcessAction
    | CommandAction
    | HttpAction
    | ScheduleAction
    | NoAction
    | StepsAction,
    Field(discriminator="type"),
]


def _source(value: Any) -> Any:
    if isinstance(value, str) and not value.startswith(SOURCES):
        raise PydanticCustomError("match", "a path begins with trigger, payload or result")
    return value


SOURCES = ("trigger.", "payload", "result")
"""What the values that a confirmation has to have are taken from."""
Source = Annotated[str | int | float | bool, AfterValidator(_source)]


class Awaited(Model):
    """An external event of a type, whose data have these values (W4).

    `match` has paths into the event's data, each with a path to the value wanted there, or with a
    number or truth value.
    """

    event: EventPattern
    match: Annotated[dict[DottedPath, Source], Field(min_length=1, max_length=8)]


class WaitFor(Model):
    """What an execution waits for after its action: one event, or some of several.

    `then` runs when it is confirmed; without it the execution has succeeded. `fallback` runs when
    it is not confirmed within `timeout`; without it that of the definition, else it has timed out.
    """

    event: EventPattern | None = None
    match: dict[DottedPath, Source] | None = Field(None, min_length=1, max_length=8)
    events: tuple[Awaited, ...] = Field((), max_length=32)
    need: Annotated[int, Field(ge=1)] | Literal["all", "any"] = "all"
    timeout: Span | None = timedelta(minutes=10)
    then: InnerAction | None = None
    fallback: InnerAction | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if bool(self.events) == (self.event is not None):
            raise PydanticCustomError("wait", "a wait has either `event` or `events`")
        if (self.event is None) != (self.match is None):
            raise PydanticCustomError("wait", "`match` belongs to `event`, and is needed there")
        if isinstance(self.need, int) and self.need > len(self.awaited):
            raise PydanticCustomError("wait", "`need` is more than there are events")
        return self

    @property
    def awaited(self) -> tuple[Awaited, ...]:
        """All events that confirm it."""
        if self.event is None or self.match is None:
            return self.events
        return (Awaited.model_construct(event=self.event, match=self.match),)

    @property
    def needed(self) -> int:
        """How many of them have to come."""
        if isinstance(self.need, int):
            return self.need
        return len(self.awaited) if self.need == "all" else 1


class CatchUp(Model):
    """G3: within the window by the mode; what is older is recorded as missed."""

    mode: CatchUpMode = CatchUpMode.LATEST
    window: Duration = timedelta(minutes=5)


class Dst(Model):
    """What a fixed time of day does when the clock jumps over it or shows it twice (T1).

    Null is Debian's rule: `edge` and `first` for five fields, the plain wall clock for six.
    """

    gap: Literal["edge", "skip", "shift"] | None = None
    overlap: Literal["first", "last", "both"] | None = None


class Retry(Model):
    """G7: the delay before try n+1 is `delay * backoff**(n-1)`, at most `max_delay`, ± jitter."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 4
    delay: Duration = timedelta(minutes=1)
    backoff: Annotated[float, Field(ge=1.0, le=100.0)] = 2.0
    max_delay: Duration = timedelta(minutes=30)
    jitter: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    non_retryable: tuple[Annotated[str, Field(max_length=255)], ...] = ()


class Timeout(Model):
    """G8: bounds of an execution's waits; null leaves one unbounded.

    `start_to_close` is of one attempt, `heartbeat` of its silence; `schedule_to_start` is from when
    it is ready until its first attempt starts, `overall` until its end, retries included.
    """

    start_to_close: Span | None = timedelta(minutes=5)
    schedule_to_start: Span | None = None
    overall: Span | None = None
    heartbeat: Span | None = None

    @field_validator("heartbeat")
    @classmethod
    def _not_too_often(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < timedelta(seconds=1):
            raise PydanticCustomError("duration", "a heartbeat is at least 1s")
        return value


class Definition(Model):
    """A schedule as its owner wants it."""

    id: Identifier
    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    description: Annotated[str, Field(max_length=4096)] = ""
    tags: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field((), max_length=64)
    metadata: dict[str, Any] = Field(default_factory=dict)
    trigger: Trigger
    action: Action
    payload: Any = None
    enabled: bool = True
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp()
    dst: Dst = Dst()
    retry: Retry = Retry()
    timeout: Timeout = Timeout()
    cooldown: Span | None = None
    priority: Priority = Priority.MEDIUM
    queue: Identifier = "default"
    concurrency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Unfinished executions at once; 1 unless told, without bound where overlap is allowed."""
    concurrency_key: DottedPath | None = None
    """A path into the payload: `concurrency` counts for each value there by itself."""
    start_at: Instant | None = None
    end_at: Instant | None = None
    max_executions: Annotated[int, Field(ge=1)] | None = None
    pause_on_failures: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """After so many executions in a row without success the schedule is paused (G10)."""

    requires: Annotated[
        tuple[CheckName, ...], BeforeValidator(_one_or_many), Field(max_length=16)
    ] = ()
    """Conditions that are checked when an occurrence is due, in this order (G1)."""

    calendars: Calendars = ()
    """What is due while one of them is closed is skipped, or moved to when all are open (T9)."""
    jitter: Duration = timedelta(0)
    """Each occurrence comes by up to so much later, by a hash of it."""
    spread: Span | None = None
    """All occurrences come by the same part of it later, by a hash of the schedule."""
    fallback: InnerAction | None = None
    """What runs when the action has failed for good, or timed out (W7)."""
    wait_for: WaitFor | None = None
    cancel_on: Ends | None = None
    keep_events: Annotated[
        tuple[EventPattern, ...], BeforeValidator(_one_or_many), Field(max_length=16)
    ] = ()
    """Types of external events that are recorded though nobody listens, so that handlers find them."""

    @model_validator(mode="before")
    @classmethod
    def _each_event_counts(cls, content: Any) -> Any:
        """Each event stands for itself: unless told, one does not wait for another."""
        match content:
            case {"overlap": _}:
                return content
            case {"trigger": {"type": "event" | "outcome"} | EventTrigger() | OutcomeTrigger()}:
                return {**content, "overlap": Overlap.ALLOW}
            case _:
                return content

    @model_validator(mode="after")
    def _waits_for_something(self) -> Self:
        if isinstance(self.action, NoAction) and self.wait_for is None:
            raise PydanticCustomError("action", "an action of type none needs `wait_for`")
        return self

    @field_validator("payload", "metadata")
    @classmethod
    def _within_bounds(cls, value: Any) -> Any:
        if size_of(value) > MAX_PAYLOAD:
            raise PydanticCustomError("too_large", "at most 1 MiB of JSON")
        return value

    @field_validator("calendars", "jitter", "spread")
    @classmethod
    def _has_times(cls, value: Any, info: ValidationInfo) -> Any:
        if value and isinstance(info.data.get("trigger"), (ManualTrigger, *AWAITED)):
            raise PydanticCustomError("times", "the trigger has no instants of its own")
        return value

    @field_validator("end_at")
    @classmethod
    def _bounds_in_order(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        start = info.data.get("start_at")
        if value is not None and start is not None and value < start:
            raise PydanticCustomError("trigger", "end_at is before start_at")
        return value

    @property
    def ends(self) -> tuple[CancelOn, ...]:
        """The events that end an execution before its outcome."""
        told = self.cancel_on or ()
        return (told,) if isinstance(told, CancelOn) else told

    @property
    def title(self) -> str:
        """The name, which is the id unless told."""
        return self.name or self.id

    @property
    def place(self) -> str:
        """The queue that its executions count for: that of the action, if it names one."""
        return self.action.queue if isinstance(self.action, QueueAction) else self.queue

    @property
    def shifts(self) -> bool:
        """True if occurrences may come later than at their nominal instants."""
        return bool(self.calendars or self.jitter or self.spread)

    @property
    def limit(self) -> int | None:
        """How many executions may be unfinished at once; under `allow`, how many may run."""
        return self.concurrency or (None if self.overlap is Overlap.ALLOW else 1)

    @property
    def rest(self) -> timedelta | None:
        """How long nothing fires after a firing (G6)."""
        own = self.trigger.cooldown if isinstance(self.trigger, ConditionTrigger) else None
        return max((each for each in (own, self.cooldown) if each is not None), default=None)

    def canonical(self) -> dict[str, Any]:
        """JSON values without what has its default; equal for equal content."""
        content = Canonical(
            # What was not told has its default, and need not even be compared to it.
            self.model_dump(mode="json", exclude_unset=True, exclude_defaults=True)
        )
        content["trigger"]["type"] = self.trigger.type
        content["action"]["type"] = self.action.type
        if isinstance(self.trigger, EventTrigger | OutcomeTrigger):
            content["overlap"] = str(self.overlap)  # its default is that of the trigger
        content.definition = self
        return content


class Canonical(dict[str, Any]):
    """A canonical form that remembers whose it is, so that it need not be read again at once."""

    definition: Definition


def digest_of(canonical: Mapping[str, Any]) -> str:
    """Equal for equal definitions, whatever their ids; of the canonical form."""
    content = {name: value for name, value in canonical.items() if name != "id"}
    return blake2b(_sorted(content), digest_size=16).hexdigest()


_sorted = msgspec.json.Encoder(order="sorted").encode
_json: TypeAdapter[JsonValue] = TypeAdapter(JsonValue, config=ConfigDict(allow_inf_nan=False))


def size_of(value: object) -> int:
    """Bytes of `value` as JSON; refuses what JSON cannot carry, and nesting over 250 deep."""
    try:
        _json.validate_python(value)
        return len(msgspec.json.encode(value))
    except (ValueError, RecursionError) as error:
        raise PydanticCustomError("json", "a JSON value is needed here") from error


def field_path(location: tuple[int | str, ...]) -> str:
    """`trigger.expression` from pydantic's location, which also names the union's branch."""
    parts: list[str] = []
    for index, part in enumerate(location):
        if index > 0 and location[index - 1] in TAGGED:
            continue
        if index > 1 and location[index - 2] == "calendars":
            continue
        parts.append(str(part))
    path = parts[0] if parts else ""
    for part in parts[1:]:
        path += f"[{part}]" if part.isdigit() else f".{part}"
    return path


def translate(error: ValidationError, prefix: str = "") -> InvalidField:
    """The first complaint of pydantic as an error of the interface."""
    return complaints(error, prefix)[0]


def complaints(error: ValidationError, prefix: str = "") -> list[InvalidField]:
    """Every complaint of pydantic as an error of the interface."""
    found = error.errors(include_url=False, include_context=False)
    return [_complaint(each, prefix) for each in found]


def _complaint(found: ErrorDetails, prefix: str) -> InvalidField:
    location = field_path(found["loc"])
    if found["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        location += ".type"
    path = f"{prefix}.{location}" if prefix and location else prefix or location
    message = f"{path or 'request'}: {_sentence(found['type'], found['msg'])}"
    value = found.get("input")
    shown = None if isinstance(value, dict | list) else value
    kind: type[InvalidField] = InvalidField
    if found["type"] == "too_large":
        return PayloadTooLarge(message, field=path or None, limit=MAX_PAYLOAD)
    if found["type"] == "expression":
        return InvalidExpression(message, field=path or None, value=shown)
    if location.startswith("trigger") or found["type"] == "trigger":
        kind = InvalidTrigger
    return kind(message, field=path or None, value=shown)


def _sentence(kind: str, message: str) -> str:
    return "unknown field" if kind == "extra_forbidden" else message


def parse_definition(content: object, prefix: str = "") -> Definition:
    """Validate the wire form.

    Raises:
        InvalidField, InvalidTrigger, PayloadTooLarge: with the path of the offending field.
    """
    try:
        return Definition.model_validate(content)
    except ValidationError as error:
        raise translate(error, prefix) from error


def restore_definition(content: dict[str, Any]) -> Definition:
    """The definition of an event, which was validated when it was accepted."""
    if isinstance(content, Canonical):
        return content.definition
    return Definition.model_validate(content, context={"accepted": True})
