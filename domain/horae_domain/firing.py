"""What is due: every instant gets its one decision (G0), and ends and deadlines are recorded.

The overlap policy (G2), the catch-up policy (G3), the cooldown and the limits decide here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, assert_never

import msgspec

from horae_domain import backfill_runs, delays, excluding, overlap, waits
from horae_domain import execution as executions
from horae_domain.decision import Decision
from horae_domain.events import (
    ExecutionDeadLettered,
    ExecutionFailed,
    ExecutionTimedOut,
    ScheduleCompleted,
    ScheduleTripped,
)
from horae_domain.lanes import lane_of
from horae_domain.ledger import CROWDED, Line
from horae_domain.occurrence_events import (
    held,
    kind_on,
    next_due,
    on_calendar,
    payload_on,
    ranged,
    skipped,
)
from horae_domain.occurrences import TICK, due_by, passed_by
from horae_domain.plans import Verdict
from horae_domain.policies import CatchUpMode
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause, Status, about
from horae_domain.triggers import AWAITED, ManualTrigger

GRACE = timedelta(seconds=10)
"""How late an occurrence may be decided and still count as on time where catch-up is `skip`."""

MAX_REASON = 500
"""Characters of the reason for which a schedule pauses itself."""

CHUNK = 1000
"""The most instants that one decision looks at one by one."""

BY_HAND = "skipped_by_hand"
"""The reason of what somebody has skipped."""

BY_PLAN = frozenset({Verdict.SKIP, Verdict.HOLD})
"""What decides an occurrence before any policy does."""


class _Passed(NamedTuple):
    """Occurrences that came due and have no decision, in the order in which they came."""

    occurrences: list[Occurrence]
    whole: bool
    """False if there may be more than were looked at."""


def settle(decision: Decision, cause: Cause) -> None:
    """Decide everything that is due, as before any command at an instant."""
    advance(decision, cause)
    while decision.require().fires_by(cause.at):
        advance(decision, cause)


def advance(decision: Decision, cause: Cause) -> None:
    """Decide what is due: deadlines that have passed, then occurrences, at most `CHUNK`.

    `line.wake` lies in the past while there is more.
    """
    if decision.require().waits_for_run:
        close_overlap(decision, cause)
    _settle_live(decision, cause)
    delays.end(decision, cause)
    trip(decision, cause)
    overlap.release(decision, cause)
    if decision.require().fires_by(cause.at):
        _decide_due(decision, cause)
    backfill_runs.advance(decision, cause)
    if decision.require().active:
        complete(decision, cause)


def _settle_live(decision: Decision, cause: Cause) -> None:
    """Decide what is due of unfinished executions, once for all decisions at an instant."""
    if decision.settled:
        return
    for run in [run for run in decision.require().live.values() if run.late(cause.at)]:
        _expire(decision, run.id, cause)
    waits.begin_ready(decision, cause)
    decision.settled = True


def go_on(decision: Decision, cause: Cause) -> None:
    """What follows, in the same commit, from a run's end or from more room than before."""
    trip(decision, cause)
    overlap.release(decision, cause)
    backfill_runs.advance(decision, cause)
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
    passed, whole = _passed(line, cause.at)
    if not passed:
        # The zone's rules have changed since next_due was recorded; ask them again.
        decision.line = msgspec.structs.replace(line, next_due=next_due(line, line.through))
        return
    oldest = cause.at - max(line.definition.catch_up.window, GRACE)
    missed = [each for each in passed if each.comes < oldest]
    if missed:
        some = not whole and len(missed) == len(passed)
        uncounted = _behind(line, oldest - TICK) if some else None
        pass_over(decision, missed, "missed", "catch_up_window", cause, until=uncounted)
    rest = passed[len(missed) :]
    # What is the latest is only known when all have been seen.
    _catch_up(decision, rest if whole else rest[:-1], cause, final=whole)


def _catch_up(
    decision: Decision, passed: Sequence[Occurrence], cause: Cause, *, final: bool
) -> None:
    """Decide what lies within the catch-up window (G3)."""
    line = decision.require()
    mode = line.definition.catch_up.mode
    match mode:
        case CatchUpMode.ALL:
            late: Sequence[Occurrence] = ()
            reason = ""
        case CatchUpMode.LATEST:
            late, reason = (_before_latest(line, passed) if final else passed), "superseded"
        case CatchUpMode.SKIP:
            late = [each for each in passed if each.comes < cause.at - GRACE]
            reason = "overdue"
        case _:
            assert_never(mode)
    pass_over(decision, late, "skipped", reason, cause)
    _each(decision, passed[len(late) :], cause)


def _before_latest(line: Line, passed: Sequence[Occurrence]) -> Sequence[Occurrence]:
    """Those that came before the last one that somebody has not skipped."""
    wanted = [each for each in passed if verdict_on(line, each) is not Verdict.SKIP]
    if not wanted:
        return ()
    return [each for each in passed if each.comes < wanted[-1].comes]


def _each(decision: Decision, passed: Sequence[Occurrence], cause: Cause) -> None:
    for index, occurrence in enumerate(passed):
        line = decision.require()
        if line.spent:
            return
        if occurrence.moved_to is None:
            excluding.exclude(decision, occurrence.due, cause)
            line = decision.require()
        if verdict_on(line, occurrence) in BY_PLAN:
            _as_planned(decision, occurrence, cause)
        elif line.waits_for_run:
            reason = line.refusal(line.lane) or ""
            pass_over(decision, passed[index:], "skipped", reason, cause)
            return
        else:
            _fire(decision, occurrence, cause)


def _fire(decision: Decision, occurrence: Occurrence, cause: Cause) -> None:
    """Let it fire unless the cooldown or the overlap policy says otherwise."""
    line = decision.require()
    kind, payload = kind_on(line, occurrence), payload_on(line, occurrence)
    lane = lane_of(line.definition, payload["payload"]) if payload else line.lane
    cools = line.cooldown_until is not None and occurrence.comes < line.cooldown_until
    if cools and line.refusal(lane) is None:
        decision.add(skipped(line, kind, occurrence, "cooldown", lane, cause, **payload))
    else:
        overlap.admit(decision, kind, occurrence, cause, **payload)


def verdict_on(line: Line, occurrence: Occurrence) -> Verdict:
    """What somebody wants to become of an occurrence."""
    plan = line.plans.get(occurrence.nominal)
    return Verdict.NONE if plan is None else plan.verdict


def _as_planned(decision: Decision, occurrence: Occurrence, cause: Cause) -> None:
    line = decision.require()
    if verdict_on(line, occurrence) is Verdict.HOLD:
        decision.add(held(line, occurrence, cause))
    else:
        kind = kind_on(line, occurrence)
        decision.add(skipped(line, kind, occurrence, BY_HAND, line.lane, cause))


def pass_over(
    decision: Decision,
    passed: Sequence[Occurrence],
    outcome: str,
    reason: str,
    cause: Cause,
    *,
    until: datetime | None = None,
) -> None:
    """Record that none of these fires: in ranges, and one by one what somebody skipped or moved.

    A range covers no instant whose occurrence was moved elsewhere. What is to be held is held where
    only an unfinished run is in the way.
    """
    stretch: list[Occurrence] = []
    for occurrence in passed:
        line = decision.require()
        verdict = verdict_on(line, occurrence)
        alone = verdict is Verdict.SKIP or (verdict is Verdict.HOLD and reason in CROWDED)
        if stretch and (alone or occurrence.moved_to or _interrupted(line, stretch, occurrence)):
            decision.add(ranged(line, stretch, outcome, reason, cause))
            stretch = []
        if not stretch and occurrence.moved_to is None:
            excluding.exclude(decision, occurrence.due, cause)
        if alone:
            _as_planned(decision, occurrence, cause)
        elif occurrence.moved_to is not None:
            decision.add(ranged(decision.require(), [occurrence], outcome, reason, cause))
        else:
            stretch.append(occurrence)
    if stretch:
        line = decision.require()
        decision.add(
            ranged(line, stretch, outcome, reason, cause, until=_within(line, stretch, until))
        )


def _interrupted(line: Line, stretch: Sequence[Occurrence], following: Occurrence) -> bool:
    """True if an occurrence between them was moved elsewhere, or left out by a calendar."""
    return excluding.between(line, stretch[-1].due, following.due) or any(
        plan.away and stretch[-1].due < plan.due < following.due for plan in line.plans.values()
    )


def _within(line: Line, stretch: Sequence[Occurrence], until: datetime | None) -> datetime | None:
    """How far an uncounted range may go: not over what somebody planned."""
    if until is None:
        return None
    planned = [plan.due - TICK for plan in line.plans.values() if plan.due > stretch[-1].due]
    return min([until, *planned])


def complete(decision: Decision, cause: Cause) -> None:
    """End a schedule of which no occurrence will come (T4), once nothing is buffered any more."""
    reason = _end(decision.require(), cause.at)
    if reason == "max_executions":
        overlap.drop(decision, reason, cause, all_=False)
    line = decision.require()
    if reason is not None and not line.parked:
        schedule = line.schedule
        decision.add(ScheduleCompleted(reason=reason, **about(schedule.tenant, schedule.id, cause)))


def trip(decision: Decision, cause: Cause) -> None:
    """Pause a schedule if a failure of this decision is one too many in a row (G10).

    What is due by then is decided before, as for any pause.
    """
    line = decision.require()
    limit = line.definition.pause_on_failures
    if limit is None or line.failures < limit or not line.active:
        return
    failed = [event for event in decision.events if isinstance(event, executions.FAILURES)]
    if not failed:
        return
    while decision.require().fires_by(cause.at):
        _decide_due(decision, cause)
    complete(decision, cause)
    line = decision.require()
    if line.active:
        about_ = about(line.schedule.tenant, line.schedule.id, cause)
        decision.add(_tripped(line, failed[-1], about_))


def _tripped(
    line: Line,
    failed: ExecutionFailed | ExecutionTimedOut | ExecutionDeadLettered,
    about_: dict[str, Any],
) -> ScheduleTripped:
    error = f"{failed.error.get('type')}: {failed.error.get('message')}"
    reason = f"{line.failures} executions in a row without success, the last one by {error}"
    return ScheduleTripped(
        failures=line.failures,
        execution_id=failed.execution_id,
        reason=reason[:MAX_REASON],
        **about_,
    )


def _end(line: Line, at: datetime) -> str | None:
    """Why no occurrence will come; None if one may."""
    definition = line.definition
    if line.spent:
        return "max_executions"
    if line.fires_at is not None or isinstance(definition.trigger, ManualTrigger):
        return None
    if isinstance(definition.trigger, AWAITED):
        return "end_at" if line.closes_at is not None and line.closes_at <= at else None
    if definition.end_at is None:
        return "exhausted"
    unbounded = definition.model_copy(update={"end_at": None})
    beyond = on_calendar(line, unbounded, line.through)
    return "exhausted" if beyond is None else "end_at"


def close_pause(decision: Decision, cause: Cause) -> None:
    """Record what came due while paused as one decision: nothing, once as many have fired as may."""
    line = decision.require()
    if line.schedule.status is Status.PAUSED and not line.spent:
        _skip_all(decision, "paused", cause)


def close_overlap(decision: Decision, cause: Cause) -> None:
    """Record what came due behind unfinished runs, which nobody was woken for, as one decision.

    It is done before anything changes, because a run that ends now was in the way until now.
    """
    line = decision.require()
    if line.fires_by(cause.at):
        _skip_all(decision, line.refusal(line.lane) or "", cause)


def _skip_all(decision: Decision, reason: str, cause: Cause) -> None:
    whole = False
    while not whole:
        passed, whole = _passed(decision.require(), cause.at)
        until = None if whole else _behind(decision.require(), cause.at)
        pass_over(decision, passed, "skipped", reason, cause, until=until)


def _behind(line: Line, instant: datetime) -> datetime:
    """The nominal instant up to which every occurrence has come by an instant."""
    schedule = line.schedule
    return passed_by(schedule.definition, schedule.anchor, instant, tenant=schedule.tenant)


def _passed(line: Line, until: datetime) -> _Passed:
    """What came due up to an instant, by the calendar or because it was moved there."""
    schedule = line.schedule
    away = {nominal for nominal, plan in line.plans.items() if plan.away}
    found = due_by(
        schedule.definition, schedule.anchor, line.through, until, CHUNK,
        tenant=schedule.tenant, away=away,
    )  # fmt: skip
    whole = len(found) < CHUNK
    if not away:
        return _Passed(found, whole)
    last = until if whole else found[-1].falls
    moved = [
        Occurrence(plan.due, nominal, plan.waits_at)
        for nominal, plan in line.plans.items()
        if plan.waits_at is not None and plan.waits_at <= last
    ]
    return _Passed(sorted([*found, *moved], key=_order), whole)


def _order(occurrence: Occurrence) -> tuple[datetime, datetime]:
    return occurrence.comes, occurrence.due
