"""The inventory of what waits: one list of all kinds, in pages."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from desk import Desk, at, attempt_failed, created, execution_id, requested, started, succeeded
from test_rows_plans import Planner

from horae_domain import backfilling
from horae_domain.backfills import Order
from horae_domain.decision import Decision
from horae_domain.events import DelayEnded, ExecutionHeld, TimerCancelled, TimerMoved
from horae_domain.planning import HoldOccurrence, MoveOccurrence, SkipOccurrence
from horae_domain.schedule import (
    CancelSchedule,
    Cause,
    CreateSchedule,
    PauseSchedule,
    ResumeSchedule,
)
from horae_projections import looks
from horae_projections.messages import ListTimers, TimerKind
from horae_projections.timers import KINDS


async def listed(desk: Desk, **filters: Any) -> list[tuple[str, str | None, str]]:
    found = (await desk.ask("timer.list", **filters))["timers"]
    return [(each["kind"], each["due"], each["id"]) for each in found]


def name(seconds: float) -> str:
    return f"occurrence:a@2026-01-01T00:{int(seconds) // 60:02}:{int(seconds) % 60:02}Z"


async def planner(desk: Desk) -> Planner:
    from horae_domain.definition import parse_definition

    made = Planner(desk)
    content = {
        "id": "a",
        "trigger": {"type": "interval", "every": "1m"},
        "action": {"type": "function", "name": "build"},
    }
    await made.do(0, CreateSchedule, "default", parse_definition(content))
    return made


def test_every_kind_can_be_asked_for():
    assert TimerKind.__args__ == KINDS  # type: ignore[attr-defined]


async def test_timers_have_ids_that_stay_the_same_wherever_they_are_moved(desk: Desk):
    made = await planner(desk)
    assert await listed(desk) == [("schedule", "2026-01-01T00:01:00Z", name(60))]
    await made.do(1, MoveOccurrence, at(60), at(90))
    assert await listed(desk) == [("schedule", "2026-01-01T00:01:30Z", name(60))]
    await made.do(2, MoveOccurrence, at(60), at(1000))
    assert await listed(desk) == [
        ("schedule", "2026-01-01T00:02:00Z", name(120)),
        ("moved", "2026-01-01T00:16:40Z", name(60)),
    ]


async def test_what_is_planned_for_a_timer_is_told(desk: Desk):
    made = await planner(desk)
    await made.do(1, SkipOccurrence, at(60))
    (timer,) = (await desk.ask("timer.list"))["timers"]
    assert (timer["moved"], timer["skipped"], timer["held"]) == (False, True, False)
    await made.do(2, HoldOccurrence, at(120))
    await made.do(2, MoveOccurrence, at(120), at(500))
    moved = (await desk.ask("timer.list", kind="moved"))["timers"][0]
    assert (moved["held"], moved["note"]) == (True, "why")
    assert moved["nominal"] == "2026-01-01T00:02:00Z"


async def test_moved_occurrences_go_with_their_decision_or_their_schedule(desk: Desk):
    made = await planner(desk)
    await made.do(1, MoveOccurrence, at(60), at(1000))
    await made.do(2, PauseSchedule, "")
    assert await listed(desk) == []
    await made.do(3, ResumeSchedule, "")
    assert len(await listed(desk, kind="moved")) == 1
    await made.settle(1000)
    assert await listed(desk, kind="moved") == []
    await made.do(1001, MoveOccurrence, at(1020), at(5000))
    await made.do(1002, CancelSchedule, "")
    assert await listed(desk, kind="moved,schedule") == []


async def test_held_occurrences_and_backfills_wait_for_no_instant(desk: Desk):
    made = await planner(desk)
    await made.do(1, HoldOccurrence, at(60))
    assert await made.settle(60) == [ExecutionHeld]
    await made.settle(120)
    window = backfilling.BackfillSchedule(
        "b1", at(0), at(120), Order.BUFFER_ALL, "", Cause(at(130))
    )
    backfilling.backfill(decision := Decision(made.line), window)
    made.line = decision.line
    await desk.tell(*decision.events)
    assert (await listed(desk))[-2:] == [
        ("backfill", None, "backfill:a@b1"),
        ("held", None, name(60)),
    ]
    assert await listed(desk, kind="held,backfill", from_=at(0).isoformat()) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_timers_of_the_same_instant_come_by_kind_and_each_once(desk: Desk, limit: int):
    await desk.tell(*(created(f"s{n}", next_due=at(100)) for n in range(3)))
    for n in range(3):
        await desk.tell(
            requested(n, f"s{n}", when=at(10), next_due=at(100), start_by=at(100), end_by=at(100))
        )
    found: list[str] = []
    cursor = None
    while True:
        page = await desk.ask("timer.list", limit=limit, cursor=cursor)
        assert page["total"] == 9
        found += [each["id"] for each in page["timers"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == [
        *(f"occurrence:s{n}@2026-01-01T00:01:40Z" for n in range(3)),
        *(f"schedule_to_start:{execution_id(n)}" for n in range(3)),
        *(f"overall:{execution_id(n)}" for n in range(3)),
    ]


async def test_pages_go_on_among_what_waits_for_no_instant(desk: Desk):
    for n in range(3):
        await desk.tell(created(f"s{n}", next_due=None))
        told = {"kind": "interval", "nominal": "n", "revision": 1}
        await desk.tell(
            ExecutionHeld(
                at=at(1), due=at(1), schedule_id=f"s{n}", execution_id=execution_id(n), **told
            )
        )
    found, cursor = [], None
    for _ in range(3):
        page = await desk.ask("timer.list", limit=1, cursor=cursor)
        found += [each["schedule_id"] for each in page["timers"]]
        cursor = page["cursor"]
    assert (found, cursor) == (["s0", "s1", "s2"], None)


async def test_timers_are_found_by_time(desk: Desk):
    await desk.tell(*(created(f"s{n}", next_due=at(n * 10)) for n in range(1, 5)))
    await desk.tell(requested(1, "s1", when=at(5), worker="w", deadline=at(25), next_due=at(10)))
    between = {"from_": at(20).isoformat(), "to": at(30).isoformat()}
    kinds = [kind for kind, *_ in await listed(desk, **between)]
    assert kinds == ["schedule", "start_to_close", "schedule"]


async def test_timers_of_an_execution_are_no_schedules_timers(desk: Desk):
    await desk.tell(created(), requested(), started(), attempt_failed(retry_at=at(90)))
    await desk.tell(created(execution_id(1)))
    found = await desk.ask("timer.list", execution_id=execution_id(1))
    assert [(each["kind"], each["id"]) for each in found["timers"]] == [
        ("retry", f"retry:{execution_id(1)}@1")
    ]
    assert found["total"] == 1
    assert (await desk.ask("timer.list", execution_id=execution_id(1), kind="schedule"))[
        "total"
    ] == 0
    shown = await desk.ask("execution.get", id=execution_id(1))
    assert shown["timers"] == [
        {"id": f"retry:{execution_id(1)}@1", "kind": "retry", "due": "2026-01-01T00:01:30Z"}
    ]


async def test_timer_that_was_moved_is_where_it_was_moved_and_one_lifted_is_gone(desk: Desk):
    told = {"schedule_id": "a", "execution_id": execution_id(1)}
    await desk.tell(created(), requested(end_by=at(500)), started())
    await desk.tell(TimerMoved(at=at(70), timer="overall", was=at(500), to=at(900), **told))
    await desk.tell(TimerCancelled(at=at(71), timer="start_to_close", was=at(361), **told))
    found = await listed(desk, execution_id=execution_id(1))
    assert found == [("overall", "2026-01-01T00:15:00Z", f"overall:{execution_id(1)}")]
    shown = await desk.ask("execution.get", id=execution_id(1))
    assert [(each["event"], each["detail"]) for each in shown["timeline"][-2:]] == [
        ("timer_moved", "overall"),
        ("timer_cancelled", "start_to_close"),
    ]


async def test_tenants_see_their_own_timers(desk: Desk):
    await desk.tell(created(tenant="other"))
    assert await listed(desk) == []


def test_message_of_the_list_knows_its_filters():
    assert ListTimers(kind="retry,poll").kind == ("retry", "poll")


async def test_delay_is_a_timer_until_it_has_ended(desk: Desk):
    facts = {"event": "Ordered", "data": 1}
    begun = requested(when=at(60), start_by=at(400))
    aside = msgspec.structs.replace(begun, due=at(300), trigger=facts, aside=True)
    await desk.tell(created(), aside)
    shown = await desk.ask("execution.get", id=execution_id(1))
    assert shown["status"] == "delayed"
    assert {each["kind"] for each in shown["timers"]} == {"delay", "schedule_to_start"}
    await desk.tell(
        DelayEnded(at=at(300), schedule_id=begun.schedule_id, execution_id=execution_id(1))
    )
    shown = await desk.ask("execution.get", id=execution_id(1))
    assert shown["status"] == "pending"
    assert {each["kind"] for each in shown["timers"]} == {"schedule_to_start"}


# --- what follows from the clock -----------------------------------------------------------------


def watching(id_: str, every: str, **told: Any) -> Any:
    trigger = {"type": "condition", "check": "volatility", "every": every}
    return created(id_, trigger=trigger, next_due=None, **told)


async def test_looks_lie_on_the_grid_of_their_trigger_between_start_and_end(desk: Desk):
    await desk.tell(
        watching("a", "40s"),
        watching("b", "1m", start_at=at(120).isoformat()),
        watching("c", "50s", end_at=at(110).isoformat()),
    )
    assert await listed(desk) == [
        ("look", "2026-01-01T00:00:40Z", "look:a@2026-01-01T00:00:40Z"),
        ("look", "2026-01-01T00:00:50Z", "look:c@2026-01-01T00:00:50Z"),
        ("look", "2026-01-01T00:02:00Z", "look:b@2026-01-01T00:02:00Z"),
    ]
    desk.now = at(100)
    assert await listed(desk) == [
        ("look", "2026-01-01T00:02:00Z", "look:a@2026-01-01T00:02:00Z"),
        ("look", "2026-01-01T00:02:00Z", "look:b@2026-01-01T00:02:00Z"),
    ]
    assert len(await listed(desk, schedule_id="b")) == 1
    assert await listed(desk, execution_id=execution_id(1)) == []
    assert await listed(desk, to=at(119).isoformat()) == []


async def test_looks_come_in_pages_among_other_timers(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(looks, "MOST", 2)
    await desk.tell(*(watching(f"w{n}", "1m") for n in range(5)))
    await desk.tell(created("s", next_due=at(60)), created("t", next_due=at(90)))
    found: list[str] = []
    cursor = None
    while True:
        page = await desk.ask("timer.list", limit=2, cursor=cursor)
        assert page["total"] == 7
        found += [each["schedule_id"] for each in page["timers"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == ["s", "w0", "w1", "w2", "w3", "w4", "t"]


async def test_cooldown_is_a_timer_until_it_is_over(desk: Desk):
    await desk.tell(created(cooldown="5m"), requested(worker="w"))
    rests = ("cooldown", "2026-01-01T00:06:00Z", "cooldown:a@2026-01-01T00:06:00Z")
    assert await listed(desk, kind="cooldown") == [rests]
    assert await listed(desk, kind="cooldown", from_=at(10).isoformat()) == [rests]
    desk.now = at(359)
    assert await listed(desk, kind="cooldown") == [rests]
    desk.now = at(360)
    assert await listed(desk, kind="cooldown", from_=at(10).isoformat()) == []


async def test_no_cooldown_follows_what_was_triggered_by_hand(desk: Desk):
    await desk.tell(created(cooldown="5m"), requested(worker="w", kind="key"))
    assert await listed(desk, kind="cooldown") == []
    assert (await desk.ask("schedule.get", id="a"))["cooldown_until"] is None


async def test_cooldown_that_a_result_tells_is_a_timer(desk: Desk):
    await desk.tell(created(), requested(worker="w"), succeeded(cooldown_until=at(500)))
    assert await listed(desk, kind="cooldown") == [
        ("cooldown", "2026-01-01T00:08:20Z", "cooldown:a@2026-01-01T00:08:20Z")
    ]


async def test_the_last_word_on_a_cooldown_holds(desk: Desk):
    shorter = succeeded(cooldown_until=at(200))
    await desk.tell(created(cooldown="5m"), requested(worker="w"), shorter)
    assert [due for _, due, _ in await listed(desk, kind="cooldown")] == ["2026-01-01T00:03:20Z"]
    assert (await desk.ask("schedule.get", id="a"))["cooldown_until"] == "2026-01-01T00:03:20Z"
