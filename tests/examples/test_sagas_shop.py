"""The shop's examples, on a clock that the test moves, with their real payment provider."""

from __future__ import annotations

import sys

from horae import testing


def kept(kind):
    return sys.modules["examples.sagas.base"].kept(kind)


async def test_order_is_cancelled_after_half_an_hour_unless_it_is_paid(saga):
    shop = saga("shop", "cancel-order")
    async with testing.engine(shop.app) as engine:
        for order in (1, 2):
            await engine.publish_event("order.placed", {"order": order})
        await engine.advance("29 minutes")
        await engine.publish_event("order.paid", {"order": 1})
        assert kept("cancelled") == []
        await engine.advance("1 minute")
    assert kept("cancelled") == ["order 2"]


async def test_payment_is_tried_three_times_and_then_given_up(saga):
    shop = saga("shop", "charge")
    partner = sys.modules["examples.sagas.partner"]
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
