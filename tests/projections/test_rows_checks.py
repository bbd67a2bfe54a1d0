"""What queries tell of conditions that are checked."""

from __future__ import annotations

import pytest
from desk import Desk, at, created, execution_id

from horae_domain.events import (
    ExecutionCheckFailed,
    ExecutionChecking,
    ExecutionConditionsMet,
    ExecutionDropped,
    ExecutionReleased,
    ScheduleChecked,
)
from horae_infrastructure.views.memory import MemoryViews


@pytest.fixture
def desk() -> Desk:
    return Desk(MemoryViews())


def said(seconds: float) -> dict:
    return {"at": at(seconds), "schedule_id": "a", "execution_id": execution_id(1)}


CHECKING = ExecutionChecking(
    kind="interval", due=at(60), nominal="1", revision=1, conditions=["open", "funded"],
    next_due=at(120), priority="high", queue="slow", **said(60),
)  # fmt: skip


async def test_an_occurrence_whose_conditions_are_checked_has_not_fired(desk: Desk):
    await desk.tell(created(requires=["open", "funded"]), CHECKING)
    (run,) = (await desk.ask("execution.list", status="checking"))["executions"]
    assert (run["priority"], run["queue"], run["attempts"]) == ("high", "slow", [])
    shown = await desk.ask("schedule.get", id="a")
    assert (shown["next_due"], shown["statistics"]["fired"]) == ("2026-01-01T00:02:00Z", 0)
    assert shown["requires"] == ["open", "funded"]


async def test_what_has_met_its_conditions_fires_and_its_timeline_names_them(desk: Desk):
    await desk.tell(
        created(),
        CHECKING,
        ExecutionCheckFailed(
            condition="open", error={"type": "Boom", "message": "no feed"}, retry_at=at(61), **said(60)
        ),
        ExecutionConditionsMet(conditions=["open", "funded"], **said(61)),
        ExecutionReleased(run_number=1, next_due=at(120), **said(61)),
    )  # fmt: skip
    run = await desk.ask("execution.get", id=execution_id(1))
    assert run["status"] == "pending"
    assert [(step["event"], step["detail"]) for step in run["timeline"]] == [
        ("checking", "open, funded"),
        ("check_failed", "open: no feed"),
        ("conditions_met", "open, funded"),
        ("released", None),
    ]
    assert (await desk.ask("schedule.get", id="a"))["statistics"]["fired"] == 1


async def test_what_has_not_is_skipped_with_the_reason(desk: Desk):
    dropped = ExecutionDropped(reason="condition_not_met:open", **said(61))
    await desk.tell(created(), CHECKING, dropped)
    run = await desk.ask("execution.get", id=execution_id(1))
    assert (run["status"], run["reason"]) == ("skipped", "condition_not_met:open")
    assert (await desk.ask("schedule.get", id="a"))["statistics"]["skipped"] == 1


async def test_the_last_answer_of_a_check_and_the_cooldown_are_told(desk: Desk):
    trigger = {"type": "condition", "check": "price", "when": "price > 1", "cooldown": "1h"}
    failed = ScheduleChecked(
        at=at(61), schedule_id="a", tick=at(60), outcome="failed",
        error={"type": "Boom", "message": "no feed"},
    )  # fmt: skip
    await desk.tell(created(trigger=trigger, next_due=None), failed)
    shown = await desk.ask("schedule.get", id="a")
    assert shown["last_check"] == {
        "at": "2026-01-01T00:01:00Z", "outcome": "failed", "error": "no feed",
    }  # fmt: skip
    assert (shown["cooldown_until"], shown["cooldown_left"], shown["next_due"]) == (None, 0.0, None)
    assert (shown["trigger"]["every"], shown["trigger"]["mode"]) == ("1m", "level")
    (entry,) = (await desk.ask("schedule.history", id="a", status="checked"))["history"]
    assert (entry["outcome"], entry["error"]["message"]) == ("failed", "no feed")
    found = await desk.ask("schedule.list", type="condition")
    assert [each["id"] for each in found["schedules"]] == ["a"]


async def test_next_check_is_a_timer_until_the_conditions_are_met(desk: Desk):
    error = {"type": "Boom", "message": "no feed"}
    failed = ExecutionCheckFailed(condition="open", error=error, retry_at=at(61), **said(60))
    await desk.tell(created(), CHECKING, failed)
    (timer,) = (await desk.ask("timer.list", kind="check"))["timers"]
    assert (timer["id"], timer["due"]) == (f"check:{execution_id(1)}", "2026-01-01T00:01:01Z")
    await desk.tell(ExecutionConditionsMet(conditions=["open"], **said(61)))
    assert (await desk.ask("timer.list", kind="check"))["total"] == 0
