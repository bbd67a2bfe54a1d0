"""Commands and queries as a NATS micro service named `horae`.

Requests are served here, each as a task of its own; `nats micro ls|info|stats` sees one endpoint for
each command and query.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from horae_application.log import get_logger
from horae_application.messages import Reply, Request, refused
from horae_domain.errors import (
    HoraeError,
    Internal,
    InvalidField,
    PayloadTooLarge,
    TooManyRequests,
)
from horae_domain.tracing import read_context
from horae_domain.wire import MAX_BULK, MAX_REQUEST
from horae_infrastructure.nats import subjects
from horae_infrastructure.nats.discovery import QUEUE_GROUP, Discovery, Endpoint
from horae_infrastructure.nats.tasks import Tasks, drain

_log = get_logger("horae.nats.service")
_encode = msgspec.json.Encoder().encode

Handler = Callable[[Request], Awaitable[Reply]]

SERVICE = "horae"
MAX_IN_FLIGHT = 1024
_HEADER_LIMIT = 255
_MESSAGE_LIMIT = 500
_BULK = frozenset({"schedule.create_many"})


class _Kind:
    """All commands, or all queries: their handler and their endpoints."""

    def __init__(
        self, kind: str, handler: Handler, names: Iterable[str], schemas: Mapping[str, Any]
    ) -> None:
        self.kind = kind
        self.handler = handler
        self.endpoints = {
            name: Endpoint(
                f"{kind}-{name.replace('.', '-')}",
                subjects.request_subject("*", kind, name),
                schemas.get(name),
            )
            for name in sorted(names)
        }


class NatsService:
    """Answers requests that come over NATS; several processes share them as one queue group.

    Args:
        nc: the connection.
        commands, queries: answer one request each. A `HoraeError` that they raise becomes a
            refusal; any other exception a 500 `internal` that says nothing but is logged.
        command_names, query_names: the endpoints. With no names of a kind, none of it is served.
        version: of this program, as semantic versioning has it.
        schemas: the JSON schema of a request's body, by its name, for those who discover us.
        max_in_flight: requests in progress; beyond, 429 `too_many_requests` is answered at once.
    """

    def __init__(
        self,
        nc: Client,
        *,
        commands: Handler,
        queries: Handler,
        command_names: Iterable[str],
        query_names: Iterable[str],
        version: str,
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self._nc = nc
        schemas = schemas or {}
        self._kinds = [
            _Kind("command", commands, command_names, schemas),
            _Kind("query", queries, query_names, schemas),
        ]
        self._discovery = Discovery(
            nc,
            SERVICE,
            version=version,
            description="Horae, an event-sourced scheduling engine",
            endpoints=[each for kind in self._kinds for each in kind.endpoints.values()],
        )
        self._tasks = Tasks(max_in_flight)
        self._subscriptions: list[Subscription] = []

    @property
    def in_flight(self) -> int:
        """Requests in progress."""
        return len(self._tasks)

    async def start(self) -> None:
        """Begin to listen."""
        for kind in self._kinds:
            if kind.endpoints:
                subject = subjects.request_subject("*", kind.kind, ">")
                receive = self._receiver(kind)
                self._subscriptions.append(
                    await self._nc.subscribe(subject, queue=QUEUE_GROUP, cb=receive)
                )
        await self._discovery.start()

    async def stop(self, limit: float = 5.0) -> None:
        """Take no more requests; those in progress have `limit` seconds to be answered."""
        await self._discovery.stop(limit)
        await asyncio.gather(*(drain(each, limit) for each in self._subscriptions))
        self._subscriptions.clear()
        await self._tasks.finish(limit)

    def _receiver(self, kind: _Kind) -> Callable[[Msg], Awaitable[None]]:
        tasks = self._tasks

        async def receive(msg: Msg) -> None:
            if tasks.full:
                busy = TooManyRequests("too many requests in progress", limit=tasks.limit)
                await self._reply(msg, refused(busy))
            else:
                tasks.start(self._serve(kind, msg))

        return receive

    async def _serve(self, kind: _Kind, msg: Msg) -> None:
        began = time.perf_counter_ns()
        _, tenant, _, name = msg.subject.split(".", 3)
        endpoint = kind.endpoints.get(name)
        try:
            if endpoint is None:
                known = list(kind.endpoints)
                raise InvalidField(  # noqa: TRY301 - one place that turns errors into replies
                    f"no such {kind.kind}: {name[:_HEADER_LIMIT]}", field="name", known=known
                )
            reply = await kind.handler(_request(tenant, name, msg))
        except HoraeError as error:
            reply = refused(error)
        except Exception:  # noqa: BLE001 - recorded, and answered
            _log.exception("request_failed", subject=msg.subject[:_MESSAGE_LIMIT])
            reply = refused(Internal("an internal error; the engine's log has the reason"))
        await self._reply(msg, reply)
        if endpoint is not None:
            refusal = None if reply.ok else str(reply.body.get("error", {}).get("message", ""))
            endpoint.count(time.perf_counter_ns() - began, refusal)

    async def _reply(self, msg: Msg, reply: Reply) -> None:
        """Send a reply; one that cannot be sent is a refusal, or lost with the connection."""
        if not msg.reply:
            return
        data = self._data(reply)
        if data is None or len(data) > self._nc.max_payload:
            reply = refused(
                Internal("the answer cannot be sent; the engine's log has the reason")
                if data is None
                else PayloadTooLarge("the answer is too large: ask for less", size=len(data))
            )
            data = _encode(reply.body)
        try:
            await self._nc.publish(msg.reply, data, headers=None if reply.ok else _headers(reply))
        except (nats.errors.Error, OSError) as error:
            _log.warning("reply_lost", subject=msg.subject, error=str(error))

    @staticmethod
    def _data(reply: Reply) -> bytes | None:
        """The body as JSON, or None if it cannot be."""
        try:
            return _encode(reply.body)
        except (TypeError, ValueError, RecursionError):
            _log.exception("reply_not_json")
            return None


def _request(tenant: str, name: str, msg: Msg) -> Request:
    """The request of a message.

    Raises:
        InvalidField: the tenant or a header is none.
        BaggageTooLarge: the baggage is over its bounds.
        PayloadTooLarge: before anybody has copied it.
    """
    if not subjects.TENANT.match(tenant):
        raise InvalidField("a tenant is 1 to 64 of A-Z a-z 0-9 _ -", field="tenant", value=tenant)
    limit = MAX_BULK if name in _BULK else MAX_REQUEST
    if len(msg.data) > limit:
        raise PayloadTooLarge(
            f"a request has at most {limit} bytes", limit=limit, size=len(msg.data)
        )
    headers = msg.headers
    if not headers:
        return Request(tenant=tenant, name=name, body=msg.data, command_id=uuid.uuid4().hex)
    traceparent, carried = read_context(headers)
    return Request(
        tenant=tenant,
        name=name,
        body=msg.data,
        key=_header(headers, subjects.IDEMPOTENCY_KEY),
        command_id=uuid.uuid4().hex,
        correlation_id=_header(headers, subjects.CORRELATION_ID),
        actor=_header(headers, subjects.ACTOR),
        traceparent=traceparent,
        carried=carried,
    )


def _header(headers: Mapping[str, str], name: str) -> str | None:
    value = headers.get(name)
    if value is not None and not 1 <= len(value) <= _HEADER_LIMIT:
        raise InvalidField(
            f"the header {name} has 1 to {_HEADER_LIMIT} characters", field=name, value=value
        )
    return value


def _headers(reply: Reply) -> dict[str, str]:
    """What clients of NATS services look at."""
    message = str(reply.body.get("error", {}).get("message", "refused"))
    return {
        subjects.ERROR: subjects.header_text(message, _MESSAGE_LIMIT),
        subjects.ERROR_CODE: str(reply.status),
    }
