"""A running attempt that is asked to stop: once, with a grace, and never tried again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from histories import History, at, cause, like, said

from horae_domain import execution as executions
from horae_domain.decision import Decision
from horae_domain.events import (
    AttemptFailed,
    CancellationRequested,
    ExecutionCancelled,
    ExecutionDelayed,
    ExecutionSucceeded,
)

GRACE = timedelta(seconds=30)


def ask(decision: Decision, seconds: float) -> None:
    (run,) = decision.require().live.values()
    decision.add(*executions.ask_to_stop(run, "enough", GRACE, cause(seconds)))


def asked(**told: Any) -> History:
    """A run of second 60 that was asked at second 70 to stop."""
    history = History(**({"trigger": {"type": "once", "at": at(60)}} | told))
    history.settle(60)
    history.start(60)
    (event,) = history.do(ask, 70)
    assert event == like(CancellationRequested, attempt=1, reason="enough", deadline=at(100))
    return history


def test_run_is_asked_once():
    history = asked()
    assert history.do(ask, 80) == []


def test_run_that_waits_is_not_asked():
    history = History()
    history.settle(60)
    assert history.do(ask, 61) == []


def test_run_that_does_not_stop_is_cancelled_after_the_grace():
    history = asked()
    assert history.line.wake == at(100)
    assert history.settle(99.9) == []
    assert history.settle(100) == [like(ExecutionCancelled, reason="enough")]


def test_run_that_succeeds_within_the_grace_has_succeeded():
    assert asked().report(80, said()) == [like(ExecutionSucceeded)]


def test_failure_within_the_grace_is_not_tried_again():
    assert asked().report(80, said("failed")) == [
        like(AttemptFailed, retry_at=None),
        like(ExecutionCancelled, reason="enough"),
    ]


def test_run_that_asks_to_be_asked_again_is_not():
    history = asked()
    assert history.report(80, said("again")) == [like(ExecutionDelayed), like(ExecutionCancelled)]


def test_run_whose_process_is_lost_is_not_tried_again():
    assert asked().recover(80, "engine-2") == [
        like(AttemptFailed, outcome="lost", retry_at=None),
        like(ExecutionCancelled),
    ]


@pytest.mark.parametrize("limit", ["20s", "60s"])
def test_earlier_of_deadline_and_grace_ends_the_run(limit):
    history = asked(timeout={"start_to_close": limit})
    first = {"20s": 80, "60s": 100}[limit]
    assert history.line.wake == at(first)
    assert history.settle(first)[-1] == like(ExecutionCancelled, reason="enough")
