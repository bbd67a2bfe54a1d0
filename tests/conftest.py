"""Real servers for every test that asks for one: started once a session, or a worker of xdist."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from horae_infrastructure.embedded import Nats, Postgres, Valkey


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
