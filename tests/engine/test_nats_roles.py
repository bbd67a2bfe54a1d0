"""Roles in processes of their own, here in one: an engine, and an application that executes."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from horae import Context, Horae, HoraeError, http, manual, once
from horae.client import Client
from horae_domain.errors import InvalidField
from horae_infrastructure.embedded import Nats
from horae_infrastructure.settings import Settings


@pytest.mark.parametrize("first", ["engine", "executor"])
async def test_executor_without_an_engine_declares_its_schedules_and_runs_them(
    nats_url: str, tmp_path: Path, first: str
) -> None:
    tenant = f"roles-{first}"
    ran: asyncio.Queue[str] = asyncio.Queue()
    app = Horae("desk")

    @app.schedule("job", once(after="0s"))
    async def job(context: Context) -> None:
        ran.put_nowait(context.schedule_id)

    told = Settings.read(
        store_url="memory://",
        nats_url=f"{nats_url},{nats_url}",  # as of a cluster
        tenant=tenant,
        data_dir=tmp_path,
        events=False,
    )
    engine = Horae("engine").serve(told, roles=("engine", "views"))
    executor = app.serve(told, roles=("executor",))
    both = [engine, executor] if first == "engine" else [executor, engine]
    async with both[0], both[1]:
        assert await asyncio.wait_for(ran.get(), 100) == "job"


async def test_executor_whose_schedule_an_engine_elsewhere_refuses_does_not_start(
    nats_url: str, tmp_path: Path
) -> None:
    app = Horae("newer")
    app.schedule("job", manual())(lambda context: None)
    app.schedules["job"]["of_a_later_release"] = True
    told = Settings.read(
        store_url="memory://",
        nats_url=nats_url,
        tenant="roles-refused",
        data_dir=tmp_path,
        events=False,
    )
    async with Horae("engine").serve(told, roles=("engine", "views")):
        with pytest.raises(InvalidField) as refused:
            async with app.serve(told, roles=("executor",)):
                await asyncio.wait_for(asyncio.Event().wait(), 100)
        assert refused.value.field == "of_a_later_release"


async def test_executor_without_an_engine_makes_http_calls_and_its_handlers_reach_the_engine(
    nats_url: str, tmp_path: Path
) -> None:
    app = Horae("desk")
    listening = await asyncio.start_server(_created, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    app.declare("call", manual(), http("POST", f"http://127.0.0.1:{port}/"))

    @app.schedule("job", manual())
    async def job(context: Context) -> str:
        return await context.trigger_schedule("call")

    told = Settings.read(
        store_url="memory://",
        nats_url=nats_url,
        tenant="roles-http",
        data_dir=tmp_path,
        events=False,
        http_networks="127.0.0.0/8",
    )
    engine = Horae("engine").serve(told, roles=("engine", "views"))
    async with listening, engine as runtime, app.serve(told, roles=("executor",)):
        client = runtime.client()
        run = await _triggered(client, "job")
        called = await _ended(client, (await _ended(client, run))["result"])
        assert called["correlation_id"] == run
        assert called["result"] == {"status": 201, "content_type": "", "body": None}


async def _created(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
    writer.close()


async def _triggered(client: Client, id_: str) -> str:
    """The execution of a schedule that an executor declares in its own time."""
    while True:
        with suppress(HoraeError):
            return str((await client.trigger_schedule(id_))["execution_id"])
        await asyncio.sleep(0.05)


async def _ended(client: Client, id_: str) -> dict[str, Any]:
    while True:
        with suppress(HoraeError):
            found: dict[str, Any] = await client.get_execution(id_)
            if found["status"] == "succeeded":
                return found
        await asyncio.sleep(0.05)


class SmallNats(Nats):
    """Carries messages of the size that a server has unless told."""

    def prepare(self) -> list[str]:
        command = super().prepare()
        path = self.data_dir / "nats.conf"
        settings = json.loads(path.read_text()) | {"max_payload": 1024**2}
        path.write_text(json.dumps(settings))
        return command


async def test_work_that_nats_cannot_carry_fails_instead_of_waiting_for_ever(
    tmp_path: Path,
) -> None:
    with SmallNats() as server:
        told = Settings.read(
            store_url="memory://", nats_url=server.url, data_dir=tmp_path, events=False
        )
        async with Horae("engine").serve(told, roles=("engine", "views")) as runtime:
            client = runtime.client()
            action = {"type": "queue", "queue": "mail"}
            payload = "x" * (1024**2 - 2)
            await client.create_schedule("s", manual(), action, payload=payload)
            id_ = (await client.trigger_schedule("s"))["execution_id"]
            found = await ended(client, id_)
    assert found["status"] == "failed"
    assert found["attempts"][0]["error"]["type"] == "PayloadTooLarge"


async def ended(client: Client, id_: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            with suppress(HoraeError):  # the views follow
                found = await client.get_execution(id_)
                if found["attempts"] and found["attempts"][0]["outcome"]:
                    return found
            await asyncio.sleep(0.02)


async def test_executor_elsewhere_is_asked_to_stop_and_its_result_counts(
    nats_url: str, tmp_path: Path
) -> None:
    told = Settings.read(
        store_url="memory://",
        nats_url=nats_url,
        tenant="roles-stop",
        data_dir=tmp_path,
        events=False,
    )
    app = Horae("desk")
    there = asyncio.Event()

    @app.schedule("job", manual(), timeout={"start_to_close": None})
    async def job(context: Context) -> str:
        context.heartbeat({"rows": 7})
        there.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            return "partial"
        return "never"

    engine = Horae("engine").serve(told, roles=("engine", "views"))
    async with engine as runtime, app.serve(told, roles=("executor",)):
        client = runtime.client()
        async with asyncio.timeout(100):
            run = await triggered(client)
            await there.wait()
            reply = await client.cancel_execution(run, graceful=True)
            assert (reply["status"], reply["stopping"]) == ("running", True)
            answer = await client.get_execution(run)
            while answer["status"] == "running":
                await asyncio.sleep(0.05)
                answer = await client.get_execution(run)
    assert (answer["status"], answer["result"]) == ("succeeded", "partial")
    assert answer["metadata"] == {"progress": {"rows": 7}}


async def triggered(client: Client) -> str:
    """The execution, once the schedule is declared and the views know it."""
    while True:
        with suppress(HoraeError):
            run: str = (await client.trigger_schedule("job", key="k"))["execution_id"]
            await client.get_execution(run)
            return run
        await asyncio.sleep(0.05)


async def test_views_elsewhere_project_the_sqlite_store_of_an_engine(
    nats_url: str, valkey_url: str, tmp_path: Path
) -> None:
    told = Settings.read(
        store_url="sqlite://", nats_url=nats_url, redis_url=valkey_url, tenant="roles-views",
        data_dir=tmp_path, events=False,
    )  # fmt: skip
    app = Horae("desk")

    @app.schedule("job", manual())
    async def job(context: Context) -> int:
        return len((await context.list_schedules())["schedules"])

    async with (
        app.serve(told, roles=("engine", "executor")) as runtime,
        Horae("views").serve(told, roles=("views",)),
    ):
        client = runtime.client()
        run = (await client.trigger_schedule("job"))["execution_id"]
        assert (await ended(client, run))["result"] == 1
