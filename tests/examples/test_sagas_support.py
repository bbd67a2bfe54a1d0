"""The support examples, on a clock that the test moves, with their real database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from horae import testing


async def test_ticket_is_escalated_after_two_days_unless_it_is_resolved(delayed):
    events, delay = ("ticket.opened", "ticket.resolved"), timedelta(hours=48)
    done = await delayed("support", "escalate-ticket", events, "ticket", delay, "escalations")
    assert done == ["ticket 2 is open for two days"]


async def test_failed_workflow_is_escalated_after_a_day_unless_it_is_repaired(saga, kept):
    support = saga("support", "workflow", "escalate-workflow")
    async with testing.engine(support.app) as engine:
        first = await engine.trigger_schedule("workflow", payload={"broken": True})
        await engine.advance("2 minutes")
        await engine.trigger_schedule("workflow", payload={"broken": True})
        await engine.advance("23 hours")
        assert kept("workflows") == []
        repaired = {"execution": first["execution_id"]}
        await engine.publish_event("workflow.repaired", repaired)
        await engine.advance("2 hours")
        runs = (await engine.list_executions(schedule_id="escalate-workflow"))["executions"]
    assert [each["reason"] for each in runs] == [None, "cancelled_by_event"]
    assert kept("workflows") == ["still broken: a step of the workflow has failed"]


async def test_notification_comes_an_hour_after_the_completion(saga, kept):
    support = saga("support", "workflow", "after-workflow")
    async with testing.engine(support.app) as engine:
        await engine.trigger_schedule("workflow", payload={"broken": False})
        await engine.advance("59 minutes")
        assert kept("notifications") == []
        await engine.advance("1 minute")
    assert kept("notifications") == ["the workflow is done"]


async def test_user_gets_seven_mails_at_ten_in_the_own_zone(saga, kept):
    support = saga("support", "welcome")
    start = datetime(2026, 3, 6, 12, tzinfo=UTC)  # two days before New York's clocks change
    ann = {"name": "ann", "timezone": "America/New_York"}
    async with testing.engine(support.app, start=start) as engine:
        await engine.publish_event("user.signed-up", ann)
        await engine.advance("2 days")
        await engine.publish_event("user.signed-up", ann)
        await engine.advance("8 days")
        welcomed = (await engine.get_schedule("welcome"))["statistics"]
        page = await engine.list_executions(schedule_id="onboarding-ann", limit=100)
        schedule = await engine.get_schedule("onboarding-ann")
    hours = [each["due"][:13] for each in reversed(page["executions"])]
    assert hours[:3] == ["2026-03-06T15", "2026-03-07T15", "2026-03-08T14"]
    assert schedule["status"] == "completed"
    assert (welcomed["succeeded"], welcomed["failed"]) == (2, 0)
    assert kept("mails") == [f"mail {number} to ann" for number in range(1, 8)]


async def test_offer_is_asked_about_after_a_day_unless_it_is_answered(delayed):
    events, delay = ("offer.sent", "offer.answered"), timedelta(hours=24)
    done = await delayed("support", "remind", events, "offer", delay, "reminders")
    assert done == ["offer 2 is not answered"]
