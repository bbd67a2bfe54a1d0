"""Dead letters and retries by hand, as a client sees them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from horae import Context, Horae, HoraeError, Retry, manual, testing
from horae.client import Client

TWICE = Retry(max_attempts=2, delay="1 second", jitter=0)


class Desk:
    """An application whose handler fails until it is mended."""

    def __init__(self) -> None:
        self.app = Horae("test")
        self.mended = False

        @self.app.handler("work")
        async def work(context: Context) -> int:
            if not self.mended:
                raise ValueError("no")
            return context.attempt


async def dead(engine: testing.TestEngine, id_: str, count: int = 1) -> list[str]:
    await engine.create_schedule(id_, manual(), "work", retry=TWICE, overlap="allow")
    runs = [(await engine.trigger_schedule(id_))["execution_id"] for _ in range(count)]
    await engine.advance("10 seconds")
    return runs


async def statuses(engine: Client, runs: list[str]) -> set[str]:
    return {(await engine.get_execution(each))["status"] for each in runs}


async def test_one_dead_letter_is_tried_again() -> None:
    desk = Desk()
    async with testing.engine(desk.app) as engine:
        (run,) = await dead(engine, "a")
        (letter,) = (await engine.list_dead_letters())["dead_letters"]
        assert (letter["id"], letter["status"]) == (run, "dead")
        desk.mended = True
        answer = await engine.requeue_dead_letters(run)
        assert (answer["status"], answer["attempt"]) == ("pending", 3)
        await engine.settle()
        assert (await engine.get_execution(run))["result"] == 3
        assert (await engine.list_dead_letters())["total"] == 0
        with pytest.raises(HoraeError, match="is succeeded"):
            await engine.requeue_dead_letters(run)


async def test_all_dead_letters_or_those_that_fit_are_tried_again() -> None:
    desk = Desk()
    async with testing.engine(desk.app) as engine:
        first, second = await dead(engine, "a", 3), await dead(engine, "b", 2)
        desk.mended = True
        none = await engine.requeue_dead_letters(error_type="KeyError")
        assert (none["requeued"], none["left"]) == (0, 0)
        answer = await engine.requeue_dead_letters(schedule_id="b")
        assert sorted(answer["executions"]) == sorted(second)
        await engine.settle()
        assert await statuses(engine, second) == {"succeeded"}
        some = await engine.requeue_dead_letters(all=True, limit=2)
        assert (some["requeued"], some["refused"], some["left"]) == (2, 0, 1)
        rest = await engine.requeue_dead_letters(error_type="ValueError")
        assert sorted(some["executions"] + rest["executions"]) == sorted(first)
        await engine.settle()
        assert await statuses(engine, first) == {"succeeded"}


async def test_what_failed_without_retries_is_tried_again_by_its_id() -> None:
    desk = Desk()
    async with testing.engine(desk.app) as engine:
        await engine.create_schedule("a", manual(), "work", retry=Retry(max_attempts=1))
        run = (await engine.trigger_schedule("a"))["execution_id"]
        await engine.settle()
        assert (await engine.get_execution(run))["status"] == "failed"
        with pytest.raises(HoraeError, match="is failed"):
            await engine.requeue_dead_letters(run)
        desk.mended = True
        await engine.retry_execution(run)
        await engine.settle()
        answer = await engine.get_execution(run)
        assert (answer["status"], len(answer["attempts"])) == ("succeeded", 2)
        statistics = (await engine.get_schedule("a"))["statistics"]
        assert (statistics["failed"], statistics["succeeded"]) == (0, 1)


@pytest.mark.parametrize("which", [{}, {"id": "0" * 8 + "-0000" * 3 + "-" + "0" * 12, "all": True}])
async def test_either_one_or_many_are_meant(which: dict[str, object]) -> None:
    async with testing.engine() as engine:
        with pytest.raises(HoraeError, match="either an id"):
            await engine.command("dead_letter.requeue", which)


async def test_logs_are_a_query_of_their_own() -> None:
    app = Horae("test")

    @app.handler("work")
    async def work(context: Context) -> None:
        context.log("hello", n=1)

    async with testing.engine(app) as engine:
        await engine.create_schedule("a", manual(), "work")
        run = (await engine.trigger_schedule("a"))["execution_id"]
        await engine.settle()
        answer = await engine.query("execution.logs", {"id": run})
    assert [line["message"] for line in answer["logs"]] == ["hello"]
    assert (answer["id"], answer["attempts"][0]["outcome"]) == (run, "succeeded")


async def test_progress_is_shown_while_it_runs_and_kept_with_the_outcome() -> None:
    app = Horae("test")
    told, go = asyncio.Event(), asyncio.Event()

    @app.handler("work")
    async def work(context: Context) -> None:
        context.heartbeat({"rows": 7})
        told.set()
        await go.wait()

    async with app.embedded() as client:
        await client.create_schedule("a", manual(), "work")
        run = (await client.trigger_schedule("a"))["execution_id"]
        await told.wait()
        async with asyncio.timeout(60):
            while True:
                with suppress(HoraeError):
                    answer = await client.get_execution(run)
                    if answer["progress"] is not None:
                        break
                await asyncio.sleep(0.01)
            assert answer["progress"]["value"] == {"rows": 7}
            go.set()
            while answer["status"] == "running":
                answer = await client.get_execution(run)
                await asyncio.sleep(0.01)
    assert (answer["progress"], answer["metadata"]) == (None, {"progress": {"rows": 7}})
