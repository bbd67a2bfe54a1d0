"""The partition's ledger: for each schedule one line of what was decided and what still runs.

A line is a fold of the schedule's events and of its executions' events; `horae_domain.decider`
decides on it. The store keeps a packed form of each line beside the events, written in the same
transaction, so that a new owner of a partition begins with lines instead of with history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from horae_domain import execution as executions
from horae_domain import schedule as schedules
from horae_domain.definition import Definition, OnceTrigger, Overlap
from horae_domain.events import (
    Event,
    ExecutionEvent,
    ExecutionRequested,
    ExecutionSkipped,
    ExecutionSucceeded,
    OccurrencesDecided,
    ScheduleCancelled,
    ScheduleCompleted,
    ScheduleCreated,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.execution import Execution
from horae_domain.occurrences import first_bound
from horae_domain.schedule import Schedule, Status

SINGLE_SKIPS = 10
"""Overlap skips behind unfinished runs that are recorded one by one; further ones as a range."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule's line: what is decided and what is alive."""

    schedule: Schedule
    through: datetime
    """Every occurrence due at or before it has its decision."""
    next_due: datetime | None
    fired: int = 0
    """Occurrences fired in this incarnation; what `max_executions` counts."""
    failures: int = 0
    """Executions that ended without success since the last that succeeded."""
    skips: int = 0
    """Overlap skips recorded one by one since something fired or ended."""
    cooldown_until: datetime | None = None
    live: dict[str, Execution] = {}

    @property
    def definition(self) -> Definition:
        """The definition that decides from now on."""
        return self.schedule.definition

    def definition_of(self, execution: Execution) -> Definition:
        """The definition that an execution runs by."""
        return self.schedule.definitions.get(execution.revision, self.definition)

    @property
    def active(self) -> bool:
        """True unless it is paused or has ended."""
        return self.schedule.status is Status.ACTIVE

    @property
    def blocked(self) -> bool:
        """True if an occurrence that came due now would be skipped for an unfinished run."""
        limit = self.definition.limit
        overlap = self.definition.overlap
        return overlap is Overlap.SKIP and limit is not None and len(self.live) >= limit

    @property
    def waits_for_run(self) -> bool:
        """True if further overlap skips need no owner until a run ends."""
        return self.blocked and self.skips >= SINGLE_SKIPS

    @property
    def wake(self) -> datetime | None:
        """When the line next needs its owner, if nobody says anything before."""
        return self.wake_unless_ready(None)

    def wake_unless_ready(self, now: datetime | None) -> datetime | None:
        """The same, leaving out runs that wait for nothing but a worker."""
        moments = [
            moment
            for run in self.live.values()
            if (moment := run.wake) is not None and not (now is not None and run.ready(now))
        ]
        if self.active and self.next_due is not None and not self.waits_for_run:
            moments.append(self.next_due)
        return min(moments, default=None)

    def fires_by(self, now: datetime) -> bool:
        """True if something is due that has no decision."""
        return self.active and self.next_due is not None and self.next_due <= now

    @property
    def unsettled(self) -> bool:
        """True if a new owner has to look at it at once: work is out or waits for a worker."""
        return any(run.status is not executions.Status.DELAYED for run in self.live.values())

    @property
    def settled(self) -> bool:
        """True if it needs no line any more."""
        return self.schedule.status.ended and not self.live

    def may_start(self, execution: Execution) -> bool:
        """True unless as many executions run as the schedule allows at once."""
        limit = self.definition_of(execution).limit
        if limit is None or len(self.live) <= limit:
            return True
        running = sum(run.status is executions.Status.RUNNING for run in self.live.values())
        return running < limit


# --- fold ----------------------------------------------------------------------------------------


def evolve(line: Line | None, event: Event) -> Line | None:
    """The line after an event of its schedule or of one of its executions."""
    if isinstance(event, ExecutionEvent):
        return None if line is None else _evolve_execution(line, event)
    schedule = schedules.evolve(line.schedule if line else None, event)
    if schedule is None:
        return None
    if line is None or isinstance(event, ScheduleCreated):
        return Line(
            schedule=schedule,
            through=first_bound(schedule.definition, event.at),
            next_due=schedule.next_due,
            live=line.live if line else {},
        )
    changes = _schedule_changes(line, schedule, event)
    return msgspec.structs.replace(line, schedule=schedule, **changes)


def _bound(line: Line, schedule: Schedule, at: datetime) -> datetime:
    """What a change at `at` leaves decided: never less than before, though a clock went back.

    Except that a new once trigger may be due at the very instant at which the former trigger was.
    """
    bound = first_bound(schedule.definition, at)
    trigger = schedule.definition.trigger
    if isinstance(trigger, OnceTrigger) and trigger != line.definition.trigger:
        return bound
    return max(line.through, bound)


def _schedule_changes(line: Line, schedule: Schedule, event: Event) -> dict[str, Any]:
    match event:
        case ScheduleUpdated():
            through = _bound(line, schedule, event.at)
            return {"through": through, "next_due": event.next_due, "skips": 0}
        case ScheduleResumed():
            return {"through": _bound(line, schedule, event.at), "next_due": event.next_due}
        case OccurrencesDecided():
            return {"through": max(line.through, event.last), "next_due": event.next_due}
        case ScheduleCompleted() | ScheduleCancelled() | ScheduleQuarantined():
            return {"next_due": None}
        case _:
            return {}


def _evolve_execution(line: Line, event: ExecutionEvent) -> Line:
    run = executions.evolve(line.live.get(event.execution_id), event)
    if run is None:
        return line
    live = dict(line.live)
    if run.status.alive:
        live[run.id] = run
    else:
        live.pop(run.id, None)
    return msgspec.structs.replace(line, live=live, **_execution_changes(line, event, run))


def _execution_changes(line: Line, event: ExecutionEvent, run: Execution) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    match event:
        case ExecutionRequested() if event.kind != "key":
            changes = {"fired": line.fired + 1, "skips": 0, **_decided(line, event)}
            cooldown = line.definition.cooldown
            if cooldown is not None:
                changes["cooldown_until"] = event.at + cooldown
        case ExecutionSkipped() if event.kind != "key":
            changes = {"skips": line.skips + (event.reason == "overlap"), **_decided(line, event)}
        case ExecutionSucceeded():
            changes = {"failures": 0, "skips": 0}
            if event.cooldown_until is not None:
                changes["cooldown_until"] = event.cooldown_until
        case _ if not run.status.alive:
            failed = run.status in {executions.Status.FAILED, executions.Status.TIMED_OUT}
            changes = {"failures": line.failures + failed, "skips": 0}
    return changes


def _decided(line: Line, event: ExecutionRequested | ExecutionSkipped) -> dict[str, Any]:
    return {"through": max(line.through, event.due), "next_due": event.next_due}


def evolve_handed_over(
    line: Line, requested: ExecutionRequested, worker: str
) -> tuple[ExecutionRequested, Line]:
    """A decision of the same commit with its first attempt given to a worker of this process."""
    run = line.live[requested.execution_id]
    handed = executions.handed_over(requested, line.definition_of(run), worker)
    run = executions.evolve(None, handed) or run
    return handed, msgspec.structs.replace(line, live=line.live | {run.id: run})


# --- packed form ---------------------------------------------------------------------------------


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """What a line knows beyond the schedule's own events; executions by their ids."""

    through: datetime
    next_due: datetime | None
    fired: int
    failures: int
    skips: int
    cooldown_until: datetime | None
    live: list[str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Packed).decode


def pack(line: Line) -> bytes:
    """The stored form of a line; empty while the schedule's events say all."""
    if _is_fresh(line):
        return b""
    return _encode(
        Packed(
            line.through,
            line.next_due,
            line.fired,
            line.failures,
            line.skips,
            line.cooldown_until,
            list(line.live),
        )
    )


def live_ids(state: bytes) -> list[str]:
    """The executions whose events are needed to unpack a line."""
    return _decode(state).live if state else []


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
        not (line.live or line.fired or line.failures or line.skips or line.cooldown_until)
        and line.through == first_bound(schedule.definition, schedule.created_at)
        and line.next_due == schedule.next_due
    )


def fold(events: Iterable[Event]) -> Line | None:
    """The line of a schedule from all events of it and of its executions, in order of position."""
    line: Line | None = None
    for event in events:
        line = evolve(line, event)
    return line
