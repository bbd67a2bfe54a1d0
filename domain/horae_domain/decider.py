"""What the owner of a partition decides on a schedule's line when it is asked to.

Whatever a command does, what is due before it is decided first (`horae_domain.firing`). Nothing
can decide an instant again: the id of the execution is a function of it, and the line says up to
when all is decided.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from horae_domain import backfill_runs, delays, excluding, overlap, waits
from horae_domain import execution as executions
from horae_domain import schedule as schedules
from horae_domain.circles import MAX_DEPTH, TOO_DEEP, depth_in
from horae_domain.decision import Decision
from horae_domain.edits import Edit, PatchSchedule, RetagSchedule, as_update
from horae_domain.errors import (
    IllegalState,
    TooManyRequests,
)
from horae_domain.events import ExternalEventReceived
from horae_domain.execution import Execution, Report
from horae_domain.firing import close_pause, go_on, settle
from horae_domain.identity import execution_id
from horae_domain.occurrence_events import occurrence_id, skipped
from horae_domain.planning import around_plans
from horae_domain.policies import Priority
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import (
    CancelSchedule,
    Cause,
    CreateSchedule,
    PauseSchedule,
    ResumeSchedule,
    ScheduleCommand,
    Status,
    UpdateSchedule,
)

# --- commands ------------------------------------------------------------------------------------


ENDS = {CreateSchedule: "replaced", CancelSchedule: "cancelled"}
"""Why a backfill ends by a command on its schedule."""


class Trigger(NamedTuple):
    """Run now, whatever the calendar says; the same key is the same execution (T7)."""

    key: str
    payload: Any
    overridden: bool
    cause: Cause


def command(decision: Decision, asked: ScheduleCommand | Edit) -> None:
    """Decide a command on a schedule.

    Before an edit, a pause or an end, every instant up to it is decided under what held before;
    a pause that ends is recorded as one range.
    """
    if isinstance(asked, PatchSchedule | RetagSchedule):
        asked = as_update(decision.line.schedule if decision.line else None, asked)
    if decision.line is not None:
        if isinstance(asked, UpdateSchedule | PauseSchedule | CancelSchedule):
            settle(decision, asked.cause)
        if isinstance(asked, UpdateSchedule | ResumeSchedule | CancelSchedule):
            close_pause(decision, asked.cause)
            excluding.close(decision, asked.cause)
    _change(decision, asked)
    if isinstance(asked, UpdateSchedule | ResumeSchedule):
        go_on(decision, asked.cause)
    if isinstance(asked, CancelSchedule):
        for run in list(decision.require().live.values()):
            if run.status is not executions.Status.RUNNING:
                terms = decision.require().definition_of(run)
                decision.add(*executions.cancel(run, terms, "schedule_cancelled", asked.cause))
        overlap.drop(decision, "schedule_cancelled", asked.cause)


def _change(decision: Decision, asked: ScheduleCommand) -> None:
    schedule = decision.line.schedule if decision.line else None
    events = schedules.decide(schedule, asked)
    if events and isinstance(asked, CreateSchedule | CancelSchedule):
        backfill_runs.end(decision, ENDS[type(asked)], asked.cause)
    for event in events:
        decision.add(around_plans(decision.line, event))


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
    id_ = occurrence_id(line, "key", occurrence)
    if line.find(id_) is None:
        payload = {"payload": asked.payload, "overridden": asked.overridden}
        if depth_in(asked.cause.carried) > MAX_DEPTH:
            told = skipped(line, "key", occurrence, TOO_DEEP, line.lane, asked.cause, **payload)
            decision.add(told)
            return id_
        overlap.admit(decision, "key", occurrence, asked.cause, **payload)
    return id_


def trigger_id(tenant: str, schedule_id: str, incarnation: int, key: str) -> str:
    """The id of the execution that a key stands for."""
    return execution_id(tenant, schedule_id, incarnation, "key", key, None)


# --- executions ----------------------------------------------------------------------------------


def report(decision: Decision, id_: str, said: Report, cause: Cause) -> bool:
    """Accept or refuse the outcome of an attempt; False if what was due before it has ended it.

    What was running when its schedule was cancelled is neither tried nor asked again.
    """
    settle(decision, cause)
    line = decision.require()
    run = line.find(id_)
    if run is None:
        return False
    over = "schedule_cancelled" if line.schedule.status is Status.CANCELLED else None
    decision.add(*executions.report(run, line.terms_of(run), said, cause, over=over))
    waits.begin(decision, id_, cause)
    go_on(decision, cause)
    return True


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
    run = settled(decision, id_, cause)
    if run.status is not executions.Status.RUNNING and not decision.require().may_start(run):
        raise TooManyRequests("as many run as the schedule allows", field="execution_id", value=id_)
    definition = decision.require().definition_of(run)
    decision.add(*executions.take(run, definition, worker, lease, cause))


def cancel(decision: Decision, id_: str, reason: str, cause: Cause) -> None:
    """End an execution before its outcome."""
    run = settled(decision, id_, cause)
    decision.add(*executions.cancel(run, decision.require().definition_of(run), reason, cause))
    go_on(decision, cause)


def settled(decision: Decision, id_: str, cause: Cause) -> Execution:
    """An execution after what was due before, which may have ended it."""
    before = decision.run(id_)
    settle(decision, cause)
    return decision.fate(before)


def reprioritize(decision: Decision, id_: str, priority: Priority, cause: Cause) -> None:
    """Let an execution that waits do so under another priority."""
    run = settled(decision, id_, cause)
    decision.add(*executions.reprioritize(run, priority, cause))


def ask_to_stop(decision: Decision, id_: str, reason: str, grace: timedelta, cause: Cause) -> None:
    """Cancel an execution, but give its running attempt until the end of the grace to stop."""
    run = settled(decision, id_, cause)
    if run.status is executions.Status.RUNNING:
        decision.add(*executions.ask_to_stop(run, reason, grace, cause))
    else:
        terms = decision.require().definition_of(run)
        decision.add(*executions.cancel(run, terms, reason, cause))
        go_on(decision, cause)


def confirm(decision: Decision, id_: str, event: ExternalEventReceived, cause: Cause) -> None:
    """Let an event confirm an execution that waits for it."""
    waits.confirm(decision, id_, event, cause)
    if decision.events:
        go_on(decision, cause)


def expire(decision: Decision, id_: str, cause: Cause) -> None:
    """Decide what follows if an execution has waited long enough outside of its line."""
    delays.end(decision, cause)
    waits.expire(decision, id_, cause)
    if decision.events:
        go_on(decision, cause)


def recover(decision: Decision, owner: str, cause: Cause) -> None:
    """A new owner takes the line over: attempts inside another process's memory are lost."""
    for run in list(decision.require().live.values()):
        if run.local and run.status is executions.Status.RUNNING and run.worker != owner:
            definition = decision.require().terms_of(run)
            decision.add(*executions.lose(run, definition, cause))
    if decision.events:
        go_on(decision, cause)


def requeue(decision: Decision, run: Execution, cause: Cause) -> None:
    """Try an execution again by hand, whatever the overlap policy says and though it has ended.

    Raises:
        IllegalState: see `executions.requeue`.
    """
    settle(decision, cause)
    run = decision.fate(run)
    definition = decision.require().definition_of(run)
    decision.add(*executions.requeue(run, definition, cause))
    waits.begin(decision, run.id, cause)
