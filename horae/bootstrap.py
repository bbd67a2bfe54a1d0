"""The composition root: settings in, a running engine out.

Every part is made here by a plain constructor call, in the branch that needs it, and ended in the
reverse order. Nothing else imports adapters.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from horae.driving import Drive, Driver, ManualEngine
from horae.ending import cancel
from horae.following import follow
from horae.probes import probes
from horae.process_name import process_name
from horae.restraint import watch
from horae.runtime import Runtime
from horae.serving import Serving
from horae_application.engine import Committed, Deliver, Engine, deliver_here
from horae_application.gateway import Gateway
from horae_application.log import get_logger
from horae_application.messages import Reply
from horae_application.ownership import Ownership
from horae_application.pace import LINGER
from horae_application.ports import Clock, EventStore, Forwarder, WorkBus
from horae_application.registry import Registry, listening
from horae_application.services import OwnServices
from horae_domain.retention import Retention
from horae_infrastructure.children import children_of
from horae_infrastructure.clock import SystemClock
from horae_infrastructure.settings import Settings
from horae_infrastructure.store import open_store
from horae_infrastructure.store.log import open_log
from horae_projections.ports import ViewStore, ViewUnavailable
from horae_projections.projector import Projector
from horae_projections.queries import Queries
from horae_workers.checker import Checker
from horae_workers.executor import Executor

FIRST_LOOK = 2.0
"""Seconds that a start waits for the views."""
JOIN = 10.0
"""Seconds that the engine may need for its last round."""
ROLES = ("engine", "executor", "views")
"""What a process can do; all of it unless told."""

_log = get_logger("horae")


@asynccontextmanager
async def bootstrap(
    settings: Settings,
    registry: Registry,
    *,
    roles: Collection[str] = ROLES,
    app: str = "app",
    clock: Clock | None = None,
    drive: Drive = "thread",
) -> AsyncIterator[Runtime]:
    """Build and run a process; on leaving, running handlers are drained and all is closed."""
    runtime = Runtime(settings, roles, registry)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(runtime.cache.close)
        bus = None
        if settings.nats_url is not None:
            from horae.wiring_nats import NatsWiring

            bus = await NatsWiring.open(stack, runtime, registry, app)
        if "engine" in roles:
            runtime.store = runtime.log = await asyncio.to_thread(_open, settings)
            stack.push_async_callback(asyncio.to_thread, runtime.store.close)
        elif "views" in roles:
            data = settings.data_dir
            runtime.log = await asyncio.to_thread(open_log, settings.store_url, data_dir=data)
            stack.push_async_callback(asyncio.to_thread, runtime.log.close)
        if "views" in roles:
            await _add_views(stack, runtime)
        if "engine" in roles:
            await _add_engine(stack, runtime, clock or SystemClock(), bus, drive)
        if bus is not None:
            await bus.serve(stack)
        stack.callback(runtime.end)
        yield runtime


def retention_of(settings: Settings) -> Retention:
    """How long what has ended is kept."""
    return Retention(
        successes=timedelta(days=settings.keep_successes),
        failures=timedelta(days=settings.keep_failures),
        once=timedelta(days=settings.keep_once),
        keys=timedelta(days=settings.keep_keys),
    )


def _open(settings: Settings) -> EventStore:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return open_store(
        settings.store_url,
        data_dir=settings.data_dir,
        allow_unsafe=settings.allow_unsafe_store,
    )


async def _add_views(stack: AsyncExitStack, runtime: Runtime) -> None:
    assert runtime.log is not None  # noqa: S101 - opened for this role
    views = _views(runtime.settings.redis_url)
    stack.push_async_callback(views.close)
    try:
        await views.check()
    except ViewUnavailable as error:  # they are a copy: all but queries goes on without them
        _log.warning("no views yet, queries wait for them", error=str(error))
    alone = runtime.store is not None and runtime.store.single_process
    behind = partial(_behind, runtime)
    runtime.projector = Projector(runtime.log, views, alone=alone, behind=behind)
    runtime.queries = Queries(
        views, runtime.log, probes=partial(probes, runtime), progress=runtime.projector
    )
    task = asyncio.create_task(runtime.projector.run())
    stack.push_async_callback(cancel, task)
    await _first_look(runtime.projector)


def _behind(runtime: Runtime) -> bool:
    """True while this process's engine, if it has one, has not begun what is due."""
    return runtime.engine is not None and runtime.engine.behind


async def _first_look(projector: Projector) -> None:
    """Let a view that is soon there be there before the first query; a long rebuild goes on."""
    end = asyncio.get_running_loop().time() + FIRST_LOOK
    while projector.position is None or projector.rebuilding:
        if asyncio.get_running_loop().time() > end:
            return
        await asyncio.sleep(0.002)


def _views(url: str | None) -> ViewStore:
    if url is None or url.startswith("memory://"):
        from horae_infrastructure.views.memory import MemoryViews

        return MemoryViews()
    from horae_infrastructure.views.redis import RedisViews

    return RedisViews(url)


async def _add_engine(
    stack: AsyncExitStack, runtime: Runtime, clock: Clock, bus: Any, drive: Drive
) -> None:
    if "executor" in runtime.roles:
        await _add_executor(stack, runtime, clock, bus)
    runtime.checker = _checker(runtime, clock, bus)
    stack.push_async_callback(runtime.checker.stop)
    engine = runtime.engine = _engine(runtime, clock, bus, drive)
    if runtime.executor is not None:
        runtime.executor.freed = engine.wake
        stack.enter_context(listening(runtime.registry, engine.look_again))
    if bus is not None:
        bus.announced.changed = engine.wake
    if runtime.queries is not None:
        runtime.queries.progress_of = engine.lines.pulse.progress_of
    elif bus is not None:
        runtime.elsewhere = bus.query
    forwarder: Forwarder | None = bus.forwarder if bus is not None else None
    runtime.gateway = Gateway(
        engine,
        _serving(runtime, bus),
        forwarder,
        look=runtime.look,
        tracing=runtime.tracing,
    )
    if isinstance(engine, ManualEngine):
        await _take_turns(stack, runtime, engine)
    else:
        _start_thread(stack, runtime, engine)


async def _add_executor(stack: AsyncExitStack, runtime: Runtime, clock: Clock, bus: Any) -> None:
    executor = runtime.executor = Executor(
        runtime.registry,
        runtime.report,
        heartbeat=runtime.heartbeat,
        concurrency=runtime.settings.concurrency,
        children=children_of(runtime.settings),
        allow_processes=runtime.settings.allow_processes,
        now=clock.now,
        client=runtime.client(),
        services=bus.services if bus is not None else OwnServices(runtime.registry.commands),
        calls=runtime.calls,
        tracing=runtime.tracing,
        cache=runtime.cache.client,
    )
    executor.bind(asyncio.get_running_loop())
    await watch(stack, executor, runtime, bus.restrained if bus is not None else None)
    runtime.on_change.append(lambda settings: executor.resize(settings.concurrency))


def _checker(runtime: Runtime, clock: Clock, bus: Any) -> Checker:
    checker = Checker(
        runtime.registry if "executor" in runtime.roles else Registry(),
        runtime.answer_check,
        elsewhere=bus.checks if bus is not None else None,
        now=clock.now,
        client=runtime.client(),
    )
    checker.bind(asyncio.get_running_loop())
    return checker


def _engine(runtime: Runtime, clock: Clock, bus: Any, drive: Drive) -> Engine:
    assert runtime.store is not None  # noqa: S101 - opened for this role
    name = process_name()
    work_bus: WorkBus | None = bus.work_bus if bus is not None else None
    engine = (Engine if drive == "thread" else ManualEngine)(
        runtime.store,
        clock,
        Ownership(runtime.store, name, bus.address(name) if bus is not None else ""),
        executor=runtime.executor,
        bus=work_bus,
        checker=runtime.checker,
        deliver=_on(asyncio.get_running_loop()),
        linger=LINGER if drive == "thread" else 0.0,
        listener=_listener(runtime),
    )

    def bound(told: Settings) -> None:
        engine.max_waiting = told.max_waiting
        engine.deciding.max_event_age = timedelta(seconds=told.event_max_age)
        engine.deciding.retention = retention_of(told)

    bound(runtime.settings)
    runtime.on_change.append(bound)
    return engine


def _serving(runtime: Runtime, bus: Any) -> Serving:
    executes = "executor" in runtime.roles
    return Serving(
        runtime.registry if executes else None,
        bus.announced if bus is not None else None,
        processes=executes and runtime.settings.allow_processes,
        calls=executes and runtime.calls is not None,
        find=bus.find if bus is not None else None,
        find_check=bus.find_check if bus is not None else None,
    )


async def _take_turns(stack: AsyncExitStack, runtime: Runtime, engine: ManualEngine) -> None:
    assert runtime.executor is not None  # noqa: S101 - who drives by hand executes here
    assert runtime.checker is not None  # noqa: S101 - it was made
    runtime.driver = Driver(engine, runtime.executor, runtime.checker)
    await runtime.driver.take_turn()
    stack.push_async_callback(_stop_driver, runtime, runtime.driver)


def _start_thread(stack: AsyncExitStack, runtime: Runtime, engine: Engine) -> None:
    assert runtime.store is not None  # noqa: S101 - opened for this role
    thread = threading.Thread(target=engine.run, name="horae-engine", daemon=True)
    thread.start()
    if engine.tail is not None:
        follow(stack, engine, runtime.store)
    stack.push_async_callback(_stop_engine, runtime, thread)


def _on(loop: asyncio.AbstractEventLoop) -> Deliver:
    """Replies are handed to whoever waits for them on the loop."""

    def deliver(replies: Sequence[tuple[Callable[[Reply], None], Reply]]) -> None:
        loop.call_soon_threadsafe(deliver_here, replies)

    return deliver


def _listener(runtime: Runtime) -> Any:
    projector = runtime.projector

    def listen(committed: Committed) -> None:
        if projector is not None:
            projector.hint(committed.positions, committed.events)

    return listen


async def _stop_driver(runtime: Runtime, driver: Driver) -> None:
    assert runtime.executor is not None  # noqa: S101 - it was made
    await runtime.executor.drain(runtime.ending.for_work)
    await driver.close()


async def _stop_engine(runtime: Runtime, thread: threading.Thread) -> None:
    if runtime.executor is not None:
        await runtime.executor.drain(runtime.ending.for_work)
    assert runtime.engine is not None  # noqa: S101 - it was made
    runtime.engine.stop()
    await asyncio.to_thread(thread.join, runtime.ending.at_most(JOIN))
    if runtime.executor is not None:
        await runtime.executor.drain(0)  # what was handed over while the others were drained
