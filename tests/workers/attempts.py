"""Handlers for the executor's tests; those that run in a process of their own are found here."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from horae_application.context import Context
from horae_application.result import Result
from horae_application.work import Work

DUE = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


class Order(BaseModel):
    number: int
    items: list[str] = []


def work(name: str = "work", *, isolation: str = "inline", **told: Any) -> Work:
    defaults: dict[str, Any] = {
        "execution_id": "00000000-0000-0000-0000-000000000001",
        "schedule_id": "job",
        "tenant": "default",
        "attempt": 1,
        "lease": "1.1",
        "due": DUE,
        "action": {"type": "function", "name": name, "isolation": isolation},
    }
    return Work(**(defaults | told))


def alone(context: Context, order: Order) -> dict[str, Any]:
    context.log("alone", pid=os.getpid())
    return {"pid": os.getpid(), "number": order.number, "attempt": context.attempt}


def dies(context: Context) -> None:
    os._exit(7)


def exits(context: Context) -> None:
    raise SystemExit(3)


def hangs(context: Context) -> None:
    time.sleep(60)


async def raises(context: Context) -> None:
    raise LookupError("in the child")


def asks_again(context: Context) -> Result:
    return Result.again(after="5 seconds", limit=2)


def waits(context: Context) -> str:
    """Tells that it is there, and waits until it is asked to stop; then it cleans up."""
    try:
        context.heartbeat({"pid": os.getpid()})
        time.sleep(60)
    finally:
        context.log("swept", cancelled=context.cancelled)
    return "never"


def answers_after_all(context: Context) -> str:
    try:
        context.heartbeat("there")
        time.sleep(60)
    except asyncio.CancelledError:
        return "partial"
    return "never"


async def awaits(context: Context) -> str:
    try:
        context.heartbeat("there")
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        if context.payload == "answer":
            return "partial"
        raise
    return "never"


def deaf(context: Context) -> None:
    """Takes no notice of signals."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.heartbeat("there")
    time.sleep(60)
