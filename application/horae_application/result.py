"""What a handler answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from pydantic_core import PydanticSerializationError, to_jsonable_python

from horae_domain.durations import parse_duration
from horae_domain.fields import MAX_PAYLOAD

Span = str | float | timedelta


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A handler's outcome where a plain return value does not say enough (A6).

    Build it by `done`, `again` or `failed`.
    """

    outcome: str = "succeeded"
    value: Any = None
    after: timedelta | None = None
    limit: int | None = None
    cooldown: timedelta | None = None
    operations: tuple[Any, ...] = ()
    metadata: dict[str, Any] = {}
    error: dict[str, Any] | None = None

    @classmethod
    def done(
        cls,
        value: Any = None,
        *,
        cooldown: Span | None = None,
        operations: Sequence[Any] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Result:
        """Success; with a cooldown the schedule does not fire again before its end."""
        pause = None if cooldown is None else parse_duration(cooldown, field="cooldown")
        told = _told(operations, metadata)
        return cls(value=value, cooldown=pause, **told)

    @classmethod
    def again(
        cls,
        *,
        after: Span = 60,
        limit: int | None = None,
        value: Any = None,
        operations: Sequence[Any] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Result:
        """Not yet: ask again after a delay (60 s unless told), at most `limit` times."""
        delay, told = parse_duration(after, field="after"), _told(operations, metadata)
        return cls(outcome="again", after=delay, limit=limit, value=value, **told)

    @classmethod
    def failed(
        cls,
        message: str,
        *,
        type: str = "Failed",  # noqa: A002 - the wire's name
        retry_after: Span | None = None,
        final: bool = False,
        operations: Sequence[Any] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Result:
        """Failure without an exception; retried by the schedule's policy unless it is `final`."""
        error: dict[str, Any] = {"type": type, "message": message}
        if retry_after is not None:
            error["retry_after"] = parse_duration(retry_after, field="retry_after").total_seconds()
        if final:
            error["final"] = True
        return cls(outcome="failed", error=error, **_told(operations, metadata))


def _told(operations: Sequence[Any], metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"operations": tuple(operations), "metadata": dict(metadata or {})}


class RetryAfter(Exception):
    """Raise it to fail an attempt and say when to try again.

    Args:
        after: delay before the next attempt; seconds if a number.
        message: what went wrong.
    """

    def __init__(self, after: Span, message: str = "") -> None:
        self.after = parse_duration(after, field="after")
        super().__init__(message or f"try again after {after}")


class Finished(dict[str, Any]):
    """The body of a report that was made up elsewhere, in a child process."""


def outcome_of(value: Any) -> dict[str, Any]:
    """The report of what a handler returned; a plain value is a success with that value."""
    result = value if isinstance(value, Result) else Result(value=value)
    body: dict[str, Any] = {"outcome": result.outcome, "result": encodable(result.value)}
    metadata = dict(result.metadata)
    if result.operations:
        metadata["operations"] = list(result.operations)
    extra = {
        "after": result.after,
        "limit": result.limit,
        "cooldown": result.cooldown,
        "error": result.error,
        "metadata": encodable(metadata) or None,
    }
    return body | {key: each for key, each in extra.items() if each is not None}


def encodable(value: Any, limit: int = MAX_PAYLOAD, what: str = "the result") -> Any:
    """A value as JSON can carry it.

    Raises:
        TypeError: JSON cannot carry it, or it has over `limit` bytes.
    """
    if value is None or isinstance(value, bool | int | str) and len(str(value)) < 1000:  # noqa: PLR2004, RUF021
        return value
    try:
        plain = to_jsonable_python(value)
        size = len(msgspec.json.encode(plain))
    except (PydanticSerializationError, msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise TypeError(f"{what} cannot be JSON: {error}") from error
    if size > limit:
        raise TypeError(f"{what} has {size} bytes of JSON, at most {limit}")
    return plain
