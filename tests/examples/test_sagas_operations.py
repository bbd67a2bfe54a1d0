"""The examples of operations, on a clock that the test moves, with their real partner and database."""

from __future__ import annotations

from datetime import UTC, datetime

from horae import testing

THURSDAY = datetime(2026, 1, 1, tzinfo=UTC)


async def results(engine, id_):
    page = await engine.list_executions(schedule_id=id_, status="succeeded", limit=100)
    return [each["result"] for each in reversed(page["executions"])]


async def test_migration_waits_for_the_window_unless_it_is_open(saga, kept):
    operations = saga("operations", "defer-migration")
    async with testing.engine(operations.app, start=datetime(2026, 1, 1, 8, tzinfo=UTC)) as engine:
        await engine.publish_event("migration.wanted", {"table": "orders"})
        await engine.advance("16 hours")
        assert kept("migrations") == []
        await engine.advance("90 minutes")
        assert kept("migrations") == ["orders at 02:00"]
        await engine.publish_event("migration.wanted", {"table": "users"})
        await engine.settle()
    assert kept("migrations") == ["orders at 02:00", "users at 02:30"]


async def test_services_are_looked_at_every_five_minutes(saga, partner):
    operations = saga("operations", "health")
    async with testing.engine(operations.app, http_networks="127.0.0.0/8") as engine:
        await engine.advance("5 minutes")
        partner.state["down"] = {"search"}
        await engine.advance("5 minutes")
        page = await engine.list_executions(schedule_id="health")
        down = await engine.get_execution(page["executions"][0]["id"])
    assert [each["status"] for each in page["executions"]] == ["failed", "succeeded"]
    assert down["priority"] == "high"
    assert "search" in down["attempts"][0]["error"]["message"]


async def test_one_clean_up_follows_an_hour_after_the_last_change(saga, kept):
    operations = saga("operations", "clean-up")
    async with testing.engine(operations.app) as engine:
        await engine.publish_event("policy.changed", {"policy": "logs", "days": 30})
        await engine.advance("30 minutes")
        await engine.publish_event("policy.changed", {"policy": "logs", "days": 7})
        await engine.publish_event("policy.changed", {"policy": "mails", "days": 9})
        await engine.advance("59 minutes")
        assert kept("clean-ups") == []
        await engine.advance("1 minute")
    assert sorted(kept("clean-ups")) == ["logs: 7 days", "mails: 9 days"]


async def test_index_is_built_four_times_a_day(saga, kept):
    operations = saga("operations", "re-index")
    async with testing.engine(operations.app) as engine:
        await engine.advance("1 day")
    assert kept("indexes") == ["0 tables"] * 4


async def test_services_back_up_by_the_week_and_report_by_the_day(saga):
    operations = saga("operations", "weekly-backup", "daily-report")
    async with testing.engine(operations.app, start=THURSDAY) as engine:
        await engine.advance("12 days")
        assert await results(engine, "weekly-backup") == ["orders Sun", "orders Sun"]
        reports = await results(engine, "daily-report")
    assert (len(reports), reports[0]) == (12, "sales of 01.01.")


async def test_new_tenant_begins_with_its_schedules(saga):
    operations = saga("operations", "new-tenant")
    async with testing.engine(operations.app) as engine:
        for _ in range(2):
            await engine.publish_event("tenant.created", {"id": "acme"})
            await engine.settle()
        listed = await engine.in_tenant("acme").list_schedules()
        own = await engine.list_schedules()
        assert await results(engine, "new-tenant") == [["nightly-report", "poll-inbox"]] * 2
    assert {each["id"] for each in listed["schedules"]} == {"nightly-report", "poll-inbox"}
    assert [each["id"] for each in own["schedules"]] == ["new-tenant"]
