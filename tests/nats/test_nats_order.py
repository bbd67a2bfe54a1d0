"""The order in which executors elsewhere get work: by priority and turn, not by when it came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.js.api import ConsumerConfig
from nats_works import announced

from horae import Context, Horae, manual
from horae.client import Client
from horae_application.engine import Engine
from horae_infrastructure.nats import streams
from horae_infrastructure.nats.announce import Announcement, Announcer
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import close, connect
from horae_infrastructure.settings import Settings

PATIENCE = 100.0


class Desk:
    """An application with one slot; its runs wait until they are let go."""

    def __init__(self) -> None:
        self.app = Horae("desk")
        self.began: list[str] = []
        self.first = asyncio.Event()
        self.go = asyncio.Event()
        self.app.handler("work")(self.work)

    async def work(self, ctx: Context) -> None:
        self.began.append(str(ctx.payload))
        self.first.set()
        await self.go.wait()

    async def order(self, count: int) -> list[str]:
        """Let them go; what has begun, once it is so much."""
        self.go.set()
        async with asyncio.timeout(PATIENCE):
            while len(self.began) < count:
                await asyncio.sleep(0.01)
        return self.began


@pytest.fixture
def told(nats_url, tmp_path, tenant):
    return Settings.read(
        store_url="memory://", nats_url=nats_url, tenant=tenant, data_dir=tmp_path,
        events=False, concurrency=1,
    )  # fmt: skip


@asynccontextmanager
async def served(told: Settings, desk: Desk, first: str) -> AsyncIterator[Client]:
    """An engine and an executor; its one slot is taken."""
    engine = Horae("engine").serve(told, roles=("engine", "views"))
    executor = desk.app.serve(told, roles=("executor",))
    both = [engine, executor] if first == "engine" else [executor, engine]
    async with both[0] as one, both[1] as other:
        runtime = one if first == "engine" else other
        client = runtime.client()
        for priority in ("low", "medium", "critical"):
            await client.create_schedule(
                priority, manual(), "work", overlap="allow", allow_unknown=True, priority=priority
            )
        await triggered(client, "medium", "first")
        async with asyncio.timeout(PATIENCE):
            await desk.first.wait()
        yield client
        desk.go.set()


async def triggered(client: Client, id_: str, *payloads: str) -> list[str]:
    """The executions of a schedule, triggered one after the other."""
    return [(await client.trigger_schedule(id_, payload=each))["execution_id"] for each in payloads]


@pytest.mark.parametrize("first", ["engine", "executor"])
async def test_critical_work_goes_before_what_waits_and_is_less_urgent(told, first):
    desk = Desk()
    async with served(told, desk, first) as client:
        await triggered(client, "low", *["low"] * 20)
        await triggered(client, "critical", *["critical"] * 2)
        order = await desk.order(23)
    assert order == ["first", "low", "critical", "critical", *["low"] * 19]


async def test_waiting_work_goes_by_the_priority_that_it_was_given_meanwhile(told):
    desk = Desk()
    async with served(told, desk, "engine") as client:
        *_, last = await triggered(client, "medium", *"012345")
        body = {"id": last, "priority": "critical"}
        assert (await client.command("execution.reprioritize", body))["ok"]
        order = await desk.order(7)
    assert order == ["first", "0", "5", "1", "2", "3", "4"]


class Worker:
    """A program that does the mail of several tenants, one after the other, as they come.

    It is in a connection of its own, and waits before it ends its first.
    """

    def __init__(self, nc, tenants: list[str]) -> None:
        self.name = "mailer"
        self.began: list[str] = []
        self.first = asyncio.Event()
        self.go = asyncio.Event()
        self._nc = nc
        self._tenants = tenants
        self._announcers = [
            Announcer(
                nc,
                Announcement(executor=self.name, tenant=each, app="mail", queues=["mail"], slots=1),
            )
            for each in tenants
        ]

    async def announce(self) -> None:
        for each in self._announcers:
            await each.start()

    async def pull(self) -> None:
        """Work until cancelled."""
        js = self._nc.jetstream()
        await streams.ensure(js, streams.work_stream(streams.StreamSettings()))
        subjects = [f"horae.{each}.work.mail.*" for each in self._tenants]
        name = f"mail-{self._tenants[0]}"
        config = ConsumerConfig(durable_name=name, filter_subjects=subjects, ack_wait=PATIENCE)
        await js.add_consumer(streams.WORK, config)
        subscription = await js.pull_subscribe_bind(name, stream=streams.WORK)
        while True:
            try:
                [msg] = await subscription.fetch(1, timeout=5)
            except TimeoutError:
                continue
            await self._do(json.loads(msg.data))
            await msg.ack()

    async def _do(self, work: dict) -> None:
        caller = NatsCaller(self._nc, work["tenant"])
        body = {"execution_id": work["execution_id"], "attempt": 1, "worker": self.name}
        lease = (await caller.command("execution.start", body))["lease"]
        self.began.append(work["tenant"])
        self.first.set()
        await self.go.wait()
        outcome = {"lease": lease, "outcome": "succeeded", "result": None}
        await caller.command("execution.report", body | outcome)

    async def stop(self) -> None:
        for each in self._announcers:
            await each.stop()


@pytest.mark.parametrize("first", ["announced", "triggered"])
async def test_tenants_that_share_a_worker_take_turns(nats_url, told, tenant, first):
    much, little = tenant, f"{tenant}b"
    nc = await connect(nats_url, name="mailer")
    worker = Worker(nc, [much, little])
    async with Horae("engine").serve(told, roles=("engine", "views")) as runtime:
        clients = {each: Client(NatsCaller(nc, each)) for each in (much, little)}
        for client in clients.values():
            action = {"type": "queue", "queue": "mail"}
            await client.create_schedule("job", manual(), action, overlap="allow")
        if first == "triggered":
            await clients[much].trigger_schedule("job")
        await worker.announce()
        await announced(runtime, worker.name)
        if first == "announced":
            await clients[much].trigger_schedule("job")
        pulling = asyncio.create_task(worker.pull())
        async with asyncio.timeout(PATIENCE):
            await worker.first.wait()
            await triggered(clients[much], "job", *"m" * 12)
            await triggered(clients[little], "job", *"l" * 4)
            worker.go.set()
            while len(worker.began) < 17:
                await asyncio.sleep(0.01)
        pulling.cancel()
        await worker.stop()
    await close(nc)
    ran = "".join("m" if each == much else "l" for each in worker.began)
    assert ran[2:10].count("l") == 4, ran
    assert "ll" not in ran, "one after the other"


async def test_an_announcement_lets_go_what_waits_for_an_executor(
    nats_url, told, tenant, monkeypatch
):
    monkeypatch.setattr(Engine, "_pause", lambda _: 60.0)
    nc = await connect(nats_url, name="workers")
    busy = Announcement(executor="busy", tenant=tenant, app="mail", queues=["f", "g"], slots=0)
    free = Announcement(executor="free", tenant=tenant, app="mail", queues=["g"], slots=10)
    async with Horae("engine").serve(told, roles=("engine", "views")) as runtime:
        client = Client(NatsCaller(nc, tenant))
        work = await nc.subscribe(f"horae.{tenant}.work.>")
        workers = [Announcer(nc, each, every=5) for each in (busy, free)]
        await workers[0].start()
        await announced(runtime, busy.executor)
        for queue in ("f", "g"):
            await client.create_schedule(queue, manual(), {"type": "queue", "queue": queue})
            await client.trigger_schedule(queue)
        assert json.loads((await work.next_msg(40)).data)["schedule_id"] == "f"
        await workers[1].start()
        assert json.loads((await work.next_msg(40)).data)["schedule_id"] == "g"
        for each in workers:
            await each.stop()
    await close(nc)
