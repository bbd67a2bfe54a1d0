"""Schedules that fire when a condition holds (T6): a check is asked at every tick, its data decide.

Ticks lie on a grid, as the instants of an interval do. Only what changes something is recorded: that
the condition holds or no longer does, that the check failed or works again, and what fires.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from horae_domain import overlap
from horae_domain.decision import Decision
from horae_domain.events import ScheduleChecked
from horae_domain.firing import go_on, settle
from horae_domain.instants import format_instant
from horae_domain.lanes import lane_of
from horae_domain.ledger import Line, payload_for
from horae_domain.occurrence_events import skipped
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause, about
from horae_domain.triggers import ConditionTrigger


class Looked(NamedTuple):
    """What came of asking a check at a tick."""

    tick: datetime
    revision: int
    """Of the schedule when it was asked."""
    holds: bool
    data: Any = None
    error: dict[str, Any] | None = None
    """`type` and `message` of what went wrong, in the check or in the expression."""


def judge(decision: Decision, looked: Looked, cause: Cause) -> None:
    """Let the schedule fire if the condition holds; nothing if the answer is out of date."""
    settle(decision, cause)
    line = decision.require()
    trigger = line.definition.trigger
    if not isinstance(trigger, ConditionTrigger) or not line.active or line.spent:
        return
    if line.schedule.revision != looked.revision or looked.tick <= line.through:
        return
    before = line.checked
    held = before is not None and before.holds
    _record(decision, looked, cause)
    if looked.error is not None or not looked.holds:
        return
    if trigger.mode == "level" or not held:
        _fire(decision, trigger, looked, cause)


def _record(decision: Decision, looked: Looked, cause: Cause) -> None:
    """Record an answer that differs from the one before."""
    line = decision.require()
    before = line.checked
    failure = None if looked.error is None else str(looked.error.get("message", ""))
    same = before is not None and before.failure == failure
    if before is not None and same and (failure is not None or before.holds is looked.holds):
        return
    decision.add(
        ScheduleChecked(
            tick=looked.tick,
            outcome="failed" if failure is not None else "held" if looked.holds else "not_held",
            error=looked.error,
            **about(line.schedule.tenant, line.schedule.id, cause),
        )
    )


def _fire(decision: Decision, trigger: ConditionTrigger, looked: Looked, cause: Cause) -> None:
    """Decide what holds as what has come due; at a level, what cannot fire is asked again later."""
    line = decision.require()
    at = format_instant(looked.tick)
    occurrence = Occurrence(looked.tick, at)
    facts: dict[str, Any] = {"check": trigger.check, "at": at, "data": looked.data}
    told = {"trigger": facts | ({} if trigger.when is None else {"when": trigger.when})}
    lane = lane_of(line.definition, payload_for(line.definition, facts))
    cools = line.cooldown_until is not None and looked.tick < line.cooldown_until
    if trigger.mode == "level" and (cools or line.refusal(lane) is not None):
        return
    if cools:
        decision.add(skipped(line, "condition", occurrence, "cooldown", lane, cause, **told))
    else:
        overlap.admit(decision, "condition", occurrence, cause, **told)
    go_on(decision, cause)


def tick_at(line: Line, now: datetime) -> datetime | None:
    """The latest tick of a schedule up to an instant that was not decided yet."""
    tick = line.tick_before(now)
    if tick is None or tick <= line.through:
        return None
    start = line.definition.start_at
    return None if start is not None and tick < start else tick
