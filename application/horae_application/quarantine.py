"""The end of a schedule that can no longer be evaluated."""

from __future__ import annotations

from horae_domain import overlap
from horae_domain.decision import Decision
from horae_domain.events import ScheduleQuarantined
from horae_domain.schedule import Cause, about

MAX_REASON = 1_000
"""Characters kept of why something is quarantined."""


def quarantine(decision: Decision, error: Exception, cause: Cause) -> None:
    """End a schedule for an error in its evaluation; what had not fired is dropped."""
    schedule = decision.require().schedule
    about_ = about(schedule.tenant, schedule.id, cause)
    decision.add(ScheduleQuarantined(reason=repr(error)[:MAX_REASON], **about_))
    overlap.drop(decision, "schedule_quarantined", cause)
