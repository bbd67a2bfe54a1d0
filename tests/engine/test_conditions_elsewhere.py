"""Conditions that other processes serve over NATS, in Python and in any language."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import asynccontextmanager

import pytest

from horae import Horae, HoraeError, manual
from horae_domain.errors import UnknownHandler
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.settings import Settings


@pytest.fixture
def told(nats_url, tmp_path):
    return Settings.read(
        store_url="memory://", nats_url=nats_url, tenant=f"t{uuid.uuid4().hex[:12]}",
        data_dir=tmp_path, events=False,
    )  # fmt: skip


@asynccontextmanager
async def engine(told):
    """An engine that executes, and serves no condition itself."""
    app = Horae("engine")

    @app.handler("work")
    async def work(ctx):
        return list(ctx.conditions_met)

    async with app.serve(told) as runtime:
        yield runtime.client()


async def outcome(client):
    started = await client.trigger_schedule("job")
    async with asyncio.timeout(100):
        while True:
            try:
                run = await client.get_execution(started["execution_id"])
            except HoraeError:  # the views follow
                run = {"status": "unknown"}
            if run["status"] in {"succeeded", "skipped"}:
                return run
            await asyncio.sleep(0.02)


async def test_an_application_elsewhere_serves_conditions(told):
    app = Horae("desk")

    @app.condition("market.open")
    def is_open(ctx):
        return ctx.payload["open"]

    async with engine(told) as client:
        with pytest.raises(UnknownHandler):
            await client.create_schedule("job", manual(), "work", requires="market.open")
        async with app.serve(told, roles=("executor",)):
            await client.create_schedule(
                "job", manual(), "work", requires="market.open", payload={"open": True}
            )
            run = await outcome(client)
            assert (run["status"], run["result"]) == ("succeeded", ["market.open"])
            await client.patch_schedule("job", payload={"open": False})
            run = await outcome(client)
            assert (run["status"], run["reason"]) == ("skipped", "condition_not_met:market.open")
            await client.patch_schedule("job", payload={"open": None}, catch_up={"window": "0s"})
            run = await outcome(client)
            assert run["reason"] == "condition_failed:market.open"
            assert "open" in str(run["timeline"])


@pytest.mark.parametrize(
    ("answer", "headers", "reason"),
    [
        (b'{"met": true}', None, None),
        (b"true", None, None),
        (b'{"ok": true, "met": false}', None, "condition_not_met:open"),
        (b"{", None, "condition_failed:open"),
        (b'{"ok": false, "error": {"type": "Boom", "message": "no feed"}}', None, "condition_failed:open"),
        (b"true", {"Nats-Service-Error": "no feed", "Nats-Service-Error-Code": "500"}, "condition_failed:open"),
    ],
)  # fmt: skip
async def test_a_program_in_any_language_serves_conditions(told, answer, headers, reason):
    nc = await connect(told.nats_url, name="guard")
    asked = []

    async def serve(msg):
        asked.append(json.loads(msg.data))
        await nc.publish(msg.reply, answer, headers=headers)

    await nc.subscribe(f"horae.{told.tenant}.check.open", cb=serve)
    await nc.flush()
    async with engine(told) as client:
        await client.create_schedule(
            "job", manual(), "work", requires="open", payload={"a": 1}, allow_unknown=True,
            catch_up={"window": "0s"},
        )  # fmt: skip
        run = await outcome(client)
        assert run["reason"] == reason
        (question,) = asked
        assert (question["execution_id"], question["payload"]) == (run["id"], {"a": 1})
        assert (question["name"], question["schedule_id"]) == ("open", "job")
    await close(nc)


async def test_a_condition_that_nobody_serves_any_more_has_failed(told):
    async with engine(told) as client:
        await client.create_schedule(
            "job", manual(), "work", requires="open", allow_unknown=True, catch_up={"window": "0s"}
        )
        run = await outcome(client)
        assert run["reason"] == "condition_failed:open"
        assert "nobody serves" in str(run["timeline"])
