"""The end of a background task."""

from __future__ import annotations

import asyncio
from typing import Any


async def cancel(task: asyncio.Task[Any]) -> None:
    """End a task, whatever it ends with.

    The drivers use `asyncio.wait_for`, which on Python 3.11 swallows a cancellation that meets an
    answer, so it is repeated until it is heard.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
    if not task.cancelled():
        task.exception()  # else asyncio complains that nobody has looked
