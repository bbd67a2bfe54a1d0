"""What is wrong with one saga is refused or recorded where it is, and all others go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from horae import Horae, Retry, manual, on_condition, on_event, on_outcome, testing, wait_for
from horae_application import checks
from horae_domain.errors import HoraeError

WAIT = wait_for("Paid", match="order", timeout="10 minutes", fallback="rescue")


@pytest.fixture
def shop():
    """An application in which much goes wrong, and one saga that does not."""
    app = Horae("shop")

    @app.check("broken")
    def broken(ctx) -> dict[str, Any]:
        raise ConnectionError("no feed")

    @app.check("hanging")
    async def hanging(ctx) -> dict[str, Any]:
        await asyncio.sleep(3600)
        return {}

    @app.handler("fail")
    def fail(ctx) -> None:
        raise RuntimeError("a fault")

    @app.schedule("pay", on_event("OrderPlaced"), wait=WAIT)
    async def paid(ctx, confirmation: dict[str, Any]) -> str:
        return f"order {confirmation['order']} is paid"

    @app.fallback("rescue")
    async def rescue(ctx, order: dict[str, Any]) -> str:
        return f"order {order['order']} is released"

    @app.handler("note")
    def note(ctx) -> str:
        return "noted"

    for check in ("broken", "hanging"):
        app.declare(check, on_condition(check, when="price > 1", every="1 minute"), "note")
    app.declare("forsaken", manual(), "fail", retry=Retry(1), fallback="fail")
    app.declare("one", on_outcome("other"), "note")
    app.declare("other", on_outcome("one"), "note")
    app.declare("unfit", on_event("OrderPlaced", filter="data.price > 100"), "note")
    return app


async def ends(engine, id_):
    page = await engine.list_executions(schedule_id=id_, limit=100)
    found = [await engine.get_execution(each["id"]) for each in page["executions"]]
    return [(each["status"], each.get("reason"), each.get("result")) for each in reversed(found)]


async def refused(asked):
    with pytest.raises(HoraeError) as caught:
        await asked
    return caught.value.code, caught.value.field


async def test_bad_input_of_some_sagas_stops_no_other(shop, monkeypatch):
    monkeypatch.setattr(checks, "CHECK_TIMEOUT", 0.05)
    async with testing.engine(shop) as engine:
        say = engine.publish_event
        for order in (1, 2, 2, 3):
            await say("OrderPlaced", {"order": order})
        for when in ("price >", "'yes'", "price == '" + "x" * 2001 + "'"):
            bad = on_condition("broken", when=when)
            told = await refused(engine.create_schedule("bad", bad, "note"))
            assert told == ("invalid_expression", "trigger.when")
        unknown = on_event("a", filter="nobody > 1")
        told = await refused(engine.create_schedule("bad", unknown, "note"))
        assert told == ("invalid_expression", "trigger.filter")
        assert await refused(engine.command("event.publish", {"data": 1})) == (
            "invalid_field", "type",
        )  # fmt: skip
        assert await refused(say("Paid", "x" * 10_000_000)) == ("payload_too_large", None)
        await say("Paid", {"order": 99})
        await say("Paid", {"order": 2})
        await engine.trigger_schedule("forsaken")
        await engine.trigger_schedule("one")
        await engine.advance("11 minutes")
        late = await say("Paid", {"order": 3})
        await say("OrderPlaced", {"order": 4})
        await say("Paid", {"order": 4})
        await engine.settle()
        assert late["recorded"] is True
        assert sorted(result for _, _, result in await ends(engine, "pay")) == [
            "order 1 is released",
            "order 2 is paid",
            "order 2 is paid",
            "order 3 is released",
            "order 4 is paid",
        ]
        for check in ("broken", "hanging"):
            assert (await engine.get_schedule(check))["last_check"]["outcome"] == "failed"
        assert [status for status, _, _ in await ends(engine, "forsaken")] == ["dead"]
        circle = [*await ends(engine, "one"), *await ends(engine, "other")]
        assert [reason for status, reason, _ in circle if status == "skipped"] == ["chain_too_deep"]
        assert len(circle) == 18
        unfit = {(status, reason) for status, reason, _ in await ends(engine, "unfit")}
        assert unfit == {("skipped", "filter_error")}
