"""Scheduled commands over NATS and over a restart: the same calls, and nothing twice."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest
from pydantic import BaseModel

from horae import Context, Horae, connect
from horae.client import Client
from horae.commands import ScheduledCommand
from horae_domain.errors import CommandNotFound, IdempotencyConflict, UnknownCommand
from horae_infrastructure.settings import Settings

PATIENCE = 60.0
"""Seconds until a condition that has not come is taken as one that never will."""


class SendReminder(BaseModel):
    order_id: str


class Vanish(BaseModel):
    pass


class Desk:
    def __init__(self) -> None:
        self.app = Horae("desk")
        self.taken: asyncio.Queue[tuple[str, SendReminder]] = asyncio.Queue()

        @self.app.command
        async def send_reminder(ctx: Context, command: SendReminder) -> str:
            self.taken.put_nowait((ctx.correlation_id, command))
            return command.order_id


async def until(client: Client, id_: str, status: str) -> ScheduledCommand:
    """The command when it stands there."""
    async with asyncio.timeout(PATIENCE):
        while (found := await client.get(id_)).status != status:
            await asyncio.sleep(0.02)
    return found


@pytest.fixture
def settings(nats_url: str, tmp_path: Path) -> Settings:
    return Settings.read(
        store_url="memory://",
        nats_url=nats_url,
        redis_url="memory://",
        tenant=f"t{uuid.uuid4().hex[:12]}",
        data_dir=tmp_path,
        events=False,
    )


@asynccontextmanager
async def over_nats(desk: Desk, settings: Settings) -> AsyncIterator[Client]:
    assert settings.nats_url is not None
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(desk.app.serve(settings))
        yield await stack.enter_async_context(
            desk.app.connect(settings.nats_url, tenant=settings.tenant)
        )


async def test_same_calls_over_nats(settings: Settings) -> None:
    desk = Desk()
    async with over_nats(desk, settings) as client:
        soon = datetime.now(UTC) + timedelta(milliseconds=300)
        told: dict[str, Any] = {"at": soon, "idempotency_key": "reminder:o-1"}
        id_ = await client.schedule(
            SendReminder(order_id="o-1"), correlation_id="order-1", metadata={"a": 1}, **told
        )
        waiting = await client.get(id_)
        assert waiting.command == SendReminder(order_id="o-1")
        assert (waiting.metadata, waiting.scheduled_by) == ({"a": 1}, "desk")
        again = await client.schedule(SendReminder(order_id="o-1"), metadata={"a": 1}, **told)
        assert again == id_
        with pytest.raises(IdempotencyConflict):
            await client.schedule(SendReminder(order_id="o-2"), **told)
        async with asyncio.timeout(PATIENCE):
            assert await desk.taken.get() == ("order-1", SendReminder(order_id="o-1"))
        assert (await until(client, id_, "succeeded")).result == "o-1"
        assert await client.cancel(id_) is False
        other = await client.schedule(SendReminder(order_id="o-3"), after="1h")
        assert await client.cancel(other) is True
        assert await client.cancel(other) is False
        assert (await client.get(other)).status == "cancelled"
        with pytest.raises(CommandNotFound):
            await client.get("c.nobody")
        with pytest.raises(UnknownCommand) as refused:
            await client.schedule(Vanish(), after="1h")
        assert refused.value.details["known"] == ["SendReminder"]
    assert desk.taken.empty()


async def test_engine_elsewhere_knows_the_commands_that_an_executor_announces(
    settings: Settings,
) -> None:
    desk = Desk()
    assert settings.nats_url is not None
    engine = Horae("engine").serve(settings, roles=("engine", "views"))
    executor = desk.app.serve(settings, roles=("executor",))
    calling = connect(settings.nats_url, tenant=settings.tenant)
    async with engine, executor, calling as client, asyncio.timeout(PATIENCE):
        while True:  # until it has announced itself
            try:
                id_ = await client.schedule(SendReminder(order_id="o-1"), after=0.2)
                break
            except UnknownCommand:
                await asyncio.sleep(0.05)
        assert (await desk.taken.get())[1] == SendReminder(order_id="o-1")
        found = await until(client, id_, "succeeded")
    assert found.command == {"order_id": "o-1"}, "this client knows no models"


async def test_program_in_any_language_schedules_a_command(settings: Settings) -> None:
    desk = Desk()
    assert settings.nats_url is not None
    body = {"command": "SendReminder", "data": {"order_id": "o-1"}, "after": "1h"}
    async with over_nats(desk, settings), AsyncExitStack() as stack:
        nc = await nats.connect(settings.nats_url)
        stack.push_async_callback(nc.close)

        async def ask(name: str, content: dict[str, Any], **headers: str) -> dict[str, Any]:
            subject = f"horae.{settings.tenant}.command.command.{name}"
            data = json.dumps(content).encode()
            reply = await nc.request(subject, data, timeout=30, headers=headers or None)
            answer: dict[str, Any] = json.loads(reply.data)
            return answer

        first = await ask("schedule", body, **{"Horae-Idempotency-Key": "k"})
        assert await ask("schedule", body, **{"Horae-Idempotency-Key": "k"}) == first
        assert (await ask("schedule", body | {"key": "k"}))["id"] == first["id"]
        assert (await ask("schedule", body))["id"] != first["id"]
        neither = await ask("schedule", {"command": "SendReminder"})
        assert neither["error"]["code"] == "invalid_trigger"
        assert neither["error"]["field"] == "after"
        cancelled = await ask("cancel", {"id": first["id"]})
        assert cancelled["ok"]
        assert cancelled["cancelled"]


async def test_command_survives_a_restart_and_is_carried_out_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/horae.db"
    desk = Desk()
    told: dict[str, Any] = {"idempotency_key": "k", "at": "2026-01-01T00:00:00Z"}
    told["allow_past"] = True
    async with Horae("engine").embedded(url) as client:  # nobody takes it here
        id_ = await client.schedule(SendReminder(order_id="o-1"), allow_unknown=True, **told)
        waiting = await client.schedule(
            SendReminder(order_id="o-2"), after="1d", metadata={"a": 1}, allow_unknown=True
        )
    for _ in range(2):
        async with desk.app.embedded(url) as client:
            assert await client.schedule(SendReminder(order_id="o-1"), **told) == id_
            await until(client, id_, "succeeded")
            found = await client.get(waiting)
            assert (found.command, found.status) == (SendReminder(order_id="o-2"), "scheduled")
            assert found.metadata == {"a": 1}
    assert desk.taken.qsize() == 1
    async with desk.app.embedded(url) as client:
        assert await client.cancel(waiting) is True
        assert await client.cancel(waiting) is False
