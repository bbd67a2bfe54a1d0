"""The application object: handlers and schedules in Python, and the ways to run or reach an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Literal, TypeVar, overload

from horae.accompanying import accompanied
from horae.bootstrap import ROLES, bootstrap
from horae.client import Client, Json, define
from horae.declaring import declare, insist, warn_of_unserved
from horae.driving import Drive, DrivenClient
from horae.runtime import Runtime
from horae.sagas import action as as_action
from horae.services import Service
from horae.triggers import Trigger
from horae_application.cqrs import Cqrs, Kind
from horae_application.log import get_logger
from horae_application.registry import Registry
from horae_domain.definition import parse_definition
from horae_domain.errors import IllegalState, NotPermitted, ScheduleNotFound, Unavailable
from horae_infrastructure.handlers import PREFIX, shipped
from horae_infrastructure.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])

VIEWS_MS = 5_000
"""How long a start waits for the views to know what is declared."""

_log = get_logger("horae")


class Horae:
    """Handlers and schedules of one application.

    Args:
        name: of the application, as executors announce it.
        prune: cancel schedules that an earlier version of the application declared and this one
            does not; else they are named in a warning at the start.
    """

    def __init__(self, name: str, *, prune: bool = False) -> None:
        self.name = name
        self.prune = prune
        self.registry = Registry()
        for shipped_name, function in shipped().items():
            self.registry.add(shipped_name, function)
        self.schedules: dict[str, Json] = {}

    # --- decorators -------------------------------------------------------------------------------

    def handler(self, name: str) -> Callable[[F], F]:
        """Serve an action by a function of (context) or (context, payload).

        Raises:
            ValueError: the name is taken, or is one of Horae's own.
        """

        def mark(function: F) -> F:
            self.registry.add(own(name), function)
            return function

        return mark

    def condition(self, name: str) -> Callable[[F], F]:
        """Serve a condition that schedules name in `requires`: a function that answers true or false.

        Raises:
            ValueError: the name is taken.
        """

        def mark(function: F) -> F:
            self.registry.checks.add(name, function)
            return function

        return mark

    def check(self, name: str) -> Callable[[F], F]:
        """Serve a check that schedules ask by `on_condition`: a function that answers with an object.

        Raises:
            ValueError: the name is taken.
        """
        return self.condition(name)

    def fallback(self, name: str) -> Callable[[F], F]:
        """Serve a fallback that schedules name; the same as `handler`.

        The context has `reason` and `error`; the payload is what the trigger brought.

        Raises:
            ValueError: the name is taken, or is one of Horae's own.
        """
        return self.handler(name)

    @overload
    def command(self, taken: F) -> F: ...

    @overload
    def command(self, taken: str | None = None) -> Callable[[F], F]: ...

    def command(self, taken: Any = None) -> Any:
        """Let a function carry out the application's commands of one type.

        `@app.command` names the type by the class of the model that the function takes, alone or
        after the context; `@app.command("name")` names it so.

        Raises:
            TypeError, ValueError: at once, where it is written.
        """
        return self._take("command", taken)

    @overload
    def query(self, taken: F) -> F: ...

    @overload
    def query(self, taken: str | None = None) -> Callable[[F], F]: ...

    def query(self, taken: Any = None) -> Any:
        """Let a function answer the application's queries of one type; see `command`."""
        return self._take("query", taken)

    def _take(self, kind: Kind, taken: Any) -> Any:
        if callable(taken):
            self.registry.take(kind, taken)
            return taken

        def mark(function: F) -> F:
            self.registry.take(kind, function, taken)
            return function

        return mark

    def schedule(self, id: str, trigger: Trigger, **policies: Any) -> Callable[[F], F]:  # noqa: A002
        """Run a function on a trigger; the schedule is made, or brought up to date, at the start.

        The function is served under the schedule's id. Policies are the fields of a definition. With
        `wait=wait_for(...)` the function is what runs on confirmation, and `start=` names the action
        that runs first, if any.

        Raises:
            InvalidField, InvalidTrigger: at once, where it is written.
        """

        def mark(function: F) -> F:
            told = dict(policies)
            isolation = told.pop("isolation", None)
            action: Json = {"type": "function", "name": id}
            if isolation is not None:
                action["isolation"] = isolation
            if (wait := told.pop("wait", None)) is not None:
                told["wait_for"] = {"then": action, **wait}
                action = as_action(told.pop("start", {"type": "none"}))
            self.declare(own(id), trigger, action, **told)
            self.registry.add(id, function)
            return function

        return mark

    def hook(self, name: str) -> Callable[[F], F]:
        """Tell a function of (observed) what is dispatched to this process, and how it ended.

        Args:
            name: `scheduler.dispatch.batch`, `scheduler.dispatch.` and a type of action that an
                executor does, `scheduler.worker.process`; or with `*` at the end all that begin so.

        Raises:
            ValueError: there is no hook of this name.
        """

        def mark(function: F) -> F:
            self.registry.hooks.add(name, function)
            return function

        return mark

    def external(self, name: str, target: Any, **policy: Any) -> None:
        """Let handlers call a service outside, by `ctx.call_external(name, operation, **args)`.

        Args:
            name: of the service.
            target: an object whose methods are the operations, or a function of
                (operation, **args); synchronous or not.
            policy: fields of `Policy`, such as `timeout="5 seconds"` or `attempts=1`.

        Raises:
            ValueError: the name is taken.
            InvalidField: with the field of the policy that breaks its rule.
            ImportError: the extra `external` is not installed.
        """
        from horae_infrastructure.externals import ExternalServices

        externals = self.registry.externals
        if not isinstance(externals, ExternalServices):
            externals = self.registry.externals = ExternalServices()
        externals.add(name, target, **policy)

    def service(self, name: str) -> Service:
        """A service of this application, whose commands `@service.command(name)` serves."""
        return Service(name, self.registry.commands)

    def declare(
        self,
        id: str,  # noqa: A002 - the wire's name
        trigger: Trigger,
        action: str | Mapping[str, Any],
        **policies: Any,
    ) -> None:
        """Declare a schedule of any action, such as `command("trading", "Rebalance")`.

        It is made, or brought up to date, at the start.

        Raises:
            InvalidField, InvalidTrigger: at once, where it is written.
        """
        definition = define(id, trigger, action, **policies)
        parse_definition(definition)
        if id in self.schedules:
            raise ValueError(f"schedule {id!r} is declared twice")
        self.schedules[id] = definition

    # --- engines ----------------------------------------------------------------------------------

    @overload
    def embedded(
        self, store_url: str = ..., *, drive: Literal["thread"] = ..., **settings: Any
    ) -> AbstractAsyncContextManager[Client]: ...

    @overload
    def embedded(
        self, store_url: str = ..., *, drive: Literal["manual"], **settings: Any
    ) -> AbstractAsyncContextManager[DrivenClient]: ...

    def embedded(
        self, store_url: str = "memory://", *, drive: Drive = "thread", **settings: Any
    ) -> AbstractAsyncContextManager[Client]:
        """An engine inside this process: no servers, views in memory, handlers on this loop.

        With `drive="manual"` it has no thread of its own and fires nothing by itself: its client
        has `due`, `process_due` and `worker`.
        """
        return self._embedded(store_url, drive, settings)

    @asynccontextmanager
    async def _embedded(
        self, store_url: str, drive: Drive, settings: Json
    ) -> AsyncIterator[Client]:
        told = Settings.read(store_url=store_url, redis_url="memory://", **settings)
        alone = told.model_copy(update={"nats_url": None})
        async with self.serve(alone, drive=drive) as runtime:
            driver = runtime.driver
            yield runtime.client() if driver is None else DrivenClient(runtime, driver)

    @asynccontextmanager
    async def connect(
        self, nats_url: str, *, tenant: str = "default", actor: str | None = None
    ) -> AsyncIterator[Client]:
        """The same calls over NATS, to engines elsewhere."""
        actor = actor or self.name
        async with connect(nats_url, tenant=tenant, actor=actor, cqrs=self.registry.cqrs) as client:
            yield client

    @asynccontextmanager
    async def serve(
        self, settings: Settings, *, roles: tuple[str, ...] = ROLES, drive: Drive = "thread"
    ) -> AsyncIterator[Runtime]:
        """Run roles in this process against the given servers."""
        told: Json = {"roles": roles, "app": self.name, "drive": drive}
        async with bootstrap(settings, self.registry, **told) as runtime:
            if "executor" in roles:
                warn_of_unserved(self.schedules, self.registry)
            if "executor" not in roles:
                yield runtime
            elif runtime.gateway is not None:
                client = runtime.client(actor=self._mark)
                position = await declare(client, self.schedules)
                if runtime.queries is not None and runtime.engine is not None:
                    await self._review(client, position or runtime.engine.position(0))
                yield runtime
            elif not self.schedules:
                yield runtime
            else:
                async with accompanied(self._declare_elsewhere(settings)):
                    yield runtime

    async def _declare_elsewhere(self, settings: Settings) -> None:
        """Declare at engines of other processes, once there is one.

        Raises:
            HoraeError: a schedule is refused for what it is, or this process may declare none.
        """
        url = settings.nats_url
        assert url is not None  # noqa: S101 - without it there is no work to wait for

        async def once() -> None:
            async with self.connect(url, tenant=settings.tenant, actor=self._mark) as client:
                await self._review(client, await declare(client, self.schedules))

        await insist(once)

    @property
    def _mark(self) -> str:
        """Who made what is declared in code."""
        return f"app:{self.name}"

    async def _review(self, client: Client, position: str | None) -> None:
        """Wait until the views know what is declared, and see what no longer is."""
        asked: Json = {"created_by": self._mark, "status": ["pending", "active", "paused"]}
        asked |= {"limit": 1000, "min_position": position, "wait_ms": VIEWS_MS}
        left: list[str] = []
        try:
            while True:
                page = await client.list_schedules(**asked)
                left += [
                    each["id"] for each in page["schedules"] if each["id"] not in self.schedules
                ]
                asked["cursor"] = page["cursor"]
                if asked["cursor"] is None:
                    break
        except (Unavailable, NotPermitted) as error:
            _log.warning("what is no longer declared is not known", reason=str(error))
        for id_ in left if self.prune else ():
            with suppress(ScheduleNotFound, IllegalState):
                await client.cancel_schedule(id_, note=f"no longer declared by {self.name}")
        if left:
            _log.warning(
                "schedules no longer declared",
                app=self.name,
                cancelled=self.prune,
                count=len(left),
                schedules=left[:20],
            )

    @asynccontextmanager
    async def lifespan(self, asgi: Any) -> AsyncIterator[Mapping[str, Any]]:
        """Lifespan of an ASGI framework: an embedded engine by the environment's settings.

        Its client is in the application's state as `horae`.
        """
        del asgi
        async with self.serve(Settings.read()) as runtime:
            yield {"horae": runtime.client()}


@asynccontextmanager
async def connect(
    nats_url: str,
    *,
    tenant: str = "default",
    actor: str | None = None,
    cqrs: Cqrs | None = None,
) -> AsyncIterator[Client]:
    """A client of engines elsewhere, over NATS."""
    from horae_infrastructure.nats.client import NatsCaller
    from horae_infrastructure.nats.connection import close
    from horae_infrastructure.nats.connection import connect as open_connection

    connection = await open_connection(nats_url, name="horae-client")
    try:
        yield Client(NatsCaller(connection, tenant, actor=actor), cqrs)
    finally:
        await close(connection)


def own(name: str) -> str:
    """A handler's name, if it can be an application's own.

    Raises:
        ValueError: it begins as those that ship with Horae.
    """
    if name.startswith(PREFIX):
        raise ValueError(f"{name!r}: names that begin with {PREFIX!r} are Horae's own")
    return name


__all__ = ["Horae", "connect"]
