"""What somebody says of one occurrence: skip it, move it, hold it, approve it, or its payload (T12).

The occurrence is named by its nominal due instant. One that is held is past its instant and waits;
it is approved or skipped, and then runs or is dropped at once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple, assert_never

import msgspec

from horae_domain import execution as executions
from horae_domain import overlap
from horae_domain.decision import Decision
from horae_domain.definition import restore_definition
from horae_domain.errors import IllegalState, InvalidField, PayloadTooLarge, TooManyRequests
from horae_domain.events import (
    Event,
    OccurrenceApproved,
    OccurrenceEvent,
    OccurrenceHeld,
    OccurrenceMoved,
    OccurrencePayloadSet,
    OccurrenceSkipped,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.execution import Execution
from horae_domain.fields import MAX_PAYLOAD
from horae_domain.firing import BY_HAND, go_on, settle
from horae_domain.instants import format_instant
from horae_domain.ledger import Line, evolve
from horae_domain.occurrence_events import next_due
from horae_domain.occurrences import TICK, kind_of, next_occurrence, previous_occurrence
from horae_domain.plans import MAX_PLANS, Plan, Verdict
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause, about, require_running

# --- commands ------------------------------------------------------------------------------------


class SkipOccurrence(NamedTuple):
    """Let it not fire; if it is held, drop it."""

    at: datetime
    note: str
    cause: Cause


class MoveOccurrence(NamedTuple):
    """Let it fire at `to` instead, earlier or later; its own instant takes it back."""

    at: datetime
    to: datetime
    note: str
    cause: Cause


class HoldOccurrence(NamedTuple):
    """Let it wait for approval when it comes due."""

    at: datetime
    note: str
    cause: Cause


class ApproveOccurrence(NamedTuple):
    """Let it fire although it was to be held or skipped; if it is held, release it."""

    at: datetime
    note: str
    cause: Cause


class SetOccurrencePayload(NamedTuple):
    """Let it run with another payload than the schedule's."""

    at: datetime
    payload: Any
    note: str
    cause: Cause


OccurrenceCommand = (
    SkipOccurrence | MoveOccurrence | HoldOccurrence | ApproveOccurrence | SetOccurrencePayload
)

# --- decide --------------------------------------------------------------------------------------


def plan(decision: Decision, asked: OccurrenceCommand) -> str | None:
    """Decide a command on one occurrence, after what was due before it.

    Returns the id of the execution if the occurrence was held already.

    Raises:
        ScheduleNotFound, TooManyRequests, PayloadTooLarge.
        InvalidField: the schedule has no occurrence at `at`, or `to` has passed.
        IllegalState: it is decided already, or the schedule has ended.
    """
    settle(decision, asked.cause)
    run = _held_at(decision.require(), asked.at)
    if run is not None:
        _decide_held(decision, run, asked)
        go_on(decision, asked.cause)
        return run.id
    require_running(decision.require().schedule)
    nominal, present = _target(decision.require(), asked.at, asked.cause.at)
    event = _event(decision.require(), nominal, present, asked)
    if event is not None:
        decision.add(_timed(decision.require(), event))
    return None


def _held_at(line: Line, at: datetime) -> Execution | None:
    held = executions.Status.HELD
    return next((r for r in line.parked.values() if r.status is held and r.due == at), None)


def _decide_held(decision: Decision, run: Execution, asked: OccurrenceCommand) -> None:
    fields = _fields(decision.require(), Plan(run.kind, run.due), run.nominal, asked)
    match asked:
        case ApproveOccurrence():
            decision.add(OccurrenceApproved(execution_id=run.id, **fields))
            overlap.approve(decision, run, executions.approve(run, asked.cause), asked.cause)
        case SkipOccurrence():
            decision.add(OccurrenceSkipped(execution_id=run.id, **fields))
            decision.add(*executions.drop(run, BY_HAND, asked.cause))
        case _:
            raise IllegalState(
                "the occurrence is held already; approve it or skip it", field="at",
                value=format_instant(asked.at), state="held",
            )  # fmt: skip


# --- which occurrence ----------------------------------------------------------------------------


def _target(line: Line, at: datetime, now: datetime) -> tuple[str, Plan]:
    """The label of the occurrence at a nominal instant, and what is planned for it."""
    for nominal, plan in line.plans.items():
        if plan.due == at and not plan.decided and (plan.away or at > now):
            return nominal, plan
    schedule = line.schedule
    definition, tenant = schedule.definition, schedule.tenant
    occurrence = next_occurrence(definition, schedule.anchor, at - TICK, tenant=tenant)
    if occurrence is None or occurrence.due != at:
        raise InvalidField(
            "the schedule has no occurrence at this instant", field="at", value=format_instant(at),
            nearest=[format_instant(each) for each in _nearest(line, at, now)],
        )  # fmt: skip
    present = line.plans.get(occurrence.nominal)
    passed = occurrence.falls <= now or at <= line.through
    if passed or (present is not None and present.decided):
        raise IllegalState(
            "the occurrence at this instant is decided already", field="at",
            value=format_instant(at), state="decided",
        )  # fmt: skip
    return occurrence.nominal, present or Plan(kind_of(definition), at)


def _nearest(line: Line, at: datetime, now: datetime) -> list[datetime]:
    """The instants to come around an instant at which nothing is due."""
    definition, anchor, tenant = line.definition, line.schedule.anchor, line.schedule.tenant
    begin = max(now, line.through)
    earlier = previous_occurrence(definition, anchor, at, tenant=tenant)
    later = next_occurrence(definition, anchor, max(at, begin), tenant=tenant)
    found = [earlier.due] if earlier is not None and earlier.due > begin else []
    return [*found, later.due] if later is not None else found


# --- what is planned -----------------------------------------------------------------------------


def _event(
    line: Line, nominal: str, present: Plan, asked: OccurrenceCommand
) -> OccurrenceEvent | None:
    """The event of a command; None if its effect already holds."""
    if nominal not in line.plans and len(line.plans) >= MAX_PLANS:
        raise TooManyRequests("so many occurrences are planned already", limit=MAX_PLANS)
    fields = _fields(line, present, nominal, asked)
    match asked:
        case SkipOccurrence():
            done = present.verdict is Verdict.SKIP
            return None if done else OccurrenceSkipped(**fields)
        case HoldOccurrence():
            done = present.verdict is Verdict.HOLD
            return None if done else OccurrenceHeld(**fields)
        case ApproveOccurrence():
            if present.verdict is Verdict.NONE:
                raise IllegalState(
                    "the occurrence is neither held nor skipped", field="at",
                    value=format_instant(asked.at), state="planned",
                )  # fmt: skip
            done = present.verdict is Verdict.APPROVED
            return None if done else OccurrenceApproved(**fields)
        case MoveOccurrence():
            if asked.to < asked.cause.at:
                raise InvalidField(
                    "the instant has passed", field="to", value=format_instant(asked.to)
                )
            return None if present.comes == asked.to else OccurrenceMoved(to=asked.to, **fields)
        case SetOccurrencePayload():
            return _payload_set(line, nominal, present, asked, fields)
        case _:
            assert_never(asked)


def _payload_set(
    line: Line, nominal: str, present: Plan, asked: SetOccurrencePayload, fields: dict[str, Any]
) -> OccurrenceEvent | None:
    payload = msgspec.json.encode(asked.payload)
    others = [len(plan.payload) for name, plan in line.plans.items() if name != nominal]
    size = len(payload) + sum(others)
    if size > MAX_PAYLOAD:
        raise PayloadTooLarge(
            "the planned payloads of a schedule have at most 1 MiB of JSON together",
            field="payload", limit=MAX_PAYLOAD, size=size,
        )  # fmt: skip
    if present.payload == payload:
        return None
    return OccurrencePayloadSet(payload=asked.payload, **fields)


def _fields(line: Line, present: Plan, nominal: str, asked: OccurrenceCommand) -> dict[str, Any]:
    return {
        **about(line.schedule.tenant, line.schedule.id, asked.cause),
        "kind": present.kind,
        "due": present.due,
        "nominal": nominal,
        "note": asked.note,
        "next_due": line.next_due,
    }


def _timed(line: Line, event: OccurrenceEvent) -> OccurrenceEvent:
    """The event with the calendar's next instant as it leaves it."""
    after = evolve(line, event)
    assert after is not None  # noqa: S101 - there was a line
    return msgspec.structs.replace(event, next_due=_resting(after))


def around_plans(line: Line | None, event: Event) -> Event:
    """A change of the schedule with a next instant that leaves out what was moved elsewhere.

    What is put off beyond the change is still to come after it, unless the trigger is another one.
    """
    if line is None or not isinstance(event, ScheduleUpdated | ScheduleResumed):
        return event
    pending = _pending(line, event)
    if pending is not None:
        event = msgspec.structs.replace(event, through=pending.due - TICK)
    elif not line.plans:
        return event
    after = evolve(line, event)
    assert after is not None  # noqa: S101 - there was a line
    return msgspec.structs.replace(event, next_due=_resting(after))


def _pending(line: Line, event: ScheduleUpdated | ScheduleResumed) -> Occurrence | None:
    """The occurrence due before a change of the schedule that comes after it, if there is one."""
    definition, schedule = line.definition, line.schedule
    anchor = schedule.anchor
    if isinstance(event, ScheduleUpdated):
        former, definition = definition, restore_definition(event.definition)
        if former.trigger != definition.trigger or event.anchor != anchor:
            return None
    if not definition.shifts:
        return None
    tenant = schedule.tenant
    last = previous_occurrence(definition, anchor, event.at + TICK, tenant=tenant)
    if last is None or last.falls <= event.at or last.due <= line.through:
        return None
    return last


def _resting(line: Line) -> datetime | None:
    return next_due(line, line.through)
