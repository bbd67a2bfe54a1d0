"""From the engine that was asked to the engine that owns the partition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from horae_application.log import get_logger
from horae_application.messages import Reply, Request, refused
from horae_domain.errors import HoraeError, Internal, InvalidField, TooManyRequests, Unavailable
from horae_infrastructure.nats.connection import driver_errors
from horae_infrastructure.nats.subjects import token
from horae_infrastructure.nats.tasks import Tasks, drain

_log = get_logger("horae.nats.forward")
_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(Request).decode
_reply = msgspec.msgpack.Decoder(Reply).decode

MAX_IN_FLIGHT = 4096


def engine_address(owner: str) -> str:
    """Where an engine listens for what is forwarded to it; its `address` as a member."""
    return f"horae._engine.{token(owner)}"


class NatsForwarder:
    """The port `Forwarder` over NATS; an address is a subject.

    Args:
        nc: the connection.
        timeout: seconds to wait for the owner's reply.
    """

    def __init__(self, nc: Client, *, timeout: float = 2.0) -> None:
        self._nc = nc
        self._timeout = timeout

    async def forward(self, address: str, request: Request) -> Reply:
        """The owner's reply.

        Raises:
            Unavailable: nobody answered at `address`; whether it was done is not known, unless it
                is `moved`: then nobody listens there any more.
        """
        with driver_errors(f"the owner at {address} does not answer"):
            try:
                msg = await self._nc.request(address, _encode(request), timeout=self._timeout)
            except nats.errors.NoRespondersError as error:
                raise Unavailable(f"nobody listens at {address}", moved=True) from error
        return _reply(msg.data)


class NatsReceiver:
    """Answers what other engines forward to this one, each request as a task of its own."""

    def __init__(
        self,
        nc: Client,
        address: str,
        handler: Callable[[Request], Awaitable[Reply]],
        *,
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> None:
        self._nc = nc
        self._address = address
        self._handler = handler
        self._tasks = Tasks(max_in_flight)
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Begin to listen."""
        self._subscription = await self._nc.subscribe(self._address, cb=self._receive)
        await self._nc.flush()

    async def stop(self, limit: float = 5.0) -> None:
        """Take no more requests; those in progress have `limit` seconds to be answered."""
        if self._subscription is not None:
            await drain(self._subscription, limit)
            self._subscription = None
        await self._tasks.finish(limit)

    async def _receive(self, msg: Msg) -> None:
        if self._tasks.full:
            busy = TooManyRequests("too many requests in progress", limit=self._tasks.limit)
            await self._respond(msg, refused(busy))
        else:
            self._tasks.start(self._serve(msg))

    async def _serve(self, msg: Msg) -> None:
        try:
            reply = await self._handler(_request(msg.data))
        except HoraeError as error:
            reply = refused(error)
        except msgspec.MsgspecError as error:
            reply = refused(InvalidField(f"not a forwarded request: {error}"))
        except Exception:  # noqa: BLE001 - recorded, and answered
            _log.exception("forwarded_request_failed")
            reply = refused(Internal("an internal error; the engine's log has the reason"))
        await self._respond(msg, reply)

    async def _respond(self, msg: Msg, reply: Reply) -> None:
        if not msg.reply:
            return
        try:
            await self._nc.publish(msg.reply, _encode(reply))
        except (nats.errors.Error, OSError) as error:
            _log.warning("reply_lost", subject=msg.subject, error=str(error))
