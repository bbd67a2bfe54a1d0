"""Scheduling the application's own commands (C1): `schedule`, `cancel` and `get`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import BaseModel

from horae_application.cqrs import Cqrs, dump
from horae_domain.errors import InvalidField, InvalidTrigger
from horae_domain.instants import parse_instant
from horae_domain.positions import Position, parse_position

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ScheduledCommand:
    """A command that waits for its instant, or what became of it.

    Attributes:
        id: what `schedule` has answered.
        type: the command's name.
        command: the command; its JSON value where the application has no handler for its type.
        execute_at: when it is, or was, due.
        status: `scheduled` until then, then that of the execution: `running`, `delayed` before
            another attempt, `succeeded`, `failed`, `cancelled`, …
        result: what its handler returned, as JSON.
        error: of the last attempt, if that failed: `type`, `message`, …
        attempts: how often it was tried.
    """

    id: str
    type: str
    command: Any
    execute_at: datetime
    status: str
    metadata: Mapping[str, Any]
    result: Any
    error: Mapping[str, Any] | None
    attempts: int
    correlation_id: str | None
    execution_id: str | None
    scheduled_at: datetime
    scheduled_by: str | None
    tenant: str


class CommandCalls(Protocol):
    """The calls of a client that are about commands; it sees what it has done itself."""

    _cqrs: Cqrs
    _written: Position | None = None

    async def command(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        correlation_id: str | None = None,
    ) -> Json:
        """Any command by its name."""
        ...

    async def query(self, name: str, body: Mapping[str, Any]) -> Json:
        """Any query by its name."""
        ...

    async def schedule(
        self,
        command: BaseModel,
        execute_at: datetime | str | None = None,
        *,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
        **options: Any,
    ) -> str:
        """Let a command wait for its instant, to be carried out by its handler then.

        Args:
            command: a pydantic model; its handler is registered with `@app.command`.
            execute_at: the instant, aware; `at=` says the same, `after=` a delay instead.
            idempotency_key: the same key and content is the same scheduled command, for good.
            correlation_id: what it belongs to; its handler is told it.
            options: `metadata`, kept with it and told to the handler; `retry`, `timeout`,
                `priority`; `allow_past`, `allow_unknown`.

        Returns:
            The id for `cancel` and `get`.

        Raises:
            InvalidTrigger: no instant, several, or one that has passed.
            UnknownCommand: nobody has a handler for its type; `known` lists those that have one.
            IdempotencyConflict: the key was used for another command.
        """
        body = scheduling(self._cqrs, command, execute_at, **options)
        answer = await self._write("command.schedule", body, idempotency_key, correlation_id)
        id_: str = answer["id"]
        return id_

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the wire's name
        """Withdraw a command; False if it is unknown, has begun, or has ended."""
        answer = await self._write("command.cancel", {"id": id})
        return bool(answer["cancelled"])

    async def get(self, id: str) -> ScheduledCommand:  # noqa: A002 - the wire's name
        """A scheduled command, its model restored, where it stands and what came of it.

        Raises:
            CommandNotFound: there is none of this id.
        """
        body: Json = {"id": id}
        if self._written is not None:
            body["min_position"] = str(self._written)
        return restored(self._cqrs, await self.query("command.get", body))

    async def due_at(self, now: datetime, limit: int) -> list[ScheduledCommand]:
        """The commands that are due at an instant and not yet handed out, soonest first."""
        asked: Json = {"type": "command", "status": "active", "next_to": now, "limit": limit}
        asked |= {"sort": "next_run"}
        if self._written is not None:
            asked["min_position"] = str(self._written)
        listed = await self.query("schedule.list", asked)
        return [await self.get(each["id"]) for each in listed["schedules"]]

    async def _write(
        self, name: str, body: Json, key: str | None = None, correlation_id: str | None = None
    ) -> Json:
        answer = await self.command(name, body, key=key, correlation_id=correlation_id)
        position = parse_position(answer["position"])
        if self._written is None or not position.reached_by(self._written):
            self._written = position
        return answer


def scheduling(
    cqrs: Cqrs,
    command: BaseModel,
    execute_at: datetime | str | None = None,
    *,
    at: datetime | str | None = None,
    after: str | float | timedelta | None = None,
    **options: Any,
) -> Json:
    """The body of a request that schedules a command.

    Raises:
        InvalidTrigger: both `execute_at` and `at`.
        InvalidField: the command is no model, or would not come back as it is.
    """
    if not isinstance(command, BaseModel):
        raise InvalidField("a command is a pydantic model", field="command", value=command)
    if execute_at is not None and at is not None:
        raise InvalidTrigger("execute_at and at are the same: give one", field="at", value=at)
    told: Json = {"command": cqrs.name_of(type(command)), "data": dump(command)}
    when: Json = {"at": execute_at if at is None else at, "after": after}
    return told | {name: value for name, value in (when | options).items() if value is not None}


def restored(cqrs: Cqrs, answer: Json) -> ScheduledCommand:
    """A command as Python has it, of the wire's answer."""
    told = {
        each.name: answer[each.name] for each in fields(ScheduledCommand) if each.name in answer
    }
    instants = {
        name: parse_instant(answer[name], field=name) for name in ("execute_at", "scheduled_at")
    }
    command = cqrs.restore(answer["command"], answer["data"])
    return ScheduledCommand(**(told | instants | {"type": answer["command"], "command": command}))
