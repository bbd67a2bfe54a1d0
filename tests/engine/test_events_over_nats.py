"""External events over NATS into an application, also while it is down (T5, R1)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from horae import Context, Horae, on_event
from horae.client import Client
from horae_infrastructure.embedded import Nats
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.settings import Settings

PATIENCE = 60.0


class Trade(BaseModel):
    amount: int


class Desk:
    """An application that may be started again over the same store."""

    def __init__(self, url: str, path: Path) -> None:
        self.settings = Settings.read(
            store_url="sqlite:///horae.db", nats_url=url, data_dir=path, events=False
        )
        self.heard: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        app = Horae("desk")

        @app.schedule("hear", on_event("trade.>"))
        async def hear(ctx: Context, trade: Trade) -> None:
            self.heard.put_nowait((trade.amount, ctx.trigger["id"]))

        async with app.serve(self.settings) as runtime:
            yield runtime.client()

    async def next(self) -> tuple[int, str]:
        return await asyncio.wait_for(self.heard.get(), PATIENCE)


@pytest.fixture
def server() -> Iterator[Nats]:
    with Nats() as made:
        yield made


@pytest.fixture
def desk(server: Nats, tmp_path: Path) -> Desk:
    return Desk(server.url, tmp_path)


@pytest.fixture
async def nc(server: Nats) -> AsyncIterator[Any]:
    client = await connect(server.url, name="publisher")
    yield client
    await close(client)


async def publish(nc: Any, amount: int, id_: str, type_: str = "trade.done") -> None:
    headers = {"Nats-Msg-Id": id_}
    data = json.dumps({"amount": amount}).encode()
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await nc.jetstream().publish(f"events.{type_}", data, headers=headers)
            except Exception:  # noqa: BLE001 - the stream is not there yet
                await asyncio.sleep(0.05)
            else:
                return


async def test_published_event_runs_the_handler(desk: Desk, nc: Any) -> None:
    async with desk.running() as client:
        await publish(nc, 5, "e-1")
        assert await desk.next() == (5, "e-1")
        health = await client.health()
        assert health["components"]["inbox"]["received"] == 1


async def test_event_published_while_every_engine_is_down_is_handled_after_the_start(
    desk: Desk, nc: Any
) -> None:
    async with desk.running():
        await publish(nc, 1, "e-1")
        assert await desk.next() == (1, "e-1")
    await publish(nc, 2, "e-2")
    async with desk.running():
        assert await desk.next() == (2, "e-2")
    assert desk.heard.empty()


async def test_same_event_by_command_and_by_message_runs_once(desk: Desk, nc: Any) -> None:
    async with desk.running() as client:
        answer = await client.publish_event("trade.done", {"amount": 5}, id="e-1")
        assert answer["recorded"]
        await publish(nc, 5, "e-1")
        await publish(nc, 6, "e-2")
        assert await desk.next() == (5, "e-1")
        assert await desk.next() == (6, "e-2")
        assert (await client.get_schedule("hear"))["id"] == "hear"
    assert desk.heard.empty()
