"""Every adapter of the event store, opened anew for each test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from store_examples import MovedClock

from horae_application.ports import EventStore
from horae_infrastructure.embedded import Postgres
from horae_infrastructure.store.memory import MemoryStore
from horae_infrastructure.store.postgres import PostgresStore
from horae_infrastructure.store.sqlite import SqliteStore


class Adapter:
    """Opens stores over the same data, and closes them after the test."""

    def __init__(self, kind: str, opened: Callable[[], EventStore], clock: MovedClock) -> None:
        self.kind = kind
        self.clock = clock
        self._opened = opened
        self._stack = ExitStack()

    def open(self) -> EventStore:
        store = self._opened()
        self._stack.callback(store.close)
        return store

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(
    params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)],
)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Adapter]:
    clock = MovedClock()
    match request.param:
        case "memory":
            memory = MemoryStore(clock=clock)
            opened: Callable[[], EventStore] = lambda: memory  # noqa: E731
        case "sqlite":
            opened = lambda: SqliteStore(tmp_path / "horae.db", clock=clock)  # noqa: E731
        case _:
            url = request.getfixturevalue("schema_url")
            opened = lambda: PostgresStore(url)  # noqa: E731
    made = Adapter(request.param, opened, clock)
    yield made
    made.close()


@pytest.fixture
def schema_url(postgres_server: Postgres) -> Iterator[str]:
    """A schema that only this test uses, in the server's one database."""
    name = f"test_{uuid.uuid4().hex}"
    url = postgres_server.start().url
    yield f"{url}&schema={name}"
    with psycopg.connect(postgres_server.start().url, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.fixture
def store(adapter: Adapter) -> EventStore:
    return adapter.open()
