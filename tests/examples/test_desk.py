"""The example application, on a clock that the test moves, with its real files and its real market."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from horae import testing

ROOT = Path(__file__).parents[2]


@pytest.fixture
def desk(example):
    return example("desk.app")


async def test_a_minute_at_the_desk(desk, tmp_path):
    async with testing.engine(desk.app, start=datetime(2026, 1, 5, 9, tzinfo=UTC)) as engine:
        await engine.advance("61 seconds")
        counts = {
            each["id"]: each["statistics"]["succeeded"]
            for each in (await engine.list_schedules())["schedules"]
        }
        settled = (await engine.get_schedule("settlement"))["statistics"]
    assert counts["quotes"] == 12
    assert counts["tape"] == 3
    assert counts["minute-report"] == 1
    assert counts["opening"] == 1
    assert counts["risk"] == 2
    assert settled["fired"] == 4
    with sqlite3.connect(tmp_path / "desk.db") as database:
        assert database.execute("SELECT count(*) FROM quotes").fetchone() == (12,)
    database.close()
    assert len((tmp_path / "tape.txt").read_text().splitlines()) == 3
    report = json.loads((tmp_path / "report-20260105T0901.json").read_text())
    assert report["count"] == 11
    assert report["low"] <= report["mean"] <= report["high"]


async def test_settlement_is_tried_again_while_the_market_is_down(example, desk, monkeypatch):
    market = example("desk.market")
    monkeypatch.setattr(market, "OUTAGES", 1.1)
    async with testing.engine(desk.app) as engine:
        run = await engine.trigger_schedule("settlement")
        await engine.advance("2 seconds")
        monkeypatch.setattr(market, "OUTAGES", 0.0)
        await engine.advance("3 seconds")
        execution = await engine.get_execution(run["execution_id"])
    assert execution["status"] == "succeeded"
    assert [each["outcome"] for each in execution["attempts"]] == ["failed", "succeeded"]
    assert "the market answered 503" in execution["attempts"][0]["error"]["message"]
    assert execution["logs"][0]["facts"]["status"] == 503


async def test_order_is_placed_and_one_with_a_wrong_payload_fails(desk, tmp_path):
    content = json.loads((ROOT / "examples/desk/lunch-order.json").read_text())
    async with testing.engine(desk.app) as engine:
        await engine.command("schedule.create", content)
        good = await engine.trigger_schedule("lunch-order")
        await engine.settle()
        bad = await engine.trigger_schedule(
            "lunch-order", payload={"symbol": "ACME", "quantity": 0}
        )
        await engine.advance("1 second")
        assert (await engine.get_execution(good["execution_id"]))["result"] == "2 ACME"
        execution = await engine.get_execution(bad["execution_id"])
    assert execution["status"] == "failed"
    assert len(execution["attempts"]) == 1, "what cannot fit is not tried again"
    assert execution["attempts"][0]["error"]["type"] == "PayloadInvalid"
    assert "greater than 0" in execution["attempts"][0]["error"]["message"]
    assert (tmp_path / "orders.txt").read_text().count("\n") == 1
