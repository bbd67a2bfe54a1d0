"""Single occurrences by the client's calls, and what a handler is told of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from horae import Context, Horae, every, testing
from horae_domain.errors import IllegalState, InvalidField

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


@pytest.fixture
def app() -> Horae:
    made = Horae("desk")
    made.runs = []  # type: ignore[attr-defined]

    @made.schedule("job", every("1 minute"), payload={"day": 0})
    async def work(ctx: Context, payload: dict) -> str:
        made.runs.append((ctx.due, ctx.late_by, ctx.trigger.get("note"), payload))  # type: ignore[attr-defined]
        return "done"

    return made


async def test_a_run_is_told_its_nominal_time_its_lateness_and_why(app: Horae):
    async with testing.engine(app) as engine:
        await engine.move_occurrence("job", at(1), at(2.5), note="later")
        await engine.set_occurrence_payload("job", at(1), {"day": 1})
        await engine.skip_occurrence("job", "2026-01-01T00:02:00Z", note="holiday")
        shown = await engine.get_schedule("job")
        assert shown["next"][:2] == ["2026-01-01T00:02:30Z", "2026-01-01T00:03:00Z"]
        assert [each["note"] for each in shown["planned"]] == ["holiday", ""]
        await engine.advance("3 minutes")
        assert app.runs == [
            (at(1), timedelta(0), None, {"day": 1}),
            (at(3), timedelta(0), None, {"day": 0}),
        ]


async def test_a_held_occurrence_runs_when_it_is_approved(app: Horae):
    async with testing.engine(app) as engine:
        await engine.hold_occurrence("job", at(1), note="look first")
        await engine.advance("90 seconds")
        (run,) = (await engine.list_executions(status="held"))["executions"]
        answer = await engine.approve_occurrence("job", at(1))
        assert answer["execution_id"] == run["id"]
        await engine.settle()
        assert app.runs == [(at(1), timedelta(seconds=30), "look first", {"day": 0})]


async def test_what_cannot_be_planned_is_refused(app: Horae):
    async with testing.engine(app) as engine:
        with pytest.raises(InvalidField) as caught:
            await engine.hold_occurrence("job", at(1.5))
        assert caught.value.details["nearest"] == ["2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"]
        await engine.advance("1 minute")
        with pytest.raises(IllegalState):
            await engine.approve_occurrence("job", at(1), reject=True)
