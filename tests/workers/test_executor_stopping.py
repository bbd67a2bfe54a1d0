"""Handlers that are asked to stop, and those that say that they are alive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import attempts
import pytest
from attempts import work

from horae_application.beats import Beats, interval_of
from horae_application.context import Context
from horae_application.messages import HeartbeatExecution, Reply, ReportExecution
from horae_application.registry import Registry
from horae_application.work import Work
from horae_domain.wire import validate
from horae_infrastructure.children import ChildProcesses
from horae_workers.executor import Executor

Function = Callable[..., Any]
PATIENCE = 60


class Bench:
    """An executor whose reports and heartbeats are kept; each is what the wire accepts."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.reports: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.beats: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.cancel = False
        self.executor = Executor(
            self.registry,
            self._report,
            heartbeat=self._heartbeat,
            children=ChildProcesses(),
            allow_processes=True,
        )
        self.executor.bind(asyncio.get_running_loop())

    async def _report(self, each: Work, outcome: dict[str, Any]) -> Reply:
        validate(ReportExecution, outcome)
        self.reports.put_nowait(outcome)
        return Reply(200, {"ok": True})

    async def _heartbeat(self, each: Work, body: dict[str, Any]) -> Reply:
        validate(HeartbeatExecution, body)
        self.beats.put_nowait(body)
        return Reply(200, {"ok": True, "cancel": self.cancel})

    def start(self, function: Function, **told: Any) -> Work:
        self.registry.add("work", function)
        begun = work(**told)
        self.executor.hold(1)
        self.executor.start([begun])
        return begun

    def ask(self, begun: Work) -> None:
        self.executor.ask_to_stop([(begun.execution_id, begun.lease)])

    async def heard(self) -> Any:
        return (await asyncio.wait_for(self.beats.get(), PATIENCE))["progress"]

    async def outcome(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.reports.get(), PATIENCE)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.executor.drain(0)


# --- asked to stop -------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
async def test_async_handler_is_cancelled_and_says_so(bench: Bench, isolation: str) -> None:
    begun = bench.start(attempts.awaits, isolation=isolation)
    assert await bench.heard() == "there"
    bench.ask(begun)
    outcome = await bench.outcome()
    assert outcome["outcome"] == "cancelled"
    assert outcome["error"]["type"] == "Cancelled"


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
async def test_what_an_async_handler_returns_after_all_counts(bench: Bench, isolation: str) -> None:
    begun = bench.start(attempts.awaits, isolation=isolation, payload="answer")
    assert await bench.heard() == "there"
    bench.ask(begun)
    outcome = await bench.outcome()
    assert (outcome["outcome"], outcome["result"]) == ("succeeded", "partial")


async def test_handler_that_fails_when_it_is_asked_has_failed(bench: Bench) -> None:
    there = asyncio.Event()

    async def fails(context: Context) -> None:
        there.set()
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("while stopping")

    begun = bench.start(fails)
    await there.wait()
    bench.ask(begun)
    outcome = await bench.outcome()
    assert (outcome["outcome"], outcome["error"]["type"]) == ("failed", "ValueError")


async def test_thread_sees_that_it_should_stop(bench: Bench) -> None:
    there, go = threading.Event(), threading.Event()

    def loops(context: Context) -> None:
        context.raise_if_cancelled()
        there.set()
        while not context.cancelled:
            go.wait(0.01)
        context.log("swept")
        context.raise_if_cancelled()

    begun = bench.start(loops)
    await asyncio.to_thread(there.wait, PATIENCE)
    bench.ask(begun)
    outcome = await bench.outcome()
    assert outcome["outcome"] == "cancelled"
    assert outcome["logs"][0]["message"] == "swept"


async def test_thread_that_takes_no_notice_reports_what_it_returns(bench: Bench) -> None:
    there, go = threading.Event(), threading.Event()

    def deaf(context: Context) -> str:
        there.set()
        go.wait(PATIENCE)
        return "done"

    begun = bench.start(deaf)
    await asyncio.to_thread(there.wait, PATIENCE)
    bench.ask(begun)
    await asyncio.sleep(0)
    go.set()
    outcome = await bench.outcome()
    assert (outcome["outcome"], outcome["result"]) == ("succeeded", "done")


async def test_fenced_thread_sees_that_its_outcome_counts_no_more(bench: Bench) -> None:
    there, seen = threading.Event(), threading.Event()

    def loops(context: Context) -> None:
        there.set()
        while not context.cancelled:
            seen.wait(0.01)
        seen.set()

    begun = bench.start(loops)
    await asyncio.to_thread(there.wait, PATIENCE)
    bench.executor.stop([(begun.execution_id, begun.lease)])
    assert await asyncio.to_thread(seen.wait, PATIENCE)
    assert bench.reports.empty()


async def test_synchronous_code_in_a_process_is_interrupted(bench: Bench) -> None:
    begun = bench.start(attempts.waits, isolation="process")
    assert (await bench.heard())["pid"]
    bench.ask(begun)
    outcome = await bench.outcome()
    assert (outcome["outcome"], outcome["error"]["type"]) == ("cancelled", "Cancelled")


async def test_what_a_process_returns_after_all_counts(bench: Bench) -> None:
    begun = bench.start(attempts.answers_after_all, isolation="process")
    await bench.heard()
    bench.ask(begun)
    assert (await bench.outcome())["result"] == "partial"


async def test_process_that_takes_no_notice_is_killed_when_it_is_fenced(bench: Bench) -> None:
    begun = bench.start(attempts.deaf, isolation="process")
    await bench.heard()
    bench.ask(begun)
    bench.executor.stop([(begun.execution_id, begun.lease)])
    while bench.executor.running or bench.executor._tasks:
        await asyncio.sleep(0.01)
    assert bench.reports.empty()


def command(script: str) -> dict[str, Any]:
    return {"type": "process", "command": ["/bin/sh", "-c", script]}


async def test_command_is_sent_sigterm_and_may_clean_up(bench: Bench, tmp_path: Any) -> None:
    there, swept = tmp_path / "there", tmp_path / "swept"
    script = f"trap 'touch {swept}; exit 3' TERM; touch {there}; while :; do sleep 0.05; done"
    begun = bench.start(attempts.dies, action=command(script))
    while not there.exists():
        await asyncio.sleep(0.01)
    bench.ask(begun)
    outcome = await bench.outcome()
    assert outcome["outcome"] == "cancelled"
    assert "exit code 3" in outcome["error"]["message"]
    assert swept.exists()


async def test_command_that_ends_well_when_it_is_asked_has_succeeded(
    bench: Bench, tmp_path: Any
) -> None:
    there = tmp_path / "there"
    script = f"trap 'echo bye; exit 0' TERM; touch {there}; while :; do sleep 0.05; done"
    begun = bench.start(attempts.dies, action=command(script))
    while not there.exists():
        await asyncio.sleep(0.01)
    bench.ask(begun)
    outcome = await bench.outcome()
    assert (outcome["outcome"], outcome["result"]["stdout"]) == ("succeeded", "bye\n")


async def test_handler_that_was_asked_before_it_began_is_stopped_at_once(bench: Bench) -> None:
    begun = bench.start(attempts.awaits)
    bench.ask(begun)
    bench.ask(begun)
    assert (await bench.outcome())["outcome"] == "cancelled"


# --- heartbeats ----------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
async def test_heartbeats_come_from_every_isolation_and_their_answer_stops_it(
    bench: Bench, isolation: str
) -> None:
    bench.cancel = True
    bench.start(attempts.awaits, isolation=isolation)
    assert await bench.heard() == "there"
    assert (await bench.outcome())["outcome"] == "cancelled"


async def test_last_progress_is_kept_with_the_outcome(bench: Bench) -> None:
    async def counts(context: Context) -> None:
        for number in range(100):
            context.heartbeat({"n": number})

    bench.start(counts)
    assert (await bench.outcome())["metadata"] == {"progress": {"n": 99}}


async def test_progress_that_is_no_json_or_too_large_is_the_handlers_error(bench: Bench) -> None:
    async def large(context: Context) -> None:
        context.heartbeat("x" * 20_000)

    bench.start(large)
    outcome = await bench.outcome()
    assert (outcome["outcome"], outcome["error"]["type"]) == ("failed", "TypeError")


def test_heartbeats_go_out_in_thirds_of_the_timeout():
    assert interval_of(30) == 10
    assert interval_of(None) == 1


async def test_first_heartbeat_goes_out_at_once_and_then_the_latest_of_each_interval():
    now, sent = 100.0, []

    async def send(progress: Any) -> None:
        sent.append(progress)

    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    beats = Beats(send, 10, lambda: now)
    beats.beat(1)
    await settle()
    for number in (2, 3, None):
        beats.beat(number)
    await settle()
    assert sent == [1]
    beats._fire()
    await settle()
    assert sent == [1, 3]
    now += 10
    beats.beat(4)
    await settle()
    assert (sent, beats.latest) == ([1, 3, 4], 4)
    beats.close()
    beats.beat(5)
    await settle()
    assert sent == [1, 3, 4]
