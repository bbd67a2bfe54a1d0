"""The inventory of what waits, and its timers moved and cancelled, by the client's calls."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from horae import Context, Horae, Result, Retry, every, manual, on_condition, testing
from horae.testing import TestEngine
from horae_domain.errors import IllegalState, InvalidField, ScheduleNotFound, TimerNotFound

START = datetime(2026, 1, 1, tzinfo=UTC)
PATIENT = Retry(max_attempts=4, delay="10 minutes", jitter=0)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


@pytest.fixture
def app() -> Horae:
    made = Horae("desk")
    made.runs = []  # type: ignore[attr-defined]

    def note(ctx: Context) -> None:
        made.runs.append((ctx.schedule_id, ctx.due, ctx.attempt))  # type: ignore[attr-defined]

    @made.schedule("tick", every("1 hour"))
    async def tick(ctx: Context) -> None:
        note(ctx)

    @made.schedule("fails", manual(), retry=PATIENT)
    async def fails(ctx: Context) -> None:
        note(ctx)
        raise ValueError("no")

    @made.schedule("asks", manual())
    async def asks(ctx: Context) -> Result:
        note(ctx)
        return Result.again(after="10 minutes") if ctx.attempt == 1 else Result.done()

    return made


async def only(engine: TestEngine, **filters: Any) -> dict[str, Any]:
    (timer,) = (await engine.list_timers(**filters))["timers"]
    return timer


async def test_next_run_that_is_moved_is_the_occurrence_moved(app: Horae):
    async with testing.engine(app) as engine:
        timer = await only(engine, kind="schedule")
        answer = await engine.move_timer(timer["id"], at(90), note="later")
        assert (answer["id"], answer["kind"]) == (timer["id"], "occurrence")
        assert answer["due"] == "2026-01-01T01:30:00Z"
        assert (await only(engine, kind="schedule"))["id"] == timer["id"]
        await engine.advance("95 minutes")
        assert app.runs == [("tick", at(60), 1)]


async def test_next_run_that_is_cancelled_is_skipped(app: Horae):
    async with testing.engine(app) as engine:
        timer = await only(engine, kind="schedule")
        assert (await engine.cancel_timer(timer["id"], note="holiday"))["due"] is None
        assert (await only(engine, kind="schedule"))["skipped"] is True
        await engine.advance("1 hour")
        (run,) = (await engine.list_executions(schedule_id="tick"))["executions"]
        assert (run["status"], run["reason"], run["note"]) == (
            "skipped", "skipped_by_hand", "holiday",
        )  # fmt: skip


async def test_held_run_is_a_timer_that_is_cancelled_and_not_moved(app: Horae):
    async with testing.engine(app) as engine:
        await engine.hold_occurrence("tick", at(60))
        await engine.advance("1 hour")
        held = await only(engine, kind="held")
        assert held["due"] is None
        with pytest.raises(IllegalState):
            await engine.move_timer(held["id"], at(120))
        await engine.cancel_timer(held["id"])
        assert (await engine.list_timers(kind="held"))["total"] == 0
        assert app.runs == []


async def test_retry_that_is_moved_sooner_runs_at_once(app: Horae):
    async with testing.engine(app) as engine:
        await engine.trigger_schedule("fails")
        await engine.settle()
        retry = await only(engine, kind="retry")
        answer = await engine.move_timer(retry["id"], at(2))
        assert (answer["status"], answer["due"]) == ("delayed", "2026-01-01T00:02:00Z")
        shown = await engine.get_execution(retry["execution_id"])
        assert shown["next_retry_at"] == "2026-01-01T00:02:00Z"
        await engine.advance("2 minutes")
        assert [attempt for *_, attempt in app.runs] == [1, 2]
        assert (await only(engine, kind="retry"))["id"] != retry["id"]


async def test_retry_that_is_moved_later_waits(app: Horae):
    async with testing.engine(app) as engine:
        await engine.trigger_schedule("fails")
        await engine.settle()
        await engine.move_timer((await only(engine, kind="retry"))["id"], at(60))
        await engine.advance("59 minutes")
        assert len(app.runs) == 1
        await engine.advance("1 minute")
        assert ("fails", START, 2) in app.runs


async def test_retry_that_is_cancelled_is_a_dead_letter(app: Horae):
    async with testing.engine(app) as engine:
        await engine.trigger_schedule("fails")
        await engine.settle()
        retry = await only(engine, kind="retry")
        assert (await engine.cancel_timer(retry["id"], note="hopeless"))["status"] == "dead"
        (letter,) = (await engine.list_dead_letters())["dead_letters"]
        assert (letter["id"], letter["reason"]) == (retry["execution_id"], "hopeless")
        with pytest.raises(TimerNotFound):
            await engine.cancel_timer(retry["id"])


async def test_poll_is_asked_sooner_or_not_at_all(app: Horae):
    async with testing.engine(app) as engine:
        for _ in range(2):
            await engine.trigger_schedule("asks")
            await engine.settle()
            poll = await only(engine, kind="poll")
            if len(app.runs) == 1:
                await engine.move_timer(poll["id"], at(1))
                await engine.advance("1 minute")
                assert len(app.runs) == 2
            else:
                assert (await engine.cancel_timer(poll["id"]))["status"] == "cancelled"
        assert len(app.runs) == 3


async def test_timeout_of_work_that_nobody_pulls_is_moved_and_lifted(app: Horae):
    async with testing.engine(app) as engine:
        await engine.create_schedule(
            "report", manual(), {"type": "queue", "queue": "reports"},
            timeout={"schedule_to_start": "5 minutes", "overall": "1 hour"},
        )  # fmt: skip
        id_ = (await engine.trigger_schedule("report"))["execution_id"]
        await engine.move_timer(f"schedule_to_start:{id_}", at(30))
        await engine.cancel_timer(f"overall:{id_}")
        await engine.advance("29 minutes")
        assert (await engine.get_execution(id_))["status"] == "pending"
        await engine.advance("1 minute")
        assert (await engine.get_execution(id_))["status"] == "timed_out"


async def test_backfill_is_a_timer_that_can_only_be_cancelled(app: Horae):
    async with testing.engine(app) as engine:
        await engine.create_schedule(
            "late", every("1 minute"), {"type": "queue", "queue": "nobody"}, overlap="skip"
        )
        await engine.advance("10 minutes")
        begun = await engine.backfill_schedule("late", at(1), at(9))
        timer = await only(engine, kind="backfill")
        assert timer["id"] == f"backfill:late@{begun['backfill_id']}"
        assert timer["left"] == 9
        with pytest.raises(IllegalState):
            await engine.move_timer(timer["id"], at(60))
        assert (await engine.cancel_timer(timer["id"]))["kind"] == "backfill"
        assert (await engine.list_timers(kind="backfill"))["total"] == 0
        with pytest.raises(TimerNotFound):
            await engine.cancel_timer(timer["id"])


async def test_what_is_no_timer_is_refused(app: Horae):
    async with testing.engine(app) as engine:
        with pytest.raises(InvalidField) as caught:
            await engine.move_timer("tick", at(5))
        assert caught.value.field == "id"
        with pytest.raises(InvalidField) as caught:
            await engine.move_timer("occurrence:tick@2026-01-01T01:00:00Z", START - timedelta(1))
        assert caught.value.field == "to"
        with pytest.raises(ScheduleNotFound):
            await engine.cancel_timer("backfill:nobody@00")


async def test_same_key_moves_a_timer_once(app: Horae):
    async with testing.engine(app) as engine:
        timer = await only(engine, kind="schedule")
        body = {"id": timer["id"], "to": "2026-01-01T01:30:00Z"}
        first = await engine.command("timer.move", body, key="k")
        assert await engine.command("timer.move", body, key="k") == first


async def test_timeout_of_a_wait_is_moved_and_lifted(app: Horae):
    async with testing.engine(app) as engine:
        wait = {"event": "Paid", "match": {"order": "payload.order"}, "timeout": "10 minutes"}
        action = {"type": "none"}
        await engine.create_schedule("pays", manual(), action, wait_for=wait)
        id_ = (await engine.trigger_schedule("pays", payload={"order": "o-1"}))["execution_id"]
        await engine.settle()
        timer = await only(engine, kind="confirmation")
        assert timer["due"] == "2026-01-01T00:10:00Z"
        await engine.move_timer(timer["id"], at(30))
        await engine.advance("29 minutes")
        assert (await engine.get_execution(id_))["status"] == "waiting"
        assert (await engine.cancel_timer(timer["id"]))["due"] is None
        await engine.advance("1 hour")
        assert (await engine.get_execution(id_))["status"] == "waiting"


async def test_next_look_of_a_condition_and_its_cooldown_are_timers_that_nobody_changes():
    app = Horae("desk")
    app.check("volatility")(lambda ctx: {"v": 1})
    condition = on_condition("volatility", when="v > 0", every="1 minute", cooldown="15 minutes")
    app.schedule("respond", condition)(lambda ctx: None)
    async with testing.engine(app) as engine:
        look = await only(engine)
        assert look["id"] == "look:respond@2026-01-01T00:01:00Z"
        assert (look["kind"], look["due"], look["check"]) == (
            "look", "2026-01-01T00:01:00Z", "volatility",
        )  # fmt: skip
        await engine.advance("90 seconds")
        answer = await engine.list_timers(schedule_id="respond")
        assert [(each["kind"], each["due"]) for each in answer["timers"]] == [
            ("look", "2026-01-01T00:02:00Z"),
            ("cooldown", "2026-01-01T00:16:00Z"),
        ]
        for timer in answer["timers"]:
            for change in (engine.cancel_timer(timer["id"]), engine.move_timer(timer["id"], at(9))):
                with pytest.raises(IllegalState) as caught:
                    await change
                assert caught.value.value == timer["id"]
        await engine.cancel_schedule("respond")
        assert (await engine.list_timers())["total"] == 0
        with pytest.raises(TimerNotFound):
            await engine.cancel_timer(look["id"])
