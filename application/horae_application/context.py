"""What a handler is told about its run, and what it can ask for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import structlog

from horae_application.work import Work

MAX_LOGS = 200
"""Log lines kept with one attempt; further ones go to the log only."""
MAX_LOG_BYTES = 256 * 1024
"""Bytes of JSON that they have together."""
MAX_TEXT = 2000
"""Characters of a message or a fact that are kept."""


class Context:
    """One attempt, as its handler sees it (A5).

    Attributes:
        schedule_id, execution_id, tenant, attempt: whose attempt this is.
        due: the nominal instant, aware, in UTC.
        run_number: which fired occurrence of the schedule this is, from 1; None if triggered.
        trigger: `kind` (cron, interval, once, manual) and its facts.
        payload: JSON, of the schedule or as overridden by the trigger.
        next_due: the schedule's next occurrence, if there is one.
        correlation_id: of the command that asked for the run, else the execution's id.
        timeout: seconds that the attempt has, None without bound.
        client: the engine's commands and queries, None in another process's isolation.
    """

    def __init__(
        self, work: Work, *, now: Callable[[], datetime] | None = None, client: Any = None
    ) -> None:
        self.work = work
        self._now = now or _utc
        self.schedule_id = work.schedule_id
        self.execution_id = work.execution_id
        self.tenant = work.tenant
        self.attempt = work.attempt
        self.lease = work.lease
        self.due = work.due
        self.run_number = work.run_number
        self.trigger: Mapping[str, Any] = work.trigger
        self.payload = work.payload
        self.next_due = work.next_due
        self.correlation_id = work.correlation_id or work.execution_id
        self.timeout = work.timeout
        self.client = client
        self.started_at = self._now()
        self.logs: list[dict[str, Any]] = []
        self._logged = 0
        self._logger = structlog.get_logger("horae.handler").bind(
            schedule_id=work.schedule_id, execution_id=work.execution_id, attempt=work.attempt
        )

    @property
    def late_by(self) -> timedelta:
        """How long after the nominal instant the attempt began."""
        return self.started_at - self.due

    def log(self, message: str, **facts: Any) -> None:
        """Log a line that is kept with the execution."""
        self._logger.info(message, **facts)
        line: dict[str, Any] = {"at": self._now().isoformat(), "message": _text(message)}
        if facts:
            line["facts"] = {key: _plain(value) for key, value in facts.items()}
        size = len(msgspec.json.encode(line))
        if len(self.logs) < MAX_LOGS and self._logged + size <= MAX_LOG_BYTES:
            self._logged += size
            self.logs.append(line)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | None) else _text(value)


def _text(value: Any) -> str:
    """As it can be stored: in bounds, and without halves of characters."""
    return str(value)[:MAX_TEXT].encode("utf-8", "replace").decode()


def _utc() -> datetime:
    return datetime.now(UTC)
