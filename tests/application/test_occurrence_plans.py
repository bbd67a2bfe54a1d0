"""Plans for single occurrences through the engine: restarts, take-overs, and races at the instant."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from stepping import START, Clock, Stepped

from horae_domain.events import ExecutionRequested, ExecutionSkipped, OccurrenceMoved
from horae_domain.instants import format_instant


def due(minutes: float) -> str:
    return format_instant(START + timedelta(minutes=minutes))


def plan(desk: Stepped, what: str, minutes: float, **told: Any) -> Any:
    return desk.ask(f"occurrence.{what}", {"id": "job", "at": due(minutes), **told}, actor="ann")


def fired(desk: Stepped) -> list[tuple[str, str]]:
    """Nominal instants with the instants at which they were decided."""
    return [
        (format_instant(each.due), format_instant(each.at))
        for each in desk.events(ExecutionRequested)
    ]


def test_a_moved_occurrence_fires_where_it_was_moved_and_is_told_so(desk: Stepped) -> None:
    desk.create(overlap="allow")
    reply = plan(desk, "move", 1, to=due(2.5), note="later")
    assert reply.ok
    assert (reply.body["at"], reply.body["next_due"]) == (due(1), due(2))
    assert desk.events(OccurrenceMoved)[0].actor == "ann"
    desk.advance(180)
    assert fired(desk) == [(due(2), due(2)), (due(1), due(2.5)), (due(3), due(3))]
    moved = desk.executor.started[1]
    assert format_instant(moved.due) == due(1)
    assert moved.moved_to == START + timedelta(minutes=2.5)
    assert moved.trigger == {
        "kind": "interval",
        "every": "1m",
        "nominal": due(1),
        "moved_to": due(2.5),
        "note": "later",
        "planned_by": "ann",
    }


def test_an_occurrence_moved_ahead_wakes_the_engine_and_fires_once(desk: Stepped) -> None:
    desk.create(overlap="allow", every="1 hour")
    reply = plan(desk, "move", 60, to=due(0.5))
    assert reply.body["next_due"] == due(0.5)
    desk.advance(7200)
    assert fired(desk) == [(due(60), due(0.5)), (due(120), due(120))]


def test_plans_outlast_a_restart(desk: Stepped, clock: Clock, restart: Any) -> None:
    desk.create(overlap="allow")
    plan(desk, "skip", 1, note="no")
    plan(desk, "move", 2, to=due(90))
    plan(desk, "set_payload", 3, payload={"day": 3})
    plan(desk, "hold", 4)
    again = restart()
    clock.move(30)
    again.advance(300)
    assert [format_instant(each.due) for each in again.events(ExecutionSkipped)] == [due(1)]
    assert [work.payload for work in again.executor.started][:2] == [{"day": 3}, None]
    once_more = restart(name="engine-third")
    clock.move(10)
    once_more.settle()
    reply = once_more.ask("occurrence.approve", {"id": "job", "at": due(4)})
    assert reply.ok, reply
    assert once_more.executor.started[-1].execution_id == reply.body["execution_id"]
    once_more.advance(90 * 60)
    assert (due(2), due(90)) in fired(once_more)


def test_what_came_due_by_a_move_while_nobody_was_there_is_caught_up(
    desk: Stepped, clock: Clock, restart: Any
) -> None:
    desk.create(every="1 hour")
    plan(desk, "move", 60, to=due(10))
    clock.move(12 * 60)
    again = restart()
    again.settle()
    assert fired(again) == [(due(60), due(12))]


@pytest.mark.parametrize("what", ["skip", "hold", "move"])
def test_at_the_very_instant_whoever_is_decided_first_wins(
    desk: Stepped, clock: Clock, what: str
) -> None:
    desk.create()
    told = {"to": due(5)} if what == "move" else {}
    clock.move(60)
    reply = plan(desk, what, 1, **told)
    assert (reply.status, reply.body["error"]["code"]) == (409, "illegal_state")
    assert fired(desk) == [(due(1), due(1))]
    clock.move(59.999999)
    assert plan(desk, what, 2, **told).ok
    clock.move(0.000001)
    desk.settle()
    assert (due(2), due(2)) not in fired(desk)


def test_a_plan_and_the_firing_in_one_round_agree(desk: Stepped, clock: Clock) -> None:
    desk.create()
    clock.move(60)
    skip = desk.send("occurrence.skip", {"id": "job", "at": due(1)})
    later = desk.send("occurrence.skip", {"id": "job", "at": due(2)})
    desk.settle()
    assert (skip[0].ok, later[0].ok) == (False, True)
    assert desk.count("execution.requested") == 1


def test_a_key_makes_a_plan_once(desk: Stepped) -> None:
    desk.create()
    first = desk.ask("occurrence.skip", {"id": "job", "at": due(1)}, key="k")
    plan(desk, "approve", 1)
    again = desk.ask("occurrence.skip", {"id": "job", "at": due(1)}, key="k")
    assert again.body == first.body
    desk.advance(60)
    assert fired(desk) == [(due(1), due(1))]


def test_an_approval_can_reject(desk: Stepped) -> None:
    desk.create()
    plan(desk, "hold", 1)
    desk.advance(60)
    assert plan(desk, "approve", 1, reject=True).ok
    assert desk.names()[-2:] == ["schedule.occurrence_skipped", "execution.dropped"]
    plan(desk, "hold", 2)
    plan(desk, "approve", 2, reject=True)
    desk.advance(60)
    assert desk.count("execution.skipped") == 1


def test_what_is_no_occurrence_names_the_nearest(desk: Stepped) -> None:
    desk.create()
    reply = plan(desk, "skip", 1.5)
    assert (reply.status, reply.body["error"]["field"]) == (400, "at")
    assert reply.body["error"]["nearest"] == [due(1), due(2)]
    assert desk.ask("occurrence.skip", {"id": "none", "at": due(1)}).status == 404
    assert desk.count("schedule.occurrence_skipped") == 0
