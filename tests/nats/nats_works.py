"""Work and replies as an engine gives them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from horae_application.messages import Reply
from horae_application.work import Work


def work(tenant: str, *, action=None, lease: str = "1.1", **facts) -> Work:
    return Work(
        **{
            "execution_id": str(uuid.uuid4()),
            "schedule_id": "nightly",
            "tenant": tenant,
            "attempt": int(lease.split(".", maxsplit=1)[0]),
            "lease": lease,
            "due": datetime(2026, 1, 1, tzinfo=UTC),
            "action": action or {"type": "function", "name": "build"},
        }
        | facts
    )


def accepted(position: str, **facts) -> Reply:
    return Reply(200, {"ok": True, "position": position, **facts})
