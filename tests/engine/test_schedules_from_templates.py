"""Schedules that executions make from templates, through the engine (T5)."""

from __future__ import annotations

from typing import Any

import pytest

from horae import Horae, Retry, cron, manual, new_schedule, on_event, once, testing
from horae_domain.errors import InvalidField, UnknownHandler


class Desk:
    """Gives each user who signs up a schedule of the user's own."""

    def __init__(self, **policies: Any) -> None:
        self.app = Horae("desk")
        self.mails: list[tuple[str, Any]] = []
        mails = new_schedule(
            cron("0 10 * * *", timezone="${trigger.data.timezone}"),
            "mail",
            id="mails-${trigger.data.name}",
            payload={"to": "${trigger.data.name}"},
            max_executions=2,
        )
        self.app.declare("welcome", on_event("user.signed-up"), mails, **policies)

        @self.app.handler("mail")
        async def mail(ctx, payload: dict[str, Any]) -> None:
            self.mails.append((ctx.schedule_id, payload["to"]))


async def only(engine: testing.TestEngine, schedule: str) -> dict[str, Any]:
    (one,) = (await engine.list_executions(schedule_id=schedule))["executions"]
    return await engine.get_execution(one["id"])


ADA = {"name": "ada", "timezone": "Europe/London"}


async def test_event_makes_a_schedule_that_knows_what_has_made_it():
    desk = Desk()
    async with testing.engine(desk.app) as engine:
        await engine.publish_event("user.signed-up", ADA)
        await engine.settle()
        made = await engine.get_schedule("mails-ada")
        run = await only(engine, "welcome")
        assert (run["status"], run["result"]["id"]) == ("succeeded", "mails-ada")
        assert made["causation_id"] == run["id"]
        assert made["trigger"]["timezone"] == "Europe/London"
        assert (await engine.get_schedule("welcome"))["causation_id"] is None
        await engine.advance("3 days")
    assert desk.mails == [("mails-ada", "ada")] * 2


async def test_one_id_is_made_once_even_after_its_schedule_has_ended():
    desk = Desk()
    async with testing.engine(desk.app) as engine:
        for again in range(3):
            await engine.publish_event("user.signed-up", ADA)
            await engine.advance("1 day" if again == 0 else "3 days")
        runs = (await engine.list_executions(schedule_id="welcome"))["executions"]
        assert [each["status"] for each in runs] == ["succeeded"] * 3
        assert (await engine.get_schedule("mails-ada"))["status"] == "completed"
    assert len(desk.mails) == 2


async def test_id_that_is_taken_by_other_content_fails_the_execution():
    async with testing.engine(Desk().app) as engine:
        await engine.create_schedule("mails-eve", manual(), "mail")
        for data in (ADA, ADA | {"timezone": "Asia/Tokyo"}, ADA | {"name": "eve"}):
            await engine.publish_event("user.signed-up", data)
            await engine.advance("1 second")
        runs = (await engine.list_executions(schedule_id="welcome"))["executions"]
        outcomes = [(each["status"], *each["attempts"]) for each in runs]
    assert [status for status, _ in outcomes] == ["failed", "failed", "succeeded"]
    assert [each["error"]["type"] for _, each in outcomes[:2]] == ["ScheduleExists"] * 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"name": "ada"}, "template.trigger.timezone: trigger.data.timezone leads nowhere"),
        (ADA | {"timezone": "Mars/Olympus"}, "trigger.timezone: "),
        (ADA | {"name": "a b"}, "id: "),
    ],
)
async def test_values_that_make_no_schedule_fail_the_execution_for_good(
    data: dict[str, str], reason: str
):
    async with testing.engine(Desk().app) as engine:
        await engine.publish_event("user.signed-up", data)
        await engine.settle()
        run = await only(engine, "welcome")
        (attempt,) = run["attempts"]
        assert run["status"] == "failed"
        assert attempt["error"]["type"] in {"InvalidField", "InvalidTrigger"}
        assert attempt["error"]["message"].startswith(reason)


async def test_schedule_without_an_id_is_one_for_each_execution():
    app = Horae("desk")
    done: list[str] = []

    @app.handler("remind")
    async def remind(ctx, order: dict[str, Any]) -> None:
        done.append(f"{order['id']} at {ctx.due:%H:%M}")

    action = new_schedule(once(at="${trigger.data.at}"), "remind", payload="${trigger.data}")
    app.declare("reminders", on_event("order.placed"), action)
    async with testing.engine(app) as engine:
        for id_, hour in ((1, 9), (2, 8)):
            at = engine.now.replace(hour=hour, minute=0, second=0, microsecond=0).isoformat()
            placed = {"id": id_, "at": at.replace(at[:10], "2027-01-04")}
            await engine.publish_event("order.placed", placed)
        await engine.advance("500 days")
    assert done == ["2 at 08:00", "1 at 09:00"]


async def test_handler_that_nobody_serves_is_named_when_the_template_is_written():
    async with testing.engine(Horae("desk")) as engine:
        action = new_schedule(manual(), "nobody", id="made")
        with pytest.raises(UnknownHandler) as caught:
            await engine.create_schedule("maker", manual(), action)
        assert caught.value.field == "action.template.action.name"
        action = new_schedule(manual(), "${payload.handler}", id="made")
        await engine.create_schedule("maker", manual(), action, retry=Retry(2, delay="1s"))
        run = await engine.trigger_schedule("maker", payload={"handler": "nobody"})
        await engine.advance("1 minute")
        found = await engine.get_execution(run["execution_id"])
        assert (found["status"], len(found["attempts"])) == ("dead", 2)


async def test_template_that_can_never_be_filled_is_refused():
    async with testing.engine(Horae("desk")) as engine:
        action = new_schedule(cron("61 * * * *"), {"type": "queue", "queue": "q"})
        with pytest.raises(InvalidField) as caught:
            await engine.create_schedule("maker", manual(), action)
        assert caught.value.field == "action.template"
