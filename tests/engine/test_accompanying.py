"""What goes on beside a block ends with it, and ends it if it fails."""

from __future__ import annotations

import asyncio

import pytest

from horae.accompanying import accompanied


async def fails(after: asyncio.Event) -> None:
    await after.wait()
    raise ValueError("no")


async def test_a_failure_ends_the_block_and_is_raised_in_its_place() -> None:
    now = asyncio.Event()

    async def block() -> None:
        async with accompanied(fails(now)):
            now.set()
            await asyncio.Event().wait()

    with pytest.raises(ValueError, match="no"):
        await block()
    await asyncio.sleep(0)  # nothing of the cancellation is left


async def test_a_failure_as_the_block_ends_is_raised_and_cancels_nothing_after_it() -> None:
    async def fails_at_once() -> None:
        raise ValueError("no")

    async def block() -> None:
        async with accompanied(fails_at_once()):
            await asyncio.sleep(0)  # the work fails in the turn in which this comes back

    with pytest.raises(ValueError, match="no"):
        await block()
    await asyncio.sleep(0)  # nothing of a cancellation comes


async def test_what_goes_on_ends_with_the_block() -> None:
    ended = asyncio.Event()

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with accompanied(goes_on()):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_a_failure_of_the_block_stays_its_own() -> None:
    with pytest.raises(KeyError):
        async with accompanied(fails(asyncio.Event())):
            raise KeyError


async def test_who_cancels_the_block_besides_is_heard() -> None:
    now = asyncio.Event()

    async def block() -> None:
        async with accompanied(fails(now)):
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    task = asyncio.create_task(block())
    await asyncio.sleep(0)
    now.set()
    with pytest.raises(asyncio.CancelledError):
        await task
