"""What a handler can ask of the engine and of services outside (A5).

```
HoraeError
├── NotHere              it cannot be asked for where the handler runs
├── NoCache              no Redis is configured for handlers
└── UnknownExternal      no service outside has this name, or this operation
```
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import msgspec
from pydantic import BaseModel

from horae_application.result import encodable
from horae_application.threads import on_loop
from horae_application.work import Work
from horae_domain.errors import HoraeError, InvalidField
from horae_domain.tracing import CAUSATION_HEADER, context_headers

T = TypeVar("T")
Fallback = Callable[[str, Any], Coroutine[Any, Any, Any]]
"""Has a handler of this process answer to data."""


class NotHere(HoraeError, RuntimeError):
    """It cannot be asked for where the handler runs, such as in a process of its own."""

    code = "not_here"
    status = 409


class NoCache(HoraeError):
    """There is no Redis or Valkey for handlers."""

    code = "no_cache"
    status = 409


class UnknownExternal(InvalidField):
    """No service outside has this name or this operation; `known` of the details lists those."""

    code = "unknown_external"


class Externals(Protocol):
    """Services outside, by name."""

    async def call(self, name: str, operation: str, args: Mapping[str, Any]) -> Any:
        """What an operation of a service answers.

        Raises:
            UnknownExternal: there is none.
            Exception: what the last try of the operation raised.
        """
        ...


class Errands:
    """The part of a handler's context that reaches beyond it.

    Each call works on the application's loop, whichever loop the handler runs on; a synchronous
    handler waits for one with `run`.
    """

    def __init__(
        self,
        work: Work,
        client: Any,
        externals: Externals | None,
        fallback: Fallback | None,
        loop: asyncio.AbstractEventLoop | None,
        cache: Callable[[], Any] | None = None,
    ) -> None:
        self._cache = cache
        self.work = work
        self.correlation_id = work.correlation_id or work.execution_id
        self._client = client
        self._externals = externals
        self._fallback = fallback
        self._loop = loop
        self._sent: Counter[str] = Counter()

    @cached_property
    def client(self) -> Any:
        """The engine's commands and queries, None with `isolation="process"`."""
        if self._client is None:
            return None
        headers = context_headers(self.work.traceparent, self.work.carried)
        headers[CAUSATION_HEADER] = self.work.execution_id
        calls = self._client.caused_by(self.correlation_id, self._loop, headers)
        return calls.in_tenant(self.work.tenant)

    @property
    def cache(self) -> Any:
        """The client of Redis or Valkey (`redis.asyncio.Redis`) that the settings name.

        It belongs to the application's loop, as the calls here do. Its keys are of all tenants and
        schedules: give yours a prefix, other than `horae:`.

        Raises:
            NoCache: the settings name no server.
            NotHere: the handler runs in a process of its own.
        """
        return self._there(self._cache, "the cache")()

    async def call_external(self, name: str, operation: str, **args: Any) -> Any:
        """Call a service outside that the application has registered with `app.external`.

        A try that fails is repeated and counts against the service, as its policy says.

        Raises:
            UnknownExternal: there is no such service, or it has no such operation.
            CircuitOpen: it has failed so often that it is left alone; if nobody catches it, the
                next attempt is when it is asked again.
            TimeoutError: no answer in time, in any try.
            Exception: what the last try raised.
        """
        if self._externals is None and self._loop is not None:
            raise UnknownExternal(
                f"no external service {name!r}; there are: none", field="name", value=name, known=[]
            )
        externals = self._there(self._externals, "external services")
        return await self.here(externals.call(name, operation, args))

    async def execute_fallback(self, name: str, data: Any = None) -> Any:
        """Have a fallback of the application do it instead, here and now.

        It is a function of (context, data), registered with `app.fallback` or `app.handler`. What
        it returns, a `Result` too, may be returned as the handler's own; what it raises is raised.

        Raises:
            UnknownHandler: there is none of this name; those that there are are listed.
        """
        fallback = self._there(self._fallback, "fallbacks")
        return await self.here(fallback(name, data))

    async def schedule(
        self, command: BaseModel, execute_at: datetime | str | None = None, **options: Any
    ) -> str:
        """Schedule a command of the application, as `Client.schedule` does; its id.

        A handler that runs again after a failure schedules the same one once.
        """
        asked = ["schedule", type(command).__name__, command, execute_at, options]
        key = options.pop("idempotency_key", None) or self._key(asked)
        call = self._calls.schedule(command, execute_at, idempotency_key=key, **options)
        id_: str = await call
        return id_

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the wire's name
        """Withdraw a command that was scheduled; False if it has begun, ended, or is unknown."""
        return bool(await self._calls.cancel(id))

    async def trigger_schedule(
        self,
        id: str,  # noqa: A002 - the wire's name
        payload: Any = None,
        *,
        key: str | None = None,
    ) -> str:
        """Let a schedule fire now; the id of the execution.

        A handler that runs again after a failure triggers it once.
        """
        key = key or self._key(["trigger", id, payload])
        told = {} if payload is None else {"payload": payload}
        answer = await self._calls.trigger_schedule(id, key=key, **told)
        execution_id: str = answer["execution_id"]
        return execution_id

    async def list_schedules(self, **filters: Any) -> dict[str, Any]:
        """Schedules that match, as `Client.list_schedules` answers."""
        found: dict[str, Any] = await self._calls.list_schedules(**filters)
        return found

    async def check_for_event(
        self,
        type: str,  # noqa: A002 - the wire's name
        criteria: Mapping[str, Any] | None = None,
        *,
        since: datetime | str | None = None,
    ) -> dict[str, Any] | None:
        """The first external event of a type that has been received since, or None.

        The schedule names the type in `keep_events`, unless something listens for it anyway: else it
        may not be recorded.

        Args:
            type: such as `trade.confirmed`.
            criteria: the values that have to stand in its data, by their dotted paths.
            since: an instant; that of what has triggered the run unless told.
        """
        begun = since or self.work.trigger.get("at") or self.work.due
        found: dict[str, Any] | None = await self._calls.find_event(type, criteria, since=begun)
        return found

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for one of these calls in a synchronous handler.

        Raises:
            NotHere: it would wait for itself; a coroutine function awaits the call instead.
        """
        if self._loop is None or self._loop is _running():
            call.close()
            raise NotHere("a handler waits so in a thread alone; on the event loop it awaits")
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    async def here(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for what runs on the application's loop."""
        return await on_loop(self._loop, call)

    @property
    def _calls(self) -> Any:
        return self._there(self.client, "the engine's commands")

    def _there(self, what: T | None, name: str) -> T:
        if what is None:
            raise NotHere(f"{name} cannot be reached from here, as with isolation='process'")
        return what

    def _key(self, content: Any) -> str:
        """The idempotency key of what is sent: the same when an attempt sends it again."""
        sent = msgspec.json.encode(encodable(content))
        digest = blake2b(sent, digest_size=8).hexdigest()
        self._sent[digest] += 1
        return f"{self.work.command_id}:{digest}:{self._sent[digest]}"


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
