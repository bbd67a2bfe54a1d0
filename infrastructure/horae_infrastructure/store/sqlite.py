"""The event store on SQLite: one process, one file, every commit synced."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from eventsourcing.sqlite import SQLiteDatastore

from horae_application.ports import (
    PARTITIONS,
    AlreadyWritten,
    Batch,
    CommitUnknown,
    Fenced,
    LedgerRow,
    Member,
    NewEvent,
    Ownership,
    StoredEvent,
    StoreUnavailable,
    Usage,
)
from horae_domain.identity import REQUESTS, to_bytes, to_text
from horae_infrastructure.store import sqlite_limits
from horae_infrastructure.store.common import FIRST, FORMAT, LOST_KEPT, check_level, system_clock
from horae_infrastructure.store.errors import StoreNotDurable
from horae_infrastructure.store.lockfile import LockFile
from horae_infrastructure.store.sqlite_log import SqliteReader, marks, translated
from horae_infrastructure.store.sqlite_recorder import Factory, SqliteRecorder, head_of
from horae_infrastructure.store.tail import Head

__all__ = ["Factory", "SqliteStore"]

CACHE = 16_000
"""KiB of pages that the writer may keep. Ids are hashes, so that a batch touches pages all over the
indexes; at SQLite's own 2,000 each is read again for every batch."""
CHECKPOINT = 4_000
"""Pages of the write-ahead log after which they are moved into the file; at SQLite's own 1,000 a
large batch would move nearly all that it has written at once."""
_STREAMS_A_QUERY = 500
_SYNC_FAILED = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC}
_FULL = 2

_DUE = """
SELECT partition, stream, due, state
FROM (SELECT stream FROM horae_ledger WHERE {} ORDER BY due, stream LIMIT ?)
CROSS JOIN horae_ledger USING (stream) ORDER BY due, stream
"""
"""The index alone decides which lines, and only those are looked up."""

_EPOCHS = "SELECT partition, epoch FROM horae_partitions WHERE partition IN ({})"
_INCREMENTAL = 2
_SPARE = 1_000
"""Free pages that are left for what comes next."""

_AT_OR_BELOW = """
SELECT rowid, recorded_at FROM horae_events WHERE rowid <= ? AND rowid > ?
ORDER BY rowid DESC LIMIT 1
"""
_FORGET = """
DELETE FROM horae_events WHERE rowid IN (
    SELECT rowid FROM horae_events WHERE originator_id >= ? AND rowid <= ? LIMIT ?
)
"""

_UPSERT = """
INSERT INTO horae_ledger (stream, partition, due, state) VALUES (?, ?, ?, ?)
ON CONFLICT (stream) DO UPDATE
SET partition = excluded.partition, due = excluded.due, state = excluded.state
"""


class SqliteStore(SqliteReader):
    """An `EventStore` in the file `path`, which a lock file keeps for this process.

    Args:
        path: the database; it and its folder are made if absent.
        clock: microseconds since the epoch; the store's clock.
        allow_unsafe: open even if SQLite cannot promise that commits survive a crash.
        partitions: their number, fixed when the store is made.

    Raises:
        StoreLocked: another process, or this one, has it open.
        StoreNotDurable: the file system refuses the write-ahead log.
        StoreFormat: a newer Horae wrote it, or with another number of partitions.
        StoreUnavailable: the file cannot be opened.
    """

    identity: str
    single_process = True
    _recorded_at: int
    _head: Head

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], int] = system_clock,
        allow_unsafe: bool = False,
        partitions: int = PARTITIONS,
    ) -> None:
        super().__init__(path)
        self._clock = clock
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock_file = LockFile(path)
        self._writing = Lock()
        self._partitions = partitions
        try:
            with translated():
                self._writer = self._connect()
                self._writer.execute(f"PRAGMA cache_size = {-CACHE}")
                self._writer.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT}")
                self._begin(allow_unsafe=allow_unsafe)
        except BaseException:
            self._lock_file.release()
            raise
        self.recorder = SqliteRecorder(SQLiteDatastore(str(path)))
        """The log for stock `eventsourcing` readers in this process."""

    def append(self, batch: Batch) -> Sequence[int]:
        """Write a batch in one durable transaction; see the port."""
        try:
            with self._transaction() as writer:
                self._fence(writer, batch.epochs)
                self._recorded_at = max(self._recorded_at, self._clock())
                writer.executemany(
                    "DELETE FROM horae_events WHERE originator_id = ?",
                    [(to_bytes(stream),) for stream in batch.erased],
                )
                positions = self.recorder.append_events(writer, batch.events, self._recorded_at)
                _write_ledger(writer, batch)
                sqlite_limits.take(writer, batch)
        except sqlite3.IntegrityError as error:
            raise self._taken(batch.events) from error
        if positions:
            self._head.advance(positions[-1])
        return positions

    def load(self, streams: Sequence[str]) -> dict[str, list[StoredEvent]]:
        """All events of some streams, each in order of version; absent streams are left out."""
        loaded: dict[str, list[StoredEvent]] = {}
        for ids, rows in self._by_stream(
            streams,
            "SELECT rowid, recorded_at, originator_id, originator_version, topic, state"
            " FROM horae_events WHERE originator_id IN ({})"
            " ORDER BY originator_id, originator_version",
        ):
            for position, recorded_at, raw, version, name, state in rows:
                stream = ids[raw]
                event = StoredEvent(position, recorded_at, stream, version, name, state)
                loaded.setdefault(stream, []).append(event)
        return loaded

    def lines(self, streams: Sequence[str]) -> dict[str, LedgerRow]:
        """The ledger's lines of some schedules; absent ones are left out."""
        return {
            ids[raw]: LedgerRow(partition, ids[raw], due, state)
            for ids, rows in self._by_stream(
                streams,
                "SELECT partition, stream, due, state FROM horae_ledger WHERE stream IN ({})",
            )
            for partition, raw, due, state in rows
        }

    def due(
        self, partitions: Iterable[int], after: tuple[int, str] | None, before: int, limit: int
    ) -> list[LedgerRow]:
        """Lines with `due < before`, in order of (due, stream), beginning after a key."""
        wanted = sorted(set(partitions))
        instant, stream = after or FIRST
        where, values = "(due, stream) > (?, ?) AND due < ?", [instant, to_bytes(stream), before]
        if len(wanted) < self._partitions:
            where += f" AND partition IN ({marks(len(wanted))})"
            values += wanted
        rows = self._rows(_DUE.format(where), [*values, limit])
        return [LedgerRow(part, to_text(raw), due, state) for part, raw, due, state in rows]

    def limits(self, owner: str, waiting: Mapping[str, int]) -> list[Usage]:
        """All settings that limit something, with what is used of them; nobody else waits."""
        del owner, waiting
        return sqlite_limits.usages(self._rows(sqlite_limits.LIMITS))

    def head(self) -> int:
        """The highest position written, 0 for an empty log."""
        return self._head.position

    def wait(self, after: int, timeout: float) -> bool:
        """Block this thread until the log reaches beyond `after`; False after `timeout` seconds."""
        return self._head.wait(after, timeout)

    def now(self) -> int:
        """The store's clock, in microseconds since the epoch."""
        return self._clock()

    def join(self, owner: str, address: str, ttl: float) -> None:
        """Register an engine, or renew its lease; see the port."""
        now = self._clock()
        with self._transaction() as writer:
            lost = writer.execute("SELECT partition FROM horae_lost WHERE owner = ?", (owner,))
            if partitions := [row[0] for row in lost]:
                raise Fenced(partitions)
            writer.execute("DELETE FROM horae_members WHERE expires_at <= ?", (now,))
            writer.execute(
                "INSERT OR REPLACE INTO horae_members (owner, address, expires_at)"
                " VALUES (?, ?, ?)",
                (owner, address, now + round(ttl * 1_000_000)),
            )

    def members(self) -> list[Member]:
        """Engines whose lease runs."""
        rows = self._rows(
            "SELECT owner, expires_at, address FROM horae_members WHERE expires_at > ?"
            " ORDER BY owner",
            (self._clock(),),
        )
        return [Member(*row) for row in rows]

    def ownership(self) -> list[Ownership]:
        """All partitions, in order."""
        rows = self._rows("SELECT partition, epoch, owner FROM horae_partitions ORDER BY partition")
        return [Ownership(*row) for row in rows]

    def claim(self, owner: str, partitions: Iterable[int]) -> dict[int, int]:
        """Take partitions, whoever had them: the lock file proves that nobody else lives."""
        now = self._clock()
        keys = [(partition,) for partition in sorted(set(partitions))]
        with self._transaction() as writer:
            writer.execute("DELETE FROM horae_lost WHERE lost_at < ?", (now - LOST_KEPT,))
            writer.executemany(
                "INSERT OR REPLACE INTO horae_lost SELECT owner, partition, ?"
                " FROM horae_partitions WHERE partition = ? AND owner <> ?",
                [(now, partition, owner) for (partition,) in keys],
            )
            writer.executemany(
                "UPDATE horae_partitions SET epoch = epoch + 1, owner = ? WHERE partition = ?",
                [(owner, partition) for (partition,) in keys],
            )
            epochs = dict(writer.execute("SELECT partition, epoch FROM horae_partitions"))
        return {partition: epochs[partition] for (partition,) in keys}

    def release(self, owner: str, partitions: Iterable[int]) -> None:
        """Give up partitions, if `owner` still holds them."""
        with self._transaction() as writer:
            writer.executemany(
                "UPDATE horae_partitions SET owner = NULL WHERE owner = ? AND partition = ?",
                [(owner, partition) for partition in partitions],
            )

    def leave(self, owner: str) -> None:
        """Give up everything and end the lease."""
        with self._transaction() as writer:
            writer.execute("UPDATE horae_partitions SET owner = NULL WHERE owner = ?", (owner,))
            writer.execute("DELETE FROM horae_members WHERE owner = ?", (owner,))
            writer.execute("DELETE FROM horae_lost WHERE owner = ?", (owner,))

    def forget_requests(self, before: int, limit: int) -> int:
        """Erase old records of requests; see the port."""
        with self._transaction() as writer:
            # The index of streams has their numbers beside them, and so no row need be looked at.
            last = self._last_before(writer, before)
            return writer.execute(_FORGET, (bytes([REQUESTS]), last, limit)).rowcount

    def _last_before(self, writer: sqlite3.Connection, instant: int) -> int:
        """The highest number of what was recorded before; instants never decrease with it."""
        low, high = 0, self._head.position
        while low < high:
            middle = (low + high + 1) // 2
            row = writer.execute(_AT_OR_BELOW, (middle, low)).fetchone()
            if row is None or row[1] < instant:
                low = middle
            else:
                high = row[0] - 1
        return low

    def compact(self) -> None:
        """Give free pages back to the file system, a few at a time so that commits go on."""
        while self._rows("PRAGMA freelist_count")[0][0] > _SPARE:
            with self._writing, translated():
                if self._readers.closed:
                    return
                self._writer.execute(f"PRAGMA incremental_vacuum({_SPARE})").fetchall()
                if self._writer.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
                    return

    def close(self) -> None:
        """Release connections and files. Idempotent."""
        self._head.close()
        with self._writing:
            self._readers.close()
            self.recorder.datastore.close()
            self._writer.close()
            self._lock_file.release()

    def _connect(self) -> sqlite3.Connection:
        connection = super()._connect()
        try:
            if not self.path.stat().st_size:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA fullfsync = ON")  # macOS alone distinguishes it
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The writer inside a transaction that commits unless the block raises."""
        with self._writing, translated():
            if self._readers.closed:
                raise StoreUnavailable("the store is closed")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._roll_back()
                raise
            self._commit()

    def _commit(self) -> None:
        try:
            self._writer.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._roll_back()
            self._head.advance(head_of(self._writer))
            if error.sqlite_errorcode in _SYNC_FAILED:
                raise CommitUnknown(f"the sync of {self.path} failed: {error}") from error
            raise

    def _roll_back(self) -> None:
        # SQLite rolls back by itself after most I/O errors and then knows of no transaction
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    def _fence(self, writer: sqlite3.Connection, epochs: Mapping[int, int]) -> None:
        found = writer.execute(_EPOCHS.format(marks(len(epochs))), list(epochs))
        current = dict(found)
        if stale := [part for part, epoch in epochs.items() if current.get(part) != epoch]:
            raise Fenced(stale)

    def _taken(self, events: Sequence[NewEvent]) -> AlreadyWritten:
        """Which event the unique key refused: one of the log, or a second one of the batch."""
        seen: set[tuple[str, int]] = set()
        loaded = self.load([event.stream for event in events])
        for event in events:
            key = (event.stream, event.version)
            versions = {stored.version for stored in loaded.get(event.stream, ())}
            if key in seen or event.version in versions:
                return AlreadyWritten(*key)
            seen.add(key)
        return AlreadyWritten(None, None)

    def _by_stream(
        self, streams: Sequence[str], sql: str
    ) -> Iterator[tuple[dict[bytes, str], list[Any]]]:
        """Rows of many streams, some hundreds a query; with the ids by their bytes."""
        for start in range(0, len(streams), _STREAMS_A_QUERY):
            ids = {to_bytes(stream): stream for stream in streams[start : start + _STREAMS_A_QUERY]}
            yield ids, self._rows(sql.format(marks(len(ids))), list(ids))

    def _begin(self, *, allow_unsafe: bool) -> None:
        try:
            _check_durable(self._writer, allow_unsafe=allow_unsafe)
            self.identity = self._initialise()
            self._recorded_at = self._last_recorded_at()
            self._head = Head(head_of(self._writer))
        except BaseException:
            self._writer.close()
            raise

    def _initialise(self) -> str:
        """Make the tables if there are none, compare format and partitions; the identity."""
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            if not self._writer.execute(
                "SELECT 1 FROM sqlite_master WHERE name = 'horae_store'"
            ).fetchone():
                self._create()
            row = self._writer.execute(
                "SELECT identity, format, partitions FROM horae_store"
            ).fetchone()
        except BaseException:
            self._roll_back()
            raise
        self._commit()
        check_level(row[1], row[2], self._partitions)
        return str(row[0])

    def _create(self) -> None:
        for statement in files(__package__).joinpath("sqlite.sql").read_text().split(";"):
            self._writer.execute(statement)
        self._writer.execute(
            "INSERT INTO horae_store VALUES (?, ?, ?)", (uuid4().hex, FORMAT, self._partitions)
        )
        self._writer.executemany(
            "INSERT INTO horae_partitions VALUES (?, 0, NULL)",
            [(partition,) for partition in range(self._partitions)],
        )

    def _last_recorded_at(self) -> int:
        row = self._writer.execute(
            "SELECT recorded_at FROM horae_events ORDER BY rowid DESC LIMIT 1"
        ).fetchone()
        return row[0] if row else 0


def _check_durable(connection: sqlite3.Connection, *, allow_unsafe: bool) -> None:
    if allow_unsafe:
        return
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        raise StoreNotDurable("journal_mode", mode)
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    if synchronous < _FULL:
        raise StoreNotDurable("synchronous", str(synchronous))


def _write_ledger(writer: sqlite3.Connection, batch: Batch) -> None:
    if batch.ledger:
        writer.executemany(
            _UPSERT,
            [(to_bytes(row.stream), row.partition, row.due, row.state) for row in batch.ledger],
        )
    if batch.settled:
        writer.executemany(
            "DELETE FROM horae_ledger WHERE stream = ? AND partition = ?",
            [(to_bytes(stream), partition) for partition, stream in batch.settled],
        )
