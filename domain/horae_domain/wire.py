"""The wire's common ground: JSON objects in, models out, errors with the path of the field."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import PydanticCustomError

from horae_domain import patterns
from horae_domain.complaints import translate
from horae_domain.definition import size_of
from horae_domain.errors import InvalidField, PayloadTooLarge
from horae_domain.fields import MAX_PAYLOAD, Model

MAX_REQUEST = 2 * MAX_PAYLOAD
"""Bytes of a whole request; `schedule.create_many` may have `MAX_BULK`."""
MAX_BULK = 16 * MAX_PAYLOAD


def json_value(value: Any) -> Any:
    """A validator: what JSON can carry, within 1 MiB."""
    if size_of(value) > MAX_PAYLOAD:
        raise PydanticCustomError("too_large", "at most 1 MiB of JSON")
    return value


Json = Annotated[Any, BeforeValidator(json_value)]
ExecutionId = Annotated[str, Field(pattern=patterns.EXECUTION)]
Note = Annotated[str, Field(max_length=1024)]
Key = Annotated[str, Field(min_length=1, max_length=255)]

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
