"""The shop's examples, on a clock that the test moves, with their real payment provider."""

from __future__ import annotations

from datetime import timedelta

from horae import testing


async def test_order_is_cancelled_after_half_an_hour_unless_it_is_paid(delayed):
    events, delay = ("order.placed", "order.paid"), timedelta(minutes=30)
    done = await delayed("shop", "cancel-order", events, "order", delay, "cancelled")
    assert done == ["order 2"]


async def test_payment_is_tried_three_times_and_then_given_up(saga, kept, partner):
    shop = saga("shop", "charge")
    async with testing.engine(shop.app, http_networks="127.0.0.0/8") as engine:
        await engine.publish_event("payment.due", {"card": "good", "amount": 5})
        await engine.publish_event("payment.due", {"card": "empty", "amount": 7})
        await engine.advance("19 minutes")
        assert partner.looks["/charges"] == 3
        assert kept("unpaid") == []
        await engine.advance("1 minute")
        page = await engine.list_executions(schedule_id="charge")
        found = [await engine.get_execution(each["id"]) for each in page["executions"]]
    assert kept("unpaid") == ["7 by empty: Http503"]
    (paid,) = [each for each in found if not each.get("fallback_executed")]
    assert paid["result"]["body"] == {"paid": 5}
