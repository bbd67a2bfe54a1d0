"""Roles in processes of their own, here in one: an engine, and an application that executes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from horae import Context, Horae, once
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
        store_url="memory://", nats_url=nats_url, tenant=tenant, data_dir=tmp_path, events=False
    )
    engine = Horae("engine").serve(told, roles=("engine", "views"))
    executor = app.serve(told, roles=("executor",))
    both = [engine, executor] if first == "engine" else [executor, engine]
    async with both[0], both[1]:
        assert await asyncio.wait_for(ran.get(), 100) == "job"
