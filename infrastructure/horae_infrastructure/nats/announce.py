"""Who serves which handlers: executors say so every few seconds, engines listen.

It is soft state: an executor that falls silent is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from horae_application.log import get_logger
from horae_application.ports import Hands
from horae_application.work import HTTP_CALLS, PROCESSES, SCHEDULES, SERVICE_COMMANDS
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.subjects import ANNOUNCE, ASK
from horae_infrastructure.nats.tasks import cancel, drain

_log = get_logger("horae.nats.announce")

EVERY = 5.0
EXPIRY = 20.0
"""Seconds."""


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What an executor says of itself, as JSON on `horae._announce`."""

    executor: str
    tenant: str
    app: str
    handlers: list[str] = []
    queues: list[str] = []
    processes: bool = False
    """True if it runs actions of type `process`."""
    calls: bool = False
    """True if it makes HTTP calls."""
    commands: list[str] = []
    """What services here answer, such as `trading.Rebalance`."""
    checks: list[str] = []
    """Conditions and checks."""
    over: str | None = None
    """Which bound it is over, so that it takes no new work."""
    slots: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    """How many works it does at once, if it says so."""
    errands: bool = False
    """True if it pulls commands to services and schedules to be made from templates."""
    leaving: bool = False

    @property
    def hands(self) -> Hands:
        """What engines count on."""
        names = {
            *self.handlers,
            *([SERVICE_COMMANDS, SCHEDULES] if self.errands else []),
            *([PROCESSES] if self.processes else []),
            *([HTTP_CALLS] if self.calls else []),
        }
        pulls = {(self.tenant, "function", name) for name in names}
        pulls |= {(self.tenant, "queue", name) for name in self.queues}
        slots = 0 if self.over and self.slots is not None else self.slots
        return Hands(self.executor, slots, frozenset(pulls))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Announcement).decode


class Announcer:
    """Announces one executor from `start` to `stop`: every `every` seconds, when asked, when back."""

    def __init__(self, nc: Connection, announcement: Announcement, *, every: float = EVERY) -> None:
        self._nc = nc
        self._said = announcement
        self._every = every
        self._now = asyncio.Event()
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to announce; engines that listen know of it when this returns."""
        self._subscription = await self._nc.subscribe(ASK, cb=self._asked)
        await self._say(self._said)
        with contextlib.suppress(nats.errors.Error):
            await self._nc.flush()
        self._nc.on_reconnect.append(self._now.set)
        self._task = asyncio.get_running_loop().create_task(self._repeat())

    async def stop(self) -> None:
        """Say good-bye."""
        if self._task is not None:
            self._nc.on_reconnect.remove(self._now.set)
            await cancel(self._task)
            self._task = None
        if self._subscription is not None:
            await drain(self._subscription, 1)
            self._subscription = None
        await self._say(msgspec.structs.replace(self._said, leaving=True))

    def update(self, **facts: Any) -> None:
        """Something is served that was not, to be announced at once."""
        self._said = msgspec.structs.replace(self._said, **facts)
        self._now.set()

    async def _repeat(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._now.wait(), self._every)
            self._now.clear()
            await self._say(self._said)

    async def _asked(self, _msg: Msg) -> None:
        await self._say(self._said)

    async def _say(self, announcement: Announcement) -> None:
        if not self._nc.is_connected:
            return  # said late, it would be untrue; the next one comes soon
        try:
            await self._nc.publish(ANNOUNCE, _encode(announcement))
        except (nats.errors.Error, OSError) as error:
            _log.info("not_announced", error=str(error))


class _Heard(NamedTuple):
    """When an executor has spoken last, and what it has said."""

    at: float
    said: Announcement
    hands: Hands


class Announced:
    """What executors have announced; readable from any thread.

    Args:
        nc: the connection.
        expiry: seconds after which a silent executor is forgotten.
    """

    def __init__(self, nc: Client, *, expiry: float = EXPIRY) -> None:
        self._nc = nc
        self._expiry = expiry
        self._known: dict[tuple[str, str], _Heard] = {}
        """By executor and tenant."""
        self._subscription: Subscription | None = None
        self.heard = asyncio.Event()
        """Set at each announcement, for those who wait for one."""
        self.changed: Callable[[], None] = lambda: None
        """Called when there are other hands than before; those that fall silent go with the next
        announcement of another."""

    async def start(self) -> None:
        """Begin to listen, and ask who is there."""
        self._subscription = await self._nc.subscribe(ANNOUNCE, cb=self._hear)
        await self._nc.publish(ASK)
        await self._nc.flush()

    async def stop(self) -> None:
        """Listen no more; what is known expires."""
        if self._subscription is not None:
            await drain(self._subscription, 1)
            self._subscription = None

    def executors(self, tenant: str | None = None) -> list[Announcement]:
        """Those who have spoken lately, of a tenant or of all."""
        horizon = time.monotonic() - self._expiry
        return [
            heard.said
            for heard in self._known.values()
            if heard.at > horizon and tenant in (None, heard.said.tenant)
        ]

    def hands(self) -> list[Hands]:
        """Those who have spoken lately, and how much they do at once if they say so."""
        horizon = time.monotonic() - self._expiry
        return [heard.hands for heard in self._known.values() if heard.at > horizon]

    def serves(self, handler: str, tenant: str | None = None) -> bool:
        """True if somebody has announced the handler."""
        return any(handler in said.handlers for said in self.executors(tenant))

    def commands(self, tenant: str | None = None) -> list[str]:
        """All commands of services that are announced, in order."""
        return sorted(_all(said.commands for said in self.executors(tenant)))

    def checks(self, tenant: str | None = None) -> list[str]:
        """All conditions and checks that are announced, in order."""
        return sorted(_all(said.checks for said in self.executors(tenant)))

    def handlers(self, tenant: str | None = None) -> list[str]:
        """All handlers that are announced, in order."""
        return sorted(_all(said.handlers for said in self.executors(tenant)))

    async def _hear(self, msg: Msg) -> None:
        try:
            said = _decode(msg.data)
        except msgspec.MsgspecError as error:
            _log.warning("not_an_announcement", error=str(error))
            return
        now, key = time.monotonic(), (said.executor, said.tenant)
        known = {
            name: heard for name, heard in self._known.items() if heard.at > now - self._expiry
        }
        before = known.get(key)
        if said.leaving:
            known.pop(key, None)
        elif before is not None and before.said == said:
            known[key] = before._replace(at=now)
        else:
            known[key] = _Heard(now, said, said.hands)
        changed = _hands(known) != _hands(self._known)
        self._known = known  # replaced, never changed: other threads read it
        self.heard.set()
        if changed:
            self.changed()


def _hands(known: dict[tuple[str, str], _Heard]) -> list[Hands]:
    return [heard.hands for heard in known.values()]


def _all(lists: Iterable[list[str]]) -> set[str]:
    return {name for names in lists for name in names}
