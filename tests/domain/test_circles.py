"""Schedules that make each other fire come to an end, and the history says where."""

from __future__ import annotations

from typing import Any

import pytest
from histories import History, at, cause, like

from horae_domain import decider, external
from horae_domain.circles import MAX_DEPTH, deepened, depth_in, depth_of
from horae_domain.errors import ChainTooDeep
from horae_domain.events import (
    ExecutionRequested,
    ExecutionSkipped,
    ExecutionSucceeded,
    ScheduleCreated,
)
from horae_domain.schedule import Cause, CreateSchedule

AFTER = {"type": "outcome", "schedule": "load"}


def deep(seconds: float, depth: int) -> Cause:
    return cause(seconds)._replace(carried=deepened({}, depth))


def trigger(history: History, depth: int, seconds: float = 1) -> list[Any]:
    asked = decider.Trigger(f"k-{seconds}", None, overridden=False, cause=deep(seconds, depth))
    return history.do(decider.trigger, asked)


def made(depth: int, **told: Any) -> History:
    """A schedule that an execution so deep, less one, has made."""
    history = History(**told)
    history.cancel(1)
    asked = CreateSchedule("default", history.line.definition, deep(2, depth))
    (created,) = history.do(decider.command, asked)
    assert created == like(ScheduleCreated, depth=depth)
    return history


def test_what_is_triggered_by_hand_is_the_first():
    history = History(trigger={"type": "manual"})
    (requested,) = trigger(history, 0)
    assert requested == like(ExecutionRequested, carried={})
    assert depth_of(history.run) == 0
    assert depth_of(None) == 0


def test_what_is_triggered_at_the_greatest_depth_runs_and_beyond_it_is_skipped():
    history = History(trigger={"type": "manual"}, overlap="allow")
    (requested,) = trigger(history, MAX_DEPTH)
    assert requested == like(ExecutionRequested, carried={"depth": "16"})
    assert depth_of(history.run) == MAX_DEPTH
    (cut,) = trigger(history, MAX_DEPTH + 1, seconds=2)
    assert cut == like(ExecutionSkipped, reason="chain_too_deep")
    assert depth_of(cut) == MAX_DEPTH + 1


def test_schedule_at_the_greatest_depth_is_made_and_beyond_it_is_refused():
    assert made(MAX_DEPTH, trigger={"type": "manual"})
    with pytest.raises(ChainTooDeep) as caught:
        made(MAX_DEPTH + 1, trigger={"type": "manual"})
    assert caught.value.field == "id"


def test_schedule_that_is_there_already_may_be_asked_for_at_any_depth():
    history = History(trigger={"type": "manual"})
    asked = CreateSchedule("default", history.line.definition, deep(2, MAX_DEPTH + 1))
    assert history.do(decider.command, asked) == []


def test_runs_of_a_schedule_are_as_deep_as_it_is():
    history = made(3, trigger={"type": "once", "after": "5s"})
    history.settle(7)
    assert depth_of(history.run) == 3


def test_run_is_as_deep_as_its_trigger_or_its_schedule():
    history = made(3, trigger=AFTER, overlap="allow")
    for number, depth in enumerate((1, 6)):
        ended = ExecutionSucceeded(
            at=at(9), schedule_id="load", execution_id=f"x-{number}", attempt=1
        )
        history.do(external.fire, external.chained(ended, depth - 1), cause(9))
    assert [depth_of(each) for each in history.live] == [3, 6]
    (requested,) = trigger(history, 5, seconds=10)
    assert depth_in(requested.carried) == 5


def test_what_is_cut_keeps_the_payload_it_would_have_had():
    history = History(trigger={"type": "manual"})
    asked = decider.Trigger("k", {"a": 1}, overridden=True, cause=deep(1, MAX_DEPTH + 1))
    (cut,) = history.do(decider.trigger, asked)
    assert cut == like(ExecutionSkipped, payload={"a": 1}, overridden=True)
