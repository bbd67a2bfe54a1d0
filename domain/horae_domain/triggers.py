"""What may make a schedule fire (T1 to T13)."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from horae_domain.cron import parse_cron
from horae_domain.errors import HoraeError
from horae_domain.fields import (
    CheckName,
    Duration,
    EventPattern,
    Expression,
    Identifier,
    Instant,
    Model,
    Span,
)
from horae_domain.rrules import check_rule
from horae_domain.zones import load_zone


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
