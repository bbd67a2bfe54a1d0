"""The occurrences of a past window run again, with their logical times (G11)."""

from __future__ import annotations

import pytest
from histories import History, at, create, like, said

from horae_domain import backfilling
from horae_domain.backfill_runs import BATCH
from horae_domain.backfills import Backfill, Order
from horae_domain.errors import IllegalState, InvalidField, TooManyRequests
from horae_domain.events import (
    ExecutionRequested,
    ExecutionSkipped,
    OccurrencesDecided,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
    ScheduleCancelled,
    ScheduleCompleted,
    ScheduleCreated,
    SchedulePaused,
    ScheduleQuarantined,
    ScheduleResumed,
)
from horae_domain.occurrences import TICK

HOURLY = {"type": "interval", "every": "1h", "anchor": "2026-01-05T00:00:00Z"}


def hour(number: float) -> float:
    return number * 3600


def again(number: float, **values: object) -> like:
    return like(ExecutionRequested, kind="backfill", due=at(hour(number)), **values)


def begun(**told: object) -> History:
    """At noon, with nothing unfinished."""
    history = History(trigger=HOURLY, **({"catch_up": {"window": 0}} | told))
    history.settle(hour(11.5))
    return history


def finish(history: History, seconds: float) -> list[object]:
    run = history.live[0]
    history.start(seconds, run)
    return history.report(seconds, said(), run)


def test_a_window_runs_again_one_after_the_other_with_its_own_times():
    history = begun(max_executions=50, payload={"a": 1})
    started, first = history.backfill(hour(11.6), hour(2), hour(4))
    assert started == like(
        ScheduleBackfillStarted, backfill_id="b", first=at(hour(2)), last=at(hour(4)), count=3,
        overlap="buffer_all", revision=1, note="again",
    )  # fmt: skip
    assert first == again(
        2, run_number=None, next_due=None, backfill_id="b", nominal="2026-01-05T02:00:00Z"
    )
    assert history.line.wake is None or history.line.wake > at(hour(11.6))
    assert finish(history, hour(11.6) + 1)[1:] == [again(3)]
    assert finish(history, hour(11.6) + 2)[1:] == [again(4)]
    assert finish(history, hour(11.6) + 3)[1:] == [
        like(ScheduleBackfillCompleted, backfill_id="b", reason="done", left=0)
    ]
    assert (history.line.fired, history.line.through) == (0, at(hour(11)))
    assert history.line.next_due == at(hour(12))


def test_the_concurrency_of_the_schedule_bounds_it():
    history = begun(concurrency=2)
    assert history.backfill(hour(11.6), hour(1), hour(5))[1:] == [again(1), again(2)]


def test_what_runs_already_goes_first():
    history = begun()
    history.trigger(hour(11.5), "k")
    assert len(history.backfill(hour(11.6), hour(1), hour(5))) == 1
    assert finish(history, hour(11.7))[1:] == [again(1)]


def test_a_run_of_a_backfill_is_in_the_way_of_the_calendar():
    history = begun()
    history.backfill(hour(11.6), hour(1), hour(1))
    assert history.settle(hour(12)) == [like(ExecutionSkipped, reason="overlap")]


def test_all_at_once_within_the_concurrency_if_it_is_told():
    history = begun()
    assert len(history.backfill(hour(11.6), hour(1), hour(9), "allow")) == 10
    for run in history.live:
        assert history.line.may_start(run)
        history.start(hour(11.6), run)
    history = begun(concurrency=2)
    history.backfill(hour(11.6), hour(1), hour(9), "allow")
    first, second, third, *_ = history.live
    history.start(hour(11.6), first)
    history.start(hour(11.6), second)
    assert not history.line.may_start(third)


def test_under_skip_what_finds_a_run_unfinished_is_passed_over():
    history = begun()
    assert history.backfill(hour(11.6), hour(1), hour(9), "skip") == [
        like(ScheduleBackfillStarted),
        again(1),
        like(
            OccurrencesDecided, decision="skipped", reason="overlap", first=at(hour(2)),
            last=at(hour(9)), count=8, backfill_id="b", blocked_by=history.run.id,
        ),
    ]  # fmt: skip
    assert history.line.through == at(hour(11))
    assert finish(history, hour(11.7))[-1] == like(ScheduleBackfillCompleted, left=0)


def test_a_long_backfill_goes_on_in_further_decisions():
    history = History(trigger={"type": "interval", "every": "1s"}, catch_up={"window": 0})
    history.settle(500)
    history.backfill(500, 1, 300, "allow")
    assert len(history.live) == BATCH + 1
    assert history.line.wake is not None
    assert history.line.wake < at(500)
    history.settle(500)
    history.settle(500)
    assert len(history.live) == 301
    assert history.line.backfills["b"].left == 0


def test_another_backfill_runs_the_window_again_the_same_one_does_not():
    history = begun(overlap="allow")
    one = history.backfill(hour(11.6), hour(1), hour(2), "allow")
    assert history.backfill(hour(11.6), hour(1), hour(2), "allow") == []
    other = history.backfill(hour(11.6), hour(1), hour(2), "allow", "c")
    ids = {event.execution_id for event in [*one[1:], *other[1:]]}
    assert len(ids) == 4


def test_one_that_goes_on_leaves_the_others_as_they_are():
    history = begun()
    history.backfill(hour(11.6), hour(1), hour(3))
    history.backfill(hour(11.6), hour(5), hour(6), id_="c")
    finish(history, hour(11.7))
    assert {name: each.left for name, each in history.line.backfills.items()} == {"b": 1, "c": 2}
    finish(history, hour(11.8))
    finish(history, hour(11.9))
    assert {name: each.left for name, each in history.line.backfills.items()} == {"c": 1}


def test_it_goes_on_by_the_definition_it_began_with():
    history = begun()
    history.backfill(hour(11.6), hour(1), hour(3))
    history.update(hour(11.6), trigger={"type": "interval", "every": "7m"})
    assert finish(history, hour(11.7))[1:] == [again(2, revision=1)]


def test_a_pause_holds_it_and_a_cancel_ends_it():
    history = begun()
    history.backfill(hour(11.6), hour(1), hour(3))
    assert history.pause(hour(11.6)) == [like(SchedulePaused)]
    assert len(finish(history, hour(11.7))) == 1
    assert history.line.wake is None
    assert history.resume(hour(11.8)) == [like(ScheduleResumed), again(2)]
    events = history.cancel(hour(11.9))
    assert events[:2] == [
        like(ScheduleBackfillCompleted, reason="cancelled", left=1),
        like(ScheduleCancelled),
    ]
    assert history.line.settled


def test_it_goes_on_when_the_calendar_has_ended():
    history = begun(end_at="2026-01-05T12:00:00Z", overlap="allow")
    history.backfill(hour(11.6), hour(1), hour(2))
    events = history.settle(hour(12))
    assert events[-1] == like(ScheduleCompleted, reason="end_at")
    while history.live:
        events = finish(history, hour(12.1))
    assert events[-1] == like(ScheduleBackfillCompleted, reason="done")
    assert history.line.settled


def test_a_schedule_made_again_replaces_it():
    history = begun(end_at="2026-01-05T12:00:00Z", overlap="allow")
    history.backfill(hour(11.6), hour(1), hour(9))
    history.settle(hour(12))
    events = history.command(create(hour(13), trigger=HOURLY, overlap="allow"))
    assert events == [
        like(ScheduleBackfillCompleted, reason="replaced"), like(ScheduleCreated)
    ]  # fmt: skip
    assert history.line.backfills == {}


def test_a_quarantine_ends_it():
    history = begun()
    history.backfill(hour(11.6), hour(1), hour(9))
    event = ScheduleQuarantined(at=at(hour(11.7)), schedule_id="job", reason="no zone")
    history.do(lambda decision: decision.add(event))
    assert history.line.backfills == {}


@pytest.mark.parametrize(
    ("first", "last", "field", "value"),
    [
        (1, 12, "to", "2026-01-05T12:00:00Z"),
        (5, 4, "from", "2026-01-05T05:00:00Z"),
        (1.2, 1.4, "from", None),
    ],
)
def test_a_window_that_is_none_is_refused(first, last, field, value):
    history = begun()
    with pytest.raises(InvalidField) as caught:
        history.backfill(hour(11.6), hour(first), hour(last))
    assert (caught.value.field, caught.value.value) == (field, value)


def test_a_window_of_too_many_is_refused(monkeypatch):
    monkeypatch.setattr(backfilling, "MAX_COUNT", 3)
    history = begun()
    history.backfill(hour(11.6), hour(1), hour(3))
    with pytest.raises(InvalidField) as caught:
        history.backfill(hour(11.6), hour(1), hour(4), id_="c")
    assert (caught.value.field, caught.value.details) == ("from", {"limit": 3})


def test_bounds_of_backfills():
    assert (backfilling.MAX_COUNT, backfilling.MAX_BACKFILLS, BATCH) == (100_000, 10, 100)


def test_a_window_may_end_now_and_an_occurrence_at_either_end_is_in_it():
    history = begun(overlap="allow")
    started, *runs = history.backfill(hour(11), hour(9), hour(11), "allow")
    assert started == like(
        ScheduleBackfillStarted, start=at(hour(9)) - TICK, first=at(hour(9)), last=at(hour(11)),
        count=3, anchor=at(0), revision=1, schedule_id="job", tenant="default", at=at(hour(11)),
    )  # fmt: skip
    assert runs == [again(each, unbounded=True) for each in (9, 10, 11)]
    assert history.line.backfills["b"] == Backfill(
        at(hour(11)), at(hour(11)), Order.ALLOW, 3, 1, at(0), 3
    )


def test_what_has_ended_is_not_backfilled_and_only_so_many_go_on():
    history = begun()
    for number in range(backfilling.MAX_BACKFILLS):
        history.backfill(hour(11.6), hour(1), hour(3), id_=str(number))
    with pytest.raises(TooManyRequests) as caught:
        history.backfill(hour(11.6), hour(1), hour(3), id_="more")
    assert caught.value.details == {"limit": 10}
    history.cancel(hour(11.7))
    with pytest.raises(IllegalState):
        history.backfill(hour(11.8), hour(1), hour(3))
