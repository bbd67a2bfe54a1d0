"""Commands about executions and their attempts."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from horae_application.messages.base import AttemptCommand, Command, ExecutionCommand
from horae_domain.definition import size_of
from horae_domain.fields import Duration, Identifier, Instant, Model
from horae_domain.policies import Priority
from horae_domain.wire import ExecutionId, Json, Note, json_value


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
