"""The composition root: settings in, a running engine out.

Every part is made here by a plain constructor call, in the branch that needs it, and ended in the
reverse order. Nothing else imports adapters.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec

from horae.calls import calls_of
from horae.client import Client
from horae.driving import Drive, Driver, ManualEngine
from horae.ending import Ending, cancel
from horae.following import follow
from horae.probes import probes
from horae.process_name import process_name
from horae.restraint import watch
from horae_application.dead_letters import Look, nobody_looks
from horae_application.engine import LINGER, Committed, Deliver, Engine, deliver_here
from horae_application.gateway import Gateway, new_request
from horae_application.log import get_logger
from horae_application.messages import (
    CheckAnswered,
    Command,
    HeartbeatExecution,
    Reply,
    ReportExecution,
    Request,
    TickAnswered,
    refused,
)
from horae_application.ownership import Ownership
from horae_application.ports import Clock, EventStore, Forwarder, WorkBus
from horae_application.registry import Registry, listening
from horae_application.services import OwnServices
from horae_application.work import Work
from horae_domain.errors import HoraeError, error_from_json
from horae_domain.retention import Retention
from horae_domain.wire import validate
from horae_infrastructure.children import children_of
from horae_infrastructure.clock import SystemClock
from horae_infrastructure.settings import Settings
from horae_infrastructure.store import open_store
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


class Serving:
    """Which handlers somebody serves: this process's registry, and what others announce."""

    def __init__(
        self,
        registry: Registry | None,
        announced: Any = None,
        *,
        processes: bool = False,
        calls: bool = False,
        find: Callable[[str, str], Awaitable[bool]] | None = None,
        find_check: Callable[[str, str], Awaitable[bool]] | None = None,
    ) -> None:
        self._registry = registry
        self._announced = announced
        self._processes = processes
        self._calls = calls
        self._find = find
        self._find_check = find_check

    def serves(self, name: str) -> bool:
        """True if an executor has it."""
        here = self._registry is not None and self._registry.get(name) is not None
        return here or (self._announced is not None and self._announced.serves(name))

    def names(self) -> Iterable[str]:
        """All names."""
        here = set(self._registry.names()) if self._registry is not None else set()
        return here | set(self._announced.handlers() if self._announced is not None else ())

    def processes(self) -> bool:
        """True if an executor runs command lines."""
        return self._processes or (
            self._announced is not None
            and any(each.processes for each in self._announced.executors())
        )

    async def checks(self, tenant: str, name: str) -> bool:
        """True if this process or another one answers whether a condition is met."""
        if name in self.check_names(tenant):
            return True
        return self._find_check is not None and await self._find_check(tenant, name)

    def check_names(self, tenant: str) -> Iterable[str]:
        """Those of this process, and those that others announce."""
        here = set(self._registry.checks.names()) if self._registry is not None else set()
        return here | set(self._announced.checks(tenant) if self._announced is not None else ())

    def calls(self) -> bool:
        """True if an executor makes HTTP calls."""
        return self._calls or (
            self._announced is not None and any(each.calls for each in self._announced.executors())
        )

    async def answers(self, tenant: str, name: str) -> bool:
        """True if a service of this process or elsewhere answers a command."""
        if name in self.commands(tenant):
            return True
        return self._find is not None and await self._find(tenant, name)

    def commands(self, tenant: str) -> Iterable[str]:
        """Those of this process, and those that others announce."""
        here = set(self._registry.commands.names()) if self._registry is not None else set()
        return here | set(self._announced.commands(tenant) if self._announced is not None else ())


class LocalCaller:
    """Requests of this process, to its own engine and views."""

    def __init__(self, runtime: Runtime, tenant: str, actor: str | None = None) -> None:
        self._runtime = runtime
        self._tenant = tenant
        self._actor = actor

    def in_tenant(self, tenant: str) -> LocalCaller:
        """The same in another tenant."""
        return LocalCaller(self._runtime, tenant, self._actor)

    async def command(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        correlation_id: str | None = None,
    ) -> dict[str, Any]:
        """Send a command; refusals are raised."""
        request = new_request(
            self._tenant,
            name,
            dict(body),
            key=key,
            correlation_id=correlation_id,
            actor=self._actor,
        )
        reply = await self._runtime.command(request)
        if not reply.ok:
            raise error_from_json(reply.status, reply.body)
        return reply.body

    async def query(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a query; refusals are raised."""
        request = new_request(self._tenant, name, dict(body))
        queries = self._runtime.require_queries()
        return await queries.answer(self._tenant, name, request.body)


class Runtime:
    """The parts of one process, by role; made by `bootstrap`."""

    def __init__(
        self, settings: Settings, roles: Collection[str], registry: Registry | None = None
    ) -> None:
        self.settings = settings
        self.registry = registry or Registry()
        self.roles = tuple(roles)
        self.store: EventStore | None = None
        self.engine: Engine | None = None
        self.gateway: Gateway | None = None
        self.driver: Driver | None = None
        """Of an engine that is driven by hand."""
        self.executor: Executor | None = None
        self.checker: Checker | None = None
        self.projector: Projector | None = None
        self.queries: Queries | None = None
        self.executors: Callable[[], Sequence[Any]] = list
        """What executors elsewhere have announced."""
        self.elsewhere: Look = nobody_looks
        """Answers queries where this process has no views."""
        self.inbox: Callable[[], dict[str, Any]] = lambda: {"status": "up"}
        """What came in of external events."""
        self.connected: Callable[[], bool] | None = None
        """Whether NATS is reached, in a process that needs it."""
        self.ending = Ending(settings.stop_limit)
        """The limit of the stop, once it has begun."""
        self.on_change: list[Callable[[Settings], None]] = []
        """Called on the loop when settings have changed."""
        self.calls = calls_of(self)
        """Makes HTTP calls; None without the extra `http`."""

    def change(self, settings: Mapping[str, Any]) -> None:
        """Take new values of live settings."""
        self.settings = self.settings.model_copy(update=dict(settings))
        self.ending.limit = self.settings.stop_limit
        for listener in self.on_change:
            listener(self.settings)

    def end(self) -> None:
        """The stop begins: no new work is taken."""
        self.ending.begin()
        if self.executor is not None:
            self.executor.refuse()

    def client(self, tenant: str | None = None, *, actor: str | None = None) -> Client:
        """The calls of this engine, in process."""
        return Client(self.caller(tenant, actor=actor), self.registry.cqrs)

    def caller(self, tenant: str | None = None, *, actor: str | None = None) -> LocalCaller:
        """What carries this process's own requests."""
        return LocalCaller(self, tenant or self.settings.tenant, actor)

    async def command(self, request: Request) -> Reply:
        """Answer a command."""
        if self.gateway is None:
            raise RuntimeError("this process has no engine")
        return await self.gateway.command(request)

    async def query(self, request: Request) -> Reply:
        """Answer a query."""
        try:
            answer = await self.require_queries().answer(request.tenant, request.name, request.body)
        except HoraeError as error:
            return refused(error)
        return Reply(200, answer)

    async def look(self, tenant: str, name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to a query, of this process's views or of those elsewhere.

        Raises:
            HoraeError: the refusal; Unavailable if no views can be reached.
        """
        if self.queries is None:
            return await self.elsewhere(tenant, name, body)
        return await self.queries.answer(tenant, name, msgspec.json.encode(body))

    def require_queries(self) -> Queries:
        """The queries of this process."""
        if self.queries is None:
            raise RuntimeError("this process has no views")
        return self.queries

    async def report(self, work: Work, outcome: dict[str, Any]) -> Reply:
        """Carry an attempt's outcome to its owner: this process, or whoever took it over."""
        assert self.gateway is not None  # noqa: S101 - executors here have an engine beside them
        try:
            command = validate(ReportExecution, outcome)
        except HoraeError as error:
            command = validate(ReportExecution, _unreportable(outcome, error))
        return await self.gateway.report(request_of(work, command), command)

    async def answer_check(self, tenant: str, answer: CheckAnswered | TickAnswered) -> Reply:
        """Bring an answer to the engine of this process, which has asked."""
        assert self.gateway is not None  # noqa: S101 - only an engine asks
        return await self.gateway.check(tenant, answer)

    async def heartbeat(self, work: Work, body: dict[str, Any]) -> Reply:
        """Carry an attempt's heartbeat to its owner."""
        assert self.gateway is not None  # noqa: S101 - executors here have an engine beside them
        command = validate(HeartbeatExecution, body)
        return await self.gateway.report(request_of(work, command), command)


def request_of(work: Work, command: Command) -> Request:
    """The request that carries a report made in this process; its body is not needed."""
    return Request(
        tenant=work.tenant,
        name=command.name,
        body=b"",
        correlation_id=work.correlation_id,
        actor="executor",
    )


def _unreportable(outcome: dict[str, Any], error: HoraeError) -> dict[str, Any]:
    """A report that says why the real one cannot be taken."""
    kept = {key: outcome[key] for key in ("execution_id", "lease", "started_at")}
    described = {"type": "ResultRefused", "message": error.message}
    return kept | {"outcome": "failed", "error": described}


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
        bus = None
        if settings.nats_url is not None:
            from horae.wiring_nats import NatsWiring

            bus = await NatsWiring.open(stack, runtime, registry, app)
        if {"engine", "views"} & set(roles):
            runtime.store = await asyncio.to_thread(_open, settings)
            stack.push_async_callback(asyncio.to_thread, runtime.store.close)
        if "views" in roles:
            await _add_views(stack, runtime)
        if "engine" in roles:
            await _add_engine(stack, runtime, registry, clock or SystemClock(), bus, drive)
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
    assert runtime.store is not None  # noqa: S101 - opened for this role
    views = _views(runtime.settings.redis_url)
    stack.push_async_callback(views.close)
    try:
        await views.check()
    except ViewUnavailable as error:  # they are a copy: all but queries goes on without them
        _log.warning("no views yet, queries wait for them", error=str(error))
    alone = runtime.store.single_process and "engine" in runtime.roles
    runtime.projector = Projector(runtime.store, views, alone=alone)
    runtime.queries = Queries(views, probes=partial(probes, runtime), progress=runtime.projector)
    task = asyncio.create_task(runtime.projector.run())
    stack.push_async_callback(cancel, task)
    await _first_look(runtime.projector)


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
    stack: AsyncExitStack,
    runtime: Runtime,
    registry: Registry,
    clock: Clock,
    bus: Any,
    drive: Drive,
) -> None:
    assert runtime.store is not None  # noqa: S101 - opened for this role
    loop = asyncio.get_running_loop()
    if "executor" in runtime.roles:
        runtime.executor = Executor(
            registry,
            runtime.report,
            heartbeat=runtime.heartbeat,
            concurrency=runtime.settings.concurrency,
            children=children_of(runtime.settings),
            allow_processes=runtime.settings.allow_processes,
            now=clock.now,
            client=runtime.client(),
            services=bus.services if bus is not None else OwnServices(registry.commands),
            calls=runtime.calls,
        )
        runtime.executor.bind(loop)
        changed = bus.restrained if bus is not None else None
        await watch(stack, runtime.executor, runtime, changed)
        resize = runtime.executor.resize
        runtime.on_change.append(lambda settings: resize(settings.concurrency))
    runtime.checker = Checker(
        registry if "executor" in runtime.roles else Registry(),
        runtime.answer_check,
        elsewhere=bus.checks if bus is not None else None,
        now=clock.now,
        client=runtime.client(),
    )
    runtime.checker.bind(loop)
    stack.push_async_callback(runtime.checker.stop)
    name = process_name()
    address = bus.address(name) if bus is not None else ""
    work_bus: WorkBus | None = bus.work_bus if bus is not None else None
    forwarder: Forwarder | None = bus.forwarder if bus is not None else None
    announced = bus.announced if bus is not None else None
    runtime.engine = (Engine if drive == "thread" else ManualEngine)(
        runtime.store,
        clock,
        Ownership(runtime.store, name, address),
        executor=runtime.executor,
        bus=work_bus,
        checker=runtime.checker,
        deliver=_on(loop),
        linger=LINGER if drive == "thread" else 0.0,
        listener=_listener(runtime),
    )
    engine = runtime.engine

    def bound(told: Settings) -> None:
        engine.max_waiting = told.max_waiting
        engine.max_event_age = timedelta(seconds=told.event_max_age)
        engine.retention = retention_of(told)

    bound(runtime.settings)
    runtime.on_change.append(bound)
    if runtime.executor is not None:
        runtime.executor.freed = runtime.engine.wake
        stack.enter_context(listening(registry, runtime.engine.look_again))
    serving = Serving(
        registry if "executor" in runtime.roles else None,
        announced,
        processes="executor" in runtime.roles and runtime.settings.allow_processes,
        calls="executor" in runtime.roles and runtime.calls is not None,
        find=bus.find if bus is not None else None,
        find_check=bus.find_check if bus is not None else None,
    )
    if runtime.queries is not None:
        runtime.queries.progress_of = runtime.engine.lines.pulse.progress_of
    runtime.gateway = Gateway(runtime.engine, serving, forwarder, look=runtime.look)
    if bus is not None and runtime.queries is None:
        runtime.elsewhere = bus.query
    if isinstance(runtime.engine, ManualEngine):
        assert runtime.executor is not None  # noqa: S101 - who drives by hand executes here
        runtime.driver = Driver(runtime.engine, runtime.executor, runtime.checker)
        await runtime.driver.take_turn()
        stack.push_async_callback(_stop_driver, runtime, runtime.driver)
        return
    thread = threading.Thread(target=runtime.engine.run, name="horae-engine", daemon=True)
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
