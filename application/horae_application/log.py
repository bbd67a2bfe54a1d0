"""Logging to the standard library, as a library should: quiet, unless the program wants more.

Without any configuration warnings go to standard error, and nothing to standard output. A handler
with structlog's `ProcessorFormatter` gets events with their facts; any other one gets a line,
`event key=value`. All loggers are below `horae`.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog


class Line(dict[str, Any]):
    """An event with its facts, which is a line where somebody wants text."""

    def __str__(self) -> str:
        """The event, then its facts."""
        hidden = {"event", "level", "logger", "exc_info"}
        facts = (f"{name}={value!r}" for name, value in self.items() if name not in hidden)
        return " ".join([str(self["event"]), *facts])


def get_logger(name: str) -> Any:
    """A logger with structlog's calls, `info("event", key=value)`."""
    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            _record,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _record(logger: Any, method: str, event: Any) -> tuple[tuple[Line], dict[str, Any]]:
    """What the standard library is called with; the marks are those of `ProcessorFormatter`."""
    told: dict[str, Any] = {"extra": {"_logger": logger, "_name": method}}
    if event.get("exc_info"):
        told["exc_info"] = event["exc_info"]
    return (Line(event),), told
