"""The event of what has happened elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from horae_domain.events.base import Event


class ExternalEventReceived(Event, frozen=True, kw_only=True):
    """Something happened elsewhere, and somebody here listens for it.

    The stream's id is a function of tenant, source and id: the same event is recorded once.
    """

    schedule_id: str = ""
    type: str
    source: str = ""
    id: str
    data: Any = None
    occurred_at: datetime | None = None
    traceparent: str | None = None
    carried: dict[str, str] = {}
