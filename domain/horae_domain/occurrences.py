"""A definition's occurrences: its trigger on its own clock, within its bounds."""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime, timedelta
from typing import assert_never

from horae_domain.definition import Definition
from horae_domain.jitter import put_off
from horae_domain.observed import LeftOut, ObservedRecurrence, observed
from horae_domain.recurrence import (
    CronRecurrence,
    Occurrence,
    OnceRecurrence,
    Recurrence,
    cron_recurrence,
    interval_recurrence,
)
from horae_domain.rrules import RruleRecurrence, rrule_recurrence
from horae_domain.triggers import (
    ConditionTrigger,
    CronTrigger,
    EventTrigger,
    IntervalTrigger,
    ManualTrigger,
    OnceTrigger,
    OutcomeTrigger,
    RruleTrigger,
)

TICK = timedelta(microseconds=1)
"""The engine's resolution of time; `instant - TICK` makes an exclusive bound inclusive."""


def kind_of(definition: Definition) -> str:
    """What kind of identity the occurrences of a definition have."""
    match definition.trigger:
        case CronTrigger() | RruleTrigger():
            return "calendar"
        case IntervalTrigger():
            return "interval"
        case OnceTrigger():
            return "once"
        case ManualTrigger():
            return "key"
        case EventTrigger():
            return "event"
        case OutcomeTrigger():
            return "chain"
        case ConditionTrigger():
            return "condition"
        case _:
            assert_never(definition.trigger)


def anchor_of(definition: Definition, at: datetime) -> datetime:
    """What relative times of a trigger count from: told, else `start_at`, else now (T2)."""
    match definition.trigger:
        case CronTrigger():
            return at
        case IntervalTrigger(anchor=anchor):
            return anchor or definition.start_at or at
        case ConditionTrigger() | RruleTrigger():
            return definition.start_at or at
        case _:
            return at


def first_bound(definition: Definition, at: datetime) -> datetime:
    """The instant after which a definition accepted at `at` has occurrences."""
    return at - TICK if definition.trigger.type == "once" else at


def recurrence_of(definition: Definition, anchor: datetime) -> Recurrence | None:
    """The recurrence of a definition under its calendars; None if its trigger has no instants."""
    recurrence = bare_recurrence_of(definition, anchor)
    if recurrence is None or not definition.calendars:
        return recurrence
    if isinstance(recurrence, CronRecurrence | RruleRecurrence):
        zone = recurrence.timezone
    else:
        zone = "UTC"
    return observed(recurrence, definition.calendars, zone, definition.end_at)


def bare_recurrence_of(definition: Definition, anchor: datetime) -> Recurrence | None:
    """The recurrence of a definition's trigger alone; None if it has no instants."""
    match definition.trigger:
        case CronTrigger(expression=expression, timezone=timezone):
            return cron_recurrence(
                expression, timezone, gap=definition.dst.gap, overlap=definition.dst.overlap
            )
        case IntervalTrigger(every=every):
            return interval_recurrence(every, anchor)
        case RruleTrigger(rule=rule, timezone=timezone):
            return rrule_recurrence(
                rule, timezone, anchor, gap=definition.dst.gap, overlap=definition.dst.overlap
            )
        case OnceTrigger(at=at, after=after):
            instant = at if at is not None else anchor + (after or timedelta(0))
            return OnceRecurrence(max(instant, anchor))
        case ManualTrigger() | EventTrigger() | OutcomeTrigger() | ConditionTrigger():
            return None
        case _:
            assert_never(definition.trigger)


def next_occurrence(
    definition: Definition, anchor: datetime, after: datetime, *, tenant: str
) -> Occurrence | None:
    """The next occurrence due strictly after an instant, within `start_at` and `end_at` (T4).

    Both are of the nominal instant, whatever puts the occurrence off.
    """
    recurrence = recurrence_of(definition, anchor)
    if recurrence is None:
        return None
    if definition.start_at is not None:
        after = max(after, definition.start_at - TICK)
    occurrence = recurrence.next(after)
    if occurrence is None or (definition.end_at is not None and occurrence.due > definition.end_at):
        return None
    return put_off(definition, recurrence, occurrence, tenant) if definition.shifts else occurrence


def previous_occurrence(
    definition: Definition, anchor: datetime, before: datetime, *, tenant: str
) -> Occurrence | None:
    """The last occurrence due strictly before an instant, within `start_at` and `end_at`."""
    recurrence = recurrence_of(definition, anchor)
    if recurrence is None:
        return None
    if definition.end_at is not None:
        before = min(before, definition.end_at + TICK)
    occurrence = recurrence.previous(before)
    start = definition.start_at
    if occurrence is None or (start is not None and occurrence.due < start):
        return None
    return put_off(definition, recurrence, occurrence, tenant) if definition.shifts else occurrence


def passed_by(
    definition: Definition, anchor: datetime, instant: datetime, *, tenant: str
) -> datetime:
    """What lies behind an instant: every occurrence due up to what is answered has come by it.

    That is the instant itself, unless the last occurrence before it is put off beyond it.
    """
    if not definition.shifts:
        return instant
    last = previous_occurrence(definition, anchor, instant + TICK, tenant=tenant)
    return last.due - TICK if last is not None and last.falls > instant else instant


def left_out(
    definition: Definition,
    anchor: datetime,
    after: datetime,
    before: datetime,
    away: Container[str] = (),
) -> list[LeftOut]:
    """What is due between two instants, neither included, and does not fire for the calendars.

    Nothing covers those whose nominal label is in `away`.
    """
    recurrence = recurrence_of(definition, anchor)
    if not isinstance(recurrence, ObservedRecurrence):
        return []
    if definition.start_at is not None:
        after = max(after, definition.start_at - TICK)
    if definition.end_at is not None:
        before = min(before, definition.end_at + TICK)
    return list(recurrence.left_out(after, before, away))


def due_within(
    definition: Definition, anchor: datetime, first: datetime, last: datetime, limit: int
) -> list[Occurrence]:
    """Occurrences whose nominal instants lie in a window, both ends of it included, at most `limit`."""
    found: list[Occurrence] = []
    after = first - TICK
    while len(found) < limit:
        occurrence = next_occurrence(definition, anchor, after, tenant="")
        if occurrence is None or occurrence.due > last:
            break
        found.append(occurrence)
        after = occurrence.due
    return found


def due_by(
    definition: Definition,
    anchor: datetime,
    after: datetime,
    now: datetime,
    limit: int,
    *,
    tenant: str,
    away: Container[str] = (),
) -> list[Occurrence]:
    """Occurrences due after one instant that have come by another, at most `limit`.

    Those whose nominal label is in `away` are left out.
    """
    found: list[Occurrence] = []
    while len(found) < limit:
        occurrence = next_occurrence(definition, anchor, after, tenant=tenant)
        if occurrence is None or occurrence.falls > now:
            break
        if occurrence.nominal not in away:
            found.append(occurrence)
        after = occurrence.due
    return found
