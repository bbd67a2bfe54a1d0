"""An outbox (C5): commands scheduled within the caller's own SQLAlchemy transaction.

```python
outbox = Outbox(Base.metadata)

with Session(database) as session, session.begin():
    session.add(order)
    outbox.schedule(session, SendReminder(order_id=order.id), after="1 day")

async with Relay(outbox, database, engine):  # delivers what was committed, each once
    ...
```

What was recorded is delivered if, and only if, the transaction commits. A relay schedules it under
a key that is the row's own, so that a row whose delivery was not marked, because the relay died in
between, is the same scheduled command when it is delivered again.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from pydantic import BaseModel
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from horae.client import Client, plain
from horae.commands import scheduling
from horae_application.cqrs import Cqrs
from horae_application.log import get_logger
from horae_domain.errors import HoraeError, Internal, TooManyRequests, Unavailable
from horae_domain.identity import command_id

T = TypeVar("T")

BATCH = 100
"""Rows that one pass of a relay takes."""
POLL = 1.0
"""Seconds after which a relay looks again though nobody has woken it."""
LATER = (Unavailable, TooManyRequests, Internal)
"""Refusals after which the same request may be sent again; any other one is final."""

_log = get_logger("horae.outbox")


class Outbox:
    """The table in which commands wait for their delivery.

    Args:
        metadata: the application's; its `create_all` or its migrations make the table.
        name: of the table.
        tenant: in whose name they are scheduled.
        cqrs: an application's `registry.cqrs`, if its commands have names of their own.
    """

    def __init__(
        self,
        metadata: MetaData,
        name: str = "horae_outbox",
        *,
        tenant: str = "default",
        cqrs: Cqrs | None = None,
    ) -> None:
        self.tenant = tenant
        self._cqrs = cqrs or Cqrs()
        number = BigInteger().with_variant(Integer, "sqlite")
        self.table = Table(
            name,
            metadata,
            Column("number", number, primary_key=True, autoincrement=True),
            Column("key", String(255), nullable=False),
            Column("body", JSON, nullable=False),
            Column("correlation_id", String(255)),
            Column("recorded_at", DateTime(timezone=True), nullable=False),
            Column("delivered_at", DateTime(timezone=True)),
            Column("refused", Text),
        )
        waiting = self.waiting
        Index(
            f"{name}_waiting", self.table.c.number, postgresql_where=waiting, sqlite_where=waiting
        )

    @property
    def waiting(self) -> Any:
        """The condition of rows that are to be delivered."""
        return self.table.c.delivered_at.is_(None) & self.table.c.refused.is_(None)

    @overload
    def schedule(
        self,
        within: Session | Connection,
        command: BaseModel,
        execute_at: datetime | str | None = None,
        **options: Any,
    ) -> str: ...

    @overload
    def schedule(
        self,
        within: AsyncSession | AsyncConnection,
        command: BaseModel,
        execute_at: datetime | str | None = None,
        **options: Any,
    ) -> Awaitable[str]: ...

    def schedule(
        self,
        within: Session | Connection | AsyncSession | AsyncConnection,
        command: BaseModel,
        execute_at: datetime | str | None = None,
        *,
        idempotency_key: str | None = None,
        correlation_id: str | None = None,
        **options: Any,
    ) -> str | Awaitable[str]:
        """Record, in the caller's transaction, that a command is to be scheduled.

        The arguments are those of a client's `schedule`; `after` counts from the delivery. An
        asynchronous session or connection answers an awaitable.

        Returns:
            The id that the scheduled command will have.

        Raises:
            InvalidTrigger, InvalidField: what can be seen to be wrong here.
        """
        options.setdefault("allow_past", True)  # it may have passed when it is delivered
        body = scheduling(self._cqrs, command, execute_at, **options)
        key = idempotency_key or f"outbox:{uuid.uuid4().hex}"
        row = {
            "key": key,
            "body": plain(body),
            "correlation_id": correlation_id,
            "recorded_at": datetime.now(UTC),
        }
        id_ = command_id(self.tenant, key)
        statement = self.table.insert()
        if isinstance(within, AsyncSession | AsyncConnection):
            return _answering(within.execute(statement, row), id_)
        within.execute(statement, row)
        return id_


async def _answering(work: Awaitable[Any], answer: T) -> T:
    await work
    return answer


class Relay:
    """Delivers what an outbox holds; any number of relays may do so at once.

    On a database that has row locks the rows of a pass are locked until they are marked, and
    others skip them; on SQLite two relays may deliver the same row, under the same key.

    Args:
        outbox: what to deliver.
        database: an engine of SQLAlchemy, asynchronous or not.
        client: of a Horae engine, in the tenant of the outbox.
        poll_interval: seconds after which it looks again though nobody has called `trigger`.
        batch: rows of one pass.
    """

    def __init__(
        self,
        outbox: Outbox,
        database: Engine | AsyncEngine,
        client: Client,
        *,
        poll_interval: float = POLL,
        batch: int = BATCH,
    ) -> None:
        self._outbox = outbox
        self._database = database
        self._client = client
        self._poll = poll_interval
        self._batch = batch
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to deliver; once it has begun, this does nothing."""
        if self._task is None:
            self._stopping = False
            self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End after the present pass."""
        if self._task is not None:
            self._stopping = True
            self.trigger()
            await self._task
            self._task = None

    def trigger(self) -> None:
        """Look now."""
        self._woken.set()

    async def run_once(self) -> int:
        """One pass over the oldest rows; how many it has delivered or found refused.

        Raises:
            Unavailable: the engine takes nothing at present; what was delivered before is marked.
            SQLAlchemyError: the database fails.
        """
        if self._database.dialect.name == "sqlite":
            rows = await self._within(self._take)
            marks, error = await self._deliver(rows)
            await self._within(lambda connection: self._mark(connection, marks))
        elif isinstance(self._database, AsyncEngine):
            async with self._database.begin() as held:
                marks, error = await self._deliver(await held.run_sync(self._take))
                await held.run_sync(self._mark, marks)
        else:
            connection = await asyncio.to_thread(self._database.connect)
            try:
                marks, error = await self._deliver(await asyncio.to_thread(self._take, connection))
                await asyncio.to_thread(self._mark, connection, marks)
                await asyncio.to_thread(connection.commit)
            finally:
                await asyncio.to_thread(connection.close)
        if error is not None:
            raise error
        return len(marks)

    async def _within(self, work: Callable[[Connection], T]) -> T:
        """Work in a short transaction of its own."""
        if isinstance(self._database, AsyncEngine):
            async with self._database.begin() as connection:
                return await connection.run_sync(work)
        database = self._database

        def run() -> T:
            with database.begin() as connection:
                return work(connection)

        return await asyncio.to_thread(run)

    def _take(self, connection: Connection) -> Sequence[Any]:
        table = self._outbox.table
        oldest = select(table).where(self._outbox.waiting).order_by(table.c.number)
        chosen = oldest.limit(self._batch).with_for_update(skip_locked=True)
        return connection.execute(chosen).all()

    async def _deliver(
        self, rows: Sequence[Any]
    ) -> tuple[dict[int, str | None], HoraeError | None]:
        """What became of the rows, None or the refusal; and what has stopped the pass."""
        marks: dict[int, str | None] = {}
        for row in rows:
            told = {"key": row.key, "correlation_id": row.correlation_id}
            try:
                await self._client.command("command.schedule", row.body, **told)
            except LATER as error:
                return marks, error
            except HoraeError as error:
                _log.error("refused for good", key=row.key, code=error.code, reason=error.message)
                marks[row.number] = f"{error.code}: {error.message}"
            else:
                marks[row.number] = None
        return marks, None

    def _mark(self, connection: Connection, marks: dict[int, str | None]) -> None:
        table = self._outbox.table
        delivered = [number for number, refusal in marks.items() if refusal is None]
        if delivered:
            done = update(table).where(table.c.number.in_(delivered))
            connection.execute(done.values(delivered_at=datetime.now(UTC)))
        for number, refusal in marks.items():
            if refusal is not None:
                this = update(table).where(table.c.number == number)
                connection.execute(this.values(refused=refusal))

    async def _work(self) -> None:
        while not self._stopping:
            self._woken.clear()
            try:
                more = await self.run_once() == self._batch
            except Exception as error:  # noqa: BLE001 - recorded, and tried again
                _log.warning("the outbox waits", reason=str(error))
                more = False
            if not more:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), self._poll)
