"""Rows of queues and tenants, by single events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from horae_domain.events import (
    AttemptStarted,
    Event,
    ExecutionRequested,
    QueueLimited,
    QueuePaused,
    QueueResumed,
    TenantLimited,
)
from horae_projections.fold import project
from horae_projections.ports import Key
from horae_projections.queues import waiting_for
from horae_projections.rows import ALL_QUEUES, EXECUTIONS, QUEUES, QueueRow
from horae_projections.sheet import Sheet

AT = datetime(2026, 1, 5, tzinfo=UTC)
ABOUT: dict[str, Any] = {"at": AT, "tenant": "acme"}


def folded(*events: Event) -> Sheet:
    sheet = Sheet()
    for number, event in enumerate(events, 1):
        project(sheet, number, event)
    return sheet


def queue(sheet: Sheet, name: str = "mail") -> QueueRow:
    row: QueueRow = sheet.get(Key(QUEUES, "acme", name))
    return row


def requested(id_: str, **told: Any) -> ExecutionRequested:
    return ExecutionRequested(
        schedule_id="job", execution_id=id_, kind="key", due=AT, nominal=id_, revision=1,
        queue="mail", priority="medium", **ABOUT | told,
    )  # fmt: skip


def test_limits_of_a_queue_are_the_last_that_were_said():
    sheet = folded(
        QueueLimited(queue="mail", concurrency=3, rate=9, per=60.0, **ABOUT),
        QueueLimited(queue="mail", concurrency=4, **ABOUT),
    )
    row = queue(sheet)
    assert (row.concurrency, row.rate, row.per, row.begun) == (4, None, None, [])


def test_a_pause_is_shown_until_it_ends():
    paused = QueuePaused(queue="mail", note="audit", actor="ann", **ABOUT)
    row = queue(folded(paused))
    assert (row.paused_at, row.paused_by, row.note) == (AT, "ann", "audit")
    row = queue(folded(paused, QueueResumed(queue="mail", **ABOUT)))
    assert (row.paused_at, row.paused_by, row.note) == (None, None, "")


def test_limits_of_a_tenant_have_a_row_of_their_own():
    sheet = folded(TenantLimited(concurrency=3, weight=2, **ABOUT))
    row = queue(sheet, ALL_QUEUES)
    assert (row.concurrency, row.weight) == (3, 2)


def test_attempts_that_begin_count_for_a_rate_and_those_that_move_do_not():
    started: dict[str, Any] = {"schedule_id": "job", "execution_id": "b", "worker": "w", **ABOUT}
    sheet = folded(
        QueueLimited(queue="mail", rate=2, per=60.0, **ABOUT),
        requested("a", worker="w"),
        requested("b"),
        AttemptStarted(attempt=1, **started),
        AttemptStarted(attempt=1, delivery=2, **started),
        requested("c"),
    )
    row = queue(sheet)
    [(_, count)] = row.begun
    assert count == 2
    assert (row.running, row.waiting) == (2, 1)
    waits = sheet.get(Key(EXECUTIONS, "acme", "c"))
    assert waiting_for(waits, row, None, AT) == "queue_rate"
    assert waiting_for(waits, row, None, AT + timedelta(seconds=61)) is None
    assert waiting_for(sheet.get(Key(EXECUTIONS, "acme", "b")), row, None, AT) is None
    row.concurrency = 2
    assert waiting_for(waits, None, row, AT) == "tenant_concurrency"
