"""What the models of definitions and of messages are made of."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
)
from pydantic_core import PydanticCustomError

from horae_domain import patterns
from horae_domain.durations import format_duration, parse_duration
from horae_domain.errors import HoraeError
from horae_domain.expressions import compile_expression
from horae_domain.instants import format_instant, parse_instant

MAX_PAYLOAD = 1024 * 1024
"""Bytes of JSON that a payload, a result or an override may have."""


class Model(BaseModel):
    """Strict about unknown fields, immutable, and so shared where it is a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _instant(value: Any) -> datetime:
    try:
        return parse_instant(value, field="")
    except HoraeError as error:
        raise PydanticCustomError("instant", "{reason}", {"reason": error.message}) from error


Instant = Annotated[
    datetime,
    BeforeValidator(_instant),
    PlainSerializer(format_instant, return_type=str, when_used="json"),
]


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


def one_or_many(value: Any) -> Any:
    """A single text stands for a list of it."""
    return (value,) if isinstance(value, str) else value


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
Identifier = Annotated[str, Field(pattern=patterns.ID)]
Name = Annotated[str, Field(pattern=patterns.NAME)]
CheckName = Annotated[str, Field(pattern=patterns.CHECK, max_length=128)]
DottedPath = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_dotted)]
Place = Annotated[str, Field(pattern=patterns.PLACE, max_length=255), AfterValidator(_dotted)]
"""Where an execution has a value: a path that begins with `trigger` or `payload`."""


def _pattern(value: str) -> str:
    tokens = value.split(".")
    named = tokens[:-1] if tokens[-1] == ">" else tokens
    if not all(each == "*" or (each and not {"*", ">"} & set(each)) for each in named):
        raise PydanticCustomError("pattern", "`*` stands for one token and `>` for all at the end")
    return value


EventType = Annotated[str, Field(pattern=patterns.EVENT_TYPE)]
"""What kind of external event it is, tokens with dots between them."""
EventPattern = Annotated[str, Field(pattern=patterns.EVENT_PATTERN), AfterValidator(_pattern)]
"""A type of events, or with `*` and `>` in place of tokens several."""


def _not_yet(value: object) -> object:
    if value is not None:
        raise PydanticCustomError("unsupported", "this version of the engine does not offer it")
    return value


Nothing = Annotated[Any, AfterValidator(_not_yet)]
"""A field of the interface that this version knows, and refuses unless it is null."""
