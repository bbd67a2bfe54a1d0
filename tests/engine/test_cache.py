"""The Redis that handlers reach as `ctx.cache` (A5)."""

from __future__ import annotations

from typing import Any

import pytest

from horae import Context, Horae, manual, testing
from horae.testing import TestEngine

NO_RETRY = {"max_attempts": 1}


def application() -> Horae:
    app = Horae("desk")

    @app.schedule("count", manual())
    async def count(ctx: Context) -> int:
        total: int = await ctx.cache.incr("desk:count")
        return total

    @app.schedule("count-in-a-thread", manual(), isolation="thread", retry=NO_RETRY)
    def count_in_a_thread(ctx: Context) -> Any:
        return ctx.run(ctx.cache.incr("desk:count"))

    return app


async def run(engine: TestEngine, id_: str) -> dict[str, Any]:
    run = await engine.trigger_schedule(id_)
    await engine.settle()
    return await engine.get_execution(run["execution_id"])


@pytest.mark.parametrize("setting", ["cache_url", "redis_url"])
async def test_handlers_of_all_kinds_share_the_cache_of_the_settings(
    valkey_url: str, setting: str
) -> None:
    async with testing.engine(application(), **{setting: valkey_url}) as engine:
        first = (await run(engine, "count"))["result"]
        second = (await run(engine, "count-in-a-thread"))["result"]
    assert second == first + 1


async def test_without_a_server_there_is_none_and_the_error_says_so() -> None:
    async with testing.engine(application(), redis_url="memory://") as engine:
        found = await run(engine, "count-in-a-thread")
    (attempt,) = found["attempts"]
    assert attempt["error"]["type"] == "NoCache"
    assert "HORAE_CACHE_URL" in attempt["error"]["message"]
