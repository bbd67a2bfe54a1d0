"""How long nothing fires because something has (G6)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from horae_domain.durations import parse_duration


def rest_of(told: dict[str, Any]) -> timedelta | None:
    """How long a schedule of this definition rests after something has fired; None if it does not."""
    spans = (told.get("cooldown"), told["trigger"].get("cooldown"))
    if spans == (None, None):  # as most
        return None
    return max(parse_duration(each, field="cooldown") for each in spans if each is not None)
