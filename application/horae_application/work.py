"""Work on its way to whoever does it, in this process or in another one, and its outcome."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from horae_domain.stages import command_id

PROCESSES = "horae.process"
"""The name by which executors that run command lines announce and pull them."""
SERVICE_COMMANDS = "horae.command"
"""The name by which executors that send commands to services pull them."""

HTTP_CALLS = "horae.http"
"""The name by which executors that make HTTP calls announce and pull them."""

SCHEDULES = "horae.schedule"
"""The name by which executors that make schedules from templates pull them."""


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
    """The nominal instant; lateness counts from it, unless it was moved."""
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
    heartbeat: float | None = None
    """Seconds after which it is given up without a heartbeat of its handler."""
    next_due: datetime | None = None
    cooldown_until: datetime | None = None
    """Until when the schedule does not fire again."""
    conditions: list[str] = []
    """Those of the schedule that were met."""
    moved_to: datetime | None = None
    """Where somebody moved the occurrence."""
    stage: str = ""
    """What of the schedule it does, if it is not its action: `then`, `fallback`, `step:...`."""
    reason: str | None = None
    """Why a fallback runs, or a step is taken back."""
    error: dict[str, Any] = {}
    """What had failed before."""
    results: dict[str, Any] = {}
    """What the steps before have answered, by their names; the action as `action`."""
    confirmations: list[dict[str, Any]] = []
    """The external events that have confirmed it."""
    polls: int = 0
    """How often it was answered that it shall be asked again."""
    waited: float | None = None
    """Seconds that it waited for confirmations, if it did."""
    wait_timeout: float | None = None
    """Seconds after which it would have waited, or has waited, in vain."""
    correlation_id: str | None = None
    metadata: dict[str, Any] = {}
    """That of the schedule."""
    traceparent: str | None = None
    carried: dict[str, str] = {}
    """What travels with it, see `horae_domain.tracing`."""

    @property
    def command_id(self) -> str:
        """What an attempt has in common with all others that do the same."""
        return command_id(self.execution_id, self.stage)

    @property
    def handler(self) -> str | None:
        """What an executor of ours serves it by; None for work that anybody may pull."""
        match self.action["type"]:
            case "function":
                name: str = self.action["name"]
                return name
            case "process":
                return PROCESSES
            case "command":
                return SERVICE_COMMANDS
            case "http":
                return HTTP_CALLS
            case "schedule":
                return SCHEDULES
            case _:
                return None
