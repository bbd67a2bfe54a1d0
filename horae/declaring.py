"""What an application does at its start to have the engine know the schedules of its code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from hashlib import blake2b

from horae.client import Client, Json
from horae_application.log import get_logger
from horae_application.registry import Registry
from horae_domain.actions import FunctionAction
from horae_domain.definition import Definition, parse_definition
from horae_domain.errors import (
    IdempotencyConflict,
    IllegalState,
    Internal,
    InvalidField,
    InvalidTrigger,
    ScheduleExists,
    ScheduleNotFound,
    TooManyRequests,
    Unavailable,
)
from horae_domain.positions import Position, parse_position
from horae_domain.stages import deeds
from horae_domain.triggers import ConditionTrigger

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds until what could not be declared is declared again; each time twice as long."""

_log = get_logger("horae")


async def declare(client: Client, schedules: Mapping[str, Json]) -> str | None:
    """Make the schedules of an application, or bring them up to date; the position reached.

    A pause survives. One that has ended stays so until its definition changes: the creation has a
    key that is a function of the definition, so that the same one is not made twice.

    Raises:
        InvalidField: a definition is refused; the message begins with the schedule's id.
    """
    positions: list[Position] = []
    for id_, definition in schedules.items():
        body = {**definition, "allow_unknown": True}  # who declares a function serves it
        try:
            with suppress(ScheduleNotFound, IllegalState):
                answer = await client.command("schedule.update", body)
                positions.append(parse_position(answer["position"]))
            with suppress(IdempotencyConflict):  # the same definition, as another client writes it
                key = declaration_key(definition)
                answer = await client.command("schedule.create", body, key=key)
                positions.append(parse_position(answer["position"]))
        except InvalidTrigger as error:  # an instant that has passed since it was written
            _log.warning("schedule not made", schedule_id=id_, reason=str(error))
        except InvalidField as error:
            raise _of(error, id_) from error
    return str(max(positions, key=lambda each: each.number)) if positions else None


async def insist(once: Callable[[], Awaitable[None]]) -> None:
    """Declare at an engine elsewhere, again and again while none can, more and more rarely.

    One that exists though it did not just now is being declared by another process as well.

    Raises:
        HoraeError: any other refusal.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            return await once()
        except (Unavailable, TooManyRequests, Internal, ScheduleExists) as error:
            _log.warning("schedules not declared yet", reason=str(error), again_in=pause)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def warn_of_unserved(schedules: Mapping[str, Json], registry: Registry) -> None:
    """Name the handlers, conditions and checks that schedules ask for and this process has not.

    Executors elsewhere may have them. Otherwise their runs wait for ever.
    """
    for id_, definition in schedules.items():
        for path, name in _named(parse_definition(definition), registry):
            _log.warning("handler not served here", schedule_id=id_, field=path, handler=name)


def _named(definition: Definition, registry: Registry) -> Iterator[tuple[str, str]]:
    """What of a definition is not in the registry, each with its path."""
    for path, deed in deeds(definition):
        if isinstance(deed, FunctionAction) and registry.get(deed.name) is None:
            yield path, deed.name
    checks = [("requires", name) for name in definition.requires]
    if isinstance(definition.trigger, ConditionTrigger):
        checks.append(("trigger.check", definition.trigger.check))
    known = set(registry.checks.names())
    yield from ((path, name) for path, name in checks if name not in known)


def _of(error: InvalidField, id_: str) -> InvalidField:
    """The same refusal, naming the schedule and the field that it is about."""
    told = copy(error)
    where = f"{error.field}: " if error.field else ""
    message = error.message.removeprefix(where)
    told.message = f"schedule {id_!r}: {where}{message}"
    return told


def declaration_key(definition: Json) -> str:
    """The idempotency key under which an application makes a schedule."""
    digest = blake2b(json.dumps(definition, sort_keys=True).encode(), digest_size=16)
    return f"declared:{definition['id']}:{digest.hexdigest()}"
