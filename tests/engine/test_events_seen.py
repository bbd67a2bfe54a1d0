"""External events in an application: handlers, delays, what ends them, and chains (W1, W2, T11)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from horae import Context, Horae, every, on_event, on_outcome, testing
from horae_domain.errors import HoraeError, InvalidField, InvalidTrigger

Seen = list[tuple[Any, ...]]


class TradeSubmitted(BaseModel):
    tx_hash: str
    amount: float


@pytest.fixture
def seen() -> Seen:
    return []


async def test_handler_gets_the_event_as_its_model(seen: Seen):
    app = Horae("desk")

    @app.schedule("confirmation", on_event("TradeSubmitted", delay="5 minutes"))
    async def check(ctx: Context, event: TradeSubmitted) -> None:
        seen.append((event, ctx.trigger, ctx.late_by))

    async with testing.engine(app) as engine:
        data = TradeSubmitted(tx_hash="0x1", amount=5)
        answer = await engine.publish_event("TradeSubmitted", data, id="t-1", source="desk")
        assert (answer["recorded"], answer["id"]) == (True, "t-1")
        await engine.advance("299 seconds")
        assert seen == []
        await engine.advance("1 second")
        [(event, trigger, late_by)] = seen
        assert event == data
        assert late_by == timedelta(0)
        assert (trigger["kind"], trigger["event"], trigger["id"]) == (
            "event",
            "TradeSubmitted",
            "t-1",
        )
        assert trigger["delay"] == "5m"


async def test_event_that_does_not_fit_the_model_fails_without_a_retry(seen: Seen):
    app = Horae("desk")

    @app.schedule("check", on_event("TradeSubmitted"))
    async def check(ctx: Context, event: TradeSubmitted) -> None:
        seen.append((ctx, event))

    async with testing.engine(app) as engine:
        await engine.publish_event("TradeSubmitted", {"amount": "much"})
        await engine.advance(1)
        [run] = (await engine.list_executions(schedule_id="check"))["executions"]
        assert run["status"] in {"failed", "dead"}
        assert run["attempts"][0]["error"]["type"] == "PayloadInvalid"
        assert seen == []


async def test_escalation_is_cancelled_by_the_event_that_resolves_the_ticket(seen: Seen):
    app = Horae("desk")
    resolved = {"event": "ticket.resolved", "match": {"ticket_id": "trigger.data.ticket_id"}}

    @app.schedule("escalate", on_event("ticket.opened", delay="1 hour"), cancel_on=resolved)
    async def escalate(ctx: Context, ticket: dict[str, Any]) -> None:
        del ctx
        seen.append((ticket["ticket_id"],))

    async with testing.engine(app) as engine:
        for ticket in (1, 2):
            await engine.publish_event("ticket.opened", {"ticket_id": ticket})
        await engine.publish_event("ticket.resolved", {"ticket_id": 1}, id="r-1")
        await engine.advance("2 hours")
        assert seen == [(2,)]
        runs = (await engine.list_executions(schedule_id="escalate"))["executions"]
        assert {run["status"]: run["reason"] for run in runs} == {
            "cancelled": "cancelled_by_event",
            "succeeded": None,
        }
        shown = await engine.get_schedule("escalate")
        assert shown["cancel_on"] == resolved
        assert shown["trigger"]["delay"] == "1h"


async def test_filter_lets_through_what_it_is_true_of(seen: Seen):
    app = Horae("desk")

    @app.schedule("large", on_event("trade.>", filter="data.amount > 1000"))
    async def large(ctx: Context, trade: dict[str, Any]) -> None:
        del ctx
        seen.append((trade["amount"],))

    async with testing.engine(app) as engine:
        for amount in (1000, 1001):
            await engine.publish_event("trade.done", {"amount": amount})
        await engine.publish_event("trade.done", {"price": 1})
        await engine.advance(1)
        assert seen == [(1001,)]
        skipped = (await engine.list_executions(status="skipped"))["executions"]
        assert [run["reason"] for run in skipped] == ["filter_error"]


async def test_schedule_follows_another_one(seen: Seen):
    app = Horae("desk")

    @app.schedule("load", every("1 hour"))
    async def load(ctx: Context) -> dict[str, Any]:
        if ctx.run_number == 2:
            raise ValueError("no rows")
        return {"rows": ctx.run_number}

    @app.schedule("report", on_outcome("load"))
    async def report(ctx: Context, loaded: dict[str, Any]) -> None:
        seen.append(("report", loaded, ctx.trigger["execution_id"]))

    @app.schedule("alarm", on_outcome("load", "failed"))
    async def alarm(ctx: Context, error: dict[str, Any]) -> None:
        del ctx
        seen.append(("alarm", error["type"], None))

    app.schedules["load"]["retry"] = {"max_attempts": 1}
    async with testing.engine(app) as engine:
        await engine.advance("2 hours")
        assert [each[:2] for each in seen] == [("report", {"rows": 1}), ("alarm", "ValueError")]
        [run] = (await engine.list_executions(schedule_id="report"))["executions"]
        assert run["trigger"]["kind"] == "outcome"
        assert run["trigger"]["outcome"] == "succeeded"


async def test_payload_of_the_schedule_is_not_replaced_by_the_event(seen: Seen):
    app = Horae("desk")

    @app.schedule("mine", on_event("e"), payload={"mine": 1})
    async def mine(ctx: Context, payload: dict[str, Any]) -> None:
        seen.append((payload, ctx.trigger["data"]))

    async with testing.engine(app) as engine:
        await engine.publish_event("e", {"theirs": 2})
        await engine.advance(1)
        assert seen == [({"mine": 1}, {"theirs": 2})]


async def test_embedded_engine_hears_events_without_servers(seen: Seen):
    app, heard = Horae("desk"), asyncio.Event()

    @app.schedule("hear", on_event("a.*"))
    async def hear(ctx: Context, data: Any) -> None:
        del ctx
        seen.append((data,))
        heard.set()

    async with app.embedded() as engine:
        answer = await engine.publish_event("a.b", [1, "two", None])
        shown = await engine.get_schedule("hear", min_position=answer["position"])
        async with asyncio.timeout(30):
            await heard.wait()
        assert seen == [([1, "two", None],)]
        run = await engine.get_execution(shown["last_execution_id"])
        assert run["trigger"]["event"] == "a.b"


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"type": ""}, "type"),
        ({"type": "a b"}, "type"),
        ({"type": "a.*"}, "type"),
        ({"type": "a" * 256}, "type"),
        ({"type": "a", "id": "x" * 256}, "id"),
        ({"type": "a", "source": "x" * 513}, "source"),
        ({"type": "a", "data": "x" * 1024 * 1024}, "data"),
        ({"type": "a", "time": "yesterday"}, "time"),
        ({"type": "a", "more": 1}, "more"),
        ({}, "type"),
    ],
)
async def test_bad_event_is_refused_by_its_field(told: dict[str, Any], field: str):
    async with testing.engine() as engine:
        with pytest.raises(HoraeError) as caught:
            await engine.command("event.publish", told)
        assert isinstance(caught.value, InvalidField)
        assert caught.value.field == field


def test_bad_trigger_is_refused_where_it_is_written():
    with pytest.raises(InvalidTrigger):
        Horae("desk").schedule("a", on_event("a..b"))(lambda ctx: None)
