"""All worked examples, served by one engine over NATS and PostgreSQL, with a day of two seconds."""

from __future__ import annotations

import asyncio

import pytest

import horae
from horae_infrastructure.embedded import Nats
from horae_infrastructure.settings import Settings

PATIENCE = 60.0
PACE = 43_200


@pytest.fixture
def server():
    with Nats() as made:
        yield made


@pytest.fixture
def found(kept):
    """A function that waits until something was written down, among what was."""

    async def wait(kind, wanted):
        async with asyncio.timeout(PATIENCE):
            while wanted not in kept(kind):
                await asyncio.sleep(0.05)
        return kept(kind)

    return wait


async def test_examples_of_each_theme_run_on_real_servers(
    saga, found, server, postgres_url, valkey_url, tmp_path, monkeypatch
):
    monkeypatch.setenv("SAGAS_PACE", str(PACE))
    app = saga("app").app
    settings = Settings.read(
        store_url=postgres_url,
        redis_url=valkey_url,
        nats_url=server.url,
        data_dir=tmp_path,
        http_networks="127.0.0.0/8",
        events=False,
    )
    async with app.serve(settings), horae.connect(server.url) as client:
        say = client.publish_event
        for ticket in (1, 2):
            await say("ticket.opened", {"ticket": ticket})
        await say("ticket.resolved", {"ticket": 1})
        await say("transfer.sent", {"tx": "0xa", "look_every": "100ms"})
        await say("position.wanted", {"pool": "a"})
        await say("offer.sent", {"offer": 1})
        await say("payment.due", {"card": "empty", "amount": 7})
        await say("policy.changed", {"policy": "logs", "days": 7})
        await client.trigger_schedule("workflow", payload={"broken": True})
        await client.trigger_schedule("weekly-backup")
        await found("transfers", "0xa is confirmed 3 times")
        await found("positions", "a is unwound: confirmation_not_received")
        await found("reminders", "offer 1 is not answered")
        await found("unpaid", "7 by empty: Http503")
        await found("clean-ups", "logs: 7 days")
        await found("workflows", "still broken: a step of the workflow has failed")
        escalated = await found("escalations", "ticket 2 is open for two days")
    assert escalated == ["ticket 2 is open for two days"]
