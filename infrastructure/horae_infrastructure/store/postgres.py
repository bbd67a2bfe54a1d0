"""The event store on PostgreSQL: many processes, one log, fenced owners."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from threading import Event, Lock
from time import monotonic
from typing import Any
from uuid import uuid4

import psycopg

from horae_application.ports import (
    PARTITIONS,
    Batch,
    CommitUnknown,
    LedgerRow,
    Member,
    Ownership,
    Setting,
    StoredEvent,
    StoreUnavailable,
    Usage,
)
from horae_domain.identity import REQUESTS
from horae_infrastructure.store.common import FIRST, FORMAT, LOST_KEPT, check_level
from horae_infrastructure.store.errors import StoreReplaced
from horae_infrastructure.store.pool import Pool
from horae_infrastructure.store.postgres_arrays import Bigints, Byteas, Texts, Uuids
from horae_infrastructure.store.postgres_recorder import Factory
from horae_infrastructure.store.postgres_session import (
    Connection,
    check_durable,
    connect,
    failure,
    is_silent,
    parameters,
    translated,
)

__all__ = ["Factory", "PostgresStore"]

_LOOK = 0.25
"""Seconds between the looks of a waiting reader; a notification wakes it earlier."""

_APPEND = f"SELECT horae_append({', '.join(['%s'] * 18)})"
_LOOK_AT_LIMITS = "SELECT * FROM horae_look(%s, %s, %s)"
_ERASE = "WITH erased AS (DELETE FROM horae_events WHERE originator_id = ANY (%s))"
_FORGET = """
DELETE FROM horae_events WHERE (originator_id, originator_version) IN (
    SELECT originator_id, originator_version FROM horae_events
    WHERE originator_id >= %s::uuid AND recorded_at < %s::bigint
    AND notification_id < (SELECT max(notification_id) FROM horae_events) LIMIT %s::bigint
) RETURNING 1
"""
_HEAD = "SELECT coalesce(max(notification_id), 0) FROM horae_events"
_IDENTITY = """
SELECT md5(identity || ' ' || (SELECT system_identifier FROM pg_control_system())
           || ' ' || left(pg_walfile_name(pg_current_wal_lsn()), 8)),
       format, partitions
FROM horae_store
"""


class PostgresStore:
    """An `EventStore` in a schema of a PostgreSQL database.

    Its identity covers the server's and its timeline, so that a restored or promoted server is
    another store. Where another one answers, its identity is taken over by the first connection, and
    the next append is refused: it was decided on what the former one had.

    Args:
        url: as libpq takes it, with an optional parameter `schema` (default `public`), which is
            made if it is absent.
        allow_unsafe: open even if the server's settings could lose commits.
        partitions: their number, fixed when the store is made.

    Raises:
        StoreNotDurable: `fsync`, `full_page_writes` or `synchronous_commit` is not on, or the
            server is a standby.
        StoreFormat: a newer Horae wrote it, or with another number of partitions.
        StoreUnavailable: the server cannot be reached.
    """

    single_process = False

    def __init__(
        self, url: str, *, allow_unsafe: bool = False, partitions: int = PARTITIONS
    ) -> None:
        self._parameters, self._schema = parameters(url)
        self._allow_unsafe = allow_unsafe
        self._partitions = partitions
        self._writing = Lock()
        self._closed = Event()
        self._readers = Pool(self._connect_reader)
        with translated():
            writer = connect(self._parameters)
            try:
                check_durable(writer, allow_unsafe=allow_unsafe)
                self.identity = self._initialise(writer)
            except BaseException:
                writer.close()
                raise
        self._written = self.identity
        """The identity of the server that was written to."""
        self._writer: Connection | None = writer

    def append(self, batch: Batch) -> Sequence[int]:
        """Write a batch in one durable transaction; see the port."""
        lines = {line.stream: line for line in batch.ledger}.values()  # the last one of each
        values = (
            Bigints(batch.epochs.keys()),
            Bigints(batch.epochs.values()),
            Uuids([event.stream for event in batch.events]),
            Bigints([event.version for event in batch.events]),
            Texts([event.name for event in batch.events]),
            Byteas([event.state for event in batch.events]),
            Uuids([line.stream for line in lines]),
            Bigints([line.partition for line in lines]),
            Bigints([line.due for line in lines]),
            Byteas([line.state for line in lines]),
            Uuids([stream for _, stream in batch.settled]),
            Bigints([partition for partition, _ in batch.settled]),
            Texts([use.key for use in batch.uses]),
            Bigints([use.change for use in batch.uses]),
            Bigints([use.starts for use in batch.uses]),
            Bigints([use.most for use in batch.uses]),
            batch.at,
            json.dumps([each._asdict() for each in batch.settings]) if batch.settings else None,
        )
        if batch.erased:
            [(positions,)] = self._write(f"{_ERASE} {_APPEND}", (Uuids(batch.erased), *values))
        else:
            [(positions,)] = self._write(_APPEND, values)
        return positions or ()

    def load(self, streams: Sequence[str]) -> dict[str, list[StoredEvent]]:
        """All events of some streams, each in order of version; absent streams are left out."""
        loaded: dict[str, list[StoredEvent]] = {}
        for row in self._rows(
            "SELECT notification_id, recorded_at, originator_id, originator_version, topic, state"
            " FROM horae_events WHERE originator_id = ANY (%s)"
            " ORDER BY originator_id, originator_version",
            (Uuids(streams),),
        ):
            loaded.setdefault(row[2], []).append(StoredEvent._make(row))
        return loaded

    def lines(self, streams: Sequence[str]) -> dict[str, LedgerRow]:
        """The ledger's lines of some schedules; absent ones are left out."""
        rows = self._rows(
            "SELECT partition, stream, due, state FROM horae_ledger WHERE stream = ANY (%s)",
            (Uuids(streams),),
        )
        return {row[1]: LedgerRow._make(row) for row in rows}

    def due(
        self, partitions: Iterable[int], after: tuple[int, str] | None, before: int, limit: int
    ) -> list[LedgerRow]:
        """Lines with `due < before`, in order of (due, stream), beginning after a key."""
        wanted = set(partitions)
        instant, stream = after or FIRST
        sql = (
            "SELECT partition, stream, due, state FROM horae_ledger"
            " WHERE (due, stream) > (%s::bigint, %s::uuid) AND due < %s::bigint"
        )
        values: list[Any] = [instant, stream, before]
        if len(wanted) < self._partitions:
            sql += " AND partition = ANY (%s)"
            values.append(Bigints(wanted))
        rows = self._rows(sql + " ORDER BY due, stream LIMIT %s::bigint", [*values, limit])
        return [LedgerRow._make(row) for row in rows]

    def limits(self, owner: str, waiting: Mapping[str, int]) -> list[Usage]:
        """All settings that limit something, with what is used of them at the moment."""
        values = (owner, Texts(waiting.keys()), Bigints(waiting.values()))
        found: dict[str, Usage] = {}
        for key, *told, running, head, until, starts in self._write(_LOOK_AT_LIMITS, values):
            usage = found.setdefault(key, Usage(Setting(key, *told), running, [], head))
            if until is not None:
                usage.starts.append((until, starts))
        return list(found.values())

    def read(self, after: int, limit: int) -> list[StoredEvent]:
        """The next events of the log with a position greater than `after`, in order."""
        rows = self._rows(
            "SELECT notification_id, recorded_at, originator_id, originator_version, topic, state"
            " FROM horae_events WHERE notification_id > %s::bigint"
            " ORDER BY notification_id LIMIT %s::bigint",
            (after, limit),
        )
        return [StoredEvent._make(row) for row in rows]

    def read_named(
        self, after: int, until: int, names: Sequence[str], limit: int
    ) -> list[StoredEvent]:
        """The events of some names with positions after one and up to another, in order."""
        rows = self._rows(
            "SELECT notification_id, recorded_at, originator_id, originator_version, topic, state"
            " FROM horae_events WHERE notification_id > %s::bigint"
            " AND notification_id <= %s::bigint AND topic = ANY (%s)"
            " ORDER BY notification_id LIMIT %s::bigint",
            (after, until, Texts(names), limit),
        )
        return [StoredEvent._make(row) for row in rows]

    def head(self) -> int:
        """The highest position written, 0 for an empty log."""
        return int(self._rows(_HEAD)[0][0])

    def wait(self, after: int, timeout: float) -> bool:
        """Block this thread until the log reaches beyond `after`; False after `timeout` seconds.

        A notification is a hint and the look at the log the guarantee: it goes on while the
        server is away.
        """
        deadline = monotonic() + timeout
        while not self._closed.is_set():
            try:
                with self._readers.lend() as reader:
                    return self._listen(reader, after, deadline)
            except (psycopg.OperationalError, StoreUnavailable):
                left = deadline - monotonic()
                if left <= 0:
                    break
                self._closed.wait(min(left, _LOOK))
        return False

    def now(self) -> int:
        """The server's clock, in microseconds since the epoch."""
        return int(self._rows("SELECT horae_now()")[0][0])

    def join(self, owner: str, address: str, ttl: float) -> None:
        """Register an engine, or renew its lease; see the port."""
        self._write(
            "SELECT horae_join(%s, %s, %s::bigint)", (owner, address, round(ttl * 1_000_000))
        )

    def members(self) -> list[Member]:
        """Engines whose lease runs."""
        rows = self._rows(
            "SELECT owner, expires_at, address FROM horae_members"
            " WHERE expires_at > horae_now() ORDER BY owner"
        )
        return [Member._make(row) for row in rows]

    def ownership(self) -> list[Ownership]:
        """All partitions, in order."""
        rows = self._rows("SELECT partition, epoch, owner FROM horae_partitions ORDER BY partition")
        return [Ownership._make(row) for row in rows]

    def claim(self, owner: str, partitions: Iterable[int]) -> dict[int, int]:
        """Take those partitions that have no living owner and return their new epochs."""
        rows = self._write(
            "SELECT claimed, new_epoch FROM horae_claim(%s, %s, %s::bigint) ORDER BY claimed",
            (owner, Bigints(partitions), LOST_KEPT),
        )
        return dict(rows)

    def release(self, owner: str, partitions: Iterable[int]) -> None:
        """Give up partitions, if `owner` still holds them."""
        self._write(
            "UPDATE horae_partitions SET owner = NULL"
            " WHERE owner = %s AND partition = ANY (%s) RETURNING partition",
            (owner, Bigints(partitions)),
        )

    def leave(self, owner: str) -> None:
        """Give up everything and end the lease."""
        self._write("SELECT horae_leave(%s)", (owner,))

    def forget_requests(self, before: int, limit: int) -> int:
        """Erase old records of requests; see the port."""
        first = f"{REQUESTS:02x}000000-0000-0000-0000-000000000000"
        return len(self._write(_FORGET, (first, before, limit)))

    def compact(self) -> None:
        """The server's autovacuum does it."""

    def close(self) -> None:
        """Release connections. Idempotent."""
        self._closed.set()
        self._readers.close()
        with self._writing:
            self._drop_writer()

    def _connect_reader(self) -> Connection:
        reader = connect(self._parameters)
        try:
            self.identity = _identity(reader)
        except BaseException:
            reader.close()
            raise
        return reader

    def _write(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """One statement that is a transaction by itself, on the writer's connection.

        Raises:
            StoreUnavailable: it was not sent, or the server refused it and is still there.
            CommitUnknown: the connection ended in the middle of it.
        """
        with self._writing:
            with translated():
                writer = self._fresh_writer()
            try:
                return writer.execute(sql, values, prepare=True, binary=True).fetchall()
            except psycopg.Error as error:
                failed = failure(error)
                if isinstance(failed, CommitUnknown):
                    self._drop_writer()
                raise failed from error
            except BaseException:
                self._drop_writer()
                raise

    def _fresh_writer(self) -> Connection:
        """The writer's connection; another one if the server has ended it meanwhile."""
        if self._closed.is_set():
            raise StoreUnavailable("the store is closed")
        if self._writer is not None and is_silent(self._writer):
            return self._writer
        self._drop_writer()
        writer = connect(self._parameters)
        try:
            check_durable(writer, allow_unsafe=self._allow_unsafe)
            self._recognise(writer)
        except BaseException:
            writer.close()
            raise
        self._writer = writer
        return writer

    def _recognise(self, writer: Connection) -> None:
        """Refuse one write to a server that has taken another's place, then go on with it."""
        expected, self._written = self._written, _identity(writer)
        self.identity = self._written
        if self._written != expected:
            self._readers.drop_idle()
            raise StoreReplaced(expected, self._written)

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows over any connection; if it turns out to be dead, over a new one."""
        with translated():
            try:
                return self._fetch(sql, values)
            except psycopg.OperationalError:
                self._readers.drop_idle()
                return self._fetch(sql, values)

    def _fetch(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._readers.lend() as reader:
            return reader.execute(sql, values, prepare=True, binary=True).fetchall()

    def _listen(self, reader: Connection, after: int, deadline: float) -> bool:
        reader.execute("LISTEN horae_events")
        while not self._closed.is_set():
            [(head,)] = reader.execute(_HEAD).fetchall()
            left = deadline - monotonic()
            if head > after or left <= 0:
                # a session that listens and is not read would fill the server's queue
                reader.execute("UNLISTEN horae_events")
                return bool(head > after)
            for _ in reader.notifies(timeout=min(left, _LOOK), stop_after=1):
                pass
        raise StoreUnavailable("the store is closed")

    def _initialise(self, writer: Connection) -> str:
        """Make the tables if there are none, compare format and partitions; the identity."""
        with writer.transaction():
            writer.execute("SELECT pg_advisory_xact_lock(hashtext('horae_store'))")
            [(exists,)] = writer.execute("SELECT to_regclass('horae_store') IS NOT NULL").fetchall()
            if not exists:
                writer.execute(f'CREATE SCHEMA IF NOT EXISTS "{self._schema}"')
                writer.execute(files(__package__).joinpath("postgres.sql").read_text())
                writer.execute(
                    "INSERT INTO horae_store VALUES (%s, %s, %s)",
                    (uuid4().hex, FORMAT, self._partitions),
                )
                writer.execute(
                    "INSERT INTO horae_partitions SELECT n, 0, NULL FROM generate_series(0, %s) AS n",
                    (self._partitions - 1,),
                )
        [(identity, level, partitions)] = writer.execute(_IDENTITY).fetchall()
        check_level(level, partitions, self._partitions)
        return str(identity)


def _identity(connection: Connection) -> str:
    [(identity, *_)] = connection.execute(_IDENTITY).fetchall()
    return str(identity)
