"""The executor role: runs handlers on the application's event loop, off the engine's thread.

Async functions run on the loop, synchronous ones in a thread each, those with isolation `process`
and commands in a child process. An attempt that is fenced (timed out, cancelled, lost) is cancelled
where that is possible; its slot is free when its code has really ended, so that hung threads cannot
pile up beyond the executor's size.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from horae_application.beats import Beats, interval_of
from horae_application.context import Context
from horae_application.control import Control, Stopped
from horae_application.hooks import facts_of
from horae_application.log import get_logger
from horae_application.making import make
from horae_application.messages import Reply, refused
from horae_application.registry import Handler, PayloadInvalid, Registry
from horae_application.result import Finished, Result, RetryAfter, outcome_of
from horae_application.services import Reach, Services, perform
from horae_application.threads import in_thread
from horae_application.tracing import Tracing, traced_attempt
from horae_application.work import Work
from horae_domain.actions import (
    CommandAction,
    Deed,
    FunctionAction,
    HttpAction,
    ProcessAction,
    ScheduleAction,
)
from horae_domain.errors import HoraeError, UnknownHandler, reason_of

CONCURRENCY = 16
"""Handlers at once, unless told (D)."""
MAX_STACK = 16_000
"""Characters of a stack trace that are kept."""

_log = get_logger("horae.executor")

Reporter = Callable[[Work, dict[str, Any]], Awaitable[Reply]]
"""Carries the outcome of an attempt to whoever owns it."""


class Children(Protocol):
    """Runs code that can be killed; an adapter stands in the infrastructure."""

    async def process(self, action: dict[str, Any], context: Context) -> Any:
        """Run a command line to its end and return what it printed."""
        ...

    async def function(self, handler: Handler, context: Context) -> Finished:
        """Run a handler in an interpreter of its own."""
        ...


class Calls(Reach, Protocol):
    """Makes HTTP calls; an adapter stands in the infrastructure."""

    async def call(self, work: Work, now: datetime) -> Result:
        """Make the call of an action of type `http`."""
        ...


class Executor:
    """Implements the port `LocalExecutor`."""

    def __init__(
        self,
        registry: Registry,
        report: Reporter,
        *,
        concurrency: int = CONCURRENCY,
        children: Children | None = None,
        allow_processes: bool = False,
        now: Callable[[], datetime] | None = None,
        client: Any = None,
        services: Services | None = None,
        calls: Calls | None = None,
        heartbeat: Reporter | None = None,
        tracing: Tracing | None = None,
        cache: Callable[[], Any] | None = None,
    ) -> None:
        self._tracing = tracing
        self._cache = cache
        self._registry = registry
        self._report = report
        self._children = children
        self._allow_processes = allow_processes
        self._now = now or (lambda: datetime.now(UTC))
        self._client = client
        self._services = services
        self._calls = calls
        self._heartbeat = heartbeat or _unheard
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._held = 0
        self._taken = 0
        self._pulled = 0
        self._orphans = 0
        self._waiting: set[asyncio.Task[None]] = set()
        self._accepting = True
        self._over: str | None = None
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._controls: dict[tuple[str, str], Control] = {}
        self.concurrency = concurrency
        self.open = True
        """False while it takes no work, until somebody lets it."""
        self.done = 0
        self.freed: Callable[[], None] = _nothing
        """Called when a slot is free again without a report that says so."""
        self.emptied: Callable[[], None] = _nothing
        """Called on the loop when a slot is free again."""

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run handlers on this loop."""
        self._loop = loop

    def resize(self, concurrency: int) -> None:
        """Run so many at once from now on; what runs already goes on."""
        self.concurrency = concurrency
        self.freed()
        self.emptied()

    # --- from the engine's thread -----------------------------------------------------------------

    def serves(self, action: Deed) -> bool:
        """True if this process can do such work."""
        if isinstance(action, FunctionAction):
            return self._registry.get(action.name) is not None
        if isinstance(action, CommandAction):
            return self._services is not None
        if isinstance(action, HttpAction):
            return self._calls is not None
        if isinstance(action, ScheduleAction):
            return self._client is not None
        return isinstance(action, ProcessAction) and self._allow_processes

    def free(self) -> int:
        """How many more attempts it would start at once."""
        if not self._accepting or not self.open or self._over is not None:
            return 0
        return self.concurrency - self._held - self._taken - self._pulled - self._orphans

    def hold(self, count: int) -> int:
        """Keep up to so many slots for a commit in the making, in place of those kept before."""
        with self._lock:
            before, self._held = self._held, 0
            self._held = max(0, min(count, self.free()))
            held = self._held
        if held < before and self._loop is not None:
            self._loop.call_soon_threadsafe(self.emptied)
        return held

    def start(self, works: Sequence[Work]) -> None:
        """Begin attempts in the slots held; each ends in one report."""
        with self._lock:
            self._held = 0
            self._taken += len(works)
        assert self._loop is not None  # noqa: S101 - bound before the engine starts
        self._loop.call_soon_threadsafe(self._begin, list(works))

    def ask_to_stop(self, leases: Sequence[tuple[str, str]]) -> None:
        """Ask attempts to stop; what they answer still counts."""
        assert self._loop is not None  # noqa: S101
        self._loop.call_soon_threadsafe(self._ask, list(leases))

    def ask(self, work: Work) -> None:
        """Ask an attempt to stop that `run` is at; on the loop."""
        self._ask([(work.execution_id, work.lease)])

    def stop(self, leases: Sequence[tuple[str, str]]) -> None:
        """Cancel attempts whose outcome no longer counts."""
        assert self._loop is not None  # noqa: S101
        self._loop.call_soon_threadsafe(self._cancel, list(leases))

    # --- on the loop ------------------------------------------------------------------------------

    def dispatched(self, works: Sequence[Work]) -> None:
        """Tell hooks of attempts that come here; on the loop."""
        self._registry.hooks.dispatched(works, self._now())

    def _begin(self, works: Sequence[Work]) -> None:
        self.dispatched(works)
        for work in works:
            key = (work.execution_id, work.lease)
            self._controls[key] = Control()
            task = asyncio.get_running_loop().create_task(self._attempt(work))
            self._tasks[key] = task

    def _ask(self, leases: Sequence[tuple[str, str]]) -> None:
        for key in leases:
            if key in self._controls:
                self._controls[key].stop()

    def _cancel(self, leases: Sequence[tuple[str, str]]) -> None:
        """End attempts, each after its first step: one that never began would keep its slot."""
        loop = asyncio.get_running_loop()
        for key in leases:
            task = self._tasks.get(key)
            if task is not None:
                loop.call_soon(task.cancel)
            if key in self._controls:
                self._controls[key].fence()

    async def _attempt(self, work: Work) -> None:
        try:
            try:
                outcome = await self.run(work)
            finally:
                with self._lock:
                    self._taken -= 1
                self.emptied()
            self.done += 1
            await self._deliver(work, outcome)
        except asyncio.CancelledError:
            self.freed()  # fenced, or the process stops: the engine knows already
        finally:
            self._tasks.pop((work.execution_id, work.lease), None)
            self._controls.pop((work.execution_id, work.lease), None)

    async def _deliver(self, work: Work, outcome: dict[str, Any]) -> None:
        pause = 0.05
        while True:
            try:
                reply = await self._report(work, outcome)
            except HoraeError as error:
                reply = refused(error)
            if reply.status != 503:  # noqa: PLR2004 - unavailable: nothing was decided
                if not reply.ok:
                    _log.info("outcome refused", execution_id=work.execution_id, **_short(reply))
                return
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)

    async def run(self, work: Work, heartbeat: Reporter | None = None) -> dict[str, Any]:
        """Run one attempt to its end; the body of its `execution.report`.

        Its heartbeats go to `heartbeat`, that of this executor unless told.
        """
        if self._tracing is None:
            return await self._run(work, heartbeat)
        facts = facts_of(work, self._now())
        return await traced_attempt(
            self._tracing, work, facts, lambda told: self._run(told, heartbeat)
        )

    async def _run(self, work: Work, heartbeat: Reporter | None) -> dict[str, Any]:
        key = (work.execution_id, work.lease)
        control = self._controls.get(key)
        if control is None:
            control = self._controls[key] = Control()
        beats = self._beats(work, control, heartbeat or self._heartbeat)
        context = self._context(work, control)
        outcome: dict[str, Any] | None = None
        since = time.monotonic()
        try:
            outcome = await self._outcome(work, context, control)
        finally:
            self._controls.pop(key, None)
            beats.close()
            seconds = time.monotonic() - since
            self._registry.hooks.processed(work, outcome, context.started_at, seconds)
        if beats.latest is not None:
            outcome["metadata"] = {"progress": beats.latest} | outcome.get("metadata", {})
        if context.logs and not outcome.get("logs"):
            outcome["logs"] = context.logs
        return outcome | {
            "execution_id": work.execution_id,
            "lease": work.lease,
            "started_at": context.started_at,
        }

    def _context(self, work: Work, control: Control, of: Context | None = None) -> Context:
        context = Context(
            work,
            now=self._now,
            client=self._client,
            services=self._services,
            reach=self._calls,
            control=control,
            cqrs=self._registry.cqrs,
            externals=self._registry.externals,
            fallback=lambda name, data: self._fallback(context, name, data),
            loop=self._loop,
            cache=self._cache,
            of=of,
        )
        return context

    async def _fallback(self, of: Context, name: str, data: Any) -> Any:
        """What a handler of this process answers to data, as a fallback of an attempt."""
        handler = self._registry.get(name)
        if handler is None:
            names = self._registry.names()
            raise UnknownHandler(
                f"nobody serves a fallback {name!r}; there are: {', '.join(names)}",
                field="name",
                value=name,
                known=list(names),
            )
        told = msgspec.structs.replace(of.work, payload=data, stage=f"fallback:{name}")
        arguments = handler.call_arguments(self._context(told, of.control, of))
        if handler.asynchronous:
            return await handler.function(*arguments)
        _, answered = in_thread(lambda: handler.function(*arguments))
        return await answered

    def _beats(self, work: Work, control: Control, heartbeat: Reporter) -> Beats:
        """The heartbeats of an attempt, whose answers say whether it should stop."""

        async def send(progress: Any) -> None:
            body = {"execution_id": work.execution_id, "lease": work.lease, "progress": progress}
            try:
                reply = await heartbeat(work, body)
            except HoraeError as error:
                reply = refused(error)
            if reply.body.get("cancel"):
                control.stop()
            elif not reply.ok:
                _log.info("heartbeat refused", execution_id=work.execution_id, **_short(reply))

        beats = Beats(send, interval_of(work.heartbeat), lambda: self._now().timestamp())
        control.beat = beats.beat
        return beats

    async def _outcome(self, work: Work, context: Context, control: Control) -> dict[str, Any]:
        """What the handler has answered, or what it raised."""
        asking = Interruption()
        try:
            try:
                value = await self._call(work, context, control, asking)
            finally:
                asking.over()
            return value if isinstance(value, Finished) else outcome_of(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and _cancelled():
                raise
            if control.asked and _stopped(error):
                return {"outcome": "cancelled", "error": stop_of(error)}
            return {"outcome": "failed", "error": describe(error)}

    async def _call(
        self, work: Work, context: Context, control: Control, asking: Interruption
    ) -> Any:
        if work.action["type"] == "process":
            if self._children is None:
                raise RuntimeError("this executor does not run processes")
            return await self._children.process(work.action, context)
        if work.action["type"] == "command":
            if self._services is None:
                raise RuntimeError("this executor does not send commands")
            control.by(asking.ask)
            return await perform(self._services, work)
        if work.action["type"] == "http":
            if self._calls is None:
                raise RuntimeError("this executor makes no HTTP calls")
            control.by(asking.ask)
            return await self._calls.call(work, self._now())
        if work.action["type"] == "schedule":
            control.by(asking.ask)
            return await make(context.client, work)
        return await self._function(work, context, control, asking)

    async def _function(
        self, work: Work, context: Context, control: Control, asking: Interruption
    ) -> Any:
        name: str = work.action["name"]
        handler = self._registry.get(name)
        if handler is None:
            raise LookupError(f"no handler {name!r}; there are {', '.join(self._registry.names())}")
        isolation = work.action.get("isolation", "inline")
        if isolation == "process":
            if self._children is None:
                raise RuntimeError("this executor does not isolate in processes")
            return await self._children.function(handler, context)
        arguments = handler.call_arguments(context)
        if handler.asynchronous and isolation == "inline":
            control.by(asking.ask)
            return await handler.function(*arguments)
        if handler.asynchronous:
            return await self._thread(lambda: asyncio.run(_loop_of(handler, arguments, control)))
        return await self._thread(lambda: handler.function(*arguments))

    async def _thread(self, call: Callable[[], Any]) -> Any:
        thread, future = in_thread(call)
        try:
            return await future
        except asyncio.CancelledError:
            # A thread cannot be killed: its slot stays taken until its code has ended.
            self._orphans += 1
            ended = asyncio.get_running_loop().create_task(self._await_end(thread))
            self._waiting.add(ended)
            ended.add_done_callback(self._waiting.discard)
            raise

    async def _await_end(self, thread: threading.Thread) -> None:
        while thread.is_alive():  # noqa: ASYNC110 - a thread sets no event when it ends
            await asyncio.sleep(0.5)
        self._orphans -= 1
        self.freed()
        self.emptied()

    # --- work of engines elsewhere ----------------------------------------------------------------

    def take(self) -> bool:
        """Take a slot for work that was pulled; False if there is none."""
        with self._lock:
            taken = self.free() > 0
            self._pulled += taken
        return taken

    def give(self) -> None:
        """It has ended: the slot is free again."""
        with self._lock:
            self._pulled -= 1
        self.freed()
        self.emptied()

    # --- bounds -------------------------------------------------------------------------------------

    @property
    def over(self) -> str | None:
        """Which bound the process is over, so that it takes no new work; None if there is room."""
        return self._over

    def restrain(self, over: str | None) -> None:
        """Take no new work while a bound is named; what runs goes on."""
        before, self._over = self._over, over
        if before is not None and over is None:
            self.freed()
            self.emptied()

    # --- the end ----------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        """Attempts that hold a slot."""
        return self._taken + self._pulled

    @property
    def busy(self) -> bool:
        """True while attempts run, or their outcome is on its way."""
        return bool(self._taken or self._tasks)

    async def one_ended(self, seconds: float) -> None:
        """Wait until one of the attempts has ended, at most so long."""
        tasks = list(self._tasks.values())
        if tasks:
            limit = None if math.isinf(seconds) else seconds
            await asyncio.wait(tasks, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(0)  # what was started from the thread has not begun yet

    @property
    def orphans(self) -> int:
        """Threads that nobody waits for any more and that still hold a slot."""
        return self._orphans

    def refuse(self) -> None:
        """Take no new work."""
        self._accepting = False

    async def drain(self, seconds: float) -> bool:
        """Wait for what runs; after the time cancel it. True if all has ended by itself."""
        self.refuse()
        end = asyncio.get_running_loop().time() + seconds
        while self._taken or self._tasks:
            tasks = list(self._tasks.values())
            if not tasks:
                await asyncio.sleep(0)  # what was started from the thread has not begun yet
                continue
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait(tasks, timeout=left)
        pending = list(self._tasks.values())
        self._cancel(list(self._tasks))
        if pending:
            await asyncio.wait(pending, timeout=1.0)
        await self._registry.hooks.drain(1.0)
        return not pending


async def _unheard(work: Work, body: dict[str, Any]) -> Reply:
    """Nobody listens to heartbeats."""
    del work, body
    return Reply(200, {"ok": True})


def _nothing() -> None:
    """Nobody waits for a slot."""


class Interruption:
    """Cancels the present task so that its handler may go on, and takes the cancellation back."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._asked = False
        self._over = False

    def ask(self) -> None:
        """Cancel the handler; on the loop."""
        if self._task is not None and not self._over:
            self._asked = True
            self._task.cancel("asked to stop")

    def over(self) -> None:
        """The handler has ended."""
        self._over = True
        if self._asked and self._task is not None:
            self._task.uncancel()


async def _loop_of(handler: Handler, arguments: tuple[Any, ...], control: Control) -> Any:
    """An asynchronous handler on a loop of its own, in another thread."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine is run by a task
    control.by(lambda: loop.call_soon_threadsafe(task.cancel))
    return await handler.function(*arguments)


def _stopped(error: BaseException) -> bool:
    """True if a handler ended as one that was asked to stop."""
    ended = asyncio.CancelledError | Stopped
    return isinstance(error, ended) or isinstance(error.__cause__, ended)


def stop_of(error: BaseException) -> dict[str, Any]:
    """Why there is no result, as the log keeps it."""
    return {"type": "Cancelled", "message": reason_of(error)[:4000] or "asked to stop"}


def _cancelled() -> bool:
    """True if somebody asked for the end of the present task; else its handler raised that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def describe(error: BaseException) -> dict[str, Any]:
    """An exception as the log keeps it."""
    stack = "".join(traceback.format_exception(error))[-MAX_STACK:]
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "message": reason_of(error)[:4000],
        "stack": stack,
    }
    if isinstance(error, HoraeError) and "stack" in error.details:
        described |= {key: error.details[key] for key in ("type", "stack")}
    if isinstance(error, RetryAfter):
        described["retry_after"] = error.after.total_seconds()
    if described["type"] == PayloadInvalid.__name__:  # in a child process only the name is left
        described["final"] = True
    return described


def _short(reply: Reply) -> dict[str, Any]:
    error = reply.body.get("error") or {}
    return {"code": error.get("code"), "reason": error.get("message")}
