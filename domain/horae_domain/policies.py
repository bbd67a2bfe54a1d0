"""How a schedule treats its occurrences and executions (G2 to G8)."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from horae_domain.fields import Duration, Model, Span


class Overlap(StrEnum):
    """What happens to an occurrence while earlier ones are unfinished."""

    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    CANCEL_OTHER = "cancel_other"
    TERMINATE_OTHER = "terminate_other"
    ALLOW = "allow"


class CatchUpMode(StrEnum):
    """What happens, within the window, to occurrences that came due while nobody decided."""

    ALL = "all"
    LATEST = "latest"
    SKIP = "skip"


class Priority(StrEnum):
    """The order in which waiting executions are handed out, the last one first."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the most urgent."""
        return _RANKS[self]


_RANKS = {Priority.CRITICAL: 0, Priority.HIGH: 1, Priority.MEDIUM: 2, Priority.LOW: 3}


class CatchUp(Model):
    """G3: within the window by the mode; what is older is recorded as missed."""

    mode: CatchUpMode = CatchUpMode.LATEST
    window: Duration = timedelta(minutes=5)


class Dst(Model):
    """What a fixed time of day does when the clock jumps over it or shows it twice (T1).

    Null is Debian's rule: `edge` and `first` for five fields, the plain wall clock for six.
    """

    gap: Literal["edge", "skip", "shift"] | None = None
    overlap: Literal["first", "last", "both"] | None = None


class Retry(Model):
    """G7: the delay before try n+1 is `delay * backoff**(n-1)`, at most `max_delay`, ± jitter."""

    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 4
    delay: Duration = timedelta(minutes=1)
    backoff: Annotated[float, Field(ge=1.0, le=100.0)] = 2.0
    max_delay: Duration = timedelta(minutes=30)
    jitter: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    non_retryable: tuple[Annotated[str, Field(max_length=255)], ...] = ()


class Timeout(Model):
    """G8: bounds of an execution's waits; null leaves one unbounded.

    `start_to_close` is of one attempt, `heartbeat` of its silence; `schedule_to_start` is from when
    it is ready until its first attempt starts, `overall` until its end, retries included.
    """

    start_to_close: Span | None = timedelta(minutes=5)
    schedule_to_start: Span | None = None
    overall: Span | None = None
    heartbeat: Span | None = None

    @field_validator("heartbeat")
    @classmethod
    def _not_too_often(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < timedelta(seconds=1):
            raise PydanticCustomError("duration", "a heartbeat is at least 1s")
        return value
