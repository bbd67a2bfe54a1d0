"""Heartbeats on their way to whoever owns the attempt: the latest one, not too often."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

Send = Callable[[Any], Awaitable[None]]

EVERY = 1.0
"""Seconds between heartbeats where the schedule has no heartbeat timeout."""


def interval_of(timeout: float | None) -> float:
    """Seconds between heartbeats: a third of the timeout, if there is one."""
    return EVERY if timeout is None else timeout / 3


class Beats:
    """Of one attempt: the first goes out at once, of those that follow the latest in each interval.

    Args:
        send: carries a progress to the owner; it handles its own errors.
        interval: seconds between two.
        now: seconds of the clock by which intervals count.
    """

    def __init__(self, send: Send, interval: float, now: Callable[[], float]) -> None:
        self._send = send
        self._interval = interval
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._due = False
        self._sent = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Future[None]] = set()
        self.latest: Any = None
        """The progress that was told last."""

    def beat(self, progress: Any) -> None:
        """Take a heartbeat; from any thread."""
        with self._lock:
            if progress is not None:
                self.latest = progress
            due, self._due = self._due, True
        if not due:
            self._loop.call_soon_threadsafe(self._schedule)

    def _schedule(self) -> None:
        wait = self._sent + self._interval - self._now()
        if wait <= 0:
            self._fire()
        else:
            self._timer = self._loop.call_later(wait, self._fire)

    def _fire(self) -> None:
        with self._lock:
            self._due, progress = False, self.latest
        self._sent = self._now()
        task = asyncio.ensure_future(self._send(progress))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """The attempt has ended."""
        self._due = True  # what comes now goes nowhere
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
