"""Executions that wait for confirmations, through the engine: what comes before, in time, with the deadline, and late."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from horae import Horae, Result, Retry, manual, on_event, step, steps, testing, wait_for
from horae_domain.errors import IllegalState


class Shop:
    """An application whose handlers note what they were called with."""

    def __init__(self, **wait: Any) -> None:
        self.app = Horae("shop")
        self.calls: list[tuple[str, Any]] = []
        self.waits: list[tuple[timedelta | None, timedelta | None]] = []
        told = {"match": "order", "timeout": "10 minutes", "fallback": "rescue"} | wait

        @self.app.schedule("pay", on_event("OrderPlaced"), wait=wait_for("Paid", **told))
        async def finalise(ctx, confirmation: dict[str, Any]) -> str:
            self.calls.append(("finalise", confirmation))
            self.waits.append((ctx.waited, ctx.wait_timeout))
            return "paid"

        @self.app.fallback("rescue")
        async def rescue(ctx, data: Any) -> str:
            self.calls.append(("rescue", (ctx.reason, data)))
            self.waits.append((ctx.waited, ctx.wait_timeout))
            return "rescued"

        @self.app.handler("submit")
        async def submit(ctx, data: Any) -> dict[str, Any]:
            self.calls.append(("submit", data))
            return {"order": data["order"]}


async def only(engine: testing.TestEngine, schedule: str = "pay") -> dict[str, Any]:
    found = await engine.list_executions(schedule_id=schedule)
    (one,) = found["executions"]
    return await engine.get_execution(one["id"])


async def test_confirmation_runs_the_function_with_the_events_data():
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        assert (await only(engine))["still_waiting"] is True
        await engine.publish_event("Paid", {"order": 2})
        await engine.publish_event("Paid", {"order": 1, "sum": 9}, id="p-1")
        await engine.settle()
        found = await only(engine)
        assert (found["status"], found["result"]) == ("succeeded", "paid")
        assert [each["event_id"] for each in found["wait"]["confirmations"]] == ["p-1"]
    assert shop.calls == [("finalise", {"order": 1, "sum": 9})]


async def test_deadline_runs_the_fallback_with_the_triggers_data():
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        (timer,) = (await engine.list_timers(kind=["confirmation"]))["timers"]
        assert timer["due"] == "2026-01-01T00:10:00Z"
        await engine.advance("10 minutes")
        found = await only(engine)
        assert (found["status"], found["fallback_executed"]) == ("succeeded", True)
        assert (found["timed_out"], found["wait"]["duration_ms"]) == (True, 600_000)
    assert shop.calls == [("rescue", ("confirmation_not_received", {"order": 1}))]


@pytest.mark.parametrize("seconds", [7, 600])
async def test_handlers_are_told_how_long_it_waited(seconds: int):
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        await engine.advance(f"{seconds} seconds")
        await engine.publish_event("Paid", {"order": 1})
        await engine.settle()
    assert shop.waits == [(timedelta(seconds=seconds), timedelta(minutes=10))]


async def test_handler_of_what_has_not_waited_is_told_no_wait():
    app, told = Horae("shop"), []

    @app.schedule("plain", manual())
    async def plain(ctx) -> None:
        told.append((ctx.waited, ctx.wait_timeout))

    async with testing.engine(app) as engine:
        await engine.trigger_schedule("plain")
        await engine.settle()
    assert told == [(None, None)]


async def test_confirmation_that_comes_late_is_recorded_and_does_nothing_else():
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        await engine.advance("11 minutes")
        told = await engine.publish_event("Paid", {"order": 1})
        assert told["recorded"] is True
        found = await only(engine)
        assert (found["status"], found["wait"]["late"]) == ("succeeded", 1)
        assert found["timeline"][-1]["event"] == "confirmation_late"
    assert [name for name, _ in shop.calls] == ["rescue"]


async def test_confirmation_at_the_very_deadline_loses_against_it():
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        await engine.outage("10 minutes")
        await engine.publish_event("Paid", {"order": 1})
        await engine.settle()
        assert (await only(engine))["timed_out"] is True
    assert [name for name, _ in shop.calls] == ["rescue"]


@pytest.mark.parametrize(("fallback", "status"), [("rescue", "succeeded"), (None, "timed_out")])
async def test_confirmation_that_is_decided_together_with_the_deadline_is_recorded_as_late(
    fallback: str | None, status: str
):
    shop = Shop(fallback=fallback)
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        await engine.settle()
        engine._clock.move_to(engine.now + timedelta(minutes=10))
        told = await engine.publish_event("Paid", {"order": 1}, id="p-1")
        assert told["recorded"] is True
        await engine.settle()
        found = await only(engine)
        assert (found["status"], found["wait"]["late"]) == (status, 1)
        await engine.publish_event("Paid", {"order": 1}, id="p-2")
        assert (await only(engine))["wait"]["late"] == 2


async def test_second_confirmation_of_one_commit_is_recorded_as_late():
    """Also where the wait has begun in that commit."""
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await asyncio.gather(
            engine.publish_event("OrderPlaced", {"order": 1}),
            engine.publish_event("Paid", {"order": 1}, id="p-1"),
            engine.publish_event("Paid", {"order": 1}, id="p-2"),
        )
        await engine.settle()
        found = await only(engine)
        assert [each["event_id"] for each in found["wait"]["confirmations"]] == ["p-1"]
        assert (found["status"], found["wait"]["late"]) == ("succeeded", 1)
        await engine.publish_event("Paid", {"order": 1}, id="p-3")
        assert (await only(engine))["wait"]["late"] == 2
    assert [name for name, _ in shop.calls] == ["finalise"]


async def test_confirmation_just_before_the_deadline_wins():
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        await engine.advance("9 minutes 59 seconds")
        await engine.publish_event("Paid", {"order": 1})
        await engine.advance("1 hour")
        assert (await only(engine))["timed_out"] is False
    assert [name for name, _ in shop.calls] == ["finalise"]


async def test_confirmation_that_comes_before_the_wait_confirms_it():
    """While the action that is to be confirmed still runs."""
    app = Horae("shop")
    calls: list[Any] = []

    @app.handler("submit")
    async def submit(ctx, data: dict[str, Any]) -> dict[str, Any]:
        await ctx.client.publish_event("Paid", {"id": "x-1", "n": 1})
        await ctx.client.publish_event("Paid", {"id": "x-2", "n": 2})
        return {"payment": "x-2"}

    wait = wait_for("Paid", match={"id": "result.payment"})

    @app.schedule("pay", manual(), start="submit", wait=wait)
    async def finalise(ctx, confirmation: dict[str, Any]) -> None:
        calls.append((confirmation["n"], ctx.results))

    async with testing.engine(app) as engine:
        await engine.trigger_schedule("pay", payload={"order": 1})
        await engine.settle()
        found = await only(engine)
        assert (found["status"], found["stage"]) == ("succeeded", "then")
    assert calls == [(2, {"action": {"payment": "x-2"}})]


async def test_one_event_confirms_all_that_wait_for_it():
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1}, id="a")
        await engine.publish_event("OrderPlaced", {"order": 1}, id="b")
        await engine.publish_event("Paid", {"order": 1}, id="p")
        await engine.publish_event("Paid", {"order": 1}, id="p")
        await engine.settle()
        found = (await engine.list_executions(status=["succeeded"]))["executions"]
        assert len(found) == 2
    assert [name for name, _ in shop.calls] == ["finalise", "finalise"]


async def test_what_waits_is_cancelled_and_then_not_confirmed():
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        run = await only(engine)
        told = await engine.cancel_execution(run["id"], reason="no")
        assert told["status"] == "cancelled"
        await engine.publish_event("Paid", {"order": 1})
        await engine.advance("1 hour")
        found = await only(engine)
        assert (found["status"], found["reason"], found["wait"]["late"]) == ("cancelled", "no", 1)
        with pytest.raises(IllegalState):
            await engine.reprioritize_execution(run["id"], "high")
    assert shop.calls == []


async def test_deadline_is_moved_and_lifted():
    shop = Shop()
    async with testing.engine(shop.app) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        (timer,) = (await engine.list_timers(kind=["confirmation"]))["timers"]
        await engine.move_timer(timer["id"], to="2026-01-01T00:20:00Z")
        await engine.advance("15 minutes")
        assert (await only(engine))["still_waiting"] is True
        await engine.cancel_timer(timer["id"])
        await engine.advance("10 hours")
        assert (await only(engine))["still_waiting"] is True
        await engine.publish_event("Paid", {"order": 1})
        await engine.settle()
    assert [name for name, _ in shop.calls] == ["finalise"]


async def test_wait_ends_by_another_event_that_cancels_it():
    app = Horae("desk")
    app.declare(
        "escalate",
        on_event("ticket.opened"),
        {"type": "none"},
        wait=wait_for("ticket.answered", match="ticket"),
        cancel_on={"event": "ticket.resolved", "match": {"ticket": "trigger.data.ticket"}},
    )
    async with testing.engine(app) as engine:
        await engine.publish_event("ticket.opened", {"ticket": 7})
        await engine.publish_event("ticket.resolved", {"ticket": 7})
        found = await only(engine, "escalate")
        assert (found["status"], found["reason"]) == ("cancelled", "cancelled_by_event")


async def test_several_confirmations_are_needed():
    app = Horae("shop")
    told: list[Any] = []

    @app.schedule("ship", on_event("Ordered"), wait=wait_for("Paid", "Packed", match="order"))
    async def ship(ctx, confirmations: list[dict[str, Any]]) -> None:
        told.append(confirmations)

    async with testing.engine(app) as engine:
        await engine.publish_event("Ordered", {"order": 1})
        await engine.publish_event("Packed", {"order": 1, "box": 3})
        assert (await only(engine, "ship"))["still_waiting"] is True
        await engine.publish_event("Paid", {"order": 1})
        await engine.settle()
        assert (await only(engine, "ship"))["status"] == "succeeded"
    assert told == [[{"order": 1, "box": 3}, {"order": 1}]]


async def test_steps_are_taken_back_when_one_fails():
    app = Horae("shop")
    done: list[str] = []

    for name in ("reserve", "charge", "ship", "release", "refund"):

        def serve(name: str = name) -> None:
            @app.handler(name)
            async def act(ctx, data: Any) -> Result:
                done.append(name)
                return Result.failed("no van", final=True) if name == "ship" else Result.done(name)

        serve()
    order = steps(
        step("reserve", compensate="release"), step("charge", compensate="refund"), step("ship")
    )
    app.declare("order", manual(), order, retry=Retry(2, delay="1s"))
    async with testing.engine(app) as engine:
        run = await engine.trigger_schedule("order")
        await engine.advance("1 minute")
        found = await engine.get_execution(run["execution_id"])
        assert (found["status"], found["reason"]) == ("failed", "no van")
        assert found["steps"]["undone"] == ["charge", "reserve"]
        commands = testing.replay(engine.log())[run["execution_id"]]
        assert [each.stage for each in commands] == [
            "step:reserve", "step:charge", "step:ship", "undo:charge", "undo:reserve",
        ]  # fmt: skip
        assert testing.replay(engine.log())[run["execution_id"]] == commands
    assert done == ["reserve", "charge", "ship", "refund", "release"]
