"""Handlers ask whether an external event has come (A5)."""

from __future__ import annotations

from typing import Any

import pytest

from horae import Context, Horae, HoraeError, manual, on_event, testing

KEPT = "trade.confirmed"


def application(**fields: Any) -> Horae:
    app = Horae("desk")

    @app.schedule("check", on_event("trade.submitted", delay="5 minutes"), **fields)
    async def check(ctx: Context, payload: dict[str, Any]) -> Any:
        return await ctx.check_for_event(KEPT, {"trade.id": payload["id"]})

    return app


async def result(engine: testing.TestEngine) -> Any:
    (run,) = (await engine.list_executions(schedule_id="check"))["executions"]
    return (await engine.get_execution(run["id"]))["result"]


async def test_event_with_these_values_that_came_since_the_trigger_is_found() -> None:
    async with testing.engine(application(keep_events=KEPT)) as engine:
        await engine.publish_event(KEPT, {"trade": {"id": 1}}, id="before")
        await engine.advance("1 minute")
        await engine.publish_event("trade.submitted", {"id": 1}, id="t-1")
        await engine.advance("1 minute")
        await engine.publish_event(KEPT, {"trade": {"id": 2}}, id="of another")
        await engine.publish_event("trade.other", {"trade": {"id": 1}}, id="of another type")
        await engine.publish_event(KEPT, {"trade": {"id": 1}}, id="c-1", source="chain")
        await engine.publish_event(KEPT, {"trade": {"id": 1}}, id="second")
        await engine.advance("5 minutes")
        assert await result(engine) == {
            "id": "c-1",
            "type": KEPT,
            "source": "chain",
            "data": {"trade": {"id": 1}},
            "at": "2026-01-01T00:02:00Z",
        }


async def test_event_that_has_not_come_is_not_found() -> None:
    async with testing.engine(application(keep_events=[KEPT])) as engine:
        await engine.publish_event("trade.submitted", {"id": 1})
        await engine.advance("5 minutes")
        assert await result(engine) is None


async def test_types_are_kept_as_long_as_a_schedule_says_so() -> None:
    async with testing.engine(application(keep_events="trade.>")) as engine:
        assert (await engine.publish_event(KEPT, {}))["recorded"]
        await engine.patch_schedule("check", keep_events=None)
        assert not (await engine.publish_event(KEPT, {}))["recorded"]
        await engine.patch_schedule("check", keep_events=[KEPT])
        await engine.cancel_schedule("check")
        assert not (await engine.publish_event(KEPT, {}))["recorded"]


async def test_events_of_other_tenants_are_not_found() -> None:
    async with testing.engine(application(keep_events=KEPT)) as engine:
        start = engine.now
        await engine.publish_event(KEPT, {}, id="mine")
        assert await engine.find_event(KEPT, since=start) is not None
        assert await engine.in_tenant("others").find_event(KEPT, since=start) is None


async def test_events_are_looked_for_from_the_instant_on(monkeypatch: pytest.MonkeyPatch) -> None:
    app = Horae("desk")
    app.declare("keep", manual(), {"type": "queue", "queue": "q"}, keep_events="n.>")
    async with testing.engine(app) as engine:
        for number in range(40):
            await engine.publish_event("n.one", {"n": number}, id=str(number))
            await engine.advance("1 minute")
        for number in (0, 17, 39):
            found = await engine.find_event("n.one", since=f"2026-01-01T00:{number:02}:00Z")
            assert found is not None
            assert found["data"] == {"n": number}
        assert await engine.find_event("n.one", since="2026-01-01T00:40:00Z") is None
        monkeypatch.setattr("horae_projections.received.PAGE", 8)
        monkeypatch.setattr("horae_projections.received.MAX_LOOKED_AT", 16)
        assert await engine.find_event("n.two", since="2026-01-01T00:30:00Z") is None
        with pytest.raises(HoraeError) as caught:
            await engine.find_event("n.two", since="2026-01-01T00:10:00Z")
    assert (caught.value.code, caught.value.field) == ("invalid_field", "since")
