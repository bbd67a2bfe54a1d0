"""What the views do when history is erased: rows go, and the counts stay as if it were there."""

from __future__ import annotations

from horae_domain.events import HistoryErased, ScheduleErased
from horae_domain.ledger import OFF_CALENDAR, told_of
from horae_projections import queues
from horae_projections.ports import Key
from horae_projections.rows import (
    ACTIVE,
    EXECUTIONS,
    SCHEDULES,
    Counts,
    ExecutionRow,
    ScheduleRow,
)
from horae_projections.sheet import Sheet, erased_keys


def follow(sheet: Sheet, event: HistoryErased | ScheduleErased) -> None:
    """Take the rows away, and let the schedule's stand as the event says.

    So it does not matter how much of what is erased has been projected: all of it in a view that
    was there, nothing in one that is built from what is left.
    """
    schedule = Key(SCHEDULES, event.tenant, event.schedule_id)
    row: ScheduleRow | None = sheet.get(schedule)
    if isinstance(event, HistoryErased) and row is not None:
        _recall(sheet, row, event)
    for key in erased_keys(event):
        run = sheet.get(key) if key.table == EXECUTIONS else None
        if run is not None:
            queues.erased(sheet, event.tenant, run)
        if key != schedule or isinstance(event, ScheduleErased):
            sheet.remove(key)


def _recall(sheet: Sheet, row: ScheduleRow, event: HistoryErased) -> None:
    counts = row.counts = row.counts or Counts()
    for id_ in event.executions:
        run: ExecutionRow | None = sheet.get(Key(EXECUTIONS, event.tenant, id_))
        if run is not None:
            _discount(counts, run)
    before = row.gone or {}
    for name, total in event.gone.items():
        _add(counts, name, total - before.get(name, 0))
    row.gone = event.gone
    if event.last_due is not None and (row.last_due is None or row.last_due < event.last_due):
        row.last_due, row.last_execution_id = event.last_due, event.last_execution_id
    if row.status in ACTIVE:
        told = told_of(event)
        row.status, row.next_due = "active", told.next_due
        row.plans, row.backfills = told.plans or None, told.backfills or None


def _discount(counts: Counts, run: ExecutionRow) -> None:
    """Take an execution out of the counts, as far as it has come."""
    _add(counts, run.status, -1)
    if run.fired:
        _add(counts, "fired", -1)
        _add(counts, "counted", -int(run.kind not in OFF_CALENDAR))


def _add(counts: Counts, name: str, number: int) -> None:
    if name in counts.__struct_fields__:
        setattr(counts, name, getattr(counts, name) + number)
