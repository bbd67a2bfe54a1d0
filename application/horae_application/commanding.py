"""What the engine is asked to do with the application's scheduled commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from horae_application import messages
from horae_application.draft import Draft
from horae_application.messages import OK
from horae_application.ports import StoredEvent
from horae_application.task import Answer, Task
from horae_domain import commands
from horae_domain.identity import command_id, schedule_stream
from horae_domain.instants import format_instant
from horae_domain.ledger import Line
from horae_domain.policies import Priority, Retry, Timeout
from horae_domain.schedule import Cause


class Commanding:
    """Decides them into a draft, given the events of the commands that exist already."""

    def __init__(self, draft: Draft, loaded: Mapping[str, list[StoredEvent]]) -> None:
        self._draft = draft
        self._loaded = loaded

    def decide(self, task: Task, cause: Cause) -> Answer | None:
        """Decide a command on a scheduled command; None if it is none.

        Raises:
            HoraeError: it is refused.
        """
        match task.command:
            case messages.ScheduleCommand():
                return self._schedule(task, task.command, cause)
            case messages.CancelCommand():
                return self._cancel(task, task.command, cause)
            case _:
                return None

    def _schedule(self, task: Task, command: messages.ScheduleCommand, cause: Cause) -> Answer:
        intent = intent_of(task.request.tenant, command)
        stream = schedule_stream(intent.tenant, intent.id)
        decision = self._draft.begin(stream)
        commands.schedule(decision, intent, cause)
        index, position = self._draft.accept(stream, decision), None
        if index is None and self._draft.adds_to(stream):
            index = self._draft.streams.index(stream)
        elif index is None:
            position = self._loaded[stream][0].position
        return Answer(task, OK, _facts(decision.require()), index, position)

    def _cancel(self, task: Task, command: messages.CancelCommand, cause: Cause) -> Answer:
        stream = schedule_stream(task.request.tenant, command.id)
        decision = self._draft.begin(stream)
        cancelled = commands.cancel(decision, cause)
        index = self._draft.accept(stream, decision)
        return Answer(task, OK, {"id": command.id, "cancelled": cancelled}, index)


def _facts(line: Line) -> dict[str, Any]:
    """What a reply says of a scheduled command."""
    schedule = line.schedule
    due = schedule.next_due if line.next_due is None else line.next_due
    return {"id": schedule.id, "execute_at": None if due is None else format_instant(due)}


def intent_of(tenant: str, command: messages.ScheduleCommand) -> commands.Intent:
    """What the domain is asked to let wait."""
    policies: dict[str, Any] = {}
    if command.retry != Retry():
        policies["retry"] = command.retry.model_dump(mode="json", exclude_defaults=True)
    if command.timeout != Timeout():
        policies["timeout"] = command.timeout.model_dump(mode="json", exclude_defaults=True)
    if command.priority is not Priority.MEDIUM:
        policies["priority"] = str(command.priority)
    return commands.Intent(
        tenant,
        command_id(tenant, command.key or ""),
        command.command,
        command.data,
        command.at,
        command.after,
        command.metadata,
        policies,
        allow_past=command.allow_past,
    )
