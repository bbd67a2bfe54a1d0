"""The child's side of a handler with isolation `process`."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import msgspec
from pydantic_core import to_jsonable_python

from horae_application.context import Context
from horae_application.control import Control
from horae_application.registry import Handler, inspect_handler
from horae_application.result import outcome_of
from horae_application.work import Work
from horae_infrastructure.isolated_child import found

OFTEN = 0.1
"""Seconds within which a further heartbeat is not worth the parent's time."""


def call(argument: dict[str, Any]) -> dict[str, Any]:
    """Run the handler and make up the body of its report.

    Raises:
        asyncio.CancelledError: it was asked to stop, by SIGTERM.
    """
    function = found(argument["target"], argument["main"])
    handler = inspect_handler(argument["target"], function)
    control = Control(_Writer(argument["beats"]).beat)
    context = Context(msgspec.convert(argument["work"], Work), control=control)
    arguments = handler.call_arguments(context)
    try:
        if handler.asynchronous:
            value = asyncio.run(_awaited(handler, arguments, control))
        else:
            signal.signal(signal.SIGTERM, lambda *_: _interrupt(control))
            value = handler.function(*arguments)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    body: dict[str, Any] = to_jsonable_python(outcome_of(value) | {"logs": context.logs})
    return body


def _interrupt(control: Control) -> None:
    """End synchronous code where it is, once; what it returns after all counts."""
    if not control.asked:
        control.stop()
        raise asyncio.CancelledError("asked to stop")


async def _awaited(handler: Handler, arguments: tuple[Any, ...], control: Control) -> Any:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine is run by a task
    control.by(task.cancel)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, control.stop)
    return await handler.function(*arguments)


class _Writer:
    """Tells the parent of heartbeats."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._last = float("-inf")

    def beat(self, progress: Any) -> None:
        if time.monotonic() - self._last >= OFTEN:
            self._last = time.monotonic()
            os.write(self._descriptor, msgspec.json.encode(progress) + b"\n")
