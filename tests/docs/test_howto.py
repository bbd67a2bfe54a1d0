"""The how-tos' code is run, on a clock that the test moves."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, blocks

from horae import testing
from horae.cli.files import read_schedules
from horae.manifest import carry_out, check, compare, read_manifest

HOWTO = ROOT / "docs" / "howto"
SUNDAY = datetime(2026, 1, 4, 12, tzinfo=UTC)


def names(page: str) -> dict[str, Any]:
    """What the Python of a page defines."""
    found: dict[str, Any] = {}
    for block in blocks(HOWTO / page, "python"):
        exec(compile(block, page, "exec"), found)
    return found


async def results(engine: testing.TestEngine, id_: str) -> list[Any]:
    """Of a schedule's executions that succeeded, the oldest first."""
    page = await engine.list_executions(schedule_id=id_, status="succeeded", limit=1000)
    return [each["result"] for each in reversed(page["executions"])]


async def test_celery_beat() -> None:
    page = names("from-celery-beat.md")
    async with testing.engine(page["app"], start=SUNDAY) as engine:
        await page["remind"](engine, "ann")
        await page["remind"](engine, "ann")
        await engine.advance("24 hours")
        assert await results(engine, "monday-report") == ["report of eu for 2026-01-05"]
        assert await results(engine, "reminder-ann") == ["mail to ann"]
        assert (await engine.get_schedule("poll-orders"))["statistics"]["succeeded"] == 288


async def test_apscheduler() -> None:
    page = names("from-apscheduler.md")
    async with testing.engine(page["app"], start=SUNDAY) as engine:
        await page["plan"](engine)
        await engine.advance("2 days")
        assert await results(engine, "clean-up") == ["cleaned for Mon", "cleaned for Tue"]
        assert (await engine.get_schedule("new-year"))["status"] == "active"


async def test_kubernetes_cronjob(tmp_path: Path) -> None:
    page = tmp_path / "billing.yaml"
    page.write_text(blocks(HOWTO / "from-kubernetes-cronjob.md", "yaml")[0])
    content = read_schedules(str(page))
    programs = [each["action"]["command"] for each in content.schedules]
    for each in content.schedules:  # the programs of that image are not here
        each["action"]["command"] = ["/bin/echo", *each["action"]["command"]]
    manifest = read_manifest(content.set or "", content.schedules)
    app = testing.Horae("none")
    async with testing.engine(app, start=SUNDAY, allow_processes=True) as engine:
        plan = await compare(engine, manifest)
        await check(engine, manifest, plan)
        assert not (await carry_out(engine, manifest, plan)).refused
        await engine.advance("24 hours")
        (result,) = await results(engine, "close-books")
        assert result["stdout"].split() == programs[0]
        assert (await engine.get_schedule("refresh-rates"))["status"] == "paused"


@pytest.mark.parametrize("page", sorted(each.name for each in HOWTO.glob("from-*.md")))
def test_every_guide_for_those_who_come_has_its_test(page: str) -> None:
    peer = page.removeprefix("from-").removesuffix(".md").replace("-", "_")
    assert f"test_{peer}" in globals()


async def test_sagas() -> None:
    page = names("sagas.md")
    async with testing.engine(page["app"], start=SUNDAY) as engine:
        await engine.publish_event("OrderPlaced", {"order": 1})
        await engine.publish_event("OrderPlaced", {"order": 2})
        await engine.settle()
        await engine.publish_event("PaymentReceived", {"order": 2})
        await engine.advance("10 minutes")
        assert set(await results(engine, "payment")) == {
            "order 2 is paid",
            "order 1 is released: confirmation_not_received",
        }
        await engine.trigger_schedule("confirmation-check")
        await engine.advance("50 minutes")
        assert await results(engine, "confirmation-check") == ["mined"]
        await engine.advance("1 minute")
        assert await results(engine, "quotes") == [
            "quotes of yesterday, because of ConnectionError"
        ]


async def test_steps_of_the_sagas() -> None:
    page = names("sagas.md")
    page["app"].schedules = {"order": page["app"].schedules["order"]}
    async with testing.engine(page["app"], start=SUNDAY) as engine:
        run = await engine.trigger_schedule("order")
        await engine.advance("1 hour")
        found = await engine.get_execution(run["execution_id"])
        assert (found["status"], found["steps"]["undone"]) == ("failed", ["charge", "reserve"])
        assert await page["replayed"](engine) == [
            "step:reserve", "step:charge", "step:ship", "undo:charge", "undo:reserve",
        ]  # fmt: skip


async def test_holidays(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = names("holidays.md")
    coming = (date(page["THIS_YEAR"] + ahead, 1, 1) for ahead in range(1, 10))
    new_year = next(each for each in coming if each.weekday() < 5)
    start = datetime(new_year.year - 1, 12, 2, tzinfo=UTC)
    async with testing.engine(page["app"], start=start) as engine:
        (due,) = (await engine.preview_schedule(id="invoices", count=1))["next"]
        assert datetime.fromisoformat(due).date() > new_year
        assert due.endswith("T00:00:00+01:00")
        await engine.advance("15 days")
        assert await results(engine, "invoices") == []
        await engine.advance("20 days")
        assert await results(engine, "invoices") == ["invoices of January"]
    file = tmp_path / "desk.json"
    file.write_text(capsys.readouterr().out)
    content = read_schedules(str(file))
    manifest = read_manifest(content.set or "", content.schedules)
    assert list(manifest.wanted) == ["invoices"]
    assert content.schedules[0]["calendars"] == [page["WORKDAYS"], page["CLOSED"]]


async def test_events() -> None:
    async with testing.engine(names("events.md")["app"]) as engine:
        for amount in (5, 5000):
            await engine.publish_event("trade.done", {"id": "t", "amount": amount})
        for ticket in (1, 2):
            await engine.publish_event("ticket.opened", {"ticket": ticket})
        await engine.publish_event("ticket.resolved", {"ticket": 1})
        for document, version in (("a", 1), ("b", 1), ("a", 2)):
            await engine.publish_event(
                "document.changed", {"document": document, "version": version}
            )
            await engine.advance("20 seconds")
        await engine.advance("1 day")
        assert await results(engine, "large-trades") == ["trade.done: 5000.0"]
        assert await results(engine, "escalate") == ["ticket 2 is open for an hour"]
        assert await results(engine, "report") == ["3 rows"]
        assert sorted(await results(engine, "index")) == ["a as of 2", "b as of 1"]
