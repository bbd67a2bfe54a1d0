"""The runs of backfills, materialised as there is room, a bounded number in one decision (G11).

An execution is named by its backfill and its nominal label, so that another backfill of the same
window runs it again.
"""

from __future__ import annotations

import msgspec

from horae_domain import waits
from horae_domain.backfills import Backfill, Order
from horae_domain.decision import Decision
from horae_domain.events import ExecutionRequested, OccurrencesDecided, ScheduleBackfillCompleted
from horae_domain.identity import execution_id
from horae_domain.ledger import Line
from horae_domain.occurrence_events import blocker, requested
from horae_domain.occurrences import next_occurrence
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause, about

BATCH = 100
"""Occurrences of a backfill materialised in one decision."""


def advance(decision: Decision, cause: Cause) -> None:
    """Let every backfill go on as far as there is room."""
    if not decision.require().backfills or not decision.require().backfilling:
        return
    for id_ in list(decision.require().backfills):
        for _ in range(BATCH):
            if not _step(decision, id_, cause):
                break


def end(decision: Decision, reason: str, cause: Cause) -> None:
    """End every backfill; what it has requested goes on."""
    for id_ in list(decision.line.backfills if decision.line else ()):
        end_one(decision, id_, reason, cause)


def _step(decision: Decision, id_: str, cause: Cause) -> bool:
    """One occurrence further; False if that needs room, or nothing is left."""
    line = decision.require()
    going = line.backfills[id_]
    definition = line.schedule.definitions[going.revision]
    tenant = line.schedule.tenant
    occurrence = next_occurrence(definition, going.anchor, going.cursor, tenant=tenant)
    if occurrence is None or occurrence.due > going.last:
        if not line.runs_of(id_):
            end_one(decision, id_, "done", cause)
        return False
    if line.has_room(id_):
        waits.fire(decision, _requested(line, id_, going, occurrence, cause), cause)
        return True
    if going.order is Order.SKIP:
        decision.add(_skipped(line, id_, going, occurrence, cause))
    return False


def _requested(
    line: Line, id_: str, going: Backfill, occurrence: Occurrence, cause: Cause
) -> ExecutionRequested:
    schedule = line.schedule
    key = f"{id_}/{occurrence.nominal}"
    event = requested(line, "backfill", occurrence, cause)
    return msgspec.structs.replace(
        event,
        execution_id=execution_id(
            schedule.tenant, schedule.id, schedule.incarnation, "backfill", key, occurrence.due
        ),
        revision=going.revision,
        backfill_id=id_,
        unbounded=going.order is Order.ALLOW,
    )


def _skipped(
    line: Line, id_: str, going: Backfill, occurrence: Occurrence, cause: Cause
) -> OccurrencesDecided:
    schedule = line.schedule
    return OccurrencesDecided(
        decision="skipped",
        reason="overlap",
        first=occurrence.due,
        last=going.last,
        count=going.left,
        revision=going.revision,
        blocked_by=blocker(line, line.lane),
        backfill_id=id_,
        **about(schedule.tenant, schedule.id, cause),
    )


def end_one(decision: Decision, id_: str, reason: str, cause: Cause) -> None:
    """End a backfill; what it has requested goes on."""
    schedule = decision.require().schedule
    left = decision.require().backfills[id_].left
    decision.add(
        ScheduleBackfillCompleted(
            backfill_id=id_, reason=reason, left=left, **about(schedule.tenant, schedule.id, cause)
        )
    )
