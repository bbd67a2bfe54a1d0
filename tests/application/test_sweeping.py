"""What was kept long enough is erased, and nothing else follows from that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from stepping import WORK, Stepped, Wrapped, events_of, log_of

from horae_application import lines
from horae_application.ports import AlreadyWritten, CommitUnknown, StoreUnavailable
from horae_domain.codec import decode
from horae_domain.events import (
    Event,
    ExecutionRequested,
    HistoryErased,
    RequestAnswered,
    ScheduleErased,
)
from horae_domain.identity import erasure_stream, schedule_stream
from horae_domain.instants import to_micros
from horae_domain.ledger import fold, pack
from horae_projections.fold import project
from horae_projections.rows import QueueRow
from horae_projections.rows import pack as pack_row
from horae_projections.sheet import Sheet

DAY = 86_400.0
_WINDOW = 100 * 86_400_000_000


@pytest.fixture(autouse=True)
def _days_pass_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are read a long way ahead."""
    monkeypatch.setattr(lines, "WINDOW", _WINDOW)


EMPTY = pack_row(QueueRow(begun=[]))
"""A queue that once had something, and is as one that never had."""
Item = tuple[int, Event]


def items_of(store: Any) -> list[Item]:
    return [(row.position, decode(row.name, row.state)) for row in log_of(store)]


def rows_of(items: list[Item]) -> dict[Any, bytes]:
    """The view's rows after these events."""
    sheet, rows = Sheet(), {}
    for number, event in items:
        for key in sheet.missing([event]):
            sheet.put(key, rows.get(key))
        for key in sheet.missing_queues([event]):
            sheet.put(key, rows.get(key))
        project(sheet, number, event)
        for change in sheet.collect():
            if change.row is None:
                rows.pop(change.key, None)
            else:
                rows[change.key] = change.row
    return {key: row for key, row in rows.items() if row != EMPTY}


def work(desk: Stepped, outcome: str = "succeeded") -> list[str]:
    """End what runs; its ids."""
    running = list(desk.executor.running.values())
    for each in running:
        assert desk.report(each, outcome, **_error(outcome)).ok
    return [each.execution_id for each in running]


def _error(outcome: str) -> dict[str, Any]:
    return {} if outcome == "succeeded" else {"error": {"type": "Bad", "message": "bad"}}


def sweep(desk: Stepped, *ids: str, whole: bool = False, id_: str = "job") -> dict[str, Any]:
    reply = desk.ask("history.sweep_schedule", {"id": id_, "executions": list(ids), "whole": whole})
    assert reply.ok, reply
    return reply.body


def runs(desk: Stepped, days: int) -> list[str]:
    """A schedule that runs daily and succeeds; the ids of its runs."""
    desk.create(every="1 day", retry={"max_attempts": 1})
    ids: list[str] = []
    for _ in range(days):
        desk.advance(DAY)
        ids += work(desk)
    return ids


def test_erased_run_leaves_its_numbers_empty_and_one_event(desk: Stepped) -> None:
    ids = runs(desk, 9)
    before = items_of(desk.store)
    answer = sweep(desk, *ids)
    assert answer["executions"] == 2, "seven days are kept"
    after = items_of(desk.store)
    kept = [item for item in before if getattr(item[1], "execution_id", None) not in ids[:2]]
    assert after[:-1] == kept
    [event] = [each for _, each in after if isinstance(each, HistoryErased)]
    assert (event.executions, event.gone) == (
        ids[:2],
        {"counted": 2, "fired": 2, "succeeded": 2},
    )
    assert sweep(desk, *ids)["executions"] == 0, "asked again it has nothing to do"


def test_line_and_rows_from_what_is_left_are_those_with_all(desk: Stepped) -> None:
    desk.create(every="1 day", cooldown="1 hour", max_executions=50, retry={"max_attempts": 1})
    ids: list[str] = []
    for day in range(40):
        desk.advance(DAY)
        if day % 5 == 1:
            desk.ask("occurrence.skip", {"id": "job", "at": _next(desk)})
        ids += work(desk, "failed" if day % 3 == 0 else "succeeded")
        ids.append(desk.trigger())
        desk.settle()
        work(desk)
    seen = items_of(desk.store)
    for part in (ids[:20], ids[20:]):
        erased = sweep(desk, *part)["executions"]
        assert erased
        seen += [item for item in items_of(desk.store) if item[0] > seen[-1][0]]
    left = items_of(desk.store)
    assert len(left) < len(seen)
    line = desk.engine.lines.get(schedule_stream("default", "job"))
    folded = fold(event for _, event in left)
    assert line is not None
    assert folded is not None
    assert pack(folded) == pack(line)
    assert folded.fired == line.fired > 0
    assert rows_of(left) == rows_of(seen)


def _next(desk: Stepped) -> str:
    line = desk.engine.lines.get(schedule_stream("default", "job"))
    assert line is not None
    assert line.next_due is not None
    return line.next_due.isoformat()


def test_erased_occurrence_does_not_fire_again(desk: Stepped, restart: Any) -> None:
    ids = runs(desk, 20)
    sweep(desk, *ids)
    another = restart()
    another.settle()
    another.advance(2 * DAY)
    due = [event.due for event in events_of(another.store, ExecutionRequested)]
    assert len(due) == len(set(due))
    started = [each.due for each in another.executor.started]
    assert min(started) > max(
        event.due for event in events_of(another.store, ExecutionRequested)[:-1]
        if event.execution_id in ids
    )  # fmt: skip


def test_failures_and_what_was_asked_for_by_a_key_stay_longer(desk: Stepped) -> None:
    desk.create(every="100 days", retry={"max_attempts": 1})
    by_key = desk.trigger(key="k")
    desk.settle()
    work(desk)
    failed = desk.trigger()
    desk.settle()
    work(desk, "failed")
    desk.advance(29 * DAY)
    assert sweep(desk, by_key, failed)["executions"] == 0
    assert desk.trigger(key="k") == by_key
    desk.advance(2 * DAY)
    assert sweep(desk, by_key, failed)["executions"] == 2


def test_what_is_alive_unknown_or_of_another_schedule_stays(desk: Stepped) -> None:
    [other] = [desk.manual("other") and desk.trigger("other")]
    desk.settle()
    work(desk)
    desk.create(every="100 days", timeout={"start_to_close": None})
    running = desk.trigger()
    desk.advance(99 * DAY)
    unknown = "00000000-0000-0000-0000-000000000001"
    before = log_of(desk.store)
    assert sweep(desk, running, other, unknown)["executions"] == 0
    assert log_of(desk.store) == before


def test_finished_one_time_schedule_goes_with_its_runs(desk: Stepped) -> None:
    body = {"id": "job", "trigger": {"type": "once", "after": "1 hour"}, "action": WORK}
    assert desk.ask("schedule.create", body).ok
    desk.advance(3600)
    [run] = work(desk)
    assert sweep(desk, run, whole=True)["schedule"] is False, "90 days are kept"
    desk.advance(91 * DAY)
    seen = items_of(desk.store)
    assert sweep(desk, run, whole=True)["schedule"] is True
    assert [type(event) for _, event in items_of(desk.store)] == [ScheduleErased]
    assert rows_of([*seen, *items_of(desk.store)]) == rows_of(items_of(desk.store)) == {}
    assert desk.engine.lines.get(schedule_stream("default", "job")) is None
    again = desk.ask("history.sweep_schedule", {"id": "job", "whole": True})
    assert again.status == 404
    assert desk.ask("schedule.create", body).body["revision"] == 1


def test_recurring_schedule_is_never_erased_as_a_whole(desk: Stepped) -> None:
    runs(desk, 2)
    assert desk.ask("schedule.cancel", {"id": "job"}).ok
    desk.advance(500 * DAY)
    assert sweep(desk, whole=True)["schedule"] is False


def test_runs_of_a_former_incarnation_go_and_count_for_nothing(desk: Stepped) -> None:
    old = runs(desk, 2)
    assert desk.ask("schedule.cancel", {"id": "job"}).ok
    new = runs(desk, 10)
    seen = items_of(desk.store)
    assert sweep(desk, *old, *new)["executions"] == 5
    [event] = [each for _, each in items_of(desk.store) if isinstance(each, HistoryErased)]
    assert (event.older, event.gone["fired"], event.incarnation) == (old, 3, 2)
    seen.append(items_of(desk.store)[-1])
    assert rows_of(items_of(desk.store)) == rows_of(seen)


def test_what_else_is_asked_in_the_same_commit_comes_first(desk: Stepped) -> None:
    ids = runs(desk, 9)
    ends = desk.send("history.sweep_schedule", {"id": "job", "executions": ids})
    paused = desk.send("schedule.pause", {"id": "job"})
    desk.settle()
    assert paused[0].ok
    assert ends[0].body["error"]["code"] == "illegal_state"
    assert sweep(desk, *ids)["executions"] == 2


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (StoreUnavailable("gone"), False),
        (AlreadyWritten(None, None), False),
        (CommitUnknown("gone"), False),
        (CommitUnknown("gone"), True),
    ],
)
def test_sweep_that_fails_in_its_commit_is_whole_or_nothing(
    faulty: tuple[Stepped, Wrapped], error: Exception, after: bool
) -> None:
    desk, store = faulty
    desk.engine.lines.window = _WINDOW
    ids = runs(desk, 9)
    before = items_of(desk.store)
    store.fail("append", error, after=after)
    replies = desk.send("history.sweep_schedule", {"id": "job", "executions": ids})
    for _ in range(12):
        desk.engine.round()
    left = items_of(desk.store)
    erased = [each for _, each in left if isinstance(each, HistoryErased)]
    assert replies[0].ok == bool(erased)
    assert len(left) == len(before) + 1 - 4 if erased else left == before
    again = Stepped(desk.store, desk.clock, name="again")
    again.settle()
    sweep(again, *ids)
    assert sum(len(each.executions) for each in events_of(again.store, HistoryErased)) == 2
    assert fold(each for _, each in items_of(again.store)) is not None


def test_old_keys_are_forgotten_and_newer_ones_known(desk: Stepped) -> None:
    desk.create(every="100 days")
    assert desk.ask("schedule.pause", {"id": "job"}, key="old").ok
    desk.advance(10 * DAY)
    assert desk.ask("schedule.resume", {"id": "job"}, key="new").ok
    desk.advance(25 * DAY)
    before = to_micros(desk.clock.time - timedelta(days=30))
    assert desk.store.forget_requests(before, 100) == 1
    assert desk.store.forget_requests(before, 100) == 0
    assert len(events_of(desk.store, RequestAnswered)) == 1
    desk.store.compact()
    assert desk.ask("schedule.resume", {"id": "job"}, key="new").ok


def test_erasures_of_a_schedule_stand_in_one_stream(desk: Stepped) -> None:
    ids = runs(desk, 12)
    sweep(desk, *ids[:2])
    sweep(desk, *ids[2:])
    stream = erasure_stream("default", "job")
    rows = desk.store.load([stream])[stream]
    assert [row.version for row in rows] == [1, 2]
    last = decode(rows[-1].name, rows[-1].state)
    assert isinstance(last, HistoryErased)
    assert last.gone["succeeded"] == 5
    seen = items_of(desk.store)
    for _ in range(3):
        desk.advance(DAY)
        ids += work(desk)
    sweep(desk, *ids)
    rows = desk.store.load([stream])[stream]
    assert [row.version for row in rows] == [3], "the latest one says all"
    seen += [item for item in items_of(desk.store) if item[0] > seen[-1][0]]
    assert rows_of(items_of(desk.store)) == rows_of(seen)
