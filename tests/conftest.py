"""Real servers for every test that asks for one: started once a session, or a worker of xdist."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from horae_infrastructure.embedded import Nats, Postgres, Valkey


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow come first, so that no worker is left with one at the end.

    What is drawn at random is not measured: coverage is to be the same every time, and tracing
    takes longer than the test.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if item.get_closest_marker("hypothesis") is not None:
            item.add_marker("no_cover")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that is not measured starts processes that are not, either."""
    with pytest.MonkeyPatch.context() as patch:
        if item.get_closest_marker("no_cover") is not None:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        return (yield)


@pytest.fixture(scope="session")
def nats_server() -> Iterator[Nats]:
    """A NATS server with JetStream that all tests share; clean up or use subjects of your own."""
    from horae_infrastructure.embedded import Nats

    with Nats() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """A Valkey server that all tests share."""
    from horae_infrastructure.embedded import Valkey

    with Valkey() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL server that all tests share."""
    from horae_infrastructure.embedded import Postgres

    with Postgres() as server:
        yield server


@pytest.fixture
def nats_url(nats_server: Nats) -> str:
    """A NATS server that runs, even if the test before killed it."""
    return nats_server.start().url


@pytest.fixture
def valkey_url(valkey_server: Valkey) -> str:
    """An empty Valkey server."""
    import redis

    url = valkey_server.start().url
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """A database that only this test uses."""
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server.start().url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    yield postgres_server.database_url(name)
    with psycopg.connect(postgres_server.start().url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
