"""Something that goes on beside a block, and ends it if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from horae.ending import cancel


@asynccontextmanager
async def accompanied(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` beside the block; it ends with the block, and its failure ends the block.

    Raises:
        Exception: that of the work, in place of the cancellation by which the block has ended.
    """
    block = asyncio.current_task()
    assert block is not None  # noqa: S101 - a coroutine runs in a task
    failed = left = False

    def ended(task: asyncio.Task[None]) -> None:
        nonlocal failed
        if not left and _failure(task) is not None:
            failed = True
            block.cancel()

    beside = asyncio.create_task(work)
    beside.add_done_callback(ended)
    try:
        yield
    except asyncio.CancelledError:
        if not failed or block.uncancel() > 0:  # somebody else has cancelled it, too
            raise
    finally:
        left = True
        failure = _failure(beside)
        await cancel(beside)
    if failure is not None:
        raise failure


def _failure(task: asyncio.Task[None]) -> BaseException | None:
    return task.exception() if task.done() and not task.cancelled() else None
