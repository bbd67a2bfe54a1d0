"""What the views tell when history is erased: rows go, and the counts stay."""

from __future__ import annotations

import pytest
from desk import Desk, at, created, execution_id, requested, started, succeeded

from horae_domain.events import HistoryErased, ScheduleErased, SchedulePaused
from horae_infrastructure.views.memory import MemoryViews
from horae_projections.rows import Counts


@pytest.fixture
def desk() -> Desk:
    return Desk(MemoryViews())


def erased(*numbers: int, total: int, **told) -> HistoryErased:
    return HistoryErased(
        at=at(9_000),
        schedule_id="a",
        executions=[execution_id(number) for number in numbers],
        line=[at(120), at(180), total, 0, 0, None, []],
        gone={"fired": total, "counted": total, "succeeded": total},
        last_due=at(60 * max(numbers)),
        last_execution_id=execution_id(max(numbers)),
        **told,
    )


async def schedule(desk: Desk) -> dict:
    found: dict = await desk.ask("schedule.get", id="a")
    found.pop("position")
    return found


async def test_rows_go_and_counts_stay(desk: Desk):
    await desk.tell(created())
    for number in (1, 2):
        await desk.tell(requested(number), started(number), succeeded(number))
    await desk.tell(erased(1, total=1))
    assert (await desk.ask("execution.list"))["total"] == 1
    assert (await desk.ask("execution.list", status="succeeded"))["total"] == 1
    found = await schedule(desk)
    assert found["statistics"]["succeeded"] == found["statistics"]["fired"] == 2
    assert found["last_execution_id"] == execution_id(2)


async def test_view_that_never_saw_them_tells_the_same(desk: Desk):
    blank = Desk(MemoryViews())
    await desk.tell(created())
    for number in (1, 2):
        await desk.tell(requested(number), started(number), succeeded(number))
    await desk.tell(erased(1, total=1), erased(2, total=2))
    await blank.tell(created(), erased(2, total=2))
    assert await schedule(blank) == await schedule(desk)
    assert (await schedule(blank))["last_due"] == "2026-01-01T00:02:00Z"


async def test_view_that_saw_a_part_tells_the_same(desk: Desk):
    """It read their beginning before they were erased, and not their end."""
    part = Desk(MemoryViews())
    await desk.tell(created(), requested(1), started(1), succeeded(1), erased(1, total=1))
    await part.tell(created(), requested(1), started(1), erased(1, total=1))
    assert await schedule(part) == await schedule(desk)
    assert (await part.ask("execution.list"))["total"] == 0


async def test_paused_schedule_stays_paused_and_what_is_not_there_is_nothing(desk: Desk):
    pause = SchedulePaused(at=at(30), schedule_id="a", note="n")
    await desk.tell(created(), pause, erased(1, total=1, older=[execution_id(7)]))
    found = await schedule(desk)
    assert (found["status"], found["next_due"]) == ("paused", None)
    unknown = ScheduleErased(at=at(9), schedule_id="nobody", executions=[execution_id(3)])
    await desk.tell(unknown, HistoryErased(at=at(9), schedule_id="nobody", executions=[], line=[]))
    assert (await desk.ask("schedule.list"))["total"] == 1


async def test_erased_schedule_is_gone_with_its_history(desk: Desk):
    pause = SchedulePaused(at=at(30), schedule_id="a", note="n")
    await desk.tell(created(), pause, requested(1), started(1), succeeded(1))
    gone = ScheduleErased(
        at=at(9_000), schedule_id="a", executions=[execution_id(1)], decisions=[1, 2]
    )
    await desk.tell(gone)
    assert (await desk.ask("schedule.list"))["total"] == 0
    assert (await desk.ask("execution.list"))["total"] == 0
    await desk.tell(created())
    assert (await desk.ask("schedule.history", id="a"))["history"] == []


def test_all_that_is_counted_of_executions_can_be_told():
    assert {"fired", "counted", "succeeded", "dead"} <= set(Counts.__struct_fields__)
