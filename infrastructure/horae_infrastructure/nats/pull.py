"""Pulling from a JetStream consumer, through restarts of the server and lost storage."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Protocol

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, Header, StreamConfig

from horae_application.log import get_logger
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.streams import ensure

_log = get_logger("horae.nats.pull")

PULL_EXPIRES = 5.0
"""Seconds that a pull stands at the server before it is renewed."""
MAX_ACK_PENDING = 10_000
PAUSE = 1.0
"""Seconds before a pull that failed is tried again."""
_ENDED = frozenset({"404", "408"})
"""Statuses that end a pull in peace: no messages, expired."""


class Taker(Protocol):
    """Whoever does what is pulled."""

    async def share(self) -> int:
        """Wait for a free slot; how many messages one pull may ask for."""
        ...

    async def accept(self, msg: Msg) -> None:
        """Begin with a message."""
        ...


class Pull:
    """Pulls from one durable consumer, which it makes if it is missing.

    Args:
        nc: the connection.
        taker: does what is pulled.
        stream: made if it is missing, and only then, for that may be forbidden.
        name: of the consumer; all who pull the same share it.
        subject: what the consumer is filtered to; None for the whole stream.
        ack_wait: seconds after which a message of somebody who died goes to another one.
    """

    def __init__(
        self,
        nc: Connection,
        taker: Taker,
        stream: StreamConfig,
        name: str,
        subject: str | None,
        *,
        ack_wait: float,
    ) -> None:
        self._nc = nc
        self._taker = taker
        self._stream = stream
        self._consumer = ConsumerConfig(
            durable_name=name,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait,
            max_ack_pending=MAX_ACK_PENDING,
        )
        self.name = name
        self._wanted = 0
        self._over = asyncio.Event()
        self._status: str | None = None

    async def forever(self) -> None:
        """Pull until cancelled."""
        inbox = self._nc.new_inbox()
        subscription = await self._nc.subscribe(inbox, cb=self._receive)
        self._nc.on_reconnect.append(self._over.set)
        healthy = False
        try:
            while True:
                try:
                    if not healthy:
                        await self._ensure()
                    healthy = await self._pull(inbox, await self._taker.share())
                except (nats.errors.Error, OSError) as error:
                    _log.warning("pull_failed", consumer=self.name, error=str(error))
                    healthy = False
                    await asyncio.sleep(PAUSE)
        finally:
            self._nc.on_reconnect.remove(self._over.set)
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def _pull(self, inbox: str, wanted: int) -> bool:
        """One pull, until it is answered or over; False if the consumer should be looked after."""
        self._over.clear()
        self._wanted, self._status = wanted, None
        request = {"batch": wanted, "expires": int(PULL_EXPIRES * 1e9)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream.name}.{self.name}"
        await self._nc.publish(subject, json.dumps(request).encode(), reply=inbox)
        try:
            await asyncio.wait_for(self._over.wait(), PULL_EXPIRES + 1)
        except TimeoutError:
            return False
        if self._status is None or self._status in _ENDED:
            return self._wanted <= 0 or self._status is not None
        _log.info("pull_ended", consumer=self.name, status=self._status)
        await asyncio.sleep(PAUSE / 10)
        return False

    async def _receive(self, msg: Msg) -> None:
        status = (msg.headers or {}).get(Header.STATUS.value)
        if status is not None:
            self._status = status
            self._over.set()
            return
        self._wanted -= 1
        if self._wanted <= 0:
            self._over.set()
        await self._taker.accept(msg)

    async def _ensure(self) -> None:
        """Make the consumer if it is missing."""
        js, stream = self._nc.jetstream(), str(self._stream.name)
        try:
            await js.add_consumer(stream, self._consumer)
        except nats.js.errors.NotFoundError:
            await ensure(js, self._stream)
            await js.add_consumer(stream, self._consumer)


@contextlib.asynccontextmanager
async def kept(msg: Msg, ack_wait: float) -> AsyncIterator[None]:
    """Tell JetStream again and again that the message is being worked on."""

    async def keep() -> None:
        while True:
            await asyncio.sleep(ack_wait / 3)
            with contextlib.suppress(nats.errors.Error, OSError):
                await msg.in_progress()

    keeper = asyncio.get_running_loop().create_task(keep())
    try:
        yield
    finally:
        keeper.cancel()
