"""Commands to services over NATS: the adapter of the port `Services`.

A request goes to the subject on which the service listens, and its answer is the result. A command
that nobody waits for is stored in `HORAE_COMMANDS` under a subject of its own; services that only
listen get a copy on the subject of the requests, with the header `Horae-Sequence`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from horae_application.services import Call, NoReply, NoResponders, ServiceError
from horae_domain.durations import parse_duration
from horae_domain.errors import HoraeError
from horae_domain.instants import format_instant
from horae_domain.tracing import context_headers
from horae_infrastructure.nats import subjects
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.streams import StreamSettings, commands_stream, ensure

_encode = msgspec.json.Encoder().encode
_NO_RESPONDERS = "503"
_LONGEST_HEADER = 255
_STORE_TIMEOUT = 2.0
"""Seconds that one attempt to store waits for JetStream."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

T = TypeVar("T")


class _PubAck(msgspec.Struct, forbid_unknown_fields=True):
    """What JetStream answers to a message that a stream captures."""

    stream: str
    seq: int
    domain: str = ""
    duplicate: bool = False
    error: Any = None


_puback = msgspec.json.Decoder(_PubAck).decode


class NatsServices:
    """Sends commands; usable from any event loop while the one it was made on runs.

    Args:
        nc: the connection.
        settings: of the stream `HORAE_COMMANDS`.
    """

    def __init__(self, nc: Connection, settings: StreamSettings | None = None) -> None:
        self._nc = nc
        self._js = nc.jetstream()
        self._loop = asyncio.get_running_loop()
        self._stream = commands_stream(settings or StreamSettings())
        self._inbox = nc.new_inbox()
        self._numbers = itertools.count()
        self._waiting: dict[str, _Waiting] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Listen for answers."""
        self._subscription = await self._nc.subscribe(f"{self._inbox}.*", cb=self._receive)

    async def stop(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
            self._subscription = None

    async def request(self, call: Call) -> Any:
        """The service's answer: JSON, or text that is none, or None without a body."""
        return await self._on_loop(self._request(call))

    async def send(self, call: Call) -> dict[str, Any]:
        """Where JetStream keeps the command: `stream` and `sequence`."""
        return await self._on_loop(self._send(call))

    async def ping(self, service: str, seconds: float) -> bool:
        """True if a micro service of this name answers `$SRV.PING`."""
        return await self._on_loop(self._ping(service, seconds))

    async def _ping(self, service: str, seconds: float) -> bool:
        try:
            await self._nc.request(f"$SRV.PING.{service}", timeout=seconds)
        except (nats.errors.Error, OSError, TimeoutError):
            return False
        return True

    async def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await on the connection's loop, for a handler may run on one of its own."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    # --- request and reply ------------------------------------------------------------------------

    async def _request(self, call: Call) -> Any:
        token = str(next(self._numbers))
        waiting = self._waiting[token] = _Waiting(self._loop.create_future())
        subject = subjects.command_subject(call.tenant, call.service, call.command)
        try:
            async with asyncio.timeout(call.timeout):
                await self._publish(subject, call, reply=f"{self._inbox}.{token}")
                msg = await waiting.answer
        except TimeoutError as error:
            raise NoReply(_silence(call, waiting.stored_in)) from error
        finally:
            del self._waiting[token]
        return _result(call, msg)

    async def _publish(self, subject: str, call: Call, reply: str = "", **more: str) -> None:
        try:
            headers = headers_of(call) | more
            await self._nc.publish(subject, _encode(call.payload), reply, headers)
        except (nats.errors.Error, OSError) as error:
            raise _unsent(call, error) from error

    async def _receive(self, msg: Msg) -> None:
        waiting = self._waiting.get(msg.subject.rpartition(".")[2])
        if waiting is None or waiting.answer.done():
            return
        stream = _stored_in(msg)
        if stream is None:
            waiting.answer.set_result(msg)
        else:
            waiting.stored_in = stream  # the service's own answer is still to come

    # --- fire and forget --------------------------------------------------------------------------

    async def _send(self, call: Call) -> dict[str, Any]:
        """Store it; asked again under its key until the timeout, for an answer may be lost."""
        key = call.key or uuid.uuid4().hex
        deadline, pause = time.monotonic() + call.timeout, _FIRST_PAUSE
        while True:
            left = max(deadline - time.monotonic(), 0.001)
            try:
                stored = await self._store(call, key, min(left, _STORE_TIMEOUT))
                break
            except nats.errors.MaxPayloadError as error:
                raise _unsent(call, error) from error
            except (nats.errors.Error, OSError, TimeoutError) as error:
                if left <= pause:
                    reason = str(error) or type(error).__name__
                    raise NoReply(f"JetStream has not stored {call.name}: {reason}") from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        subject = subjects.command_subject(call.tenant, call.service, call.command)
        await self._publish(subject, call, **{subjects.SEQUENCE: str(stored["sequence"])})
        return stored

    async def _store(self, call: Call, key: str, seconds: float) -> dict[str, Any]:
        subject = subjects.send_subject(call.tenant, call.service, call.command)
        headers = headers_of(call) | {
            subjects.MESSAGE_ID: subjects.header_text(key, _LONGEST_HEADER)
        }
        try:
            ack = await self._js.publish(
                subject, _encode(call.payload), timeout=seconds, headers=headers
            )
        except nats.js.errors.NoStreamResponseError:
            await ensure(self._js, self._stream)
            raise
        return {"stream": ack.stream, "sequence": ack.seq}


class _Waiting:
    """A request without its answer, and the stream that has captured it, if one has."""

    __slots__ = ("answer", "stored_in")

    def __init__(self, answer: asyncio.Future[Msg]) -> None:
        self.answer = answer
        self.stored_in: str | None = None


def headers_of(call: Call) -> dict[str, str]:
    """What a service is told besides the payload."""
    given = {
        subjects.IDEMPOTENCY_KEY: call.key,
        subjects.CORRELATION_ID: call.correlation_id,
        subjects.CAUSATION_ID: call.causation_id,
        subjects.SCHEDULE_ID: call.schedule_id,
        subjects.EXECUTION_ID: call.execution_id,
        subjects.ATTEMPT: call.attempt,
        subjects.LEASE: call.lease,
        subjects.DUE: None if call.due is None else format_instant(call.due),
    }
    return context_headers(call.traceparent, call.carried) | {
        name: subjects.header_text(str(value), _LONGEST_HEADER)
        for name, value in given.items()
        if value is not None
    }


def _stored_in(msg: Msg) -> str | None:
    """The stream that acknowledges the message, if that is what this answer is."""
    if msg.headers:
        return None
    try:
        return _puback(msg.data).stream
    except msgspec.MsgspecError:
        return None


def _silence(call: Call, stored_in: str | None) -> str:
    said = f"{call.name} has not answered in {call.timeout:g} s"
    if stored_in is None:
        return said
    return f"{said}; only the stream {stored_in} has, which captures the subject"


def _unsent(call: Call, error: Exception) -> ServiceError:
    """A command that never left."""
    if isinstance(error, nats.errors.MaxPayloadError):
        return ServiceError(
            f"{call.name}: the payload is larger than the server allows",
            status=413,
            type="PayloadTooLarge",
        )
    reason = str(error) or type(error).__name__
    return ServiceError(f"{call.name} was not sent: {reason}", status=503, type="Unavailable")


def _result(call: Call, msg: Msg) -> Any:
    """What an answer says.

    Raises:
        NoResponders: it is the server's, that nobody listens.
        ServiceError: it carries the error headers of NATS services.
    """
    headers = msg.headers or {}
    if headers.get(subjects.STATUS) == _NO_RESPONDERS and not msg.data:
        raise NoResponders(f"nobody serves {call.name}")
    value = _value(msg.data)
    if subjects.ERROR_CODE in headers:
        raise _error(headers, value)
    return value


def _value(data: bytes) -> Any:
    if not data:
        return None
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return data.decode(errors="replace")


def _error(headers: dict[str, str], value: Any) -> ServiceError:
    """The error of a service: its headers, and what its body says of type and delay."""
    said = value.get("error") if isinstance(value, dict) else None
    told: dict[str, Any] = said if isinstance(said, dict) else {}
    code = headers[subjects.ERROR_CODE]
    kind = told.get("type") or told.get("code")
    return ServiceError(
        f"{code}: {headers.get(subjects.ERROR) or told.get('message') or 'refused'}"[:4000],
        status=int(code) if code.isdigit() and len(code) == 3 else 500,  # noqa: PLR2004
        type=kind[:255] if isinstance(kind, str) and kind else "ServiceError",
        retry_after=_delay(told.get("retry_after", headers.get(subjects.RETRY_AFTER))),
    )


def _delay(value: Any) -> float | None:
    """Seconds of `Retry-After`, or a duration; what is neither asks for nothing."""
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, str) and value.isdigit() else value
        return parse_duration(number, field="retry_after").total_seconds()
    except HoraeError:
        return None
