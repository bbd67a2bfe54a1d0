"""What the views tell of dead letters, of timeouts, and of what is tried again."""

from __future__ import annotations

import pytest
from desk import Desk, at, attempt_failed, created, execution_id, requested, started, succeeded

from horae_domain.events import ExecutionDeadLettered, ExecutionRequeued
from horae_infrastructure.views.memory import MemoryViews


@pytest.fixture
def desk() -> Desk:
    return Desk(MemoryViews())


def dead(number: int = 1, id_: str = "a", *, seconds: float = 62) -> ExecutionDeadLettered:
    return ExecutionDeadLettered(
        at=at(seconds),
        schedule_id=id_,
        execution_id=execution_id(number),
        attempt=1,
        error={"type": "ValueError", "message": "no"},
    )


def requeued(seconds: float, **told) -> ExecutionRequeued:
    return ExecutionRequeued(
        at=at(seconds),
        schedule_id="a",
        execution_id=execution_id(1),
        attempt=1,
        kind="interval",
        due=at(60),
        nominal="n",
        revision=1,
        requested_at=at(60),
        version=4,
        **told,
    )


async def run_of(desk: Desk) -> dict:
    return await desk.ask("execution.get", id=execution_id(1))


async def statistics(desk: Desk) -> dict:
    found: dict = (await desk.ask("schedule.get", id="a"))["statistics"]
    return found


async def test_a_dead_letter_is_kept_with_its_cause(desk: Desk):
    await desk.tell(created(), requested(), started(), attempt_failed(), dead())
    answer = await run_of(desk)
    assert (answer["status"], answer["reason"]) == ("dead", "no")
    assert answer["finished_at"] == "2026-01-01T00:01:02Z"
    assert (await statistics(desk))["dead"] == 1
    listed = await desk.ask("dead_letter.list")
    assert listed["total"] == 1
    (letter,) = listed["dead_letters"]
    assert letter["id"] == execution_id(1)
    assert letter["attempts"][0]["error"] == {"type": "ValueError", "message": "no"}
    assert (await desk.ask("execution.list", status="dead"))["total"] == 1
    (step,) = (await desk.ask("schedule.history", id="a", status="dead"))["history"]
    assert step["status"] == "dead"


async def test_dead_letters_are_listed_the_latest_first_in_pages(desk: Desk):
    await desk.tell(created(), *(requested(number) for number in (1, 2, 3)))
    for number, seconds in ((2, 70), (1, 80), (3, 90)):
        await desk.tell(started(number), attempt_failed(number), dead(number, seconds=seconds))
    first = await desk.ask("dead_letter.list", limit=2)
    assert [each["id"] for each in first["dead_letters"]] == [execution_id(3), execution_id(1)]
    rest = await desk.ask("dead_letter.list", limit=2, cursor=first["cursor"])
    assert [each["id"] for each in rest["dead_letters"]] == [execution_id(2)]
    assert (first["total"], rest["total"], rest["cursor"]) == (3, 3, None)


async def test_dead_letters_are_found_by_schedule_error_and_time(desk: Desk):
    await desk.tell(created(), created("b"), requested(1), requested(2, "b"))
    await desk.tell(started(1), attempt_failed(1), dead(1, seconds=70))
    await desk.tell(started(2, id_="b"), dead(2, "b", seconds=80))

    async def found(**filters) -> list[str]:
        answer = await desk.ask("dead_letter.list", **filters)
        assert answer["total"] == len(answer["dead_letters"])
        return [each["schedule_id"] for each in answer["dead_letters"]]

    assert await found(schedule_id="b") == ["b"]
    assert await found(error_type="ValueError") == ["a"]
    assert await found(error_type="Other") == []
    assert await found(since=at(80).isoformat()) == ["b"]
    assert await found(since=at(70).isoformat(), error_type="ValueError") == ["a"]
    assert await found(since=at(81).isoformat()) == []


async def test_what_is_tried_again_is_no_dead_letter_any_more(desk: Desk):
    await desk.tell(created(), requested(), started(), attempt_failed(), dead())
    await desk.tell(requeued(100))
    answer = await run_of(desk)
    assert (answer["status"], answer["reason"], answer["finished_at"]) == ("pending", None, None)
    assert answer["timeline"][-1]["event"] == "requeued"
    assert (await desk.ask("dead_letter.list"))["total"] == 0
    assert (await statistics(desk))["dead"] == 0
    await desk.tell(started(attempt=2, seconds=101), succeeded(attempt=2, seconds=102))
    answer = await run_of(desk)
    assert [each["number"] for each in answer["attempts"]] == [1, 2]
    assert answer["status"] == "succeeded"
    counts = await statistics(desk)
    assert (counts["fired"], counts["succeeded"], counts["dead"]) == (1, 1, 0)


async def test_every_timeout_of_an_execution_is_a_timer(desk: Desk):
    async def timers() -> list[tuple[str, str]]:
        found = await desk.ask("timer.list", execution_id=execution_id(1))
        return [(each["kind"], each["due"][14:19]) for each in found["timers"]]

    await desk.tell(created(), requested(start_by=at(90), end_by=at(400)))
    assert await timers() == [("schedule_to_start", "01:30"), ("overall", "06:40")]
    await desk.tell(started(seconds=61, heartbeat=30))
    assert await timers() == [
        ("heartbeat", "01:31"),
        ("start_to_close", "06:01"),
        ("overall", "06:40"),
    ]
    await desk.tell(attempt_failed(retry_at=at(70)))
    assert await timers() == [("retry", "01:10"), ("overall", "06:40")]
    await desk.tell(started(attempt=2, seconds=300))
    assert await timers() == [("overall", "06:40"), ("start_to_close", "10:00")]
    await desk.tell(dead(seconds=400))
    assert await timers() == []
    await desk.tell(requeued(500, start_by=at(510), end_by=at(505)))
    assert await timers() == [("overall", "08:25"), ("schedule_to_start", "08:30")]
