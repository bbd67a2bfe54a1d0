"""Work to executors elsewhere, through JetStream: the adapter of the port `WorkBus`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import nats.errors
import nats.js.errors

from horae_application.log import get_logger
from horae_application.ports import Hands
from horae_application.work import Work
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.streams import StreamSettings, ensure, identity, work_stream
from horae_infrastructure.nats.subjects import MESSAGE_ID, work_subject
from horae_infrastructure.nats.tasks import Tasks, cancel

_log = get_logger("horae.nats.work")
_encode = msgspec.json.Encoder().encode

PUBLISH_TIMEOUT = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0


Refuse = Callable[[Work, str], Awaitable[None]]


async def _nobody(work: Work, reason: str) -> None:
    """Nobody is there to be told."""
    del work, reason


class _Entry:
    """One work that is outstanding."""

    __slots__ = ("copies", "seen", "sent", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.sent = False
        self.seen = False
        """Whether a look at the stream has come since it was sent."""
        self.copies = 0
        """How often it has gone from the stream without having been taken."""

    @property
    def message_id(self) -> str:
        """By which JetStream drops what it has already."""
        first = f"{self.work.execution_id}.{self.work.lease}"
        return f"{first}.{self.copies}" if self.copies else first


class NatsWorkBus:
    """Publishes work to `HORAE_WORK` and remembers it until it is withdrawn.

    What was never acknowledged is sent until it is; a stream that was made anew, because its storage
    was wiped, or one that was emptied by hand, is filled with all that is outstanding. A message's
    id is the execution and its lease, so that JetStream drops what it has already. Nothing here is a record: a new owner publishes its
    outstanding work again.

    Args:
        nc: the connection; it may be down.
        settings: of the stream.
        hands: tells who is there to pull it, from any thread.
        in_flight: publishes that wait for JetStream's acknowledgement at once.
        check_every: seconds between looks at the stream, besides those after reconnections.
    """

    def __init__(
        self,
        nc: Connection,
        settings: StreamSettings | None = None,
        *,
        hands: Callable[[], Sequence[Hands]] = tuple,
        in_flight: int = 256,
        check_every: float = 15.0,
    ) -> None:
        self._nc = nc
        self._js = nc.jetstream()
        self._config = work_stream(settings or StreamSettings())
        self.hands = hands
        self._check_every = check_every
        self._entries: dict[str, _Entry] = {}
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue()
        self._slots = asyncio.Semaphore(in_flight)
        self._sending = Tasks(in_flight)
        self._look = asyncio.Event()
        self._ready = asyncio.Event()
        self._identity: str | None = None
        self._loops: list[asyncio.Task[None]] = []
        self.refuse: Refuse = _nobody
        """Told of work that no message can carry, and why."""

    @property
    def outstanding(self) -> int:
        """Works published and not withdrawn."""
        return len(self._entries)

    @property
    def unsent(self) -> int:
        """Works that JetStream has not acknowledged."""
        return sum(not entry.sent for entry in self._entries.values())

    async def start(self) -> None:
        """Begin to publish; a server that is down is waited for in the background."""
        self._loop = asyncio.get_running_loop()
        self._nc.on_reconnect.append(self._look.set)
        self._loops = [self._loop.create_task(self._watch())]

    async def ready(self) -> None:
        """Wait until the stream is there."""
        await self._ready.wait()

    async def stop(self) -> None:
        """Publish no more. What is in the stream stays there."""
        if self._look.set in self._nc.on_reconnect:
            self._nc.on_reconnect.remove(self._look.set)
        await cancel(*self._loops)
        await self._sending.finish(0)

    def publish(self, works: Sequence[Work]) -> None:
        """Hand work over, from any thread."""
        self._loop.call_soon_threadsafe(self._take, list(works))

    def withdraw(self, execution_ids: Sequence[str]) -> None:
        """Forget, from any thread: what a worker still finds in the stream, the engine refuses it."""
        self._loop.call_soon_threadsafe(self._forget, list(execution_ids))

    def _take(self, works: list[Work]) -> None:
        for work in works:
            known = self._entries.get(work.execution_id)
            if known is None or known.work.lease != work.lease:
                entry = self._entries[work.execution_id] = _Entry(work)
                self._queue.put_nowait(entry)

    def _forget(self, execution_ids: list[str]) -> None:
        for id_ in execution_ids:
            self._entries.pop(id_, None)

    async def _watch(self) -> None:
        """Keep the stream in being, and fill it again when it is a new one."""
        while True:
            self._look.clear()
            wait = self._check_every
            try:
                found = await ensure(self._js, self._config)
            except (nats.errors.Error, OSError) as error:
                _log.warning("work_stream_unavailable", error=str(error))
                wait = min(1.0, wait)
            else:
                self._seen(identity(found))
                self._refill(found.state.messages)
            try:
                await asyncio.wait_for(self._look.wait(), wait)
            except TimeoutError:
                continue

    def _seen(self, found: str) -> None:
        """The stream is there, under this identity."""
        former, self._identity = self._identity, found
        if former is None:
            self._loops.append(self._loop.create_task(self._send_all()))
            self._ready.set()
        elif former != found:
            again = [entry for entry in self._entries.values() if entry.sent]
            _log.warning("work_stream_made_anew", published_again=len(again))
            for entry in again:
                entry.sent = False
                self._queue.put_nowait(entry)

    def _refill(self, messages: int) -> None:
        """Send again what is gone from an empty stream although nobody has taken it."""
        sent = [entry for entry in self._entries.values() if entry.sent]
        lost = [] if messages else [entry for entry in sent if entry.seen]
        if lost:
            _log.warning("work_stream_emptied", published_again=len(lost))
        for entry in sent:
            entry.seen = True
        for entry in lost:
            entry.sent = entry.seen = False
            entry.copies += 1  # JetStream knows the former id for ten minutes
            self._queue.put_nowait(entry)

    async def _send_all(self) -> None:
        while True:
            entry = await self._queue.get()
            await self._slots.acquire()
            self._sending.start(self._send(entry))

    async def _send(self, entry: _Entry) -> None:
        """Send one work until it is acknowledged, withdrawn or replaced."""
        work, pause = entry.work, FIRST_PAUSE
        try:
            while self._entries.get(work.execution_id) is entry:
                if self._nc.is_connected and await self._try(entry):
                    entry.sent = True
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._slots.release()

    async def _try(self, entry: _Entry) -> bool:
        """One publish. One that timed out may arrive all the same: its id makes the next harmless."""
        work = entry.work
        try:
            await self._js.publish(
                work_subject(work),
                _encode(work),
                timeout=PUBLISH_TIMEOUT,
                headers={MESSAGE_ID: entry.message_id},
            )
        except nats.errors.MaxPayloadError:
            limit = self._nc.max_payload
            await self.refuse(work, f"NATS carries messages of at most {limit} bytes")
        except (nats.errors.Error, OSError) as error:
            _log.warning("work_not_published", execution_id=work.execution_id, error=str(error))
            if isinstance(error, nats.js.errors.NoStreamResponseError):
                self._look.set()
            return False
        return True
