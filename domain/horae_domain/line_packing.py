"""The form in which the store keeps a line, without what the schedule's own events say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from horae_domain.backfills import Backfill
from horae_domain.events import HistoryErased
from horae_domain.execution import Execution
from horae_domain.line import Checked, Line
from horae_domain.occurrences import first_bound
from horae_domain.plans import Plan
from horae_domain.schedule import Schedule


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """What a line knows beyond the schedule's own events; executions by their ids."""

    through: datetime
    next_due: datetime | None
    fired: int
    failures: int
    skips: int
    cooldown_until: datetime | None
    live: list[str]
    parked: list[str] = []
    plans: dict[str, Plan] = {}
    backfills: dict[str, Backfill] = {}
    checked: Checked | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Packed).decode


def pack(line: Line) -> bytes:
    """The stored form of a line; empty while the schedule's events say all."""
    if _is_fresh(line):
        return b""
    return _encode(_packed(line, list(line.live), list(line.parked)))


def told_of(event: HistoryErased) -> Packed:
    """What an event says of the line."""
    return msgspec.convert(event.line, Packed)


def facts_of(line: Line) -> list[Any]:
    """The packed form as JSON values, without what is alive."""
    facts: list[Any] = msgspec.to_builtins(_packed(line, [], []))
    return facts


def _packed(line: Line, live: list[str], parked: list[str]) -> Packed:
    return Packed(
        line.through,
        line.next_due,
        line.fired,
        line.failures,
        line.skips,
        line.cooldown_until,
        live,
        parked,
        line.plans,
        line.backfills,
        line.checked,
    )


def live_ids(state: bytes) -> list[str]:
    """The executions whose events are needed to unpack a line."""
    if not state:
        return []
    packed = _decode(state)
    return [*packed.live, *packed.parked]


def unpack(state: bytes, schedule: Schedule, live: Mapping[str, Execution]) -> Line:
    """The line of a stored form."""
    if not state:
        return fresh(schedule)
    packed = _decode(state)
    return Line(
        schedule=schedule,
        through=packed.through,
        next_due=packed.next_due,
        fired=packed.fired,
        failures=packed.failures,
        skips=packed.skips,
        cooldown_until=packed.cooldown_until,
        live={each: live[each] for each in packed.live},
        parked={each: live[each] for each in packed.parked},
        plans=packed.plans,
        backfills=packed.backfills,
        checked=packed.checked,
    )


def fresh(schedule: Schedule) -> Line:
    """The line of a schedule of which nothing has been decided."""
    return Line(
        schedule=schedule,
        through=first_bound(schedule.definition, schedule.created_at),
        next_due=schedule.next_due,
    )


def _is_fresh(line: Line) -> bool:
    schedule = line.schedule
    return (
        not (
            line.live
            or line.parked
            or line.fired
            or line.failures
            or line.skips
            or line.cooldown_until
            or line.plans
            or line.backfills
            or line.checked
        )
        and line.through == first_bound(schedule.definition, schedule.created_at)
        and line.next_due == schedule.next_due
    )
