"""Executors elsewhere ask whether to stop, and hand on the heartbeats of their handlers."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from nats_works import accepted, answering, work

from horae_application.messages import Reply, Request
from horae_application.registry import Registry
from horae_domain.errors import StaleLease
from horae_infrastructure.nats import streams
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.executor import WorkPuller
from horae_workers.executor import Executor


class Engine:
    """Gives leases, hears heartbeats, takes reports."""

    def __init__(self) -> None:
        self.beats: asyncio.Queue[dict] = asyncio.Queue()
        self.reports: asyncio.Queue[dict] = asyncio.Queue()
        self.cancel = False
        self.fenced = False

    async def __call__(self, request: Request) -> Reply:
        body = json.loads(request.body)
        if request.name == "execution.start":
            return accepted("1", lease=body["lease"])
        if request.name == "execution.heartbeat":
            self.beats.put_nowait(body)
            if self.fenced:
                raise StaleLease("the lease is not the current one", field="lease")
            return accepted("1", cancel=self.cancel)
        self.reports.put_nowait(body)
        return accepted("2")


@pytest.fixture
async def engine(nc):
    names = ("execution.start", "execution.heartbeat", "execution.report")
    async with answering(nc, Engine(), *names) as engine:
        yield engine


@asynccontextmanager
async def pulling(nc, tenant, run, **options):
    puller = WorkPuller(
        nc, NatsCaller(nc, tenant), run, handlers=["build"], beat_every=0.05, **options
    )
    await puller.start()
    yield puller
    await puller.stop(5.0)


@pytest.mark.parametrize(("heartbeat", "ask"), [(None, False), (30.0, True)])
async def test_running_work_is_heard_of_without_its_handler(
    nc, tenant, engine, bus, heartbeat, ask
):
    """Where handlers have to be heard of themselves, the executor only asks."""
    go = asyncio.Event()

    async def run(work):
        await go.wait()
        return {"outcome": "succeeded"}

    one = work(tenant, heartbeat=heartbeat)
    async with pulling(nc, tenant, run):
        bus.publish([one])
        for _ in range(2):
            beat = await engine.beats.get()
            assert beat == {"execution_id": one.execution_id, "lease": one.lease, "ask": ask}
        go.set()
        assert (await engine.reports.get())["outcome"] == "succeeded"


async def test_work_that_should_stop_is_asked_to_and_its_outcome_counts(nc, tenant, engine, bus):
    registry = Registry()
    executor = Executor(registry, None)
    executor.bind(asyncio.get_running_loop())

    async def build(context):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "partial"

    registry.add("build", build)
    engine.cancel = True
    async with pulling(nc, tenant, executor.run, stop=executor.ask):
        bus.publish([work(tenant)])
        report = await engine.reports.get()
    assert (report["outcome"], report["result"]) == ("succeeded", "partial")


async def test_work_whose_lease_is_over_is_cancelled_and_left_to_its_new_holder(
    nc, tenant, engine, bus
):
    ended = asyncio.Event()

    async def run(work):
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    engine.fenced = True
    async with pulling(nc, tenant, run):
        bus.publish([work(tenant)])
        await ended.wait()
    assert engine.reports.empty()
    assert (await nc.jetstream().stream_info(streams.WORK)).state.messages == 1
