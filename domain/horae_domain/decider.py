"""What the owner of a partition decides on a schedule's line.

Every due instant gets exactly one final decision (G0), under the overlap policy (G2), the catch-up
policy (G3) and the limits. Nothing can decide it again: the id of the execution is a function of
the instant, and the line says up to when all is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, assert_never

import msgspec

from horae_domain import execution as executions
from horae_domain import schedule as schedules
from horae_domain.definition import CatchUpMode, ManualTrigger
from horae_domain.errors import (
    ExecutionNotFound,
    IllegalState,
    ScheduleNotFound,
    TooManyRequests,
)
from horae_domain.events import (
    Event,
    ExecutionRequested,
    ExecutionSkipped,
    OccurrencesDecided,
    ScheduleCompleted,
)
from horae_domain.execution import Execution, Report
from horae_domain.identity import execution_id
from horae_domain.ledger import Line, evolve
from horae_domain.occurrences import TICK, due_by, kind_of, next_occurrence
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import (
    CancelSchedule,
    Cause,
    PauseSchedule,
    ResumeSchedule,
    ScheduleCommand,
    Status,
    UpdateSchedule,
    about,
)

GRACE = timedelta(seconds=10)
"""How late an occurrence may be decided and still count as on time where catch-up is `skip`."""

CHUNK = 1000
"""The most instants that one decision looks at one by one."""


class Decision:
    """Collects the events of one decision and the line that they lead to."""

    def __init__(self, line: Line | None) -> None:
        self.line = line
        self.events: list[Event] = []

    def add(self, *events: Event) -> None:
        """Record events and fold them, so that what follows is decided on them."""
        for event in events:
            self.events.append(event)
            self.line = evolve(self.line, event)

    def require(self) -> Line:
        """The line.

        Raises:
            ScheduleNotFound: there is none.
        """
        if self.line is None:
            raise ScheduleNotFound("no such schedule", field="id")
        return self.line

    def run(self, id_: str) -> Execution:
        """A live execution.

        Raises:
            ExecutionNotFound: the line has none of this id.
        """
        run = self.require().live.get(id_)
        if run is None:
            raise ExecutionNotFound("no such live execution", field="execution_id", value=id_)
        return run


# --- commands ------------------------------------------------------------------------------------


class Trigger(NamedTuple):
    """Run now, whatever the calendar says; the same key is the same execution (T7)."""

    key: str
    payload: Any
    overridden: bool
    cause: Cause


def command(decision: Decision, asked: ScheduleCommand) -> None:
    """Decide a command on a schedule.

    Before an edit, a pause or an end, every instant up to it is decided under what held before;
    a pause that ends is recorded as one range.
    """
    if decision.line is not None:
        if isinstance(asked, UpdateSchedule | PauseSchedule | CancelSchedule):
            settle(decision, asked.cause)
            while decision.require().fires_by(asked.cause.at):
                settle(decision, asked.cause)
        if isinstance(asked, UpdateSchedule | ResumeSchedule | CancelSchedule):
            _close_pause(decision, asked.cause)
    schedule = decision.line.schedule if decision.line else None
    decision.add(*schedules.decide(schedule, asked))
    if isinstance(asked, UpdateSchedule | ResumeSchedule):
        _complete(decision, asked.cause)
    if isinstance(asked, CancelSchedule):
        for run in list(decision.require().live.values()):
            if run.status is not executions.Status.RUNNING:
                decision.add(*executions.cancel(run, "schedule_cancelled", asked.cause))


def trigger(decision: Decision, asked: Trigger) -> str:
    """Request an execution by hand and return its id; it obeys the overlap policy."""
    settle(decision, asked.cause)
    line = decision.require()
    schedule = line.schedule
    if schedule.status.ended:
        raise IllegalState(
            f"schedule {schedule.id} is {schedule.status}", field="id", state=str(schedule.status)
        )
    occurrence = Occurrence(asked.cause.at, asked.key)
    id_ = _id(line, "key", occurrence)
    if id_ in line.live:
        return id_
    if line.blocked:
        decision.add(_skipped(line, "key", occurrence, "overlap", asked.cause))
    else:
        event = _requested(line, "key", occurrence, asked.cause)
        payload = {"payload": asked.payload, "overridden": asked.overridden}
        decision.add(msgspec.structs.replace(event, **payload))
    return id_


def trigger_id(tenant: str, schedule_id: str, incarnation: int, key: str) -> str:
    """The id of the execution that a key stands for."""
    return execution_id(tenant, schedule_id, incarnation, "key", key, None)


# --- executions ----------------------------------------------------------------------------------


def report(decision: Decision, id_: str, said: Report, cause: Cause) -> None:
    """Accept or refuse the outcome of an attempt, after what was due before it."""
    settle(decision, cause)
    line = decision.require()
    run = line.live.get(id_)
    if run is not None:
        decision.add(*executions.report(run, line.definition_of(run), said, cause))


def start(decision: Decision, id_: str, worker: str, cause: Cause) -> None:
    """Hand the next attempt to a worker of this process."""
    run = decision.run(id_)
    definition = decision.require().definition_of(run)
    decision.add(*executions.start(run, definition, worker, cause, local=True))


def take(decision: Decision, id_: str, worker: str, lease: str | None, cause: Cause) -> None:
    """Give the lease of an attempt to a worker that pulled it from a queue.

    Raises:
        TooManyRequests: as many run as the schedule allows; what a former owner has published may
            be more than that.
        IllegalState: see `executions.take`.
    """
    settle(decision, cause)
    run = decision.run(id_)
    if run.status is not executions.Status.RUNNING and not decision.require().may_start(run):
        raise TooManyRequests("as many run as the schedule allows", field="execution_id", value=id_)
    definition = decision.require().definition_of(run)
    decision.add(*executions.take(run, definition, worker, lease, cause))


def cancel(decision: Decision, id_: str, reason: str, cause: Cause) -> None:
    """End an execution before its outcome."""
    settle(decision, cause)
    decision.add(*executions.cancel(decision.run(id_), reason, cause))


def recover(decision: Decision, owner: str, cause: Cause) -> None:
    """A new owner takes the line over: attempts inside another process's memory are lost."""
    for run in list(decision.require().live.values()):
        if run.local and run.status is executions.Status.RUNNING and run.worker != owner:
            definition = decision.require().definition_of(run)
            decision.add(*executions.lose(run, definition, cause))


# --- what is due ---------------------------------------------------------------------------------


def settle(decision: Decision, cause: Cause) -> None:
    """Decide what is due: deadlines that have passed, then occurrences, at most `CHUNK`.

    `line.wake` lies in the past while there is more.
    """
    if decision.require().waits_for_run:
        _close_overlap(decision, cause)
    for run in list(decision.require().live.values()):
        definition = decision.require().definition_of(run)
        decision.add(*executions.expire(run, definition, cause))
    if decision.require().fires_by(cause.at):
        _decide_due(decision, cause)
    if decision.require().schedule.status is Status.ACTIVE:
        _complete(decision, cause)


def _decide_due(decision: Decision, cause: Cause) -> None:
    line = decision.require()
    passed = _passed(line, cause.at)
    if not passed:
        # The zone's rules have changed since next_due was recorded; ask them again.
        decision.line = msgspec.structs.replace(line, next_due=_next_due(line, line.through))
        return
    oldest = cause.at - max(line.definition.catch_up.window, GRACE)
    missed = [each for each in passed if each.due < oldest]
    if missed:
        uncounted = oldest - TICK if len(missed) == CHUNK else None
        decision.add(_range(line, missed, "missed", "catch_up_window", cause, until=uncounted))
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
        decision.add(_range(decision.require(), late, "skipped", reason, cause))
    _each(decision, passed[len(late) :], cause)


def _each(decision: Decision, passed: Sequence[Occurrence], cause: Cause) -> None:
    for index, occurrence in enumerate(passed):
        line = decision.require()
        if line.next_due is None:
            return
        kind = kind_of(line.definition)
        if line.waits_for_run:
            decision.add(_range(line, passed[index:], "skipped", "overlap", cause))
            return
        if line.blocked:
            decision.add(_skipped(line, kind, occurrence, "overlap", cause))
        elif line.cooldown_until is not None and occurrence.due < line.cooldown_until:
            decision.add(_skipped(line, kind, occurrence, "cooldown", cause))
        else:
            decision.add(_requested(line, kind, occurrence, cause))


def _complete(decision: Decision, cause: Cause) -> None:
    line = decision.require()
    reason = _end(line)
    if reason is not None:
        schedule = line.schedule
        decision.add(ScheduleCompleted(reason=reason, **about(schedule.tenant, schedule.id, cause)))


def _end(line: Line) -> str | None:
    """Why no occurrence will come; None if one may."""
    definition = line.definition
    if definition.max_executions is not None and line.fired >= definition.max_executions:
        return "max_executions"
    if line.next_due is not None or isinstance(definition.trigger, ManualTrigger):
        return None
    unbounded = definition.model_copy(update={"end_at": None})
    beyond = next_occurrence(unbounded, line.schedule.anchor, line.through)
    return "exhausted" if beyond is None else "end_at"


def _close_pause(decision: Decision, cause: Cause) -> None:
    """Record what came due while paused as one decision."""
    if decision.require().schedule.status is Status.PAUSED:
        _skip_all(decision, "paused", cause)


def _close_overlap(decision: Decision, cause: Cause) -> None:
    """Record what came due behind unfinished runs, which nobody was woken for, as one decision.

    It is done before anything changes, because a run that ends now was in the way until now.
    """
    if decision.require().fires_by(cause.at):
        _skip_all(decision, "overlap", cause)


def _skip_all(decision: Decision, reason: str, cause: Cause) -> None:
    line = decision.require()
    passed = _passed(line, cause.at)
    if passed:
        until = cause.at if len(passed) == CHUNK else None
        decision.add(_range(line, passed, "skipped", reason, cause, until=until))


def _passed(line: Line, until: datetime) -> list[Occurrence]:
    schedule = line.schedule
    return due_by(schedule.definition, schedule.anchor, line.through, until, CHUNK)


# --- events --------------------------------------------------------------------------------------


def _id(line: Line, kind: str, occurrence: Occurrence) -> str:
    schedule = line.schedule
    instant = None if kind == "key" else occurrence.due
    return execution_id(
        schedule.tenant, schedule.id, schedule.incarnation, kind, occurrence.nominal, instant
    )


def _next_due(line: Line, after: datetime, *, fired: int = 0) -> datetime | None:
    limit = line.definition.max_executions
    if limit is not None and line.fired + fired >= limit:
        return None
    occurrence = next_occurrence(line.definition, line.schedule.anchor, after)
    return occurrence.due if occurrence else None


def _occurrence_fields(
    line: Line, kind: str, occurrence: Occurrence, cause: Cause
) -> dict[str, Any]:
    schedule = line.schedule
    return {
        **about(schedule.tenant, schedule.id, cause),
        "execution_id": _id(line, kind, occurrence),
        "kind": kind,
        "due": occurrence.due,
        "nominal": occurrence.nominal,
        "revision": schedule.revision,
    }


def _requested(line: Line, kind: str, occurrence: Occurrence, cause: Cause) -> ExecutionRequested:
    scheduled = kind != "key"
    return ExecutionRequested(
        run_number=line.fired + 1 if scheduled else None,
        priority=str(line.definition.priority),
        queue=line.definition.queue,
        next_due=_next_due(line, occurrence.due, fired=1) if scheduled else None,
        **_occurrence_fields(line, kind, occurrence, cause),
    )


def _skipped(
    line: Line, kind: str, occurrence: Occurrence, reason: str, cause: Cause
) -> ExecutionSkipped:
    return ExecutionSkipped(
        reason=reason,
        blocked_by=_blocker(line) if reason == "overlap" else None,
        next_due=_next_due(line, occurrence.due) if kind != "key" else None,
        **_occurrence_fields(line, kind, occurrence, cause),
    )


def _range(
    line: Line,
    passed: Sequence[Occurrence],
    decision: str,
    reason: str,
    cause: Cause,
    *,
    until: datetime | None = None,
) -> OccurrencesDecided:
    """One decision for several occurrences; with `until` for all up to there, not counted."""
    schedule = line.schedule
    last = until or passed[-1].due
    return OccurrencesDecided(
        decision=decision,
        reason=reason,
        first=passed[0].due,
        last=last,
        count=None if until else len(passed),
        revision=schedule.revision,
        blocked_by=_blocker(line) if reason == "overlap" else None,
        next_due=_next_due(line, last),
        **about(schedule.tenant, schedule.id, cause),
    )


def _blocker(line: Line) -> str | None:
    return next(iter(line.live), None)
