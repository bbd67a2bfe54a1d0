"""What an execution does (A1 to A8)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from horae_domain import patterns
from horae_domain.fields import Identifier, Model, Name, Span
from horae_domain.templates import check_template
from horae_domain.urls import parse_url


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
    service: Annotated[str, Field(pattern=patterns.SERVICE, max_length=128)]
    """Tokens with dots between them, such as `trading` or `agents.research`."""
    command: Annotated[str, Field(pattern=patterns.SERVICE_COMMAND)]
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
HeaderName = Annotated[str, Field(pattern=patterns.HEADER_NAME), AfterValidator(_header)]
HeaderValue = Annotated[str, Field(pattern=patterns.HEADER_VALUE, max_length=8192)]


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
    secret: Identifier | None = None
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
            from horae_domain.definition import Definition  # noqa: PLC0415 - which has actions

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
