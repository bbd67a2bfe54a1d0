"""What a handler logs: lines that are kept with the execution, and go to the program's log."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from horae_application.log import get_logger
from horae_domain.errors import reason_of

MAX_LOGS = 200
"""Log lines kept with one attempt; further ones go to the log only."""
MAX_LOG_BYTES = 256 * 1024
"""Bytes of JSON that they have together."""
MAX_TEXT = 2000
"""Characters of a message or a fact that are kept."""
INFO = "info"
"""The level of a line that tells none."""

_log = get_logger("horae.handler")


class HandlerLog:
    """The log of one attempt, by level; called without one it is `info`.

    Args:
        about: facts that each line of the program's log has besides its own.
        now: the time.
    """

    def __init__(self, about: Mapping[str, Any], now: Callable[[], datetime]) -> None:
        self.lines: list[dict[str, Any]] = []
        """Those that are kept: `at`, `message`, `level` unless it is `info`, and `facts` if any."""
        self._about = about
        self._now = now
        self._size = 0

    def __call__(self, message: str, **facts: Any) -> None:
        """Log a line that is kept with the execution."""
        self._add(INFO, message, facts)

    def debug(self, message: str, **facts: Any) -> None:
        """Log a line for who looks closely."""
        self._add("debug", message, facts)

    def info(self, message: str, **facts: Any) -> None:
        """Log a line, as by a call without a level."""
        self._add(INFO, message, facts)

    def warning(self, message: str, **facts: Any) -> None:
        """Log that something is not as it should be."""
        self._add("warning", message, facts)

    def error(self, message: str, **facts: Any) -> None:
        """Log that something has failed; the attempt goes on."""
        self._add("error", message, facts)

    def critical(self, message: str, **facts: Any) -> None:
        """Log that somebody has to act."""
        self._add("critical", message, facts)

    def exception(self, message: str, **facts: Any) -> None:
        """Log an error that is being handled; its traceback goes to the program's log alone."""
        error = sys.exc_info()[1]
        if error is not None:
            facts = {"exception": f"{type(error).__name__}: {reason_of(error)}", **facts}
        self._add("error", message, facts, error)

    def _add(
        self,
        level: str,
        message: str,
        facts: Mapping[str, Any],
        error: BaseException | None = None,
    ) -> None:
        told = {**self._about, **facts}
        if error is not None:
            told["exc_info"] = error
        getattr(_log, level)(message, **told)
        line: dict[str, Any] = {"at": self._now().isoformat(), "message": _text(message)}
        if level != INFO:
            line["level"] = level
        if facts:
            line["facts"] = {key: _plain(value) for key, value in facts.items()}
        size = len(msgspec.json.encode(line))
        if len(self.lines) < MAX_LOGS and self._size + size <= MAX_LOG_BYTES:
            self._size += size
            self.lines.append(line)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | None) else _text(value)


def _text(value: Any) -> str:
    """As it can be stored: in bounds, and without halves of characters."""
    return str(value)[:MAX_TEXT].encode("utf-8", "replace").decode()
