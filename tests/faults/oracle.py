"""What should have come due: cronsim for cron, whole microseconds for intervals. Nothing of Horae."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1000}


def micros(text: str) -> int:
    """An instant of ISO 8601 as microseconds since the epoch."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def instant(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


def span(text: str) -> int:
    """A duration such as `1m30s` in microseconds."""
    parts = re.findall(r"(\d+)(ms|d|h|m|s)", text)
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"no duration: {text!r}")
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def occurrences(definition: dict, anchor: int, after: int, until: int) -> Iterator[int]:
    """Instants with `after < due <= until`, within the definition's bounds."""
    if (start := definition.get("start_at")) is not None:
        after = max(after, micros(start) - 1)
    if (end := definition.get("end_at")) is not None:
        until = min(until, micros(end))
    trigger = definition["trigger"]
    match trigger["type"]:
        case "interval":
            yield from _interval(span(trigger["every"]), anchor, after, until)
        case "cron":
            yield from _cron(trigger["expression"], trigger.get("timezone", "UTC"), after, until)
        case "once":
            due = micros(trigger["at"]) if "at" in trigger else anchor + span(trigger["after"])
            due = max(due, anchor)
            if after < due <= until:
                yield due
        case "manual":
            return
        case other:
            raise ValueError(f"no oracle for {other}")


def _interval(every: int, anchor: int, after: int, until: int) -> Iterator[int]:
    due = anchor + ((after - anchor) // every + 1) * every
    while due <= until:
        yield due
        due += every


def _cron(expression: str, zone: str, after: int, until: int) -> Iterator[int]:
    walk = CronSim(expression, instant(after).astimezone(ZoneInfo(zone)))
    for found in walk:
        due = (found.astimezone(UTC) - EPOCH) // timedelta(microseconds=1)
        if due > until:
            return
        if due > after:
            yield due
