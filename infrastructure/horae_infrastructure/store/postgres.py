"""The event store on PostgreSQL: many processes, one log, fenced owners."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from select import select
from threading import Event, Lock
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import UniqueViolation

from horae_application.ports import (
    PARTITIONS,
    AlreadyWritten,
    Batch,
    CommitUnknown,
    Fenced,
    LedgerRow,
    Member,
    Ownership,
    StoredEvent,
    StoreError,
    StoreUnavailable,
)
from horae_infrastructure.store.common import FIRST, FORMAT, LOST_KEPT, check_level
from horae_infrastructure.store.errors import StoreNotDurable, StoreReplaced
from horae_infrastructure.store.pool import Pool
from horae_infrastructure.store.postgres_arrays import Bigints, Byteas, Texts, Uuids, register
from horae_infrastructure.store.postgres_recorder import Factory

__all__ = ["Factory", "PostgresStore"]

_Connection = psycopg.Connection[tuple[Any, ...]]

_LOOK = 0.25
"""Seconds between the looks of a waiting reader; a notification wakes it earlier."""

_TIMES = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""Bounds on a server that is silent, unless the URL has its own."""

_SETTINGS = {
    "enable_seqscan": "off",  # plans are kept, and made while the tables are small
    "enable_bitmapscan": "off",
    "jit": "off",
    "lock_timeout": "10s",
    "client_encoding": "utf8",
}

_APPEND = f"SELECT horae_append({', '.join(['%s'] * 12)})"
_HEAD = "SELECT coalesce(max(notification_id), 0) FROM horae_events"
_STALE = "HR001"
_KEY = re.compile(r"=\(([0-9a-f-]{36}), (\d+)\)")
_UNSURE = ("08", "57P")
"""Classes of SQLSTATE that a session's end in the middle of a commit can have."""

_IDENTITY = """
SELECT md5(identity || ' ' || (SELECT system_identifier FROM pg_control_system())
           || ' ' || left(pg_walfile_name(pg_current_wal_lsn()), 8)),
       format, partitions
FROM horae_store
"""


class PostgresStore:
    """An `EventStore` in a schema of a PostgreSQL database.

    Its identity covers the server's and its timeline, so that a restored or promoted server is
    another store.

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
        self._parameters, self._schema = _parameters(url)
        self._allow_unsafe = allow_unsafe
        self._partitions = partitions
        self._writing = Lock()
        self._closed = Event()
        self._readers = Pool(self._connect)
        with _translated():
            writer = self._connect()
            try:
                _check_durable(writer, allow_unsafe=allow_unsafe)
                self.identity = self._initialise(writer)
            except BaseException:
                writer.close()
                raise
        self._writer: _Connection | None = writer

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
        )
        [(positions,)] = self._write(_APPEND, values)
        return positions or ()

    def load(self, streams: Sequence[UUID]) -> dict[UUID, list[StoredEvent]]:
        """All events of some streams, each in order of version; absent streams are left out."""
        loaded: dict[UUID, list[StoredEvent]] = {}
        for row in self._rows(
            "SELECT notification_id, recorded_at, originator_id, originator_version, topic, state"
            " FROM horae_events WHERE originator_id = ANY (%s)"
            " ORDER BY originator_id, originator_version",
            (Uuids(streams),),
        ):
            loaded.setdefault(row[2], []).append(StoredEvent._make(row))
        return loaded

    def lines(self, streams: Sequence[UUID]) -> dict[UUID, LedgerRow]:
        """The ledger's lines of some schedules; absent ones are left out."""
        rows = self._rows(
            "SELECT partition, stream, due, state FROM horae_ledger WHERE stream = ANY (%s)",
            (Uuids(streams),),
        )
        return {row[1]: LedgerRow._make(row) for row in rows}

    def due(
        self, partitions: Iterable[int], after: tuple[int, UUID] | None, before: int, limit: int
    ) -> list[LedgerRow]:
        """Lines with `due < before`, in order of (due, stream), beginning after a key."""
        wanted = set(partitions)
        instant, stream = after or FIRST
        sql = (
            "SELECT partition, stream, due, state FROM horae_ledger"
            " WHERE (due, stream) > (%s::bigint, %s) AND due < %s::bigint"
        )
        values: list[Any] = [instant, stream, before]
        if len(wanted) < self._partitions:
            sql += " AND partition = ANY (%s)"
            values.append(Bigints(wanted))
        rows = self._rows(sql + " ORDER BY due, stream LIMIT %s::bigint", [*values, limit])
        return [LedgerRow._make(row) for row in rows]

    def read(self, after: int, limit: int) -> list[StoredEvent]:
        """The next events of the log with a position greater than `after`, in order."""
        rows = self._rows(
            "SELECT notification_id, recorded_at, originator_id, originator_version, topic, state"
            " FROM horae_events WHERE notification_id > %s::bigint"
            " ORDER BY notification_id LIMIT %s::bigint",
            (after, limit),
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

    def close(self) -> None:
        """Release connections. Idempotent."""
        self._closed.set()
        self._readers.close()
        with self._writing:
            self._drop_writer()

    def _connect(self) -> _Connection:
        connection: _Connection = psycopg.connect(**self._parameters, autocommit=True)
        register(connection)
        return connection

    def _write(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """One statement that is a transaction by itself, on the writer's connection.

        Raises:
            StoreUnavailable: it was not sent, or the server refused it and is still there.
            CommitUnknown: the connection ended in the middle of it.
        """
        with self._writing:
            with _translated():
                writer = self._fresh_writer()
            try:
                return writer.execute(sql, values, prepare=True, binary=True).fetchall()
            except psycopg.Error as error:
                if error.sqlstate is None or error.sqlstate.startswith(_UNSURE):
                    self._drop_writer()
                raise _failure(error) from error
            except BaseException:
                self._drop_writer()
                raise

    def _fresh_writer(self) -> _Connection:
        """The writer's connection; another one if the server has ended it meanwhile."""
        if self._closed.is_set():
            raise StoreUnavailable("the store is closed")
        if self._writer is not None and _is_silent(self._writer):
            return self._writer
        self._drop_writer()
        writer = self._connect()
        try:
            _check_durable(writer, allow_unsafe=self._allow_unsafe)
            self._check_same(writer)
        except BaseException:
            writer.close()
            raise
        self._writer = writer
        return writer

    def _check_same(self, writer: _Connection) -> None:
        [(identity, *_)] = writer.execute(_IDENTITY).fetchall()
        if identity != self.identity:
            raise StoreReplaced(self.identity, identity)

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows over any connection; if it turns out to be dead, over a new one."""
        with _translated():
            try:
                return self._fetch(sql, values)
            except psycopg.OperationalError:
                self._readers.drop_idle()
                return self._fetch(sql, values)

    def _fetch(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._readers.lend() as reader:
            return reader.execute(sql, values, prepare=True, binary=True).fetchall()

    def _listen(self, reader: _Connection, after: int, deadline: float) -> bool:
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

    def _initialise(self, writer: _Connection) -> str:
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


def _parameters(url: str) -> tuple[dict[str, Any], str]:
    """The driver's parameters of a URL, and the schema that it names."""
    base, _, query = url.partition("?")
    pairs = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)
    schema = pairs.pop("schema", "public")
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise ValueError(f"{schema!r} is no name for a schema: [a-z_][a-z0-9_]*")
    parameters: dict[str, Any] = _TIMES | conninfo_to_dict(
        f"{base}?{'&'.join(f'{key}={value}' for key, value in pairs.items())}"
    )
    settings = _SETTINGS | {"search_path": schema}
    given = str(parameters.get("options") or "")  # comes last and so has the last word
    parameters["options"] = " ".join([*(f"-c {k}={v}" for k, v in settings.items()), given])
    return parameters, schema


def _check_durable(connection: _Connection, *, allow_unsafe: bool) -> None:
    if allow_unsafe:
        return
    [row] = connection.execute(
        "SELECT current_setting('fsync'), current_setting('full_page_writes'),"
        " current_setting('synchronous_commit'), pg_is_in_recovery()"
    ).fetchall()
    for setting, value in zip(
        ("fsync", "full_page_writes", "synchronous_commit"), row, strict=False
    ):
        if value not in {"on", "remote_apply"}:
            raise StoreNotDurable(setting, value)
    if row[3]:
        raise StoreNotDurable("pg_is_in_recovery()", "true")


def _is_silent(connection: _Connection) -> bool:
    """Whether the server has said nothing since the last answer: a farewell can be read at once."""
    try:
        return not select([connection], [], [], 0)[0]
    except (OSError, ValueError, psycopg.OperationalError):
        return False


def _failure(error: psycopg.Error) -> StoreError:
    """What an error after the statement was sent means."""
    state, detail = error.sqlstate, error.diag.message_detail or ""
    if state == _STALE:
        return Fenced(int(partition) for partition in detail.split(","))
    if isinstance(error, UniqueViolation):
        key = _KEY.search(detail)
        return AlreadyWritten(UUID(key[1]), int(key[2])) if key else AlreadyWritten(None, None)
    if isinstance(error, psycopg.InterfaceError | psycopg.OperationalError) and (
        state is None or state.startswith(_UNSURE)
    ):
        return CommitUnknown(str(error))
    if isinstance(error, psycopg.OperationalError | psycopg.InternalError):
        return StoreUnavailable(str(error))
    return StoreError(str(error))


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError as error:
        raise StoreUnavailable(str(error)) from error
    except psycopg.Error as error:
        raise StoreError(str(error)) from error
