"""The partition's ledger: for each schedule one line of what was decided and what still runs.

A line is a fold of the schedule's events and of its executions' events; `horae_domain.decider`
decides on it. The store keeps a packed form of each line beside the events, written in the same
transaction, so that a new owner of a partition begins with lines instead of with history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from horae_domain import backfills, plans
from horae_domain import execution as executions
from horae_domain import schedule as schedules
from horae_domain.backfills import Backfill, Order
from horae_domain.definition import (
    AWAITED,
    ConditionTrigger,
    Definition,
    OnceTrigger,
    Overlap,
    Retry,
)
from horae_domain.events import (
    Event,
    ExecutionBuffered,
    ExecutionChecking,
    ExecutionEvent,
    ExecutionHeld,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionSkipped,
    ExecutionSucceeded,
    HistoryErased,
    OccurrenceApproved,
    OccurrenceEvent,
    OccurrencesDecided,
    OccurrenceSkipped,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
    ScheduleCancelled,
    ScheduleChecked,
    ScheduleCompleted,
    ScheduleCreated,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.execution import Execution
from horae_domain.instants import first_of
from horae_domain.lanes import Lane, lane_of
from horae_domain.occurrences import TICK, first_bound
from horae_domain.plans import Plan, Verdict
from horae_domain.recurrence import IntervalRecurrence, interval_recurrence
from horae_domain.schedule import Schedule, Status

_NO_RETRIES = Retry(max_attempts=1)

Born = ExecutionRequested | ExecutionBuffered | ExecutionChecking | ExecutionSkipped
"""How an occurrence begins that is of no calendar."""

SINGLE_SKIPS = 10
"""Skips behind unfinished runs that are recorded one by one; further ones as a range."""
BUFFER = 1_000
"""The most occurrences of a schedule that are buffered at once."""
OFF_CALENDAR = frozenset({"key", "backfill"})
"""Kinds of executions that are not the calendar's: they count for no limit of it."""
UNTIMED = frozenset({"event", "chain", "condition"})
"""Kinds of executions that count for the limits of a schedule and are of no calendar."""
UNPLANNED = OFF_CALENDAR | UNTIMED
"""Kinds that say nothing of the calendar's instants."""
BACKFILL_RUNS = 1_000
"""Unfinished executions of a backfill that is allowed to run all at once."""
CROWDED = frozenset({"overlap", "buffer_full"})
"""Reasons of skips behind unfinished runs."""


class Checked(msgspec.Struct, frozen=True, array_like=True):
    """What the check of a schedule has answered last, as far as it was recorded."""

    holds: bool
    failure: str | None = None
    """Why it could not answer; `holds` is then what it was before."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule's line: what is decided and what is alive."""

    schedule: Schedule
    through: datetime
    """Every occurrence due at or before it has its decision, but for those moved elsewhere."""
    next_due: datetime | None
    """The calendar's next instant, leaving out those moved elsewhere."""
    fired: int = 0
    """Occurrences fired in this incarnation; what `max_executions` counts."""
    failures: int = 0
    """Executions that ended without success since the last that succeeded, or since a resume."""
    skips: int = 0
    """Skips behind unfinished runs recorded one by one since something fired or ended."""
    cooldown_until: datetime | None = None
    checked: Checked | None = None
    live: dict[str, Execution] = {}
    """What has fired and has no outcome yet."""
    parked: dict[str, Execution] = {}
    """What is decided and has not fired yet, in the order in which it came."""
    plans: dict[str, Plan] = {}
    """What somebody planned for occurrences to come, by nominal label."""
    backfills: dict[str, Backfill] = {}
    """Backfills that go on, by their ids."""

    @property
    def definition(self) -> Definition:
        """The definition that decides from now on."""
        return self.schedule.definition

    def definition_of(self, execution: Execution) -> Definition:
        """The definition that an execution runs by."""
        return self.schedule.definitions.get(execution.revision, self.definition)

    def terms_of(self, execution: Execution) -> Definition:
        """The same, without further retries once the schedule was cancelled.

        What has gone beyond its first stage is brought to its end, or taken back, all the same.
        """
        definition = self.definition_of(execution)
        if self.schedule.status is not Status.CANCELLED or execution.stage:
            return definition
        return definition.model_copy(update={"retry": _NO_RETRIES})

    def find(self, id_: str) -> Execution | None:
        """An execution that can still change."""
        return self.live.get(id_) or self.parked.get(id_)

    @property
    def lane(self) -> Lane:
        """The lane of the calendar's occurrences."""
        return lane_of(self.definition, self.definition.payload)

    def lane_of(self, execution: Execution) -> Lane:
        """What an execution counts together with."""
        if execution.unbounded and self.definition.concurrency is None:
            return execution.id.encode()
        if self.definition.concurrency_key is None:
            return None
        return lane_of(self.definition, self.payload_of(execution))

    def payload_of(self, execution: Execution) -> Any:
        """What an execution runs with: its own payload, else its schedule's, else the event's data."""
        if execution.overridden:
            return execution.payload
        return payload_for(self.definition_of(execution), execution.trigger)

    def unfinished(self, lane: Lane) -> Collection[Execution]:
        """What has fired and has no outcome yet in a lane."""
        if lane is None:
            return self.live.values()
        return [run for run in self.live.values() if self.lane_of(run) == lane]

    def buffered(self, lane: Lane = None) -> list[Execution]:
        """What waits in the buffer, of a lane or of all."""
        return [
            run
            for run in self.parked.values()
            if run.status is executions.Status.BUFFERED and lane in (None, self.lane_of(run))
        ]

    def crowded(self, lane: Lane) -> bool:
        """True if as many are unfinished in a lane as may be, so that the overlap policy decides."""
        limit = self.definition.limit
        if self.definition.overlap is Overlap.ALLOW or limit is None or len(self.live) < limit:
            return False
        return len(self.unfinished(lane)) >= limit

    def refusal(self, lane: Lane) -> str | None:
        """Why an occurrence that came due now would be skipped for what is unfinished, if so."""
        if not self.crowded(lane):
            return None
        overlap = self.definition.overlap
        if overlap is Overlap.SKIP:
            return "overlap"
        if overlap is Overlap.TERMINATE_OTHER or not self.parked:
            return None
        same = self.buffered(lane)
        if overlap is Overlap.BUFFER_ONE and same:
            return "buffer_full"
        makes_room = overlap is Overlap.CANCEL_OTHER and same
        return "buffer_full" if len(self.buffered()) >= BUFFER and not makes_room else None

    @property
    def active(self) -> bool:
        """True unless it is paused or has ended."""
        return self.schedule.status is Status.ACTIVE

    @property
    def blocked(self) -> bool:
        """True if an occurrence that came due now would be skipped for an unfinished run."""
        return self.refusal(self.lane) is not None

    @property
    def waits_for_run(self) -> bool:
        """True if further skips behind unfinished runs need no owner until something ends."""
        return self.skips >= SINGLE_SKIPS and self.blocked

    @property
    def spent(self) -> bool:
        """True if as many have fired as may."""
        limit = self.definition.max_executions
        return limit is not None and self.fired >= limit

    def cools(self, execution: Execution, now: datetime) -> bool:
        """True while the cooldown keeps it from firing; what people triggered ignores it."""
        until = self.cooldown_until
        return execution.kind != "key" and until is not None and now < until

    @property
    def releases_at(self) -> datetime | None:
        """When the cooldown ends which is all that something buffered waits for."""
        if self.cooldown_until is None or not self.parked:
            return None
        lanes = {self.lane_of(run) for run in self.buffered() if run.kind != "key"}
        return None if all(self.crowded(lane) for lane in lanes) else self.cooldown_until

    @property
    def fires_at(self) -> datetime | None:
        """When something next comes due, by the calendar or because it was moved there."""
        if not self.plans:
            return self.next_due
        if self.spent:
            return None
        return first_of(self.next_due, *[plan.waits_at for plan in self.plans.values()])

    @property
    def backfilling(self) -> bool:
        """True if backfills go on: unless the schedule is paused, cancelled or cannot be read."""
        return self.schedule.status in {Status.ACTIVE, Status.COMPLETED}

    def runs_of(self, backfill_id: str) -> int:
        """How many executions of a backfill are unfinished."""
        return sum(run.backfill_id == backfill_id for run in self.live.values())

    def has_room(self, backfill_id: str) -> bool:
        """True if a backfill may request one more execution now."""
        if self.backfills[backfill_id].order is Order.ALLOW:
            return self.runs_of(backfill_id) < BACKFILL_RUNS
        limit = self.definition.concurrency or 1
        return len(self.live) < limit or len(self.unfinished(self.lane)) < limit

    @property
    def backfills_at(self) -> datetime | None:
        """An instant that has passed, if a backfill can go on or is done."""
        if not self.backfills or not self.backfilling:
            return None
        for id_, going in self.backfills.items():
            if self.has_room(id_) if going.left else not self.runs_of(id_):
                return going.cursor
        return None

    @property
    def holds_at(self) -> datetime | None:
        """When the first occurrence that is to wait for approval may come."""
        moments = [plan.comes for plan in self.plans.values() if plan.verdict is Verdict.HOLD]
        return max(min(moments), self.fires_at or min(moments)) if moments else None

    @property
    def wake(self) -> datetime | None:
        """When the line next needs its owner, if nobody says anything before."""
        return self.wake_unless_ready(None)

    def wake_unless_ready(self, now: datetime | None) -> datetime | None:
        """The same, leaving out runs that wait for nothing but a worker."""
        moments = [run.wake_after(now) for run in self.live.values()]
        if self.backfills:
            moments.append(self.backfills_at)
        if self.parked:
            moments.append(self.checks_after(now))
        if self.active:
            moments.append(self.holds_at if self.waits_for_run else self.fires_at)
            if self.parked:
                moments.append(self.releases_at)
            if isinstance(self.definition.trigger, AWAITED):
                moments += self.closes_at, self.tick_after(now)
        return first_of(*moments)

    @property
    def ticks(self) -> IntervalRecurrence | None:
        """When the check is asked, of a schedule that waits for a condition."""
        trigger = self.definition.trigger
        if not isinstance(trigger, ConditionTrigger) or not self.active or self.spent:
            return None
        return interval_recurrence(trigger.every, self.schedule.anchor)

    def tick_after(self, now: datetime | None) -> datetime | None:
        """When the check is asked next, after an instant or after what was decided."""
        ticks = self.ticks
        if ticks is None:
            return None
        start = self.definition.start_at
        known = [self.through, now, None if start is None else start - TICK]
        found = ticks.next(max(each for each in known if each is not None))
        end = self.definition.end_at
        return None if found is None or (end is not None and found.due > end) else found.due

    def tick_before(self, now: datetime) -> datetime | None:
        """When the check was to be asked last, up to an instant."""
        ticks, end = self.ticks, self.definition.end_at
        if ticks is None:
            return None
        found = ticks.previous((now if end is None else min(now, end)) + TICK)
        return None if found is None else found.due

    @property
    def closes_at(self) -> datetime | None:
        """When what waits for something else to happen is over."""
        definition = self.definition
        if definition.end_at is None or not isinstance(definition.trigger, AWAITED):
            return None
        return definition.end_at + TICK

    def checks_after(self, now: datetime | None) -> datetime | None:
        """When conditions are next to be checked that are not being checked now."""
        moments = [run.resume_at for run in self.parked.values() if run.resume_at is not None]
        return min((each for each in moments if now is None or each > now), default=None)

    def fires_by(self, now: datetime) -> bool:
        """True if something is due that has no decision."""
        due = self.fires_at if self.active else None
        return due is not None and due <= now

    @property
    def unsettled(self) -> bool:
        """True if a new owner has to look at it at once: work is out or waits for a worker."""
        if self.ticks is not None:
            return True
        return any(
            run.status is not executions.Status.DELAYED for run in self.live.values()
        ) or any(
            run.status is executions.Status.CHECKING and run.resume_at is None
            for run in self.parked.values()
        )

    @property
    def settled(self) -> bool:
        """True if it needs no line any more."""
        return self.schedule.status.ended and not (self.live or self.parked or self.backfills)

    def may_start(self, execution: Execution) -> bool:
        """True unless as many executions run as the schedule allows at once."""
        return self.lane_of(execution) not in self.busy_lanes()

    def busy_lanes(self) -> frozenset[Lane]:
        """The lanes in which as many run as may at once."""
        limit = self.definition.limit
        if limit is None or len(self.live) <= limit:
            return frozenset()
        running = Counter(
            self.lane_of(run)
            for run in self.live.values()
            if run.status is executions.Status.RUNNING
        )
        return frozenset(lane for lane, count in running.items() if count >= limit)


# --- fold ----------------------------------------------------------------------------------------


def evolve(line: Line | None, event: Event) -> Line | None:
    """The line after an event of its schedule or of one of its executions."""
    if isinstance(event, ExecutionEvent):
        return None if line is None else _evolve_execution(line, event)
    if isinstance(event, HistoryErased):
        return None if line is None else _recalled(line, event)
    schedule = schedules.evolve(line.schedule if line else None, event)
    if schedule is None:
        return None
    if line is None or isinstance(event, ScheduleCreated):
        return Line(
            schedule=schedule,
            through=first_bound(schedule.definition, event.at),
            next_due=schedule.next_due,
            live=line.live if line else {},
            parked=line.parked if line else {},
        )
    changes = _schedule_changes(line, schedule, event)
    return msgspec.structs.replace(line, schedule=schedule, **changes)


def _checked(line: Line, event: ScheduleChecked) -> dict[str, Any]:
    holds = event.outcome == "held"
    if event.outcome == "failed":
        holds = line.checked is not None and line.checked.holds
    failure = None if event.error is None else str(event.error.get("message", ""))
    return {"checked": Checked(holds, failure), "through": max(line.through, event.tick)}


def _bound(line: Line, schedule: Schedule, at: datetime) -> datetime:
    """What a change at `at` leaves decided: never less than before, though a clock went back.

    Except that a new once trigger may be due at the very instant at which the former trigger was.
    """
    bound = first_bound(schedule.definition, at)
    trigger = schedule.definition.trigger
    if isinstance(trigger, OnceTrigger) and trigger != line.definition.trigger:
        return bound
    return max(line.through, bound)


def _schedule_changes(line: Line, schedule: Schedule, event: Event) -> dict[str, Any]:
    match event:
        case ScheduleUpdated():
            due = None if _spent(line, schedule) else event.next_due
            same = schedule.definition.trigger == line.definition.trigger
            told = {"skips": 0, "checked": line.checked if same else None}
            bound = event.through or _bound(line, schedule, event.at)
            return told | _passed(line, bound, due)
        case ScheduleResumed():
            due = None if _spent(line, schedule) else event.next_due
            bound = event.through or _bound(line, schedule, event.at)
            return {"failures": 0, **_passed(line, bound, due)}
        case ScheduleBackfillStarted() | ScheduleBackfillCompleted():
            return {"backfills": backfills.followed(line.backfills, event)}
        case OccurrencesDecided() if event.backfill_id is not None:
            return {"backfills": backfills.followed(line.backfills, event)}
        case OccurrencesDecided() if event.nominal is not None:
            return _decided(line, event.nominal, event.last, event)
        case OccurrencesDecided():
            return _passed(line, max(line.through, event.last), event.next_due)
        case OccurrenceEvent():
            return _planned(line, event)
        case ScheduleChecked():
            return _checked(line, event)
        case _:
            return _ending_changes(event)


def _ending_changes(event: Event) -> dict[str, Any]:
    match event:
        case ScheduleQuarantined():
            return {"next_due": None, "plans": {}, "backfills": {}}
        case ScheduleCompleted() | ScheduleCancelled():
            return {"next_due": None, "plans": {}}
        case _:
            return {}


def _evolve_execution(line: Line, event: ExecutionEvent) -> Line:
    run = executions.evolve(line.find(event.execution_id), event)
    if run is None:
        failed = isinstance(event, executions.FAILURES)  # it waited, and no line holds what waits
        return msgspec.structs.replace(line, failures=line.failures + 1) if failed else line
    parked = run.status.parked
    return msgspec.structs.replace(
        line,
        live=_placed(line.live, run, there=run.status.fired),
        parked=_placed(line.parked, run, there=parked),
        **(
            _untimed_changes(line, event)
            if run.kind in UNTIMED and isinstance(event, Born)
            else _execution_changes(line, event, run)
        ),
    )


def _placed(runs: dict[str, Execution], run: Execution, *, there: bool) -> dict[str, Execution]:
    if there:
        return runs | {run.id: run}
    if run.id not in runs:
        return runs
    rest = dict(runs)
    del rest[run.id]
    return rest


def _untimed_changes(line: Line, event: Born) -> dict[str, Any]:
    """The calendar goes on as it was; a tick that was decided is not asked again."""
    changes = _fired(line, event.at) if isinstance(event, ExecutionRequested) else {}
    if event.kind == "condition":
        changes["through"] = max(line.through, event.due)
    return changes


def _execution_changes(line: Line, event: ExecutionEvent, run: Execution) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    match event:
        case ExecutionRequested() if event.backfill_id is not None:
            changes = {"backfills": backfills.followed(line.backfills, event)}
        case ExecutionRequested() if event.kind not in OFF_CALENDAR:
            changes = _fired(line, event.at) | _decided(line, event.nominal, event.due, event)
        case ExecutionReleased() if run.kind != "key":
            changes = _fired(line, event.at) | {"next_due": event.next_due}
        case ExecutionBuffered() | ExecutionChecking() if event.kind != "key":
            changes = {"skips": 0, **_decided(line, event.nominal, event.due, event)}
        case ExecutionHeld():
            changes = _decided(line, event.nominal, event.due, event)
        case ExecutionSkipped() if event.kind != "key":
            changes = _decided(line, event.nominal, event.due, event)
            changes["skips"] = line.skips + (event.reason in CROWDED)
        case ExecutionSucceeded():
            changes = {"failures": 0, "skips": 0}
            if event.cooldown_until is not None:
                changes["cooldown_until"] = event.cooldown_until
        case _ if not (run.status.alive or isinstance(event, ExecutionSkipped)):
            failed = run.status in _UNSUCCESSFUL
            changes = {"failures": line.failures + failed, "skips": 0}
    return changes


_UNSUCCESSFUL = {
    executions.Status.FAILED,
    executions.Status.TIMED_OUT,
    executions.Status.DEAD,
}


def _fired(line: Line, at: datetime) -> dict[str, Any]:
    changes: dict[str, Any] = {"fired": line.fired + 1, "skips": 0}
    cooldown = line.definition.rest
    return changes if cooldown is None else changes | {"cooldown_until": at + cooldown}


def _spent(line: Line, schedule: Schedule) -> bool:
    """Nothing of the calendar fires any more, though something else may keep the schedule open."""
    return msgspec.structs.replace(line, schedule=schedule).spent


Decided = (
    ExecutionRequested
    | ExecutionBuffered
    | ExecutionChecking
    | ExecutionSkipped
    | ExecutionHeld
    | OccurrencesDecided
)


def _decided(line: Line, nominal: str, due: datetime, event: Decided) -> dict[str, Any]:
    """One occurrence has its decision; what was moved says nothing of those around its instant."""
    if not line.plans:
        return {"through": max(line.through, due), "next_due": event.next_due}
    plan = line.plans.get(nominal)
    line = msgspec.structs.replace(line, plans=plans.decided(line.plans, nominal))
    elsewhere = plan is not None and plan.away
    through = line.through if elsewhere else max(line.through, due)
    return _passed(line, through, event.next_due)


def _passed(line: Line, through: datetime, next_due: datetime | None) -> dict[str, Any]:
    """Every instant up to `through` is behind the line."""
    changes: dict[str, Any] = {"through": through, "next_due": next_due}
    if line.plans:
        changes["plans"] = plans.kept(line.plans, through)
    return changes


def _planned(line: Line, event: OccurrenceEvent) -> dict[str, Any]:
    if isinstance(event, OccurrenceSkipped | OccurrenceApproved) and event.execution_id:
        return {}
    return {"plans": plans.planned(line.plans, event), "next_due": event.next_due}


def payload_for(definition: Definition, trigger: Mapping[str, Any]) -> Any:
    """What runs without a payload of its own are given."""
    return trigger.get("data") if definition.payload is None else definition.payload


def evolve_handed_over(
    line: Line, requested: ExecutionRequested, worker: str
) -> tuple[ExecutionRequested, Line]:
    """A decision of the same commit with its first attempt given to a worker of this process."""
    run = line.live[requested.execution_id]
    handed = executions.handed_over(requested, line.definition_of(run), worker)
    run = executions.evolve(None, handed) or run
    return handed, msgspec.structs.replace(line, live=line.live | {run.id: run})


def _recalled(line: Line, event: HistoryErased) -> Line:
    """What the line was when executions were erased: folded without them, it is another."""
    if event.incarnation != line.schedule.incarnation:
        return line
    told = told_of(event)
    return msgspec.structs.replace(
        line,
        through=told.through,
        next_due=told.next_due,
        fired=told.fired,
        failures=told.failures,
        skips=told.skips,
        cooldown_until=told.cooldown_until,
        plans=told.plans,
        backfills=told.backfills,
        checked=told.checked,
    )


# --- packed form ---------------------------------------------------------------------------------


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """What a line knows beyond the schedule's own events; executions by their ids."""

    through: datetime
    next_due: datetime | None
    fired: int
    failures: int
    skips: int
    cooldown_until: datetime | None
    live: list[str]
    parked: list[str] = []
    plans: dict[str, Plan] = {}
    backfills: dict[str, Backfill] = {}
    checked: Checked | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Packed).decode


def pack(line: Line) -> bytes:
    """The stored form of a line; empty while the schedule's events say all."""
    if _is_fresh(line):
        return b""
    return _encode(_packed(line, list(line.live), list(line.parked)))


def told_of(event: HistoryErased) -> Packed:
    """What an event says of the line."""
    return msgspec.convert(event.line, Packed)


def facts_of(line: Line) -> list[Any]:
    """The packed form as JSON values, without what is alive."""
    facts: list[Any] = msgspec.to_builtins(_packed(line, [], []))
    return facts


def _packed(line: Line, live: list[str], parked: list[str]) -> Packed:
    return Packed(
        line.through,
        line.next_due,
        line.fired,
        line.failures,
        line.skips,
        line.cooldown_until,
        live,
        parked,
        line.plans,
        line.backfills,
        line.checked,
    )


def live_ids(state: bytes) -> list[str]:
    """The executions whose events are needed to unpack a line."""
    if not state:
        return []
    packed = _decode(state)
    return [*packed.live, *packed.parked]


def unpack(state: bytes, schedule: Schedule, live: Mapping[str, Execution]) -> Line:
    """The line of a stored form."""
    if not state:
        return fresh(schedule)
    packed = _decode(state)
    return Line(
        schedule=schedule,
        through=packed.through,
        next_due=packed.next_due,
        fired=packed.fired,
        failures=packed.failures,
        skips=packed.skips,
        cooldown_until=packed.cooldown_until,
        live={each: live[each] for each in packed.live},
        parked={each: live[each] for each in packed.parked},
        plans=packed.plans,
        backfills=packed.backfills,
        checked=packed.checked,
    )


def fresh(schedule: Schedule) -> Line:
    """The line of a schedule of which nothing has been decided."""
    return Line(
        schedule=schedule,
        through=first_bound(schedule.definition, schedule.created_at),
        next_due=schedule.next_due,
    )


def _is_fresh(line: Line) -> bool:
    schedule = line.schedule
    return (
        not (
            line.live
            or line.parked
            or line.fired
            or line.failures
            or line.skips
            or line.cooldown_until
            or line.plans
            or line.backfills
            or line.checked
        )
        and line.through == first_bound(schedule.definition, schedule.created_at)
        and line.next_due == schedule.next_due
    )


def fold(events: Iterable[Event]) -> Line | None:
    """The line of a schedule from all events of it and of its executions, in order of position."""
    line: Line | None = None
    for event in events:
        line = evolve(line, event)
    return line
