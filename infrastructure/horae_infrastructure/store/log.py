"""Reading a store's log without taking part: beside an engine, or of one that has stopped."""

from __future__ import annotations

from pathlib import Path

from horae_application.ports import EventLog
from horae_infrastructure.store import open_store


def open_log(url: str, *, data_dir: Path) -> EventLog:
    """The log of the store that a URL names, as `open_store` takes it.

    A SQLite store is read though another process of this machine has it.

    Raises:
        StoreUnavailable: there is none, or it cannot be read.
        StoreError: a store of another kind cannot be opened.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        from horae_infrastructure.store.sqlite_log import SqliteLog  # noqa: PLC0415

        return SqliteLog(data_dir / (rest.removeprefix("/") or "horae.db"))
    return open_store(url, data_dir=data_dir, allow_unsafe=True)
