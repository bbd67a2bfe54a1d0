"""What happens to an occurrence while earlier ones are unfinished (G2), and to what is buffered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from horae_domain import execution as executions
from horae_domain import waits
from horae_domain.decision import Decision
from horae_domain.events import Event
from horae_domain.execution import STOP_GRACE, Execution, Status
from horae_domain.lanes import Lane, lane_of
from horae_domain.ledger import Line, payload_for
from horae_domain.occurrence_events import (
    blocker,
    buffered,
    checking,
    requested,
    skipped,
)
from horae_domain.policies import Overlap, Priority
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause


def admit(
    decision: Decision, kind: str, occurrence: Occurrence, cause: Cause, **payload: Any
) -> None:
    """Decide an occurrence by the overlap policy: it fires, is buffered, or is skipped.

    What has conditions waits for them first, and is decided by the policy of then.

    Args:
        decision: of the schedule's line.
        kind: of the occurrence's identity.
        occurrence: what has come due.
        cause: of the decision.
        payload: `payload` and `overridden`, if it has one of its own; the facts of its `trigger`.
    """
    line = decision.require()
    definition = line.definition
    told = payload_for(definition, payload.get("trigger", {}))
    lane = lane_of(definition, payload["payload"] if payload.get("overridden") else told)
    if line.crowded(lane):
        reason = line.refusal(lane)
        if reason is not None:
            decision.add(skipped(line, kind, occurrence, reason, lane, cause, **payload))
            return
    if definition.requires:
        decision.add(checking(line, kind, occurrence, cause, **payload))
        return
    if line.crowded(lane):
        _make_way(decision, lane, cause)
        line = decision.require()
        if line.crowded(lane):
            decision.add(buffered(line, kind, occurrence, lane, cause, **payload))
            return
    waits.fire(decision, requested(line, kind, occurrence, cause, **payload), cause)


def approve(decision: Decision, run: Execution, approved: Sequence[Event], cause: Cause) -> None:
    """Decide what has waited for a word by the overlap policy of now: it is approved, or dropped."""
    line = decision.require()
    lane = line.lane_of(run)
    reason = line.refusal(lane)
    if reason is not None:
        blocked_by = blocker(line, lane)
        decision.add(*executions.drop(run, reason, cause, blocked_by=blocked_by))
        return
    if line.crowded(lane):
        _make_way(decision, lane, cause)
    decision.add(*approved)


def _make_way(decision: Decision, lane: Lane, cause: Cause) -> None:
    """End, or ask to end, what a newer occurrence takes the place of."""
    line = decision.require()
    overlap = line.definition.overlap
    if overlap not in {Overlap.CANCEL_OTHER, Overlap.TERMINATE_OTHER}:
        return
    for run in list(line.unfinished(lane)):
        terms = line.definition_of(run)
        if overlap is Overlap.TERMINATE_OTHER:
            decision.add(*executions.cancel(run, terms, "terminated_by_overlap", cause))
        elif run.status is Status.RUNNING:
            reason = "cancelled_by_overlap"
            decision.add(*executions.ask_to_stop(run, reason, STOP_GRACE, cause))
        else:
            decision.add(*executions.cancel(run, terms, "cancelled_by_overlap", cause))
    for run in line.buffered(lane):
        decision.add(*executions.drop(run, "superseded", cause))


def release(decision: Decision, cause: Cause) -> None:
    """Let fire what is buffered and has a free way, the most urgent first, then the oldest."""
    line = decision.require()
    if not line.parked or not line.active:
        return
    for run in _with_free_way(line):
        line = decision.require()
        counted = run.kind != "key"
        if line.crowded(line.lane_of(run)) or line.cools(run, cause.at) or (counted and line.spent):
            continue
        last = counted and line.fired + 1 == line.definition.max_executions
        number = line.fired + 1 if counted else None
        due = None if last else line.next_due
        released = executions.release(run, line.definition_of(run), number, due, cause)
        waits.fire(decision, released, cause)


def _with_free_way(line: Line) -> list[Execution]:
    waiting = [(run, line.lane_of(run)) for run in line.buffered()]
    free = {lane for lane in {lane for _, lane in waiting} if not line.crowded(lane)}
    return sorted((run for run, lane in waiting if lane in free), key=_order)


def _order(run: Execution) -> tuple[int, int]:
    return run.urgency, Priority(run.priority).rank


def drop(decision: Decision, reason: str, cause: Cause, *, all_: bool = True) -> None:
    """End what is buffered; without `all_` only what the calendar brought."""
    for run in list(decision.require().parked.values()):
        if all_ or run.kind != "key":
            decision.add(*executions.drop(run, reason, cause))
