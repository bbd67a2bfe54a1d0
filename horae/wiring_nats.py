"""The parts of a process that need NATS: service, forwarding, streams, executors elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from horae.client import Client
from horae.process_name import process_name
from horae.restraint import watch
from horae_application.gateway import new_request
from horae_application.messages import COMMANDS, Reply
from horae_application.registry import Functions, Registry, listening
from horae_application.work import HTTP_CALLS, PROCESSES, SCHEDULES, SERVICE_COMMANDS, Work
from horae_domain.definition import Definition
from horae_infrastructure.children import children_of
from horae_infrastructure.event_subjects import pattern
from horae_infrastructure.nats.announce import Announced, Announcement, Announcer
from horae_infrastructure.nats.checks import CheckServing, NatsChecks
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import Connection, close, connect
from horae_infrastructure.nats.discovery import Found
from horae_infrastructure.nats.executor import WorkPuller
from horae_infrastructure.nats.forward import NatsForwarder, NatsReceiver, engine_address
from horae_infrastructure.nats.inbox import Inbox
from horae_infrastructure.nats.relay import EventsRelay
from horae_infrastructure.nats.service import NatsService
from horae_infrastructure.nats.services import NatsServices
from horae_infrastructure.nats.serving import NatsServing
from horae_infrastructure.nats.streams import StreamSettings
from horae_infrastructure.nats.subjects import check_subject, command_subject
from horae_infrastructure.nats.work import NatsWorkBus
from horae_infrastructure.settings import Settings
from horae_projections.messages import QUERIES
from horae_workers.executor import Executor

if TYPE_CHECKING:
    from horae.runtime import Runtime


CLOSE = 5.0
"""Seconds that requests in progress have to be answered."""


class NatsWiring:
    """One connection and what hangs on it."""

    def __init__(self, nc: Connection, runtime: Runtime, registry: Registry, app: str) -> None:
        self._nc = nc
        self._runtime = runtime
        self._registry = registry
        self._app = app
        self._name = f"{app}@{process_name()}"
        self._streams = StreamSettings(replicas=runtime.settings.replicas)
        self._address = ""
        self.forwarder = NatsForwarder(nc)
        self.announced = Announced(nc)
        self.work_bus = NatsWorkBus(nc, self._streams, hands=self.announced.hands)
        self.services = NatsServices(nc, self._streams)
        self.checks = NatsChecks(nc)
        self._found = Found(nc)
        self._announcer: Announcer | None = None
        self._over: str | None = None

    @classmethod
    async def open(
        cls, stack: AsyncExitStack, runtime: Runtime, registry: Registry, app: str
    ) -> NatsWiring:
        """Connect; the connection is drained when the stack unwinds."""
        url = runtime.settings.nats_url
        assert url is not None  # noqa: S101 - the caller has looked
        nc = await connect(url, name=f"horae-{app}")
        ending = runtime.ending
        stack.push_async_callback(lambda: close(nc, ending.at_most(CLOSE)))
        wiring = cls(nc, runtime, registry, app)
        runtime.connected = lambda: nc.is_connected
        if "executor" in runtime.roles:
            await wiring.services.start()
            stack.push_async_callback(wiring.services.stop)
        runtime.executors = wiring.others
        if {"engine", "views"} & set(runtime.roles):
            await wiring.announced.start()
            stack.push_async_callback(wiring.announced.stop)
        if "engine" in runtime.roles:
            await wiring.work_bus.start()
            stack.push_async_callback(wiring.work_bus.stop)
        return wiring

    @property
    def _pulls(self) -> bool:
        """True if this process does work of engines elsewhere."""
        store = self._runtime.store
        return store is None or not store.single_process

    async def query(self, tenant: str, name: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer to a query, of views elsewhere."""
        return await NatsCaller(self._nc, tenant, actor="engine").query(name, body)

    def address(self, owner: str) -> str:
        """Where this process's engine is reached by the others."""
        self._address = engine_address(owner)
        return self._address

    def others(self) -> list[Announcement]:
        """Executors in other processes."""
        return [each for each in self.announced.executors() if each.executor != self._name]

    def restrained(self, over: str | None) -> None:
        """This process's executor is over a bound, or is so no longer."""
        self._over = over
        self._tell(over=over)

    def _tell(self, **facts: Any) -> None:
        """Announce what is different now."""
        if self._announcer is not None:
            self._announcer.update(**facts)

    async def find(self, tenant: str, name: str) -> bool:
        """True if a micro service says that it answers a command such as `trading.Rebalance`."""
        service, _, command = name.rpartition(".")
        return await self._found.serves(command_subject(tenant, service, command))

    async def find_check(self, tenant: str, name: str) -> bool:
        """True if a micro service says that it answers a condition or a check."""
        return await self._found.serves(check_subject(tenant, name))

    async def serve(self, stack: AsyncExitStack) -> None:
        """Begin to answer, once all other parts are there."""
        runtime, ending = self._runtime, self._runtime.ending
        if runtime.gateway is not None:
            self.work_bus.refuse = partial(refuse, runtime)
            receiver = NatsReceiver(self._nc, self._address, runtime.gateway.local)
            await receiver.start()
            stack.push_async_callback(lambda: receiver.stop(ending.at_most(CLOSE)))
        if runtime.gateway is not None or runtime.queries is not None:
            await self._answer(stack)  # it ends after the work, whose outcomes it takes
        if runtime.gateway is not None:
            await self._capture(stack)
        if "executor" in runtime.roles:
            await self._serve_commands(stack)
            await self._serve_checks(stack)
            await self._announce(stack)
            if self._pulls:
                await self._pull(stack)
        if runtime.settings.events and "views" in runtime.roles and runtime.log is not None:
            relay = EventsRelay(runtime.log, self._nc, self._streams)
            await relay.start()
            stack.push_async_callback(relay.stop)

    async def _capture(self, stack: AsyncExitStack) -> None:
        """Take external events in."""
        runtime = self._runtime
        told = [each.strip() for each in runtime.settings.event_subjects.split(",")]
        assert runtime.gateway is not None  # noqa: S101 - the caller has looked
        if any(told):
            patterns = [pattern(each) for each in told if each]
            inbox = Inbox(self._nc, runtime.gateway.receive, patterns, self._streams)
            runtime.inbox = inbox.health
            await inbox.start()
            stack.push_async_callback(lambda: inbox.stop(runtime.ending.at_most(CLOSE)))

    async def _answer(self, stack: AsyncExitStack) -> None:
        runtime = self._runtime
        service = NatsService(
            self._nc,
            commands=runtime.command,
            queries=runtime.query,
            command_names=COMMANDS if runtime.gateway is not None else (),
            query_names=QUERIES if runtime.queries is not None else (),
            version="0.1.0",
            schemas=schemas(),
        )
        await service.start()
        stack.push_async_callback(lambda: service.stop(runtime.ending.at_most(CLOSE)))

    async def _announce(self, stack: AsyncExitStack) -> None:
        settings = self._runtime.settings
        self._announcer = announcer = Announcer(
            self._nc,
            Announcement(
                executor=self._name,
                tenant=settings.tenant,
                app=self._app,
                handlers=list(self._registry.names()),
                processes=settings.allow_processes,
                calls=self._runtime.calls is not None,
                commands=list(self._registry.commands.names()),
                checks=list(self._registry.checks.names()),
                over=self._over,
                slots=settings.concurrency if self._pulls else None,
                errands=self._pulls,
            ),
        )
        await announcer.start()
        stack.push_async_callback(announcer.stop)

        def update() -> None:
            announcer.update(
                handlers=list(self._registry.names()),
                commands=list(self._registry.commands.names()),
                checks=list(self._registry.checks.names()),
            )

        self._on_new(stack, self._registry.checks, update)
        self._on_new(stack, self._registry, update)
        self._on_new(stack, self._registry.commands, update)

    def _on_new(
        self, stack: AsyncExitStack, functions: Functions, listener: Callable[[], None]
    ) -> None:
        """Call on this loop when there is one more function, whoever adds it."""
        loop = asyncio.get_running_loop()
        stack.enter_context(listening(functions, partial(loop.call_soon_threadsafe, listener)))

    async def _serve_commands(self, stack: AsyncExitStack) -> None:
        """Answer the commands of this application's services."""
        settings = self._runtime.settings
        serving = NatsServing(
            self._nc,
            settings.tenant,
            self._registry.commands,
            slots=settings.concurrency,
            settings=self._streams,
        )
        await serving.start()
        ending = self._runtime.ending
        stack.push_async_callback(lambda: serving.stop(ending.for_work))
        self._on_new(stack, self._registry.commands, serving.look)

    async def _serve_checks(self, stack: AsyncExitStack) -> None:
        """Answer engines of other processes whether this application's conditions are met."""
        settings = self._runtime.settings
        serving = CheckServing(self._nc, settings.tenant, self._registry)
        await serving.start()
        stack.push_async_callback(lambda: serving.stop(self._runtime.ending.at_most(CLOSE)))
        self._on_new(stack, self._registry.checks, serving.look)

    async def _pull(self, stack: AsyncExitStack) -> None:
        """Work of engines elsewhere for the handlers that this process serves."""
        settings = self._runtime.settings
        caller = NatsCaller(self._nc, settings.tenant, actor="executor")
        executor = self._runtime.executor or Executor(
            self._registry,
            self._runtime.report,
            concurrency=settings.concurrency,
            children=children_of(settings),
            allow_processes=settings.allow_processes,
            client=Client(caller, self._registry.cqrs),
            services=self.services,
            calls=self._runtime.calls,
            tracing=self._runtime.tracing,
            cache=self._runtime.cache.client,
        )
        if executor is not self._runtime.executor:
            executor.bind(asyncio.get_running_loop())
            await watch(stack, executor, self._runtime, self.restrained)

        async def beat(work: Work, body: dict[str, Any]) -> Reply:
            del work
            return Reply(200, await puller.beat(body))

        async def run(work: Work) -> Mapping[str, Any]:
            executor.dispatched([work])
            outcome: Mapping[str, Any] = to_jsonable_python(await executor.run(work, beat))
            return outcome

        puller = WorkPuller(
            self._nc,
            caller,
            run,
            handlers=[
                *self._registry.names(),
                SERVICE_COMMANDS,
                SCHEDULES,
                *([PROCESSES] if settings.allow_processes else []),
                *([HTTP_CALLS] if self._runtime.calls is not None else []),
            ],
            slots=settings.concurrency,
            room=executor,
            stop=executor.ask,
            worker=self._name,
            settings=self._streams,
        )
        executor.emptied = puller.look

        def resize(told: Settings) -> None:
            puller.resize(told.concurrency)
            executor.resize(told.concurrency)
            self._tell(slots=told.concurrency)

        self._runtime.on_change.append(resize)
        await puller.start()

        async def stop() -> None:
            seconds = self._runtime.ending.for_work
            self._tell(slots=0)
            await asyncio.gather(puller.stop(seconds), executor.drain(seconds))

        stack.push_async_callback(stop)

        def pull_new() -> None:
            for name in self._registry.names():
                puller.add(name)

        self._on_new(stack, self._registry, pull_new)


async def refuse(runtime: Runtime, work: Work, reason: str) -> None:
    """Fail an attempt that cannot be sent to anybody; a refusal means that it is needed no more."""
    held: dict[str, Any] = {"execution_id": work.execution_id, "lease": work.lease}
    error = {"type": "PayloadTooLarge", "message": reason, "final": True}
    for name, body in (
        ("execution.start", held | {"worker": "horae"}),
        ("execution.report", held | {"outcome": "failed", "error": error}),
    ):
        await runtime.command(new_request(work.tenant, name, body))


def schemas() -> dict[str, Any]:
    """The JSON schema of every request's body, by its name."""
    kinds: dict[str, Any] = {**COMMANDS, **QUERIES}
    found = {name: kind.model_json_schema() for name, kind in kinds.items()}
    for name in ("schedule.create", "schedule.update", "schedule.validate"):
        found[name] = Definition.model_json_schema()
    return found
