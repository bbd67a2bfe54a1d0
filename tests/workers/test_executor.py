"""Handlers run, end in exactly one report, and give their slot back, whatever they do."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import attempts
import pytest
from attempts import DUE, Order, work

from horae_application.context import Context
from horae_application.handler_log import MAX_LOG_BYTES, MAX_LOGS
from horae_application.messages import Reply, ReportExecution
from horae_application.registry import Registry
from horae_application.result import Result, RetryAfter
from horae_application.work import Work
from horae_domain.actions import FunctionAction, ProcessAction, QueueAction
from horae_domain.errors import ScheduleNotFound, Unavailable
from horae_domain.wire import json_value, validate
from horae_infrastructure.children import ChildProcesses
from horae_workers.executor import Executor

Function = Callable[..., Any]


class Bench:
    """An executor whose reports are kept; each is what the wire accepts."""

    def __init__(self, **told: Any) -> None:
        self.registry = Registry()
        self.reports: list[dict[str, Any]] = []
        self.came = asyncio.Event()
        self.replies: list[Reply | Exception] = []
        self.executor = Executor(self.registry, self._report, **told)
        self.executor.bind(asyncio.get_running_loop())

    async def _report(self, each: Work, outcome: dict[str, Any]) -> Reply:
        if self.replies:
            reply = self.replies.pop(0)
            if isinstance(reply, Exception):
                raise reply
            return reply
        self.reports.append(outcome)
        self.came.set()
        return Reply(200, {"ok": True})

    async def outcome(self, function: Function, **told: Any) -> dict[str, Any]:
        """The report of one attempt of a function."""
        self.registry.add("work", function)
        outcome = await self.executor.run(work(**told))
        validate(ReportExecution, outcome)
        return outcome

    async def next(self) -> dict[str, Any]:
        await asyncio.wait_for(self.came.wait(), 60)
        self.came.clear()
        return self.reports[-1]

    async def free(self, slots: int) -> None:
        await until(lambda: self.executor.free() == slots)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(children=ChildProcesses(), allow_processes=True)
    yield made
    await made.executor.drain(0)


# --- what a handler returns ----------------------------------------------------------------------


@dataclass
class Sum:
    total: int
    at: datetime


async def plain(context: Context) -> dict[str, Any]:
    return {"a": 1}


async def test_async_handler_succeeds_with_its_value(bench: Bench) -> None:
    outcome = await bench.outcome(plain)
    assert outcome["outcome"] == "succeeded"
    assert outcome["result"] == {"a": 1}
    assert outcome["lease"] == "1.1"


async def test_sync_handler_runs_in_a_thread_of_its_own(bench: Bench) -> None:
    outcome = await bench.outcome(lambda context: threading.current_thread().name)
    assert outcome["result"] == "horae-handler"


async def test_async_handler_with_isolation_thread_leaves_the_loop_alone(bench: Bench) -> None:
    async def blocking(context: Context) -> str:
        return threading.current_thread().name

    assert (await bench.outcome(blocking, isolation="thread"))["result"] == "horae-handler"


async def test_handler_without_parameters_is_called(bench: Bench) -> None:
    assert (await bench.outcome(lambda: 5))["result"] == 5


async def test_partials_and_objects_are_handlers(bench: Bench) -> None:
    class Asynchronous:
        async def __call__(self, context: Context) -> str:
            return "object"

    async def two(context: Context, payload: Any) -> Any:
        return payload

    bench.registry.add("object", Asynchronous())
    bench.registry.add("partial", partial(two, payload="kept"))
    assert (await bench.executor.run(work("object")))["result"] == "object"
    assert (await bench.executor.run(work("partial")))["result"] == "kept"


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (True, True),
        ("text", "text"),
        (Order(number=3), {"number": 3, "items": []}),
        (Sum(2, datetime(2026, 1, 1, tzinfo=UTC)), {"total": 2, "at": "2026-01-01T00:00:00Z"}),
        ({1, 2}, [1, 2]),
        (timedelta(seconds=90), "PT1M30S"),
        (b"bytes", "bytes"),
        (2**70, 2**70),
    ],
)
async def test_results_are_kept_as_json(bench: Bench, value: Any, stored: Any) -> None:
    outcome = await bench.outcome(lambda context: value)
    assert outcome["outcome"] == "succeeded"
    assert outcome["result"] == stored


@pytest.mark.parametrize(
    "value",
    [object(), b"\xff", "x" * 2_000_000, [object()], 10**5000, lambda: None],
    ids=["object", "binary", "large", "nested", "digits", "function"],
)
async def test_result_that_cannot_be_kept_is_a_recorded_failure(bench: Bench, value: Any) -> None:
    outcome = await bench.outcome(lambda context: value)
    assert outcome["outcome"] == "failed"
    assert outcome["error"]["message"]


async def test_result_that_refers_to_itself_is_a_recorded_failure(bench: Bench) -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert (await bench.outcome(lambda context: loop))["outcome"] == "failed"


async def test_again_failed_and_cooldown_are_told(bench: Bench) -> None:
    again = await bench.outcome(attempts.asks_again)
    assert (again["outcome"], again["after"], again["limit"]) == ("again", timedelta(seconds=5), 2)
    bench.registry._handlers.clear()
    failed = await bench.outcome(
        lambda context: Result.failed("no", type="Nope", retry_after="3 seconds")
    )
    assert failed["error"] == {"type": "Nope", "message": "no", "retry_after": 3.0}
    bench.registry._handlers.clear()
    done = await bench.outcome(
        lambda context: Result.done(
            4, cooldown="1 minute", operations=("sent",), metadata={"k": "v"}
        )
    )
    assert done["result"] == 4
    assert done["cooldown"] == timedelta(minutes=1)
    assert done["metadata"] == {"k": "v", "operations": ["sent"]}


# --- what a handler raises -----------------------------------------------------------------------


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


RAISED = [
    ValueError("no"),
    SystemExit(3),
    asyncio.CancelledError("by itself"),
    Mute(),
    StopIteration(),
    GeneratorExit(),
    TimeoutError("slow"),
    ExceptionGroup("two", [ValueError("a"), TypeError("b")]),
    type("E" * 400, (Exception,), {})("a long name"),
    BaseException("base"),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__[:20])
async def test_whatever_an_async_handler_raises_is_recorded(
    bench: Bench, error: BaseException
) -> None:
    async def handler(context: Context) -> None:
        raise error

    bench.registry.add("work", handler)
    outcome = await bench.executor.run(work())
    assert outcome["outcome"] == "failed"
    assert outcome["error"]["stack"]


@pytest.mark.parametrize(
    "error", [*RAISED, KeyboardInterrupt()], ids=lambda error: type(error).__name__[:20]
)
async def test_whatever_a_sync_handler_raises_is_recorded(
    bench: Bench, error: BaseException
) -> None:
    def handler(context: Context) -> None:
        raise error

    bench.registry.add("work", handler)
    outcome = await bench.executor.run(work())
    assert outcome["outcome"] == "failed"
    assert bench.executor.free() == 16


async def test_handler_that_awaits_what_was_cancelled_has_failed(bench: Bench) -> None:
    async def handler(context: Context) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(10))
        inner.cancel()
        await inner

    outcome = await bench.outcome(handler)
    assert outcome["error"]["type"] == "CancelledError"


async def test_error_says_when_to_try_again(bench: Bench) -> None:
    async def handler(context: Context) -> None:
        raise RetryAfter("90 seconds", "busy")

    error = (await bench.outcome(handler))["error"]
    assert (error["type"], error["retry_after"], error["message"]) == ("RetryAfter", 90.0, "busy")


async def test_missing_handler_lists_those_that_exist(bench: Bench) -> None:
    bench.registry.add("alpha", plain)
    bench.registry.add("beta", plain)
    error = (await bench.executor.run(work("gamma")))["error"]
    assert "gamma" in error["message"]
    assert "alpha, beta" in error["message"]


# --- what a handler is given ---------------------------------------------------------------------


async def test_payload_is_validated_into_the_annotated_model(bench: Bench) -> None:
    async def handler(context: Context, order: Order) -> int:
        return order.number + 1

    assert (await bench.outcome(handler, payload={"number": 4}))["result"] == 5
    error = (await bench.outcome(handler, payload={"number": "x"}))["error"]
    assert error["type"] == "PayloadInvalid"
    assert error["final"]
    assert "number" in error["message"]


async def test_payload_without_annotation_comes_as_it_is(bench: Bench) -> None:
    assert (await bench.outcome(lambda context, payload: payload, payload=[1]))["result"] == [1]


def test_handlers_of_too_many_parameters_are_refused_where_they_are_written() -> None:
    registry = Registry()
    with pytest.raises(TypeError, match="context"):
        registry.add("x", lambda context, payload, more: None)
    registry.add("x", plain)
    registry.add("x", plain)
    with pytest.raises(ValueError, match="registered already"):
        registry.add("x", lambda context: None)


def test_annotation_that_does_not_exist_is_refused_where_it_is_written() -> None:
    def handler(context: Context, order: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Never called."""

    with pytest.raises(TypeError, match="annotation"):
        Registry().add("x", handler)


class Caused:
    """A client that tells what it is asked for."""

    def __init__(self, *told: Any) -> None:
        self.told = told

    def caused_by(
        self, correlation_id: str, loop: asyncio.AbstractEventLoop, headers: dict[str, str]
    ) -> Caused:
        assert loop is asyncio.get_running_loop()
        return Caused(correlation_id, headers)

    def in_tenant(self, tenant: str) -> tuple[Any, ...]:
        return (*self.told, tenant)


async def test_context_has_the_facts_of_its_attempt() -> None:
    now = DUE + timedelta(seconds=2)
    client = Caused()
    bench = Bench(now=lambda: now, client=client)
    seen: list[Context] = []

    async def handler(context: Context) -> None:
        seen.append(context)

    await bench.outcome(
        handler,
        attempt=3,
        lease="3.1",
        run_number=7,
        trigger={"kind": "manual", "key": "k"},
        next_due=DUE + timedelta(hours=1),
        timeout=30.0,
    )
    context = seen[0]
    assert (context.schedule_id, context.tenant, context.attempt) == ("job", "default", 3)
    assert context.late_by == timedelta(seconds=2)
    assert context.due == DUE
    assert context.run_number == 7
    assert context.trigger["kind"] == "manual"
    assert context.next_due == DUE + timedelta(hours=1)
    assert context.timeout == 30.0
    assert context.correlation_id == context.execution_id
    cause = {"Horae-Causation-Id": context.execution_id}
    assert context.client == (context.execution_id, cause, "default")
    assert bench.reports == []


async def test_logs_are_kept_within_bounds_whatever_is_logged(bench: Bench) -> None:
    async def handler(context: Context) -> str:
        for index in range(500):
            context.log("é" * 5000, index=index, blob="x" * 100_000, nan=float("nan"), it=object())
        context.log("\ud800")
        return "done"

    outcome = await bench.outcome(handler)
    assert outcome["result"] == "done"
    json_value(outcome["logs"])
    assert 10 < len(outcome["logs"]) <= MAX_LOGS
    assert len(str(outcome["logs"]).encode()) < 2 * MAX_LOG_BYTES


async def test_few_logs_are_kept_as_they_were(bench: Bench) -> None:
    async def handler(context: Context) -> None:
        context.log("one", n=1, ok=True, none=None, part=0.5)
        for _ in range(300):
            context.log("x")

    logs = (await bench.outcome(handler))["logs"]
    assert logs[0]["message"] == "one"
    assert logs[0]["facts"] == {"n": 1, "ok": True, "none": None, "part": 0.5}
    assert len(logs) == MAX_LOGS


async def test_logs_have_a_level_unless_it_is_info(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(error: Exception) -> None:
        raise error

    async def handler(context: Context) -> None:
        context.log(message="called", level="a fact")
        for level in ("debug", "info", "warning", "error", "critical", "exception"):
            getattr(context.log, level)("by name", n=1)
        try:
            int("no feed")
        except ValueError:
            context.log.exception("handled")
        for error in (Mute(), ScheduleNotFound("no such schedule", value="a")):
            try:
                fail(error)
            except (Mute, ScheduleNotFound):
                context.log.exception("one more")

    with caplog.at_level(logging.DEBUG, logger="horae.handler"):
        logs = (await bench.outcome(handler))["logs"]
    assert [(line["message"], line.get("level")) for line in logs] == [
        ("called", None),
        ("by name", "debug"),
        ("by name", None),
        ("by name", "warning"),
        ("by name", "error"),
        ("by name", "critical"),
        ("by name", "error"),
        ("handled", "error"),
        ("one more", "error"),
        ("one more", "error"),
    ]
    assert [line["facts"]["exception"] for line in logs[-2:]] == [
        "Mute: <an error that cannot be shown>",
        "ScheduleNotFound: no such schedule [a]",
    ]
    assert logs[0]["facts"] == {"level": "a fact"}
    assert logs[3]["facts"] == logs[6]["facts"] == {"n": 1}
    assert logs[7]["facts"]["exception"].startswith("ValueError: invalid literal")
    said = [each for each in caplog.records if each.name == "horae.handler"]
    assert [each.levelname for each in said] == [
        "INFO", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", *["ERROR"] * 4,
    ]  # fmt: skip
    assert {each.msg["schedule_id"] for each in said} == {"job"}
    assert [each.exc_info is not None for each in said[-4:]] == [False, True, True, True]


async def test_logs_of_a_failed_attempt_are_kept(bench: Bench) -> None:
    async def handler(context: Context) -> None:
        context.log("before")
        raise ValueError

    assert [line["message"] for line in (await bench.outcome(handler))["logs"]] == ["before"]


# --- processes -----------------------------------------------------------------------------------


async def test_isolated_handler_runs_in_a_process_of_its_own(bench: Bench) -> None:
    import os

    outcome = await bench.outcome(
        attempts.alone, isolation="process", payload={"number": 9}, attempt=2, timeout=30.0
    )
    assert outcome["result"]["number"] == 9
    assert outcome["result"]["attempt"] == 2
    assert outcome["result"]["pid"] != os.getpid()
    assert outcome["logs"][0]["message"] == "alone"


@pytest.mark.parametrize("function", [attempts.dies, attempts.exits, attempts.raises])
async def test_isolated_handler_that_ends_badly_is_recorded(
    bench: Bench, function: Function
) -> None:
    outcome = await bench.outcome(function, isolation="process", timeout=30.0)
    assert outcome["outcome"] == "failed"
    expected = {"dies": "WorkerDied", "exits": "SystemExit", "raises": "LookupError"}
    assert outcome["error"]["type"] == expected[function.__name__]


async def test_isolated_payload_that_does_not_fit_is_recorded(bench: Bench) -> None:
    outcome = await bench.outcome(attempts.alone, isolation="process", payload={}, timeout=30.0)
    assert outcome["error"]["type"] == "PayloadInvalid"
    assert outcome["error"]["final"]


async def test_closure_cannot_be_isolated_and_the_failure_says_so(bench: Bench) -> None:
    outcome = await bench.outcome(lambda context: None, isolation="process")
    assert outcome["outcome"] == "failed"
    assert "process" in outcome["error"]["message"]


async def test_command_line_is_run_and_its_output_kept(bench: Bench) -> None:
    action = {"type": "process", "command": ["/bin/echo", "hello"], "env": {}}
    outcome = await bench.executor.run(work(action=action))
    assert outcome["result"]["stdout"] == "hello\n"


async def test_executor_without_children_refuses_processes() -> None:
    bench = Bench()
    outcome = await bench.executor.run(work(action={"type": "process", "command": ["true"]}))
    assert "does not run processes" in outcome["error"]["message"]
    outcome = await bench.outcome(plain, isolation="process")
    assert "does not isolate" in outcome["error"]["message"]


@pytest.mark.parametrize("allowed", [True, False])
async def test_command_lines_are_served_only_where_they_are_allowed(allowed: bool) -> None:
    executor = Bench(allow_processes=allowed).executor
    assert executor.serves(ProcessAction(command=("true",))) == allowed
    assert not executor.serves(FunctionAction(name="work"))
    assert not executor.serves(QueueAction(queue="q"))


# --- slots ---------------------------------------------------------------------------------------


async def test_slot_is_taken_until_the_attempt_ends_and_reported_once(bench: Bench) -> None:
    gate = asyncio.Event()

    async def handler(context: Context) -> None:
        await gate.wait()

    bench.registry.add("work", handler)
    bench.executor.start([work(), work(lease="2.1")])
    assert bench.executor.free() == 14
    assert bench.executor.running == 2
    gate.set()
    await bench.next()
    await bench.free(16)
    assert len(bench.reports) == 2
    assert bench.executor.done == 2


async def test_fenced_async_attempt_is_cancelled_and_its_slot_announced(bench: Bench) -> None:
    began, freed = asyncio.Event(), asyncio.Event()
    bench.executor.freed = freed.set

    async def handler(context: Context) -> None:
        began.set()
        await asyncio.Event().wait()

    bench.registry.add("work", handler)
    one = work()
    bench.executor.start([one])
    await asyncio.wait_for(began.wait(), 60)
    bench.executor.stop([(one.execution_id, one.lease), ("unknown", "1.1")])
    await asyncio.wait_for(freed.wait(), 60)
    assert bench.executor.free() == 16
    assert bench.reports == []


async def test_attempt_that_is_fenced_before_it_has_begun_gives_its_slot_back(
    bench: Bench,
) -> None:
    async def handler(context: Context) -> None:
        await asyncio.Event().wait()

    bench.registry.add("work", handler)
    one = work()
    bench.executor.start([one])
    bench.executor.stop([(one.execution_id, one.lease)])
    await bench.free(16)
    assert bench.reports == []
    assert await bench.executor.drain(60)


async def test_hung_thread_keeps_its_slot_until_it_has_ended(bench: Bench) -> None:
    began, gate = threading.Event(), threading.Event()
    freed = asyncio.Event()

    def handler(context: Context) -> None:
        began.set()
        gate.wait(100)

    bench.registry.add("work", handler)
    one = work()
    bench.executor.start([one])
    await until(began.is_set)
    bench.executor.stop([(one.execution_id, one.lease)])
    await until(lambda: bench.executor.running == 0)
    assert bench.executor.free() == 15
    bench.executor.freed = freed.set
    gate.set()
    await asyncio.wait_for(freed.wait(), 60)
    assert bench.executor.free() == 16
    assert bench.reports == []


async def test_report_is_repeated_until_somebody_takes_it(bench: Bench) -> None:
    bench.registry.add("work", plain)
    unavailable = Reply(503, {"ok": False, "error": {"code": "unavailable", "message": ""}})
    bench.replies = [unavailable, Unavailable("nobody answered"), unavailable]
    bench.executor.start([work()])
    assert (await bench.next())["outcome"] == "succeeded"
    assert len(bench.reports) == 1


async def test_refused_report_is_not_repeated(bench: Bench) -> None:
    bench.registry.add("work", plain)
    bench.replies = [Reply(409, {"ok": False, "error": {"code": "stale_lease", "message": "s"}})]
    bench.executor.start([work()])
    await bench.free(16)
    assert await bench.executor.drain(60)
    assert bench.reports == []


# --- the end -------------------------------------------------------------------------------------


async def test_drain_waits_for_what_runs_and_takes_no_more(bench: Bench) -> None:
    async def handler(context: Context) -> str:
        await asyncio.sleep(0.05)
        return "in time"

    bench.registry.add("work", handler)
    bench.executor.start([work()])
    assert await bench.executor.drain(60)
    assert bench.reports[0]["result"] == "in time"
    assert bench.executor.free() == 0


async def test_drain_waits_for_the_report_too(bench: Bench) -> None:
    bench.registry.add("work", plain)
    unavailable = Reply(503, {"ok": False, "error": {"code": "unavailable", "message": ""}})
    bench.replies = [unavailable] * 3
    bench.executor.start([work()])
    assert await bench.executor.drain(60)
    assert len(bench.reports) == 1


async def test_drain_cancels_what_takes_too_long(bench: Bench) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def handler(context: Context) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    bench.registry.add("work", handler)
    bench.executor.start([work()])
    await asyncio.wait_for(began.wait(), 60)
    assert not await bench.executor.drain(0.05)
    assert ended.is_set()
    assert bench.reports == []


async def test_drain_without_time_does_not_overlook_what_has_just_been_started(
    bench: Bench,
) -> None:
    async def handler(context: Context) -> None:
        await asyncio.Event().wait()

    bench.registry.add("work", handler)
    bench.executor.start([work()])
    assert not await bench.executor.drain(0)


async def test_drain_of_an_idle_executor_ends_at_once(bench: Bench) -> None:
    assert await bench.executor.drain(60)


async def test_drain_kills_the_processes_of_handlers(bench: Bench) -> None:
    bench.registry.add("work", attempts.hangs)
    bench.executor.start([work(isolation="process")])
    assert not await bench.executor.drain(0.3)
    await until(lambda: bench.executor.running == 0)
