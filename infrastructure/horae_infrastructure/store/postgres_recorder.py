"""The `eventsourcing` library's recorder and factory over the event table of a PostgreSQL store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import eventsourcing.postgres as library
from eventsourcing.persistence import (
    ApplicationRecorder,
    Mapper,
    NotSupportedError,
    StoredEvent,
    Subscription,
    Transcoder,
)

from horae_infrastructure.store.mapper import LogMapper
from horae_infrastructure.store.tail import PollingSubscription


class PostgresRecorder(library.PostgresApplicationRecorder):
    """Horae's log as the library's application sequence; written through a store's append only."""

    def __init__(
        self,
        datastore: library.PostgresDatastore,
        *,
        events_table_name: str = "horae_events",  # noqa: ARG002  (the factory makes one up)
    ) -> None:
        super().__init__(datastore, events_table_name="horae_events")
        self.sql_create_statements = []

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> Sequence[int] | None:
        """Refused: an append must carry the epochs of its partitions."""
        raise NotSupportedError("Horae's log is written by the owners of its partitions")

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> Subscription[ApplicationRecorder]:
        """Follow the log by polling, which outlives connections."""
        return PollingSubscription(self, gt, topics)


class Factory(library.PostgresFactory):
    """For `PERSISTENCE_MODULE=horae_infrastructure.store.postgres` and `POSTGRES_DBNAME` etc."""

    application_recorder_class = PostgresRecorder

    def mapper(
        self,
        transcoder: Transcoder | None = None,
        mapper_class: type[Mapper[Any]] | None = None,
    ) -> Mapper[Any]:
        """The mapper of `MAPPER_TOPIC`, by default Horae's."""
        if mapper_class is None and not self.env.get(self.MAPPER_TOPIC):
            mapper_class = LogMapper
        return super().mapper(transcoder, mapper_class)
