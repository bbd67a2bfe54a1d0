"""Bounds of an execution's waits (G8): to start, to close, to end, and to be heard of.

Instants are recorded with the event that begins a wait. A heartbeat is no event: what an owner has
heard is in its memory only, and whoever takes over waits for one whole timeout anew.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from horae_domain.definition import Definition

SILENCE = timedelta(minutes=5)
"""After so long without a heartbeat an attempt elsewhere is given up that nothing else bounds."""

LATE_START = {"type": "Timeout", "message": "not started within schedule_to_start"}
LATE_CLOSE = {"type": "Timeout", "message": "no outcome within start_to_close"}
LATE_END = {"type": "Timeout", "message": "not ended within overall"}
SILENT = {"type": "HeartbeatTimeout", "message": "no heartbeat within its timeout"}

TIMERS = MappingProxyType(
    {
        "retry": "resume_at",
        "poll": "resume_at",
        "delay": "resume_at",
        "check": "resume_at",
        "schedule_to_start": "start_by",
        "start_to_close": "deadline",
        "overall": "end_by",
        "heartbeat": "silent_by",
        "stop": "stop_by",
        "confirmation": "wait_until",
    }
)
"""The kinds of timers that an execution may have, and its field that has the instant."""

DELAYS = tuple(kind for kind, field in TIMERS.items() if field == "resume_at")
"""The kinds of what waits to begin, or to begin again."""


def bounds(definition: Definition, at: datetime) -> dict[str, Any]:
    """Until when an execution that is ready now has to start, and to end."""
    timeout = definition.timeout
    return {
        "start_by": _after(at, timeout.schedule_to_start),
        "end_by": _after(at, timeout.overall),
    }


def attempt_bounds(definition: Definition, at: datetime, *, local: bool) -> dict[str, Any]:
    """Until when an attempt has to be closed, and how many seconds it may be silent."""
    timeout = definition.timeout
    limit, silence = timeout.start_to_close, timeout.heartbeat
    if silence is None and limit is None and not local:
        silence = SILENCE
    return {
        "deadline": _after(at, limit),
        "heartbeat": None if silence is None else silence.total_seconds(),
    }


def _after(at: datetime, limit: timedelta | None) -> datetime | None:
    return None if limit is None else at + limit
