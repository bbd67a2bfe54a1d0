"""Executions whose delay goes on: their schedule's line does not hold them, and all that is asked of them works."""

from __future__ import annotations

import pytest
from stepping import WORK, Clock, Stepped

import horae_application.lines
from horae_application.waiting import is_delay
from horae_domain.identity import NOWHERE
from horae_domain.instants import format_instant
from horae_infrastructure.store.memory import MemoryStore

LATER = {"type": "event", "event": "opened", "delay": "1 hour"}
HOUR = 3600.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(clock: Clock) -> Stepped:
    desk = Stepped(MemoryStore(clock=clock.micros), clock)
    assert desk.create(trigger=LATER, action=WORK).ok
    return desk


def open_(desk: Stepped, number: int) -> str:
    body = {"type": "opened", "id": f"e-{number}", "data": number}
    assert desk.ask("event.publish", body).ok
    found: str = desk.events()[-1].execution_id
    return found


def delayed(desk: Stepped) -> list[str]:
    rows = desk.store.due(range(64), (0, NOWHERE), 2**62, 100)
    return [row.stream for row in rows if is_delay(row.state)]


def started(desk: Stepped) -> list[int]:
    return [work.payload for work in desk.executor.started]


def test_line_does_not_hold_what_is_delayed(desk: Stepped):
    ids = [open_(desk, number) for number in range(5)]
    assert desk.runs() == []
    assert sorted(delayed(desk)) == sorted(ids)
    desk.advance(HOUR)
    assert sorted(started(desk)) == [0, 1, 2, 3, 4]
    assert delayed(desk) == []


def test_delays_that_end_together_come_back_as_there_is_room(
    desk: Stepped, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(horae_application.lines, "UNFINISHED", 2)
    for number in range(5):
        open_(desk, number)
    desk.advance(HOUR)
    assert len(started(desk)) == 2
    while desk.executor.running:
        assert desk.report(next(iter(desk.executor.running.values()))).ok
    assert sorted(started(desk)) == [0, 1, 2, 3, 4]


def test_cancellation_of_the_schedule_ends_delays_at_once(desk: Stepped):
    for number in range(3):
        open_(desk, number)
    assert desk.ask("schedule.cancel", {"id": "job"}).ok
    assert delayed(desk) == []
    assert desk.count("execution.cancelled") == 3
    desk.advance(HOUR)
    assert started(desk) == []


def test_delayed_execution_is_cancelled_by_hand(desk: Stepped):
    id_ = open_(desk, 1)
    assert desk.ask("execution.cancel", {"id": id_}).body["status"] == "cancelled"
    desk.advance(HOUR)
    assert started(desk) == []
    assert delayed(desk) == []


def test_delayed_execution_runs_now_if_it_is_retried_by_hand(desk: Stepped):
    id_ = open_(desk, 1)
    assert desk.ask("execution.retry", {"id": id_}).ok
    assert started(desk) == [1]
    assert delayed(desk) == []


def test_delay_is_moved(desk: Stepped, clock: Clock):
    id_ = open_(desk, 1)
    to = format_instant(clock.now().replace(hour=8, minute=10))
    assert desk.ask("timer.move", {"id": f"delay:{id_}", "to": to}).ok
    desk.advance(599)
    assert started(desk) == []
    desk.advance(2)
    assert started(desk) == [1]


def test_priority_of_what_is_delayed_is_changed(desk: Stepped):
    id_ = open_(desk, 1)
    told = {"id": id_, "priority": "critical"}
    assert desk.ask("execution.reprioritize", told).body["priority"] == "critical"
    assert delayed(desk) == [id_]
    desk.advance(HOUR)
    assert desk.executor.started[0].priority == "critical"


def test_delay_of_a_schedule_that_was_edited_ends_as_it_was(desk: Stepped):
    open_(desk, 1)
    edited = {"id": "job", "trigger": LATER | {"delay": "2 hours"}, "action": WORK}
    assert desk.ask("schedule.update", edited).ok
    desk.advance(HOUR)
    assert started(desk) == [1]
    assert desk.executor.started[0].revision == 1
