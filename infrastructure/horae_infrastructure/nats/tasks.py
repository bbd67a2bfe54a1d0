"""Requests in progress, bounded, and an end in order."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import nats.errors
from nats.aio.subscription import Subscription

from horae_application.log import get_logger

_log = get_logger("horae.nats")


class Tasks:
    """Tasks of their own for what arrives; the loop of a subscription must not wait for them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._running: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def full(self) -> bool:
        """True if no more should be started."""
        return len(self._running) >= self.limit

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run it; it handles its own errors."""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._discard)
        return task

    async def room(self) -> int:
        """Wait until one more may be started; how many may."""
        while self.full:
            self._ended.clear()
            await self._ended.wait()
        return self.limit - len(self._running)

    def _discard(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ended.set()

    async def finish(self, limit: float) -> None:
        """Wait up to `limit` seconds for those that run, then cancel them."""
        if not self._running:
            return
        _, late = await asyncio.wait(set(self._running), timeout=limit)
        await cancel(*late)


async def cancel(*tasks: asyncio.Task[None]) -> None:
    """End tasks.

    `asyncio.wait_for` of Python 3.11 and nats-py swallow a cancellation that meets an answer, so it
    is repeated until it is heard.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)


async def drain(subscription: Subscription, limit: float) -> None:
    """End a subscription after the messages that it already has; without a connection, at once."""
    try:
        await asyncio.wait_for(subscription.drain(), limit)  # type: ignore[no-untyped-call]
    except (nats.errors.Error, TimeoutError) as error:
        _log.info("drain_incomplete", subject=subscription.subject, error=str(error))
