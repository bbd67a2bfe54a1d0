"""The schedule: what somebody wants to happen, and whether it still should.

It changes when a person or a limit changes it, not at each firing; what fires and what runs is
the ledger's business (`horae_domain.ledger`). Times and identities arrive inside commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

import msgspec

from horae_domain.circles import deepened, depth_in, expect_room
from horae_domain.definition import Definition, restore_definition
from horae_domain.errors import (
    IllegalState,
    InvalidField,
    InvalidTrigger,
    RevisionConflict,
    ScheduleExists,
    ScheduleNotFound,
)
from horae_domain.events import (
    CommandScheduled,
    Event,
    OccurrenceEvent,
    OccurrencesDecided,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
    ScheduleCancelled,
    ScheduleChecked,
    ScheduleCompleted,
    ScheduleCreated,
    SchedulePaused,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleTripped,
    ScheduleUpdated,
)
from horae_domain.expressions import compile_expression
from horae_domain.instants import format_instant
from horae_domain.occurrences import anchor_of, first_bound, next_occurrence
from horae_domain.tracing import CAUSATION
from horae_domain.triggers import (
    AWAITED,
    CronTrigger,
    EventTrigger,
    IntervalTrigger,
    ManualTrigger,
    OnceTrigger,
    Trigger,
)
from horae_domain.zones import tzdata_version

FILTERED = frozenset({"data", "event"})
"""What a filter of events knows of one."""

# --- commands ------------------------------------------------------------------------------------


class Cause(NamedTuple):
    """When a command is decided, and on whose word."""

    at: datetime
    command_id: str | None = None
    correlation_id: str | None = None
    actor: str | None = None
    traceparent: str | None = None
    carried: Mapping[str, str] = {}
    """What travels with the trace context, see `horae_domain.tracing`."""


class CreateSchedule(NamedTuple):
    """Begin a schedule, or begin it again after its end."""

    tenant: str
    definition: Definition
    cause: Cause


class UpdateSchedule(NamedTuple):
    """Replace the whole definition; `expected_revision` guards against a lost update."""

    definition: Definition
    expected_revision: int | None
    cause: Cause


class PauseSchedule(NamedTuple):
    """Fire nothing until resumed."""

    note: str
    cause: Cause


class ResumeSchedule(NamedTuple):
    """Fire again, what was due in between is decided as skipped."""

    note: str
    cause: Cause


class CancelSchedule(NamedTuple):
    """End it."""

    note: str
    cause: Cause


ScheduleCommand = CreateSchedule | UpdateSchedule | PauseSchedule | ResumeSchedule | CancelSchedule

# --- state ---------------------------------------------------------------------------------------


class Status(StrEnum):
    """Where a schedule stands; `pending` (before `start_at`) is shown, not stored."""

    PENDING = "pending"
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"

    ended: bool
    """True if it never fires again unless it is made anew."""

    def __init__(self, value: str) -> None:
        self.ended = value in {"completed", "cancelled", "failed"}


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as its own events tell it."""

    tenant: str
    id: str
    incarnation: int
    revision: int
    definition: Definition
    definitions: dict[int, Definition]
    """By revision, since an execution runs by the revision that decided it."""
    status: Status
    anchor: datetime
    created_at: datetime
    changed_at: datetime
    next_due: datetime | None
    created_by: str | None = None
    note: str = ""
    version: int = 0
    """How many events its stream has."""
    correlation_id: str | None = None
    """What its runs belong to; of a scheduled command, that of whoever scheduled it."""
    traceparent: str | None = None
    """The trace context of the same."""
    carried: dict[str, str] = {}

    @property
    def listens_for_runs(self) -> bool:
        """True if external events may cancel or confirm its executions, by some revision."""
        definitions = self.definitions.values()
        return any(each.cancel_on or each.wait_for for each in definitions)

    @property
    def delays(self) -> bool:
        """True if executions of it may wait for some time after the event that they are of."""
        triggers = [each.trigger for each in self.definitions.values()]
        return any(isinstance(each, EventTrigger) and each.delay for each in triggers)


# --- decide --------------------------------------------------------------------------------------


def decide(schedule: Schedule | None, command: ScheduleCommand) -> list[Event]:
    """The events of a command, none if its effect already holds.

    Raises:
        ScheduleExists, ScheduleNotFound, IllegalState, RevisionConflict, InvalidTrigger.
    """
    match command:
        case CreateSchedule():
            return _create(schedule, command)
        case UpdateSchedule():
            return _update(require_running(schedule), command)
        case PauseSchedule():
            existing = require_running(schedule)
            if existing.status is Status.PAUSED:
                return []
            return [SchedulePaused(note=command.note, **_about(existing, command.cause))]
        case ResumeSchedule():
            return _resume(require_running(schedule), command)
        case CancelSchedule():
            existing = require(schedule)
            if existing.status is Status.CANCELLED:
                return []
            require_running(existing)
            return [ScheduleCancelled(note=command.note, **_about(existing, command.cause))]
        case _:
            assert_never(command)


def require(schedule: Schedule | None) -> Schedule:
    """The schedule, or ScheduleNotFound."""
    if schedule is None:
        raise ScheduleNotFound("no such schedule", field="id")
    return schedule


def require_running(schedule: Schedule | None) -> Schedule:
    """The schedule, unless it has ended.

    Raises:
        ScheduleNotFound, IllegalState: there is none, or it has.
    """
    existing = require(schedule)
    if existing.status.ended:
        raise IllegalState(
            f"schedule {existing.id} is {existing.status}", field="id", state=str(existing.status)
        )
    return existing


def _about(schedule: Schedule, cause: Cause) -> dict[str, Any]:
    return about(schedule.tenant, schedule.id, cause)


def about(tenant: str, schedule_id: str, cause: Cause) -> dict[str, Any]:
    """The fields that all events of one decision share."""
    return {
        "tenant": tenant,
        "schedule_id": schedule_id,
        "at": cause.at,
        "command_id": cause.command_id,
        "correlation_id": cause.correlation_id,
        "actor": cause.actor,
    }


def _create(schedule: Schedule | None, command: CreateSchedule) -> list[Event]:
    definition, cause = command.definition, command.cause
    if schedule is not None and not schedule.status.ended:
        if schedule.definition.canonical() == definition.canonical():
            return []
        raise ScheduleExists(
            f"schedule {definition.id} exists with other content", field="id", value=definition.id
        )
    depth = depth_in(cause.carried)
    expect_room(depth)
    anchor = anchor_of(definition, cause.at)
    created = ScheduleCreated(
        definition=definition.canonical(),
        incarnation=schedule.incarnation + 1 if schedule else 1,
        revision=schedule.revision + 1 if schedule else 1,
        anchor=anchor,
        next_due=_first_due(
            definition, anchor, cause.at, first_bound(definition, cause.at), command.tenant
        ),
        tzdata=tzdata_version(),
        causation_id=cause.carried.get(CAUSATION),
        depth=depth,
        **about(command.tenant, definition.id, cause),
    )
    if definition.enabled:
        return [created]
    paused = SchedulePaused(note="created disabled", **about(command.tenant, definition.id, cause))
    return [created, paused]


def _first_due(
    definition: Definition, anchor: datetime, at: datetime, after: datetime, tenant: str
) -> datetime | None:
    if not isinstance(definition.trigger, (CronTrigger, IntervalTrigger)):
        _expect_possible(definition.trigger, at)
        open_ = definition.end_at is None or at <= definition.end_at
        if isinstance(definition.trigger, ManualTrigger) or (
            open_ and isinstance(definition.trigger, AWAITED)
        ):
            return None
    occurrence = next_occurrence(definition, anchor, after, tenant=tenant)
    if occurrence is None:
        raise _never(definition, anchor, after, tenant)
    return occurrence.falls


def _expect_possible(trigger: Trigger, at: datetime) -> None:
    """See what only the decision can judge of a trigger.

    Raises:
        InvalidTrigger, InvalidExpression: its instant has passed, or its filter is no expression.
    """
    if isinstance(trigger, EventTrigger) and trigger.filter is not None:
        compile_expression(trigger.filter, FILTERED, field="trigger.filter")
    past = isinstance(trigger, OnceTrigger) and not trigger.allow_past and trigger.at
    if past and past < at:
        raise InvalidTrigger(
            "the instant is in the past; say allow_past to have it at once",
            field="trigger.at",
            value=format_instant(past),
        )


def _never(
    definition: Definition, anchor: datetime, after: datetime, tenant: str
) -> InvalidField | InvalidTrigger:
    """Why a schedule would never fire."""
    unobserved = definition.model_copy(update={"calendars": ()})
    if definition.calendars and next_occurrence(unobserved, anchor, after, tenant=tenant):
        return InvalidField("the calendars let nothing fire", field="calendars")
    field = "end_at" if definition.end_at else "trigger"
    return InvalidTrigger("the schedule would never fire", field=field)


def _update(schedule: Schedule, command: UpdateSchedule) -> list[Event]:
    definition, cause = command.definition, command.cause
    expect_revision(schedule, command.expected_revision)
    if schedule.definition.canonical() == definition.canonical():
        return []
    anchor = _kept_anchor(schedule, definition) or anchor_of(definition, cause.at)
    same = schedule.definition.trigger == definition.trigger
    after = cause.at if same else first_bound(definition, cause.at)
    if _has_same_times(schedule.definition, definition):
        following = next_occurrence(definition, anchor, after, tenant=schedule.tenant)
        due = following.falls if following else None
    else:
        due = _first_due(definition, anchor, cause.at, after, schedule.tenant)
    updated = ScheduleUpdated(
        definition=definition.canonical(),
        revision=schedule.revision + 1,
        anchor=anchor,
        next_due=due,
        tzdata=tzdata_version(),
        **_about(schedule, cause),
    )
    about_ = _about(schedule, cause)
    match schedule.definition.enabled, definition.enabled, schedule.status:
        case True, False, Status.ACTIVE:
            return [updated, SchedulePaused(note="disabled", **about_)]
        case False, True, Status.PAUSED:
            return [updated, ScheduleResumed(note="enabled", next_due=due, **about_)]
        case _:
            return [updated]


def expect_revision(schedule: Schedule, expected: int | None) -> None:
    """Refuse what was meant for another revision.

    Raises:
        RevisionConflict: it has another one by now.
    """
    if expected not in (None, schedule.revision):
        raise RevisionConflict(
            f"schedule {schedule.id} is at revision {schedule.revision}",
            field="expected_revision",
            value=expected,
            revision=schedule.revision,
        )


def _has_same_times(former: Definition, definition: Definition) -> bool:
    """True if an edit leaves the instants as they are, though none may be left."""
    names = ("trigger", "dst", "start_at", "end_at", "calendars")
    return all(getattr(former, name) == getattr(definition, name) for name in names)


def _kept_anchor(schedule: Schedule, definition: Definition) -> datetime | None:
    """The anchor, if what it was derived from is still the same."""
    former = schedule.definition
    if former.trigger != definition.trigger:
        return None
    if isinstance(definition.trigger, IntervalTrigger) and former.start_at != definition.start_at:
        return None
    return schedule.anchor


def _resume(schedule: Schedule, command: ResumeSchedule) -> list[Event]:
    if schedule.status is not Status.PAUSED:
        return []
    cause = command.cause
    occurrence = next_occurrence(
        schedule.definition, schedule.anchor, cause.at, tenant=schedule.tenant
    )
    return [
        ScheduleResumed(
            note=command.note,
            next_due=occurrence.falls if occurrence else None,
            **_about(schedule, cause),
        )
    ]


def shown_status(schedule: Schedule, at: datetime) -> Status:
    """Where it stands at an instant, as it is shown: `pending` before `start_at`."""
    start = schedule.definition.start_at
    pending = schedule.status is Status.ACTIVE and start is not None and start > at
    return Status.PENDING if pending else schedule.status


# --- evolve --------------------------------------------------------------------------------------


def evolve(schedule: Schedule | None, event: Event) -> Schedule | None:
    """The schedule after an event of its stream."""
    version = schedule.version + 1 if schedule else 1
    if isinstance(event, ScheduleCreated | CommandScheduled):
        return _created(schedule, event, version)
    if schedule is None:
        return None
    match event:
        case ScheduleUpdated():
            definition = restore_definition(event.definition)
            changes: dict[str, Any] = {
                "definition": definition,
                "definitions": schedule.definitions | {event.revision: definition},
                "revision": event.revision,
                "anchor": event.anchor,
                "next_due": event.next_due,
            }
        case (
            OccurrencesDecided()
            | OccurrenceEvent()
            | ScheduleBackfillStarted()
            | ScheduleBackfillCompleted()
            | ScheduleChecked()
        ):
            return msgspec.structs.replace(schedule, version=version)
        case _:
            changes = _standing(event)
            if not changes:
                return schedule
    return msgspec.structs.replace(schedule, version=version, changed_at=event.at, **changes)


def _standing(event: Event) -> dict[str, Any]:
    """The changes of an event after which a schedule stands otherwise; none of others."""
    match event:
        case SchedulePaused():
            return {"status": Status.PAUSED, "note": event.note}
        case ScheduleTripped():
            return {"status": Status.PAUSED, "note": event.reason}
        case ScheduleResumed():
            return {"status": Status.ACTIVE, "note": "", "next_due": event.next_due}
        case ScheduleCompleted():
            return {"status": Status.COMPLETED, "note": event.reason, "next_due": None}
        case ScheduleCancelled():
            return {"status": Status.CANCELLED, "note": event.note, "next_due": None}
        case ScheduleQuarantined():
            return {"status": Status.FAILED, "note": event.reason, "next_due": None}
        case _:
            return {}


def _created(
    former: Schedule | None, event: ScheduleCreated | CommandScheduled, version: int
) -> Schedule:
    belongs_to: dict[str, Any] = {}
    if isinstance(event, CommandScheduled):
        names = "correlation_id", "traceparent", "carried"
        belongs_to = {name: getattr(event, name) for name in names}
        event = event.created()
    elif event.depth:
        belongs_to = {"carried": deepened({}, event.depth)}
    definition = restore_definition(event.definition)
    earlier = former.definitions if former else {}
    return Schedule(
        tenant=event.tenant,
        id=event.schedule_id,
        incarnation=event.incarnation,
        revision=event.revision,
        definition=definition,
        definitions=earlier | {event.revision: definition},
        status=Status.ACTIVE,
        anchor=event.anchor,
        created_at=event.at,
        changed_at=event.at,
        next_due=event.next_due,
        created_by=event.actor,
        version=version,
        **belongs_to,
    )
