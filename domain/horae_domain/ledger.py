"""The partition's ledger: for each schedule one line of what was decided and what still runs.

A line is a fold of the schedule's events and of its executions' events; `horae_domain.decider`
decides on it. The store keeps a packed form of each line beside the events, written in the same
transaction, so that a new owner of a partition begins with lines instead of with history.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from horae_domain import backfills, plans
from horae_domain import execution as executions
from horae_domain import schedule as schedules
from horae_domain.events import (
    Event,
    ExecutionBuffered,
    ExecutionChecking,
    ExecutionEvent,
    ExecutionHeld,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionSkipped,
    ExecutionSucceeded,
    HistoryErased,
    OccurrenceApproved,
    OccurrenceEvent,
    OccurrencesDecided,
    OccurrenceSkipped,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
    ScheduleCancelled,
    ScheduleChecked,
    ScheduleCompleted,
    ScheduleCreated,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.execution import Execution
from horae_domain.line import (
    BUFFER,
    CROWDED,
    OFF_CALENDAR,
    SINGLE_SKIPS,
    UNPLANNED,
    UNTIMED,
    Checked,
    Line,
    payload_for,
)
from horae_domain.line_packing import Packed, facts_of, fresh, live_ids, pack, told_of, unpack
from horae_domain.occurrences import first_bound
from horae_domain.schedule import Schedule
from horae_domain.triggers import OnceTrigger

__all__ = [
    "BUFFER",
    "CROWDED",
    "OFF_CALENDAR",
    "SINGLE_SKIPS",
    "UNPLANNED",
    "UNTIMED",
    "Checked",
    "Line",
    "Packed",
    "evolve",
    "evolve_handed_over",
    "facts_of",
    "fold",
    "fresh",
    "live_ids",
    "pack",
    "payload_for",
    "told_of",
    "unpack",
]

Born = ExecutionRequested | ExecutionBuffered | ExecutionChecking | ExecutionSkipped
"""How an occurrence begins that is of no calendar."""


def evolve(line: Line | None, event: Event, back: Execution | None = None) -> Line | None:
    """The line after an event of its schedule or of one of its executions.

    Where the event brings an execution back to it, `back` is that one after it, if it is known.
    """
    if isinstance(event, ExecutionEvent):
        return None if line is None else _evolve_execution(line, event, back)
    if isinstance(event, HistoryErased):
        return None if line is None else _recalled(line, event)
    schedule = schedules.evolve(line.schedule if line else None, event)
    if schedule is None:
        return None
    if line is None or isinstance(event, ScheduleCreated):
        return Line(
            schedule=schedule,
            through=first_bound(schedule.definition, event.at),
            next_due=schedule.next_due,
            live=line.live if line else {},
            parked=line.parked if line else {},
        )
    changes = _schedule_changes(line, schedule, event)
    return msgspec.structs.replace(line, schedule=schedule, **changes)


def _checked(line: Line, event: ScheduleChecked) -> dict[str, Any]:
    holds = event.outcome == "held"
    if event.outcome == "failed":
        holds = line.checked is not None and line.checked.holds
    failure = None if event.error is None else str(event.error.get("message", ""))
    return {"checked": Checked(holds, failure), "through": max(line.through, event.tick)}


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
            due = None if _spent(line, schedule) else event.next_due
            same = schedule.definition.trigger == line.definition.trigger
            told = {"skips": 0, "checked": line.checked if same else None}
            bound = event.through or _bound(line, schedule, event.at)
            return told | _passed(line, bound, due)
        case ScheduleResumed():
            due = None if _spent(line, schedule) else event.next_due
            bound = event.through or _bound(line, schedule, event.at)
            return {"failures": 0, **_passed(line, bound, due)}
        case ScheduleBackfillStarted() | ScheduleBackfillCompleted():
            return {"backfills": backfills.followed(line.backfills, event)}
        case OccurrencesDecided() if event.backfill_id is not None:
            return {"backfills": backfills.followed(line.backfills, event)}
        case OccurrencesDecided() if event.nominal is not None:
            return _decided(line, event.nominal, event.last, event)
        case OccurrencesDecided():
            return _passed(line, max(line.through, event.last), event.next_due)
        case OccurrenceEvent():
            return _planned(line, event)
        case ScheduleChecked():
            return _checked(line, event)
        case _:
            return _ending_changes(event)


def _ending_changes(event: Event) -> dict[str, Any]:
    match event:
        case ScheduleQuarantined():
            return {"next_due": None, "plans": {}, "backfills": {}}
        case ScheduleCompleted() | ScheduleCancelled():
            return {"next_due": None, "plans": {}}
        case _:
            return {}


def _evolve_execution(line: Line, event: ExecutionEvent, back: Execution | None) -> Line:
    run = back or executions.evolve(line.find(event.execution_id), event)
    if run is None:
        failed = isinstance(event, executions.FAILURES)  # it waited, and no line holds what waits
        return msgspec.structs.replace(line, failures=line.failures + 1) if failed else line
    parked = run.status.parked
    return msgspec.structs.replace(
        line,
        live=_placed(line.live, run, there=run.status.fired and not run.aside),
        parked=_placed(line.parked, run, there=parked),
        **(
            _untimed_changes(line, event)
            if run.kind in UNTIMED and isinstance(event, Born)
            else _execution_changes(line, event, run)
        ),
    )


def _placed(runs: dict[str, Execution], run: Execution, *, there: bool) -> dict[str, Execution]:
    if there:
        return runs | {run.id: run}
    if run.id not in runs:
        return runs
    rest = dict(runs)
    del rest[run.id]
    return rest


def _untimed_changes(line: Line, event: Born) -> dict[str, Any]:
    """The calendar goes on as it was; a tick that was decided is not asked again."""
    changes = _fired(line, event.at) if isinstance(event, ExecutionRequested) else {}
    if event.kind == "condition":
        changes["through"] = max(line.through, event.due)
    return changes


def _execution_changes(line: Line, event: ExecutionEvent, run: Execution) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    match event:
        case ExecutionRequested() if event.backfill_id is not None:
            changes = {"backfills": backfills.followed(line.backfills, event)}
        case ExecutionRequested() if event.kind not in OFF_CALENDAR:
            changes = _fired(line, event.at) | _decided(line, event.nominal, event.due, event)
        case ExecutionReleased() if run.kind != "key":
            changes = _fired(line, event.at) | {"next_due": event.next_due}
        case ExecutionBuffered() | ExecutionChecking() if event.kind != "key":
            changes = {"skips": 0, **_decided(line, event.nominal, event.due, event)}
        case ExecutionHeld():
            changes = _decided(line, event.nominal, event.due, event)
        case ExecutionSkipped() if event.kind != "key":
            changes = _decided(line, event.nominal, event.due, event)
            changes["skips"] = line.skips + (event.reason in CROWDED)
        case ExecutionSucceeded():
            changes = {"failures": 0, "skips": 0}
            if event.cooldown_until is not None:
                changes["cooldown_until"] = event.cooldown_until
        case _ if not (run.status.alive or isinstance(event, ExecutionSkipped)):
            failed = run.status in _UNSUCCESSFUL
            changes = {"failures": line.failures + failed, "skips": 0}
    return changes


_UNSUCCESSFUL = {executions.Status.FAILED, executions.Status.TIMED_OUT, executions.Status.DEAD}


def _fired(line: Line, at: datetime) -> dict[str, Any]:
    changes: dict[str, Any] = {"fired": line.fired + 1, "skips": 0}
    cooldown = line.definition.rest
    return changes if cooldown is None else changes | {"cooldown_until": at + cooldown}


def _spent(line: Line, schedule: Schedule) -> bool:
    """Nothing of the calendar fires any more, though something else may keep the schedule open."""
    return msgspec.structs.replace(line, schedule=schedule).spent


Decided = (
    ExecutionRequested
    | ExecutionBuffered
    | ExecutionChecking
    | ExecutionSkipped
    | ExecutionHeld
    | OccurrencesDecided
)


def _decided(line: Line, nominal: str, due: datetime, event: Decided) -> dict[str, Any]:
    """One occurrence has its decision; what was moved says nothing of those around its instant."""
    if not line.plans:
        return {"through": max(line.through, due), "next_due": event.next_due}
    plan = line.plans.get(nominal)
    line = msgspec.structs.replace(line, plans=plans.decided(line.plans, nominal))
    elsewhere = plan is not None and plan.away
    through = line.through if elsewhere else max(line.through, due)
    return _passed(line, through, event.next_due)


def _passed(line: Line, through: datetime, next_due: datetime | None) -> dict[str, Any]:
    """Every instant up to `through` is behind the line."""
    changes: dict[str, Any] = {"through": through, "next_due": next_due}
    if line.plans:
        changes["plans"] = plans.kept(line.plans, through)
    return changes


def _planned(line: Line, event: OccurrenceEvent) -> dict[str, Any]:
    if isinstance(event, OccurrenceSkipped | OccurrenceApproved) and event.execution_id:
        return {}
    return {"plans": plans.planned(line.plans, event), "next_due": event.next_due}


def evolve_handed_over(
    line: Line, requested: ExecutionRequested, worker: str
) -> tuple[ExecutionRequested, Line]:
    """A decision of the same commit with its first attempt given to a worker of this process."""
    run = line.live[requested.execution_id]
    handed = executions.handed_over(requested, line.definition_of(run), worker)
    run = executions.evolve(None, handed) or run
    return handed, msgspec.structs.replace(line, live=line.live | {run.id: run})


def _recalled(line: Line, event: HistoryErased) -> Line:
    """What the line was when executions were erased: folded without them, it is another."""
    if event.incarnation != line.schedule.incarnation:
        return line
    told = told_of(event)
    return msgspec.structs.replace(
        line,
        through=told.through,
        next_due=told.next_due,
        fired=told.fired,
        failures=told.failures,
        skips=told.skips,
        cooldown_until=told.cooldown_until,
        plans=told.plans,
        backfills=told.backfills,
        checked=told.checked,
    )


def fold(events: Iterable[Event]) -> Line | None:
    """The line of a schedule from all events of it and of its executions, in order of position."""
    line: Line | None = None
    for event in events:
        line = evolve(line, event)
    return line
