"""Services outside, and what else a handler can ask for, in every isolation."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from horae import Context, Horae, Retry, manual, testing
from horae_application.errands import NotHere, UnknownExternal
from horae_domain.errors import InvalidField
from horae_infrastructure.externals import CircuitOpen, ExternalServices

QUICK = {"delay": "1ms", "max_delay": "1ms"}


class Chain:
    """A service that fails so often before it answers."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.asked: list[str] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()

    async def status(self, tx: str) -> dict[str, Any]:
        self.loops.add(asyncio.get_running_loop())
        return self._answer(tx)

    def blocking(self, tx: str) -> dict[str, Any]:
        assert threading.current_thread() is not threading.main_thread()
        return self._answer(tx)

    async def hangs(self) -> None:
        await asyncio.Event().wait()

    def _answer(self, tx: str) -> dict[str, Any]:
        self.asked.append(tx)
        if len(self.asked) <= self.failures:
            raise ConnectionError("down")
        return {"tx": tx, "confirmed": True}


def services(target: Any, **policy: Any) -> ExternalServices:
    made = ExternalServices()
    made.add("chain", target, **(QUICK | policy))
    return made


@pytest.mark.parametrize("operation", ["status", "blocking"])
async def test_try_that_fails_is_repeated_until_one_is_answered(operation: str) -> None:
    chain = Chain(failures=2)
    answer = await services(chain).call("chain", operation, {"tx": "a"})
    assert answer == {"tx": "a", "confirmed": True}
    assert chain.asked == ["a", "a", "a"]


async def test_last_failure_is_raised_when_no_try_is_left() -> None:
    chain = Chain(failures=9)
    with pytest.raises(ConnectionError, match="down"):
        await services(chain, attempts=2).call("chain", "status", {"tx": "a"})
    assert len(chain.asked) == 2


async def test_exception_that_is_not_to_be_repeated_is_raised_at_once() -> None:
    chain = Chain(failures=9)
    with pytest.raises(ConnectionError):
        await services(chain, retry_on=(TimeoutError,)).call("chain", "status", {"tx": "a"})
    assert len(chain.asked) == 1


async def test_silence_ends_each_try() -> None:
    made = services(Chain(), timeout="10ms", attempts=2)
    with pytest.raises(TimeoutError, match="chain has not answered"):
        await made.call("chain", "hangs", {})


async def test_service_that_fails_in_a_row_is_left_alone_and_asked_again_later() -> None:
    chain = Chain(failures=3)
    made = services(chain, attempts=1, failures=3, recovery="300ms")
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await made.call("chain", "status", {"tx": "a"})
    with pytest.raises(CircuitOpen) as left_alone:
        await made.call("chain", "status", {"tx": "b"})
    assert "b" not in chain.asked
    assert 0 < left_alone.value.after.total_seconds() <= 1
    while True:
        try:
            assert (await made.call("chain", "status", {"tx": "c"}))["confirmed"]
        except CircuitOpen as still:
            await asyncio.sleep(still.after.total_seconds())
        else:
            break
    assert (await made.call("chain", "status", {"tx": "d"}))["confirmed"]


async def test_circuit_that_opens_between_tries_ends_them() -> None:
    chain = Chain(failures=9)
    with pytest.raises(CircuitOpen):
        await services(chain, attempts=5, failures=2).call("chain", "status", {"tx": "a"})
    assert len(chain.asked) == 2


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_function_takes_the_operation_and_its_arguments(asynchronous: bool) -> None:
    def answers(operation: str, **args: Any) -> Any:
        return [operation, args]

    async def awaits(operation: str, **args: Any) -> Any:
        return answers(operation, **args)

    made = services(awaits if asynchronous else answers)
    assert await made.call("chain", "status", {"tx": "a"}) == ["status", {"tx": "a"}]


@pytest.mark.parametrize(("name", "operation"), [("other", "status"), ("chain", "nothing"), ("chain", "_answer")])  # fmt: skip
async def test_service_or_operation_that_is_not_there_is_told_with_those_that_are(name, operation):
    with pytest.raises(UnknownExternal) as refused:
        await services(Chain()).call(name, operation, {})
    known = ["chain"] if name == "other" else ["blocking", "hangs", "status"]
    assert refused.value.details["known"] == known


@pytest.mark.parametrize("field", ["timeout", "attempts", "failures", "recovery", "nothing"])
def test_policy_that_breaks_a_rule_is_refused_by_its_field(field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        Horae("desk").external("chain", Chain(), **{field: 0})
    assert refused.value.field == field


def test_name_of_a_service_is_taken_once() -> None:
    app = Horae("desk")
    app.external("chain", Chain())
    with pytest.raises(ValueError, match="already"):
        app.external("chain", Chain())


# --- from handlers --------------------------------------------------------------------------------


class Remind(BaseModel):
    order: str


async def outcome(app: Horae, id_: str) -> dict[str, Any]:
    async with testing.engine(app) as engine:
        run = (await engine.trigger_schedule(id_))["execution_id"]
        await engine.settle()
        found: dict[str, Any] = await engine.get_execution(run)
        return found


def reaching(chain: Chain) -> Horae:
    app = Horae("desk")
    app.external("chain", chain, **QUICK)

    @app.command
    async def remind(command: Remind) -> str:
        return command.order

    @app.schedule("other", manual())
    async def other(ctx: Context, payload: Any) -> list[Any]:
        return [payload, ctx.correlation_id]

    return app


async def everything(ctx: Context) -> dict[str, Any]:
    answer = await ctx.call_external("chain", "status", tx="a")
    done = await ctx.execute_command("Remind", {"order": "o"})
    later = await ctx.schedule(Remind(order="p"), after="1 hour")
    run = await ctx.trigger_schedule("other", {"n": 1})
    listed = await ctx.list_schedules(limit=5)
    return {
        "answer": answer,
        "done": done.data,
        "cancelled": [await ctx.cancel(later), await ctx.cancel(later)],
        "run": run,
        "listed": [each["id"] for each in listed["schedules"]],
    }


async def reaches(ctx: Context) -> dict[str, Any]:
    return await everything(ctx)


def waits(ctx: Context) -> dict[str, Any]:
    return ctx.run(everything(ctx))


@pytest.mark.parametrize(
    ("handler", "isolation"),
    [(reaches, "inline"), (reaches, "thread"), (waits, "inline"), (waits, "thread")],
)
async def test_handler_reaches_all_that_there_is(handler: Any, isolation: str) -> None:
    chain = Chain(failures=1)
    app = reaching(chain)
    app.schedule("job", manual(), isolation=isolation)(handler)
    async with testing.engine(app) as engine:
        await engine.list_schedules()  # so that the views know what is declared
        run = (await engine.trigger_schedule("job"))["execution_id"]
        while (found := await engine.get_execution(run))["status"] in {"pending", "running"}:
            await engine.settle()
        await engine.settle()
        other = await engine.get_execution(found["result"]["run"])
    assert found["status"] == "succeeded"
    result = found["result"]
    assert result["answer"] == {"tx": "a", "confirmed": True}
    assert (result["done"], result["cancelled"]) == ("o", [True, False])
    assert set(result["listed"]) >= {"job", "other"}
    assert other["result"] == [{"n": 1}, run]
    assert chain.loops == {asyncio.get_running_loop()}


@pytest.mark.parametrize("isolation", ["inline", "thread"])
async def test_attempt_after_a_failure_triggers_and_schedules_nothing_twice(isolation: str) -> None:
    app = reaching(Chain())

    @app.schedule("job", manual(), retry=Retry(2, delay="1s"), isolation=isolation)
    async def job(ctx: Context) -> list[str]:
        ids = [
            await ctx.trigger_schedule("other", 1),
            await ctx.trigger_schedule("other", 1),
            await ctx.schedule(Remind(order="p"), after="1 hour"),
        ]
        if ctx.attempt == 1:
            raise ConnectionError(" ".join(ids))
        return ids

    async with testing.engine(app) as engine:
        run = (await engine.trigger_schedule("job"))["execution_id"]
        await engine.settle()
        await engine.advance("2 seconds")
        found = await engine.get_execution(run)
    first = found["attempts"][0]["error"]["message"].split()
    assert found["result"] == first
    assert len(set(first)) == 3


async def test_service_that_is_left_alone_puts_the_next_attempt_off() -> None:
    app = Horae("desk")
    app.external("chain", Chain(failures=9), failures=1, attempts=1, recovery="1 hour")

    @app.schedule("job", manual(), retry=Retry(3, delay="1s"))
    async def job(ctx: Context) -> Any:
        try:
            return await ctx.call_external("chain", "status", tx="a")
        except ConnectionError:
            return await ctx.call_external("chain", "status", tx="b")

    found = await outcome(app, "job")
    assert found["attempts"][0]["error"]["type"] == "CircuitOpen"
    assert "2026-01-01T00:59:00Z" < found["next_retry_at"] <= "2026-01-01T01:00:00Z"


async def test_service_that_nobody_has_registered_is_an_error_that_says_so() -> None:
    app = Horae("desk")

    @app.schedule("job", manual(), retry=Retry(1))
    async def job(ctx: Context) -> Any:
        return await ctx.call_external("chain", "status")

    found = await outcome(app, "job")
    assert found["attempts"][0]["error"]["type"] == "UnknownExternal"


@pytest.mark.parametrize("isolation", ["inline", "thread"])
@pytest.mark.parametrize("asynchronous", [True, False])
async def test_fallback_does_it_instead_with_the_data_it_is_given(isolation, asynchronous) -> None:
    app = Horae("desk")

    def instead(ctx: Context, data: Remind) -> list[Any]:
        ctx.log("did it instead")
        return [data.order, ctx.schedule_id, ctx.stage]

    async def awaited(ctx: Context, data: Remind) -> list[Any]:
        return instead(ctx, data)

    app.fallback("instead")(awaited if asynchronous else instead)

    @app.schedule("job", manual(), retry=Retry(1), isolation=isolation)
    async def job(ctx: Context) -> Any:
        return await ctx.execute_fallback("instead", {"order": "o"})

    async with testing.engine(app) as engine:
        run = (await engine.trigger_schedule("job"))["execution_id"]
        while (found := await engine.get_execution(run))["status"] in {"pending", "running"}:
            await engine.settle()
        logs = await engine.query("execution.logs", {"id": run})
    assert found["result"] == ["o", "job", "fallback:instead"]
    assert "did it instead" in str(logs)


async def test_fallback_that_there_is_not_is_an_error_that_lists_those_that_there_are() -> None:
    app = Horae("desk")
    app.fallback("instead")(lambda ctx: None)

    @app.schedule("job", manual(), retry=Retry(1))
    async def job(ctx: Context) -> Any:
        return await ctx.execute_fallback("other")

    found = await outcome(app, "job")
    (attempt,) = found["attempts"]
    assert attempt["error"]["type"] == "UnknownHandler"
    assert "instead, job" in attempt["error"]["message"]


async def asks(ctx: Context) -> list[str]:
    """Everything that is not there in a process of its own."""
    refused = []
    for call in (
        ctx.call_external("chain", "status"),
        ctx.schedule(Remind(order="p"), after="1 hour"),
        ctx.cancel("x"),
        ctx.trigger_schedule("x"),
        ctx.list_schedules(),
        ctx.send_command("trading", "Rebalance"),
        ctx.execute_command("Remind"),
        ctx.execute_query("Reminders"),
        ctx.execute_fallback("instead"),
    ):
        try:
            await call
        except NotHere as error:
            refused.append(error.message)
    return refused


async def test_process_of_its_own_is_refused_each_of_them_by_a_typed_error() -> None:
    app = Horae("desk")
    app.schedule("job", manual(), isolation="process")(asks)
    found = await outcome(app, "job")
    assert found["status"] == "succeeded", found["attempts"]
    assert len(found["result"]) == 9
    assert all("isolation='process'" in each for each in found["result"])


async def test_handler_on_the_loop_does_not_wait_for_itself() -> None:
    app = Horae("desk")

    @app.schedule("job", manual(), retry=Retry(1))
    async def job(ctx: Context) -> Any:
        return ctx.run(ctx.list_schedules())

    found = await outcome(app, "job")
    assert found["attempts"][0]["error"]["type"] == "NotHere"
