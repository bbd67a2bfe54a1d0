"""The wall clock is set while the engine runs: nothing fires twice, nothing stops."""

from __future__ import annotations

from datetime import timedelta

import pytest
from stepping import Clock, Stepped

from horae_domain.events import AttemptFailed, ExecutionRequested
from horae_infrastructure.store.memory import MemoryStore

HOUR, DAY = 3600.0, 86400.0
JUMPS = [HOUR, DAY, -HOUR, -DAY]


@pytest.fixture
def desk(clock: Clock) -> Stepped:
    stepped = Stepped(MemoryStore(clock=clock.micros), clock)
    stepped.settle()
    return stepped


class Shared(MemoryStore):
    """A store that other machines use too, with a clock of its own."""

    single_process = False


@pytest.mark.parametrize("jump", JUMPS)
def test_timeout_comes_after_its_time_though_the_clock_was_set(desk: Stepped, jump: float) -> None:
    desk.manual(timeout={"start_to_close": "10 minutes"}, retry={"max_attempts": 1})
    desk.trigger()
    desk.advance(300)
    desk.clock.jump(jump)
    desk.advance(299)
    assert desk.events(AttemptFailed) == []
    desk.advance(1)
    assert [event.outcome for event in desk.events(AttemptFailed)] == ["timed_out"]


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("delay", [30, 600, 7_200])
def test_delay_is_as_long_as_it_was_though_the_clock_was_set(
    desk: Stepped, jump: float, delay: int
) -> None:
    desk.manual(retry={"delay": f"{delay} seconds", "max_delay": "1 day", "jitter": 0})
    desk.trigger()
    desk.report(desk.executor.started[0], "failed", error={"type": "E", "message": ""})
    desk.advance(10)
    desk.clock.jump(jump)
    desk.advance(delay - 11)
    assert len(desk.executor.started) == 1
    desk.advance(1)
    assert [work.attempt for work in desk.executor.started] == [1, 2]


@pytest.mark.no_cover  # tracing would take as long again; examples cover the lines
@pytest.mark.parametrize("jump", JUMPS)
def test_no_instant_fires_twice_or_never_though_the_clock_was_set(
    desk: Stepped, jump: float
) -> None:
    desk.create(every="1 hour", overlap="allow", catch_up={"mode": "all", "window": "3 days"})
    desk.advance(10 * HOUR)
    first = desk.clock.time
    desk.engine.lines.window = int(HOUR * 1e6)
    desk.clock.jump(jump)
    desk.advance(DAY + 10 * HOUR)
    due = sorted(event.due for event in desk.events(ExecutionRequested))
    assert due == [due[0] + timedelta(hours=number) for number in range(len(due))], (
        "each once, none left out"
    )
    assert due[-1] == max(first, desk.clock.time)


def test_clock_that_the_store_does_not_agree_with_fires_nothing(clock: Clock) -> None:
    truth = Clock()
    store = Shared(clock=truth.micros)
    desk = Stepped(store, clock)
    desk.settle()
    patient = {"start_to_close": "1 day"}
    desk.create(every="1 hour", overlap="allow", timeout=patient)
    desk.manual("hand", timeout=patient)
    clock.jump(DAY)
    for _ in range(100):
        both(clock, truth, 10)
        desk.settle()
    assert desk.engine.wall.held
    assert desk.executor.started == []
    at = desk.trigger("hand") and desk.events(ExecutionRequested)[-1].at
    assert at == truth.time, "commands are decided by the time that went on"
    clock.jump(-DAY)
    both(clock, truth, 1)
    desk.settle()
    assert not desk.engine.wall.held
    for _ in range(300):
        both(clock, truth, 10)
        desk.settle()
    assert [work.schedule_id for work in desk.executor.started] == ["hand", "job"]


def test_clock_that_the_store_agrees_with_later_fires_by_the_catch_up_policy(clock: Clock) -> None:
    truth = Clock()
    desk = Stepped(Shared(clock=truth.micros), clock)
    desk.settle()
    desk.create(every="1 hour", catch_up={"mode": "latest", "window": "2 days"})
    clock.jump(5 * HOUR)
    desk.settle()
    assert desk.executor.started == []
    truth.jump(5 * HOUR)
    both(clock, truth, 1)
    desk.settle()
    assert len(desk.executor.started) == 1


def test_engine_that_starts_with_a_wrong_clock_holds_from_the_beginning(clock: Clock) -> None:
    truth = Clock()
    store = Shared(clock=truth.micros)
    right = Stepped(store, truth)
    right.settle()
    right.create(every="1 hour")
    clock.jump(DAY)
    right.engine.ownership.leave()
    wrong = Stepped(store, clock, name="wrong")
    for _ in range(5):
        wrong.settle()
        both(clock, truth, 1)
    assert wrong.engine.wall.held
    assert wrong.executor.started == []


def test_clock_that_drifts_away_from_the_store_s_is_noticed(clock: Clock) -> None:
    truth = Clock()
    desk = Stepped(Shared(clock=truth.micros), clock)
    desk.settle()
    for _ in range(10):
        both(clock, truth, 10)
        clock.jump(1)
        desk.settle()
    assert desk.engine.wall.held


def both(clock: Clock, truth: Clock, seconds: float) -> None:
    clock.move(seconds)
    truth.move(seconds)
