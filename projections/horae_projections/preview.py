"""The next fire times of a definition, with the offsets of its own zone."""

from __future__ import annotations

from datetime import datetime

from horae_domain.definition import CronTrigger, Definition, restore_definition
from horae_domain.instants import format_instant
from horae_domain.occurrences import anchor_of, first_bound, next_occurrence
from horae_domain.zones import load_zone
from horae_projections.rows import ScheduleRow


def upcoming(
    definition: Definition, anchor: datetime | None, after: datetime, count: int
) -> list[str]:
    """The next occurrences strictly after an instant; a bare definition begins there."""
    if anchor is None:
        anchor = anchor_of(definition, after)
        after = first_bound(definition, after)
    found: list[str] = []
    while len(found) < count:
        occurrence = next_occurrence(definition, anchor, after)
        if occurrence is None:
            break
        found.append(_shown(definition, occurrence.due))
        after = occurrence.due
    return found


def next_of(id_: str, row: ScheduleRow, now: datetime, count: int) -> list[str]:
    """The next fire times of a schedule; the first is the one that its events tell."""
    if row.next_due is None or not count:
        return []
    definition = restore_definition(row.told | {"id": id_})
    first = _shown(definition, row.next_due)
    anchor = row.anchor or row.created_at
    limit = definition.max_executions
    left = (
        count
        if limit is None
        else min(count, max(1, limit - (row.counts.fired if row.counts else 0)))
    )
    return [first, *upcoming(definition, anchor, max(row.next_due, now), left - 1)]


def _shown(definition: Definition, due: datetime) -> str:
    if isinstance(definition.trigger, CronTrigger):
        return due.astimezone(load_zone(definition.trigger.timezone)).isoformat()
    return format_instant(due)
