"""A test kit: an engine on a clock that the test moves.

```python
async with testing.engine(app) as engine:
    await engine.advance("24 hours")
    assert (await engine.get_schedule("daily"))["statistics"]["succeeded"] == 1
```
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from horae.app import Horae
from horae.client import Client, Json
from horae.declaring import declare, warn_of_unserved
from horae.probes import probes
from horae.runtime import Runtime
from horae.serving import Serving
from horae_application.dead_letters import Look
from horae_application.engine import Committed, Engine
from horae_application.gateway import Gateway
from horae_application.ownership import Ownership
from horae_application.ports import StoredEvent
from horae_application.services import OwnServices
from horae_application.task import Task
from horae_domain.codec import decode
from horae_domain.durations import parse_duration
from horae_domain.events import Event
from horae_domain.instants import from_micros, parse_instant, to_micros
from horae_domain.replaying import ReplayDiffers
from horae_domain.replaying import replay as replayed
from horae_domain.stages import StageCommand
from horae_infrastructure.children import ChildProcesses
from horae_infrastructure.settings import Settings
from horae_infrastructure.store.memory import MemoryStore
from horae_infrastructure.views.memory import MemoryViews
from horae_projections.projector import Projector
from horae_projections.queries import Queries
from horae_workers.checker import Checker
from horae_workers.executor import Executor

__all__ = ["ManualClock", "ReplayDiffers", "TestEngine", "engine", "replay"]

PATIENCE = 10.0
"""Real seconds that a handler may take before the clock moves on without it."""


WINDOW = to_micros(datetime(1970, 2, 1, tzinfo=UTC))
"""Timers of a month are read at once, so that nobody stops on the way for more."""


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """The present of the test."""
        return self._now

    def monotonic(self) -> float:
        """Seconds, moved with the clock."""
        return self._now.timestamp()

    def move_to(self, instant: datetime) -> None:
        """Let it be another time."""
        self._now = instant


class _StepEngine(Engine):
    """Decides on the event loop when it is told, instead of in a thread of its own."""

    def submit(self, task: Task) -> None:
        super().submit(task)
        asyncio.get_running_loop().call_soon(self.step)


class TestEngine(Client):
    """The client's calls, and `advance`."""

    __test__ = False

    def __init__(self, runtime: Runtime, clock: ManualClock, fresh: _Fresh) -> None:
        self._runtime = runtime
        self._clock = clock
        self._fresh = fresh
        self._hung = 0
        super().__init__(_Caller(fresh, runtime), runtime.registry.cqrs)

    @property
    def now(self) -> datetime:
        """The present of the test."""
        return self._clock.now()

    async def advance(self, by: str | float | timedelta) -> None:
        """Move the clock, stopping at every instant at which something is due.

        Handlers run to their end at each stop; one that takes longer than `PATIENCE` real seconds
        is left running while the time goes on, so that its timeout comes.
        """
        await self.advance_to(self.now + parse_duration(by, field="by"))

    async def advance_to(self, target: str | datetime) -> None:
        """The same up to an instant."""
        instant = parse_instant(target, field="target")
        engine = self._runtime.engine
        assert engine is not None  # noqa: S101 - the kit has made it
        while True:
            await self.settle()
            wake = engine.next_wake()
            if wake is None or wake > to_micros(instant):
                break
            if wake > to_micros(self.now):
                self._clock.move_to(from_micros(wake))
        self._clock.move_to(instant)
        await self.settle()

    async def outage(self, by: str | float | timedelta) -> None:
        """Let the time pass with the engine down: what came due is decided when it is back."""
        self._clock.move_to(self.now + parse_duration(by, field="by"))
        await self.settle()

    def log(self) -> Sequence[StoredEvent]:
        """Every event that was recorded, in order; `horae_domain.codec.decode` reads it."""
        assert self._runtime.store is not None  # noqa: S101 - the kit has made it
        return self._runtime.store.read(0, self._runtime.store.head())

    async def settle(self) -> None:
        """Let everything happen that happens at this instant."""
        engine, executor = self._runtime.engine, self._runtime.executor
        assert engine is not None  # noqa: S101
        assert executor is not None  # noqa: S101
        assert self._runtime.checker is not None  # noqa: S101
        checker = self._runtime.checker
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            before = engine.committed
            while engine.step() == 0.0:
                pass
            await asyncio.sleep(0)
            running = executor.running + checker.running
            if engine.committed == before and running <= self._hung:
                break
            if running and asyncio.get_running_loop().time() > deadline:
                self._hung = running
                break
            if running > self._hung:
                await asyncio.sleep(0.0005)
        self._hung = min(self._hung, executor.running + checker.running)
        await self._fresh()


class _Fresh:
    """Brings the views up to date, for one at a time: the test, or handlers that run side by side."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._turn = asyncio.Lock()

    async def __call__(self) -> None:
        assert self._runtime.projector is not None  # noqa: S101 - the kit has made it
        async with self._turn:
            await self._runtime.projector.catch_up()


class _Caller:
    """Requests of the test and its handlers, with views brought up to date before a query."""

    def __init__(self, fresh: _Fresh, runtime: Runtime, tenant: str | None = None) -> None:
        self._fresh = fresh
        self._local = runtime.caller(tenant)
        self._runtime = runtime

    def in_tenant(self, tenant: str) -> _Caller:
        return _Caller(self._fresh, self._runtime, tenant)

    async def command(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        return await self._local.command(
            name, body, key=key, correlation_id=correlation_id, headers=headers
        )

    async def query(self, name: str, body: Mapping[str, Any]) -> Json:
        await self._fresh()
        return await self._local.query(name, body)


@asynccontextmanager
async def engine(
    app: Horae | None = None,
    *,
    start: str | datetime = datetime(2026, 1, 1, tzinfo=UTC),
    concurrency: int = 16,
    allow_processes: bool = False,
    **settings: Any,
) -> AsyncIterator[TestEngine]:
    """An engine in memory at `start`, with the application's handlers and schedules.

    Settings are told by name, such as `http_networks="127.0.0.0/8"`.
    """
    served = app or Horae("test")
    clock = ManualClock(parse_instant(start, field="start"))
    runtime = Runtime(
        Settings.read(store_url="memory://", concurrency=concurrency, **settings),
        ("engine",),
        served.registry,
    )
    fresh = _Fresh(runtime)
    store = MemoryStore(clock=lambda: to_micros(clock.now()))
    views = MemoryViews()
    runtime.store = runtime.log = store
    runtime.projector = Projector(store, views)
    runtime.queries = Queries(
        views, store, probes=partial(probes, runtime), progress=runtime.projector, now=clock.now
    )
    runtime.executor = Executor(
        served.registry,
        runtime.report,
        heartbeat=runtime.heartbeat,
        concurrency=concurrency,
        children=ChildProcesses(),
        allow_processes=allow_processes,
        now=clock.now,
        client=Client(_Caller(fresh, runtime), served.registry.cqrs),
        services=OwnServices(served.registry.commands),
        calls=runtime.calls,
        tracing=runtime.tracing,
        cache=runtime.cache.client,
    )
    runtime.executor.bind(asyncio.get_running_loop())
    runtime.checker = Checker(
        served.registry,
        runtime.answer_check,
        now=clock.now,
        client=Client(_Caller(fresh, runtime), served.registry.cqrs),
    )
    runtime.checker.bind(asyncio.get_running_loop())
    runtime.engine = _StepEngine(
        store,
        clock,
        Ownership(store, "test"),
        executor=runtime.executor,
        checker=runtime.checker,
        listener=_ignore,
    )
    runtime.engine.lines.window = WINDOW
    if runtime.queries is not None:
        runtime.queries.progress_of = runtime.engine.lines.pulse.progress_of
    runtime.gateway = Gateway(
        runtime.engine,
        Serving(served.registry, processes=allow_processes, calls=runtime.calls is not None),
        look=_look(fresh, runtime),
        tracing=runtime.tracing,
    )
    runtime.engine.step()
    await fresh()
    tested = TestEngine(runtime, clock, fresh)
    try:
        warn_of_unserved(served.schedules, served.registry)
        await declare(tested, served.schedules)
        yield tested
    finally:
        await runtime.checker.stop()
        await runtime.executor.drain(0)
        await runtime.cache.close()
        store.close()


def replay(events: Iterable[StoredEvent | Event]) -> dict[str, list[StageCommand]]:
    """What each execution was told to do, by its events alone.

    Args:
        events: all of an engine (`engine.log()`), or those of some schedules and their executions, in
            order.

    Returns:
        By the execution's id its commands: each has an `id`, which is the same for all attempts
        and in every replay, the `stage`, the `action` and the `payload`.

    Raises:
        ReplayDiffers: an attempt that was begun is not what its events lead to now.
    """
    return replayed(
        decode(event.name, event.state) if isinstance(event, StoredEvent) else event
        for event in events
    )


def _look(fresh: _Fresh, runtime: Runtime) -> Look:
    """Queries of the gateway, with views brought up to date before."""

    async def look(tenant: str, name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        await fresh()
        return await runtime.look(tenant, name, body)

    return look


def _ignore(committed: Committed) -> None:
    """Views read the log before each query."""
    del committed
