"""When schedules rest: how long nothing fires because something has, as their rows tell it (G6)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from horae_domain.durations import parse_duration


def rest_of(told: dict[str, Any]) -> timedelta | None:
    """How long a schedule of this definition rests after something has fired; None if it does not."""
    spans = (told.get("cooldown"), told["trigger"].get("cooldown"))
    if spans == (None, None):  # as most
        return None
    return max(parse_duration(each, field="cooldown") for each in spans if each is not None)


def rests_until(
    rest: timedelta | None, fired_at: datetime | None, told: datetime | None
) -> datetime | None:
    """When it has rested last, or will have: by its definition, or as a result has told."""
    by_definition = None if rest is None or fired_at is None else fired_at + rest
    return max((each for each in (by_definition, told) if each is not None), default=None)
