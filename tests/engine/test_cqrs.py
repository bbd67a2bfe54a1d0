"""The application's own commands and queries, called from inside a handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, Field

from horae import Context, Horae, testing
from horae_application.cqrs import Answer, Cqrs, taker_of
from horae_application.work import Work
from horae_domain.errors import ScheduleNotFound


class PlaceOrder(BaseModel):
    symbol: str
    quantity: int = Field(gt=0)


class OpenOrders(BaseModel):
    symbol: str = "ACME"


class Order(BaseModel):
    number: int


async def asked(app: Horae, ask: Callable[[Context], Awaitable[Any]]) -> Any:
    """What `ask` answers in a handler."""
    found: list[Any] = []

    @app.handler("ask")
    async def handler(ctx: Context) -> None:
        found.append(await ask(ctx))

    async with testing.engine(app) as engine:
        await engine.create_schedule("ask", {"type": "manual"}, "ask", retry={"max_attempts": 1})
        run = await engine.trigger_schedule("ask")
        await engine.settle()
        ended = await engine.get_execution(run["execution_id"])
        assert ended["status"] == "succeeded", ended
    return found[0]


def desk() -> tuple[Horae, list[PlaceOrder]]:
    app = Horae("desk")
    placed: list[PlaceOrder] = []

    @app.command
    async def place(ctx: Context, command: PlaceOrder) -> Order:
        assert ctx.schedule_id == "ask"
        placed.append(command)
        return Order(number=len(placed))

    @app.query
    def open_orders(query: OpenOrders) -> list[PlaceOrder]:
        return [each for each in placed if each.symbol == query.symbol]

    return app, placed


async def test_command_is_carried_out_with_a_validated_model() -> None:
    app, placed = desk()
    answer = await asked(
        app, lambda ctx: ctx.execute_command("PlaceOrder", {"symbol": "ACME", "quantity": "2"})
    )
    assert answer == Answer(success=True, data=Order(number=1))
    assert placed == [PlaceOrder(symbol="ACME", quantity=2)]


async def test_command_and_query_may_be_given_as_models() -> None:
    app, placed = desk()

    async def both(ctx: Context) -> Answer:
        await ctx.execute_command(PlaceOrder(symbol="ACME", quantity=1))
        await ctx.execute_command(PlaceOrder(symbol="EMCA", quantity=1))
        return await ctx.execute_query(OpenOrders(symbol="EMCA"))

    answer = await asked(app, both)
    assert answer.success
    assert answer.data == placed[1:]


async def test_models_of_what_is_named_otherwise_find_their_handlers() -> None:
    app = Horae("desk")
    app.command("orders.place")(carry_out)
    app.query("orders.open")(find_open)

    async def both(ctx: Context) -> tuple[Any, Any]:
        placed = await ctx.execute_command(PlaceOrder(symbol="ACME", quantity=1))
        return placed.data, (await ctx.execute_query(OpenOrders(symbol="EMCA"))).data

    assert await asked(app, both) == ("ACME", "EMCA")


def carry_out(command: PlaceOrder) -> str:
    return command.symbol


def find_open(query: OpenOrders) -> str:
    return query.symbol


async def test_query_without_data_has_the_defaults_of_its_model() -> None:
    answer = await asked(desk()[0], lambda ctx: ctx.execute_query("OpenOrders"))
    assert answer == Answer(success=True, data=[])


async def test_data_that_does_not_fit_is_an_error_that_names_the_field() -> None:
    app, placed = desk()
    answer = await asked(
        app, lambda ctx: ctx.execute_command("PlaceOrder", {"symbol": "ACME", "quantity": 0})
    )
    assert not answer.success
    assert answer.data is None
    assert answer.error["code"] == "invalid_field"
    assert answer.error["field"] == "data.quantity"
    assert answer.error["value"] == "0"
    assert placed == []


@pytest.mark.parametrize("kind", ["command", "query"])
async def test_unknown_type_is_an_error_that_lists_the_known(kind: str) -> None:
    app, _ = desk()
    known = {"command": ["PlaceOrder"], "query": ["OpenOrders"]}[kind]
    answer = await asked(app, lambda ctx: getattr(ctx, f"execute_{kind}")("Vanish", {}))
    assert not answer.success
    assert answer.error["code"] == "unknown_command"
    assert answer.error["known"] == known
    assert known[0] in answer.error["message"]


async def test_what_a_handler_raises_is_in_the_answer() -> None:
    app = Horae("desk")

    @app.command("fail")
    async def fail(command: PlaceOrder) -> None:
        raise ValueError(f"no {command.symbol}")

    @app.query("refuse")
    def refuse(_query: OpenOrders) -> None:
        raise ScheduleNotFound("no such schedule", field="id")

    async def both(ctx: Context) -> tuple[Answer, Answer]:
        failed = await ctx.execute_command("fail", {"symbol": "ACME", "quantity": 1})
        return failed, await ctx.execute_query("refuse")

    failed, refused = await asked(app, both)
    assert failed == Answer(False, error={"type": "ValueError", "message": "no ACME"})
    assert refused.error == {
        "type": "ScheduleNotFound",
        "code": "schedule_not_found",
        "message": "no such schedule",
        "field": "id",
    }


async def test_synchronous_function_that_answers_an_awaitable_is_awaited() -> None:
    app = Horae("desk")

    async def later() -> int:
        return 7

    @app.query("seven")
    def seven(_query: OpenOrders) -> Awaitable[int]:
        return later()

    assert (await asked(app, lambda ctx: ctx.execute_query("seven"))).data == 7


def test_decorated_function_stays_as_it_is() -> None:
    app = Horae("desk")

    async def place(command: PlaceOrder) -> None:
        """Nothing."""

    assert app.command(place) is place
    assert app.command("again")(place) is place
    assert {"command:PlaceOrder", "command:again"} < set(app.registry.names())


def test_two_handlers_of_one_command_are_refused() -> None:
    app, _ = desk()
    with pytest.raises(ValueError, match="'PlaceOrder' has a handler already"):

        @app.command
        async def other(command: PlaceOrder) -> None: ...

    with pytest.raises(ValueError, match="those of commands"):
        app.handler("command:PlaceOrder")(lambda: None)
    with pytest.raises(ValueError, match="is called by"):

        @app.command("place order")
        async def named(command: PlaceOrder) -> None: ...


async def no_model(command: dict[str, Any]) -> None: ...


async def nothing() -> None: ...


async def too_much(ctx: Context, command: PlaceOrder, more: int) -> None: ...


async def unresolved(command: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize("function", [no_model, nothing, too_much, unresolved, lambda command: 1])
def test_function_that_takes_no_model_is_refused(function: Any) -> None:
    with pytest.raises(TypeError):
        taker_of(function)


def test_command_of_a_type_that_is_not_taken_here_is_its_json() -> None:
    cqrs = Cqrs()
    assert cqrs.restore("PlaceOrder", {"symbol": "ACME"}) == {"symbol": "ACME"}
    assert cqrs.name_of(PlaceOrder) == "PlaceOrder"


async def test_context_of_a_process_of_its_own_executes_nothing() -> None:
    work = Work(
        execution_id="e",
        schedule_id="s",
        tenant="default",
        attempt=1,
        lease="1.1",
        due=datetime(2026, 1, 1, tzinfo=UTC),
        action={"type": "function", "name": "f", "isolation": "process"},
    )
    with pytest.raises(RuntimeError, match="isolation='process'"):
        await Context(work).execute_query("OpenOrders")
