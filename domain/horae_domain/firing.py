"""What is due: every instant gets its one decision (G0), and ends and deadlines are recorded.

The overlap policy (G2), the catch-up policy (G3), the cooldown and the limits decide here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from horae_domain import execution as executions
from horae_domain import overlap
from horae_domain.decision import Decision
from horae_domain.definition import CatchUpMode, ManualTrigger
from horae_domain.events import ScheduleCompleted
from horae_domain.ledger import Line
from horae_domain.occurrence_events import next_due, ranged, skipped
from horae_domain.occurrences import TICK, due_by, kind_of, next_occurrence
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause, Status, about

GRACE = timedelta(seconds=10)
"""How late an occurrence may be decided and still count as on time where catch-up is `skip`."""

CHUNK = 1000
"""The most instants that one decision looks at one by one."""


def settle(decision: Decision, cause: Cause) -> None:
    """Decide what is due: deadlines that have passed, then occurrences, at most `CHUNK`.

    `line.wake` lies in the past while there is more.
    """
    if decision.require().waits_for_run:
        close_overlap(decision, cause)
    for id_ in list(decision.require().live):
        _expire(decision, id_, cause)
    overlap.release(decision, cause)
    if decision.require().fires_by(cause.at):
        _decide_due(decision, cause)
    if decision.require().active:
        complete(decision, cause)


def go_on(decision: Decision, cause: Cause) -> None:
    """What follows, in the same commit, from a run's end or from more room than before."""
    overlap.release(decision, cause)
    if decision.require().active:
        complete(decision, cause)


def _expire(decision: Decision, id_: str, cause: Cause) -> None:
    """Record each timeout of an execution that is over, the first one first."""
    while (run := decision.require().live.get(id_)) is not None:
        events = executions.expire(run, decision.require().terms_of(run), cause)
        if not events:
            return
        decision.add(*events)


def _decide_due(decision: Decision, cause: Cause) -> None:
    line = decision.require()
    passed = _passed(line, cause.at)
    if not passed:
        # The zone's rules have changed since next_due was recorded; ask them again.
        decision.line = msgspec.structs.replace(line, next_due=next_due(line, line.through))
        return
    oldest = cause.at - max(line.definition.catch_up.window, GRACE)
    missed = [each for each in passed if each.due < oldest]
    if missed:
        uncounted = oldest - TICK if len(missed) == CHUNK else None
        decision.add(ranged(line, missed, "missed", "catch_up_window", cause, until=uncounted))
    rest = passed[len(missed) :]
    if len(passed) == CHUNK:
        rest = rest[:-1]  # what is the latest is only known when all have been seen
        _catch_up(decision, rest, cause, final=False)
    else:
        _catch_up(decision, rest, cause, final=True)


def _catch_up(
    decision: Decision, passed: Sequence[Occurrence], cause: Cause, *, final: bool
) -> None:
    """Decide what lies within the catch-up window (G3)."""
    mode = decision.require().definition.catch_up.mode
    match mode:
        case CatchUpMode.ALL:
            late: Sequence[Occurrence] = ()
            reason = ""
        case CatchUpMode.LATEST:
            late, reason = (passed[:-1] if final else passed), "superseded"
        case CatchUpMode.SKIP:
            late = [each for each in passed if each.due < cause.at - GRACE]
            reason = "overdue"
        case _:
            assert_never(mode)
    if late:
        decision.add(ranged(decision.require(), late, "skipped", reason, cause))
    _each(decision, passed[len(late) :], cause)


def _each(decision: Decision, passed: Sequence[Occurrence], cause: Cause) -> None:
    for index, occurrence in enumerate(passed):
        line = decision.require()
        if line.next_due is None:
            return
        kind = kind_of(line.definition)
        if line.waits_for_run:
            reason = line.refusal(line.lane) or ""
            decision.add(ranged(line, passed[index:], "skipped", reason, cause))
            return
        cools = line.cooldown_until is not None and occurrence.due < line.cooldown_until
        if cools and not line.blocked:
            decision.add(skipped(line, kind, occurrence, "cooldown", line.lane, cause))
        else:
            overlap.admit(decision, kind, occurrence, cause)


def complete(decision: Decision, cause: Cause) -> None:
    """End a schedule of which no occurrence will come (T4), once nothing is buffered any more."""
    reason = _end(decision.require())
    if reason == "max_executions":
        overlap.drop(decision, reason, cause, all_=False)
    line = decision.require()
    if reason is not None and not line.parked:
        schedule = line.schedule
        decision.add(ScheduleCompleted(reason=reason, **about(schedule.tenant, schedule.id, cause)))


def _end(line: Line) -> str | None:
    """Why no occurrence will come; None if one may."""
    definition = line.definition
    if line.spent:
        return "max_executions"
    if line.next_due is not None or isinstance(definition.trigger, ManualTrigger):
        return None
    unbounded = definition.model_copy(update={"end_at": None})
    beyond = next_occurrence(unbounded, line.schedule.anchor, line.through)
    return "exhausted" if beyond is None else "end_at"


def close_pause(decision: Decision, cause: Cause) -> None:
    """Record what came due while paused as one decision."""
    if decision.require().schedule.status is Status.PAUSED:
        _skip_all(decision, "paused", cause)


def close_overlap(decision: Decision, cause: Cause) -> None:
    """Record what came due behind unfinished runs, which nobody was woken for, as one decision.

    It is done before anything changes, because a run that ends now was in the way until now.
    """
    line = decision.require()
    if line.fires_by(cause.at):
        _skip_all(decision, line.refusal(line.lane) or "", cause)


def _skip_all(decision: Decision, reason: str, cause: Cause) -> None:
    line = decision.require()
    passed = _passed(line, cause.at)
    if passed:
        until = cause.at if len(passed) == CHUNK else None
        decision.add(ranged(line, passed, "skipped", reason, cause, until=until))


def _passed(line: Line, until: datetime) -> list[Occurrence]:
    schedule = line.schedule
    return due_by(schedule.definition, schedule.anchor, line.through, until, CHUNK)
