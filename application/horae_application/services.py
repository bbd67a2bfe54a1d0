"""Commands to services: what is sent, what comes back, and the port that carries it (A2).

```
HoraeError
└── ServiceError        a service refused a command or failed; `type` is its own if it says one
    ├── NoResponders    nobody serves the command
    └── NoReply         no answer in time; whether it was done is not known
```
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from horae_application.registry import Functions, Handler, PayloadInvalid
from horae_application.result import Result, RetryAfter, encodable
from horae_application.threads import in_thread
from horae_application.work import Work
from horae_domain.actions import CommandAction
from horae_domain.durations import parse_duration
from horae_domain.errors import HoraeError
from horae_domain.wire import validate

_TRANSIENT = frozenset({408, 409, 429})
"""Codes of the 400 class after which the same command may do better later."""


class ServiceError(HoraeError):
    """A service refused a command, or failed at it; raised in a service, it is its answer.

    Args:
        message: what went wrong.
        status: 400 to 499 says that the command is at fault, 500 and more that the service is.
        type: of the error, as `non_retryable` of a retry policy names it.
        retry_after: when to try again; seconds if a number.
    """

    code = "service_error"

    def __init__(
        self,
        message: str,
        *,
        status: int = 500,
        type: str = "ServiceError",  # noqa: A002 - the wire's name
        retry_after: str | float | timedelta | None = None,
    ) -> None:
        super().__init__(message)
        self.error_code = status
        self.type = type
        self.retry_after = (
            None if retry_after is None else parse_duration(retry_after, field="retry_after")
        )

    @property
    def final(self) -> bool:
        """True if the same command would be refused again."""
        return 400 <= self.error_code < 500 and self.error_code not in _TRANSIENT  # noqa: PLR2004


class NoResponders(ServiceError):
    """Nobody serves the command."""

    code = "no_responders"

    def __init__(self, message: str) -> None:
        super().__init__(message, status=503, type="NoResponders")


class NoReply(ServiceError):
    """No answer in time; whether the command was done is not known."""

    code = "no_reply"

    def __init__(self, message: str) -> None:
        super().__init__(message, status=504, type="NoReply")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One command on its way to a service, and what the service is told of it.

    Attributes:
        tenant, service, command: where it goes.
        payload: JSON, the body of the message.
        reply: whether an answer is waited for.
        timeout: seconds that the sender waits, for the answer or for JetStream.
        key: the same for all attempts, so that a service can know again what it has done.
        correlation_id, causation_id: of the whole affair, and of what has sent the command.
        schedule_id, execution_id, attempt, lease, due: of the run that sends it; None from others.
        traceparent: W3C trace context.
        carried: what travels with it, see `horae_domain.tracing`.
    """

    tenant: str
    service: str
    command: str
    payload: Any = None
    reply: bool = True
    timeout: float = 5.0
    key: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    schedule_id: str | None = None
    execution_id: str | None = None
    attempt: int | None = None
    lease: str | None = None
    due: datetime | None = None
    traceparent: str | None = None
    carried: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """The command with its service, such as `trading.Rebalance`."""
        return f"{self.service}.{self.command}"


class Services(Protocol):
    """Carries commands to services."""

    async def request(self, call: Call) -> Any:
        """The service's answer, a JSON value.

        Raises:
            ServiceError: it refused the command or failed.
            NoResponders: nobody serves the command.
            NoReply: no answer within the call's timeout; whether it was done is not known.
        """
        ...

    async def send(self, call: Call) -> dict[str, Any]:
        """Hand the command over for good, and say where it is kept.

        Raises:
            NoReply: not known to be kept within the call's timeout.
            ServiceError: it cannot be kept.
        """
        ...

    async def ping(self, service: str, seconds: float) -> bool:
        """True if a service of this name answers, as micro services do."""
        ...


class Reach(Protocol):
    """Reaches hosts that may be reached, and no others."""

    async def status(self, url: str, headers: Mapping[str, str]) -> int:
        """The status that a GET is answered with.

        Raises:
            ValueError: the URL is none.
            HoraeError: its host may not be reached or has no address.
            OSError: it does not answer.
        """
        ...

    async def knock(self, host: str, port: int) -> None:
        """Connect, and close at once.

        Raises:
            HoraeError: it may not be reached or has no address.
            OSError: nobody listens.
        """
        ...


def command_action(
    service: str, command: str, *, reply: bool, timeout: str | float | timedelta
) -> CommandAction:
    """The action of a command.

    Raises:
        InvalidField: with the part that breaks its rule.
    """
    return validate(
        CommandAction,
        {"service": service, "command": command, "reply": reply, "timeout": timeout},
    )


async def perform(services: Services, work: Work) -> Result:
    """One attempt of a `command` action."""
    call = call_of(work, CommandAction.model_validate(work.action), work.payload)
    try:
        if not call.reply:
            return Result.done(await services.send(call))
        value = await services.request(call)
    except ServiceError as error:
        return Result.failed(
            error.message, type=error.type, retry_after=error.retry_after, final=error.final
        )
    workflow = value.get("workflow_id") if isinstance(value, Mapping) else None
    return Result.done(value, metadata={} if workflow is None else {"workflow_id": workflow})


def call_of(work: Work, action: CommandAction, payload: Any, key: str | None = None) -> Call:
    """The call that an attempt makes; its key is the same for all that do the same, unless told."""
    return Call(
        tenant=work.tenant,
        service=action.service,
        command=action.command,
        payload=payload,
        reply=action.reply,
        timeout=action.timeout.total_seconds(),
        key=key or work.command_id,
        correlation_id=work.correlation_id or work.execution_id,
        causation_id=work.execution_id,
        schedule_id=work.schedule_id,
        execution_id=work.execution_id,
        attempt=work.attempt,
        lease=work.lease,
        due=work.due,
        traceparent=work.traceparent,
        carried=work.carried,
    )


# --- services of this application -----------------------------------------------------------------


class OwnServices:
    """Does commands in this process, where no NATS carries them: the port `Services`.

    A command that nobody waits for is done at once, too, since nothing else would keep it.
    """

    def __init__(self, commands: Functions) -> None:
        self._commands = commands

    async def request(self, call: Call) -> Any:
        """What the function answers."""
        handler = self._commands.get(call.name)
        if handler is None:
            raise NoResponders(f"nobody serves {call.name}")
        try:
            async with asyncio.timeout(call.timeout):
                return await answer(handler, call)
        except TimeoutError as error:
            raise NoReply(f"{call.name} has not answered in {call.timeout:g} s") from error

    async def send(self, call: Call) -> dict[str, Any]:
        """Done, and kept nowhere."""
        await self.request(call)
        return {}

    async def ping(self, service: str, seconds: float) -> bool:
        """True if this process has a command of it."""
        del seconds
        return any(name.rpartition(".")[0] == service for name in self._commands.names())


async def answer(handler: Handler, call: Call) -> Any:
    """What a function answers to a command, as JSON can carry it.

    Raises:
        ServiceError: whatever it raised, as the sender is told.
    """
    try:
        arguments = handler.call_arguments(call)
        if handler.asynchronous:
            return encodable(await handler.function(*arguments))
        _, future = in_thread(lambda: handler.function(*arguments))
        return encodable(await future)
    except ServiceError:
        raise
    except PayloadInvalid as error:
        raise ServiceError(str(error), status=400, type="PayloadInvalid") from error
    except RetryAfter as error:
        raise ServiceError(
            str(error), status=503, type="RetryAfter", retry_after=error.after
        ) from error
    except HoraeError as error:
        raise ServiceError(error.message, status=error.status, type=error.code) from error
    except Exception as error:
        raise ServiceError(str(error), type=type(error).__name__) from error
