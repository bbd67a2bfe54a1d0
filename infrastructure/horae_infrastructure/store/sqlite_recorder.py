"""The `eventsourcing` library's recorder and factory over the event table of a SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import eventsourcing.sqlite as library
from eventsourcing.persistence import (
    ApplicationRecorder,
    Mapper,
    NotSupportedError,
    StoredEvent,
    Subscription,
    Transcoder,
)

from horae_application.ports import NewEvent
from horae_domain.identity import to_bytes
from horae_infrastructure.store.mapper import LogMapper
from horae_infrastructure.store.tail import PollingSubscription


class SqliteRecorder(library.SQLiteApplicationRecorder):
    """Horae's log as the library's application sequence; written through a store's append only."""

    def __init__(
        self, datastore: library.SQLiteDatastore, events_table_name: str = "horae_events"
    ) -> None:
        super().__init__(datastore, events_table_name)
        self.insert_events_statement = "INSERT INTO horae_events VALUES (?,?,?,?,?,?)"

    def construct_create_table_statements(self) -> list[str]:
        """None: opening a store makes the tables, a reader does not."""
        return []

    def append_events(
        self, writer: sqlite3.Connection, events: Sequence[NewEvent], recorded_at: int
    ) -> range:
        """Insert within the writer's transaction, which holds the write lock; their positions."""
        first = head_of(writer) + 1
        writer.executemany(
            self.insert_events_statement,
            [
                (
                    position,
                    to_bytes(event.stream),
                    event.version,
                    event.name,
                    event.state,
                    recorded_at,
                )
                for position, event in enumerate(events, first)
            ],
        )
        return range(first, first + len(events))

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> Sequence[int] | None:
        """Refused: an append must carry the epochs of its partitions."""
        raise NotSupportedError("Horae's log is written by the owners of its partitions")

    def convert_originator_id(self, originator_id: str | bytes) -> UUID | str:
        """The column's 16 bytes as the library's id."""
        if isinstance(originator_id, bytes):
            return UUID(bytes=originator_id)
        return super().convert_originator_id(originator_id)

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Events of one stream."""
        stream = originator_id if isinstance(originator_id, UUID) else UUID(originator_id)
        key: Any = stream.bytes  # the library passes on what is not a UUID as it is
        return super().select_events(key, gt=gt, lte=lte, desc=desc, limit=limit)

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """Follow the log by polling, which works beside a writer in another process too."""
        return PollingSubscription(self, gt, topics)


def head_of(connection: sqlite3.Connection) -> int:
    """The highest position ever written."""
    row = connection.execute(
        "SELECT seq FROM sqlite_sequence WHERE name = 'horae_events'"
    ).fetchone()
    return row[0] if row else 0


class Factory(library.SQLiteFactory):
    """For `PERSISTENCE_MODULE=horae_infrastructure.store.sqlite` and `SQLITE_DBNAME`."""

    application_recorder_class = SqliteRecorder

    def mapper(
        self,
        transcoder: Transcoder | None = None,
        mapper_class: type[Mapper[Any]] | None = None,
    ) -> Mapper[Any]:
        """The mapper of `MAPPER_TOPIC`, by default Horae's."""
        if mapper_class is None and not self.env.get(self.MAPPER_TOPIC):
            mapper_class = LogMapper
        return super().mapper(transcoder, mapper_class)
