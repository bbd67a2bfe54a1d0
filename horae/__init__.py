"""Horae: an event-sourced scheduling engine.

```python
from horae import Context, Horae, every

app = Horae("desk")

@app.schedule("heartbeat", every("30 seconds"))
async def heartbeat(ctx: Context) -> str:
    return f"due {ctx.due}, {ctx.late_by} late"
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from horae.app import Horae, connect
    from horae.client import Client
    from horae.http_action import http
    from horae.sagas import step, steps, wait_for
    from horae.services import command
    from horae.templates import new_schedule
    from horae.triggers import (
        Retry,
        cron,
        every,
        manual,
        on_condition,
        on_event,
        on_outcome,
        once,
        rrule,
    )
    from horae_application.context import Context
    from horae_application.hooks import Observed
    from horae_application.result import Result, RetryAfter
    from horae_application.services import Call, ServiceError
    from horae_domain.errors import HoraeError

__all__ = [
    "Call",
    "Client",
    "Context",
    "Horae",
    "HoraeError",
    "Observed",
    "Result",
    "Retry",
    "RetryAfter",
    "ServiceError",
    "command",
    "connect",
    "cron",
    "every",
    "http",
    "manual",
    "new_schedule",
    "on_condition",
    "on_event",
    "on_outcome",
    "once",
    "rrule",
    "step",
    "steps",
    "wait_for",
]

__version__ = "0.1.0"

_MODULES = {
    "Call": "horae_application.services",
    "Client": "horae.client",
    "Context": "horae_application.context",
    "Horae": "horae.app",
    "HoraeError": "horae_domain.errors",
    "Observed": "horae_application.hooks",
    "Result": "horae_application.result",
    "Retry": "horae.triggers",
    "RetryAfter": "horae_application.result",
    "ServiceError": "horae_application.services",
    "command": "horae.services",
    "connect": "horae.app",
    "cron": "horae.triggers",
    "every": "horae.triggers",
    "http": "horae.http_action",
    "manual": "horae.triggers",
    "new_schedule": "horae.templates",
    "on_condition": "horae.triggers",
    "on_event": "horae.triggers",
    "on_outcome": "horae.triggers",
    "once": "horae.triggers",
    "rrule": "horae.triggers",
    "step": "horae.sagas",
    "steps": "horae.sagas",
    "wait_for": "horae.sagas",
}
"""Imported when first asked for, so that the command line starts at once."""


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
