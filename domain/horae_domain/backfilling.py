"""The request to run the occurrences of a past window again, with their logical times (G11)."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from horae_domain.backfill_runs import advance
from horae_domain.backfills import Order
from horae_domain.decision import Decision
from horae_domain.errors import InvalidField, TooManyRequests
from horae_domain.events import ScheduleBackfillStarted
from horae_domain.firing import settle
from horae_domain.instants import format_instant
from horae_domain.ledger import Line
from horae_domain.occurrences import TICK, due_within
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause, about, require_running

MAX_COUNT = 100_000
"""Occurrences of one backfill."""
MAX_BACKFILLS = 10
"""Backfills of a schedule that go on at once."""


class BackfillSchedule(NamedTuple):
    """Run what was due from `first` to `last`, both inclusive, by the present definition."""

    id: str
    first: datetime
    last: datetime
    order: Order
    note: str
    cause: Cause


def find(line: Line, asked: BackfillSchedule) -> list[Occurrence]:
    """The occurrences of the window.

    Raises:
        InvalidField: the window is not in the past, or has none or too many of them.
        IllegalState: the schedule has ended.
    """
    schedule = require_running(line.schedule)
    if asked.last > asked.cause.at:
        raise InvalidField(
            "a backfill is of the past", field="to", value=format_instant(asked.last)
        )
    if asked.first > asked.last:
        raise InvalidField("`from` is after `to`", field="from", value=format_instant(asked.first))
    found = due_within(schedule.definition, schedule.anchor, asked.first, asked.last, MAX_COUNT + 1)
    if not found:
        raise InvalidField("the window has no occurrence", field="from")
    if len(found) > MAX_COUNT:
        raise InvalidField(
            f"a backfill has at most {MAX_COUNT} occurrences", field="from", limit=MAX_COUNT
        )
    return found


def backfill(decision: Decision, asked: BackfillSchedule) -> list[Occurrence]:
    """Begin a backfill; one that goes on already is left as it is.

    Raises:
        ScheduleNotFound, InvalidField, IllegalState: see `find`.
        TooManyRequests: so many go on already.
    """
    settle(decision, asked.cause)
    line = decision.require()
    found = find(line, asked)
    if asked.id in line.backfills:
        return found
    if len(line.backfills) >= MAX_BACKFILLS:
        raise TooManyRequests("so many backfills go on already", limit=MAX_BACKFILLS)
    schedule = line.schedule
    decision.add(
        ScheduleBackfillStarted(
            backfill_id=asked.id,
            start=found[0].due - TICK,
            first=found[0].due,
            last=found[-1].due,
            overlap=str(asked.order),
            count=len(found),
            revision=schedule.revision,
            anchor=schedule.anchor,
            note=asked.note,
            **about(schedule.tenant, schedule.id, asked.cause),
        )
    )
    advance(decision, asked.cause)
    return found
