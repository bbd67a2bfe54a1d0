"""Commands that this application serves, over NATS.

Each command is an endpoint of a micro service, found by `$SRV.INFO`, and a consumer of
`HORAE_COMMANDS` for those that nobody waits for.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from horae_application.log import get_logger
from horae_application.registry import Functions, Handler
from horae_application.services import Call, ServiceError, answer
from horae_domain.errors import HoraeError
from horae_domain.instants import parse_instant
from horae_domain.tracing import read_context
from horae_infrastructure.nats import subjects
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.discovery import QUEUE_GROUP, Discovery, Endpoint
from horae_infrastructure.nats.pull import Pull, kept
from horae_infrastructure.nats.streams import StreamSettings, commands_stream
from horae_infrastructure.nats.tasks import Tasks, cancel, drain

_log = get_logger("horae.nats.serving")
_encode = msgspec.json.Encoder().encode

VERSION = "0.1.0"
MAX_DELIVERIES = 10
"""After so many failures a command that nobody waits for is given up, with an error in the log."""
LONGEST_DELAY = 60.0
"""Seconds between two of them."""
_BUSY = 1.0
"""Seconds after which a sender is told to try again."""
_MESSAGE_LIMIT = 500
_ATTEMPT = re.compile(r"[0-9]{1,9}")


class NatsServing:
    """Serves the commands of one application for one tenant, from `start` to `stop`.

    Args:
        nc: the connection.
        tenant: whose commands.
        commands: by service and command; those that are added later are served when `look` is called.
        slots: commands at once.
        ack_wait: seconds after which a stored command of a process that died goes to another one.
        settings: of the stream.
    """

    def __init__(
        self,
        nc: Connection,
        tenant: str,
        commands: Functions,
        *,
        slots: int = 16,
        ack_wait: float = 30.0,
        settings: StreamSettings | None = None,
    ) -> None:
        self._nc = nc
        self._loop = asyncio.get_running_loop()
        self._tenant = tenant
        self._commands = commands
        self._ack_wait = ack_wait
        self._stream = commands_stream(settings or StreamSettings())
        self._tasks = Tasks(slots)
        self._looking = asyncio.Lock()
        self._served: set[str] = set()
        self._endpoints: dict[str, list[Endpoint]] = {}
        self._discoveries: list[Discovery] = []
        self._subscriptions: list[Subscription] = []
        self._pulls: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to serve; requests that are sent from now on arrive."""
        await self._add_new()

    async def stop(self, limit: float = 5.0) -> None:
        """Take no more; those in progress have `limit` seconds to end."""
        await cancel(*self._pulls)
        await asyncio.gather(
            *(each.stop(limit) for each in self._discoveries),
            *(drain(each, limit) for each in self._subscriptions),
        )
        await self._tasks.finish(limit)

    def look(self) -> None:
        """There may be more commands; from any thread."""
        asyncio.run_coroutine_threadsafe(self._add_new(), self._loop)

    async def _add_new(self) -> None:
        async with self._looking:
            for name in self._commands.names():
                if name not in self._served:
                    self._served.add(name)
                    await self._add(name)
            await self._nc.flush()

    async def _add(self, name: str) -> None:
        service, _, command = name.rpartition(".")
        endpoint = Endpoint(command, subjects.command_subject(self._tenant, service, command))
        endpoints = self._endpoints.setdefault(service, [])
        endpoints.append(endpoint)
        if len(endpoints) == 1:
            await self._discover(service, endpoints)
        handler = self._commands.get(name)
        assert handler is not None  # noqa: S101 - what is named is there
        told = Call(tenant=self._tenant, service=service, command=command)
        listener = _Listener(self._nc, handler, told, endpoint, self._tasks, self._ack_wait)
        subscription = await self._nc.subscribe(
            endpoint.subject, queue=QUEUE_GROUP, cb=listener.request
        )
        self._subscriptions.append(subscription)
        pull = Pull(
            self._nc,
            listener,
            self._stream,
            subjects.durable("command", self._tenant, name),
            subjects.send_subject(self._tenant, service, command),
            ack_wait=self._ack_wait,
        )
        self._pulls.append(self._loop.create_task(pull.forever()))

    async def _discover(self, service: str, endpoints: list[Endpoint]) -> None:
        discovery = Discovery(
            self._nc,
            service.replace(".", "-"),
            version=VERSION,
            description=f"Commands of {service}",
            endpoints=endpoints,
        )
        self._discoveries.append(discovery)
        await discovery.start()


class _Listener:
    """One command: requests as they come, and what is stored as there is room."""

    def __init__(
        self,
        nc: Connection,
        handler: Handler,
        told: Call,
        endpoint: Endpoint,
        tasks: Tasks,
        ack_wait: float,
    ) -> None:
        self._nc = nc
        self._handler = handler
        self._told = told
        self._endpoint = endpoint
        self._tasks = tasks
        self._ack_wait = ack_wait

    async def _answer(self, msg: Msg) -> Any:
        """What the function answers.

        Raises:
            ServiceError: it failed.
        """
        began, complaint = time.perf_counter_ns(), None
        try:
            return await answer(self._handler, _call(self._told, msg))
        except ServiceError as error:
            complaint = error.message
            raise
        finally:
            self._endpoint.count(time.perf_counter_ns() - began, complaint)

    # --- requests ---------------------------------------------------------------------------------

    async def request(self, msg: Msg) -> None:
        """Begin with a message on the command's own subject."""
        if subjects.SEQUENCE in (msg.headers or {}):
            return  # a copy of what is stored, and comes by the consumer
        if self._tasks.full:
            busy = ServiceError("busy", status=429, type="TooManyRequests", retry_after=_BUSY)
            await self._refuse(msg, busy)
        else:
            self._tasks.start(self._serve(msg))

    async def _serve(self, msg: Msg) -> None:
        try:
            data = _encode(await self._answer(msg))
        except ServiceError as error:
            await self._refuse(msg, error)
        else:
            await self._respond(msg, data, None)

    async def _refuse(self, msg: Msg, error: ServiceError) -> None:
        said: dict[str, Any] = {"type": error.type, "message": error.message}
        headers = {
            subjects.ERROR: subjects.header_text(error.message, _MESSAGE_LIMIT),
            subjects.ERROR_CODE: str(error.error_code),
        }
        if error.retry_after is not None:
            said["retry_after"] = error.retry_after.total_seconds()
            headers[subjects.RETRY_AFTER] = str(math.ceil(said["retry_after"]))
        await self._respond(msg, _encode({"ok": False, "error": said}), headers)

    async def _respond(self, msg: Msg, data: bytes, headers: dict[str, str] | None) -> None:
        if not msg.reply:
            return
        try:
            await self._nc.publish(msg.reply, data, headers=headers)
        except (nats.errors.Error, OSError) as error:
            _log.warning("answer_lost", subject=msg.subject, error=str(error))

    # --- what is stored ---------------------------------------------------------------------------

    async def share(self) -> int:
        """Wait for a free slot."""
        return await self._tasks.room()

    async def accept(self, msg: Msg) -> None:
        """Begin with a stored command."""
        if self._tasks.full:
            await msg.nak()
        else:
            self._tasks.start(self._do(msg))

    async def _do(self, msg: Msg) -> None:
        deliveries = msg.metadata.num_delivered or 1
        try:
            async with kept(msg, self._ack_wait):
                await self._answer(msg)
        except asyncio.CancelledError:
            await msg.nak()
            raise
        except ServiceError as error:
            given_up = error.final or deliveries >= MAX_DELIVERIES
            report = _log.error if given_up else _log.warning
            report("command_failed", command=self._told.name, error=error.message, final=given_up)
            if given_up:
                await msg.term()
            else:
                await msg.nak(delay=_delay(error, deliveries))
        else:
            await msg.ack()


def _delay(error: ServiceError, deliveries: int) -> float:
    """Seconds before a stored command is tried again."""
    if error.retry_after is not None:
        return error.retry_after.total_seconds()
    return float(min(LONGEST_DELAY, 2.0 ** (deliveries - 1)))


def _call(told: Call, msg: Msg) -> Call:
    """What a message says.

    Raises:
        ServiceError: its body is no JSON.
    """
    try:
        payload = msgspec.json.decode(msg.data) if msg.data else None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ServiceError(f"not JSON: {error}", status=400, type="PayloadInvalid") from error
    headers: Mapping[str, str] = msg.headers or {}
    attempt = headers.get(subjects.ATTEMPT, "")
    due, traceparent = None, None
    carried: dict[str, str] = {}
    with suppress(HoraeError):  # anybody may send anything
        traceparent, carried = read_context(headers)
    with suppress(HoraeError):
        due = parse_instant(headers.get(subjects.DUE, ""), field=subjects.DUE)
    return msgspec.structs.replace(
        told,
        payload=payload,
        reply=bool(msg.reply) and not msg.reply.startswith("$JS."),
        key=headers.get(subjects.IDEMPOTENCY_KEY),
        correlation_id=headers.get(subjects.CORRELATION_ID),
        causation_id=headers.get(subjects.CAUSATION_ID),
        schedule_id=headers.get(subjects.SCHEDULE_ID),
        execution_id=headers.get(subjects.EXECUTION_ID),
        attempt=int(attempt) if _ATTEMPT.fullmatch(attempt) else None,
        lease=headers.get(subjects.LEASE),
        due=due,
        traceparent=traceparent,
        carried=carried,
    )
