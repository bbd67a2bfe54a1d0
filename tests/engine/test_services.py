"""Actions of type `command`, from the schedule to the service and back."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from pydantic import BaseModel

from horae import (
    Call,
    Context,
    Horae,
    Retry,
    ServiceError,
    command,
    every,
    manual,
    new_schedule,
    on_event,
    testing,
)
from horae.client import Client
from horae_domain.circles import MAX_DEPTH
from horae_domain.errors import InvalidField, UnknownHandler
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.settings import Settings

NO_RETRY = Retry(max_attempts=1)


class Order(BaseModel):
    book: str


async def ended(client: Client, id_: str) -> dict[str, Any]:
    """An execution that has come to its end."""
    while True:
        found = await client.list_executions(schedule_id=id_)
        for each in found["executions"]:
            if each["status"] in {"succeeded", "failed", "dead"}:
                return await client.get_execution(each["id"])
        await asyncio.sleep(0.02)


# --- without servers ------------------------------------------------------------------------------


def desk() -> Horae:
    app = Horae("desk")
    trading = app.service("trading")

    @trading.command("Rebalance")
    async def rebalance(call: Call, order: Order) -> dict[str, Any]:
        if order.book == "closed":
            raise ServiceError("the book is closed", status=409, retry_after="90 seconds")
        return {"book": order.book, "key": call.key, "due": call.due, "attempt": call.attempt}

    return app


async def test_command_of_a_service_in_the_same_process_needs_no_servers() -> None:
    async with testing.engine(desk()) as engine:
        action = command("trading", "Rebalance")
        await engine.create_schedule("r", every("1 hour"), action, payload={"book": "A"})
        await engine.advance("1 hour")
        run = await ended(engine, "r")
    assert run["result"] == {
        "book": "A",
        "key": run["id"],
        "due": "2026-01-01T01:00:00Z",
        "attempt": 1,
    }


async def test_delay_that_the_service_asks_for_is_the_one_before_the_next_attempt() -> None:
    async with testing.engine(desk()) as engine:
        action = command("trading", "Rebalance")
        await engine.create_schedule("r", manual(), action, payload={"book": "closed"})
        run = (await engine.trigger_schedule("r"))["execution_id"]
        await engine.settle()
        found = await engine.get_execution(run)
    assert found["status"] == "delayed"
    assert found["next_retry_at"] == "2026-01-01T00:01:30Z"
    assert found["attempts"][0]["error"]["message"] == "the book is closed"


async def test_command_that_can_never_be_done_is_not_retried() -> None:
    async with testing.engine(desk()) as engine:
        await engine.create_schedule("r", manual(), command("trading", "Rebalance"), payload=5)
        await engine.trigger_schedule("r")
        await engine.settle()
        run = await ended(engine, "r")
    assert run["status"] == "failed"
    assert len(run["attempts"]) == 1
    assert run["attempts"][0]["error"]["type"] == "PayloadInvalid"


async def test_handler_sends_commands_and_waits_if_it_wants() -> None:
    app = desk()

    @app.schedule("h", manual())
    async def handler(ctx: Context) -> list[Any]:
        data = {"book": ctx.payload}
        answers = [
            await ctx.send_command("trading", "Rebalance", data, reply=True) for _ in range(2)
        ]
        return [*answers, await ctx.send_command("trading", "Rebalance", data)]

    async with testing.engine(app) as engine:
        run = (await engine.trigger_schedule("h", payload="B"))["execution_id"]
        await engine.settle()
        first, second, kept = (await engine.get_execution(run))["result"]
    assert first["key"] != second["key"]
    assert first["key"].startswith(run)
    assert kept == {}


async def test_handler_that_runs_again_sends_under_the_same_key() -> None:
    app, keys = Horae("desk"), []

    @app.service("audit").command("Note")
    def note(call: Call) -> None:
        keys.append((call.key, call.attempt))

    @app.schedule("h", manual(), retry=Retry(2, delay="1s"))
    async def handler(ctx: Context) -> None:
        await ctx.send_command("audit", "Note", {"n": 1})
        raise LookupError

    async with testing.engine(app) as engine:
        await engine.trigger_schedule("h")
        await engine.advance("1 minute")
    (first, one), (second, two) = keys
    assert (first, one) == (second, two - 1)


async def test_nobody_serves_a_command_that_left_the_code() -> None:
    async with testing.engine(desk()) as engine:
        action = command("trading", "Settle")
        await engine.create_schedule("s", manual(), action, retry=NO_RETRY, allow_unknown=True)
        await engine.trigger_schedule("s")
        await engine.settle()
        run = await ended(engine, "s")
    assert run["attempts"][0]["error"]["type"] == "NoResponders"


async def test_service_that_takes_too_long_is_given_up() -> None:
    app = Horae("desk")

    @app.service("slow").command("Wait")
    async def wait() -> None:
        await asyncio.Event().wait()

    async with app.embedded() as client:
        action = command("slow", "Wait", timeout="50ms")
        await client.create_schedule("w", manual(), action, retry=NO_RETRY)
        await client.trigger_schedule("w")
        run = await asyncio.wait_for(ended(client, "w"), 100)
    assert run["attempts"][0]["error"]["type"] == "NoReply"


async def test_command_that_nobody_announces_is_refused_with_those_that_are() -> None:
    async with testing.engine(desk()) as engine:
        with pytest.raises(UnknownHandler) as refused:
            await engine.create_schedule("s", manual(), command("trading", "Settle"))
        many = await engine.create_schedules(
            {"id": name, "trigger": manual(), "action": command("trading", name)}
            for name in ("Settle", "Rebalance")
        )
    assert refused.value.field == "action.command"
    assert refused.value.details["known"] == ["trading.Rebalance"]
    assert [each["ok"] for each in many["results"]] == [False, True]


@pytest.mark.parametrize(
    ("service", "name", "field"),
    [("", "X", "service"), ("a..b", "X", "service"), ("a.*", "X", "service"),
     ("x" * 129, "X", "service"), ("a", "X.Y", "command"), ("a", ">", "command"),
     ("a", "", "command"), ("a\n", "X", "service")],
)  # fmt: skip
def test_names_that_are_no_subjects_are_refused(service: str, name: str, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        command(service, name)
    assert refused.value.field == field
    with pytest.raises(InvalidField):
        Horae("x").service(service).command(name)


def test_timeout_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidField) as refused:
        command("a", "X", timeout=0)
    assert refused.value.field == "timeout"


# --- over NATS ------------------------------------------------------------------------------------


@pytest.fixture
def told(nats_url: str, tmp_path: Path) -> Settings:
    return Settings.read(
        store_url="memory://",
        nats_url=nats_url,
        tenant=f"t{uuid.uuid4().hex[:12]}",
        data_dir=tmp_path,
        events=False,
    )


@pytest.fixture
async def nc(nats_url: str) -> AsyncIterator[Nats]:
    connection = await connect(nats_url, name="service")
    yield connection
    await close(connection)


async def test_service_in_plain_nats_does_the_command_of_a_schedule(
    told: Settings, nc: Nats
) -> None:
    affairs: list[tuple[str | None, str | None]] = []

    async def serve(msg: Msg) -> None:
        headers = msg.headers or {}
        names = "Horae-Correlation-Id", "Horae-Causation-Id"
        affairs.append((headers.get(names[0]), headers.get(names[1])))
        await msg.respond(json.dumps({"did": json.loads(msg.data)}).encode())

    await nc.subscribe(f"horae.{told.tenant}.commands.trading.Rebalance", cb=serve)
    await nc.flush()
    async with Horae("engine").serve(told) as runtime:
        client = runtime.client()
        body = {"trigger": manual(), "action": command("trading", "Rebalance"), "payload": 7}
        await client.create_schedule("r", **body, allow_unknown=True)
        await client.command("schedule.trigger", {"id": "r"}, correlation_id="affair-1")
        run = await asyncio.wait_for(ended(client, "r"), 100)
    assert run["result"] == {"did": 7}
    assert affairs == [("affair-1", run["id"])]


async def test_service_that_triggers_its_own_schedule_is_stopped_at_the_greatest_depth(
    told: Settings, nc: Nats
) -> None:
    answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    subject = f"horae.{told.tenant}.command.schedule.trigger"

    async def serve(msg: Msg) -> None:
        cause = {"Horae-Causation-Id": (msg.headers or {})["Horae-Causation-Id"]}
        answer = await nc.request(subject, b'{"id": "r"}', headers=cause, timeout=100)
        answers.put_nowait(json.loads(answer.data))
        await msg.respond(b"null")

    await nc.subscribe(f"horae.{told.tenant}.commands.trading.Rebalance", cb=serve)
    await nc.flush()
    async with Horae("engine").serve(told) as runtime:
        client = runtime.client()
        action = command("trading", "Rebalance", timeout=100)
        await client.create_schedule("r", manual(), action, allow_unknown=True, overlap="allow")
        await client.trigger_schedule("r")
        found = [await asyncio.wait_for(answers.get(), 100) for _ in range(MAX_DEPTH + 1)]
    assert {each["status"] for each in found[:-1]} <= {"pending", "running"}
    assert (found[-1]["status"], found[-1]["reason"]) == ("skipped", "chain_too_deep")


async def test_executor_elsewhere_sends_what_the_engine_does_not(told: Settings, nc: Nats) -> None:
    async def serve(msg: Msg) -> None:
        await msg.respond(b'"sent from elsewhere"')

    await nc.subscribe(f"horae.{told.tenant}.commands.trading.Rebalance", cb=serve)
    await nc.flush()
    engine = Horae("engine").serve(told, roles=("engine", "views"))
    executor = Horae("executor").serve(told, roles=("executor",))
    async with engine as runtime, executor:
        client = runtime.client()
        action = command("trading", "Rebalance")
        await client.create_schedule("r", manual(), action, allow_unknown=True)
        await client.trigger_schedule("r")
        run = await asyncio.wait_for(ended(client, "r"), 30)
    assert run["result"] == "sent from elsewhere"
    assert run["attempts"][0]["worker"].startswith("executor@")


async def test_executor_elsewhere_makes_schedules_from_templates(told: Settings) -> None:
    action = new_schedule(manual(), {"type": "queue", "queue": "q"}, id="of-${trigger.data.name}")
    engine = Horae("engine").serve(told, roles=("engine", "views"))
    executor = Horae("executor").serve(told, roles=("executor",))
    async with engine as runtime, executor:
        client = runtime.client()
        await client.create_schedule("r", on_event("user.signed-up"), action)
        await client.publish_event("user.signed-up", {"name": "ada"})
        run = await asyncio.wait_for(ended(client, "r"), 100)
        made = await client.get_schedule(run["result"]["id"])
    assert made["causation_id"] == run["id"]


async def test_command_for_later_is_stored_and_done_by_the_service(told: Settings) -> None:
    app = Horae("desk")
    done: asyncio.Queue[Call] = asyncio.Queue()

    @app.service("trading").command("Rebalance")
    async def rebalance(call: Call) -> None:
        done.put_nowait(call)

    app.declare("r", manual(), command("trading", "Rebalance", reply=False), payload={"a": 1})
    async with app.serve(told) as runtime:
        client = runtime.client()
        id_ = (await client.trigger_schedule("r"))["execution_id"]
        run = await asyncio.wait_for(ended(client, "r"), 100)
        call = await asyncio.wait_for(done.get(), 100)
    assert run["result"]["stream"] == "HORAE_COMMANDS"
    assert (call.key, call.payload, call.reply) == (id_, {"a": 1}, False)


async def test_schedule_may_name_a_command_once_its_service_is_there(told: Settings) -> None:
    app = Horae("desk")
    async with Horae("engine").serve(told, roles=("engine", "views")) as runtime:
        client = runtime.client()
        with pytest.raises(UnknownHandler, match=r"no service answers 'trading.Rebalance'"):
            await client.create_schedule("r", manual(), command("trading", "Rebalance"))
        async with app.serve(told, roles=("executor",)):
            app.service("trading").command("Rebalance")(lambda: "late")

            @app.handler("late")
            async def late() -> str:
                return "later"

            await accepted(client, "r", command("trading", "Rebalance"))
            await accepted(client, "h", "late")
            await client.trigger_schedule("r")
            await client.trigger_schedule("h")
            assert (await asyncio.wait_for(ended(client, "r"), 30))["result"] == "late"
            assert (await asyncio.wait_for(ended(client, "h"), 30))["result"] == "later"


async def accepted(client: Client, id_: str, action: Any) -> None:
    """A schedule whose action was announced after the start of the application."""
    async with asyncio.timeout(100):
        while True:
            try:
                await client.create_schedule(id_, manual(), action)
                break
            except UnknownHandler:
                await asyncio.sleep(0.02)


async def test_micro_service_of_anybody_is_found_by_discovery(told: Settings, nc: Nats) -> None:
    async def info(msg: Msg) -> None:
        subject = f"horae.{told.tenant}.commands.agents.research.Run"
        endpoints = [{"name": "run", "subject": subject}]
        await msg.respond(json.dumps({"name": "research", "endpoints": endpoints}).encode())

    await nc.subscribe("$SRV.INFO", cb=info)
    await nc.flush()
    async with Horae("engine").serve(told) as runtime:
        client = runtime.client()
        await accepted(client, "r", command("agents.research", "Run"))
        with pytest.raises(UnknownHandler):
            await client.create_schedule("w", manual(), command("agents.research", "Walk"))


async def test_service_may_announce_itself_without_being_a_micro_service(
    told: Settings, nc: Nats
) -> None:
    said = {"executor": "x", "tenant": told.tenant, "app": "x", "commands": ["trading.Rebalance"]}
    async with Horae("engine").serve(told) as runtime:
        client = runtime.client()
        with pytest.raises(UnknownHandler):
            await client.create_schedule("r", manual(), command("trading", "Rebalance"))
        await nc.publish("horae._announce", json.dumps(said).encode())
        await accepted(client, "r", command("trading", "Rebalance"))
