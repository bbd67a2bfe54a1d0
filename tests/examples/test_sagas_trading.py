"""The trading examples, on a clock that the test moves, with their real partner and database."""

from __future__ import annotations

from datetime import UTC, datetime

from horae import testing

FRIDAY = datetime(2026, 1, 2, 12, tzinfo=UTC)


async def test_transfer_is_looked_for_until_it_is_confirmed_or_ten_times(saga, kept, partner):
    trading = saga("trading", "confirm-transfer")
    async with testing.engine(trading.app) as engine:
        await engine.publish_event("transfer.sent", {"tx": "0xa"})
        await engine.publish_event("transfer.sent", {"tx": "0xb", "confirmations": 99})
        await engine.advance("2 minutes")
        assert kept("transfers") == ["0xa is confirmed 3 times"]
        await engine.advance("1 hour")
    assert kept("transfers")[1:] == ["0xb is not confirmed: PollLimit"]
    assert partner.looks["/tx/0xb"] == 11


async def test_volatility_is_answered_once_in_fifteen_minutes(saga, kept, partner):
    trading = saga("trading", "hedge")
    async with testing.engine(trading.app) as engine:
        await engine.advance("5 minutes")
        assert kept("hedges") == []
        partner.state["volatility"] = 0.08
        await engine.advance("10 minutes")
        assert kept("hedges") == ["hedged at 0.08"]
        partner.state["volatility"] = 0.06
        await engine.advance("10 minutes")
        assert kept("hedges") == ["hedged at 0.08", "hedged at 0.06"]


async def test_position_is_booked_when_it_is_confirmed_and_else_unwound(saga, kept):
    trading = saga("trading", "yield-position")
    async with testing.engine(trading.app) as engine:
        await engine.publish_event("position.wanted", {"pool": "a"})
        await engine.publish_event("position.wanted", {"pool": "b"})
        await engine.advance("9 minutes")
        await engine.publish_event("position.confirmed", {"ticket": "t-b", "rate": 0.04})
        await engine.advance("1 minute")
    assert kept("positions") == ["t-b yields 0.04", "a is unwound: confirmation_not_received"]


async def test_book_is_rebalanced_on_days_on_which_the_market_is_open(saga):
    trading = saga("trading", "daily-rebalance")
    async with testing.engine(trading.app, start=FRIDAY) as engine:
        await engine.advance("4 days")
        page = await engine.list_executions(schedule_id="daily-rebalance")
        shown = [
            (each["status"], each.get("result") or each["reason"]) for each in page["executions"]
        ]
    closed = ("skipped", "condition_not_met:market-open")
    assert shown == [("succeeded", "A on Mon"), closed, closed, ("succeeded", "A on Fri")]


async def test_exchange_that_is_down_disturbs_none_of_the_others(saga, kept, partner):
    names = ("binance", "coinbase", "kraken", "okx")
    trading = saga("trading", *(f"sync-{name}" for name in names))
    partner.state["down"] = {"kraken"}
    async with testing.engine(trading.app) as engine:
        await engine.advance("1 minute")
        partner.state["down"].clear()
        await engine.advance("30 seconds")
        counts = [(await engine.get_schedule(f"sync-{name}"))["statistics"] for name in names]
    # Down at 30 and 35 seconds; the run of the first minute is tried again when it is back.
    assert [each["succeeded"] for each in counts] == [3, 3, 2, 3]
    assert len(kept("prices")) == 11
