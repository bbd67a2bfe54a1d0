"""What the fault suite has found, in the small."""

from __future__ import annotations

import pytest

from horae import Context, Horae, testing
from horae.triggers import manual
from horae_domain import decider
from horae_domain.decider import Trigger
from horae_domain.decision import Decision
from horae_domain.definition import parse_definition
from horae_domain.errors import TooManyRequests
from horae_domain.instants import parse_instant
from horae_domain.schedule import Cause, CreateSchedule


async def test_old_cancel_that_comes_again_does_not_end_a_schedule_made_anew():
    app = Horae("found")

    @app.handler("work")
    async def work(ctx: Context) -> None:
        """Nothing to do."""

    async with testing.engine(app) as engine:
        await engine.create_schedule("job", manual(), "work")
        first = await engine.command("schedule.cancel", {"id": "job"}, key="once")
        await engine.create_schedule("job", manual(), "work")
        again = await engine.command("schedule.cancel", {"id": "job"}, key="once")
        assert again == first
        assert (await engine.get_schedule("job"))["status"] == "active"


@pytest.mark.parametrize("limit", [1, 2])
def test_work_that_two_owners_have_published_keeps_to_the_limit(limit):
    at = Cause(parse_instant("2026-01-01T00:00:00Z", field="at"))
    definition = parse_definition(
        {
            "id": "job",
            "trigger": {"type": "manual"},
            "action": {"type": "queue", "queue": "reports"},
            "overlap": "allow",
            "concurrency": limit,
        }
    )
    decision = Decision(None)
    decider.command(decision, CreateSchedule("default", definition, at))
    ids = [decider.trigger(decision, Trigger(f"k{n}", None, False, at)) for n in range(limit + 1)]
    for id_ in ids[:limit]:
        decider.take(decision, id_, "worker", "1.1", at)
    with pytest.raises(TooManyRequests):
        decider.take(decision, ids[limit], "worker", "1.1", at)
