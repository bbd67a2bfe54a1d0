"""The end of a process and of its background tasks."""

from __future__ import annotations

import asyncio
import time
from typing import Any

RESERVE = 5.0
"""Seconds of a stop that are kept for what follows the handlers, or half of a short one."""
LEAST = 0.2
"""Seconds that each part of a process has to close, even when the time is over."""


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


class Ending:
    """The one limit of a stop, which all that ends in it shares.

    Args:
        limit: seconds from `begin` to the end.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._end: float | None = None

    def begin(self) -> None:
        """From now on the time runs; again is a no-op."""
        if self._end is None:
            self._end = time.monotonic() + self.limit

    @property
    def for_work(self) -> float:
        """Seconds that running handlers still have."""
        return max(0.0, self._left() - min(RESERVE, self.limit / 2))

    def at_most(self, seconds: float) -> float:
        """Seconds that a part may take to close, which could need so many."""
        return max(LEAST, min(seconds, self._left()))

    def _left(self) -> float:
        self.begin()
        assert self._end is not None  # noqa: S101 - it has begun
        return self._end - time.monotonic()
