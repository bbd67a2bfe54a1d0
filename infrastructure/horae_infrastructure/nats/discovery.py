"""The protocol by which NATS micro services are found and measured (ADR-32 of NATS).

The micro framework of nats-py handles the requests of an endpoint one after the other and measures
only the time until its handler returns. So our services serve their requests themselves and speak
the protocol of discovery alone, which is what `nats micro ls|info|stats` asks.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from horae_application.log import get_logger
from horae_infrastructure.nats.tasks import drain

_log = get_logger("horae.nats.discovery")
_encode = msgspec.json.Encoder().encode

_LOOK = 0.01
"""Seconds between looks at what has been found."""
QUEUE_GROUP = "q"


class Endpoint:
    """One subject of a service, and what discovery says about it.

    Args:
        name: of `A-Z a-z 0-9 _ -`.
        subject: where requests arrive.
        schema: the JSON schema of a request's body.
    """

    def __init__(self, name: str, subject: str, schema: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.subject = subject
        self.metadata = {} if schema is None else {"schema": _encode(schema).decode()}
        self.requests = 0
        self.errors = 0
        self.nanoseconds = 0
        self.last_error = ""

    def count(self, nanoseconds: int, error: str | None = None) -> None:
        """One more request has been answered."""
        self.requests += 1
        self.nanoseconds += nanoseconds
        if error is not None:
            self.errors += 1
            self.last_error = error

    def info(self) -> dict[str, Any]:
        """For `INFO`."""
        return {
            "name": self.name,
            "subject": self.subject,
            "queue_group": QUEUE_GROUP,
            "metadata": self.metadata,
        }

    def stats(self) -> dict[str, Any]:
        """For `STATS`."""
        return {
            "name": self.name,
            "subject": self.subject,
            "queue_group": QUEUE_GROUP,
            "num_requests": self.requests,
            "num_errors": self.errors,
            "last_error": self.last_error,
            "processing_time": self.nanoseconds,
            "average_processing_time": self.nanoseconds // max(self.requests, 1),
        }


class Discovery:
    """Answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` for one service.

    Args:
        nc: the connection.
        name: of the service: of `A-Z a-z 0-9 _ -`.
        version: as semantic versioning has it.
        description: in a few words.
        endpoints: read anew at each question.
    """

    def __init__(
        self,
        nc: Client,
        name: str,
        *,
        version: str,
        description: str,
        endpoints: Sequence[Endpoint],
    ) -> None:
        self._nc = nc
        self._name = name
        self._version = version
        self._description = description
        self._endpoints = endpoints
        self._id = uuid.uuid4().hex
        self._started = datetime.now(UTC)
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Begin to answer; the server knows of all subscriptions when this returns."""
        for verb, say in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            for suffix in ("", f".{self._name}", f".{self._name}.{self._id}"):
                subject = f"$SRV.{verb}{suffix}"
                subscription = await self._nc.subscribe(subject, cb=self._teller(say))
                self._subscriptions.append(subscription)
        await self._nc.flush()

    async def stop(self, limit: float = 5.0) -> None:
        """Answer no more."""
        await asyncio.gather(*(drain(each, limit) for each in self._subscriptions))
        self._subscriptions.clear()

    def _teller(self, say: Callable[[], dict[str, Any]]) -> Callable[[Msg], Awaitable[None]]:
        async def tell(msg: Msg) -> None:
            if msg.reply:
                await self._nc.publish(msg.reply, _encode(say()))

        return tell

    def _identity(self, kind: str) -> dict[str, Any]:
        return {
            "type": f"io.nats.micro.v1.{kind}_response",
            "name": self._name,
            "id": self._id,
            "version": self._version,
            "metadata": {},
        }

    def _ping(self) -> dict[str, Any]:
        return self._identity("ping")

    def _info(self) -> dict[str, Any]:
        endpoints = [each.info() for each in self._endpoints]
        return self._identity("info") | {"description": self._description, "endpoints": endpoints}

    def _stats(self) -> dict[str, Any]:
        started = self._started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        endpoints = [each.stats() for each in self._endpoints]
        return self._identity("stats") | {"started": started, "endpoints": endpoints}


class Found:
    """Subjects on which micro services say that they answer, asked for when they are needed.

    Args:
        nc: the connection.
        wait: seconds that services have to answer.
        expiry: seconds for which an answer is believed.
    """

    def __init__(self, nc: Client, *, wait: float = 1.0, expiry: float = 20.0) -> None:
        self._nc = nc
        self._wait = wait
        self._expiry = expiry
        self._heard: dict[str, float] = {}
        self._asking: asyncio.Task[None] | None = None

    async def serves(self, subject: str) -> bool:
        """True if a service answers on the subject, perhaps by a wildcard.

        Whoever asks while another asks shares the answers; each waits no longer than it must.
        """
        if self._knows(subject):
            return True
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        asking = self._asking
        while not self._knows(subject) and not asking.done():
            await asyncio.wait({asking}, timeout=_LOOK)
        return self._knows(subject)

    def subjects(self) -> list[str]:
        """All that have been found lately."""
        horizon = time.monotonic() - self._expiry
        return sorted(subject for subject, at in self._heard.items() if at > horizon)

    def _knows(self, subject: str) -> bool:
        return any(matches(each, subject) for each in self.subjects())

    async def _ask(self) -> None:
        inbox = self._nc.new_inbox()
        try:
            subscription = await self._nc.subscribe(inbox, cb=self._hear)
            await self._nc.publish("$SRV.INFO", reply=inbox)
            await asyncio.sleep(self._wait)
            await subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            _log.warning("services_not_asked", error=str(error))

    async def _hear(self, msg: Msg) -> None:
        try:
            said = _info(msg.data)
        except msgspec.MsgspecError:
            return  # the server says that nobody is there, or it is no service
        now = time.monotonic()
        self._heard |= {endpoint.subject: now for endpoint in said.endpoints}


class _SaidEndpoint(msgspec.Struct):
    subject: str


class _Said(msgspec.Struct):
    """What is needed of an answer to `$SRV.INFO`."""

    endpoints: list[_SaidEndpoint]


_info = msgspec.json.Decoder(_Said).decode


def matches(pattern: str, subject: str) -> bool:
    """True if a subject is one of those that a subscription to `pattern` gets."""
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted, given = wanted[:-1], given[: len(wanted) - 1]
        if subject.count(".") < len(wanted):
            return False
    return len(wanted) == len(given) and all(
        want in ("*", got) for want, got in zip(wanted, given, strict=True)
    )
