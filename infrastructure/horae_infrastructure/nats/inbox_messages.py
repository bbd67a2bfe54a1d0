"""External events as messages: what one says, and by what it is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from horae_application.messages import PublishEvent
from horae_domain.errors import InvalidField, PayloadTooLarge
from horae_domain.fields import MAX_PAYLOAD
from horae_domain.instants import format_instant
from horae_domain.wire import validate
from horae_infrastructure.event_subjects import Pattern

MAX_MESSAGE = 2 * MAX_PAYLOAD
"""Bytes of a message."""


class Arrival(NamedTuple):
    """A message as it lies in a stream."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    stream: str
    sequence: int
    stored_at: datetime


def read_arrival(patterns: Iterable[Pattern], arrival: Arrival) -> tuple[str, PublishEvent]:
    """The tenant and the event of a message.

    A CloudEvent in structured JSON is known by its own source and id and has its own type; any other JSON
    value is data, known by the header `Nats-Msg-Id`, else by its place in the stream.

    Raises:
        InvalidField, PayloadTooLarge: it is no event.
    """
    named = next((found for each in patterns if (found := each.read(arrival.subject))), None)
    if named is None:
        raise InvalidField("the subject names no event", field="subject", value=arrival.subject)
    tenant, type_ = named
    if len(arrival.data) > MAX_MESSAGE:
        raise PayloadTooLarge(
            f"an event has at most {MAX_MESSAGE} bytes", limit=MAX_MESSAGE, size=len(arrival.data)
        )
    try:
        content = msgspec.json.decode(arrival.data) if arrival.data else None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidField(f"not JSON: {error}", field="data") from error
    told = _cloud_event(content) or _plain(arrival, type_, content)
    return tenant, validate(PublishEvent, _timed(told, arrival.stored_at))


def _cloud_event(content: Any) -> dict[str, Any] | None:
    match content:
        case {"specversion": _, "id": id_, "source": source, "type": type_}:
            told = {"id": id_, "source": source, "type": type_, "data": content.get("data")}
            return told | ({"time": content["time"]} if content.get("time") else {})
        case _:
            return None


def _plain(arrival: Arrival, type_: str, content: Any) -> dict[str, Any]:
    told = {"type": type_, "data": content}
    if id_ := arrival.headers.get("Nats-Msg-Id"):
        return told | {"id": id_}
    # A stream that is made anew counts from 1 again; the instant tells its messages from the former ones.
    placed = f"{arrival.sequence}@{arrival.stored_at.timestamp():.6f}"
    return told | {"source": arrival.stream, "id": placed}


def _timed(told: dict[str, Any], stored_at: datetime) -> dict[str, Any]:
    if "time" in told:
        return told
    return told | {"time": format_instant(stored_at.astimezone(UTC))}
