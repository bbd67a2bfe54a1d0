"""Queues in the read models: what is in them, what limits them, what waits because of that."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from horae_domain.events import (
    AttemptStarted,
    ExecutionEvent,
    ExecutionRequested,
    LimitEvent,
    QueueLimited,
    QueuePaused,
    QueueResumed,
    TenantLimited,
)
from horae_domain.instants import format_instant, to_micros
from horae_domain.limits import Rate, counts_until
from horae_projections.ports import Key
from horae_projections.rows import ALL_QUEUES, QUEUES, ExecutionRow, QueueRow
from horae_projections.sheet import Sheet

DELAYS = ("delay", "retry", "poll")
"""The timers that end before an execution is ready."""
_COUNTED = {
    "pending": "waiting",
    "running": "running",
    "delayed": "delayed",
    "buffered": "buffered",
    "held": "held",
    "failed": "failed",
    "timed_out": "failed",
    "dead": "dead",
    "waiting": "unconfirmed",
}
"""Where an execution of a status is counted."""


# --- fold ----------------------------------------------------------------------------------------


def limited(sheet: Sheet, event: LimitEvent) -> None:
    """A queue or a tenant is limited, paused or resumed."""
    row = _row(sheet, event.tenant, getattr(event, "queue", ALL_QUEUES))
    match event:
        case QueueLimited() | TenantLimited():
            row.concurrency, row.rate, row.per = event.concurrency, event.rate, event.per
            if row.rate is None:
                row.begun = []
            if isinstance(event, TenantLimited):
                row.weight = event.weight
        case QueuePaused():
            row.paused_at, row.paused_by, row.note = event.at, event.actor, event.note
        case QueueResumed():
            row.paused_at, row.paused_by, row.note = None, None, ""
        case _:
            pass


def moved(sheet: Sheet, event: ExecutionEvent, row: ExecutionRow, before: str | None) -> None:
    """An execution has changed by an event; its status was another one before, perhaps."""
    left, entered = _COUNTED.get(before or ""), _COUNTED.get(row.status)
    begins = _begins(event)
    if left == entered and not begins:
        return
    for name in (row.queue, ALL_QUEUES):
        queue = _row(sheet, event.tenant, name)
        if left is not None:
            setattr(queue, left, getattr(queue, left) - 1)
        if entered is not None:
            setattr(queue, entered, getattr(queue, entered) + 1)
        if begins and queue.per is not None:
            queue.begun = _begun(queue.begun, to_micros(event.at), queue.per)


def erased(sheet: Sheet, tenant: str, row: ExecutionRow) -> None:
    """An execution is gone, with what it counted for."""
    left = _COUNTED.get(row.status)
    if left is None:
        return
    for name in (row.queue, ALL_QUEUES):
        queue = _row(sheet, tenant, name)
        setattr(queue, left, getattr(queue, left) - 1)


def _begun(before: list[tuple[int, int]], at: int, per: float) -> list[tuple[int, int]]:
    """What counts for a rate after one more attempt."""
    counts = {until: count for until, count in before if until > at}
    until = counts_until(at, round(per * 1_000_000))
    counts[until] = counts.get(until, 0) + 1
    return list(counts.items())


def _begins(event: ExecutionEvent) -> bool:
    """True if an attempt begins, not one that goes to another worker."""
    if isinstance(event, AttemptStarted):
        return event.delivery == 1
    return isinstance(event, ExecutionRequested) and event.worker is not None


def _row(sheet: Sheet, tenant: str, name: str) -> QueueRow:
    key = Key(QUEUES, tenant, name)
    row: QueueRow | None = sheet.get(key)
    if row is None:
        row = QueueRow(begun=[])
        sheet.set(key, row)
    return row


# --- answers -------------------------------------------------------------------------------------


def answer(name: str, row: QueueRow) -> dict[str, Any]:
    """A queue as `queue.get` and `queue.list` answer it."""
    return {
        "queue": name,
        "paused": row.paused_at is not None,
        "paused_at": format_instant(row.paused_at) if row.paused_at else None,
        "paused_by": row.paused_by,
        "note": row.note,
        **_limits(row),
        **_counts(row),
    }


def answer_tenant(tenant: str, row: QueueRow) -> dict[str, Any]:
    """A tenant as `tenant.get` answers it."""
    return {"tenant": tenant, **_limits(row), "weight": row.weight, **_counts(row)}


def _limits(row: QueueRow) -> dict[str, Any]:
    return {
        "concurrency": row.concurrency,
        "rate": None if (rate := _rate(row)) is None else str(rate),
    }


def _counts(row: QueueRow) -> dict[str, int]:
    names = ("waiting", "running", "delayed", "buffered", "held", "unconfirmed", "failed", "dead")
    return {name: getattr(row, name) for name in names}


def _rate(row: QueueRow) -> Rate | None:
    if row.rate is None or row.per is None:
        return None
    return Rate(row.rate, timedelta(seconds=row.per))


def waiting_for(
    row: ExecutionRow, queue: QueueRow | None, tenant: QueueRow | None, now: datetime
) -> str | None:
    """The limit for which an execution waits that could begin otherwise; None if it is none.

    Such as `queue_paused`, `queue_concurrency`, `queue_rate`, `tenant_concurrency`.
    """
    delays = [row.timers[kind] for kind in DELAYS if kind in row.timers]
    over = row.status == "delayed" and all(until <= now for until in delays)
    if row.status != "pending" and not over:
        return None
    for kind, limits in (("queue", queue), ("tenant", tenant)):
        why = None if limits is None else _full(limits, to_micros(now))
        if why is not None:
            return f"{kind}_{why}"
    return None


def _full(row: QueueRow, at: int) -> str | None:
    if row.paused_at is not None:
        return "paused"
    if row.concurrency is not None and row.running >= row.concurrency:
        return "concurrency"
    if row.rate is not None and sum(n for until, n in row.begun if until > at) >= row.rate:
        return "rate"
    return None
