"""An engine that is driven by hand: nothing fires unless somebody lets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from horae import Context, Horae, RetryAfter
from horae.driving import DrivenClient, Worker

PATIENCE = 60.0
"""Seconds until a condition that has not come is taken as one that never will."""
PAST: dict[str, Any] = {"at": "2026-01-01T00:00:00Z", "allow_past": True}


class Remind(BaseModel):
    number: int


class Desk:
    def __init__(self) -> None:
        self.app = Horae("desk")
        self.taken: list[int] = []
        self.failing: list[Exception] = []
        self.waiting: asyncio.Event | None = None

        @self.app.command
        async def remind(ctx: Context, command: Remind) -> int:
            if self.waiting is not None:
                await self.waiting.wait()
            if self.failing:
                raise self.failing.pop()
            self.taken.append(command.number)
            return command.number


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(params=["memory", "sqlite"])
async def engine(
    request: pytest.FixtureRequest, desk: Desk, tmp_path: Path
) -> AsyncIterator[DrivenClient]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/horae.db"
    async with desk.app.embedded(url, drive="manual", data_dir=tmp_path) as client:
        yield client


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_due_commands_wait_until_they_are_processed(engine: DrivenClient, desk: Desk) -> None:
    ids = [await engine.schedule(Remind(number=number), **PAST) for number in range(3)]
    later = await engine.schedule(Remind(number=9), after="1h")
    due = await engine.due()
    assert {each.id for each in due} == set(ids)
    assert due[0].command in [Remind(number=number) for number in range(3)]
    assert len(await engine.due(limit=2)) == 2
    assert desk.taken == []
    assert await engine.process_due() == 3
    assert sorted(desk.taken) == [0, 1, 2]
    assert await engine.due() == []
    assert await engine.process_due() == 0
    assert (await engine.get(ids[0])).status == "succeeded"
    assert (await engine.get(later)).status == "scheduled"


async def test_due_command_can_still_be_withdrawn(engine: DrivenClient, desk: Desk) -> None:
    id_ = await engine.schedule(Remind(number=1), **PAST)
    assert await engine.cancel(id_) is True
    assert await engine.due() == []
    assert await engine.process_due() == 0
    assert (await engine.get(id_)).status == "cancelled"
    assert desk.taken == []


async def test_more_than_there_are_slots_are_processed_in_one_pass(
    desk: Desk, tmp_path: Path
) -> None:
    async with desk.app.embedded(drive="manual", concurrency=2, data_dir=tmp_path) as engine:
        await asyncio.gather(
            *(engine.schedule(Remind(number=number), **PAST) for number in range(50))
        )
        assert await engine.process_due() == 50
    assert sorted(desk.taken) == list(range(50))


async def test_failed_command_is_due_again_at_its_retry(engine: DrivenClient, desk: Desk) -> None:
    desk.failing = [RetryAfter("20ms", "busy")]
    id_ = await engine.schedule(Remind(number=1), **PAST)
    ended = await engine.process_due()
    assert ended >= 1
    async with asyncio.timeout(PATIENCE):
        while (await engine.get(id_)).status != "succeeded":
            ended += await engine.process_due()
            await asyncio.sleep(0.01)
    assert (ended, desk.taken) == (2, [1])


async def test_two_passes_at_once_hand_out_each_command_once(
    engine: DrivenClient, desk: Desk
) -> None:
    for number in range(5):
        await engine.schedule(Remind(number=number), **PAST)
    counts = await asyncio.gather(engine.process_due(), engine.process_due())
    assert sorted(counts) == [0, 5]
    assert len(desk.taken) == 5


async def test_schedules_wait_for_the_pass_too(engine: DrivenClient, desk: Desk) -> None:
    ran: list[str] = []
    desk.app.handler("work")(lambda ctx: ran.append(ctx.schedule_id))
    await engine.create_schedule("job", {"type": "manual"}, "work")
    await engine.trigger_schedule("job")
    await engine.schedule(Remind(number=1), after="1h")
    assert ran == []
    assert await engine.process_due() == 1
    assert ran == ["job"]


async def test_worker_runs_once(engine: DrivenClient, desk: Desk) -> None:
    worker = engine.worker()
    assert isinstance(worker, Worker)
    assert await worker.run_once() == 0
    await engine.schedule(Remind(number=1), **PAST)
    assert await worker.run_once() == 1
    assert desk.taken == [1]


async def test_worker_is_woken_by_commands_and_by_their_instant(
    engine: DrivenClient, desk: Desk
) -> None:
    worker = engine.worker(poll_interval=3600)
    await worker.start()
    await worker.start()
    await engine.schedule(Remind(number=1), **PAST)
    await until(lambda: desk.taken == [1])
    await engine.schedule(Remind(number=2), after="300ms")
    await until(lambda: desk.taken == [1, 2])
    await worker.stop()
    await worker.stop()
    await engine.schedule(Remind(number=3), **PAST)
    assert len(await engine.due()) == 1
    assert desk.taken == [1, 2]
    await worker.start()
    await until(lambda: desk.taken == [1, 2, 3])
    await worker.stop()


async def test_worker_stops_after_what_runs(engine: DrivenClient, desk: Desk) -> None:
    desk.waiting = asyncio.Event()
    worker = engine.worker()
    await engine.schedule(Remind(number=1), **PAST)
    await worker.start()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0.05)
    assert not stopping.done()
    desk.waiting.set()
    async with asyncio.timeout(PATIENCE):
        await stopping
    assert desk.taken == [1]


async def test_commands_of_an_engine_driven_by_hand_are_there_for_the_next(
    desk: Desk, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/horae.db"
    async with desk.app.embedded(url, drive="manual") as engine:
        id_ = await engine.schedule(Remind(number=1), **PAST)
    for processed in (1, 0):
        async with desk.app.embedded(url, drive="manual") as engine:
            assert await engine.process_due() == processed
            assert (await engine.get(id_)).status == "succeeded"
    assert desk.taken == [1]
