"""Services outside: each call with a time limit, repeated, and behind a circuit breaker (A5)."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, Any

from circuitbreaker import CircuitBreaker, CircuitBreakerError
from pydantic import Field
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from horae_application.errands import UnknownExternal
from horae_application.result import RetryAfter
from horae_application.threads import in_thread
from horae_domain.fields import Duration, Model, Span
from horae_domain.wire import validate


class CircuitOpen(RetryAfter):
    """A service has failed so often that it is left alone for a while; nothing was asked of it."""


class Policy(Model):
    """How a service outside is called.

    Attributes:
        timeout: of each try.
        attempts: tries of one call in all.
        delay: at most so long before the second try, at random; it doubles with each further one.
        max_delay: the longest of these delays.
        failures: tries that fail in a row, of all calls, before the service is left alone.
        recovery: for how long; then a call tries whether it is back.
    """

    timeout: Span = timedelta(seconds=10)
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    delay: Duration = timedelta(milliseconds=200)
    max_delay: Duration = timedelta(seconds=5)
    failures: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    recovery: Span = timedelta(seconds=30)


class ExternalServices:
    """Services outside of one application; implements the port `Externals`."""

    def __init__(self) -> None:
        self._services: dict[str, External] = {}

    def add(
        self,
        name: str,
        target: Any,
        *,
        retry_on: tuple[type[Exception], ...] = (Exception,),
        **policy: Any,
    ) -> None:
        """Register a service.

        Args:
            name: what handlers call it.
            target: an object with methods, or a function of (operation, **args).
            retry_on: the exceptions after which a try is repeated, and that count as failures.
            policy: fields of `Policy`.

        Raises:
            ValueError: the name is taken.
            InvalidField: a field of the policy breaks its rule.
        """
        if name in self._services:
            raise ValueError(f"an external service named {name!r} is registered already")
        told = validate(Policy, policy)
        self._services[name] = External(name, target, told, retry_on)

    async def call(self, name: str, operation: str, args: Mapping[str, Any]) -> Any:
        """What an operation of a service answers; see `Context.call_external`."""
        service = self._services.get(name)
        if service is None:
            known = sorted(self._services)
            raise UnknownExternal(
                f"no external service {name!r}; there are: {', '.join(known) or 'none'}",
                field="name",
                value=name,
                known=known,
            )
        return await service.call(operation, args)


class External:
    """One service outside."""

    def __init__(
        self, name: str, target: Any, policy: Policy, retry_on: tuple[type[Exception], ...]
    ) -> None:
        self.name = name
        self._target = target
        self._policy = policy
        self._retry_on = retry_on
        self._breaker = CircuitBreaker(
            failure_threshold=policy.failures,
            recovery_timeout=policy.recovery.total_seconds(),
            expected_exception=retry_on,
            name=name,
        )

    async def call(self, operation: str, args: Mapping[str, Any]) -> Any:
        """What the operation answers; tries that fail are repeated.

        Raises:
            UnknownExternal: there is no such operation.
            CircuitOpen: the service is left alone.
        """
        function = self._operation(operation)
        policy = self._policy
        delays = wait_random_exponential(
            multiplier=policy.delay.total_seconds(), max=policy.max_delay.total_seconds()
        )
        async for attempt in AsyncRetrying(
            stop=stop_after_attempt(policy.attempts),
            wait=delays,
            retry=retry_if_exception(self._may_be_repeated),
            reraise=True,
        ):
            with attempt:
                return await self._try(function, args)
        raise AssertionError  # the last try returns or raises

    async def _try(self, function: Callable[..., Any], args: Mapping[str, Any]) -> Any:
        if self._breaker.opened:
            raise CircuitOpen(
                max(0.0, self._breaker.open_remaining),
                f"{self.name} is left alone after {self._breaker.failure_count} failures",
            )
        try:
            return await self._breaker.call_async(self._limited, function, args)
        except CircuitBreakerError as error:  # pragma: no cover - another thread has opened it
            raise CircuitOpen(self._policy.recovery, str(error)) from error

    async def _limited(self, function: Callable[..., Any], args: Mapping[str, Any]) -> Any:
        seconds = self._policy.timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                if inspect.iscoroutinefunction(function):
                    return await function(**args)
                _, answered = in_thread(lambda: function(**args))
                value = await answered
                return await value if inspect.isawaitable(value) else value
        except TimeoutError as error:
            raise TimeoutError(f"{self.name} has not answered in {seconds:g} s") from error

    def _may_be_repeated(self, error: BaseException) -> bool:
        return isinstance(error, self._retry_on) and not isinstance(error, CircuitOpen)

    def _operation(self, name: str) -> Callable[..., Any]:
        if inspect.isroutine(self._target):
            return _bound(self._target, name)
        function = None if name.startswith("_") else getattr(self._target, name, None)
        if not callable(function):
            known = sorted(
                each
                for each, value in inspect.getmembers(type(self._target))
                if not each.startswith("_") and callable(value)
            )
            raise UnknownExternal(
                f"{self.name} has no operation {name!r}; there are: {', '.join(known) or 'none'}",
                field="operation",
                value=name,
                known=known,
            )
        return function  # type: ignore[no-any-return]


def _bound(target: Callable[..., Any], operation: str) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(target):

        async def call(**args: Any) -> Any:
            return await target(operation, **args)

        return call
    return lambda **args: target(operation, **args)
