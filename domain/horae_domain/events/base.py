"""What events have in common, and the values that several of them tell."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all events say: when it was decided, about whom, and on whose word."""

    at: datetime
    tenant: str = "default"
    schedule_id: str
    command_id: str | None = None
    correlation_id: str | None = None
    actor: str | None = None


class ExecutionEvent(Event, frozen=True, kw_only=True):
    """What all events of an execution say."""

    execution_id: str


class Confirmation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An external event that confirmed an execution, by the index of what it waited for."""

    index: int
    event_id: str
    type: str
    source: str = ""
    data: Any = None


class Because(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an execution falls back: how it would have ended, the reason, and the error if any."""

    end: str
    reason: str
    error: dict[str, Any] = {}
    event_source: str | None = None
    """Of the external event that ends it, if one does."""
    event_id: str | None = None
