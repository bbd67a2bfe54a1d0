"""What the views tell of plans for single occurrences, as the domain decides them."""

from __future__ import annotations

from typing import Any

import pytest
from desk import NOW, Desk, at, definition

from horae_domain import backfilling, decider, firing, planning
from horae_domain.backfills import Order
from horae_domain.decision import Decision
from horae_domain.definition import parse_definition
from horae_domain.events import (
    ExecutionApproved,
    ExecutionHeld,
    OccurrenceApproved,
    OccurrenceHeld,
    OccurrenceMoved,
    OccurrencePayloadSet,
    OccurrenceSkipped,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
)
from horae_domain.instants import format_instant
from horae_domain.schedule import (
    CancelSchedule,
    Cause,
    CreateSchedule,
    PauseSchedule,
    ResumeSchedule,
    UpdateSchedule,
)


class Planner:
    """A schedule that the domain decides; its events go to a desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.line: Any = None

    async def do(self, seconds: float, act: Any, *arguments: Any, **told: Any) -> list[Any]:
        self.desk.now = at(seconds)
        decision = Decision(self.line)
        cause = Cause(at(seconds), actor="ann")
        if act is firing.settle:
            act(decision, cause)
        elif act in {CreateSchedule, UpdateSchedule, PauseSchedule, ResumeSchedule, CancelSchedule}:
            decider.command(decision, act(*arguments, cause))
        else:
            planning.plan(decision, act(*arguments, **told, note="why", cause=cause))
        self.line = decision.line
        await self.desk.tell(*decision.events)
        return [type(event) for event in decision.events]

    async def settle(self, seconds: float) -> list[Any]:
        return await self.do(seconds, firing.settle)

    async def get(self) -> dict[str, Any]:
        return await self.desk.ask("schedule.get", id="a")

    async def preview(self, seconds: float = 0, count: int = 4) -> dict[str, Any]:
        return await self.desk.ask(
            "schedule.preview", id="a", count=count, from_=format_instant(at(seconds))
        )


@pytest.fixture
async def planner(desk: Desk) -> Planner:
    found = Planner(desk)
    await found.do(0, CreateSchedule, "default", parse_definition(definition("a", overlap="allow")))
    return found


def minute(*numbers: float) -> list[str]:
    return [format_instant(at(60 * number)) for number in numbers]


async def test_what_is_planned_is_shown_with_author_and_note(planner: Planner):
    assert (await planner.get())["planned"] == []
    assert await planner.do(1, planning.SkipOccurrence, at(60)) == [OccurrenceSkipped]
    assert await planner.do(1, planning.MoveOccurrence, at(120), at(330)) == [OccurrenceMoved]
    assert await planner.do(1, planning.HoldOccurrence, at(180)) == [OccurrenceHeld]
    asked = planning.SetOccurrencePayload
    assert await planner.do(1, asked, at(180), {"day": 2**70}) == [OccurrencePayloadSet]
    (skipped, held, moved) = (await planner.get())["planned"]
    assert skipped == {
        "due": minute(1)[0],
        "nominal": "2026-01-01T00:01:00Z",
        "moved_to": None,
        "skipped": True,
        "held": False,
        "approved": False,
        "note": "why",
        "author": "ann",
    }
    assert (held["held"], held["payload"]) == (True, {"day": 2**70})
    assert (moved["due"], moved["moved_to"]) == (minute(2)[0], minute(5.5)[0])
    assert await planner.do(2, planning.ApproveOccurrence, at(180)) == [OccurrenceApproved]
    assert (await planner.get())["planned"][1]["approved"]


async def test_the_preview_tells_when_and_whether_they_fire(planner: Planner):
    await planner.do(1, planning.SkipOccurrence, at(60))
    await planner.do(1, planning.MoveOccurrence, at(120), at(210))
    await planner.do(1, planning.MoveOccurrence, at(600), at(30))
    await planner.do(1, planning.HoldOccurrence, at(180))
    answer = await planner.preview()
    assert answer["next"] == minute(0.5, 3, 3.5, 4)
    assert [each["due"] for each in answer["occurrences"]] == minute(10, 1, 3, 2, 4)
    assert [each["at"] for each in answer["occurrences"]] == minute(0.5, 1, 3, 3.5, 4)
    facts = [
        [name for name in ("moved", "skipped", "held") if each[name]]
        for each in answer["occurrences"]
    ]
    assert facts == [["moved"], ["skipped"], ["held"], ["moved"], []]
    shown = answer["occurrences"][0]
    assert (shown["nominal"], shown["note"], shown["author"]) == (minute(10)[0], "why", "ann")
    assert (await planner.preview(60 * 8, 3))["next"] == minute(9, 11, 12)
    assert (await planner.get())["next"] == minute(0.5, 3, 3.5, 4, 5)


async def test_the_next_run_is_where_it_was_moved(planner: Planner):
    await planner.do(1, planning.MoveOccurrence, at(180), at(30))
    answer = await planner.get()
    assert (answer["next_due"], answer["changed_at"]) == (minute(0.5)[0], "2026-01-01T00:00:00Z")
    listed = await planner.desk.ask("schedule.list", next_to=format_instant(at(31)))
    assert listed["total"] == 1
    await planner.settle(30)
    answer = await planner.get()
    assert (answer["next_due"], answer["planned"]) == (minute(1)[0], [])
    assert answer["next"] == minute(1, 2, 4, 5, 6)
    await planner.settle(60)
    await planner.settle(120)
    await planner.settle(240)
    assert (await planner.get())["next"] == minute(5, 6, 7, 8, 9)


async def test_a_once_schedule_is_next_due_where_it_was_moved(desk: Desk):
    planner = Planner(desk)
    trigger = {"type": "once", "at": format_instant(at(60))}
    wanted = parse_definition(definition("a", trigger=trigger))
    await planner.do(0, CreateSchedule, "default", wanted)
    await planner.do(1, planning.MoveOccurrence, at(60), at(600))
    answer = await planner.get()
    assert (answer["next_due"], answer["next"]) == (minute(10)[0], minute(10))


async def test_a_run_tells_what_was_planned_for_it(planner: Planner):
    await planner.do(1, planning.MoveOccurrence, at(120), at(330))
    await planner.do(1, planning.SkipOccurrence, at(180))
    for number in (1, 3, 4, 5, 5.5):
        await planner.settle(60 * number)
    runs = (await planner.desk.ask("execution.list"))["executions"]
    found = {run["due"]: run for run in runs}
    moved, skipped = found[minute(2)[0]], found[minute(3)[0]]
    assert (moved["moved_to"], moved["note"], moved["planned_by"]) == (minute(5.5)[0], "why", "ann")
    assert (skipped["status"], skipped["reason"]) == ("skipped", "skipped_by_hand")
    assert (skipped["note"], skipped["planned_by"], skipped["moved_to"]) == ("why", "ann", None)
    assert (found[minute(1)[0]]["note"], found[minute(1)[0]]["planned_by"]) == ("", None)
    assert (await planner.get())["planned"] == []


async def test_a_held_occurrence_is_answered_and_counted(planner: Planner):
    await planner.do(1, planning.HoldOccurrence, at(60))
    assert await planner.settle(60) == [ExecutionHeld]
    (run,) = (await planner.desk.ask("execution.list", status="held"))["executions"]
    assert (run["note"], run["next_retry_at"]) == ("why", None)
    answer = await planner.get()
    assert (answer["held"], answer["planned"], answer["statistics"]["fired"]) == (1, [], 0)
    kinds = await planner.do(70, planning.ApproveOccurrence, at(60))
    assert kinds[:2] == [OccurrenceApproved, ExecutionApproved]
    answer = await planner.get()
    assert (answer["held"], answer["buffered"], answer["statistics"]["fired"]) == (0, 0, 1)
    (run,) = (await planner.desk.ask("execution.list", status="pending"))["executions"]
    whole = await planner.desk.ask("execution.get", id=run["id"])
    assert [each["event"] for each in whole["timeline"]] == ["held", "approved", "released"]


async def test_a_held_occurrence_that_is_dropped_counts_as_skipped(planner: Planner):
    await planner.do(1, planning.HoldOccurrence, at(60))
    await planner.settle(60)
    await planner.do(70, planning.SkipOccurrence, at(60))
    answer = await planner.get()
    assert (answer["held"], answer["statistics"]["skipped"]) == (0, 1)


async def test_plans_stand_in_the_history_with_author_and_note(planner: Planner):
    await planner.do(1, planning.MoveOccurrence, at(120), at(330))
    await planner.do(2, planning.HoldOccurrence, at(60))
    await planner.settle(60)
    await planner.do(61, planning.ApproveOccurrence, at(60))
    entries = (await planner.desk.ask("schedule.history", id="a", status="planned"))["history"]
    approved, held, moved = entries
    assert moved == {
        "event": "schedule.occurrence_moved.v1",
        "status": "planned",
        "at": "2026-01-01T00:00:01Z",
        "schedule_id": "a",
        "due": minute(2)[0],
        "nominal": minute(2)[0],
        "note": "why",
        "moved_to": minute(5.5)[0],
        "actor": "ann",
    }
    assert held["event"] == "schedule.occurrence_held.v1"
    (run,) = (await planner.desk.ask("execution.list"))["executions"]
    assert approved["execution_id"] == run["id"]


async def test_a_moved_occurrence_that_is_missed_is_told_by_its_name(planner: Planner):
    await planner.do(1, planning.MoveOccurrence, at(120), at(90))
    await planner.settle(3600)
    entries = (await planner.desk.ask("schedule.history", id="a", status="missed"))["history"]
    (moved,) = [each for each in entries if "moved_to" in each]
    assert (moved["nominal"], moved["moved_to"]) == (minute(2)[0], minute(1.5)[0])
    assert (await planner.get())["planned"] == []


async def test_plans_survive_an_edit_and_a_pause_but_not_the_end(planner: Planner):
    await planner.do(1, planning.MoveOccurrence, at(120), at(900))
    await planner.do(1, planning.SkipOccurrence, at(240))
    wanted = parse_definition(definition("a", priority="high"))
    await planner.do(2, UpdateSchedule, wanted, None)
    assert [each["due"] for each in (await planner.get())["planned"]] == minute(4, 2)
    await planner.do(3, PauseSchedule, "")
    answer = await planner.get()
    assert (answer["next_due"], answer["next"], len(answer["planned"])) == (None, [], 2)
    await planner.do(300, ResumeSchedule, "")
    assert [each["due"] for each in (await planner.get())["planned"]] == minute(2)
    await planner.do(301, CancelSchedule, "")
    answer = await planner.get()
    assert (answer["planned"], answer["next_due"]) == ([], None)


async def test_a_plan_whose_instant_passed_is_not_shown(desk: Desk):
    planner = Planner(desk)
    await planner.do(0, CreateSchedule, "default", parse_definition(definition("a")))
    await planner.do(1, planning.SkipOccurrence, at(60))
    wanted = parse_definition(definition("a", trigger={"type": "manual"}))
    await planner.do(2, UpdateSchedule, wanted, None)
    assert len((await planner.get())["planned"]) == 1
    desk.now = at(61)
    assert (await planner.get())["planned"] == []


async def test_nothing_to_come_is_nothing_to_preview(planner: Planner):
    assert (await planner.desk.ask("schedule.get", id="a", count=0))["next"] == []
    asked = {"trigger": {"type": "interval", "every": 60}, "end_at": format_instant(NOW)}
    answer = await planner.desk.ask("schedule.preview", from_=format_instant(at(1)), **asked)
    assert answer == {"ok": True, "next": [], "excluded": [], "occurrences": []}


async def test_a_backfill_stands_in_the_history_and_leaves_the_calendar_alone(desk: Desk):
    planner = Planner(desk)
    told = definition("a", overlap="allow", max_executions=9, catch_up={"window": 0})
    await planner.do(0, CreateSchedule, "default", parse_definition(told))
    await planner.settle(330)
    before = await planner.get()
    decision = Decision(planner.line)
    cause = Cause(at(340), actor="ann")
    asked = backfilling.BackfillSchedule("b", at(60), at(180), Order.SKIP, "again", cause)
    backfilling.backfill(decision, asked)
    await desk.tell(*decision.events)
    assert type(decision.events[0]) is ScheduleBackfillStarted
    answer = await planner.get()
    assert (answer["next_due"], answer["next"]) == (before["next_due"], before["next"])
    assert answer["statistics"]["fired"] == before["statistics"]["fired"] + 1
    assert answer["statistics"]["skipped"] == before["statistics"]["skipped"] + 2
    runs = (await desk.ask("execution.list", status="pending"))["executions"]
    (run,) = [each for each in runs if each["backfill_id"] == "b"]
    assert (run["trigger"]["kind"], run["due"]) == ("backfill", minute(1)[0])
    done = ScheduleBackfillCompleted(
        at=at(350), schedule_id="a", backfill_id="b", reason="done", left=0
    )
    await desk.tell(done)
    entries = (await desk.ask("schedule.history", id="a", status="backfill"))["history"]
    assert [each["event"] for each in entries] == [
        "schedule.backfill_completed.v1",
        "schedule.backfill_started.v1",
    ]
    assert (entries[1]["count"], entries[1]["note"], entries[1]["actor"]) == (3, "again", "ann")
    skipped = (await desk.ask("schedule.history", id="a", status="skipped"))["history"]
    assert [each["backfill_id"] for each in skipped] == ["b"]
