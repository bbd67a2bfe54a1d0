"""What an application tells: its scheduled commands, and what has happened elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from horae_application.messages.base import Command, SingleCommand
from horae_domain import patterns
from horae_domain.fields import Duration, EventType, Instant
from horae_domain.identity import command_id
from horae_domain.policies import Priority, Retry, Timeout
from horae_domain.wire import Json, Key, json_value

CommandName = Annotated[str, Field(pattern=patterns.OWN_COMMAND)]
"""What a type of commands of the application is called."""


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
