"""Scheduled commands (C1): a command of the application that waits for its instant.

One is a schedule with a once trigger, whose action is the handler of the command's type, and it is
decided as any other. What differs is how it begins, under an id that is a function of its key, and
that it ends for good: the same key never stands for a second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from horae_domain import decider
from horae_domain import execution as executions
from horae_domain.actions import FunctionAction
from horae_domain.decision import Decision
from horae_domain.definition import Definition, restore_definition
from horae_domain.durations import format_duration
from horae_domain.errors import IdempotencyConflict, InvalidTrigger
from horae_domain.events import COMMAND, CommandScheduled
from horae_domain.firing import settle
from horae_domain.instants import format_instant
from horae_domain.schedule import CancelSchedule, Cause
from horae_domain.triggers import OnceTrigger


class Intent(NamedTuple):
    """A command of the application, and when it is wanted: at an instant, or after a delay."""

    tenant: str
    id: str
    command: str
    data: Any
    due: datetime | None
    after: timedelta | None
    metadata: Mapping[str, Any]
    policies: Mapping[str, Any]
    """Fields of the definition that are not as in every other command, in canonical form."""
    allow_past: bool = False


def is_command(definition: Definition) -> bool:
    """True if a schedule is a scheduled command."""
    action = definition.action
    once = isinstance(definition.trigger, OnceTrigger)
    return once and isinstance(action, FunctionAction) and action.name.startswith(COMMAND)


def schedule(decision: Decision, intent: Intent, cause: Cause) -> None:
    """Let a command wait; the same one again changes nothing, even after it was done.

    Raises:
        IdempotencyConflict: the key stands for another command already.
        InvalidTrigger: its instant has passed.
    """
    event = CommandScheduled(
        tenant=intent.tenant,
        schedule_id=intent.id,
        at=cause.at,
        correlation_id=cause.correlation_id,
        traceparent=cause.traceparent,
        carried=dict(cause.carried),
        actor=cause.actor,
        command=intent.command,
        data=intent.data,
        due=intent.due,
        after=None if intent.after is None else format_duration(intent.after),
        metadata=dict(intent.metadata),
        policies=dict(intent.policies),
    )
    if decision.line is not None:
        first = decision.line.schedule.definitions.get(1)
        if first is None or first.canonical() != _canonical(event):
            raise IdempotencyConflict(
                "this key was used for another command", field="Horae-Idempotency-Key"
            )
        return
    if intent.due is not None and intent.due < cause.at and not intent.allow_past:
        raise InvalidTrigger(
            "the instant is in the past; say allow_past to have it at once",
            field="at",
            value=format_instant(intent.due),
        )
    decision.add(event)


def _canonical(event: CommandScheduled) -> dict[str, Any]:
    return restore_definition(event.created().definition).canonical()


def cancel(decision: Decision, cause: Cause) -> bool:
    """Withdraw a command; False if there is none, or it runs, or it has ended."""
    if decision.line is None or not is_command(decision.line.definition):
        return False
    settle(decision, cause)
    if not decision.require().schedule.status.ended:
        decider.command(decision, CancelSchedule("", cause))
        return True
    waiting = [
        run
        for run in decision.require().live.values()
        if run.status is not executions.Status.RUNNING
    ]
    for run in waiting:
        terms = decision.require().definition_of(run)
        decision.add(*executions.cancel(run, terms, "cancelled", cause))
    return bool(waiting)
