"""How long history is kept, and what is recorded of it before it is erased (O5).

What is erased is whole: an execution that has ended, or a one-time schedule that has, with its
executions. Their numbers in the log stay empty. Before that, one event says what the line and the
counts of the schedule were with them, so that a fold of what is left gives the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from horae_domain.events import (
    Event,
    ExecutionReleased,
    ExecutionRequested,
    HistoryErased,
    ScheduleErased,
)
from horae_domain.execution import Execution, Status
from horae_domain.ledger import OFF_CALENDAR, UNTIMED, Line, facts_of
from horae_domain.schedule import Cause, Schedule, about
from horae_domain.triggers import OnceTrigger

ASKED = frozenset({"key"}) | UNTIMED
"""Kinds of executions that are known again by the id of what asked for them."""


class Retention(NamedTuple):
    """How long what has ended is kept."""

    successes: timedelta = timedelta(days=7)
    failures: timedelta = timedelta(days=30)
    """Of whatever ended without success, skipped occurrences included."""
    once: timedelta = timedelta(days=90)
    """Of one-time schedules, and of commands that were scheduled."""
    keys: timedelta = timedelta(days=30)
    """Of idempotency keys: a request that comes again later is a new one."""

    def keeps(self, run: Execution, ended: datetime, now: datetime) -> bool:
        """True unless an execution may be erased."""
        if run.status.alive or run.status.parked:
            return True
        age = self.successes if run.status is Status.SUCCEEDED else self.failures
        if run.kind in ASKED:
            age = max(age, self.keys)
        return ended > now - age

    def keeps_schedule(self, line: Line, now: datetime) -> bool:
        """True unless a whole schedule may be erased."""
        one_time = isinstance(line.definition.trigger, OnceTrigger)
        return not (one_time and line.settled and line.schedule.changed_at <= now - self.once)


class Ended(NamedTuple):
    """An execution that has ended, and its events."""

    run: Execution
    events: Sequence[Event]

    @property
    def at(self) -> datetime:
        """When it ended."""
        return self.events[-1].at

    @property
    def fired(self) -> bool:
        """True if it was more than a decision against it."""
        return any(isinstance(each, ExecutionRequested | ExecutionReleased) for each in self.events)


def erase(
    line: Line,
    runs: Sequence[Ended],
    former: HistoryErased | None,
    cause: Cause,
    *,
    older: Iterable[str] = (),
) -> HistoryErased:
    """What is recorded before executions are erased.

    Args:
        line: of their schedule.
        runs: what is erased, of the schedule's present incarnation.
        former: what was recorded the last time.
        cause: when, and on whose word.
        older: executions of former incarnations, which count for nothing any more.
    """
    schedule = line.schedule
    if former is not None and former.incarnation != schedule.incarnation:
        former = None
    last = _last(runs, former)
    return HistoryErased(
        executions=[each.run.id for each in runs],
        older=list(older),
        incarnation=schedule.incarnation,
        line=facts_of(line),
        gone=_gone(runs, former.gone if former else {}),
        last_due=last[0],
        last_execution_id=last[1],
        **about(schedule.tenant, schedule.id, cause),
    )


def erase_schedule(
    schedule: Schedule, runs: Iterable[str], decisions: Sequence[int], cause: Cause
) -> ScheduleErased:
    """What is recorded before a schedule and its executions are erased."""
    return ScheduleErased(
        executions=list(runs),
        decisions=list(decisions),
        **about(schedule.tenant, schedule.id, cause),
    )


def _gone(runs: Sequence[Ended], before: Mapping[str, int]) -> dict[str, int]:
    """How many executions are erased in all, by what the schedule counts."""
    counts = Counter(before)
    for each in runs:
        counts[str(each.run.status)] += 1
        counts["fired"] += each.fired
        counts["counted"] += each.fired and each.run.kind not in OFF_CALENDAR
    return {name: count for name, count in sorted(counts.items()) if count}


def _last(
    runs: Sequence[Ended], former: HistoryErased | None
) -> tuple[datetime | None, str | None]:
    """The latest of those erased that fired."""
    found = [(each.run.due, each.run.id) for each in runs if each.fired]
    if former is not None and former.last_due is not None and former.last_execution_id is not None:
        found.append((former.last_due, former.last_execution_id))
    return max(found, default=(None, None))
