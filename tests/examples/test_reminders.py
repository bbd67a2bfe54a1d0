"""The example of scheduled commands, on a clock that the test moves."""

from __future__ import annotations

from horae import testing


async def test_unpaid_orders_are_reminded_of_and_paid_ones_are_not(example):
    reminders = example("reminders.app")
    async with testing.engine(reminders.app) as engine:
        await engine.advance("50 seconds")
        listed = (await engine.list_schedules(type="command"))["schedules"]
        found = [await engine.get(each["id"]) for each in listed]
    assert reminders.reminded == ["o-1", "o-3"]
    assert [each.status for each in found] == [
        "succeeded", "cancelled", "succeeded", "cancelled", "scheduled",
    ]  # fmt: skip
    assert found[2].command == reminders.SendReminder(order_id="o-3")
    assert found[2].result == ["o-1", "o-3"]
