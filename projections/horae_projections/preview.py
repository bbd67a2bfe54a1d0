"""The occurrences to come of a definition, with the offsets of its own zone and what is planned."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from heapq import merge
from typing import Any, NamedTuple

import msgspec

from horae_domain.definition import Definition, restore_definition
from horae_domain.instants import format_instant
from horae_domain.occurrences import (
    TICK,
    anchor_of,
    first_bound,
    left_out,
    next_occurrence,
    passed_by,
)
from horae_domain.plans import Plan, Plans, Verdict
from horae_domain.triggers import CronTrigger
from horae_domain.zones import load_zone
from horae_projections.hiding import without_secrets
from horae_projections.rows import ScheduleRow

Answer = dict[str, Any]


class Coming(NamedTuple):
    """An occurrence to come: when, and what it is."""

    at: datetime
    due: datetime
    nominal: str
    plan: Plan | None
    because: str = ""
    """The calendar for which it was moved."""

    @property
    def fires(self) -> bool:
        """True unless somebody has skipped it."""
        return self.plan is None or self.plan.verdict is not Verdict.SKIP


def upcoming(
    definition: Definition,
    anchor: datetime | None,
    after: datetime,
    count: int,
    plans: Plans | None = None,
    *,
    tenant: str,
    first: datetime | None = None,
) -> list[Coming]:
    """The next occurrences that come strictly after an instant until `count` of them fire.

    A bare definition begins there. `first` is when the next one comes that has no decision.
    """
    plans = plans or {}
    moved = [each for each in _moved(plans) if each.at > after]
    if anchor is None:
        anchor = anchor_of(definition, after)
        after = first_bound(definition, after)
    else:
        known = after if first is None else max(after, first - TICK)
        after = min(passed_by(definition, anchor, known, tenant=tenant), after)
    return _first(count, _calendar(definition, anchor, after, plans, tenant=tenant), moved)


def next_of(tenant: str, id_: str, row: ScheduleRow, now: datetime, count: int) -> list[str]:
    """The next fire times of a schedule; the first is the one that its events tell."""
    if row.fires_at is None or not count:
        return []
    definition = restore_definition(row.told | {"id": id_})
    anchor = row.anchor or row.created_at
    limit = definition.max_executions
    if limit is not None:
        count = min(count, max(1, limit - (row.counts.counted if row.counts else 0)))
    plans = row.plans or {}
    calendar: Iterator[Coming] = iter(())
    if row.next_due is not None:
        first = passed_by(definition, anchor, row.next_due - TICK, tenant=tenant)
        later = passed_by(definition, anchor, now, tenant=tenant)
        calendar = _calendar(definition, anchor, first, plans, later, tenant=tenant)
    return instants_of(definition, _first(count, calendar, _moved(plans)))


def due_of_next(tenant: str, id_: str, row: ScheduleRow, comes: datetime) -> datetime:
    """The nominal instant of the calendar's occurrence that comes at an instant."""
    told = row.told
    if not told.keys() & {"calendars", "jitter", "spread"}:
        return comes
    definition = restore_definition(told | {"id": id_})
    anchor = row.anchor or row.created_at
    behind = passed_by(definition, anchor, comes - TICK, tenant=tenant)
    found = next_occurrence(definition, anchor, behind, tenant=tenant)
    return comes if found is None or found.falls != comes else found.due


def _first(count: int, calendar: Iterator[Coming], moved: list[Coming]) -> list[Coming]:
    found: list[Coming] = []
    firing = 0
    if count:
        for each in merge(calendar, moved, key=lambda coming: (coming.at, coming.due)):
            found.append(each)
            firing += each.fires
            if firing == count:
                break
    return found


def _calendar(
    definition: Definition,
    anchor: datetime,
    after: datetime,
    plans: Plans,
    now: datetime | None = None,
    *,
    tenant: str,
) -> Iterator[Coming]:
    """The calendar's, without those moved elsewhere; with `now` only the first one is before it."""
    while (occurrence := next_occurrence(definition, anchor, after, tenant=tenant)) is not None:
        due, nominal = occurrence.due, occurrence.nominal
        plan = plans.get(nominal)
        if plan is None or not plan.away:
            yield Coming(occurrence.falls, due, nominal, plan, occurrence.because)
        after = due if now is None else max(due, now)


def _moved(plans: Plans) -> list[Coming]:
    return sorted(
        (
            Coming(plan.waits_at, plan.due, nominal, plan)
            for nominal, plan in plans.items()
            if plan.waits_at is not None
        ),
        key=lambda coming: (coming.at, coming.due),
    )


# --- as they are answered ------------------------------------------------------------------------


def instants_of(definition: Definition, found: list[Coming]) -> list[str]:
    """When those that fire do."""
    return [shown(definition, each.at) for each in found if each.fires]


def answer(
    definition: Definition, anchor: datetime | None, after: datetime, found: list[Coming]
) -> Answer:
    """Instants as they will fire, of each occurrence what is known, and what calendars leave out."""
    handler = getattr(definition.action, "name", None)
    return {
        "next": instants_of(definition, found),
        "excluded": _excluded(definition, anchor, after, found),
        "occurrences": [
            {
                "at": shown(definition, each.at),
                "due": shown(definition, each.due),
                "nominal": each.nominal,
                "moved": each.at != each.due,
                "skipped": not each.fires,
                "held": each.plan is not None and each.plan.verdict is Verdict.HOLD,
                "note": (each.plan.note if each.plan else "") or each.because,
                "author": each.plan.author if each.plan else None,
                **payload_of(each.plan, handler),
            }
            for each in found
        ],
    }


def _excluded(
    definition: Definition, anchor: datetime | None, after: datetime, found: list[Coming]
) -> list[Answer]:
    """What calendars leave out until the last of these."""
    if not (definition.calendars and found):
        return []
    anchor = anchor_of(definition, after) if anchor is None else anchor
    away = {each.nominal for each in found if each.plan is not None and each.plan.away}
    last = max(each.due for each in found)
    return [
        {
            "first": shown(definition, each.first),
            "last": shown(definition, each.last),
            "count": each.instants,
            "reason": each.reason,
        }
        for each in left_out(definition, anchor, after, last, away)
    ]


def payload_of(plan: Plan | None, handler: str | None) -> Answer:
    """`payload`, if the occurrence has one of its own."""
    if plan is None or not plan.payload:
        return {}
    return {"payload": without_secrets(handler, msgspec.json.decode(plan.payload))}


def shown(definition: Definition, due: datetime) -> str:
    """An instant with the offset of a cron trigger's zone."""
    if isinstance(definition.trigger, CronTrigger):
        return due.astimezone(load_zone(definition.trigger.timezone)).isoformat()
    return format_instant(due)
