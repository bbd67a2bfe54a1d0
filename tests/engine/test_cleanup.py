"""`horae.cleanup`: what has ended is erased in its time, and what is left tells the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from horae import Context, Horae, every, manual, once, testing
from horae.housekeeping import SCHEDULE
from horae.testing import TestEngine
from horae_application import lines
from horae_domain.errors import NotFound
from horae_domain.identity import is_request
from horae_projections.projector import Projector


@pytest.fixture(autouse=True)
def _days_pass_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are read a long way ahead."""
    monkeypatch.setattr(lines, "WINDOW", 100 * 86_400_000_000)


class Remind(BaseModel):
    order: int


@pytest.fixture
def app() -> Horae:
    made = Horae("test")
    made.declare("sweeper", every("1 day"), "horae.cleanup")

    @made.schedule("daily", every("1 day"), retry={"max_attempts": 1})
    async def daily(ctx: Context) -> None:
        if ctx.run_number == 3:
            raise RuntimeError("the third one fails")

    @made.command
    async def remind(ctx: Context, command: Remind) -> None: ...

    return made


async def total(engine: TestEngine, **asked: Any) -> int:
    found: int = (await engine.query("execution.list", asked))["total"]
    return found


async def test_each_kind_is_erased_in_its_time(app: Horae) -> None:
    async with testing.engine(app) as engine:
        command = await engine.schedule(Remind(order=1), after=timedelta(hours=1))
        await engine.advance("20 days")
        seen = await engine.query("execution.list", {"schedule_id": "daily", "limit": 100})
        assert 7 <= seen["total"] <= 9, "seven days of successes, and the failure"
        assert await total(engine, schedule_id="daily", status="dead,failed") == 1
        told = await engine.get_schedule("daily")
        assert told["statistics"]["fired"] == 20
        assert told["statistics"]["succeeded"] == 19
        await engine.advance("20 days")
        assert await total(engine, schedule_id="daily", status="dead,failed") == 0
        assert (await engine.query("schedule.get", {"id": command}))["status"] == "completed"
        await engine.advance("60 days")
        with pytest.raises(NotFound):
            await engine.query("schedule.get", {"id": command})
        told = await engine.get_schedule("daily")
        assert told["statistics"]["fired"] == 100


async def test_view_that_is_built_from_what_is_left_answers_the_same(app: Horae) -> None:
    async with testing.engine(app) as engine:
        await engine.schedule(Remind(order=1), after=timedelta(hours=1))
        await engine.advance("95 days")
        before = [await _answers(engine) for _ in range(1)]
        projector = engine._runtime.projector
        assert isinstance(projector, Projector)
        projector.rebuild()
        await projector.catch_up()
        assert projector.rebuilds > 1
        assert [await _answers(engine)] == before


async def _answers(engine: TestEngine) -> list[Any]:
    """What queries say, without the positions that they rest on."""
    said = [await engine.query("schedule.get", {"id": id_}) for id_ in ("daily", "sweeper")]
    said.append(await engine.query("execution.list", {"limit": 1000}))
    said.append(await engine.query("schedule.list", {"type": "interval,once,command"}))
    for each in said:
        each.pop("position")
    return said


async def test_keys_are_forgotten_and_a_dry_run_erases_nothing(app: Horae) -> None:
    app.declare("job", manual(), "daily")
    async with testing.engine(app) as engine:
        await engine.command("schedule.pause", {"id": "job"})
        caller = engine._caller
        await caller.command("schedule.resume", {"id": "job"}, key="k")
        await engine.command("schedule.pause", {"id": "sweeper"})
        await engine.advance("32 days")
        head = engine._runtime.store.head()  # type: ignore[union-attr]
        dry = await engine.command("history.sweep", {"dry_run": True})
        assert dry["executions"] >= 20
        assert engine._runtime.store.head() == head  # type: ignore[union-attr]
        swept = await engine.command("history.sweep", {})
        assert (swept["executions"], swept["failed"]) == (dry["executions"], 0)
        assert swept["keys"] >= 1
        store = engine._runtime.store
        assert store is not None
        assert not [row for row in store.read(0, 10_000) if is_request(row.stream)]


async def test_one_time_schedules_are_counted_by_a_dry_run(app: Horae) -> None:
    app.declare("late", once(after="1 hour"), "daily")
    async with testing.engine(app) as engine:
        await engine.command("schedule.pause", {"id": "sweeper"})
        await engine.advance("100 days")
        dry = await engine.command("history.sweep", {"dry_run": True})
        assert dry["schedules"] == 1
        swept = await engine.command("history.sweep", {})
        assert swept["schedules"] == 1


async def test_schedule_that_is_made_where_an_engine_is_served_is_accepted() -> None:
    async with testing.engine(Horae("test")) as engine:
        assert (await engine.command("schedule.create", SCHEDULE))["ok"]
        await engine.advance("2 hours")
        found = await engine.query("execution.list", {"schedule_id": SCHEDULE["id"]})
        assert [each["status"] for each in found["executions"]] == ["succeeded", "succeeded"]
