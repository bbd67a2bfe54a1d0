"""Handlers that ship with Horae (A7); their names begin with `horae.`.

They are served wherever what they need is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from horae_infrastructure.handlers.cleanup import NAME as CLEANUP
from horae_infrastructure.handlers.cleanup import cleanup
from horae_infrastructure.handlers.health_check import health_check
from horae_infrastructure.handlers.notify import notify

__all__ = ["CLEANUP", "PREFIX", "shipped"]

PREFIX = "horae."
"""What the names of applications' own handlers do not begin with."""


def shipped() -> Mapping[str, Callable[..., Any]]:
    """What this installation can serve, by name."""
    handlers: dict[str, Callable[..., Any]] = {
        CLEANUP: cleanup,
        "horae.health_check": health_check,
    }
    if find_spec("apprise") is not None:
        handlers["horae.notify"] = notify
    return handlers
