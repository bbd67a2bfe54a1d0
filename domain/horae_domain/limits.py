"""The limits of a queue, or of a tenant: how much runs at once, how much begins in a while (G4).

A queue is there as soon as something is put into it: what has never been limited or paused has the
state of the beginning. What waits because of a limit stays with its owner; no event says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, NamedTuple, assert_never

import msgspec

from horae_domain.durations import format_duration, parse_duration
from horae_domain.errors import InvalidField
from horae_domain.events import (
    Event,
    LimitEvent,
    QueueLimited,
    QueuePaused,
    QueueResumed,
    TenantLimited,
)
from horae_domain.schedule import Cause

MAX_RATE = 1_000_000
"""The most attempts that a rate may name."""
SHORTEST, LONGEST = timedelta(milliseconds=100), timedelta(days=31)
"""The shortest and the longest time that a rate may name."""
_RATE = re.compile(r"\s*([0-9]{1,9})\s*(?:per|/)\s*(.+?)\s*")


GRAINS = 100
"""Into how many parts the time of a rate is divided; what has begun counts up to the end of one."""


def counts_until(at: int, per: int) -> int:
    """Up to when an attempt that begins at an instant counts for a rate, microseconds.

    Rounded up to a part of `per`, so that no store holds more than `GRAINS` + 1 numbers of a rate.
    """
    grain = -(-per // GRAINS)
    return -(-(at + per) // grain) * grain


class Rate(NamedTuple):
    """At most `most` attempts begin within any `per`."""

    most: int
    per: timedelta

    def __str__(self) -> str:
        return f"{self.most} per {format_duration(self.per)}"


def parse_rate(text: str, *, field: str) -> Rate:
    """Read a rate such as `100 per minute`, `5/s` or `20 per 30 seconds`.

    Raises:
        InvalidField: it is none, or out of bounds.
    """
    found = _RATE.fullmatch(text[:100])
    if found is None:
        raise InvalidField("a rate is as '100 per minute'", field=field, value=text)
    count, unit = int(found[1]), found[2]
    per = parse_duration(unit if unit[0].isdigit() else f"1 {unit}", field=field)
    return checked_rate(Rate(count, per), field=field)


def checked_rate(rate: Rate, *, field: str) -> Rate:
    """A rate within its bounds.

    Raises:
        InvalidField: it is not.
    """
    if not 1 <= rate.most <= MAX_RATE or not SHORTEST <= rate.per <= LONGEST:
        bounds = f"1 to {MAX_RATE} per {format_duration(SHORTEST)} to {format_duration(LONGEST)}"
        raise InvalidField(f"a rate is {bounds}", field=field, value=rate)
    return rate


# --- commands ------------------------------------------------------------------------------------


class SetLimits(NamedTuple):
    """Change those limits that are named; None lifts one."""

    changes: Mapping[str, Any]
    """`concurrency`, `rate` (a `Rate`), and `weight` of a tenant's."""
    cause: Cause


class PauseQueue(NamedTuple):
    """Let nothing begin until it is resumed."""

    note: str
    cause: Cause


class ResumeQueue(NamedTuple):
    """Let what waits begin."""

    note: str
    cause: Cause


LimitCommand = SetLimits | PauseQueue | ResumeQueue


# --- state ---------------------------------------------------------------------------------------


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What limits the executions of a queue; of all the tenant's if it is no queue's."""

    tenant: str
    queue: str | None
    concurrency: int | None = None
    rate: Rate | None = None
    paused: bool = False
    note: str = ""
    weight: int = 1
    """How many turns a tenant has where others have one."""
    version: int = 0

    @property
    def key(self) -> str:
        """What its use is counted under."""
        return use_key(self.tenant, self.queue)


def use_key(tenant: str, queue: str | None) -> str:
    """What the use of a queue, or of a tenant, is counted under."""
    return tenant if queue is None else f"{tenant}/{queue}"


# --- decide --------------------------------------------------------------------------------------


def decide(limits: Limits, command: LimitCommand) -> list[Event]:
    """The events of a command; none if it changes nothing."""
    match command:
        case SetLimits():
            return _limit(limits, command)
        case PauseQueue():
            if limits.paused:
                return []
            return [
                QueuePaused(
                    queue=limits.queue or "", note=command.note, **_about(limits, command.cause)
                )
            ]
        case ResumeQueue():
            if not limits.paused:
                return []
            return [
                QueueResumed(
                    queue=limits.queue or "", note=command.note, **_about(limits, command.cause)
                )
            ]
        case _:
            assert_never(command)


def _limit(limits: Limits, command: SetLimits) -> list[Event]:
    after = msgspec.structs.replace(limits, **command.changes)
    if after == limits:
        return []
    said = {
        "concurrency": after.concurrency,
        "rate": after.rate.most if after.rate else None,
        "per": after.rate.per.total_seconds() if after.rate else None,
        **_about(limits, command.cause),
    }
    if limits.queue is None:
        return [TenantLimited(weight=after.weight, **said)]
    return [QueueLimited(queue=limits.queue, **said)]


def _about(limits: Limits, cause: Cause) -> dict[str, Any]:
    return {
        "tenant": limits.tenant,
        "at": cause.at,
        "command_id": cause.command_id,
        "correlation_id": cause.correlation_id,
        "actor": cause.actor,
    }


# --- evolve --------------------------------------------------------------------------------------


def evolve(limits: Limits, event: Event) -> Limits:
    """The limits after an event of their stream."""
    if not isinstance(event, LimitEvent):
        return limits
    return msgspec.structs.replace(limits, version=limits.version + 1, **_changes(event))


def _changes(event: LimitEvent) -> dict[str, Any]:
    if isinstance(event, QueueLimited | TenantLimited):
        rate = None
        if event.rate is not None:
            rate = Rate(event.rate, timedelta(seconds=event.per or 0))
        told = {"concurrency": event.concurrency, "rate": rate}
        return told | {"weight": event.weight} if isinstance(event, TenantLimited) else told
    paused = isinstance(event, QueuePaused)
    return {"paused": paused, "note": event.note if isinstance(event, QueuePaused) else ""}
