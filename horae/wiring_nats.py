"""The parts of a process that need NATS: service, forwarding, streams, executors elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python

from horae.process_name import process_name
from horae_application.messages import COMMANDS
from horae_application.registry import Registry
from horae_application.work import PROCESSES, Work
from horae_infrastructure.children import ChildProcesses
from horae_infrastructure.nats.announce import Announced, Announcement, Announcer
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import Connection, close, connect
from horae_infrastructure.nats.executor import WorkPuller
from horae_infrastructure.nats.forward import NatsForwarder, NatsReceiver, engine_address
from horae_infrastructure.nats.relay import EventsRelay
from horae_infrastructure.nats.service import NatsService
from horae_infrastructure.nats.streams import StreamSettings
from horae_infrastructure.nats.work import NatsWorkBus
from horae_projections.messages import QUERIES
from horae_workers.executor import Executor

if TYPE_CHECKING:
    from horae.runtime import Runtime


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
        self.work_bus = NatsWorkBus(nc, self._streams)
        self.announced = Announced(nc)

    @classmethod
    async def open(
        cls, stack: AsyncExitStack, runtime: Runtime, registry: Registry, app: str
    ) -> NatsWiring:
        """Connect; the connection is drained when the stack unwinds."""
        url = runtime.settings.nats_url
        assert url is not None  # noqa: S101 - the caller has looked
        nc = await connect(url.split(","), name=f"horae-{app}")
        stack.push_async_callback(close, nc)
        wiring = cls(nc, runtime, registry, app)
        runtime.connected = lambda: nc.is_connected
        if "engine" in runtime.roles:
            await wiring.announced.start()
            stack.push_async_callback(wiring.announced.stop)
            await wiring.work_bus.start()
            stack.push_async_callback(wiring.work_bus.stop)
        return wiring

    def address(self, owner: str) -> str:
        """Where this process's engine is reached by the others."""
        self._address = engine_address(owner)
        return self._address

    async def serve(self, stack: AsyncExitStack) -> None:
        """Begin to answer, once all other parts are there."""
        runtime = self._runtime
        if runtime.gateway is not None:
            receiver = NatsReceiver(self._nc, self._address, runtime.gateway.local)
            await receiver.start()
            stack.push_async_callback(receiver.stop)
        if "executor" in runtime.roles:
            await self._announce(stack)
            if runtime.store is None or not runtime.store.single_process:
                await self._pull(stack)
        if runtime.gateway is not None or runtime.queries is not None:
            await self._answer(stack)
        if runtime.settings.events and "views" in runtime.roles and runtime.store is not None:
            relay = EventsRelay(runtime.store, self._nc, self._streams)
            await relay.start()
            stack.push_async_callback(relay.stop)

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
        stack.push_async_callback(service.stop)

    async def _announce(self, stack: AsyncExitStack) -> None:
        settings = self._runtime.settings
        announcer = Announcer(
            self._nc,
            Announcement(
                executor=self._name,
                tenant=settings.tenant,
                app=self._app,
                handlers=list(self._registry.names()),
                processes=settings.allow_processes,
            ),
        )
        await announcer.start()
        stack.push_async_callback(announcer.stop)

    async def _pull(self, stack: AsyncExitStack) -> None:
        """Work of engines elsewhere for the handlers that this process serves."""
        settings = self._runtime.settings
        caller = NatsCaller(self._nc, settings.tenant, actor="executor")
        executor = self._runtime.executor or Executor(
            self._registry,
            self._runtime.report,
            concurrency=settings.concurrency,
            children=ChildProcesses(),
            allow_processes=settings.allow_processes,
        )
        executor.bind(asyncio.get_running_loop())

        async def run(work: Work) -> Mapping[str, Any]:
            outcome: Mapping[str, Any] = to_jsonable_python(await executor.run(work))
            return outcome

        puller = WorkPuller(
            self._nc,
            caller,
            run,
            handlers=[*self._registry.names(), *([PROCESSES] if settings.allow_processes else [])],
            slots=settings.concurrency,
            room=executor,
            worker=self._name,
            settings=self._streams,
        )
        executor.emptied = puller.look
        await puller.start()

        async def stop() -> None:
            await asyncio.gather(puller.stop(settings.drain), executor.drain(settings.drain))

        stack.push_async_callback(stop)


def schemas() -> dict[str, Any]:
    """The JSON schema of every request's body, by its name."""
    kinds: dict[str, Any] = {**COMMANDS, **QUERIES}
    found = {name: kind.model_json_schema() for name, kind in kinds.items()}
    for name in ("schedule.create", "schedule.update"):
        definition = kinds[name].model_fields["definition"].annotation
        found[name] = definition.model_json_schema()
    return found
