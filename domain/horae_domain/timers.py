"""Timers by name: what waits for an instant, and what moving or cancelling it means (Q12).

A timer's id says what waits, so it stays the same wherever the timer is moved, and never means
another one: `occurrence:<schedule>@<nominal instant>`, `backfill:<schedule>@<backfill>`,
`look:<schedule>@<instant>`, `cooldown:<schedule>@<instant>`, and for an execution `<kind>:<execution>`, followed by `@<attempt>` where it belongs to one attempt.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

from horae_domain import backfill_runs, decider, waits
from horae_domain import execution as executions
from horae_domain.decision import Decision
from horae_domain.errors import IllegalState, InvalidField, TimerNotFound
from horae_domain.execution import Execution, Status
from horae_domain.firing import BY_HAND, go_on, settle
from horae_domain.instants import format_instant, parse_instant
from horae_domain.schedule import Cause
from horae_domain.timeouts import DELAYS, TIMERS

OCCURRENCE, BACKFILL, LOOK, COOLDOWN = "occurrence", "backfill", "look", "cooldown"
OF_SCHEDULES = frozenset({OCCURRENCE, BACKFILL, LOOK, COOLDOWN})
"""Kinds of ids that name a schedule."""
OF_ATTEMPTS = frozenset({"retry", "poll", "start_to_close", "heartbeat", "stop"})
"""Kinds of timers of which each attempt has its own."""

_ID = re.compile(
    r"(?P<kind>[a-z_]{1,32}):(?P<subject>[A-Za-z0-9_.:-]{1,128})(?:@(?P<which>.{1,64}))?"
)
_EXECUTION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class TimerId(NamedTuple):
    """The name of a timer; `str` gives its form on the wire."""

    kind: str
    subject: str
    """The id of the schedule or of the execution."""
    which: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.subject}" + (f"@{self.which}" if self.which else "")

    @property
    def due(self) -> datetime:
        """The nominal instant of an occurrence, or when something else of a schedule comes."""
        return parse_instant(self.which, field="id")


def of_occurrence(schedule_id: str, due: datetime) -> TimerId:
    """The timer of an occurrence of a schedule, by its nominal instant."""
    return TimerId(OCCURRENCE, schedule_id, format_instant(due))


def of_backfill(schedule_id: str, backfill_id: str) -> TimerId:
    """The timer of a backfill of a schedule."""
    return TimerId(BACKFILL, schedule_id, backfill_id)


def of_look(schedule_id: str, due: datetime) -> TimerId:
    """The timer of the next time that the check of a schedule is asked."""
    return TimerId(LOOK, schedule_id, format_instant(due))


def of_cooldown(schedule_id: str, until: datetime) -> TimerId:
    """The timer of the end of a schedule's cooldown."""
    return TimerId(COOLDOWN, schedule_id, format_instant(until))


def of_execution(kind: str, execution_id: str, attempt: int) -> TimerId:
    """A timer of an execution of which `attempt` was the last one begun."""
    return TimerId(kind, execution_id, str(attempt) if kind in OF_ATTEMPTS else "")


def parse_timer_id(text: str) -> TimerId:
    """The timer of its wire form.

    Raises:
        InvalidField: it is none.
    """
    found = _ID.fullmatch(text)
    if found is not None:
        id_ = TimerId(found["kind"], found["subject"], found["which"] or "")
        if id_.kind == BACKFILL and id_.which:
            return id_
        if id_.kind in OF_SCHEDULES and id_.which:
            return id_._replace(which=format_instant(id_.due))
        if id_.kind in TIMERS and _EXECUTION.fullmatch(id_.subject):
            return id_
    raise InvalidField("not the id of a timer; `timer.list` tells them", field="id", value=text)


_RESUMED = {Status.DELAYED, Status.CHECKING}


def timers_of(run: Execution) -> dict[str, datetime]:
    """Every timer of an execution that waits, by kind."""
    found = {
        kind: instant
        for kind, field in TIMERS.items()
        if field != "resume_at" and (instant := getattr(run, field)) is not None
    }
    if run.status in _RESUMED and run.resume_at is not None:
        found["check" if run.status is Status.CHECKING else run.delay] = run.resume_at
    return found


# --- decide --------------------------------------------------------------------------------------


def move(decision: Decision, id_: TimerId, to: datetime, note: str, cause: Cause) -> Execution:
    """Put a timer of an execution to another instant, sooner or later.

    Raises:
        InvalidField: the instant has passed.
        TimerNotFound: it does not wait any more.
    """
    if to < cause.at:
        raise InvalidField("the instant has passed", field="to", value=format_instant(to))
    run, was = _waiting(decision, id_, cause)
    decision.add(*executions.move_timer(run, id_.kind, was, to, note, cause))
    waits.begin(decision, run.id, cause)  # what has nothing to do first is ready now, perhaps
    return decision.fate(run)


def cancel(decision: Decision, id_: TimerId, note: str, cause: Cause) -> Execution:
    """Let a timer of an execution not come: a timeout is lifted, what waits for its time ends.

    A retry that is cancelled is given up: the execution is a dead letter. One that was to be asked
    again, or waits to begin, is cancelled.

    Raises:
        TimerNotFound: it does not wait any more.
        IllegalState: see `executions.lift_timer`; or it was asked to stop.
    """
    run, was = _waiting(decision, id_, cause)
    match id_.kind:
        case "retry":
            decision.add(*executions.give_up(run, note or "its retry was cancelled", cause))
        case "check":
            decision.add(*executions.drop(run, note or BY_HAND, cause))
        case kind if kind in DELAYS:
            definition = decision.require().definition_of(run)
            decision.add(*executions.cancel(run, definition, note or "cancelled", cause))
        case "stop":
            raise IllegalState(
                "what was asked to stop is not asked back; its instant can be moved", field="id",
                value=str(id_), state=str(run.status),
            )  # fmt: skip
        case _:
            decision.add(*executions.lift_timer(run, id_.kind, was, note, cause))
    go_on(decision, cause)
    return decision.fate(run)


def _waiting(decision: Decision, id_: TimerId, cause: Cause) -> tuple[Execution, datetime]:
    """The execution and its timer, after what was due before."""
    run = decider.settled(decision, id_.subject, cause)
    was = timers_of(run).get(id_.kind) if run.status.alive else None
    if was is None or id_ != of_execution(id_.kind, run.id, run.attempt):
        raise _not_found(id_)
    return run, was


def end_backfill(decision: Decision, id_: TimerId, cause: Cause) -> None:
    """End a backfill before all of it has run; what it has requested goes on.

    Raises:
        ScheduleNotFound.
        TimerNotFound: it has ended.
    """
    settle(decision, cause)
    if id_.which not in decision.require().backfills:
        raise _not_found(id_)
    backfill_runs.end_one(decision, id_.which, "cancelled", cause)
    go_on(decision, cause)


def refuse_fixed(decision: Decision, id_: TimerId, cause: Cause) -> None:
    """Refuse to move or to cancel what follows from the definition of a schedule.

    Raises:
        ScheduleNotFound.
        TimerNotFound: it does not wait any more.
        IllegalState: it waits.
    """
    line = decision.require()
    waits_for = line.tick_after(cause.at) if id_.kind == LOOK else line.cooldown_until
    if waits_for is None or waits_for != id_.due or waits_for <= cause.at:
        raise _not_found(id_)
    raise IllegalState(_FIXED[id_.kind], field="id", value=str(id_), state="waiting")


_FIXED = {
    LOOK: "the check is asked at every interval of its trigger: pause the schedule, or change `every`",
    COOLDOWN: "a cooldown follows from what has fired: trigger the schedule by hand, or change it",
}
"""Why timers of these kinds are neither moved nor cancelled."""


def _not_found(id_: TimerId) -> TimerNotFound:
    return TimerNotFound("nothing waits under this id", field="id", value=str(id_))
