"""What happens to occurrences behind unfinished runs: buffers, supersession, lanes, release."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from histories import History, at, cause, create, definition, like, said

from horae_domain import overlap
from horae_domain.decision import Decision
from horae_domain.errors import ExecutionNotFound, IllegalState
from horae_domain.events import (
    AttemptFailed,
    CancellationRequested,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionDropped,
    ExecutionReleased,
    ExecutionReprioritised,
    ExecutionRequested,
    ExecutionSkipped,
    ExecutionSucceeded,
    OccurrencesDecided,
    ReportRefused,
    ScheduleCancelled,
    ScheduleCompleted,
    SchedulePaused,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.execution import Status
from horae_domain.lanes import lane_of
from horae_domain.ledger import BUFFER, SINGLE_SKIPS, Packed, fresh, live_ids, pack, unpack

SECONDLY = {"type": "interval", "every": "1s"}
MANUAL = {"type": "manual"}
UNBOUNDED = {"start_to_close": None}
BUFFERING = ["buffer_one", "buffer_all"]


def fired(seconds: float, **values):
    return like(ExecutionRequested, due=at(seconds), **values)


def buffered(seconds: float, **values):
    return like(ExecutionBuffered, due=at(seconds), **values)


def skipped(seconds: float, reason: str, **values):
    return like(ExecutionSkipped, due=at(seconds), reason=reason, **values)


def released(run, **values):
    return like(ExecutionReleased, execution_id=run.id, **values)


def dropped(run, reason: str):
    return like(ExecutionDropped, execution_id=run.id, reason=reason)


def running(policy: str, **told: Any) -> History:
    """A schedule of every minute whose first occurrence has run since second 60."""
    history = History(overlap=policy, **({"timeout": UNBOUNDED} | told))
    history.settle(60)
    history.start(60)
    return history


def by_hand(policy: str, keys: str, **told: Any) -> History:
    """A manual schedule: the first key runs, the others came a second apart after it."""
    history = History(trigger=MANUAL, overlap=policy, **({"timeout": UNBOUNDED} | told))
    for second, key in enumerate(keys, start=1):
        history.trigger(second, key)
        if second == 1:
            history.start(1)
    return history


def names(runs) -> str:
    return "".join(run.nominal for run in runs)


# --- buffer one ----------------------------------------------------------------------------------


def test_first_blocked_occurrence_is_buffered_with_all_that_it_needs():
    history = running("buffer_one", tenant="acme", queue="slow", priority="high")
    blocker = history.run
    (event,) = history.settle(120)
    assert event == ExecutionBuffered(
        at=at(120),
        tenant="acme",
        schedule_id="job",
        execution_id=event.execution_id,
        kind="interval",
        due=at(120),
        nominal="2026-01-05T00:02:00Z",
        revision=1,
        priority="high",
        queue="slow",
        blocked_by=blocker.id,
        next_due=at(180),
    )
    (waiting,) = history.parked
    assert waiting.status is Status.BUFFERED
    assert not waiting.ready(at(9999))
    assert (history.line.through, history.line.fired) == (at(120), 1)


def test_buffer_of_one_skips_what_comes_while_it_is_full():
    history = running("buffer_one")
    blocker = history.run
    history.settle(120)
    assert history.settle(180) == [skipped(180, "buffer_full", blocked_by=blocker.id)]
    assert len(history.parked) == 1


def test_buffered_occurrence_is_released_in_the_commit_of_the_outcome():
    history = running("buffer_one")
    history.settle(120)
    (waiting,) = history.parked
    assert history.report(150, said()) == [
        like(ExecutionSucceeded),
        released(waiting, at=at(150), run_number=2, next_due=at(180)),
    ]
    assert history.parked == []
    assert history.run.status is Status.PENDING
    assert (history.run.run_number, history.line.fired) == (2, 2)
    assert history.settle(180) == [buffered(180, blocked_by=waiting.id)]


# --- buffer all ----------------------------------------------------------------------------------


def test_buffer_keeps_the_order_in_which_occurrences_came():
    history = by_hand("buffer_all", "abcd")
    assert names(history.parked) == "bcd"
    order = ""
    for second in range(10, 16, 2):
        order += names([history.run])
        history.report(second, said())
        history.start(second + 1)
    assert order + names([history.run]) == "abcd"


def test_catch_up_of_all_is_buffered_in_order():
    history = History(catch_up={"mode": "all"}, overlap="buffer_all")
    assert history.settle(240) == [fired(60), buffered(120), buffered(180), buffered(240)]


def full(**told: Any) -> History:
    """Every second, one run since second 1, and a full buffer."""
    history = History(
        trigger=SECONDLY,
        overlap="buffer_all",
        timeout=UNBOUNDED,
        catch_up={"mode": "all", "window": "1h"},
        **told,
    )
    history.settle(1)
    history.start(1)
    decision = Decision(history.line)
    for second in range(2, 2 + BUFFER):
        occurrence = overlap.Occurrence(at(second), f"n{second}")
        overlap.admit(decision, "interval", occurrence, cause(second))
    history._line = decision.line
    history.events += decision.events
    return history


@pytest.mark.no_cover  # tracing would take as long again; examples cover the lines
def test_full_buffer_skips_one_by_one_and_then_sleeps_until_room_is_made():
    history = full()
    assert len(history.parked) == BUFFER
    for second in range(BUFFER + 2, BUFFER + 2 + SINGLE_SKIPS):
        assert history.line.wake == at(second)
        assert history.settle(second) == [skipped(second, "buffer_full")]
    assert history.line.wake is None
    first = history.parked[0]
    assert history.report(BUFFER + 100, said()) == [
        like(OccurrencesDecided, reason="buffer_full", count=89, first=at(BUFFER + 12)),
        like(ExecutionSucceeded),
        released(first),
    ]
    assert history.settle(BUFFER + 101) == [buffered(BUFFER + 101)]


@pytest.mark.no_cover  # tracing would take as long again; examples cover the lines
def test_skips_at_a_full_buffer_in_one_decision_turn_into_a_range():
    history = full()
    events = history.settle(BUFFER + 51)
    assert events[:SINGLE_SKIPS] == [
        skipped(second, "buffer_full") for second in range(BUFFER + 2, BUFFER + 12)
    ]
    assert events[SINGLE_SKIPS:] == [like(OccurrencesDecided, reason="buffer_full", count=40)]


# --- terminate other -----------------------------------------------------------------------------


def test_newer_occurrence_terminates_the_others_in_its_own_commit():
    history = running("terminate_other")
    former = history.run
    assert history.settle(120) == [
        like(ExecutionCancelled, execution_id=former.id, reason="terminated_by_overlap"),
        fired(120, run_number=2),
    ]
    assert history.run.due == at(120)


def test_nobody_is_terminated_while_there_is_room():
    history = running("terminate_other", concurrency=2)
    assert history.settle(120) == [fired(120)]
    cancelled = like(ExecutionCancelled, reason="terminated_by_overlap")
    assert history.settle(180) == [cancelled, cancelled, fired(180)]


def test_cooldown_saves_the_other():
    history = running("terminate_other", cooldown="90s")
    assert history.settle(120) == [skipped(120, "cooldown", blocked_by=None)]
    assert history.settle(180) == [like(ExecutionCancelled), fired(180)]


# --- cancel other --------------------------------------------------------------------------------


def test_newer_occurrence_asks_the_running_one_to_stop_and_waits_for_it():
    history = running("cancel_other")
    former = history.run
    assert history.settle(120) == [
        like(
            CancellationRequested,
            execution_id=former.id,
            reason="cancelled_by_overlap",
            deadline=at(150),
        ),
        buffered(120, blocked_by=former.id),
    ]
    (waiting,) = history.parked
    assert history.report(125, said("failed")) == [
        like(AttemptFailed, retry_at=None),
        like(ExecutionCancelled, reason="cancelled_by_overlap"),
        released(waiting),
    ]


def test_what_does_not_stop_in_time_is_cancelled_and_the_newer_one_released():
    history = running("cancel_other")
    history.settle(120)
    (waiting,) = history.parked
    assert history.line.wake == at(150)
    assert history.settle(150) == [like(ExecutionCancelled), released(waiting, at=at(150))]


def test_what_does_not_run_yet_is_cancelled_and_the_newer_one_fires_at_once():
    history = History(overlap="cancel_other")
    history.settle(60)
    assert history.settle(120) == [
        like(ExecutionCancelled, reason="cancelled_by_overlap"),
        fired(120),
    ]


def test_newer_occurrence_supersedes_the_buffered_one_and_asks_only_once():
    history = by_hand("cancel_other", "ab")
    (older,) = history.parked
    assert history.trigger(3, "c") == [dropped(older, "superseded"), buffered(3, nominal="c")]
    assert history.line.fired == 0
    history.report(4, said())
    assert names(history.live) == "c"


def test_terminating_supersedes_what_an_earlier_policy_buffered():
    history = by_hand("buffer_all", "ab")
    (older,) = history.parked
    history.update(3, trigger=MANUAL, overlap="terminate_other")
    assert history.trigger(4, "c") == [
        like(ExecutionCancelled),
        dropped(older, "superseded"),
        fired(4, nominal="c"),
    ]


# --- by hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [*BUFFERING, "cancel_other"])
def test_buffered_trigger_keeps_its_payload(policy):
    history = running(policy, payload={"n": 0})
    (*_, event) = history.trigger(70, "k", {"n": 1})
    assert event == buffered(70, kind="key", payload={"n": 1}, overridden=True, next_due=None)
    assert (history.line.through, history.line.next_due) == (at(60), at(120))
    history.report(80, said())
    assert (history.run.payload, history.run.overridden) == ({"n": 1}, True)
    assert (history.run.run_number, history.line.fired, history.line.next_due) == (None, 1, at(120))


def test_buffered_key_asked_again_is_the_same_execution():
    history = by_hand("buffer_all", "ab")
    assert history.trigger(9, "b") == []


@pytest.mark.parametrize("policy", BUFFERING)
def test_triggers_obey_the_bounds_of_the_buffer(policy):
    history = by_hand(policy, "abc")
    assert names(history.parked) == {"buffer_one": "b", "buffer_all": "bc"}[policy]


# --- who makes room ------------------------------------------------------------------------------


def last_try(history: History) -> Any:
    return history.report(200, said("failed", final=True))


def time_out(history: History) -> Any:
    return history.settle(360)


def lose(history: History) -> Any:
    return history.recover(200, "engine-2")


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda history: history.report(200, said()), {}),
        (last_try, {}),
        (lambda history: history.cancel_run(200), {}),
        (time_out, {"timeout": {"start_to_close": "5m"}, "retry": {"max_attempts": 1}}),
        (lose, {"retry": {"max_attempts": 1}}),
    ],
    ids=["success", "failure", "cancel", "timeout", "loss"],
)
def test_whatever_ends_the_run_releases_in_the_same_commit(
    act: Callable[[History], Any], told: dict[str, Any]
):
    history = running("buffer_all", catch_up={"mode": "all"}, **told)
    history.settle(120)
    (waiting,) = history.parked
    assert released(waiting) in act(history)


def test_retry_keeps_what_is_buffered_waiting():
    history = running("buffer_all", retry={"delay": "10s"})
    history.settle(120)
    history.report(130, said("failed"))
    assert history.run.status is Status.DELAYED
    assert len(history.parked) == 1
    assert history.line.wake == history.run.resume_at
    assert not history.line.unsettled


def test_more_concurrency_releases_as_many_as_there_is_room_for():
    history = by_hand("buffer_all", "abcd")
    first, second, _ = history.parked
    assert history.update(9, trigger=MANUAL, overlap="buffer_all", concurrency=3) == [
        like(ScheduleUpdated),
        released(first),
        released(second),
    ]
    assert all(history.line.may_start(run) for run in history.live)
    assert names(history.parked) == "d"


def test_policy_without_a_limit_releases_all():
    history = by_hand("buffer_all", "abcd")
    history.update(9, trigger=MANUAL, overlap="allow")
    assert (names(history.live), history.parked) == ("abcd", [])


def test_cancelled_occurrence_leaves_the_buffer():
    history = running("buffer_one")
    history.settle(120)
    (waiting,) = history.parked
    assert history.cancel_run(130, waiting) == [like(ExecutionCancelled, reason="enough")]
    assert history.settle(180) == [buffered(180)]


def test_nobody_has_a_lease_of_what_is_buffered():
    history = by_hand("buffer_all", "ab")
    (waiting,) = history.parked
    assert history.report(5, said(lease="0.0"), waiting) == [like(ReportRefused)]
    with pytest.raises(IllegalState):
        history.do(lambda decision: take(decision, waiting.id))
    assert history.parked[0].status is Status.BUFFERED


def take(decision: Decision, id_: str) -> None:
    from horae_domain import decider

    decider.take(decision, id_, "far", None, cause(6))


# --- pause, cooldown, ends -----------------------------------------------------------------------


def test_pause_holds_what_is_buffered_and_resume_releases_it():
    history = running("buffer_all")
    history.settle(120)
    (waiting,) = history.parked
    assert history.pause(130) == [like(SchedulePaused)]
    assert history.report(140, said()) == [like(ExecutionSucceeded)]
    assert history.line.wake is None
    assert not history.line.unsettled
    assert history.resume(150) == [like(ScheduleResumed), released(waiting)]


def test_pause_holds_what_people_triggered_as_well():
    history = by_hand("buffer_all", "ab")
    history.pause(3)
    history.report(4, said())
    assert names(history.parked) == "b"
    history.resume(5)
    assert names(history.live) == "b"


def test_trigger_with_a_free_way_runs_though_others_are_held():
    history = by_hand("buffer_all", "ab")
    history.pause(3)
    history.report(4, said())
    assert history.trigger(5, "c") == [fired(5, nominal="c")]


def test_cooldown_of_a_result_delays_the_release():
    history = running("buffer_all", catch_up={"mode": "all"})
    history.settle(120)
    (waiting,) = history.parked
    history.report(150, said(cooldown=timedelta(seconds=20)))
    assert history.line.wake == at(170)
    assert history.settle(169.9) == []
    assert history.settle(170) == [released(waiting)]


def test_released_occurrence_begins_the_cooldown_of_the_schedule():
    history = running("buffer_all", cooldown="50s")
    history.settle(120)
    history.report(130, said())
    assert history.line.cooldown_until == at(180)


def test_releases_of_one_schedule_are_a_cooldown_apart():
    history = running("buffer_all", cooldown="10s", catch_up={"mode": "all"})
    for minute in (2, 3, 4):
        history.settle(60 * minute)
    first, second, third = history.parked
    assert history.update(241, overlap="allow", cooldown="10s")[1:] == [released(first)]
    assert history.settle(251) == [released(second)]
    assert history.settle(260.9) == []
    assert history.settle(261) == [released(third)]


def test_trigger_that_is_buffered_ignores_the_cooldown():
    history = by_hand("buffer_all", "ab")
    history.report(5, said(cooldown=timedelta(hours=1)))
    assert names(history.live) == "b"
    assert history.line.wake is None


def test_cooldown_does_not_wake_what_the_way_is_not_free_for():
    history = running("buffer_all", cooldown="10s")
    history.settle(120)
    assert history.line.cooldown_until == at(70)
    assert history.line.wake == at(180)


def test_occurrence_within_the_cooldown_is_not_buffered():
    history = running("buffer_all", cooldown="90s")
    assert history.settle(120) == [skipped(120, "cooldown")]


def test_cancelled_schedule_drops_what_is_buffered():
    history = running("buffer_all")
    history.settle(120)
    (waiting,) = history.parked
    assert history.cancel(130) == [like(ScheduleCancelled), dropped(waiting, "schedule_cancelled")]
    assert not history.line.settled
    history.report(140, said())
    assert history.line.settled


def test_limit_counts_what_is_released_and_drops_the_rest():
    history = running("buffer_all", max_executions=2)
    history.settle(120)
    history.settle(180)
    history.trigger(190, "k")
    second, third, by_key = history.parked
    assert history.report(200, said()) == [
        like(ExecutionSucceeded),
        released(second, run_number=2, next_due=None),
        dropped(third, "max_executions"),
    ]
    assert history.parked == [by_key]
    assert history.line.next_due is None
    history.start(210)
    assert history.report(220, said()) == [
        like(ExecutionSucceeded),
        released(by_key, run_number=None),
        like(ScheduleCompleted, reason="max_executions"),
    ]


def test_limit_holds_though_there_is_room_for_more():
    told = {"overlap": "buffer_all", "max_executions": 2, "timeout": UNBOUNDED}
    history = History(**told)
    history.settle(60)
    history.settle(120)
    history.settle(180)
    second, third = history.parked
    assert history.update(190, **told, concurrency=3) == [
        like(ScheduleUpdated),
        released(second, run_number=2, next_due=None),
        dropped(third, "max_executions"),
        like(ScheduleCompleted, reason="max_executions"),
    ]


def test_schedule_kept_open_by_a_trigger_fires_no_more_after_a_pause_or_an_edit():
    told = {"overlap": "buffer_all", "max_executions": 1, "timeout": UNBOUNDED}
    history = History(**told)
    history.trigger(10, "a")
    history.start(10)
    history.trigger(20, "b")
    history.settle(60)
    history.reprioritize(61, "critical", history.parked[-1])
    history.report(62, said())
    history.start(62)
    assert names(history.parked) == "b"
    history.pause(100)
    history.resume(110)
    assert history.line.next_due is None
    history.update(115, **told, tags=["x"])
    assert history.line.next_due is None
    assert history.settle(600) == []
    assert history.report(601, said())[-1] == like(ScheduleCompleted, reason="max_executions")


def test_schedule_does_not_complete_before_its_last_occurrence_is_released():
    history = History(trigger={"type": "once", "at": at(60)}, overlap="buffer_one")
    history.trigger(10, "k")
    history.start(10)
    (waiting,) = history.settle(60) and history.parked
    assert not history.line.schedule.status.ended
    assert history.report(70, said()) == [
        like(ExecutionSucceeded),
        released(waiting, next_due=None),
        like(ScheduleCompleted, reason="exhausted"),
    ]


def test_schedule_completes_when_its_last_occurrence_is_cancelled():
    history = History(trigger={"type": "once", "at": at(60)}, overlap="buffer_one")
    history.trigger(10, "k")
    history.start(10)
    (waiting,) = history.settle(60) and history.parked
    assert history.cancel_run(70, waiting) == [
        like(ExecutionCancelled),
        like(ScheduleCompleted, reason="exhausted"),
    ]


def test_limit_lowered_while_paused_drops_what_is_buffered_when_it_is_resumed():
    history = running("buffer_all")
    history.settle(120)
    (waiting,) = history.parked
    history.pause(130)
    history.update(140, overlap="buffer_all", max_executions=1, timeout=UNBOUNDED)
    assert history.resume(150) == [
        like(ScheduleResumed),
        dropped(waiting, "max_executions"),
        like(ScheduleCompleted),
    ]


def test_released_occurrence_runs_by_the_revision_that_buffered_it():
    history = running("buffer_all", payload={"n": 1})
    history.settle(120)
    history.update(130, overlap="buffer_all", payload={"n": 2}, timeout=UNBOUNDED)
    history.report(140, said())
    assert history.run.revision == 1
    assert history.line.definition_of(history.run).payload == {"n": 1}


# --- lanes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "lane"),
    [
        ({"customer": {"id": 7}}, b"7"),
        ({"customer": {"id": "7"}}, b'"7"'),
        ({"customer": {"id": None}}, b"null"),
        ({"customer": {"id": {"b": 1, "a": 2}}}, b'{"a":2,"b":1}'),
        ({"customer": {}}, b""),
        ({"customer": [7]}, b""),
        (None, b""),
    ],
)
def test_lane_is_the_value_at_the_path(payload, lane):
    assert lane_of(definition(concurrency_key="customer.id"), payload) == lane


def test_without_a_key_all_count_together():
    assert lane_of(definition(), {"customer": {"id": 7}}) is None


def customers(policy: str, *ids: Any, **told: Any) -> History:
    """Triggers of some customers, a second apart; the first of each runs."""
    history = History(
        trigger=MANUAL, overlap=policy, concurrency_key="customer", timeout=UNBOUNDED, **told
    )
    for second, id_ in enumerate(ids, start=1):
        payload = {"customer": id_} if id_ is not None else {"other": 1}
        history.trigger(second, f"{second}", payload)
        for run in history.live:
            if run.status is Status.PENDING and history.line.may_start(run):
                history.start(second, run)
    return history


@pytest.mark.parametrize(
    ("policy", "live", "parked"),
    [
        ("skip", "125", ""),
        ("buffer_one", "125", "3"),
        ("buffer_all", "125", "34"),
        ("cancel_other", "125", "4"),
        ("terminate_other", "245", ""),
        ("allow", "12345", ""),
    ],
)
def test_concurrency_counts_for_each_value_of_the_key(policy, live, parked):
    history = customers(policy, "a", "b", "a", "a", None)
    assert (names(history.live), names(history.parked)) == (live, parked)


def test_only_the_same_lane_makes_room():
    history = customers("buffer_all", "a", "b", "a", "b")
    assert names(history.live) == "12"
    _, of_b = history.live
    history.report(10, said(), of_b)
    assert (names(history.live), names(history.parked)) == ("14", "3")


def test_only_the_same_lane_is_terminated():
    history = customers("terminate_other", "a", "b", "a")
    assert names(history.live) == "23"


def test_only_the_same_lane_is_superseded():
    history = customers("cancel_other", "a", "b", "a", "b", "a")
    assert (names(history.live), names(history.parked)) == ("12", "45")


def test_each_lane_has_a_buffer_of_one():
    history = customers("buffer_one", "a", "b", "a", "b", "a", "b")
    assert (names(history.live), names(history.parked)) == ("12", "34")


def test_payloads_without_the_value_are_a_lane_of_their_own():
    history = customers("skip", "a", None, None)
    assert names(history.live) == "12"


def test_calendar_counts_by_the_payload_of_the_schedule():
    told = {"concurrency_key": "customer", "payload": {"customer": "a"}}
    history = History(overlap="skip", timeout=UNBOUNDED, **told)
    history.trigger(1, "1", {"customer": "b"})
    assert history.settle(60) == [fired(60)]
    assert history.settle(120) == [skipped(120, "overlap", blocked_by=history.live[1].id)]


def test_under_allow_as_many_run_of_each_lane_as_the_concurrency_says():
    history = customers("allow", "a", "a", "b", "b", concurrency=1)
    assert [run.status for run in history.live] == ["running", "pending", "running", "pending"]


def test_cooldown_wakes_for_a_lane_with_a_free_way_only():
    told = {"concurrency_key": "customer", "payload": {"customer": "a"}, "timeout": UNBOUNDED}
    history = History(overlap="buffer_all", **told)
    history.trigger(1, "1", {"customer": "a"})
    history.start(1)
    history.settle(60)
    history.trigger(61, "2", {"customer": "b"})
    history.start(61, history.live[1])
    history.report(62, said(cooldown=timedelta(seconds=30)), history.live[1])
    assert history.line.wake == at(120)
    history.report(63, said())
    assert history.line.wake == at(92)
    assert history.settle(92) == [like(ExecutionReleased)]


# --- priority ------------------------------------------------------------------------------------


def test_more_urgent_is_released_first():
    history = by_hand("buffer_all", "abcd")
    last = history.parked[-1]
    (event,) = history.reprioritize(5, "critical", last)
    assert event == like(ExecutionReprioritised, execution_id=last.id, priority="critical")
    history.report(6, said())
    assert names(history.live) == "d"


def test_between_equals_the_more_urgent_goes_first():
    """Who has waited two minutes longer is as urgent as who is two steps above."""
    history = by_hand("buffer_all", "ab")
    history.trigger(122, "c")
    history.reprioritize(123, "critical", history.parked[-1])
    history.report(124, said())
    assert names(history.live) == "c"


def test_less_urgent_that_has_waited_long_is_not_starved():
    history = by_hand("buffer_all", "ab")
    history.trigger(123, "c")
    history.reprioritize(124, "critical", history.parked[-1])
    history.report(125, said())
    assert names(history.live) == "b"


@pytest.mark.parametrize("status", ["pending", "delayed", "buffered"])
def test_what_waits_can_be_reprioritised(status):
    history = by_hand("buffer_all", "ab", retry={"delay": "1m"})
    run = history.parked[0] if status == "buffered" else history.live[0]
    if status == "delayed":
        history.report(5, said("failed"))
    if status == "pending":
        history.report(5, said())
        run = history.live[0]
    assert history.line.find(run.id).status == status
    history.reprioritize(6, "low", run)
    assert history.line.find(run.id).priority == "low"
    assert history.reprioritize(7, "low", run) == []


def test_what_runs_or_has_ended_cannot_be_reprioritised():
    history = by_hand("skip", "a")
    run = history.run
    with pytest.raises(IllegalState) as caught:
        history.reprioritize(5, "low", run)
    assert (caught.value.field, caught.value.details) == ("id", {"state": "running"})
    history.report(6, said())
    with pytest.raises(ExecutionNotFound):
        history.reprioritize(7, "low", run)


def test_reprioritising_decides_first_what_was_due():
    history = running("buffer_all")
    history.settle(120)
    events = history.reprioritize(180, "high", history.parked[0])
    assert events == [buffered(180), like(ExecutionReprioritised)]


# --- the stored form -----------------------------------------------------------------------------


def test_line_stored_before_there_were_buffers_can_be_read():
    history = by_hand("skip", "a")
    line = history.line
    old = line_bytes(Packed(line.through, line.next_due, 0, 0, 0, None, list(line.live)))
    assert unpack(old, line.schedule, line.live) == line


def line_bytes(packed: Packed) -> bytes:
    """Without the fields that came later."""
    return msgspec.msgpack.encode(msgspec.to_builtins(packed)[:7])


def test_stored_line_names_all_whose_events_it_needs():
    history = by_hand("buffer_all", "abc")
    assert len(live_ids(pack(history.line))) == 3
    assert live_ids(pack(fresh(history.line.schedule))) == []


def test_schedule_made_again_begins_with_an_empty_buffer():
    history = by_hand("buffer_all", "ab")
    history.cancel(3)
    history.command(create(4, trigger=MANUAL, overlap="buffer_all"))
    assert (names(history.live), history.parked) == ("a", [])


def test_trigger_that_is_skipped_does_not_begin_the_count_of_skips_anew():
    history = History()
    for minute in range(1, 12):
        history.settle(60 * minute)
    assert history.line.skips == 10
    history.trigger(661, "k")
    assert history.line.skips == 10
    assert history.line.waits_for_run


def test_what_is_released_has_its_whole_time_from_then_on():
    history = running("buffer_one", timeout={"schedule_to_start": "30s", "overall": "1h"})
    history.settle(120)
    (waiting,) = history.parked
    told = history.report(150, said(), history.live[0])
    assert released(waiting, start_by=at(180), end_by=at(150 + 3600)) in told
