"""The schedule that sweeps the history (O5), made where an engine is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from horae.ending import cancel
from horae_application.log import get_logger
from horae_domain.errors import HoraeError, NotFound
from horae_infrastructure.handlers import CLEANUP

if TYPE_CHECKING:
    from horae.client import Client
    from horae.runtime import Runtime

_log = get_logger("horae")
LATER = "cleanup not scheduled; the next start does it"

SCHEDULE: dict[str, Any] = {
    "id": CLEANUP,
    "name": "Retention",
    "description": "Erases what has ended and was kept long enough; see HORAE_KEEP_SUCCESSES.",
    "trigger": {"type": "interval", "every": "1 hour"},
    "action": {"type": "function", "name": CLEANUP},
    "timeout": {"start_to_close": "50 minutes"},
    "priority": "low",
    "retry": {"max_attempts": 1},
}
"""Hourly; the next one does what one that failed has left."""


@asynccontextmanager
async def keeping_house(runtime: Runtime) -> AsyncIterator[None]:
    """Create the schedule meanwhile, unless it was there once: what somebody made of it stays."""
    task = asyncio.create_task(_keep(runtime))
    try:
        yield
    finally:
        await cancel(task)


async def _keep(runtime: Runtime) -> None:
    if runtime.gateway is None or not runtime.settings.cleanup:
        return
    try:
        await runtime.look(runtime.settings.tenant, "schedule.get", {"id": CLEANUP})
    except NotFound:
        body = {**SCHEDULE, "allow_unknown": True}
        await _create(runtime.client(actor="horae"), body)
    except HoraeError as error:
        _log.warning(LATER, reason=str(error))


async def _create(client: Client, body: dict[str, Any]) -> None:
    try:
        await client.command("schedule.create", body)
    except HoraeError as error:
        _log.warning(LATER, reason=str(error))
