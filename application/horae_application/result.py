"""What a handler answers."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from horae_domain.durations import parse_duration

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
        operations: tuple[Any, ...] = (),
        metadata: dict[str, Any] | None = None,
    ) -> Result:
        """Success; with a cooldown the schedule does not fire again before its end."""
        pause = None if cooldown is None else parse_duration(cooldown, field="cooldown")
        return cls(
            value=value, cooldown=pause, operations=tuple(operations), metadata=metadata or {}
        )

    @classmethod
    def again(cls, *, after: Span = 60, limit: int | None = None, value: Any = None) -> Result:
        """Not yet: ask again after a delay (60 s unless told), at most `limit` times."""
        return cls(
            outcome="again", after=parse_duration(after, field="after"), limit=limit, value=value
        )

    @classmethod
    def failed(
        cls, message: str, *, type: str = "Failed", retry_after: Span | None = None
    ) -> Result:  # noqa: A002
        """Failure without an exception; retried by the schedule's policy."""
        error: dict[str, Any] = {"type": type, "message": message}
        if retry_after is not None:
            error["retry_after"] = parse_duration(retry_after, field="retry_after").total_seconds()
        return cls(outcome="failed", error=error)


class RetryAfter(Exception):  # noqa: N818 - it says when
    """Raise it to fail an attempt and say when to try again.

    Args:
        after: delay before the next attempt; seconds if a number.
        message: what went wrong.
    """

    def __init__(self, after: Span, message: str = "") -> None:
        self.after = parse_duration(after, field="after")
        super().__init__(message or f"try again after {after}")
