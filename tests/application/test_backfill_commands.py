"""Backfills through the engine: repeated commands, restarts, dry runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from stepping import START, Clock, Stepped

from horae_domain.events import ExecutionRequested
from horae_domain.instants import format_instant

ANCHORED = {"type": "interval", "every": "1 hour", "anchor": "2026-01-05T00:00:00Z"}


def hour(number: float) -> str:
    return format_instant(START + timedelta(hours=number))


def window(first: float, last: float, **told: Any) -> dict[str, Any]:
    return {"id": "job", "from": hour(first), "to": hour(last), **told}


def again(desk: Stepped) -> list[str]:
    runs = [each for each in desk.events(ExecutionRequested) if each.kind == "backfill"]
    return [format_instant(each.due) for each in runs]


def test_a_backfill_runs_one_after_the_other(desk: Stepped) -> None:
    desk.create(trigger=ANCHORED)
    reply = desk.ask("schedule.backfill", window(-3, -1), key="k")
    assert reply.body["count"] == 3
    assert reply.body["first"] == [hour(-3), hour(-2), hour(-1)]
    assert desk.ask("schedule.backfill", window(-3, -1), key="k").body == reply.body
    for number in (-3, -2, -1):
        assert again(desk)[-1] == hour(number)
        work = desk.executor.started[-1]
        assert work.trigger["kind"] == "backfill"
        assert work.trigger["backfill_id"] == reply.body["backfill_id"]
        desk.report(work)
    assert desk.names()[-1] == "schedule.backfill_completed"
    other = desk.ask("schedule.backfill", window(-3, -3), key="other")
    assert other.body["backfill_id"] != reply.body["backfill_id"]
    assert again(desk) == [hour(-3), hour(-2), hour(-1), hour(-3)]


def test_a_dry_run_writes_nothing(desk: Stepped) -> None:
    desk.create(trigger=ANCHORED)
    reply = desk.ask("schedule.backfill", window(-30, -1, dry_run=True))
    assert (reply.body["count"], len(reply.body["first"])) == (30, 10)
    assert desk.names() == ["schedule.created"]


def test_a_backfill_outlasts_a_restart(desk: Stepped, clock: Clock, restart: Any) -> None:
    desk.create(trigger=ANCHORED, retry={"delay": 0, "jitter": 0})
    desk.ask("schedule.backfill", window(-3, -1))
    another = restart()
    clock.move(10)
    another.settle()
    for _ in range(3):
        another.report(another.executor.started[-1])
    assert again(another) == [hour(-3), hour(-2), hour(-1)]
    assert another.names()[-1] == "schedule.backfill_completed"


def test_a_window_that_reaches_into_the_future_is_refused(desk: Stepped) -> None:
    desk.create(trigger=ANCHORED)
    reply = desk.ask("schedule.backfill", window(-1, 1))
    assert (reply.status, reply.body["error"]["field"]) == (400, "to")
