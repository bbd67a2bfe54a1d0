"""Reading a store's log without taking part: beside an engine, or of one that has stopped."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from horae_application.ports import StoredEvent, StoreUnavailable
from horae_domain.identity import to_text
from horae_infrastructure.store import open_store

_READ = """
SELECT rowid, recorded_at, originator_id, originator_version, topic, state
FROM horae_events WHERE rowid > ? ORDER BY rowid LIMIT ?
"""


class Log(NamedTuple):
    """The identity of a store, and `read` as the port `EventStore` has it."""

    identity: str
    read: Callable[[int, int], list[StoredEvent]]


@contextmanager
def open_log(url: str, *, data_dir: Path) -> Iterator[Log]:
    """The log of the store that a URL names, as `open_store` takes it.

    Raises:
        StoreUnavailable: there is none, or it cannot be read.
        StoreError: a store of another kind cannot be opened.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        with _sqlite(data_dir / (rest.removeprefix("/") or "horae.db")) as log:
            yield log
        return
    with closing(open_store(url, data_dir=data_dir, allow_unsafe=True)) as store:
        yield Log(store.identity, store.read)


@contextmanager
def _sqlite(path: Path) -> Iterator[Log]:
    """The file, opened to be read only; the lock file of its engine is no concern."""
    if not path.exists():
        raise StoreUnavailable(f"there is no store at {path}")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as reader:
            (identity,) = reader.execute("SELECT identity FROM horae_store").fetchone()

            def read(after: int, limit: int) -> list[StoredEvent]:
                rows = reader.execute(_READ, (after, limit)).fetchall()
                return [
                    StoredEvent(number, at, to_text(raw), version, name, state)
                    for number, at, raw, version, name, state in rows
                ]

            yield Log(identity, read)
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path}: {error}") from error
