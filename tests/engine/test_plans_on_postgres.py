"""Plans and backfills in PostgreSQL outlive the engine that took them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from horae import Context, Horae, every
from horae_domain.errors import HoraeError
from horae_infrastructure.settings import Settings

pytestmark = pytest.mark.postgres

HOUR = timedelta(hours=1)


async def until(question: Callable[[], Awaitable[dict[str, Any]]], total: int) -> dict[str, Any]:
    async with asyncio.timeout(100):
        while True:
            with suppress(HoraeError):
                if (answer := await question())["total"] == total:
                    return answer
            await asyncio.sleep(0.05)


async def test_another_owner_goes_on_with_plans_and_backfills(
    postgres_url: str, tmp_path: Path
) -> None:
    ran: list[Any] = []
    app = Horae("desk")

    @app.handler("work")
    def work(ctx: Context, payload: Any) -> None:
        ran.append(payload)

    told = Settings.read(store_url=postgres_url, data_dir=tmp_path)
    begun = datetime.now(UTC).replace(microsecond=0) - 10 * HOUR + timedelta(minutes=30)
    first, second, third = (begun + hours * HOUR for hours in (10, 11, 12))
    async with app.serve(told, roles=("engine", "views")) as runtime:
        client = runtime.client()
        await client.create_schedule(
            "report", every("1 hour"), "work", start_at=begun, overlap="allow", allow_unknown=True
        )
        await client.skip_occurrence("report", first, note="holiday")
        await client.set_occurrence_payload("report", second, "special")
        await client.move_occurrence("report", second, datetime.now(UTC) + timedelta(seconds=3))
        await client.hold_occurrence("report", third)
        started = await client.backfill_schedule("report", begun, begun + 4 * HOUR)
        assert started["count"] == 5
    async with app.serve(told, roles=("engine", "executor", "views")) as runtime:
        client = runtime.client()
        done = {"status": "succeeded"}
        backfilled = await until(lambda: client.list_executions(kind="backfill", **done), 5)
        assert {each["backfill_id"] for each in backfilled["executions"]} == {
            started["backfill_id"]
        }
        moved = await until(lambda: client.list_executions(kind="interval", **done), 1)
        assert moved["executions"][0]["due"] == second.isoformat().replace("+00:00", "Z")
        shown = await client.get_schedule("report")
        assert [(each["skipped"], each["held"]) for each in shown["planned"]] == [
            (True, False),
            (False, True),
        ]
        assert (await client.list_timers(kind="backfill"))["total"] == 0
    assert sorted(map(str, ran)) == [*["None"] * 5, "special"]
