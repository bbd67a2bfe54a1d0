"""Work from JetStream: for executors in other processes than the engine's, and for queues."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from nats.aio.msg import Msg

from horae_application.log import get_logger
from horae_application.work import Work
from horae_domain.errors import (
    Conflict,
    HoraeError,
    InvalidField,
    NotFound,
    StaleLease,
    reason_of,
)
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import Connection
from horae_infrastructure.nats.pull import Pull, kept
from horae_infrastructure.nats.streams import StreamSettings, work_stream
from horae_infrastructure.nats.subjects import durable, function_subject, queue_subject
from horae_infrastructure.nats.tasks import Tasks, cancel

_log = get_logger("horae.nats.executor")
_decode = msgspec.json.Decoder(Work).decode

Run = Callable[[Work], Awaitable[Mapping[str, Any]]]

REPORT_TIMEOUT = 10.0
BEAT = 5.0
"""Seconds between questions whether an attempt should stop."""
PAUSE = 1.0
"""Seconds before something that the engine could not take is offered again."""


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


class _Fenced(Exception):
    """The outcome of what runs counts no more."""


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
        stop: asks what `run` is at to stop; its outcome still counts. Without it, it is let run.
        worker: this executor's name, as attempts show it.
        beat_every: seconds between questions whether an attempt should stop.
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
        stop: Callable[[Work], None] | None = None,
        beat_every: float = BEAT,
        worker: str = "worker",
        ack_wait: float = 10.0,
        settings: StreamSettings | None = None,
    ) -> None:
        self._nc = nc
        self._caller = caller
        self._run = run
        self._stop = stop
        self._beat_every = beat_every
        self._worker = worker
        self._ack_wait = ack_wait
        self._stream = work_stream(settings or StreamSettings())
        self._tasks = Tasks(slots)
        self._room = room
        self._freed = asyncio.Event()
        tenant = caller.tenant
        self._pulls = [
            self._pull(durable("function", tenant, name), function_subject(tenant, name))
            for name in handlers
        ] + [
            self._pull(durable("work", tenant, name), queue_subject(tenant, name))
            for name in queues
        ]
        self._loops: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        """Attempts in progress."""
        return len(self._tasks)

    def _pull(self, name: str, subject: str) -> Pull:
        return Pull(self._nc, self, self._stream, name, subject, ack_wait=self._ack_wait)

    async def start(self) -> None:
        """Begin to pull; a server that is down is waited for in the background."""
        loop = asyncio.get_running_loop()
        self._loops = [loop.create_task(pull.forever()) for pull in self._pulls]

    def add(self, handler: str) -> None:
        """Pull the work of one more function, if it is one more."""
        tenant = self._caller.tenant
        name = durable("function", tenant, handler)
        if any(pull.name == name for pull in self._pulls):
            return
        pull = self._pull(name, function_subject(tenant, handler))
        self._pulls.append(pull)
        self._loops.append(asyncio.get_running_loop().create_task(pull.forever()))

    async def stop(self, limit: float = 10.0) -> None:
        """Pull no more; what runs has `limit` seconds to end, the rest goes to another executor."""
        await cancel(*self._loops)
        await self._tasks.finish(limit)

    def resize(self, slots: int) -> None:
        """Run so many at once from now on; what runs already goes on."""
        self._tasks.limit = slots
        self.look()

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
            async with kept(msg, self._ack_wait):
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
            report = await self._beaten(work)
        except _Fenced:
            return False
        except Exception as error:  # noqa: BLE001 - recorded as the attempt's outcome
            _log.warning("attempt_failed", execution_id=work.execution_id, exc_info=error)
            report = _failed(type(error).__name__, reason_of(error))
        return await self._report(work, {"started_at": started_at, **report})

    async def _beaten(self, work: Work) -> Mapping[str, Any]:
        """Run it, and ask meanwhile whether it should stop.

        Raises:
            _Fenced: its outcome counts no more; it was cancelled.
        """
        running = asyncio.ensure_future(self._run(work))
        beating = asyncio.ensure_future(self._ask(work))
        try:
            await asyncio.wait({running, beating}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                raise _Fenced
            return await running
        finally:
            beating.cancel()
            if not running.done():
                running.cancel()
                await asyncio.wait({running})

    async def _ask(self, work: Work) -> None:
        """Ask again and again whether the attempt should stop; ends when it counts no more.

        Where the schedule has no heartbeat timeout of its own, this is the attempt's heartbeat.
        """
        every = self._beat_every
        body = {"execution_id": work.execution_id, "lease": work.lease}
        while True:
            await asyncio.sleep(every)
            try:
                asked = await self.beat(body | {"ask": work.heartbeat is not None})
            except (StaleLease, NotFound) as error:
                _log.info("work_fenced", execution_id=work.execution_id, reason=str(error))
                return
            except HoraeError as error:
                _log.info("heartbeat_unanswered", execution_id=work.execution_id, reason=str(error))
                continue
            if asked.get("cancel") and self._stop is not None:
                self._stop(work)

    async def beat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Carry a heartbeat to the engine; its answer says whether the attempt should stop.

        Raises:
            HoraeError: the refusal, such as StaleLease.
        """
        return await self._caller.command("execution.heartbeat", body, timeout=REPORT_TIMEOUT)

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
                report = _failed(
                    type(error).__name__, f"the outcome cannot be reported: {error.reason}"
                )
            except HoraeError as error:
                _log.warning("report_unanswered", execution_id=work.execution_id, error=str(error))
                await asyncio.sleep(PAUSE)
            else:
                return True


def _failed(kind: str, message: str) -> dict[str, Any]:
    """The report of an attempt that failed."""
    return {"outcome": "failed", "error": {"type": kind[:255], "message": message[:16_384]}}
