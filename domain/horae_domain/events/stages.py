"""Events of waits, steps and fallbacks, which are stages of an execution."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from horae_domain.events.base import Because, Confirmation, ExecutionEvent


class StageCompleted(ExecutionEvent, frozen=True, kw_only=True):
    """The accepted outcome of an attempt at a stage that another one follows, `next`."""

    attempt: int
    delivery: int = 1
    stage: str = ""
    next: str
    started_at: datetime | None = None
    result: Any = None
    logs: list[Any] = []
    metadata: dict[str, Any] = {}


class AwaitingConfirmation(ExecutionEvent, frozen=True, kw_only=True):
    """It waits, until `deadline`, for `need` of these: events of a type with values in their data."""

    waits: list[dict[str, Any]]
    need: int = 1
    deadline: datetime | None = None


class ConfirmationReceived(ExecutionEvent, frozen=True, kw_only=True):
    """One of several confirmations came; it needs more."""

    confirmation: Confirmation


class ExecutionConfirmed(ExecutionEvent, frozen=True, kw_only=True):
    """The last confirmation came that it needed. `run` is all that its owner has to know."""

    confirmation: Confirmation
    run: dict[str, Any] = {}


class ConfirmationTimedOut(ExecutionEvent, frozen=True, kw_only=True):
    """Its deadline passed without as many confirmations as it needed."""

    received: int = 0


class ConfirmationLate(ExecutionEvent, frozen=True, kw_only=True):
    """A confirmation came after the wait was over, and changed nothing."""

    event_id: str
    type: str
    source: str = ""
    status: str = ""


class DelayEnded(ExecutionEvent, frozen=True, kw_only=True):
    """The delay of what stood aside is over; `run` is all that its owner has to know."""

    run: dict[str, Any] = {}


class FallbackStarted(ExecutionEvent, frozen=True, kw_only=True):
    """What was to be done has failed, or was not confirmed: the fallback is next.

    `run` is all that its owner has to know, if it waited.
    """

    stage: str
    because: Because
    run: dict[str, Any] = {}


class CompensationStarted(ExecutionEvent, frozen=True, kw_only=True):
    """What the steps `done` have done is taken back, the last one first, beginning with `next`.

    `run` is all that its owner has to know, if it waited.
    """

    next: str
    done: list[str]
    because: Because
    run: dict[str, Any] = {}
