"""Which executions count against one another: all of a schedule, or those of one value of a key."""

from __future__ import annotations

from typing import Any

import msgspec

from horae_domain.definition import Definition

Lane = bytes | None
"""None where all count together; else the value as JSON, empty where the payload has none."""

_encode = msgspec.json.Encoder(order="sorted").encode


def lane_of(definition: Definition, payload: Any) -> Lane:
    """The lane of a payload: the value at the path `concurrency_key`, through objects only (G4)."""
    if definition.concurrency_key is None:
        return None
    value = payload
    for name in definition.concurrency_key.split("."):
        if not isinstance(value, dict) or name not in value:
            return b""
        value = value[name]
    return _encode(value)
