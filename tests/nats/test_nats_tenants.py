"""Two tenants of one engine over NATS, each with the permissions that the reference advises (O6)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import nats.errors
import pytest

from horae import Horae
from horae.runtime import Runtime
from horae_application.lines import Broken
from horae_domain.errors import HoraeError, NotFound, NotPermitted, Unavailable
from horae_domain.identity import schedule_stream
from horae_infrastructure.embedded import Nats
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.settings import Settings

SECRET = "of-red-alone"
DUE = "2100-01-01T00:00:00Z"


def tenant(name: str) -> dict[str, Any]:
    """What a caller of a tenant may do, as the reference has it."""
    return {
        "user": name,
        "password": "secret",
        "permissions": {
            "publish": [f"horae.{name}.command.>", f"horae.{name}.query.>"],
            "subscribe": [f"_INBOX_{name}.>", f"horae.{name}.event.>"],
        },
    }


class NatsOfTenants(Nats):
    """With two tenants, and an engine that may do all."""

    def prepare(self) -> list[str]:
        command = super().prepare()
        path = self.data_dir / "nats.conf"
        settings = json.loads(path.read_text())
        settings["no_auth_user"] = "probe"
        probe = {"publish": ["$JS.API.INFO"], "subscribe": ["ready"]}
        settings["authorization"] = {
            "users": [
                {"user": "probe", "password": "secret", "permissions": probe},
                {"user": "engine", "password": "secret"},
                tenant("red"),
                tenant("blue"),
            ]
        }
        path.write_text(json.dumps(settings))
        return command

    def as_user(self, name: str) -> str:
        return f"nats://{name}:secret@127.0.0.1:{self.port}"


class Desk(NamedTuple):
    """An engine, and a connection of each tenant."""

    runtime: Runtime
    red: Any
    blue: Any


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    app = Horae("desk")
    app.handler("work")(lambda: SECRET)
    with NatsOfTenants() as server:
        told = Settings.read(
            store_url="memory://", nats_url=server.as_user("engine"), data_dir=tmp_path
        )
        async with app.serve(told, roles=("engine", "executor", "views")) as runtime:
            connections = [
                await connect(server.as_user(name), name=name, inbox_prefix=f"_INBOX_{name}")
                for name in ("red", "blue")
            ]
            yield Desk(runtime, *connections)
            for connection in connections:
                with suppress(nats.errors.Error):  # who was refused hears of it once more
                    await close(connection)


def definition(id_: str, **more: Any) -> dict[str, Any]:
    trigger = {"type": "once", "at": DUE}
    action = {"type": "function", "name": "work"}
    return {"id": id_, "trigger": trigger, "action": action, "payload": SECRET, **more}


async def test_tenants_have_the_same_names_and_neither_sees_the_other(desk: Desk) -> None:
    red, blue = NatsCaller(desk.red, "red"), NatsCaller(desk.blue, "blue")
    await red.command("schedule.create", definition("job", tags=[SECRET]))
    await red.command("schedule.create", definition("other"))
    run = await red.command("schedule.trigger", {"id": "job"})
    mine = await blue.command("schedule.create", definition("job", payload=1))
    at = {"min_position": mine["position"]}
    seen = await blue.query("schedule.list", at)
    assert [each["payload"] for each in seen["schedules"]] == [1]
    for name in ("execution.list", "dead_letter.list"):
        assert (await blue.query(name, at))["total"] == 0
    assert [each["schedule_id"] for each in (await blue.query("timer.list", at))["timers"]] == [
        "job"
    ]
    assert (await red.query("schedule.list", at))["total"] == 2
    refused = {
        "execution.cancel": {"id": run["execution_id"]},
        "execution.retry": {"id": run["execution_id"]},
        "schedule.cancel": {"id": "other"},
        "occurrence.skip": {"id": "other", "at": DUE},
        "timer.cancel": {"id": f"occurrence:other@{DUE}"},
        "timer.move": {"id": f"start_to_close:{run['execution_id']}@1", "to": DUE},
    }
    for name, body in refused.items():
        with pytest.raises(NotFound):
            await blue.command(name, body)
    for name, body in {
        "schedule.get": {"id": "other"},
        "schedule.history": {"id": "other"},
        "execution.get": {"id": run["execution_id"]},
        "execution.logs": {"id": run["execution_id"]},
    }.items():
        with pytest.raises(NotFound):
            await blue.query(name, body)
    await blue.command("schedule.cancel", {"id": "job"})
    await blue.command("schedule.bulk", {"all": True, "operation": "cancel"})
    shown = await red.query("schedule.list", {"status": "active"})
    assert {each["id"] for each in shown["schedules"]} == {"job", "other"}


async def denied(ask: Callable[..., Awaitable[Any]], name: str) -> HoraeError:
    """What the server says, asked with more time until its refusal can come within it."""
    seconds = 0.3
    while True:
        with pytest.raises((NotPermitted, Unavailable)) as refused:
            await ask(name, {"id": "job"}, timeout=seconds)
        if isinstance(refused.value, NotPermitted) or seconds > 20:
            return refused.value
        seconds *= 3


async def test_server_carries_no_request_in_another_tenant_s_name(desk: Desk) -> None:
    await NatsCaller(desk.red, "red").command("schedule.create", definition("job"))
    pretender = NatsCaller(desk.blue, "red")
    for ask, name in ((pretender.command, "schedule.cancel"), (pretender.query, "schedule.get")):
        assert name in (await denied(ask, name)).message
    shown = await NatsCaller(desk.red, "red").query("schedule.get", {"id": "job"})
    assert shown["status"] == "active"


async def test_events_of_a_tenant_reach_nobody_else(desk: Desk) -> None:
    heard: dict[str, asyncio.Queue[str]] = {}
    for name, connection in (("red", desk.red), ("blue", desk.blue)):
        heard[name] = queue = asyncio.Queue()

        async def hear(message: Any, queue: asyncio.Queue[str] = queue) -> None:
            queue.put_nowait(message.subject)

        await connection.subscribe("horae.*.event.>", cb=hear)
        await connection.subscribe(f"horae.{name}.event.>", cb=hear)
        await connection.flush()
    await NatsCaller(desk.red, "red").command("schedule.create", definition("job"))
    await NatsCaller(desk.blue, "blue").command("schedule.create", definition("job"))
    subjects = {name: await asyncio.wait_for(queue.get(), 60) for name, queue in heard.items()}
    assert {name: subject.split(".")[1] for name, subject in subjects.items()} == {
        "red": "red", "blue": "blue",
    }  # fmt: skip
    await desk.blue.flush()
    assert all(queue.empty() for queue in heard.values())


async def test_health_names_no_schedule_of_another_tenant(desk: Desk) -> None:
    assert desk.runtime.engine is not None
    stream = schedule_stream("red", SECRET)
    desk.runtime.engine.lines.quarantined[stream] = Broken(f"broken {SECRET}", "red", SECRET)
    red, blue = NatsCaller(desk.red, "red"), NatsCaller(desk.blue, "blue")
    assert SECRET in json.dumps(await red.query("health", {}))
    assert SECRET not in json.dumps(await blue.query("health", {}))
    with pytest.raises(HoraeError) as caught:
        await blue.command("schedule.pause", {"id": SECRET})
    assert caught.value.code == "schedule_not_found"
