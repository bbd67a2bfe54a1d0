"""Conditions that schedules require, in Python."""

from __future__ import annotations

import asyncio
import threading

import pytest

from horae import Context, Horae, every, testing
from horae_application import checks
from horae_domain.errors import UnknownHandler


def desk(condition, **policies) -> Horae:
    app = Horae("desk")
    app.runs = []  # type: ignore[attr-defined]
    app.condition("open")(condition)

    @app.schedule("job", every("1 minute"), requires="open", **policies)
    async def work(ctx: Context) -> None:
        app.runs.append((ctx.due.minute, list(ctx.conditions_met)))  # type: ignore[attr-defined]

    return app


async def last(engine):
    (run, *_) = (await engine.list_executions(schedule_id="job"))["executions"]
    return await engine.get_execution(run["id"])


async def test_runs_whose_condition_is_met_are_told_so():
    async def even(ctx: Context) -> bool:
        return ctx.due.minute % 2 == 0

    app = desk(even)
    async with testing.engine(app) as engine:
        await engine.advance("4 minutes")
        assert app.runs == [(2, ["open"]), (4, ["open"])]
        shown = await engine.get_schedule("job")
        assert (shown["statistics"]["fired"], shown["statistics"]["skipped"]) == (2, 2)
        await engine.advance("1 minute")
        run = await last(engine)
        assert (run["status"], run["reason"]) == ("skipped", "condition_not_met:open")
        assert [step["event"] for step in run["timeline"]] == ["checking", "dropped"]


@pytest.mark.parametrize("wrong", ["yes", None, 1, {"met": "yes"}])
async def test_a_condition_that_answers_neither_true_nor_false_has_failed(wrong):
    app = desk(lambda _: wrong, catch_up={"window": "10s"})
    async with testing.engine(app) as engine:
        await engine.advance("80 seconds")
        run = await last(engine)
        assert (run["status"], run["reason"]) == ("skipped", "condition_failed:open")
        assert "true or false" in str(run["timeline"])


async def test_a_condition_that_raises_is_asked_again():
    tries = []

    def flaky(ctx: Context) -> bool:
        tries.append(ctx.due)
        if len(tries) < 3:
            raise ConnectionError("no feed")
        return True

    app = desk(flaky)
    async with testing.engine(app) as engine:
        await engine.advance("70 seconds")
        assert len(tries) == 3
        assert app.runs == [(1, ["open"])]


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_a_condition_that_hangs_is_given_up(monkeypatch, asynchronous):
    monkeypatch.setattr(checks, "CHECK_TIMEOUT", 0.05)
    end = threading.Event()

    async def hang(_) -> bool:
        await asyncio.sleep(3600)
        return True

    app = desk(hang if asynchronous else lambda _: end.wait(3600), catch_up={"window": "0s"})
    async with testing.engine(app) as engine:
        await engine.advance("65 seconds")
        run = await last(engine)
        assert (run["status"], run["reason"]) == ("skipped", "condition_failed:open")
        assert "CheckTimeout" not in run["reason"]
        assert app.runs == []
    end.set()


async def test_a_condition_that_nobody_serves_is_refused_unless_it_is_known():
    app = desk(lambda _: True)
    async with testing.engine(app) as engine:
        told = {"requires": ["shut", "open"]}
        with pytest.raises(UnknownHandler) as caught:
            await engine.create_schedule("other", every("1m"), "job", **told)
        assert (caught.value.field, caught.value.details["known"]) == ("requires", ["open"])
        with pytest.raises(UnknownHandler):
            await engine.patch_schedule("job", requires="shut")
        with pytest.raises(UnknownHandler):
            await engine.patch_schedule("job", requires=["open", "shut"])
        await engine.create_schedule("other", every("1m"), "job", allow_unknown=True, **told)
        await engine.advance("10 minutes")
        shown = await engine.get_schedule("other")
        assert (shown["statistics"]["fired"], shown["statistics"]["skipped"]) == (0, 5)


async def test_an_engine_that_is_driven_by_hand_waits_for_conditions():
    app = desk(lambda _: True)
    async with app.embedded(drive="manual") as engine:
        await engine.trigger_schedule("job")
        assert await engine.process_due() == 1
        assert len(app.runs) == 1
