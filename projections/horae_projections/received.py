"""Whether an external event has been received: looked for in the log, so that nothing lags behind."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from horae_domain.codec import decode
from horae_domain.errors import InvalidField
from horae_domain.events import NAMES, ExternalEventReceived
from horae_domain.instants import format_instant, to_micros
from horae_domain.listeners import same_at
from horae_projections.messages import FindEvent
from horae_projections.ports import LogReader

PAGE = 500
MAX_LOOKED_AT = 10_000
"""External events that one question looks at."""
SKEW = timedelta(seconds=5)
"""How far the clock that dates an event may be from the one that dates its record."""

_NAMES = (NAMES[ExternalEventReceived],)


def find(log: LogReader, tenant: str, query: FindEvent) -> dict[str, Any]:
    """The first event of a type with these values that was received at an instant or later.

    Raises:
        InvalidField: too many events have come since then.
    """
    until = log.head()
    after = _before(log, query.since - SKEW, until)
    looked_at = 0
    while rows := log.read_named(after, until, _NAMES, PAGE):
        for row in rows:
            event = decode(row.name, row.state)
            if isinstance(event, ExternalEventReceived) and _fits(event, tenant, query):
                return {"ok": True, "event": _told(event)}
        after, looked_at = rows[-1].position, looked_at + len(rows)
        if looked_at >= MAX_LOOKED_AT:
            raise InvalidField(
                f"more than {MAX_LOOKED_AT} external events have come since then", field="since"
            )
    return {"ok": True, "event": None}


def _before(log: LogReader, at: datetime, until: int) -> int:
    """The highest position up to which all was recorded before an instant."""
    wanted, low, high = to_micros(at), 0, until
    while low < high:
        middle = (low + high) // 2
        row = next(iter(log.read(middle, 1)), None)
        if row is None or row.recorded_at >= wanted:
            high = middle
        else:
            low = row.position
    return low


def _fits(event: ExternalEventReceived, tenant: str, query: FindEvent) -> bool:
    return (
        event.tenant == tenant
        and event.type == query.type
        and event.at >= query.since
        and all(same_at(event.data, path, value) for path, value in query.match.items())
    )


def _told(event: ExternalEventReceived) -> dict[str, Any]:
    return {
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "data": event.data,
        "at": format_instant(event.occurred_at or event.at),
    }
