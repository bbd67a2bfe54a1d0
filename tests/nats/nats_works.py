"""Work and replies as an engine gives them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

from horae.runtime import Runtime
from horae_application.messages import Reply, Request
from horae_application.work import Work
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.service import NatsService

Engine = TypeVar("Engine", bound=Callable[[Request], Awaitable[Reply]])


def work(tenant: str, *, action=None, lease: str = "1.1", **facts) -> Work:
    return Work(
        **{
            "execution_id": str(uuid.uuid4()),
            "schedule_id": "nightly",
            "tenant": tenant,
            "attempt": int(lease.split(".", maxsplit=1)[0]),
            "lease": lease,
            "due": datetime(2026, 1, 1, tzinfo=UTC),
            "action": action or {"type": "function", "name": "build"},
        }
        | facts
    )


def accepted(position: str, **facts) -> Reply:
    return Reply(200, {"ok": True, "position": position, **facts})


@asynccontextmanager
async def answering(nc: Connection, engine: Engine, *commands: str) -> AsyncIterator[Engine]:
    """While it lasts, an engine answers these commands."""
    service = NatsService(
        nc,
        commands=engine,
        queries=engine,
        command_names=commands,
        query_names=[],
        version="1.0.0",
    )
    await service.start()
    yield engine
    await service.stop(0.1)


async def announced(runtime: Runtime, executor: str) -> None:
    """Until an engine has heard of an executor in another process."""
    async with asyncio.timeout(100):
        while executor not in {each.executor for each in runtime.executors()}:
            await asyncio.sleep(0.01)
