"""What health says of an engine's own troubles."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from horae import Context, Horae, every, manual, once, testing
from horae_application.lines import Broken
from horae_domain import firing
from horae_domain.identity import schedule_stream
from horae_infrastructure.settings import Settings


@pytest.fixture(autouse=True)
def _busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes may be slow without being trouble."""
    monkeypatch.setattr("horae_projections.health.SLOW_MS", float("inf"))
    monkeypatch.setattr("horae_projections.health.PATIENCE", 60.0)


async def test_quarantined_schedule_is_failed_and_named_by_health(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Horae("test")

    @app.schedule("good", every("1 minute"))
    @app.schedule("bad", every("1 minute"))
    async def work(context: Context) -> None:
        del context

    real = firing.advance

    def settle(decision: Any, cause: Any) -> None:
        if decision.line.schedule.id == "bad" and decision.line.schedule.status == "active":
            raise LookupError("the zone is gone")
        real(decision, cause)

    async with testing.engine(app) as engine:
        assert (await engine.health())["status"] == "healthy"
        monkeypatch.setattr(firing, "advance", settle)
        await engine.advance("2 minutes")
        row = await engine.get_schedule("bad")
        assert row["status"] == "failed"
        assert "the zone is gone" in row["note"]
        assert (await engine.get_schedule("good"))["statistics"]["succeeded"] == 2
        health = await engine.health()
        assert health["status"] == "degraded"
        (named,) = health["components"]["schedules"]["quarantined"]
        assert named["id"] == "bad"
        assert "the zone is gone" in named["reason"]


async def test_health_names_quarantined_schedules_to_their_own_tenant_alone() -> None:
    async with testing.engine() as engine:
        assert engine._runtime.engine is not None
        quarantined = engine._runtime.engine.lines.quarantined
        quarantined[schedule_stream("red", "secret")] = Broken("unreadable secret", "red", "secret")
        red, blue = (engine._runtime.client(name) for name in ("red", "blue"))
        (named,) = (await red.health())["components"]["schedules"]["quarantined"]
        assert named["id"] == "secret"
        assert (await blue.health())["status"] == "healthy"
        assert "secret" not in json.dumps(await blue.health())
        operator = await engine.health()
        assert "secret" not in json.dumps(operator)
        (issue,) = operator["issues"]
        assert issue["message"] == "1 schedules of other tenants are quarantined"


async def test_health_names_a_bounded_number_of_what_cannot_be_read() -> None:
    async with testing.engine() as engine:
        assert engine._runtime.engine is not None
        for number in range(30):
            stream = schedule_stream("default", f"s{number}")
            engine._runtime.engine.lines.quarantined[stream] = Broken("unknown name")
        health = await engine.health()
        assert health["status"] == "degraded"
        named = health["components"]["schedules"]["quarantined"]
        assert len(named) == 20
        assert {"id", "stream", "reason"} == set(named[0])


async def test_threads_that_hang_in_all_slots_are_degraded_until_they_end() -> None:
    app = Horae("test")
    go, began = threading.Event(), threading.Event()

    @app.schedule("hangs", once(after="0s"), timeout={"start_to_close": "200ms"})
    def hangs(context: Context) -> None:
        del context
        began.set()
        go.wait(200)

    async with app.embedded(concurrency=1) as client:
        assert await asyncio.to_thread(began.wait, 60)
        async with asyncio.timeout(60):
            while (await client.health())["status"] == "healthy":
                await asyncio.sleep(0.02)
        workers = (await client.health())["components"]["workers"]
        assert workers["orphans"] == 1
        assert workers["free"] == 0
        go.set()
        async with asyncio.timeout(60):
            while (await client.health())["status"] != "healthy":
                await asyncio.sleep(0.02)


async def test_clock_that_is_not_believed_is_degraded() -> None:
    async with testing.engine() as engine:
        assert engine._runtime.engine is not None
        engine._runtime.engine.wall.held = True
        health = await engine.health()
        assert health["status"] == "degraded"
        assert "clock" in health["issues"][0]["message"]


async def test_executor_over_its_bound_takes_no_work_and_says_so_in_its_health(
    tmp_path: Path,
) -> None:
    app, ran = Horae("test"), asyncio.Event()
    app.handler("work")(ran.set)
    async with app.embedded(data_dir=tmp_path, max_memory="16MiB") as client:
        await client.create_schedule("s", manual(), "work")
        await client.trigger_schedule("s")
        health = await client.health()
        (issue,) = health["issues"]
        assert issue["component"] == "workers"
        assert issue["message"].startswith("no new work is taken: memory: ")
        assert health["components"]["workers"]["free"] == 0
        assert health["status"] == "degraded"
    assert not ran.is_set()


async def test_executor_elsewhere_that_is_over_its_bound_is_named(
    nats_url: str, tmp_path: Path
) -> None:
    told = Settings.read(
        store_url="memory://", nats_url=nats_url, tenant="bounds", data_dir=tmp_path, events=False
    )
    bounded = told.model_copy(update={"max_memory": 16 * 1024**2})
    app, ran = Horae("full"), asyncio.Event()
    app.handler("work")(ran.set)
    async with (
        Horae("engine").serve(told, roles=("engine", "views")) as runtime,
        app.serve(bounded, roles=("executor",)),
    ):
        client = runtime.client()
        while not (issues := (await client.health())["issues"]):
            await asyncio.sleep(0.02)
        assert issues[0]["message"].startswith("full@")
        assert "takes no new work: memory: " in issues[0]["message"]
        await client.create_schedule("s", manual(), "work")
        await client.trigger_schedule("s")
        while (await client.list_executions(schedule_id="s"))["total"] == 0:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)  # what would pull it has had its time
    assert not ran.is_set()
