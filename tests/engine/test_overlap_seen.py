"""Overlap, buffers and priorities as an application sees them: handlers, answers, views, NATS."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from horae import Context, Horae, every, manual, testing
from horae.app import connect
from horae.client import Client
from horae_domain.errors import IllegalState
from horae_infrastructure.settings import Settings

WAIT = {"wait_ms": 60_000}


class Gates:
    """Handlers that run until the test lets them end."""

    def __init__(self, app: Horae) -> None:
        self.begun: list[Any] = []
        self.open = asyncio.Event()
        app.handler("work")(self.work)

    async def work(self, context: Context) -> Any:
        self.begun.append(context.payload)
        if not self.open.is_set():
            await asyncio.sleep(3600)
        return context.payload


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that hang are not waited for when the clock moves."""
    monkeypatch.setattr(testing, "PATIENCE", 0.1)


async def statuses(engine: Client, id_: str = "job") -> list[str]:
    rows = (await engine.list_executions(schedule_id=id_))["executions"]
    return [row["status"] for row in sorted(rows, key=lambda row: row["requested_at"])]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("policy", "seen", "counts"),
    [
        ("skip", ["running", "skipped", "skipped"], (1, 0, 2)),
        ("buffer_one", ["running", "buffered", "skipped"], (1, 1, 1)),
        ("buffer_all", ["running", "buffered", "buffered"], (1, 2, 0)),
        ("terminate_other", ["cancelled", "cancelled", "running"], (3, 0, 0)),
        ("allow", ["running", "running", "running"], (3, 0, 0)),
    ],
)
async def test_policy_decides_about_occurrences_behind_a_run(
    policy: str, seen: list[str], counts: tuple[int, int, int]
) -> None:
    app = Horae("test")
    Gates(app)
    async with testing.engine(app) as engine:
        unbounded = {"start_to_close": None}
        await engine.create_schedule(
            "job", every("1 minute"), "work", overlap=policy, timeout=unbounded
        )
        await engine.advance("3 minutes")
        assert await statuses(engine) == seen
        answer = await engine.get_schedule("job")
        said = answer["statistics"]
        assert (said["fired"], answer["buffered"], said["skipped"]) == counts
        if "buffered" in seen:
            only = await engine.list_executions(schedule_id="job", status="buffered")
            assert only["total"] == seen.count("buffered")
            shown = await engine.get_execution(only["executions"][0]["id"])
            assert shown["blocked_by"] is not None
            assert shown["timeline"][0]["event"] == "buffered"


@pytest.mark.usefixtures("quick")
async def test_handler_that_is_asked_to_stop_makes_way_for_the_newer_run() -> None:
    app = Horae("test")
    Gates(app)
    async with testing.engine(app) as engine, asyncio.timeout(100):
        await engine.create_schedule("job", manual(), "work", overlap="cancel_other")
        first = await engine.trigger_schedule("job")
        await engine.advance("1 second")
        second = await engine.trigger_schedule("job")
        assert second["status"] == "buffered"
        while await statuses(engine) != ["cancelled", "running"]:
            await engine.settle()
        shown = await engine.get_execution(first["execution_id"])
        newer = await engine.get_execution(second["execution_id"])
        assert shown["reason"] == "cancelled_by_overlap"
        assert shown["finished_at"] == newer["due"], "without waiting for the grace to pass"


async def test_buffered_triggers_run_by_priority_and_then_by_age() -> None:
    app = Horae("test")
    ran: list[int] = []

    @app.handler("work")
    async def work(context: Context) -> None:
        if context.payload == 0 and context.attempt == 1:
            raise RuntimeError("later")
        ran.append(context.payload)

    async with testing.engine(app) as engine:
        retry = {"delay": "10 minutes", "jitter": 0}
        await engine.create_schedule("job", manual(), "work", overlap="buffer_all", retry=retry)
        runs = [await engine.trigger_schedule("job", payload=n) for n in range(4)]
        assert [run["status"] for run in runs] == ["pending", "buffered", "buffered", "buffered"]
        said = await engine.reprioritize_execution(runs[3]["execution_id"], "high")
        assert (said["status"], said["priority"]) == ("buffered", "high")
        shown = await engine.get_execution(runs[3]["execution_id"])
        assert shown["priority"] == "high"
        assert shown["timeline"][-1]["detail"] == "high"
        await engine.advance("10 minutes")
        assert ran == [0, 3, 1, 2]
        with pytest.raises(IllegalState):
            await engine.reprioritize_execution(runs[0]["execution_id"], "low")


@pytest.mark.usefixtures("quick")
async def test_each_customer_has_one_run_at_a_time() -> None:
    app = Horae("test")
    gates = Gates(app)
    async with testing.engine(app) as engine:
        await engine.create_schedule(
            "job", manual(), "work", overlap="buffer_all", concurrency_key="customer.id"
        )
        for number, name in enumerate("aabbc"):
            payload = {"customer": {"id": name}, "n": number}
            await engine.trigger_schedule("job", payload=payload)
        assert (await engine.get_schedule("job"))["concurrency_key"] == "customer.id"
        await engine.settle()
        assert sorted(each["n"] for each in gates.begun) == [0, 2, 4]


async def test_buffer_outlives_the_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/horae.db"
    first = Horae("test")
    Gates(first)
    async with first.embedded(url, stop_limit=1) as engine:
        await engine.create_schedule(
            "job", manual(), "work", overlap="buffer_all", retry={"delay": "0s", "jitter": 0}
        )
        for number in range(3):
            last = await engine.trigger_schedule("job", payload=number)
        shown = await engine.get_execution(
            last["execution_id"], min_position=last["position"], **WAIT
        )
        assert shown["status"] == "buffered"
    second = Horae("test")
    gates = Gates(second)
    gates.open.set()
    async with second.embedded(url) as engine, asyncio.timeout(100):
        while (await engine.get_execution(last["execution_id"]))["status"] != "succeeded":
            await asyncio.sleep(0.05)
        assert gates.begun == [0, 1, 2]


async def test_waiting_run_is_reprioritised_over_nats(nats_url: str, tmp_path: Path) -> None:
    told = Settings.read(
        store_url="memory://",
        nats_url=nats_url,
        tenant="overlap",
        data_dir=tmp_path,
        events=False,
        stop_limit=1,
    )
    app = Horae("test")
    Gates(app)
    async with app.serve(told), connect(nats_url, tenant="overlap") as client:
        await client.create_schedule("job", manual(), "work", overlap="buffer_all")
        await client.trigger_schedule("job")
        run = await client.trigger_schedule("job", payload={"n": 1})
        assert run["status"] == "buffered"
        said = await client.reprioritize_execution(run["execution_id"], "critical")
        shown = await client.get_execution(
            run["execution_id"], min_position=said["position"], **WAIT
        )
        assert (shown["status"], shown["priority"]) == ("buffered", "critical")
        assert shown["payload"] == {"n": 1}
