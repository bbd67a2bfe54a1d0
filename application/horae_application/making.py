"""One attempt of a `schedule` action: a schedule is made from a template (T5)."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from horae_application.result import Result
from horae_application.work import Work
from horae_domain.errors import (
    Conflict,
    HoraeError,
    IdempotencyConflict,
    InvalidField,
    ScheduleExists,
    UnknownCommand,
    UnknownHandler,
)
from horae_domain.instants import format_instant
from horae_domain.templates import fill, made_id


async def make(client: Any, work: Work) -> Result:
    """Make the schedule; one id is made once by a template, however often it is wanted.

    Args:
        client: the engine's commands, of the run's tenant and in its name.
        work: the attempt.
    """
    try:
        definition = definition_of(work)
        answer = await client.command("schedule.create", definition, key=key_of(work, definition))
    except IdempotencyConflict:
        message = "this template has made a schedule of this id with other content"
        return _failed(ScheduleExists(message, field="id"))
    except HoraeError as error:
        return _failed(error)
    return Result.done({name: answer[name] for name in ("id", "revision", "status")})


def definition_of(work: Work) -> dict[str, Any]:
    """What the template makes of the values of the run.

    Raises:
        InvalidField: a value that it wants is not there.
    """
    definition = fill(work.action["template"], known_of(work))
    return {"id": made_id(work.schedule_id, work.execution_id)} | definition


def known_of(work: Work) -> Mapping[str, Any]:
    """What the places of a template are filled from."""
    return {
        "trigger": {"data": work.payload} | work.trigger,
        "payload": work.payload,
        "result": work.results.get("action", work.results),
        "execution_id": work.execution_id,
        "schedule_id": work.schedule_id,
        "due": format_instant(work.due),
    }


def key_of(work: Work, definition: Mapping[str, Any]) -> str:
    """The idempotency key under which a schedule's templates make one of an id."""
    named = f"{work.schedule_id}/{work.stage}/{definition['id']}".encode()
    return f"template:{blake2b(named, digest_size=16).hexdigest()}"


def _failed(error: HoraeError) -> Result:
    """Refused for good, unless somebody may come to serve what it names."""
    waits = isinstance(error, UnknownHandler | UnknownCommand)
    final = isinstance(error, InvalidField | Conflict) and not waits
    return Result.failed(error.message, type=type(error).__name__, final=final)
