"""Horae's events for stock `eventsourcing` applications and projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import Mapper, MapperDeserialisationError, StoredEvent


@dataclass(frozen=True)
class LoggedEvent:
    """One event of the log, its state as plain JSON values."""

    originator_id: UUID
    """Its stream."""
    originator_version: int
    name: str
    """Stable name with version, such as `schedule.created.v1`."""
    data: dict[str, Any]


class LogMapper(Mapper[UUID]):
    """Reads any event of the log as a `LoggedEvent`, by name, without the domain's classes.

    A stock projection dispatches on `event.name`; set `MAPPER_TOPIC` to
    `horae_infrastructure.store.mapper:LogMapper`, which Horae's factories do by themselves.
    """

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """A stored event with the name as its topic; for `LoggedEvent` alone."""
        if not isinstance(domain_event, LoggedEvent):
            raise TypeError(f"{type(domain_event).__name__} is not of Horae's log")
        return StoredEvent(
            domain_event.originator_id,
            domain_event.originator_version,
            domain_event.name,
            msgspec.json.encode(domain_event.data),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The event behind a stored event or notification.

        Raises:
            MapperDeserialisationError: its state is no JSON object.
        """
        try:
            data = msgspec.json.decode(stored_event.state, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise MapperDeserialisationError(
                f"{stored_event.topic} of stream {stored_event.originator_id}, version "
                f"{stored_event.originator_version}: {error}"
            ) from error
        stream = stored_event.originator_id
        return LoggedEvent(
            stream if isinstance(stream, UUID) else UUID(stream),
            stored_event.originator_version,
            stored_event.topic,
            data,
        )
