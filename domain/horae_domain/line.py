"""One schedule's line in the ledger: what is decided and what is alive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import msgspec

from horae_domain import execution as executions
from horae_domain.backfills import Backfill, Order
from horae_domain.definition import Definition
from horae_domain.execution import Execution
from horae_domain.instants import first_of
from horae_domain.lanes import Lane, lane_of
from horae_domain.occurrences import TICK
from horae_domain.plans import Plan, Verdict
from horae_domain.policies import Overlap, Retry
from horae_domain.recurrence import IntervalRecurrence, interval_recurrence
from horae_domain.schedule import Schedule, Status
from horae_domain.triggers import AWAITED, ConditionTrigger

_NO_RETRIES = Retry(max_attempts=1)

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
        if self.idle and not isinstance(self.definition.trigger, AWAITED):
            return self.next_due if self.active else None
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
        if not (self.live or self.parked):
            return False
        return any(
            run.status is not executions.Status.DELAYED for run in self.live.values()
        ) or any(
            run.status is executions.Status.CHECKING and run.resume_at is None
            for run in self.parked.values()
        )

    @property
    def idle(self) -> bool:
        """True if nothing of it is alive or planned, so that it waits for nothing but its next occurrence."""
        return not (self.live or self.parked or self.plans or self.backfills)

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


def payload_for(definition: Definition, trigger: Mapping[str, Any]) -> Any:
    """What runs without a payload of its own are given."""
    return trigger.get("data") if definition.payload is None else definition.payload
