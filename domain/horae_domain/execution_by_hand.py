"""What somebody decides on an execution without an outcome of an attempt."""

from __future__ import annotations

from datetime import datetime

from horae_domain.definition import Definition
from horae_domain.errors import IllegalState
from horae_domain.events import (
    Event,
    ExecutionDeadLettered,
    ExecutionReprioritised,
    ExecutionRequeued,
    TimerCancelled,
    TimerMoved,
)
from horae_domain.execution_evolving import REQUEUED, evolve
from horae_domain.execution_state import Execution, Status, about
from horae_domain.policies import Priority
from horae_domain.schedule import Cause
from horae_domain.timeouts import bounds

GIVEN_UP = "GivenUp"
"""The type of the error of what is not tried again because somebody said so."""


def give_up(execution: Execution, message: str, cause: Cause) -> list[Event]:
    """Do not try again what waits for its retry; it is a dead letter."""
    error = {"type": GIVEN_UP, "message": message}
    return [
        ExecutionDeadLettered(attempt=execution.attempt, error=error, **about(execution, cause))
    ]


def move_timer(
    execution: Execution, timer: str, was: datetime, to: datetime, note: str, cause: Cause
) -> list[Event]:
    """Put one of its timers to another instant."""
    if was == to:
        return []
    return [TimerMoved(timer=timer, to=to, was=was, note=note, **about(execution, cause))]


def lift_timer(
    execution: Execution, timer: str, was: datetime, note: str, cause: Cause
) -> list[Event]:
    """Let one of its timeouts not come.

    Raises:
        IllegalState: nothing else would end an attempt elsewhere if its worker were gone.
    """
    event = TimerCancelled(timer=timer, was=was, note=note, **about(execution, cause))
    after = evolve(execution, event)
    elsewhere = execution.status is Status.RUNNING and not execution.local
    if elsewhere and after is not None and after.bound is None:
        raise IllegalState(
            "nothing else would end the attempt if its worker were gone", field="id",
            state=str(execution.status),
        )  # fmt: skip
    return [event]


def reprioritize(execution: Execution, priority: Priority, cause: Cause) -> list[Event]:
    """Let it wait under another priority (G5).

    Raises:
        IllegalState: it runs, or has ended.
    """
    if not execution.status.alive or execution.status is Status.RUNNING:
        raise IllegalState(
            f"execution {execution.id} is {execution.status}", field="id",
            state=str(execution.status),
        )  # fmt: skip
    if execution.priority == priority:
        return []
    return [ExecutionReprioritised(priority=str(priority), **about(execution, cause))]


def requeue(execution: Execution, definition: Definition, cause: Cause) -> list[Event]:
    """Try again, by hand, what has ended without success, or now what waits for a retry or a poll.

    Attempts are counted on; failures anew, unless it had not ended.

    Raises:
        IllegalState: it runs, or has succeeded or never fired.
    """
    if execution.status is Status.PENDING:
        return []
    if execution.status not in _TRIED_AGAIN:
        raise IllegalState(
            f"execution {execution.id} is {execution.status}",
            field="id",
            state=str(execution.status),
        )
    delayed = execution.status is Status.DELAYED
    bounded = bounds(definition, cause.at)
    if delayed:
        bounded = {"end_by": execution.end_by}
    told = {name: getattr(execution, name) for name in REQUEUED}
    return [
        ExecutionRequeued(
            failures=execution.failures if delayed else 0,
            polls=execution.polls if delayed else 0,
            done=list(execution.done),
            confirmations=list(execution.confirmations),
            **told,
            **bounded,
            **about(execution, cause),
        )
    ]


_TRIED_AGAIN = {Status.FAILED, Status.TIMED_OUT, Status.CANCELLED, Status.DEAD, Status.DELAYED}
