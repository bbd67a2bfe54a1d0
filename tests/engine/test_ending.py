"""Background tasks end when they are told to."""

from __future__ import annotations

import asyncio

import pytest

from horae.ending import cancel


async def test_task_whose_driver_swallows_a_cancellation_ends() -> None:
    heard = 0

    async def deaf() -> None:
        nonlocal heard
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                heard += 1
                if heard > 1:
                    raise

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await asyncio.wait_for(cancel(task), 60)
    assert task.cancelled()


@pytest.mark.parametrize("begun", [True, False])
async def test_task_that_fails_at_its_end_disturbs_nobody(*, begun: bool) -> None:
    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("at the end")

    task = asyncio.create_task(failing())
    if begun:
        await asyncio.sleep(0)
    await asyncio.wait_for(cancel(task), 60)
    assert task.done()
