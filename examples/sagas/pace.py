"""How long the examples wait: as long as they say, or `SAGAS_PACE` times shorter, to see them run.

No wait is made shorter than `SAGAS_LEAST` seconds. A day and a week of a calendar become a
beat of seconds.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from horae_domain.durations import format_duration, parse_duration

PACE = float(os.environ.get("SAGAS_PACE", "1"))
LEAST = timedelta(seconds=float(os.environ.get("SAGAS_LEAST", "1")))
BEATS = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)
"""Seconds that divide a minute."""
WAITS = {
    "trigger": ("delay", "every", "cooldown"),
    "wait_for": ("timeout",),
    "retry": ("delay", "max_delay"),
}
"""Where a definition says how long something lasts."""


def scaled(wait: timedelta) -> timedelta:
    """So long, or shorter by the pace."""
    return wait if PACE == 1 else max(wait / PACE, LEAST)


def scaled_trigger(trigger: dict[str, Any]) -> dict[str, Any]:
    """A trigger whose waits are shorter by the pace."""
    told = _shorter(trigger, WAITS["trigger"])
    if trigger["type"] == "cron" and PACE != 1:
        days = 1 if trigger["expression"].endswith("*") else 7
        wait = scaled(timedelta(days=days)).total_seconds()
        beat = next((f"*/{each}" for each in BEATS if each >= wait), "0")
        told["expression"] = f"{beat} * * * * *"
    return told


def scaled_definition(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition whose waits are shorter by the pace, and those of what it makes."""
    told = dict(definition)
    if "template" in (action := definition.get("action", {})):
        told["action"] = action | {"template": scaled_definition(action["template"])}
    for field in WAITS.keys() & told.keys():
        told[field] = _shorter(told[field], WAITS[field])
    return told | {"trigger": scaled_trigger(definition["trigger"])}


def _shorter(told: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    found = {name: parse_duration(told[name], field=name) for name in names if name in told}
    return told | {name: format_duration(scaled(wait)) for name, wait in found.items()}
