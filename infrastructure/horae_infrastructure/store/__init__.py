"""The event store's adapters: SQLite, PostgreSQL, memory."""

from __future__ import annotations

from pathlib import Path

from horae_application.ports import EventStore
from horae_domain.errors import InvalidField
from horae_infrastructure.store.errors import (
    StoreFormat,
    StoreLocked,
    StoreNotDurable,
    StoreReplaced,
)

__all__ = ["StoreFormat", "StoreLocked", "StoreNotDurable", "StoreReplaced", "open_store"]


def open_store(url: str, *, data_dir: Path | str, allow_unsafe: bool = False) -> EventStore:
    """The store that a URL names, made if it does not exist.

    Args:
        url: `memory://`; `sqlite:///file.db` in `data_dir` or `sqlite:////absolute/file.db`,
            `sqlite://` for `horae.db` in `data_dir`; `postgresql://…` as libpq takes it, with an
            optional parameter `schema`.
        data_dir: where relative SQLite files are.
        allow_unsafe: accept a store that can lose acknowledged commits.

    Raises:
        InvalidField: the URL's scheme is not one of these.
        StoreError: the store cannot be opened; see `horae_infrastructure.store.errors`.
    """
    scheme, separator, rest = url.partition("://")
    match scheme:
        case "memory":
            from horae_infrastructure.store.memory import MemoryStore  # noqa: PLC0415

            return MemoryStore()
        case "sqlite":
            from horae_infrastructure.store.sqlite import SqliteStore  # noqa: PLC0415

            path = Path(data_dir) / (rest.removeprefix("/") or "horae.db")
            return SqliteStore(path, allow_unsafe=allow_unsafe)
        case "postgresql" | "postgres":
            from horae_infrastructure.store.postgres import PostgresStore  # noqa: PLC0415

            return PostgresStore(url, allow_unsafe=allow_unsafe)
        case _:
            raise InvalidField(
                "a store is sqlite://, postgresql:// or memory://",
                field="store_url",
                value=f"{scheme}://" if separator else None,
            )
