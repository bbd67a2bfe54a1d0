"""External events from JetStream: recorded before they are acknowledged.

All engines share one durable consumer. A message that is no event ends there, with its reason in the log
and in health; one that cannot be recorded now comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import uuid4

import nats.errors
from nats.aio.msg import Msg

from horae_application.log import get_logger
from horae_application.messages import PublishEvent, Reply, Request, refused
from horae_domain.errors import BaggageTooLarge, HoraeError
from horae_domain.tracing import BAGGAGE, read_context
from horae_infrastructure.event_subjects import Pattern
from horae_infrastructure.nats import subjects
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.inbox_messages import Arrival, read_arrival
from horae_infrastructure.nats.pull import PAUSE, Pull
from horae_infrastructure.nats.streams import StreamSettings, ensure, inbox_stream
from horae_infrastructure.nats.tasks import Tasks, cancel

_log = get_logger("horae.nats.inbox")

Receive = Callable[[Request, PublishEvent], Awaitable[Reply]]
"""Records an event with what follows from it."""

CONSUMER = "horae-inbox"
IN_FLIGHT = 512
"""Events that are recorded at once."""
ACK_WAIT = 30.0
"""Seconds after which an event of an engine that died goes to another one."""
AGAIN = 1.0
"""Seconds after which an event comes again that could not be recorded."""
TRIES = 20
"""Deliveries after which an event is given up whose recording fails for a fault of the engine's."""
_FAULT = 500
_UNAVAILABLE = 503


class Inbox:
    """Captures external events and hands them to the engine.

    Args:
        nc: the connection.
        receive: records one.
        patterns: of the subjects on which they travel.
        settings: of the streams.
        ack_wait: seconds after which an event that nobody acknowledged is delivered again.
    """

    def __init__(
        self,
        nc: Connection,
        receive: Receive,
        patterns: Sequence[Pattern],
        settings: StreamSettings,
        *,
        ack_wait: float = ACK_WAIT,
    ) -> None:
        self._nc = nc
        self._receive = receive
        self._patterns = patterns
        self._stream = inbox_stream(settings, [each.filter for each in patterns])
        self._pull = Pull(nc, self, self._stream, CONSUMER, None, ack_wait=ack_wait)
        self._tasks = Tasks(IN_FLIGHT)
        self._loop: asyncio.Task[None] | None = None
        self.received = 0
        self.refused = 0
        self.last_refusal: str | None = None

    async def start(self) -> None:
        """Begin to capture; a server that is down is waited for in the background."""
        self._loop = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, limit: float) -> None:
        """Take no more; what is being recorded has `limit` seconds."""
        if self._loop is not None:
            await cancel(self._loop)
        await self._tasks.finish(limit)

    def health(self) -> dict[str, Any]:
        """What came in, and what was no event."""
        facts = {"status": "up", "received": self.received, "refused": self.refused}
        return facts if self.last_refusal is None else facts | {"last_refusal": self.last_refusal}

    async def _run(self) -> None:
        while True:
            try:
                await ensure(self._nc.jetstream(), self._stream)
                break
            except (nats.errors.Error, OSError) as error:
                _log.warning("inbox_unavailable", error=str(error))
                await asyncio.sleep(PAUSE)
        await self._pull.forever()

    async def share(self) -> int:
        """Wait until one more can be recorded; how many can."""
        return await self._tasks.room()

    async def accept(self, msg: Msg) -> None:
        """Begin with a message."""
        self._tasks.start(self._take(msg))

    async def _take(self, msg: Msg) -> None:
        try:
            reply = await self._recorded(msg)
            if reply.ok:
                self.received += 1
                await msg.ack()
            elif self._hopeless(msg, reply):
                self._give_up(msg, reply)
                await msg.term()
            else:
                await msg.nak(delay=AGAIN)
        except (nats.errors.Error, OSError) as error:
            _log.warning("not_acknowledged", subject=msg.subject, error=str(error))

    async def _recorded(self, msg: Msg) -> Reply:
        try:
            tenant, command = read_arrival(self._patterns, _arrival(msg))
        except HoraeError as error:
            return refused(error)
        traceparent, carried = _context(msg.headers or {})
        request = Request(
            tenant=tenant,
            name=command.name,
            command_id=uuid4().hex,
            correlation_id=(msg.headers or {}).get(subjects.CORRELATION_ID),
            actor="nats",
            traceparent=traceparent,
            carried=carried,
        )
        return await self._receive(request, command)

    def _hopeless(self, msg: Msg, reply: Reply) -> bool:
        """True if it would be refused again, or has been tried often enough."""
        if reply.status == _FAULT:
            return msg.metadata.num_delivered >= TRIES
        return reply.status != _UNAVAILABLE

    def _give_up(self, msg: Msg, reply: Reply) -> None:
        error = reply.body["error"]
        self.refused += 1
        self.last_refusal = f"{msg.subject[:200]}: {error['code']}: {error['message'][:200]}"
        _log.error(
            "event_refused",
            subject=msg.subject[:200],
            sequence=msg.metadata.sequence.stream,
            code=error["code"],
            reason=error["message"],
        )


def _context(headers: dict[str, str]) -> tuple[str | None, dict[str, str]]:
    """The trace context of an event; baggage out of bounds is dropped: nobody waits for a refusal."""
    try:
        return read_context(headers)
    except BaggageTooLarge:
        return read_context({name: text for name, text in headers.items() if name != BAGGAGE})


def _arrival(msg: Msg) -> Arrival:
    facts = msg.metadata
    return Arrival(
        msg.subject,
        msg.data,
        msg.headers or {},
        facts.stream,
        facts.sequence.stream,
        facts.timestamp,
    )
