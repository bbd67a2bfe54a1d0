"""Reading a store's log without taking part: beside an engine, or of one that has stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from horae_application.ports import StoredEvent
from horae_infrastructure.store import open_store


class Log(Protocol):
    """What can be read of a store; synchronous, as the port `EventStore` has it."""

    identity: str
    """Of the store."""

    def read(self, after: int, limit: int) -> list[StoredEvent]:
        """The next events of the log with a position greater than `after`, in order."""
        ...

    def read_named(
        self, after: int, until: int, names: Sequence[str], limit: int
    ) -> list[StoredEvent]:
        """The events of some names with positions after one and up to another, in order."""
        ...

    def head(self) -> int:
        """The highest position written, 0 for an empty log."""
        ...

    def wait(self, after: int, timeout: float) -> bool:
        """Block this thread until the log reaches beyond `after`; False after `timeout` seconds."""
        ...

    def close(self) -> None:
        """Release connections and files. Idempotent."""
        ...


def open_log(url: str, *, data_dir: Path) -> Log:
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
