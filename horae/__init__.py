"""Horae: an event-sourced scheduling engine.

```python
from horae import Context, Horae, every

app = Horae("desk")

@app.schedule("heartbeat", every("30 seconds"))
async def heartbeat(ctx: Context) -> str:
    return f"due {ctx.due}, {ctx.late_by} late"
```
"""

from horae.app import Horae, connect
from horae.client import Client
from horae.triggers import Retry, cron, every, manual, once
from horae_application.context import Context
from horae_application.result import Result, RetryAfter
from horae_domain.errors import HoraeError

__all__ = [
    "Client",
    "Context",
    "Horae",
    "HoraeError",
    "Result",
    "Retry",
    "RetryAfter",
    "connect",
    "cron",
    "every",
    "manual",
    "once",
]

__version__ = "0.1.0"
