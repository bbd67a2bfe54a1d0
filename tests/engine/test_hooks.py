"""Hooks are told of what is dispatched and processed, and harm nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from horae import Context, Horae, Observed, Retry, command, manual, testing
from horae_application import hooks

TYPES = ["function", "process", "command", "http", "schedule"]


def observing(name: str = "scheduler.*") -> tuple[Horae, list[Observed]]:
    app, seen = Horae("desk"), []

    @app.hook(name)
    async def hook(observed: Observed) -> None:
        seen.append(observed)

    @app.schedule("job", manual(), retry=Retry(1), priority="high")
    async def job(ctx: Context, payload: Any) -> Any:
        if payload == "fail":
            raise LookupError("nothing there")
        return payload

    return app, seen


async def run(app: Horae, *payloads: Any) -> list[dict[str, Any]]:
    async with testing.engine(app, concurrency=8) as engine:
        runs = [(await engine.trigger_schedule("job", payload=each)) for each in payloads]
        await engine.settle()
        found = [await engine.get_execution(each["execution_id"]) for each in runs]
        await app.registry.hooks.drain()
        return found


def test_every_type_of_action_that_an_executor_does_has_its_hook() -> None:
    dispatches = [f"scheduler.dispatch.{each}" for each in TYPES]
    assert set(hooks.NAMES) == {"scheduler.dispatch.batch", *dispatches, "scheduler.worker.process"}


async def test_attempt_is_told_when_it_is_dispatched_and_when_it_has_ended() -> None:
    app, seen = observing()
    (found,) = await run(app, "value")
    batch, dispatch, process = seen
    assert (batch.name, dict(batch.attributes)) == (
        "scheduler.dispatch.batch",
        {"count": 1, "types": {"function": 1}},
    )
    assert dispatch.name == "scheduler.dispatch.function"
    assert process.name == "scheduler.worker.process"
    facts = {
        "tenant": "default",
        "schedule_id": "job",
        "execution_id": found["id"],
        "attempt": 1,
        "type": "function",
        "stage": None,
        "handler": "job",
        "queue": "default",
        "priority": "high",
        "trigger": "manual",
        "late_ms": 0.0,
        "correlation_id": found["id"],
    }
    assert {name: dispatch.attributes[name] for name in facts} == facts
    assert {name: process.attributes[name] for name in facts} == facts
    assert process.attributes["outcome"] == "succeeded"
    assert process.attributes["duration_ms"] == pytest.approx(process.seconds * 1000, abs=0.01)


async def test_failure_is_told_with_its_error() -> None:
    app, seen = observing("scheduler.worker.process")
    await run(app, "fail")
    (process,) = seen
    told = process.attributes
    assert (told["outcome"], told["error_type"]) == ("failed", "LookupError")
    assert told["error_message"] == "nothing there"


async def test_hook_of_a_type_is_told_of_that_type_alone() -> None:
    app, seen = observing("scheduler.dispatch.command")
    app.service("desk").command("Note")(lambda call: None)
    async with testing.engine(app) as engine:
        await engine.create_schedule("send", manual(), command("desk", "Note"))
        await engine.trigger_schedule("send")
        await engine.trigger_schedule("job")
        await engine.settle()
        await app.registry.hooks.drain()
    assert [each.attributes["schedule_id"] for each in seen] == ["send"]


async def test_attempt_that_is_given_up_is_told_so(monkeypatch) -> None:
    monkeypatch.setattr(testing, "PATIENCE", 0.1)  # the handler hangs
    app, seen = Horae("desk"), []
    app.hook("scheduler.worker.process")(seen.append)

    @app.schedule("job", manual(), timeout={"start_to_close": "1 second"}, retry=Retry(1))
    async def job(ctx: Context) -> None:
        await asyncio.Event().wait()

    async with testing.engine(app) as engine:
        await engine.trigger_schedule("job")
        await engine.settle()
        await engine.advance("2 seconds")
        while not seen:
            await asyncio.sleep(0.01)
    assert seen[0].attributes["outcome"] == "given_up"


async def test_hook_that_fails_or_hangs_harms_no_run_and_no_other_hook(monkeypatch) -> None:
    monkeypatch.setattr(hooks, "PATIENCE", 0.05)
    app, seen = Horae("desk"), []

    @app.hook("scheduler.worker.process")
    def fails(observed: Observed) -> None:
        raise RuntimeError("a hook's own")

    @app.hook("scheduler.worker.process")
    async def hangs(observed: Observed) -> None:
        await asyncio.Event().wait()

    @app.hook("scheduler.worker.process")
    def tells(observed: Observed) -> None:
        assert threading.current_thread() is not threading.main_thread()
        seen.append(observed.attributes["outcome"])

    @app.schedule("job", manual())
    async def job(ctx: Context) -> str:
        return "done"

    found = await run(app, None)
    while len(seen) < len(found):
        await asyncio.sleep(0.01)
    assert [each["status"] for each in found] == ["succeeded"]
    assert seen == ["succeeded"]


async def test_what_hooks_are_too_slow_for_is_dropped(monkeypatch) -> None:
    monkeypatch.setattr(hooks, "MAX_WAITING", 1)
    app, seen, free = Horae("desk"), [], asyncio.Event()

    @app.hook("scheduler.worker.process")
    async def slow(observed: Observed) -> None:
        await free.wait()
        seen.append(observed)

    @app.schedule("job", manual(), overlap="allow")
    async def job(ctx: Context) -> None: ...

    async with testing.engine(app, concurrency=8) as engine:
        runs = [(await engine.trigger_schedule("job"))["execution_id"] for _ in range(8)]
        await engine.settle()
        statuses = [(await engine.get_execution(each))["status"] for each in runs]
        free.set()
        await app.registry.hooks.drain()
    assert statuses == ["succeeded"] * 8
    assert 1 <= len(seen) < 8


async def test_fallback_is_told_apart_from_what_has_failed() -> None:
    app, seen = Horae("desk"), []
    app.hook("scheduler.worker.process")(seen.append)
    app.fallback("instead")(lambda _ctx: "instead")

    @app.schedule("job", manual(), retry=Retry(1), fallback="instead")
    async def job(ctx: Context) -> None:
        raise LookupError("nothing there")

    await run(app, None)
    told = [(each.attributes["stage"], each.attributes["outcome"]) for each in seen]
    assert told == [(None, "failed"), ("fallback", "succeeded")]


@pytest.mark.parametrize(
    "name",
    [
        "scheduler.dispatch",
        "scheduler.dispatch.queue",
        "dispatch.*",
        "scheduler.worker.process.x",
    ],
)
def test_hook_that_there_is_not_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"scheduler\.worker\.process"):
        Horae("desk").hook(name)(print)
