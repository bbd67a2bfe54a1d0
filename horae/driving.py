"""An engine that is driven by hand (C2): without a thread of its own, it fires when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from horae.client import Client, Json
from horae.commands import ScheduledCommand
from horae_application.engine import Engine
from horae_application.log import get_logger
from horae_application.task import Task
from horae_domain.errors import HoraeError, Unavailable
from horae_workers.checker import Checker
from horae_workers.executor import Executor

if TYPE_CHECKING:
    from horae.runtime import Runtime

Drive = Literal["thread", "manual"]

POLL = 60.0
"""Seconds after which a worker looks again though nobody has woken it."""

_log = get_logger("horae")


class ManualEngine(Engine):
    """Decides what it is asked in rounds that somebody else takes; `asked` is told of it."""

    asked: Callable[[], None] | None = None

    def submit(self, task: Task) -> None:
        """Ask for a decision; from any thread."""
        super().submit(task)
        self._tell()

    def wake(self) -> None:
        """Make it look around."""
        super().wake()
        self._tell()

    def _tell(self) -> None:
        if self.asked is not None:
            self.asked()


class Driver:
    """Takes the rounds of an engine, one at a time: for commands as they come, firing when told."""

    def __init__(self, engine: ManualEngine, executor: Executor, checker: Checker) -> None:
        self._engine = engine
        self._executor = executor
        self._checker = checker
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._pass = asyncio.Lock()
        self._news = False
        self._turning: asyncio.Task[None] | None = None
        self.pause = 0.0
        """Seconds after the last pass until something is due."""
        self.listeners: list[Callable[[], None]] = []
        """Called when something was decided outside a pass."""
        self._fire(False)
        engine.asked = self._asked

    async def take_turn(self) -> float:
        """One round; seconds until there is something to do by itself."""
        async with self._turn:
            return await asyncio.to_thread(self._engine.round)

    async def process_due(self) -> int:
        """Hand out what is due, wait for its end, and return how many attempts have ended.

        Raises:
            Unavailable: the store is not available.
        """
        async with self._pass:
            before = self._executor.done
            self._fire(True)
            try:
                while True:
                    self.pause = await self.take_turn()
                    if self._executor.busy:
                        await self._executor.one_ended(self.pause)
                    elif self._checker.running:
                        await self._checker.one_answered(self.pause)
                    elif self.pause > 0:
                        break
            finally:
                self._fire(False)
            if self._engine.store_error is not None:
                raise Unavailable(f"the store is not available: {self._engine.store_error}")
            return self._executor.done - before

    async def close(self) -> None:
        """Take the last round: what waits is refused, the partitions are given up."""
        self._engine.asked = None
        self._engine.stop()
        async with self._turn:
            await asyncio.to_thread(self._engine.run)

    def _fire(self, told: bool) -> None:
        self._engine.firing = told
        self._executor.open = told

    def _asked(self) -> None:
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._news = True
        if self._turning is None or self._turning.done():
            self._turning = self._loop.create_task(self._turns())

    async def _turns(self) -> None:
        while self._news:
            self._news = False
            if await self.take_turn() == 0.0:
                self._news = True
            if not self._pass.locked():
                for listener in self.listeners:
                    listener()


class DrivenClient(Client):
    """The calls of an engine that is driven by hand."""

    def __init__(self, runtime: Runtime, driver: Driver) -> None:
        super().__init__(runtime.caller(), runtime.registry.cqrs)
        self._runtime = runtime
        self._driver = driver

    async def query(self, name: str, body: Mapping[str, Any]) -> Json:
        """Any query by its name, answered from all that was decided before."""
        engine, store = self._runtime.engine, self._runtime.store
        assert engine is not None  # noqa: S101 - the driver has one
        assert store is not None  # noqa: S101 - and that has a store
        return await super().query(name, {**body, "min_position": engine.position(store.head())})

    async def due(self, limit: int = 100) -> list[ScheduledCommand]:
        """The commands that are due now and not yet handed out, soonest first."""
        return await self.due_at(datetime.now(UTC), limit)

    async def process_due(self) -> int:
        """Hand out what is due now, commands and schedules alike, and wait until it has ended.

        Returns:
            How many attempts have ended, well or not.

        Raises:
            Unavailable: the store is not available.
        """
        return await self._driver.process_due()

    def worker(self, *, poll_interval: float = POLL) -> Worker:
        """What processes the due ones by itself, from its start to its stop."""
        return Worker(self._driver, poll_interval)


class Worker:
    """Processes what is due, when it is due: woken by its instant, by commands, and by `trigger`.

    Args:
        driver: of the engine.
        poll_interval: seconds after which it looks again though nothing has woken it.
    """

    def __init__(self, driver: Driver, poll_interval: float = POLL) -> None:
        self._driver = driver
        self._poll = poll_interval
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Begin; once it has begun, this does nothing."""
        if self._task is None:
            self._stopping = False
            self._driver.listeners.append(self.trigger)
            self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """End after what runs at present."""
        if self._task is not None:
            self._driver.listeners.remove(self.trigger)
            self._stopping = True
            self.trigger()
            await self._task
            self._task = None

    def trigger(self) -> None:
        """Look now."""
        self._woken.set()

    async def run_once(self) -> int:
        """Process what is due now; how many attempts have ended."""
        return await self._driver.process_due()

    async def _work(self) -> None:
        while not self._stopping:
            self._woken.clear()
            try:
                await self.run_once()
            except HoraeError as error:
                _log.warning("due commands wait", reason=str(error))
                pause = self._poll
            else:
                pause = min(self._poll, self._driver.pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), pause)
