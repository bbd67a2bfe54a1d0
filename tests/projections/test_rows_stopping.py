"""What the views tell of an attempt that was asked to stop."""

from __future__ import annotations

import pytest
from desk import Desk, at, attempt_failed, created, execution_id, requested, started, succeeded

from horae_domain.events import CancellationRequested, ExecutionCancelled
from horae_infrastructure.views.memory import MemoryViews


@pytest.fixture
def desk() -> Desk:
    return Desk(MemoryViews())


def asked(*, until: float = 100) -> CancellationRequested:
    return CancellationRequested(
        at=at(70),
        schedule_id="a",
        execution_id=execution_id(1),
        attempt=1,
        reason="enough",
        deadline=at(until),
    )


def cancelled(seconds: float) -> ExecutionCancelled:
    return ExecutionCancelled(
        at=at(seconds), schedule_id="a", execution_id=execution_id(1), reason="enough"
    )


async def run_of(desk: Desk) -> dict:
    return await desk.ask("execution.get", id=execution_id(1))


async def test_an_attempt_that_was_asked_to_stop_runs_and_is_shown_as_stopping(desk: Desk):
    await desk.tell(created(), requested(), started())
    assert (await run_of(desk))["stopping"] is False
    await desk.tell(asked())
    answer = await run_of(desk)
    assert (answer["status"], answer["stopping"]) == ("running", True)
    assert answer["timeline"][-1]["event"] == "cancellation_requested"
    assert answer["timeline"][-1]["detail"] == "enough"
    (timer,) = (await desk.ask("timer.list", kind="stop"))["timers"]
    assert timer["due"] == "2026-01-01T00:01:40Z"


async def test_a_deadline_within_the_grace_waits_beside_it(desk: Desk):
    await desk.tell(created(), requested(), started(), asked(until=999))
    timers = (await desk.ask("timer.list", execution_id=execution_id(1)))["timers"]
    assert [(each["kind"], each["due"]) for each in timers] == [
        ("start_to_close", "2026-01-01T00:06:01Z"),
        ("stop", "2026-01-01T00:16:39Z"),
    ]


async def test_an_attempt_that_did_not_stop_in_time_is_closed_as_cancelled(desk: Desk):
    await desk.tell(created(), requested(), started(), asked(), cancelled(100))
    answer = await run_of(desk)
    assert (answer["status"], answer["stopping"]) == ("cancelled", False)
    assert (answer["reason"], answer["attempts"][0]["outcome"]) == ("enough", "cancelled")
    assert (await desk.ask("timer.list", kind="stop"))["total"] == 0


async def test_how_the_attempt_itself_ended_is_kept(desk: Desk):
    await desk.tell(created(), requested(), started(), asked())
    await desk.tell(attempt_failed(seconds=80), cancelled(80))
    answer = await run_of(desk)
    assert (answer["status"], answer["attempts"][0]["outcome"]) == ("cancelled", "failed")
    assert answer["attempts"][0]["error"]["type"] == "ValueError"


async def test_a_result_within_the_grace_counts(desk: Desk):
    await desk.tell(created(), requested(), started(), asked(), succeeded(seconds=80))
    answer = await run_of(desk)
    assert (answer["status"], answer["stopping"]) == ("succeeded", False)
