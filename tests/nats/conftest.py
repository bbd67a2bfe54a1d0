"""Connections for the tests of the bus."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from nats.aio.client import Client

from horae_infrastructure.embedded import Nats
from horae_infrastructure.nats import streams
from horae_infrastructure.nats.connection import Connection, close, connect
from horae_infrastructure.nats.work import NatsWorkBus


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Client]:
    client = await connect(nats_url, name="test")
    yield client
    await close(client)


@pytest.fixture
async def bus(nc: Connection) -> AsyncIterator[NatsWorkBus]:
    """Work goes out by a stream that has nothing of other tests."""
    await streams.ensure(nc.jetstream(), streams.work_stream(streams.StreamSettings()))
    await nc.jetstream().purge_stream(streams.WORK)
    bus = NatsWorkBus(nc)
    await bus.start()
    yield bus
    await bus.stop()


@pytest.fixture
def tenant() -> str:
    """Of this test alone, since the tests share a server."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def own_server() -> Iterator[Nats]:
    """A server that the test may kill, and whose storage it may wipe."""
    with Nats() as server:
        yield server


@pytest.fixture
async def own_nc(own_server: Nats) -> AsyncIterator[Client]:
    client = await connect(own_server.url, name="test")
    yield client
    await close(client)
