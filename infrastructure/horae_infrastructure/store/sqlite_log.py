"""The log of a SQLite store: its reading half, and a reader beside the process that writes it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from horae_application.ports import StoredEvent, StoreError, StoreUnavailable
from horae_domain.identity import to_text
from horae_infrastructure.store.pool import Pool

BUSY_SECONDS = 5.0
LOOKS = (0.001, 0.02)
"""Seconds between the looks of a follower: at first, and at most."""

_EVENTS = """
SELECT rowid, recorded_at, originator_id, originator_version, topic, state
FROM horae_events WHERE rowid > ? {} ORDER BY rowid LIMIT ?
"""
_HEAD = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'horae_events'"
_BEYOND = "SELECT EXISTS (SELECT 1 FROM horae_events WHERE rowid > ?)"


class SqliteReader:
    """Reads the file `path` over connections that `_connect` makes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._readers = Pool(self._connect)

    def read(self, after: int, limit: int) -> list[StoredEvent]:
        """The next events of the log with a position greater than `after`, in order."""
        return self._events("", (after, limit))

    def read_named(
        self, after: int, until: int, names: Sequence[str], limit: int
    ) -> list[StoredEvent]:
        """The events of some names with positions after one and up to another, in order."""
        named = f"AND rowid <= ? AND topic IN ({marks(len(names))})"
        return self._events(named, (after, until, *names, limit))

    def _events(self, where: str, values: Sequence[Any]) -> list[StoredEvent]:
        return [
            StoredEvent(position, recorded_at, to_text(raw), version, name, state)
            for position, recorded_at, raw, version, name, state in self._rows(
                _EVENTS.format(where), values
            )
        ]

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with translated(), self._readers.lend() as reader:
            return reader.execute(sql, values).fetchall()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )


class SqliteLog(SqliteReader):
    """The log of a store that another process of this machine writes, or that nobody does now.

    Raises:
        StoreUnavailable: there is no store at `path`, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise StoreUnavailable(f"there is no store at {path}")
        super().__init__(path)
        self._closed = Event()
        with translated(), closing(self._connect()) as reader:
            (self.identity,) = reader.execute("SELECT identity FROM horae_store").fetchone()

    def head(self) -> int:
        """The highest position written, 0 for an empty log."""
        return int(self._rows(_HEAD)[0][0])

    def wait(self, after: int, timeout: float) -> bool:
        """Block this thread until the log reaches beyond `after`.

        It looks: SQLite tells other processes nothing. False after `timeout` seconds, and when it
        was closed.
        """
        deadline, (pause, longest) = monotonic() + timeout, LOOKS
        while not self._reaches_beyond(after):
            left = deadline - monotonic()
            if left <= 0 or self._closed.wait(min(pause, left)):
                return False
            pause = min(2 * pause, longest)
        return True

    def _reaches_beyond(self, after: int) -> bool:
        try:
            return bool(self._rows(_BEYOND, (after,))[0][0])
        except StoreUnavailable:
            if self._closed.is_set():
                return False
            raise

    def close(self) -> None:
        """Release the connections. Idempotent."""
        self._closed.set()
        self._readers.close()

    def _connect(self) -> sqlite3.Connection:
        connection = super()._connect()
        connection.execute("PRAGMA query_only = ON")
        return connection


def marks(count: int) -> str:
    """Placeholders of so many values."""
    return ",".join("?" * count)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of SQLite as those of the port; a broken unique key stays what it is."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(str(error)) from error
    except sqlite3.Error as error:
        raise StoreError(str(error)) from error
