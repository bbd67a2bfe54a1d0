"""`schedule.validate`: what creating a schedule would be refused for, and what to know before (G13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import ValidationError

from horae_application.dead_letters import Look
from horae_application.known import Known, unserved
from horae_application.messages import OK, Reply, ValidateSchedule
from horae_domain import schedule as schedules
from horae_domain.advice import Advice, advise, upcoming
from horae_domain.complaints import complaints
from horae_domain.definition import Definition, digest_of
from horae_domain.errors import HoraeError, ScheduleExists
from horae_domain.instants import format_instant
from horae_domain.recurrence import Occurrence
from horae_domain.triggers import CronTrigger, OutcomeTrigger
from horae_domain.zones import load_zone

SHOWN = 5
"""Instants to come that are told, and looked at for crowds."""
CROWD = 100
"""So many other schedules at the same instant are pointed out."""

_ENDED = {"completed", "cancelled", "failed"}


class Seen(NamedTuple):
    """What a definition is held against."""

    look: Look
    """Asks the views."""
    known: Known
    tenant: str
    head: str
    """The position that the views have to have reached."""
    now: datetime


async def validate(seen: Seen, asked: ValidateSchedule) -> Reply:
    """The answer; it changes nothing, and keeps nothing for whoever creates the schedule next."""
    try:
        definition = Definition.model_validate(asked.definition)
    except ValidationError as error:
        return _answer(asked.definition.get("id"), complaints(error), [])
    errors: list[HoraeError] = []
    warnings: list[Advice] = []
    coming: list[Occurrence] = []
    cause = schedules.Cause(seen.now)
    try:
        schedules.decide(None, schedules.CreateSchedule(seen.tenant, definition, cause))
    except HoraeError as error:
        errors.append(error)
    else:
        warnings += advise(definition, seen.now, seen.tenant)
        coming = upcoming(definition, seen.now, SHOWN, seen.tenant)
    for found in (
        await _served(seen, definition, allowed=asked.allow_unknown),
        *await _compared(seen, definition, coming),
    ):
        if isinstance(found, Advice):
            warnings.append(found)
        elif found is not None:
            errors.append(found)
    shown = [_shown(definition, each.falls) for each in coming]
    return _answer(definition.id, errors, warnings, shown)


def _answer(
    id_: object,
    errors: Sequence[HoraeError],
    warnings: Sequence[Advice],
    coming: Sequence[str] = (),
) -> Reply:
    body = {
        "ok": True,
        "id": id_,
        "valid": not errors,
        "errors": [each.to_json() for each in errors],
        "warnings": [each.to_json() for each in warnings],
        "next": list(coming),
    }
    return Reply(OK, body)


def _shown(definition: Definition, due: datetime) -> str:
    """An instant, with the offset of the schedule's zone."""
    trigger = definition.trigger
    if not isinstance(trigger, CronTrigger) or trigger.timezone == "UTC":
        return format_instant(due)
    return due.astimezone(load_zone(trigger.timezone)).isoformat()


async def _served(
    seen: Seen, definition: Definition, *, allowed: bool
) -> HoraeError | Advice | None:
    """Whether somebody does what it asks for."""
    unknown = (await unserved(seen.known, seen.tenant, {0: definition})).get(0)
    if unknown is not None and allowed:
        return Advice(unknown.code, unknown.field or "action", unknown.message)
    return unknown


async def _compared(
    seen: Seen, definition: Definition, coming: Sequence[Occurrence]
) -> list[HoraeError | Advice]:
    """How it stands among the schedules that exist."""
    try:
        crowds = [await _crowd(seen, format_instant(each.falls)) for each in coming]
        found = [await _existing(seen, definition), await _upstream(seen, definition), *crowds]
    except HoraeError as error:
        return [Advice("not_compared", "id", f"the views did not answer: {error.message}")]
    return [each for each in found if each is not None]


async def _existing(seen: Seen, definition: Definition) -> HoraeError | Advice | None:
    """What is to say of a schedule that has this id already."""
    found = await _digest(seen, definition.id)
    if found is None:
        return None
    if found["status"] in _ENDED:
        return Advice("begins_anew", "id", "the schedule of this id has ended and would begin anew")
    if found["digest"] == digest_of(definition.canonical()):
        return Advice("unchanged", "id", "it exists already, with the same content")
    return ScheduleExists(
        f"schedule {definition.id} exists with other content", field="id", value=definition.id
    )


async def _upstream(seen: Seen, definition: Definition) -> Advice | None:
    """Whether the schedule whose outcomes it waits for is there."""
    trigger = definition.trigger
    if not isinstance(trigger, OutcomeTrigger) or trigger.schedule == definition.id:
        return None
    found = await _digest(seen, trigger.schedule)
    if found is not None and found["status"] not in _ENDED:
        return None
    message = f"no schedule {trigger.schedule} is there that could fire it"
    return Advice("nothing_to_follow", "trigger.schedule", message)


async def _digest(seen: Seen, id_: str) -> Mapping[str, Any] | None:
    """What there is of a schedule, in short."""
    asked = {"ids": [id_], "min_position": seen.head}
    answer = await seen.look(seen.tenant, "schedule.digests", asked)
    return next(iter(answer["digests"]), None)


async def _crowd(seen: Seen, at: str) -> Advice | None:
    """Whether very many schedules are next due at an instant."""
    asked = {"status": "active,pending", "next_from": at, "next_to": at, "limit": 1}
    count = (await seen.look(seen.tenant, "schedule.list", asked))["total"]
    if count < CROWD:
        return None
    message = f"{count} schedules are due at the same instant"
    return Advice("crowded", "trigger", message, {"at": at, "count": count})
