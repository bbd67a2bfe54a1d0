"""What the calendars of a schedule leave out is decided, too: recorded with what comes after it (T9)."""

from __future__ import annotations

from datetime import datetime

from horae_domain.decision import Decision
from horae_domain.events import OccurrencesDecided
from horae_domain.ledger import Line
from horae_domain.observed import LeftOut
from horae_domain.occurrence_events import next_due
from horae_domain.occurrences import TICK, left_out, passed_by
from horae_domain.schedule import Cause, about


def exclude(decision: Decision, before: datetime, cause: Cause) -> None:
    """Record what is due before an instant, has no decision, and does not fire for a calendar.

    It is excluded, in ranges of one reason, which cover nothing that somebody has moved elsewhere.
    """
    line = decision.require()
    if not line.definition.calendars:
        return
    for each in _left_out(line, line.through, before):
        decision.add(_excluded(decision.require(), each, cause))


def between(line: Line, after: datetime, before: datetime) -> bool:
    """True if a calendar leaves something out between two instants."""
    return bool(line.definition.calendars) and bool(_left_out(line, after, before))


def close(decision: Decision, cause: Cause) -> None:
    """Record what the calendars have left out until now, before others decide."""
    line = decision.require()
    schedule = line.schedule
    if not line.definition.calendars or schedule.status.ended or line.spent:
        return
    behind = passed_by(schedule.definition, schedule.anchor, cause.at, tenant=schedule.tenant)
    exclude(decision, behind + TICK, cause)


def _left_out(line: Line, after: datetime, before: datetime) -> list[LeftOut]:
    away = {nominal for nominal, plan in line.plans.items() if plan.away}
    return left_out(line.definition, line.schedule.anchor, after, before, away)


def _excluded(line: Line, found: LeftOut, cause: Cause) -> OccurrencesDecided:
    schedule = line.schedule
    return OccurrencesDecided(
        decision="excluded",
        reason=found.reason,
        first=found.first,
        last=found.last,
        count=found.instants,
        revision=schedule.revision,
        next_due=next_due(line, max(found.last, line.through)),
        **about(schedule.tenant, schedule.id, cause),
    )
