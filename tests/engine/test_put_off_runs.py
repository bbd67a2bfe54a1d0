"""Runs that their schedule puts off: a preview tells the instants at which they come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from horae import Context, Horae, every, testing

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
        await engine.advance("3 hours 40 minutes")
        found = await engine.list_executions(schedule_id="job")
        assert runs == [(at(n), at(n), timedelta(0)) for n in (1, 2, 3)]
        told = sorted((each["due"], each["moved_to"]) for each in found["executions"])
        assert [moved for _, moved in told] == previewed["next"]
        assert [datetime.fromisoformat(due) for due, _ in told] == [at(1), at(2), at(3)]


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)
