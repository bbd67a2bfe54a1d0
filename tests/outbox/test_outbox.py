"""The outbox: what the caller's transaction commits is scheduled, once, whoever dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from outboxes import Order, Remind, app, metadata, orders, outbox
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from horae.client import Client
from horae.outbox import Relay
from horae_domain.errors import InvalidField, InvalidTrigger, Unavailable

HERE = Path(__file__).parent
PATIENCE = 60.0


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database; its tables are there."""
    if request.param == "sqlite":
        made = f"sqlite:///{tmp_path}/shop.db"
    else:
        made = request.getfixturevalue("postgres_url")
        made = made.replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(made)
    metadata.create_all(engine)
    engine.dispose()
    return made


@pytest.fixture
def database(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
async def asynchronous(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(url.replace("sqlite://", "sqlite+aiosqlite://"))
    yield engine
    await engine.dispose()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with app.embedded(drive="manual") as made:
        yield made


def rows(database: Engine) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(outbox.table).order_by(outbox.table.c.number)))


async def commands(client: Client) -> list[Any]:
    return (await client.list_schedules(type="command"))["schedules"]


async def test_session_connection_and_their_asynchronous_forms_record(
    database: Engine, asynchronous: AsyncEngine, client: Client
) -> None:
    ids = []
    with Session(database) as session, session.begin():
        session.add(Order(1))
        ids.append(outbox.schedule(session, Remind(number=1), after="1h"))
    with database.begin() as connection:
        connection.execute(orders.insert(), {"number": 2})
        ids.append(outbox.schedule(connection, Remind(number=2), after="1h"))
    async with AsyncSession(asynchronous) as session, session.begin():
        session.add(Order(3))
        ids.append(await outbox.schedule(session, Remind(number=3), after="1h"))
    async with asynchronous.begin() as connection:
        await connection.execute(orders.insert(), {"number": 4})
        ids.append(await outbox.schedule(connection, Remind(number=4), after="1h"))
    assert await Relay(outbox, database, client).run_once() == 4
    found = [await client.get(id_) for id_ in ids]
    assert [each.command for each in found] == [Remind(number=number) for number in range(1, 5)]
    assert await Relay(outbox, asynchronous, client).run_once() == 0
    assert all(row.delivered_at is not None for row in rows(database))


async def test_rollback_leaves_nothing(
    database: Engine, asynchronous: AsyncEngine, client: Client
) -> None:
    with Session(database) as session:
        session.add(Order(1))
        outbox.schedule(session, Remind(number=1), after="1h")
        session.flush()
        session.rollback()
    with database.connect() as connection:
        outbox.schedule(connection, Remind(number=1), after="1h")
        connection.rollback()
    async with AsyncSession(asynchronous) as session:
        await outbox.schedule(session, Remind(number=1), after="1h")
    assert rows(database) == []
    assert await Relay(outbox, database, client).run_once() == 0
    assert await commands(client) == []


async def test_what_belongs_to_a_command_is_delivered_with_it(
    database: Engine, client: Client
) -> None:
    told: dict[str, Any] = {"at": "2099-01-01T00:00:00Z", "metadata": {"a": 1}}
    with Session(database) as session, session.begin():
        id_ = outbox.schedule(
            session, Remind(number=1), correlation_id="order-1", idempotency_key="k", **told
        )
    assert await Relay(outbox, database, client).run_once() == 1
    found = await client.get(id_)
    assert (found.correlation_id, found.metadata) == ("order-1", {"a": 1})
    again = await client.schedule(Remind(number=1), idempotency_key="k", allow_past=True, **told)
    assert again == id_


async def test_instant_that_passed_before_the_delivery_is_due_at_once(
    database: Engine, client: Client
) -> None:
    with Session(database) as session, session.begin():
        id_ = outbox.schedule(session, Remind(number=1), "2020-01-01T00:00:00Z")
    await Relay(outbox, database, client).run_once()
    assert [each.id for each in await client.due()] == [id_]


async def test_what_is_wrong_is_refused_where_it_is_written(database: Engine) -> None:
    with Session(database) as session, session.begin():
        with pytest.raises(InvalidTrigger):
            outbox.schedule(session, Remind(number=1), "2099-01-01T00:00:00Z", at="2099-01-01")
        with pytest.raises(InvalidField):
            outbox.schedule(session, {"number": 1}, after="1h")  # type: ignore[call-overload]
    assert rows(database) == []


class Unheard(BaseModel):
    pass


async def test_row_that_is_refused_for_good_keeps_its_reason_and_holds_up_no_other(
    database: Engine, client: Client
) -> None:
    with database.begin() as connection:
        outbox.schedule(connection, Unheard(), after="1h")
        id_ = outbox.schedule(connection, Remind(number=1), after="1h")
    relay = Relay(outbox, database, client)
    assert await relay.run_once() == 2
    assert await relay.run_once() == 0
    refused, delivered = rows(database)
    assert refused.refused.startswith("unknown_command: no handler takes the command 'Unheard'")
    assert refused.delivered_at is None
    assert delivered.refused is None
    assert (await client.get(id_)).status == "scheduled"


class Failing(Client):
    """Carries so many commands, then refuses as an engine does that is away."""

    def __init__(self, client: Client, carried: int) -> None:
        super().__init__(client._caller)
        self.carried = carried

    async def command(self, name: str, body: Mapping[str, Any], **told: Any) -> dict[str, Any]:
        if self.carried == 0:
            raise Unavailable("away")
        self.carried -= 1
        return await super().command(name, body, **told)


async def test_engine_that_is_away_keeps_the_rest_waiting(database: Engine, client: Client) -> None:
    with database.begin() as connection:
        for number in range(3):
            outbox.schedule(connection, Remind(number=number), after="1h")
    with pytest.raises(Unavailable):
        await Relay(outbox, database, Failing(client, 1)).run_once()
    assert [row.delivered_at is not None for row in rows(database)] == [True, False, False]
    assert await Relay(outbox, database, client).run_once() == 2
    assert len(await commands(client)) == 3


async def test_several_relays_at_once_deliver_each_row_once(
    database: Engine, asynchronous: AsyncEngine, client: Client
) -> None:
    with database.begin() as connection:
        for number in range(200):
            outbox.schedule(connection, Remind(number=number), after="1h")
    relays = [
        Relay(outbox, each, client, poll_interval=0.01, batch=7)
        for each in (database, asynchronous, database)
    ]
    for relay in relays:
        await relay.start()
        await relay.start()
    async with asyncio.timeout(PATIENCE):
        while any(row.delivered_at is None for row in await asyncio.to_thread(rows, database)):
            await asyncio.sleep(0.02)
    for relay in relays:
        await relay.stop()
        await relay.stop()
    listed = await client.list_schedules(type="command", limit=1000)
    assert listed["total"] == 200
    assert {each["payload"]["number"] for each in listed["schedules"]} == set(range(200))


@pytest.mark.postgres
async def test_rows_that_another_relay_holds_are_skipped(postgres_url: str, client: Client) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+psycopg://", 1)
    database = create_engine(url)
    metadata.create_all(database)
    with database.begin() as connection:
        for number in range(4):
            outbox.schedule(connection, Remind(number=number), after="1h")
    with database.begin() as other:
        held = Relay(outbox, database, client, batch=2)._take(other)
        assert len(held) == 2
        assert await Relay(outbox, database, client).run_once() == 2
    assert await Relay(outbox, database, client).run_once() == 2
    database.dispose()


async def test_relay_is_woken_by_a_trigger_and_goes_on_after_the_database_failed(
    tmp_path: Path, client: Client
) -> None:
    database = create_engine(f"sqlite:///{tmp_path}/shop.db")
    async with Relay(outbox, database, client, poll_interval=3600) as relay:
        await asyncio.sleep(0.05)  # it has looked at a database without tables
        metadata.create_all(database)
        with database.begin() as connection:
            id_ = outbox.schedule(connection, Remind(number=1), after="1h")
        relay.trigger()
        async with asyncio.timeout(PATIENCE):
            while (await commands(client)) == []:
                await asyncio.sleep(0.02)
    assert (await client.get(id_)).status == "scheduled"
    database.dispose()


def relaying(database: str, store: str, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "relaying.py", database, store, how],
        cwd=HERE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == wanted:
            return line
    raise AssertionError(f"{wanted!r} was never said")


@pytest.mark.no_cover  # what is killed leaves no measurement
async def test_relay_killed_between_delivery_and_mark_delivers_nothing_twice(
    url: str, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/horae.db"
    database = create_engine(url)
    with database.begin() as connection:
        ids = [outbox.schedule(connection, Remind(number=n), after="1h") for n in range(5)]
    for _ in range(2):
        process = relaying(url, store, "stall")
        line_of(process, "answered")
        process.kill()
        process.communicate(timeout=60)
    assert all(row.delivered_at is None for row in rows(database))
    process = relaying(url, store, "once")
    line_of(process, "5")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert all(row.delivered_at is not None for row in rows(database))
    database.dispose()
    async with app.embedded(store) as client:
        events = client._caller._runtime.store.read(0, 1000)  # type: ignore[attr-defined]
        assert [event.name for event in events] == ["command.scheduled.v1"] * 5
        assert [(await client.get(id_)).command for id_ in ids] == [
            Remind(number=number) for number in range(5)
        ]
