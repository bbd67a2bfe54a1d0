"""Commands at the very instant of a firing, and commands at the same instant, in both orders.

Before an edit, a pause or a cancel commits, the owner decides every instant up to it under what
held before, in the same commit; of two commands that exclude each other the first one wins.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stepping import WORK, Clock, Recorder, RecordingBus, Stepped

from horae_application.messages import Reply
from horae_domain.events import ExecutionRequested, OccurrencesDecided, ScheduleUpdated
from horae_infrastructure.store.sqlite import SqliteStore

MICROSECOND = 0.000001
QUEUED = {"type": "queue", "queue": "reports"}
EDITED = {"id": "job", "trigger": {"type": "interval", "every": "7 minutes"}}
STOPS = {
    "schedule.pause": {"id": "job"},
    "schedule.cancel": {"id": "job"},
    "schedule.update": EDITED | {"action": WORK},
    "schedule.patch": EDITED,
}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Stepped]:
    """An engine over a real store, whose work goes to the bus if it is of a queue."""
    clock = Clock()
    store = SqliteStore(tmp_path / "horae.db", clock=clock.micros)
    stepped = Stepped(store, clock, executor=Recorder(), bus=RecordingBus())
    stepped.settle()
    yield stepped
    store.close()


def code(reply: Reply) -> str | None:
    return None if reply.ok else reply.body["error"]["code"]


def together(desk: Stepped, *asked: tuple[str, dict[str, Any]], commits: int) -> list[Reply]:
    """The replies to commands of one instant, decided in one commit or each in its own."""
    replies = []
    for name, body in asked:
        replies.append(desk.send(name, body))
        if commits > 1:
            desk.settle()
    desk.settle()
    return [each[0] for each in replies]


def fired(desk: Stepped) -> list[ExecutionRequested]:
    return desk.events(ExecutionRequested)


@pytest.mark.parametrize("commits", [1, 2])
@pytest.mark.parametrize("name", STOPS)
def test_instant_at_which_it_is_stopped_fires_under_the_former_revision(
    desk: Stepped, name: str, commits: int
) -> None:
    desk.create()
    desk.clock.move(60)
    if commits == 2:
        desk.settle()
    assert desk.ask(name, STOPS[name]).ok
    desk.advance(119)
    assert [event.revision for event in fired(desk)] == [1]
    assert fired(desk)[0].due == fired(desk)[0].at


@pytest.mark.parametrize("name", STOPS)
def test_instant_after_the_stop_does_not_fire(desk: Stepped, name: str) -> None:
    desk.create()
    desk.clock.move(60 - MICROSECOND)
    assert desk.ask(name, STOPS[name]).ok
    desk.advance(119)
    assert fired(desk) == []


@pytest.mark.parametrize(("early", "runs"), [(0, 1), (MICROSECOND, 2)])
def test_resume_comes_after_its_instant(desk: Stepped, early: float, runs: int) -> None:
    desk.create(overlap="allow")
    desk.ask("schedule.pause", {"id": "job"})
    desk.clock.move(60 - early)
    assert desk.ask("schedule.resume", {"id": "job"}).ok
    desk.advance(61)
    assert len(fired(desk)) == runs
    skipped = sum(event.count for event in desk.events(OccurrencesDecided))
    assert skipped + runs == 2


@pytest.mark.parametrize("commits", [1, 2])
def test_trigger_at_the_instant_that_completes_the_schedule_is_too_late(
    desk: Stepped, commits: int
) -> None:
    desk.create(trigger={"type": "once", "after": "1 minute"}, overlap="allow")
    desk.clock.move(60)
    if commits == 2:
        desk.settle()
    assert code(desk.ask("schedule.trigger", {"id": "job"})) == "illegal_state"
    assert len(fired(desk)) == 1


def test_trigger_before_the_schedule_completes_runs_beside_it(desk: Stepped) -> None:
    desk.create(trigger={"type": "once", "after": "1 minute"}, overlap="allow")
    desk.clock.move(60 - MICROSECOND)
    assert desk.ask("schedule.trigger", {"id": "job"}).ok
    desk.advance(1)
    assert len(fired(desk)) == 2


@pytest.mark.parametrize("commits", [1, 2])
@pytest.mark.parametrize("turned", [False, True])
def test_first_of_two_creations_wins(desk: Stepped, turned: bool, commits: int) -> None:
    both = [{"id": "job", "trigger": {"type": "manual"}, "action": WORK, "name": n} for n in "ab"]
    asked = [("schedule.create", body) for body in (both[::-1] if turned else both)]
    first, second = together(desk, *asked, commits=commits)
    assert (code(first), code(second)) == (None, "schedule_exists")
    assert desk.count("schedule.created") == 1


@pytest.mark.parametrize("commits", [1, 2])
@pytest.mark.parametrize("turned", [False, True])
def test_first_of_two_patches_of_one_revision_wins(
    desk: Stepped, turned: bool, commits: int
) -> None:
    desk.create()
    desk.clock.move(60)
    patches = [{"id": "job", "expected_revision": 1, "description": text} for text in "ab"]
    asked = [("schedule.patch", body) for body in (patches[::-1] if turned else patches)]
    first, second = together(desk, *asked, commits=commits)
    assert (code(first), code(second)) == (None, "revision_conflict")
    (updated,) = desk.events(ScheduleUpdated)
    assert updated.definition["description"] == asked[0][1]["description"]
    assert [event.revision for event in fired(desk)] == [1]


@pytest.mark.parametrize("commits", [1, 2])
@pytest.mark.parametrize("turned", [False, True])
def test_work_is_cancelled_or_taken_by_whoever_comes_first(
    desk: Stepped, turned: bool, commits: int
) -> None:
    desk.manual(action=QUEUED)
    id_ = desk.trigger()
    start = ("execution.start", {"execution_id": id_, "lease": "1.1"})
    cancel = ("schedule.cancel", {"id": "job"})
    asked = [start, cancel] if turned else [cancel, start]
    first, second = together(desk, *asked, commits=commits)
    if turned:
        assert (first.ok, second.ok) == (True, True), "what runs goes on"
        report = {"execution_id": id_, "lease": "1.1", "outcome": "succeeded"}
        assert desk.ask("execution.report", report).ok
        assert desk.count("execution.succeeded") == 1
    else:
        assert (code(first), code(second)) == (None, "illegal_state")
        assert desk.count("execution.cancelled") == 1
        assert desk.count("execution.attempt_started") == 0


@pytest.mark.parametrize("commits", [1, 2])
@pytest.mark.parametrize("turned", [False, True])
def test_priority_is_changed_only_while_it_waits(desk: Stepped, turned: bool, commits: int) -> None:
    desk.manual(action=QUEUED)
    id_ = desk.trigger()
    start = ("execution.start", {"execution_id": id_, "lease": "1.1"})
    urgent = ("execution.reprioritize", {"id": id_, "priority": "critical"})
    asked = [start, urgent] if turned else [urgent, start]
    first, second = together(desk, *asked, commits=commits)
    assert (code(first), code(second)) == (None, "illegal_state" if turned else None)
    assert desk.count("execution.attempt_started") == 1
    assert desk.count("execution.reprioritised") == (0 if turned else 1)
