"""Runs that their schedule puts off: a preview tells the instants at which they come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from horae import Context, Horae, every, testing
from horae_domain.errors import InvalidField

START = datetime(2026, 1, 1, tzinfo=UTC)


async def test_a_run_comes_when_the_preview_says_and_is_told_its_nominal_time():
    app = Horae("desk")
    runs: list[tuple[datetime, datetime, timedelta]] = []

    @app.schedule("job", every("1 hour"), jitter="10 minutes", spread=timedelta(minutes=20))
    async def work(ctx: Context) -> None:
        runs.append((ctx.due + ctx.late_by, ctx.due, ctx.late_by))

    async with testing.engine(app) as engine:
        previewed = await engine.preview_schedule(id="job", count=3)
        shown = await engine.get_schedule("job")
        assert shown["next"][:3] == previewed["next"]
        coming = [datetime.fromisoformat(each) for each in previewed["next"]]
        assert coming[0] > START + timedelta(hours=1)
        assert shown["next_due"] == previewed["next"][0]
        between = coming[2] - timedelta(seconds=1)
        later = await engine.preview_schedule(id="job", count=1, **{"from": between.isoformat()})
        assert later["next"] == previewed["next"][2:]
        (first,) = later["occurrences"]
        assert first["due"] == "2026-01-01T03:00:00Z"
        assert first["moved"]
        (timer,) = (await engine.list_timers())["timers"]
        assert timer["due"] == previewed["next"][0]
        await engine.skip_occurrence("job", at(1))
        (timer,) = (await engine.list_timers())["timers"]
        assert timer["skipped"]
        await engine.move_timer(timer["id"], coming[0])
        await engine.approve_occurrence("job", at(1))
        assert (await engine.preview_schedule(id="job", count=3))["next"] == previewed["next"]
        await engine.advance("3 hours 40 minutes")
        found = await engine.list_executions(schedule_id="job")
        assert runs == [(at(n), at(n), timedelta(0)) for n in (1, 2, 3)]
        told = sorted((each["due"], each["moved_to"]) for each in found["executions"])
        assert [moved for _, moved in told] == previewed["next"]
        assert [datetime.fromisoformat(due) for due, _ in told] == [at(1), at(2), at(3)]


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


async def test_a_preview_tells_what_calendars_leave_out_and_the_history_says_the_same():
    app = Horae("desk")
    hours = {"type": "business_hours", "timezone": "Europe/Berlin"}
    fest = {"type": "holidays", "dates": ["01-01"], "name": "new-year", "policy": "move"}

    @app.schedule("quotes", every("4 hours"), calendars=[hours], catch_up={"mode": "all"})
    async def quotes(ctx: Context) -> None:
        del ctx

    @app.schedule("greet", every("7 hours"), calendars=[fest], end_at=at(20))
    async def greet(ctx: Context) -> str:
        return f"{ctx.due:%H:%M} {ctx.late_by} {ctx.trigger['note']}"

    async with testing.engine(app) as engine:
        previewed = await engine.preview_schedule(id="quotes", count=3)
        assert previewed["next"] == [f"2026-01-01T{each}:00:00Z" for each in ("08", "12")] + [
            "2026-01-02T08:00:00Z"
        ]
        assert previewed["excluded"] == [
            told("2026-01-01T04:00:00Z", "2026-01-01T04:00:00Z", 1),
            told("2026-01-01T16:00:00Z", "2026-01-02T04:00:00Z", 4),
        ]
        bare = await engine.preview_schedule(
            trigger={"type": "interval", "every": "4 hours"}, calendars=[hours], count=3
        )
        assert bare["next"] == previewed["next"]
        assert bare["excluded"] == previewed["excluded"]
        greeting = await engine.preview_schedule(id="greet", count=1)
        (moved,) = greeting["occurrences"]
        assert (moved["at"], moved["due"]) == ("2026-01-02T00:00:00Z", "2026-01-01T14:00:00Z")
        assert moved["note"] == "new-year"
        assert greeting["excluded"] == [
            told("2026-01-01T07:00:00Z", "2026-01-01T07:00:00Z", 1, "superseded")
        ]
        await engine.advance("32 hours")
        history = (await engine.schedule_history("quotes", status="excluded"))["history"]
        ranges = [{name: each[name] for name in previewed["excluded"][0]} for each in history]
        assert ranges[::-1] == previewed["excluded"]
        shown = await engine.get_schedule("quotes")
        assert shown["statistics"]["succeeded"] == 3
        assert shown["statistics"]["skipped"] == 0
        (run,) = (await engine.list_executions(schedule_id="greet"))["executions"]
        assert run["result"] == "14:00 0:00:00 new-year"
        assert run["moved_to"] == "2026-01-02T00:00:00Z"
        with pytest.raises(InvalidField) as refused:
            await engine.create_schedule(
                "never", every("1 hour"), "greet", calendars=[{"type": "weekdays", "days": ["X"]}]
            )
        assert refused.value.field == "calendars[0].days[0]"


def told(first: str, last: str, count: int, reason: str = "business_hours") -> dict[str, Any]:
    return {"first": first, "last": last, "count": count, "reason": reason}
