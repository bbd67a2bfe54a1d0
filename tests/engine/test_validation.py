"""`schedule.validate`: what would be refused, and what to know, without creating anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from horae import Horae, cron, every, manual, on_outcome, once, testing
from horae.testing import TestEngine
from horae_application import validation

NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def app() -> Horae:
    made = Horae("desk")
    made.handler("work")(lambda: None)
    return made


async def asked(engine: TestEngine, *told: Any, **more: Any) -> dict[str, Any]:
    return await engine.validate_schedule("job", *told, **more)


async def test_definition_that_would_be_accepted_is_valid_and_not_created(app: Horae):
    async with testing.engine(app, start=NOW) as engine:
        answer = await asked(engine, cron("0 2 * * *", timezone="Europe/Berlin"), "work")
        assert (answer["valid"], answer["errors"], answer["id"]) == (True, [], "job")
        assert answer["next"][0] == "2026-01-05T02:00:00+01:00"
        assert [each["code"] for each in answer["warnings"]] == ["clock_gap", "clock_overlap"]
        assert (await engine.list_schedules())["total"] == 0


async def test_every_field_that_is_wrong_is_told_at_once(app: Horae):
    async with testing.engine(app) as engine:
        wrong = {"expression": "61 * * * *", "type": "cron"}
        answer = await asked(engine, wrong, "work", priority="urgent", queue="no queue", odd=1)
        assert not answer["valid"]
        assert {(each["code"], each["field"]) for each in answer["errors"]} == {
            ("invalid_trigger", "trigger.expression"),
            ("invalid_field", "priority"),
            ("invalid_field", "queue"),
            ("invalid_field", "odd"),
        }


async def test_schedule_that_would_never_fire_is_refused(app: Horae):
    async with testing.engine(app, start=NOW) as engine:
        answer = await asked(engine, every("1 hour"), "work", end_at="2026-01-05T00:30:00Z")
        (error,) = answer["errors"]
        assert (error["code"], error["field"]) == ("invalid_trigger", "end_at")
        past = await asked(engine, once("2026-01-04T00:00:00Z"), "work")
        assert past["errors"][0]["field"] == "trigger.at"
        assert past["next"] == []


async def test_handler_that_nobody_serves_is_an_error_or_by_choice_a_warning(app: Horae):
    async with testing.engine(app) as engine:
        answer = await asked(engine, manual(), "nobody")
        assert answer["errors"][0]["code"] == "unknown_handler"
        allowed = await asked(engine, manual(), "nobody", allow_unknown=True)
        assert allowed["valid"]
        assert allowed["warnings"][0]["code"] == "unknown_handler"


async def test_id_that_is_taken_is_told(app: Horae):
    async with testing.engine(app) as engine:
        await engine.create_schedule("job", manual(), "work")
        same = await asked(engine, manual(), "work")
        assert (same["valid"], same["warnings"][0]["code"]) == (True, "unchanged")
        other = await asked(engine, manual(), "work", priority="high")
        assert other["errors"][0]["code"] == "schedule_exists"
        await engine.cancel_schedule("job")
        anew = await asked(engine, manual(), "work", priority="high")
        assert (anew["valid"], anew["warnings"][0]["code"]) == (True, "begins_anew")


async def test_schedule_that_nothing_could_fire_is_told(app: Horae):
    async with testing.engine(app) as engine:

        async def codes(upstream: str) -> list[str]:
            answer = await asked(engine, on_outcome(upstream), "work")
            assert answer["valid"]
            return [each["code"] for each in answer["warnings"]]

        await engine.create_schedule("load", manual(), "work")
        assert await codes("load") == []
        assert await codes("laod") == ["nothing_to_follow"]
        assert await codes("job") == ["circle"]
        await engine.cancel_schedule("load")
        assert await codes("load") == ["nothing_to_follow"]


async def test_crowded_instants_are_told(app: Horae, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(validation, "CROWD", 3)
    async with testing.engine(app, start=NOW) as engine:
        for number in range(3):
            await engine.create_schedule(f"s{number}", cron("0 2 * * *"), "work")
        answer = await asked(engine, cron("0 2 * * *"), "work")
        (crowd,) = answer["warnings"]
        assert (crowd["code"], crowd["at"], crowd["count"]) == (
            "crowded",
            "2026-01-05T02:00:00Z",
            3,
        )
        assert (await asked(engine, cron("1 2 * * *"), "work"))["warnings"] == []


async def test_another_tenant_s_schedules_are_neither_told_nor_counted(
    app: Horae, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(validation, "CROWD", 1)
    async with testing.engine(app, start=NOW) as engine:
        other = engine._runtime.client("other")
        await other.create_schedule("job", cron("0 2 * * *"), "work")
        answer = await asked(engine, cron("0 2 * * *"), "work", priority="high")
        assert (answer["valid"], answer["warnings"]) == (True, [])


async def test_without_views_only_the_definition_is_judged(app: Horae):
    from horae_domain.errors import Unavailable

    async def silent(*_: Any) -> Any:
        raise Unavailable("no views")

    async with testing.engine(app) as engine:
        engine._runtime.gateway._look = silent
        answer = await asked(engine, manual(), "work")
        assert (answer["valid"], answer["warnings"][0]["code"]) == (True, "not_compared")
