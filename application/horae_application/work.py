"""Work on its way to whoever does it, in this process or in another one, and its outcome."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Work(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of one execution, as an executor or a worker in any language receives it.

    Its JSON form is the message in `HORAE_WORK`.
    """

    execution_id: str
    schedule_id: str
    tenant: str
    attempt: int
    lease: str
    due: datetime
    """The nominal instant; lateness counts from it."""
    action: dict[str, Any]
    payload: Any = None
    queue: str = "default"
    priority: str = "medium"
    revision: int = 1
    run_number: int | None = None
    trigger: dict[str, Any] = {}
    """`kind` and its facts."""
    timeout: float | None = None
    """Seconds from the start of the attempt to its report."""
    next_due: datetime | None = None
    correlation_id: str | None = None
    traceparent: str | None = None

    @property
    def handler(self) -> str | None:
        """The name of the function to run, if the action is one."""
        return self.action["name"] if self.action["type"] == "function" else None
