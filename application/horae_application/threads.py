"""Blocking code beside an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from horae_application.log import get_logger

Result = TypeVar("Result")

_log = get_logger("horae.threads")


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, asyncio.Future[Any]]:
    """Call in a daemon thread of its own, so that a call that never ends holds nobody up."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def body() -> None:
        value, failure = None, None
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001 - it is handed to whoever waits
            failure = error
            if _ends(error):
                failure = RuntimeError(f"handler raised {error!r}")
                failure.__cause__ = error
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:  # the loop has closed meanwhile, nobody waits
            _log.warning("a handler outlived its loop")

    context = contextvars.copy_context()  # of the trace, and of what else the caller has set
    thread = threading.Thread(target=context.run, args=(body,), daemon=True, name="horae-handler")
    thread.start()
    return thread, future


async def on_loop(
    loop: asyncio.AbstractEventLoop | None, call: Coroutine[Any, Any, Result]
) -> Result:
    """Wait for what runs on a loop, from that one or from the loop of another thread."""
    if loop is None or loop is asyncio.get_running_loop():
        return await call
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, loop))


def _ends(error: BaseException) -> bool:
    """True for what would end the loop that it is handed to."""
    ends = StopIteration | SystemExit | KeyboardInterrupt | GeneratorExit | asyncio.CancelledError
    return isinstance(error, ends)
