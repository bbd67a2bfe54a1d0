"""What an execution waits for, in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from horae.cli.output import cell

Json = Mapping[str, Any]

_PLAIN = {
    "pending": "a worker",
    "buffered": "other runs",
    "checking": "its conditions",
    "held": "approval",
}


def waits_for(run: Json) -> str | None:
    """What it waits for, and until when; None if it runs or has ended."""
    status = run["status"]
    if status == "waiting":
        until = run["wait"]["until"]
        return _events(run["wait"]) + (f" until {cell(until)}" if until else "")
    if status == "delayed":
        again = run["next_retry_at"]
        return f"next attempt at {cell(again)}" if again else f"its delay until {cell(run['due'])}"
    return _PLAIN.get(status)


def _events(wait: Json) -> str:
    types = [each["event"] for each in wait["events"]]
    if wait["need"] == len(types):
        return " and ".join(types)
    if wait["need"] == 1:
        return " or ".join(types)
    return f"{wait['need']} of {', '.join(types)}"


def wait_facts(run: Json) -> dict[str, object]:
    """What `show` tells of the waits of an execution, and of what followed them."""
    wait, fallback = run["wait"], run["fallback"]
    told: dict[str, object] = {"waits for": waits_for(run)}
    if wait is not None:
        told["match"] = [each["match"] for each in wait["events"]]
        lasted = wait["duration_ms"]
        told["waited"] = None if lasted is None else f"{lasted / 1000:.1f} s"
        told["confirmed by"] = ", ".join(each["event_id"] for each in wait["confirmations"])
    told["fallback"] = fallback and f"because of {fallback['reason']}"
    return told
