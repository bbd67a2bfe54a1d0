"""One process: its parts by role, and how requests reach them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec

from horae.calls import calls_of
from horae.client import Client
from horae.driving import Driver
from horae.ending import Ending
from horae_application.dead_letters import Look, nobody_looks
from horae_application.engine import Engine
from horae_application.gateway import Gateway, new_request
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
from horae_application.ports import EventLog, EventStore
from horae_application.registry import Registry
from horae_application.work import Work
from horae_domain.errors import HoraeError, error_from_json
from horae_domain.wire import validate
from horae_infrastructure.cache import RedisCache
from horae_infrastructure.settings import Settings
from horae_infrastructure.tracing import current_headers, tracing_of
from horae_projections.projector import Projector
from horae_projections.queries import Queries
from horae_workers.checker import Checker
from horae_workers.executor import Executor


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
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Send a command; refusals are raised."""
        request = new_request(
            self._tenant,
            name,
            dict(body),
            key=key,
            correlation_id=correlation_id,
            actor=self._actor,
            headers=current_headers() | dict(headers or {}),
        )
        reply = await self._runtime.command(request)
        if not reply.ok:
            raise error_from_json(reply.status, reply.body)
        return reply.body

    async def query(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a query; refusals are raised."""
        request = new_request(self._tenant, name, dict(body))
        await asyncio.sleep(0)  # who asks until something has happened lets it happen
        runtime = self._runtime
        if runtime.queries is None:
            return dict(await runtime.elsewhere(self._tenant, name, body))
        return await runtime.queries.answer(self._tenant, name, request.body)


class Runtime:
    """The parts of one process, by role; made by `bootstrap`."""

    def __init__(
        self, settings: Settings, roles: Collection[str], registry: Registry | None = None
    ) -> None:
        self.settings = settings
        self.registry = registry or Registry()
        self.roles = tuple(roles)
        self.store: EventStore | None = None
        """Of an engine."""
        self.log: EventLog | None = None
        """What views project: the engine's store, or the log of one elsewhere."""
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
        self.tracing = tracing_of()
        """Makes spans; None where OpenTelemetry is not in use."""
        self.cache = RedisCache(settings.cache_url or settings.redis_url)
        """What handlers reach as `ctx.cache`."""

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
