"""Keeps an executor from taking work while its process is over its bounds (G12)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from horae.ending import cancel
from horae_application.log import get_logger
from horae_infrastructure.settings import Settings
from horae_infrastructure.usage import ProcessUsage
from horae_workers.bounds import EVERY, Bounds
from horae_workers.executor import Executor

if TYPE_CHECKING:
    from horae.runtime import Runtime

_log = get_logger("horae.executor")


async def watch(
    stack: AsyncExitStack,
    executor: Executor,
    runtime: Runtime,
    changed: Callable[[str | None], None] | None = None,
) -> None:
    """Look at once, and then every second until the stack unwinds.

    Args:
        stack: of the process.
        executor: what is restrained.
        runtime: whose settings have the bounds, which may change.
        changed: told which bound it is over, whenever that is another one.
    """
    settings = runtime.settings
    bounds = Bounds(ProcessUsage(), max_memory=settings.max_memory, max_cpu=settings.max_cpu)

    def look() -> None:
        before, over = executor.over, bounds.look()
        executor.restrain(over)
        if (before is None) != (over is None):
            _log.warning("no new work is taken" if over else "new work is taken again", over=over)
        if before != over and changed is not None:
            changed(over)

    async def keep() -> None:
        while True:
            await asyncio.sleep(EVERY)
            if bounds.any:
                look()

    def change(told: Settings) -> None:
        bounds.set(max_memory=told.max_memory, max_cpu=told.max_cpu)
        look()

    look()
    runtime.on_change.append(change)
    stack.push_async_callback(cancel, asyncio.create_task(keep()))
