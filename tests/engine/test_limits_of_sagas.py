"""Sagas count for the limits of their queue while something of them runs, and not while they wait."""

from __future__ import annotations

from typing import Any

from judging import Judge

from horae import Horae, Result, manual, on_event, step, steps, testing, wait_for
from horae_domain.codec import decode
from horae_infrastructure.store.memory import MemoryStore

app = Horae("shop")


@app.schedule("pay", on_event("OrderPlaced"), start="submit", queue="orders", overlap="allow",
              wait=wait_for("Paid", match="order", timeout="10 minutes", fallback="rescue"))  # fmt: skip
async def finalise(ctx, confirmation: dict[str, Any]) -> str:
    return "paid"


@app.fallback("rescue")
async def rescue(ctx, data: Any) -> str:
    return "rescued"


@app.handler("submit")
async def submit(ctx, data: Any) -> dict[str, Any]:
    return {"order": data["order"]}


@app.handler("fine")
async def fine(ctx) -> None:
    """Done at once."""


@app.handler("bad")
async def bad(ctx) -> None:
    raise ValueError("no")


@app.handler("later")
async def later(ctx) -> Result:
    return Result.again(after="1 minute", limit=2)


ONCE = {"retry": {"max_attempts": 1}}


async def counted(engine: testing.TestEngine) -> dict[str, int]:
    """What the store says runs, which is what the log says."""
    store = engine._runtime.store
    assert isinstance(store, MemoryStore)
    judge = Judge()
    judge.read([decode(row.name, row.state) for row in engine.log()])
    running = store._limits._running
    said = {name: count for name, count in judge.running.items() if count}
    assert {n: running[f"default/{n}"] for n in judge.running if running[f"default/{n}"]} == said
    assert running["default"] == sum(said.values())
    return said


async def test_what_waits_for_a_confirmation_holds_no_room() -> None:
    async with testing.engine(app) as engine:
        await engine.limit_queue("orders", concurrency=1)
        for order in range(4):
            await engine.publish_event("OrderPlaced", {"order": order})
        await engine.settle()
        assert await counted(engine) == {}
        assert (await engine.get_queue("orders"))["unconfirmed"] == 4
        for order in range(2):
            await engine.publish_event("Paid", {"order": order})
        await engine.advance("11 minutes")
        assert await counted(engine) == {}
        found = await engine.list_executions(schedule_id="pay", status="succeeded")
        assert found["total"] == 4
        shown = await engine.get_queue("orders")
        assert shown == shown | {"unconfirmed": 0, "running": 0, "waiting": 0}


async def test_steps_retries_and_polls_give_their_room_back() -> None:
    async with testing.engine(app) as engine:
        undone = steps(step("one", "fine", compensate="fine"), step("two", "bad"))
        await engine.create_schedule("steps", manual(), undone, queue="orders", **ONCE)
        await engine.create_schedule("poll", manual(), "later", queue="orders", **ONCE)
        await engine.create_schedule("bad", manual(), "bad", queue="orders")
        await engine.limit_queue("orders", concurrency=1)
        for id_ in ("steps", "poll", "bad"):
            await engine.trigger_schedule(id_)
        for _ in range(10):
            await engine.advance("45 seconds")
            assert await counted(engine) == {}
        await engine.advance("1 hour")
        assert await counted(engine) == {}
        shown = await engine.get_queue("orders")
        alive = ("waiting", "running", "delayed", "buffered", "held", "unconfirmed")
        assert [shown[name] for name in alive] == [0] * 6
