"""Runs conditions and checks for the engine of this process, or asks other processes for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from horae_application.checks import (
    Ask,
    Elsewhere,
    Nobody,
    answer_of,
    data_of,
    error_of,
    truth_of,
)
from horae_application.context import Context
from horae_application.failing import Failing
from horae_application.log import get_logger
from horae_application.messages import CheckAnswered, Reply, TickAnswered
from horae_application.registry import Registry
from horae_application.threads import in_thread
from horae_application.work import Work

SLOTS = 64
"""Questions at once; further ones wait."""

Answerer = Callable[[str, CheckAnswered | TickAnswered], Awaitable[Reply]]
"""Brings an answer of a tenant to the engine."""

_log = get_logger("horae.checker")


class Checker:
    """The port `CheckRunner`: each question in a task of its own, on the application's loop.

    Args:
        registry: what this process serves.
        answer: brings the answers to the engine.
        elsewhere: asks other processes for what this one does not serve.
        now: the time.
        client: the engine's commands and queries, for the functions' context.
    """

    def __init__(
        self,
        registry: Registry,
        answer: Answerer,
        *,
        elsewhere: Elsewhere | None = None,
        now: Callable[[], datetime] | None = None,
        client: Any = None,
    ) -> None:
        self._registry = registry
        self._answer = answer
        self._elsewhere = elsewhere or Nobody()
        self._now = now
        self._client = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = asyncio.Semaphore(SLOTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._coming = 0
        self._failing = Failing()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run on this loop."""
        self._loop = loop

    @property
    def running(self) -> int:
        """Questions without an answer."""
        return self._coming + len(self._tasks)

    def ask(self, asks: Sequence[Ask]) -> None:
        """Find the answers; from the engine's thread."""
        assert self._loop is not None  # noqa: S101 - bound before the engine starts
        self._coming += len(asks)
        self._loop.call_soon_threadsafe(self._begin, asks)

    async def one_answered(self, seconds: float) -> None:
        """Wait until one of the questions has its answer, at most so long."""
        tasks = list(self._tasks)
        if tasks:
            limit = None if seconds == float("inf") else seconds
            await asyncio.wait(tasks, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Answer no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, asks: Sequence[Ask]) -> None:
        loop = asyncio.get_running_loop()
        for ask in asks:
            self._coming -= 1
            task = loop.create_task(self._find(ask))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _find(self, ask: Ask) -> None:
        async with self._slots:
            answer = await (self._tick(ask) if ask.tick else self._verdict(ask))
        pause = 0.05
        while True:
            reply = await self._answer(ask.work.tenant, answer)
            moved = (reply.body.get("error") or {}).get("moved")
            if reply.status != 503 or moved:  # noqa: PLR2004 - unavailable: nothing was decided
                return
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)

    async def _verdict(self, ask: Ask) -> CheckAnswered:
        id_ = ask.work.execution_id
        for name in ask.names:
            try:
                met = truth_of(await answer_of(ask.work, name, self._call))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is recorded
                self._failed("condition", ask.work, name, error)
                failed = error_of(error)
                return CheckAnswered(execution_id=id_, met=False, condition=name, error=failed)
            self._answers("condition", ask.work, name)
            if not met:
                return CheckAnswered(execution_id=id_, met=False, condition=name)
        return CheckAnswered(execution_id=id_, met=True)

    async def _tick(self, ask: Ask) -> TickAnswered:
        work, (name,) = ask.work, ask.names
        told: dict[str, Any] = {"id": work.schedule_id, "tick": work.due, "revision": work.revision}
        try:
            holds, data = data_of(await answer_of(work, name, self._call), ask.when)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is recorded
            self._failed("check", work, name, error)
            return TickAnswered(**told, holds=False, error=error_of(error))
        self._answers("check", work, name)
        return TickAnswered(**told, holds=holds, data=data)

    def _failed(self, kind: str, work: Work, name: str, error: Exception) -> None:
        if self._failing.fails((work.tenant, work.schedule_id, name), str(error)):
            told = {kind: name, "schedule_id": work.schedule_id, "error": str(error)}
            _log.warning(f"{kind} failed", **told)

    def _answers(self, kind: str, work: Work, name: str) -> None:
        if self._failing.works((work.tenant, work.schedule_id, name)):
            _log.info(f"{kind} answers again", **{kind: name, "schedule_id": work.schedule_id})

    async def _call(self, work: Work, name: str) -> Any:
        handler = self._registry.checks.get(name)
        if handler is None:
            return await self._elsewhere.check(work, name)
        context = Context(work, now=self._now, client=self._client, cqrs=self._registry.cqrs)
        arguments = handler.call_arguments(context)
        if handler.asynchronous:
            return await handler.function(*arguments)
        _, future = in_thread(lambda: handler.function(*arguments))
        return await future
