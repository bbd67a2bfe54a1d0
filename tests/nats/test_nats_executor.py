"""Pullers: the lease, the report, the acknowledgement, and what goes wrong between them."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import pytest
from nats_works import accepted, answering, work

from horae_application.messages import Reply, Request
from horae_application.registry import Registry
from horae_domain.errors import IllegalState, PayloadTooLarge, StaleLease, Unavailable
from horae_infrastructure.nats import streams
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import connect
from horae_infrastructure.nats.executor import WorkPuller
from horae_infrastructure.nats.work import NatsWorkBus
from horae_workers.executor import Executor


class Engine:
    """Gives leases and takes reports, as the engine does, and can be told to refuse."""

    def __init__(self) -> None:
        self.started: list[dict] = []
        self.reports: list[dict] = []
        self.keys: list[str | None] = []
        self.refuse: dict[str, list[Exception]] = {}
        self.reported = asyncio.Semaphore(0)
        self.asked = asyncio.Semaphore(0)
        self.answers: dict[str | None, Reply] = {}

    async def __call__(self, request: Request) -> Reply:
        if request.key not in self.answers:  # else it came again, for want of an answer in time
            self.answers[request.key] = self.answer(request)
        return self.answers[request.key]

    def answer(self, request: Request) -> Reply:
        body = json.loads(request.body)
        if request.name == "execution.start":
            self.started.append(body)
            self.asked.release()
        if errors := self.refuse.get(request.name):
            raise errors.pop(0)
        if request.name == "execution.start":
            deliveries = Counter(each["execution_id"] for each in self.started)
            return accepted("1", lease=f"{body['attempt']}.{deliveries[body['execution_id']]}")
        self.reports.append(body)
        self.keys.append(request.key)
        self.reported.release()
        return accepted("2")


@pytest.fixture
async def engine(nc):
    async with answering(nc, Engine(), "execution.start", "execution.report") as engine:
        yield engine


@asynccontextmanager
async def pulling(nc, tenant, run, *, handlers=("build",), limit=5.0, **options):
    puller = WorkPuller(nc, NatsCaller(nc, tenant), run, handlers=handlers, **options)
    await puller.start()
    yield puller
    await puller.stop(limit)


async def nothing_left(nc) -> None:
    """Until JetStream has processed the acknowledgement."""
    while (await nc.jetstream().stream_info(streams.WORK)).state.messages:
        await asyncio.sleep(0.01)


async def succeed(work):
    return {"outcome": "succeeded", "result": {"n": work.payload}, "logs": [{"m": "hi"}]}


async def test_work_is_taken_run_reported_and_gone(nc, tenant, engine, bus):
    seen = []

    async def run(work):
        seen.append(work)
        return await succeed(work)

    one = work(tenant, payload=7)
    async with pulling(nc, tenant, run, worker="w1"):
        bus.publish([one])
        await engine.reported.acquire()
        await nothing_left(nc)
    assert engine.started == [
        {"execution_id": one.execution_id, "attempt": 1, "lease": "1.1", "worker": "w1"}
    ]
    assert seen == [one]
    (report,) = engine.reports
    assert report.pop("started_at")
    assert report == {
        "execution_id": one.execution_id,
        "attempt": 1,
        "lease": "1.1",
        "worker": "w1",
        "outcome": "succeeded",
        "result": {"n": 7},
        "logs": [{"m": "hi"}],
    }


async def test_queue_is_pulled_by_its_name_and_nothing_else(nc, tenant, engine, bus):
    mine = work(tenant, action={"type": "queue", "queue": "mail.eu"})
    others = work(tenant, action={"type": "queue", "queue": "mail"})
    bus.publish([others, mine])
    async with pulling(nc, tenant, succeed, handlers=(), queues=["mail.eu"]):
        await engine.reported.acquire()
    assert [each["execution_id"] for each in engine.reports] == [mine.execution_id]


async def test_work_of_engines_elsewhere_shares_the_slots_of_the_executor(nc, tenant, engine, bus):
    running, most, began, go = 0, 0, asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def build(context):
        nonlocal running, most
        running += 1
        most = max(most, running)
        began.release()
        await go.acquire()
        running -= 1

    async def report(_work, _outcome):
        return accepted("3")

    registry = Registry()
    registry.add("build", build)
    executor = Executor(registry, report, concurrency=2)
    executor.bind(asyncio.get_running_loop())
    assert executor.hold(9) == 2
    executor.start([work(tenant), work(tenant)])
    for _ in range(2):
        await began.acquire()

    async def run(pulled):
        outcome = await executor.run(pulled)
        return {"outcome": outcome["outcome"]}

    async with pulling(nc, tenant, run, slots=2, room=executor) as puller:
        executor.emptied = puller.look
        bus.publish([work(tenant) for _ in range(4)])
        assert executor.hold(1) == 0, "all slots are taken"
        for _ in range(4):
            go.release()
            await began.acquire()
            assert executor.running <= 2
        draining = asyncio.create_task(executor.drain(60))
        for _ in range(2):
            go.release()
        for _ in range(4):
            await engine.reported.acquire()
        assert await draining
        await nothing_left(nc)
    assert most == 2
    assert executor.running == 0


async def test_many_works_of_many_handlers_share_the_slots(nc, tenant, engine, bus):
    running, most, full = 0, 0, asyncio.Event()

    async def run(work):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 4:
            full.set()
        await full.wait()
        await asyncio.sleep(0.001)
        running -= 1
        return await succeed(work)

    names = ["a", "b", "c"]
    works = [
        work(tenant, action={"type": "function", "name": names[n % 3]}, payload=n)
        for n in range(120)
    ]
    async with pulling(nc, tenant, run, handlers=names, slots=4):
        bus.publish(works)
        for _ in works:
            await engine.reported.acquire()
        await nothing_left(nc)
    assert sorted(each["result"]["n"] for each in engine.reports) == list(range(120))
    assert most == 4


async def test_exception_is_a_failed_attempt(nc, tenant, engine, bus):
    async def run(work):
        raise ValueError("no such day")

    async with pulling(nc, tenant, run):
        bus.publish([work(tenant)])
        await engine.reported.acquire()
        await nothing_left(nc)
    assert engine.reports[0]["outcome"] == "failed"
    assert engine.reports[0]["error"] == {"type": "ValueError", "message": "no such day"}


async def test_work_that_nobody_needs_any_more_is_dropped(nc, tenant, engine, bus):
    engine.refuse["execution.start"] = [IllegalState("it has ended")]
    async with pulling(nc, tenant, succeed):
        bus.publish([work(tenant)])
        await engine.asked.acquire()
        await nothing_left(nc)
    assert engine.reports == []


async def test_report_is_repeated_under_one_key_until_it_is_answered(nc, tenant, engine, bus):
    engine.refuse["execution.report"] = [Unavailable("moving"), Unavailable("moving")]
    async with pulling(nc, tenant, succeed):
        one = work(tenant)
        bus.publish([one])
        await engine.reported.acquire()
        await nothing_left(nc)
    assert engine.keys == [f"report:{one.execution_id}:1.1"]
    assert len(engine.started) == 1


async def test_work_is_not_acknowledged_by_who_has_lost_its_lease(nc, tenant, engine, bus):
    engine.refuse["execution.report"] = [StaleLease("given to another, which may have died")]
    async with pulling(nc, tenant, succeed, ack_wait=2):
        bus.publish([work(tenant)])
        await engine.reported.acquire()
        await nothing_left(nc)
    assert [each["lease"] for each in engine.reports] == ["1.2"]


async def test_work_that_is_not_due_by_another_engines_clock_is_offered_again(
    nc, tenant, engine, bus
):
    engine.refuse["execution.start"] = [IllegalState("not due yet", state="delayed")]
    async with pulling(nc, tenant, succeed):
        bus.publish([work(tenant)])
        await engine.reported.acquire()
        await nothing_left(nc)
    assert len(engine.started) == 2


async def test_outcome_that_cannot_be_reported_is_a_failure_that_says_so(nc, tenant, engine, bus):
    engine.refuse["execution.report"] = [PayloadTooLarge("the result is over 1 MiB")]
    async with pulling(nc, tenant, succeed):
        bus.publish([work(tenant)])
        await engine.reported.acquire()
        await nothing_left(nc)
    assert engine.reports[0]["outcome"] == "failed"
    assert engine.reports[0]["error"]["type"] == "PayloadTooLarge"


async def test_garbage_in_the_stream_is_removed(nc, tenant, engine, bus):
    js = nc.jetstream()
    await js.publish(f"horae.{tenant}.function.build.medium", b"garbage")
    async with pulling(nc, tenant, succeed):
        bus.publish([work(tenant, payload=1)])
        await engine.reported.acquire()
        await nothing_left(nc)
    assert len(engine.reports) == 1


async def test_long_attempt_is_not_delivered_again(nc, tenant, engine, bus):
    kept = asyncio.Semaphore(0)

    async def heard(msg):
        if msg.data == b"+WPI":
            kept.release()

    async def run(work):
        async with asyncio.timeout(100):
            for _ in range(4):  # each a third of what JetStream waits
                await kept.acquire()
        return await succeed(work)

    await nc.subscribe("$JS.ACK.HORAE_WORK.>", cb=heard)
    async with pulling(nc, tenant, run, ack_wait=4):
        bus.publish([work(tenant)])
        await engine.reported.acquire()
        await nothing_left(nc)
    assert len(engine.started) == 1


async def test_work_of_a_dead_executor_goes_to_another_with_a_lease_of_its_own(
    nats_url, nc, tenant, engine, bus
):
    started = asyncio.Event()

    async def hang(work):
        started.set()
        await asyncio.Event().wait()

    dying_nc = await connect(nats_url, name="dying")
    dying = WorkPuller(
        dying_nc, NatsCaller(dying_nc, tenant), hang, handlers=["build"], worker="d", ack_wait=3
    )
    await dying.start()
    one = work(tenant)
    bus.publish([one])
    await started.wait()
    await dying_nc.close()  # as if the process were gone: no nak, no ack
    async with pulling(nc, tenant, succeed, worker="heir", ack_wait=3):
        await engine.reported.acquire()
        await nothing_left(nc)
    await dying.stop(0)
    assert [each["worker"] for each in engine.started] == ["d", "heir"]
    assert engine.started[1]["lease"] == "1.1"
    assert engine.reports[0]["lease"] == "1.2"


async def test_stop_waits_for_what_runs_and_hands_back_what_does_not_end(nc, tenant, engine, bus):
    both, gate = asyncio.Semaphore(0), asyncio.Event()

    async def run(work):
        both.release()
        await (gate.wait() if work.payload == "ends" else asyncio.Event().wait())
        return await succeed(work)

    puller = WorkPuller(nc, NatsCaller(nc, tenant), run, handlers=["build"], slots=2)
    await puller.start()
    hanging = work(tenant, payload="hangs")
    bus.publish([work(tenant, payload="ends"), hanging])
    for _ in range(2):
        await both.acquire()
    assert puller.running == 2
    stopping = asyncio.create_task(puller.stop(3))
    await asyncio.sleep(0)
    gate.set()
    await stopping
    assert [each["result"]["n"] for each in engine.reports] == ["ends"]
    async with pulling(nc, tenant, succeed, worker="next"):
        await engine.reported.acquire()
        await engine.reported.acquire()
    assert engine.reports[-1]["execution_id"] == hanging.execution_id
    assert engine.reports[-1]["worker"] == "next"


async def test_pullers_survive_a_wiped_server(own_server, own_nc):
    import shutil

    bus = NatsWorkBus(own_nc, check_every=0.2)
    await bus.start()
    async with (
        answering(own_nc, Engine(), "execution.start", "execution.report") as engine,
        pulling(own_nc, "t", succeed),
    ):
        bus.publish([work("t", payload=1)])
        await engine.reported.acquire()
        own_server.kill()
        shutil.rmtree(own_server.data_dir / "jetstream")
        await asyncio.to_thread(own_server.start)
        bus.publish([work("t", payload=2)])
        while {each["result"]["n"] for each in engine.reports} != {1, 2}:
            await asyncio.wait_for(engine.reported.acquire(), 100)
    await bus.stop()


async def test_lease_of_the_answer_reaches_the_handler(nc, tenant, engine, bus):
    seen = []

    async def run(work):
        seen.append(work.lease)
        return await succeed(work)

    one = work(tenant)
    engine.started.append({"execution_id": one.execution_id})  # it was delivered before
    async with pulling(nc, tenant, run):
        bus.publish([msgspec.structs.replace(one)])
        await engine.reported.acquire()
    assert seen == ["1.2"]
