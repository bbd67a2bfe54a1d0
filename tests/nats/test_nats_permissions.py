"""The permissions that the reference advises are enough, and keep others out."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

import nats.errors
import pytest
from nats_works import accepted, work

from horae_application.messages import Reply, Request
from horae_application.registry import Functions
from horae_application.services import Call
from horae_domain.errors import NotPermitted
from horae_infrastructure.embedded import Nats
from horae_infrastructure.nats.announce import Announced, Announcement, Announcer
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.nats.discovery import Found
from horae_infrastructure.nats.executor import WorkPuller
from horae_infrastructure.nats.service import NatsService
from horae_infrastructure.nats.services import NatsServices
from horae_infrastructure.nats.serving import NatsServing
from horae_infrastructure.nats.work import NatsWorkBus

REQUESTS = ["horae.desk.command.>", "horae.desk.query.>"]
PULLING = [
    "$JS.API.INFO",
    "$JS.API.CONSUMER.*.HORAE_WORK.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.HORAE_WORK.>",
    "$JS.API.CONSUMER.MSG.NEXT.HORAE_WORK.>",
    "$JS.ACK.HORAE_WORK.>",
    "horae._announce",
]


def user(name: str, publish: list[str], subscribe: list[str], **more) -> dict:
    permissions = {"publish": {"allow": publish}, "subscribe": {"allow": subscribe}, **more}
    return {"user": name, "password": "secret", "permissions": permissions}


class NatsWithUsers(Nats):
    """With the users of the reference; who does not say who he is may ask whether it answers."""

    def prepare(self):
        command = super().prepare()
        path = self.data_dir / "nats.conf"
        settings = json.loads(path.read_text())
        settings["no_auth_user"] = "probe"
        settings["authorization"] = {
            "users": [
                user("probe", ["$JS.API.INFO"], ["ready"]),
                user("caller", REQUESTS, ["_INBOX_caller.>"]),
                user("worker", REQUESTS + PULLING, ["_INBOX_worker.>", "horae._announce.ask"]),
                user(
                    "engine",
                    ["horae.>", "commands.>", "$JS.>", "$SRV.INFO"],
                    ["horae.>", "commands.>", "$SRV.>", "_INBOX_engine.>"],
                    allow_responses=True,
                ),
                user(
                    "service",
                    ["horae._announce", *(each.replace("WORK", "COMMANDS") for each in PULLING)],
                    [
                        "horae.desk.commands.trading.>",
                        "$SRV.>",
                        "horae._announce.ask",
                        "_INBOX_service.>",
                    ],
                    allow_responses=True,
                ),
            ]
        }
        path.write_text(json.dumps(settings))
        return command

    def as_user(self, name: str) -> str:
        return f"nats://{name}:secret@127.0.0.1:{self.port}"


@pytest.fixture
def server():
    with NatsWithUsers() as server:
        yield server


async def connected(server: NatsWithUsers, name: str):
    return await connect(server.as_user(name), name=name, inbox_prefix=f"_INBOX_{name}")


async def test_caller_worker_and_engine_do_their_work_with_what_is_advised(server):
    engine, caller, worker = [
        await connected(server, name) for name in ("engine", "caller", "worker")
    ]
    reports = asyncio.Queue()

    async def handler(request: Request) -> Reply:
        if request.name == "execution.report":
            reports.put_nowait(json.loads(request.body))
        return accepted("s.0.1")

    names = ["schedule.pause", "execution.start", "execution.report"]
    service = NatsService(
        engine,
        commands=handler,
        queries=handler,
        command_names=names,
        query_names=[],
        version="1.0.0",
    )
    bus, announced = NatsWorkBus(engine), Announced(engine)
    for part in (service, bus, announced):
        await part.start()

    await bus.ready()

    async def run(work):
        return {"outcome": "succeeded"}

    puller = WorkPuller(worker, NatsCaller(worker, "desk"), run, queues=["mail"])
    await puller.start()
    said = Announcement(executor="worker", tenant="desk", app="a", queues=["mail"], slots=10)
    telling = Announcer(worker, said)
    await telling.start()
    while said not in announced.executors():
        await asyncio.wait_for(announced.heard.wait(), 60)
        announced.heard.clear()
    bus.publish([work("desk", action={"type": "queue", "queue": "mail"})])
    assert (await NatsCaller(caller, "desk").command("schedule.pause", {}))["ok"] is True
    assert (await asyncio.wait_for(reports.get(), 60))["outcome"] == "succeeded"
    executor = Announcer(engine, Announcement(executor="x", tenant="desk", app="a"))
    await executor.start()
    for part in (executor, telling, puller, announced, bus, service):
        await part.stop()
    for nc in (caller, worker, engine):
        await close(nc)


async def test_service_answers_and_takes_what_is_stored_with_what_is_advised(server):
    engine, service = [await connected(server, name) for name in ("engine", "service")]
    done: asyncio.Queue[Call] = asyncio.Queue()
    commands = Functions()
    commands.add("trading.Rebalance", done.put_nowait)
    sender, serving = NatsServices(engine), NatsServing(service, "desk", commands)
    await sender.start()
    await sender.send(one := Call(tenant="desk", service="trading", command="Rebalance"))
    await serving.start()
    assert (await asyncio.wait_for(done.get(), 60)).reply is False
    found = Found(engine)
    while not await found.serves("horae.desk.commands.trading.Rebalance"):
        pass
    await sender.request(one)
    assert done.get_nowait().reply is True
    await serving.stop()
    await sender.stop()
    for nc in (service, engine):
        await close(nc)


async def test_caller_of_one_tenant_cannot_ask_for_another(server):
    engine, caller = [await connected(server, name) for name in ("engine", "caller")]
    asked = []

    async def handler(request: Request) -> Reply:
        asked.append(request.tenant)
        return accepted("s.0.1")

    service = NatsService(
        engine,
        commands=handler,
        queries=handler,
        command_names=["schedule.pause"],
        query_names=[],
        version="1.0.0",
    )
    await service.start()
    with pytest.raises(NotPermitted):
        await NatsCaller(caller, "other").command("schedule.pause", {}, timeout=60)
    assert asked == []
    await service.stop()
    await close(engine)
    with suppress(nats.errors.Error):
        await close(caller)
