"""Schedules whose actions make each other fire, through the engine: the circle ends, and says so."""

from __future__ import annotations

from typing import Any

from horae import Context, Horae, manual, new_schedule, on_outcome, once, testing
from horae_domain.circles import MAX_DEPTH


async def test_handlers_that_trigger_each_other_end_at_the_greatest_depth():
    app = Horae("desk")

    def declare(name: str, other: str) -> None:
        @app.schedule(name, manual())
        async def act(ctx: Context) -> str:
            return await ctx.trigger_schedule(other)

    declare("ping", "pong")
    declare("pong", "ping")
    async with testing.engine(app) as engine:
        await engine.trigger_schedule("ping")
        await engine.advance("1 minute")
        runs = (await engine.list_executions(limit=100))["executions"]
    statuses = [each["status"] for each in runs]
    assert (statuses.count("succeeded"), statuses.count("skipped")) == (MAX_DEPTH + 1, 1)
    (cut,) = [each for each in runs if each["status"] == "skipped"]
    assert cut["reason"] == "chain_too_deep"


async def test_templates_that_make_each_other_end_at_the_greatest_depth():
    app = Horae("desk")
    again: dict[str, Any] = new_schedule(
        once(after="1s"), "${payload.action}", payload="${payload}", id="made-${execution_id}"
    )
    again["template"]["action"] = "${payload.action}"
    app.declare("first", manual(), again)
    async with testing.engine(app) as engine:
        await engine.trigger_schedule("first", payload={"action": again})
        await engine.advance("5 minutes")
        runs = (await engine.list_executions(limit=100))["executions"]
    assert [each["status"] for each in runs] == ["failed"] + ["succeeded"] * MAX_DEPTH
    (attempt,) = runs[0]["attempts"]
    assert attempt["error"]["type"] == "ChainTooDeep"


async def test_outcomes_and_triggers_are_one_chain():
    app = Horae("desk")
    depths: list[int] = []

    @app.schedule("load", manual())
    async def load(ctx: Context) -> None:
        pass

    @app.schedule("report", on_outcome("load"))
    async def report(ctx: Context, _loaded: None) -> None:
        depths.append(ctx.trigger["depth"])
        await ctx.trigger_schedule("load")

    async with testing.engine(app) as engine:
        await engine.trigger_schedule("load")
        await engine.advance("1 minute")
        skipped = (await engine.list_executions(status=["skipped"]))["executions"]
    assert depths == list(range(1, MAX_DEPTH, 2))
    assert [each["reason"] for each in skipped] == ["chain_too_deep"]
