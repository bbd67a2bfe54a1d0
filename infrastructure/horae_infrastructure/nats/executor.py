"""Work from JetStream: for executors in other processes than the engine's, and for queues."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import nats.errors
import nats.js.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, Header

from horae_application.work import Work
from horae_domain.errors import Conflict, HoraeError, InvalidField, NotFound, StaleLease
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.streams import WORK, StreamSettings, ensure, work_stream
from horae_infrastructure.nats.subjects import durable, function_subject, queue_subject
from horae_infrastructure.nats.tasks import Tasks, cancel

_log = structlog.get_logger("horae.nats.executor")
_decode = msgspec.json.Decoder(Work).decode

Run = Callable[[Work], Awaitable[Mapping[str, Any]]]

PULL_EXPIRES = 5.0
"""Seconds that a pull stands at the server before it is renewed."""
MAX_ACK_PENDING = 10_000
REPORT_TIMEOUT = 10.0
PAUSE = 1.0
"""Seconds before something that the engine could not take is offered again."""
_ENDED = frozenset({"404", "408"})
"""Statuses that end a pull in peace: no messages, expired."""


class Room(Protocol):
    """Whose slots the work takes, where others run there too."""

    def free(self) -> int:
        """How many more attempts fit."""
        ...

    def take(self) -> bool:
        """Take a slot; False if there is none."""
        ...

    def give(self) -> None:
        """Give it back."""
        ...


class WorkPuller:
    """Pulls work while it has free slots, takes its lease, runs it, reports, acknowledges.

    All pullers of a function or a queue share one durable consumer, so that each work goes to one
    of them. While an attempt runs, its message is kept from being delivered again; a process that
    dies leaves it to another one after `ack_wait`.

    Args:
        nc: the connection.
        caller: to the engine, of the tenant whose work this is.
        run: does the work and returns the fields of a report: `outcome` and `result` or `error`,
            `after`, `cooldown`, `logs`, `metadata`. An exception is a failed attempt.
        handlers, queues: what is pulled.
        slots: attempts at once, over all of them.
        room: whose slots they take besides; tell `look` when one is free again.
        worker: this executor's name, as attempts show it.
        ack_wait: seconds after which the work of an executor that died goes to another one.
    """

    def __init__(
        self,
        nc: Connection,
        caller: NatsCaller,
        run: Run,
        *,
        handlers: Iterable[str] = (),
        queues: Iterable[str] = (),
        slots: int = 10,
        room: Room | None = None,
        worker: str = "worker",
        ack_wait: float = 10.0,
        settings: StreamSettings | None = None,
    ) -> None:
        self._nc = nc
        self._caller = caller
        self._run = run
        self._worker = worker
        self._ack_wait = ack_wait
        self._stream = work_stream(settings or StreamSettings())
        self._tasks = Tasks(slots)
        self._room = room
        self._freed = asyncio.Event()
        tenant = caller.tenant
        self._pulls = [
            _Pull(self, durable("function", tenant, name), function_subject(tenant, name))
            for name in handlers
        ] + [
            _Pull(self, durable("work", tenant, name), queue_subject(tenant, name))
            for name in queues
        ]
        self._loops: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        """Attempts in progress."""
        return len(self._tasks)

    async def start(self) -> None:
        """Begin to pull; a server that is down is waited for in the background."""
        loop = asyncio.get_running_loop()
        self._loops = [loop.create_task(pull.forever()) for pull in self._pulls]

    async def stop(self, limit: float = 10.0) -> None:
        """Pull no more; what runs has `limit` seconds to end, the rest goes to another executor."""
        await cancel(*self._loops)
        await self._tasks.finish(limit)

    def look(self) -> None:
        """A slot is free again."""
        self._freed.set()

    def _free(self) -> int:
        free = self._tasks.limit - len(self._tasks)
        return free if self._room is None else min(free, self._room.free())

    async def share(self) -> int:
        """Wait for a free slot; how many of them one pull may ask for."""
        while self._free() <= 0:
            self._freed.clear()
            await self._freed.wait()
        return max(1, self._free() // len(self._pulls))

    async def ensure_consumer(self, name: str, subject: str) -> None:
        """Make the consumer if it is missing; the stream only if it is, for that may be forbidden."""
        js = self._nc.jetstream()
        config = ConsumerConfig(
            durable_name=name,
            filter_subject=subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait,
            max_ack_pending=MAX_ACK_PENDING,
        )
        try:
            await js.add_consumer(WORK, config)
        except nats.js.errors.NotFoundError:
            await ensure(js, self._stream)
            await js.add_consumer(WORK, config)

    async def accept(self, msg: Msg) -> None:
        """Begin with a message; one that came when all slots are taken goes to another executor."""
        if self._tasks.full or (self._room is not None and not self._room.take()):
            await msg.nak()
            return
        task = self._tasks.start(self._do(msg))
        task.add_done_callback(self._ended)

    def _ended(self, _task: asyncio.Task[None]) -> None:
        if self._room is not None:
            self._room.give()
        self._freed.set()

    async def _do(self, msg: Msg) -> None:
        """One delivery, from lease to acknowledgement."""
        try:
            work = _decode(msg.data)
        except msgspec.MsgspecError as error:
            _log.error("not_work", subject=msg.subject, error=str(error))
            await msg.term()
            return
        try:
            async with self._kept(msg):
                settled = await self._attempt(work)
        except asyncio.CancelledError:
            await msg.nak()
            raise
        except HoraeError as error:
            _log.warning("work_not_taken", execution_id=work.execution_id, error=str(error))
            await msg.nak(delay=PAUSE)
        else:
            if settled:
                await msg.ack()

    async def _attempt(self, work: Work) -> bool:
        """True if the message is needed no more."""
        lease = await self._take(work)
        if lease is None:
            return True
        work = msgspec.structs.replace(work, lease=lease)
        started_at = datetime.now(UTC).isoformat()
        report: Mapping[str, Any]
        try:
            report = await self._run(work)
        except Exception as error:  # noqa: BLE001 - recorded as the attempt's outcome
            _log.warning("attempt_failed", execution_id=work.execution_id, exc_info=error)
            report = _failed(type(error).__name__, str(error))
        return await self._report(work, {"started_at": started_at, **report})

    async def _take(self, work: Work) -> str | None:
        """The lease, or None if nobody needs this work any more.

        Raises:
            HoraeError: the engine cannot say.
        """
        body = {
            "execution_id": work.execution_id,
            "attempt": work.attempt,
            "lease": work.lease,
            "worker": self._worker,
        }
        try:
            answer = await self._caller.command("execution.start", body)
        except (Conflict, NotFound) as error:
            if error.details.get("state") == "delayed":
                raise  # due by the clock of the engine that published it, not yet by the present one's
            _log.info("work_dropped", execution_id=work.execution_id, reason=str(error))
            return None
        return str(answer.get("lease", work.lease))

    async def _report(self, work: Work, report: dict[str, Any]) -> bool:
        """Report until it is answered. A report that is refused as it is becomes a failed one.

        False if the lease is another's. Then the message is that one's to acknowledge: if it has
        died, or is a request of ours that arrived twice, JetStream delivers the work again.
        """
        key = f"report:{work.execution_id}:{work.lease}"
        while True:
            body = report | {
                "execution_id": work.execution_id,
                "attempt": work.attempt,
                "lease": work.lease,
                "worker": self._worker,
            }
            try:
                await self._caller.command(
                    "execution.report", body, key=key, timeout=REPORT_TIMEOUT
                )
            except (Conflict, NotFound) as error:
                _log.warning("report_refused", execution_id=work.execution_id, reason=str(error))
                return not isinstance(error, StaleLease)
            except InvalidField as error:
                _log.warning("report_invalid", execution_id=work.execution_id, reason=str(error))
                if key.endswith(":invalid"):
                    return True
                key += ":invalid"
                report = _failed(type(error).__name__, f"the outcome cannot be reported: {error}")
            except HoraeError as error:
                _log.warning("report_unanswered", execution_id=work.execution_id, error=str(error))
                await asyncio.sleep(PAUSE)
            else:
                return True

    @contextlib.asynccontextmanager
    async def _kept(self, msg: Msg) -> AsyncIterator[None]:
        """Tell JetStream again and again that the message is being worked on."""

        async def keep() -> None:
            while True:
                await asyncio.sleep(self._ack_wait / 3)
                with contextlib.suppress(nats.errors.Error, OSError):
                    await msg.in_progress()

        keeper = asyncio.get_running_loop().create_task(keep())
        try:
            yield
        finally:
            keeper.cancel()


class _Pull:
    """Pulls from one consumer."""

    def __init__(self, puller: WorkPuller, name: str, subject: str) -> None:
        self._puller = puller
        self._name = name
        self._subject = subject
        self._nc = puller._nc  # noqa: SLF001 - one thing in two classes
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
                        await self._puller.ensure_consumer(self._name, self._subject)
                    healthy = await self._pull(inbox, await self._puller.share())
                except (nats.errors.Error, OSError) as error:
                    _log.warning("pull_failed", consumer=self._name, error=str(error))
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
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{WORK}.{self._name}"
        await self._nc.publish(subject, json.dumps(request).encode(), reply=inbox)
        try:
            await asyncio.wait_for(self._over.wait(), PULL_EXPIRES + 1)
        except TimeoutError:
            return False
        if self._status is None or self._status in _ENDED:
            return self._wanted <= 0 or self._status is not None
        _log.info("pull_ended", consumer=self._name, status=self._status)
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
        await self._puller.accept(msg)


def _failed(kind: str, message: str) -> dict[str, Any]:
    """The report of an attempt that failed."""
    return {"outcome": "failed", "error": {"type": kind[:255], "message": message[:16_384]}}
