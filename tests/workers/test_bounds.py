"""Bounds of an executor: when it is over them, and what it then does not take."""

from __future__ import annotations

import asyncio
import os
import time

import attempts
import psutil
import pytest

from horae_application.messages import Reply
from horae_application.registry import Registry
from horae_infrastructure.usage import ProcessUsage
from horae_workers.bounds import Bounds
from horae_workers.executor import Executor

MIB = 1024**2


class Used:
    """What a test says is used."""

    def __init__(self) -> None:
        self.bytes = 0
        self.seconds = 0.0
        self.now = 0.0

    def memory(self) -> int:
        return self.bytes

    def cpu(self) -> float:
        return self.seconds

    def clock(self) -> float:
        return self.now

    def pass_by(self, seconds: float, *, share: float) -> None:
        self.now += seconds
        self.seconds += seconds * share


@pytest.fixture
def used() -> Used:
    return Used()


def test_without_bounds_nothing_is_over(used: Used) -> None:
    bounds = Bounds(used)
    used.bytes = 2**60
    assert not bounds.any
    assert bounds.look() is None


def test_memory_up_to_its_bound_is_allowed(used: Used) -> None:
    bounds = Bounds(used, max_memory=100 * MIB)
    used.bytes = 100 * MIB
    assert bounds.look() is None
    used.bytes = 150 * MIB
    assert bounds.look() == "memory: 150 MiB used, 100 MiB allowed"
    used.bytes = 90 * MIB
    assert bounds.look() is None


def test_processor_time_counts_over_the_window(used: Used) -> None:
    bounds = Bounds(used, max_cpu=50, window=10, clock=used.clock)
    seen = []
    for _ in range(30):
        used.pass_by(1, share=0.8)
        seen.append(bounds.look())
    assert seen[:10] == [None] * 10  # it has not looked for so long
    assert set(seen[10:]) == {"cpu: 80 % of a core used, 50 % allowed"}
    for _ in range(10):
        used.pass_by(1, share=0.1)
        last = bounds.look()
    assert last is None


def test_short_burst_is_no_trouble(used: Used) -> None:
    bounds = Bounds(used, max_cpu=50, window=10, clock=used.clock)
    for second in range(60):
        used.pass_by(1, share=1.0 if second % 10 < 4 else 0.0)
        assert bounds.look() is None


def test_both_bounds_are_named(used: Used) -> None:
    bounds = Bounds(used, max_memory=MIB, max_cpu=1, window=1, clock=used.clock)
    used.bytes = 2 * MIB
    bounds.look()
    used.pass_by(1, share=1)
    assert bounds.look() == (
        "memory: 2 MiB used, 1 MiB allowed; cpu: 100 % of a core used, 1 % allowed"
    )


def test_usage_is_that_of_this_process() -> None:
    usage = ProcessUsage()
    known = psutil.Process(os.getpid()).memory_info().rss
    assert known / 2 < usage.memory() < known * 2
    before, end = usage.cpu(), time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert usage.cpu() >= before + 0.05


async def test_executor_over_a_bound_takes_nothing_and_goes_on_with_what_runs() -> None:
    registry, go, freed = Registry(), asyncio.Event(), []
    registry.add("work", go.wait)
    reports = []

    async def report(_work: object, outcome: dict) -> Reply:
        reports.append(outcome["outcome"])
        return Reply(200, {"ok": True})

    executor = Executor(registry, report, concurrency=2)
    executor.bind(asyncio.get_running_loop())
    executor.freed = lambda: freed.append(executor.free())
    assert executor.hold(1) == 1
    executor.start([attempts.work()])
    executor.restrain("memory: full")
    assert executor.over == "memory: full"
    assert (executor.free(), executor.hold(1), executor.take()) == (0, 0, False)
    go.set()
    while not reports:
        await asyncio.sleep(0)
    executor.restrain(None)
    assert freed[-1] == 2
    assert executor.take()
    await executor.drain(1)
