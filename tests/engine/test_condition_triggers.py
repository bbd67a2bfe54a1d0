"""Schedules that fire when a condition over a check's data holds."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from horae import Context, Horae, Result, on_condition, testing
from horae_application import checks
from horae_domain.codec import decode
from horae_domain.errors import InvalidExpression, UnknownHandler
from horae_domain.events import ScheduleChecked

WHEN = "volatility > 0.05 && trading_volume > 1000000"


class Market:
    """An application whose check answers what the test has put there, minute by minute."""

    def __init__(self, *answers: Any, result: Any = None, policies: Any = None, **trigger: Any):
        self.app = Horae("desk")
        self.asked: list[int] = []
        self.runs: list[tuple[int, Any]] = []
        self.left: list[timedelta] = []
        minutes = dict(enumerate(answers, 1))

        @self.app.check("volatility")
        async def volatility(ctx: Context) -> Any:
            self.asked.append(ctx.due.minute)
            answer = minutes.get(ctx.due.minute, answers[-1])
            if isinstance(answer, Exception):
                raise answer
            if answer is HANGS:
                await asyncio.sleep(3600)
            return answer

        told = {"when": WHEN} | trigger

        @self.app.schedule("respond", on_condition("volatility", **told), **(policies or {}))
        async def respond(ctx: Context, data: dict) -> Any:
            self.runs.append((ctx.due.minute, data))
            self.left.append(ctx.cooldown_left)
            assert ctx.trigger["kind"] == "condition"
            assert ctx.trigger["data"] == data
            return result


QUIET = {"volatility": 0.01, "trading_volume": 2_000_000}
WILD = {"volatility": 0.06, "trading_volume": 2_000_000}
HANGS = object()


def checked(engine):
    events = [decode(each.name, each.state) for each in engine.log()]
    return [(e.tick.minute, e.outcome) for e in events if isinstance(e, ScheduleChecked)]


async def test_a_level_fires_at_every_look_at_which_it_holds():
    market = Market(QUIET, WILD, WILD, QUIET, WILD)
    async with testing.engine(market.app) as engine:
        await engine.advance("5 minutes")
        assert market.asked == [1, 2, 3, 4, 5]
        assert market.runs == [(2, WILD), (3, WILD), (5, WILD)]
        assert checked(engine) == [(1, "not_held"), (2, "held"), (4, "not_held"), (5, "held")]


async def test_an_edge_fires_when_it_begins_to_hold():
    market = Market(WILD, WILD, QUIET, WILD, WILD, mode="edge")
    async with testing.engine(market.app) as engine:
        await engine.advance("10 minutes")
        assert [minute for minute, _ in market.runs] == [1, 4]


async def test_a_check_that_fails_in_between_is_no_edge():
    market = Market(WILD, ValueError("no feed"), WILD, QUIET, WILD, mode="edge")
    async with testing.engine(market.app) as engine:
        await engine.advance("6 minutes")
        assert [minute for minute, _ in market.runs] == [1, 5]


async def test_ticks_that_change_nothing_are_no_events():
    market = Market(QUIET)
    async with testing.engine(market.app) as engine:
        await engine.advance("1 minute")
        before = len(engine.log())
        await engine.advance("50 minutes")
        assert len(market.asked) == 51
        assert len(engine.log()) == before


async def test_a_check_that_raises_is_recorded_and_asked_again():
    market = Market(ValueError("no feed"), ValueError("no feed"), KeyError("x"), WILD)
    async with testing.engine(market.app) as engine:
        await engine.advance("3 minutes")
        shown = await engine.get_schedule("respond")
        assert shown["last_check"] == {
            "at": "2026-01-01T00:03:00Z", "outcome": "failed", "error": "'x'",
        }  # fmt: skip
        assert shown["status"] == "active"
        await engine.advance("1 minute")
        assert checked(engine) == [(1, "failed"), (3, "failed"), (4, "held")]
        assert [minute for minute, _ in market.runs] == [4]
        history = await engine.query("schedule.history", {"id": "respond", "status": "checked"})
        assert [entry["outcome"] for entry in history["history"]] == ["held", "failed", "failed"]


async def test_a_failing_check_is_logged_when_it_begins_changes_and_ends(
    caplog: pytest.LogCaptureFixture,
):
    no_feed = ValueError("no feed")
    market = Market(no_feed, no_feed, no_feed, KeyError("x"), KeyError("x"), QUIET, no_feed, QUIET)
    with caplog.at_level(logging.INFO, logger="horae.checker"):
        async with testing.engine(market.app) as engine:
            await engine.advance("5 minutes")
            assert (await engine.get_schedule("respond"))["last_check"]["error"] == "'x'"
            await engine.advance("4 minutes")
    told = [each.msg for each in caplog.records if each.name == "horae.checker"]
    assert [(each["event"], each.get("error")) for each in told] == [
        ("check failed", "no feed"),
        ("check failed", "'x'"),
        ("check answers again", None),
        ("check failed", "no feed"),
        ("check answers again", None),
    ]
    assert {(each["check"], each["schedule_id"]) for each in told} == {("volatility", "respond")}


@pytest.mark.parametrize(
    "answer", [{"volatility": 0.06}, {"volatility": "high", "trading_volume": 2_000_000}, [WILD], None, True]
)  # fmt: skip
async def test_data_that_the_expression_cannot_judge_is_an_error_and_not_false(answer):
    market = Market(answer)
    async with testing.engine(market.app) as engine:
        await engine.advance("2 minutes")
        assert checked(engine) == [(1, "failed")]
        assert market.runs == []


async def test_a_check_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(checks, "CHECK_TIMEOUT", 0.05)
    market = Market(HANGS, WILD)
    async with testing.engine(market.app) as engine:
        await engine.advance("1 minute")
        assert (await engine.get_schedule("respond"))["last_check"]["outcome"] == "failed"
        await engine.advance("1 minute")
        assert checked(engine) == [(1, "failed"), (2, "held")]
        assert [minute for minute, _ in market.runs] == [2]


async def test_a_cooldown_follows_a_firing():
    market = Market(WILD, cooldown="15 minutes")
    async with testing.engine(market.app) as engine:
        await engine.advance("5 minutes")
        shown = await engine.get_schedule("respond")
        assert shown["cooldown_until"] == "2026-01-01T00:16:00Z"
        assert shown["cooldown_left"] == 660.0
        await engine.advance("30 minutes")
        assert [minute for minute, _ in market.runs] == [1, 16, 31]
        assert market.left[0] == timedelta(minutes=15)
        statistics = (await engine.get_schedule("respond"))["statistics"]
        assert (statistics["fired"], statistics["skipped"]) == (3, 0)


async def test_a_cooldown_may_be_asked_for_by_the_result():
    market = Market(WILD, result=Result.done(cooldown="3 minutes"))
    async with testing.engine(market.app) as engine:
        await engine.advance("8 minutes")
        assert [minute for minute, _ in market.runs] == [1, 4, 7]
        assert (await engine.get_schedule("respond"))["cooldown_left"] == 120.0


async def test_an_edge_within_the_cooldown_is_recorded_as_skipped():
    market = Market(WILD, QUIET, WILD, QUIET, mode="edge", cooldown="1 hour")
    async with testing.engine(market.app) as engine:
        await engine.advance("5 minutes")
        assert [minute for minute, _ in market.runs] == [1]
        assert (await engine.get_schedule("respond"))["statistics"]["skipped"] == 1
        (run,) = (await engine.list_executions(status="skipped"))["executions"]
        assert run["reason"] == "cooldown"


async def test_a_check_may_say_itself_whether_it_holds():
    market = Market({"met": True, "price": 3}, when=None)
    async with testing.engine(market.app) as engine:
        await engine.advance("1 minute")
        assert market.runs == [(1, {"met": True, "price": 3})]


async def test_bounds_and_pauses_hold_for_ticks():
    market = Market(
        WILD,
        policies={
            "start_at": "2026-01-01T00:03:00Z",
            "end_at": "2026-01-01T00:20:00Z",
            "max_executions": 4,
        },
    )
    async with testing.engine(market.app) as engine:
        await engine.advance("4 minutes")
        assert market.asked == [3, 4]
        await engine.pause_schedule("respond")
        await engine.advance("3 minutes")
        assert market.asked == [3, 4]
        await engine.resume_schedule("respond")
        await engine.advance("10 minutes")
        assert [minute for minute, _ in market.runs] == [3, 4, 8, 9]
        assert (await engine.get_schedule("respond"))["status"] == "completed"


async def test_the_end_completes_it():
    market = Market(QUIET, policies={"end_at": "2026-01-01T00:02:30Z"})
    async with testing.engine(market.app) as engine:
        await engine.advance("5 minutes")
        assert market.asked == [1, 2]
        assert (await engine.get_schedule("respond"))["status"] == "completed"


async def test_an_outage_is_followed_by_one_look():
    market = Market(WILD)
    async with testing.engine(market.app) as engine:
        await engine.outage("30 minutes")
        assert market.asked == [30]


async def test_an_edit_of_the_trigger_begins_anew():
    market = Market(WILD, mode="edge")
    async with testing.engine(market.app) as engine:
        await engine.advance("2 minutes")
        await engine.patch_schedule("respond", trigger={"every": "30 seconds"})
        await engine.advance("1 minute")
        assert [minute for minute, _ in market.runs] == [1, 2]


async def test_what_cannot_be_asked_or_judged_is_refused():
    async with testing.engine(Market(WILD).app) as engine:
        with pytest.raises(UnknownHandler) as caught:
            await engine.create_schedule("x", on_condition("price", when="price > 1"), "respond")
        assert caught.value.field == "trigger.check"
        with pytest.raises(InvalidExpression) as refused:
            await engine.create_schedule("x", on_condition("volatility", when="1 +"), "respond")
        assert refused.value.field == "trigger.when"
        with pytest.raises(InvalidExpression):
            await engine.patch_schedule("respond", trigger={"when": "'yes'"})
        with pytest.raises(UnknownHandler):
            await engine.patch_schedule("respond", trigger={"check": "price"})
