"""What the views tell of executions that events have triggered."""

from __future__ import annotations

from typing import Any

import pytest
from desk import Desk, at, definition

from horae_domain import external
from horae_domain.decider import command
from horae_domain.decision import Decision
from horae_domain.definition import parse_definition
from horae_domain.events import ExternalEventReceived
from horae_domain.schedule import Cause, CreateSchedule

TRIGGER = {"type": "event", "event": "trade.*", "filter": "data.amount > 1", "delay": "5m"}


def received(seconds: float = 10, **told: Any) -> ExternalEventReceived:
    facts = {"type": "trade.done", "source": "desk", "id": "e-1", "data": {"amount": 5}}
    return ExternalEventReceived(at=at(seconds), **facts | told)


async def triggered(desk: Desk, **told: Any) -> Decision:
    decision = Decision(None)
    content = {"trigger": TRIGGER, "overlap": "allow", **told}
    command(
        decision,
        CreateSchedule("default", parse_definition(definition("a", **content)), Cause(at(0))),
    )
    event = received()
    external.fire(decision, external.happening(event), Cause(at(10)))
    await desk.tell(decision.events[0], event, *decision.events[1:])
    return decision


async def run_of(desk: Desk, decision: Decision) -> dict[str, Any]:
    last: Any = decision.events[-1]
    return await desk.ask("execution.get", id=last.execution_id)


async def test_delayed_execution_tells_what_has_triggered_it(desk: Desk):
    decision = await triggered(desk)
    found = await run_of(desk, decision)
    assert found["status"] == "delayed"
    assert found["next_retry_at"] is None
    assert found["due"] == "2026-01-01T00:05:10Z"
    assert found["trigger"] == {
        "kind": "event",
        "nominal": "desk#e-1",
        "event": "trade.done",
        "source": "desk",
        "id": "e-1",
        "at": "2026-01-01T00:00:10Z",
        "delay": "5m",
        "data": {"amount": 5},
    }


async def test_list_leaves_the_data_of_events_out(desk: Desk):
    await triggered(desk)
    [found] = (await desk.ask("execution.list", schedule_id="a"))["executions"]
    assert found["trigger"]["id"] == "e-1"
    assert "data" not in found["trigger"]


async def test_delay_is_a_timer(desk: Desk):
    decision = await triggered(desk)
    [timer] = (await desk.ask("timer.list"))["timers"]
    run: Any = decision.events[-1]
    assert (timer["kind"], timer["due"]) == ("delay", "2026-01-01T00:05:10Z")
    assert timer["execution_id"] == run.execution_id


async def test_schedule_shows_its_trigger_and_is_listed_by_it(desk: Desk):
    await triggered(desk)
    found = await desk.ask("schedule.get", id="a")
    assert found["trigger"] == TRIGGER
    assert (found["next_due"], found["statistics"]["fired"]) == (None, 1)
    listed = await desk.ask("schedule.list", type="event")
    assert [each["id"] for each in listed["schedules"]] == ["a"]
    assert not (await desk.ask("schedule.list", type="outcome"))["schedules"]


async def test_filter_that_failed_says_why(desk: Desk):
    failing = TRIGGER | {"filter": "data.price > 1"}
    found = await run_of(desk, await triggered(desk, trigger=failing))
    assert (found["status"], found["reason"]) == ("skipped", "filter_error")
    assert "price" in found["note"]


async def test_execution_after_another_one_tells_of_it(desk: Desk):
    upstream: Any = (await triggered(desk)).events[-1]
    facts = {"schedule": "a", "execution_id": upstream.execution_id, "outcome": "skipped"}
    facts |= {"depth": 1, "at": "2026-01-01T00:00:11Z", "data": None}
    happened = external.Happening("chain", "k", at(11), facts)
    decision = Decision(None)
    content = {"trigger": {"type": "outcome", "schedule": "a", "delay": "1h"}, "overlap": "allow"}
    made = parse_definition(definition("b", **content))
    command(decision, CreateSchedule("default", made, Cause(at(11))))
    external.fire(decision, happened, Cause(at(11)))
    await desk.tell(*decision.events)
    found = await run_of(desk, decision)
    assert found["trigger"]["kind"] == "outcome"
    assert found["trigger"]["execution_id"] == upstream.execution_id
    assert (found["status"], found["trigger"]["delay"]) == ("delayed", "1h")


@pytest.mark.parametrize("delay", ["0s", "5m"])
async def test_shown_delay_is_what_was_waited(desk: Desk, delay: str):
    decision = await triggered(desk, trigger=TRIGGER | {"delay": delay})
    assert (await run_of(desk, decision))["trigger"]["delay"] == delay
