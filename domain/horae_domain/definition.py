"""What a user asks for: the definition of a schedule, validated at the boundary.

The wire form is that of `schedule.create`. A definition is immutable; its canonical form, which
leaves out what has its default, is what events carry and what two definitions are compared by.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Annotated, Any, Self

import msgspec
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from horae_domain.actions import Action, InnerAction, QueueAction
from horae_domain.awaited import CancelOn, Ends, WaitFor
from horae_domain.calendars import Calendars
from horae_domain.complaints import translate
from horae_domain.fields import (
    MAX_PAYLOAD,
    CheckName,
    DottedPath,
    Duration,
    EventPattern,
    Identifier,
    Instant,
    Model,
    Span,
    one_or_many,
)
from horae_domain.policies import CatchUp, Dst, Overlap, Priority, Retry, Timeout
from horae_domain.triggers import (
    AWAITED,
    ConditionTrigger,
    ManualTrigger,
    Trigger,
)

_EACH_EVENT = ("event", "outcome")
"""Triggers whose occurrences do not wait for one another, unless told."""


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
        tuple[CheckName, ...], BeforeValidator(one_or_many), Field(max_length=16)
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
        tuple[EventPattern, ...], BeforeValidator(one_or_many), Field(max_length=16)
    ] = ()
    """Types of external events that are recorded though nobody listens, so that handlers find them."""

    @model_validator(mode="before")
    @classmethod
    def _each_event_counts(cls, content: Any) -> Any:
        """Each event stands for itself: unless told, one does not wait for another."""
        if not isinstance(content, dict) or "overlap" in content:
            return content
        trigger = content.get("trigger")
        type_ = trigger.get("type") if isinstance(trigger, dict) else getattr(trigger, "type", None)
        each = type_ in _EACH_EVENT
        return {**content, "overlap": Overlap.ALLOW} if each else content

    @model_validator(mode="after")
    def _waits_for_something(self) -> Self:
        if self.action.type == "none" and self.wait_for is None:
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
        if self.trigger.type in _EACH_EVENT:
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
        _json.validator.validate_python(value)
        return len(msgspec.json.encode(value))
    except (ValueError, RecursionError) as error:
        raise PydanticCustomError("json", "a JSON value is needed here") from error


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
