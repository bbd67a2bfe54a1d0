"""The external events that an execution waits for, or that end it (W2 to W8)."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from horae_domain.actions import InnerAction
from horae_domain.fields import DottedPath, EventPattern, Model, Place, Span


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

    @cached_property
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
