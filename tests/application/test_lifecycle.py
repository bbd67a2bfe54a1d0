"""Timeouts, heartbeats, graceful stops and retries by hand, through an engine on a moved clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stepping import Clock, Recorder, RecordingBus, Stepped, number

from horae_application.messages import Reply
from horae_application.work import Work
from horae_domain.events import (
    AttemptFailed,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionRequeued,
    ExecutionSucceeded,
    ExecutionTimedOut,
)

Make = Callable[..., Stepped]

STEADY: dict[str, Any] = {"delay": "10 seconds", "jitter": 0}
BOOM = {"type": "Boom", "message": "no"}
QUEUE = {"type": "queue", "queue": "far"}


@pytest.fixture
def idle(kept: Any, clock: Clock) -> Stepped:
    """An engine whose executor has no slot; work of queues goes to a bus."""
    stepped = Stepped(kept.store, clock, executor=Recorder(slots=0), bus=RecordingBus())
    stepped.settle()
    return stepped


def beat(desk: Stepped, work: Work, **told: Any) -> Reply:
    body = {"execution_id": work.execution_id, "lease": work.lease, **told}
    return desk.ask("execution.heartbeat", body)


def taken(desk: Stepped, **told: Any) -> Work:
    """Work of a queue that a worker elsewhere has begun."""
    desk.manual(action=QUEUE, **told)
    id_ = desk.trigger()
    assert desk.bus is not None
    work = desk.bus.outstanding[id_]
    reply = desk.ask("execution.start", {"execution_id": id_, "lease": work.lease})
    assert reply.ok, reply
    return work


# --- timeouts ------------------------------------------------------------------------------------


def test_what_nobody_starts_in_time_has_timed_out(idle: Stepped) -> None:
    idle.manual(timeout={"schedule_to_start": "30 seconds"})
    idle.trigger()
    idle.advance(29)
    assert idle.events(ExecutionTimedOut) == []
    idle.advance(1)
    assert [event.attempt for event in idle.events(ExecutionTimedOut)] == [0]
    idle.executor.slots = 1
    idle.advance(60)
    assert idle.executor.started == []


def test_retries_end_with_the_whole(desk: Stepped) -> None:
    desk.manual(timeout={"overall": "25 seconds"}, retry=STEADY | {"backoff": 1})
    desk.trigger()
    for turn in range(2):
        desk.report(desk.executor.started[turn], "failed", error=BOOM)
        desk.advance(10)
    running = desk.executor.started[2]
    desk.advance(4)
    assert desk.executor.stopped == []
    desk.advance(1)
    assert desk.executor.stopped == [(running.execution_id, running.lease)]
    (end,) = desk.events(ExecutionTimedOut)
    assert end.error["message"] == "not ended within overall"


def test_timeouts_that_pass_while_nobody_decides_are_recorded_by_the_next_owner(
    kept: Any, clock: Clock, restart: Make
) -> None:
    first = Stepped(kept.store, clock, executor=Recorder(slots=0))
    first.settle()
    first.manual(timeout={"schedule_to_start": "30 seconds"})
    first.trigger()
    clock.move(60)
    again = restart()
    again.settle()
    assert len(again.events(ExecutionTimedOut)) == 1
    assert again.executor.started == []


# --- heartbeats ----------------------------------------------------------------------------------


def test_silent_attempt_is_stopped_and_tried_again(desk: Stepped) -> None:
    desk.manual(timeout={"heartbeat": "20 seconds"}, retry=STEADY)
    desk.trigger()
    (work,) = desk.executor.started
    assert work.heartbeat == 20.0
    desk.advance(20)
    (failed,) = desk.events(AttemptFailed)
    assert (failed.outcome, failed.error["type"]) == ("timed_out", "HeartbeatTimeout")
    assert desk.executor.stopped == [(work.execution_id, work.lease)]
    desk.advance(10)
    assert [each.attempt for each in desk.executor.started] == [1, 2]


def test_heartbeats_put_the_timeout_off_and_write_nothing(desk: Stepped) -> None:
    desk.manual(timeout={"heartbeat": "20 seconds", "start_to_close": None})
    desk.trigger()
    (work,) = desk.executor.started
    events = len(desk.names())
    for _ in range(10):
        desk.advance(15)
        reply = beat(desk, work, progress={"done": 5})
        assert reply.ok
        assert (reply.body["cancel"], reply.body["execution_id"]) == (False, work.execution_id)
    assert len(desk.names()) == events
    assert reply.body["deadline"] == "2026-01-05T08:02:50Z"
    desk.advance(19.9)
    assert desk.events(AttemptFailed) == []
    desk.advance(0.1)
    assert len(desk.events(AttemptFailed)) == 1


def test_asking_alone_is_no_heartbeat(desk: Stepped) -> None:
    desk.manual(timeout={"heartbeat": "20 seconds"})
    desk.trigger()
    (work,) = desk.executor.started
    desk.advance(15)
    assert beat(desk, work, ask=True).body["deadline"] == "2026-01-05T08:00:20Z"
    desk.advance(5)
    assert len(desk.events(AttemptFailed)) == 1


def test_other_commands_know_of_heartbeats(desk: Stepped) -> None:
    """The line may be decided on before its owner was woken for the silence."""
    desk.manual(timeout={"heartbeat": "20 seconds"}, overlap="allow")
    desk.trigger()
    (work,) = desk.executor.started
    desk.clock.move(15)
    beat(desk, work)
    desk.clock.move(10)
    desk.trigger()
    assert desk.events(AttemptFailed) == []


@pytest.mark.parametrize("ended", [True, False])
def test_heartbeat_under_a_lease_that_is_over_is_stale(desk: Stepped, ended: bool) -> None:
    desk.manual(retry=STEADY)
    desk.trigger()
    (work,) = desk.executor.started
    desk.report(work, "succeeded" if ended else "failed")
    events = len(desk.names())
    reply = beat(desk, work)
    assert (reply.status, reply.body["error"]["code"]) == (409, "stale_lease")
    assert len(desk.names()) == events


def test_progress_is_bounded(desk: Stepped) -> None:
    desk.manual()
    desk.trigger()
    (work,) = desk.executor.started
    with pytest.raises(Exception, match="16 KiB") as caught:
        beat(desk, work, progress="x" * 20_000)
    assert caught.value.code == "payload_too_large"  # type: ignore[attr-defined]


def test_latest_progress_is_known_while_it_runs(desk: Stepped) -> None:
    desk.manual()
    id_ = desk.trigger()
    (work,) = desk.executor.started
    pulse = desk.engine.lines.pulse
    beat(desk, work, progress={"rows": 1})
    desk.advance(5)
    beat(desk, work, progress={"rows": 2})
    beat(desk, work)
    found = pulse.get(id_)
    assert found is not None
    assert (found.progress, found.told_at) == ({"rows": 2}, desk.clock.now())
    desk.report(work)
    assert pulse.get(id_) is None


def test_next_owner_waits_for_one_whole_timeout(kept: Any, clock: Clock, restart: Make) -> None:
    first = Stepped(kept.store, clock, bus=RecordingBus())
    first.settle()
    work = taken(first, timeout={"heartbeat": "20 seconds"})
    first.advance(15)
    beat(first, work)
    clock.move(100)
    again = restart(bus=RecordingBus())
    again.settle()
    assert again.events(AttemptFailed) == []
    again.advance(19.9)
    assert again.events(AttemptFailed) == []
    assert beat(again, work).ok
    again.advance(19.9)
    assert again.events(AttemptFailed) == []
    again.advance(0.1)
    assert [event.error["type"] for event in again.events(AttemptFailed)] == ["HeartbeatTimeout"]


def test_attempt_elsewhere_without_any_bound_is_given_up_after_a_long_silence(
    idle: Stepped,
) -> None:
    work = taken(idle, timeout={"start_to_close": None}, retry=STEADY)
    idle.advance(299)
    assert beat(idle, work).body["deadline"] == "2026-01-05T08:09:59Z"
    idle.advance(299)
    assert idle.events(AttemptFailed) == []
    idle.advance(1)
    assert [event.error["type"] for event in idle.events(AttemptFailed)] == ["HeartbeatTimeout"]


def test_worker_elsewhere_is_told_how_often_it_must_be_heard_of(idle: Stepped) -> None:
    idle.manual(action=QUEUE, timeout={"start_to_close": None})
    id_ = idle.trigger()
    reply = idle.ask("execution.start", {"execution_id": id_})
    assert (reply.body["deadline"], reply.body["heartbeat"]) == (None, 300.0)


def test_silence_is_as_long_whatever_the_clock_is_set_to(desk: Stepped) -> None:
    desk.manual(timeout={"heartbeat": "20 seconds", "start_to_close": "10 hours"})
    desk.trigger()
    (work,) = desk.executor.started
    desk.advance(15)
    beat(desk, work)
    desk.clock.jump(3600)
    desk.settle()
    desk.advance(19.9)
    assert desk.events(AttemptFailed) == []
    desk.advance(0.2)
    assert len(desk.events(AttemptFailed)) == 1


# --- graceful stops ------------------------------------------------------------------------------


def stop(desk: Stepped, id_: str, **told: Any) -> Reply:
    return desk.ask("execution.cancel", {"id": id_, "mode": "graceful", **told})


def test_handler_is_asked_to_stop_and_its_result_counts(desk: Stepped) -> None:
    desk.manual()
    id_ = desk.trigger()
    (work,) = desk.executor.started
    reply = stop(desk, id_, reason="enough")
    assert (reply.body["status"], reply.body["stopping"]) == ("running", True)
    assert reply.body["until"] == "2026-01-05T08:00:30Z"
    assert desk.executor.asked == [(id_, "1.1")]
    assert desk.executor.stopped == []
    assert beat(desk, work).body["cancel"] is True
    desk.advance(29)
    assert desk.report(work, result="partial").body["status"] == "succeeded"
    assert len(desk.events(ExecutionSucceeded)) == 1
    assert desk.executor.stopped == []


def test_handler_that_does_not_stop_is_fenced_after_the_grace(desk: Stepped) -> None:
    desk.manual()
    id_ = desk.trigger()
    stop(desk, id_, grace="5 seconds")
    desk.advance(4.9)
    assert desk.executor.stopped == []
    desk.advance(0.1)
    assert desk.executor.stopped == [(id_, "1.1")]
    assert len(desk.events(ExecutionCancelled)) == 1


def test_handler_that_says_it_has_stopped_is_not_stopped_again(desk: Stepped) -> None:
    desk.manual()
    id_ = desk.trigger()
    (work,) = desk.executor.started
    stop(desk, id_, reason="enough")
    reply = desk.report(work, "cancelled")
    assert reply.body["status"] == "cancelled"
    assert desk.events(ExecutionCancelled)[0].reason == "enough"
    again = desk.report(work, "cancelled")
    assert again.body["status"] == "cancelled"
    assert desk.events(ExecutionCancelled)[1:] == []


def test_what_waits_is_cancelled_at_once_though_gracefully(idle: Stepped) -> None:
    idle.manual()
    id_ = idle.trigger()
    assert stop(idle, id_).body["status"] == "cancelled"


def test_stop_survives_another_owner(kept: Any, clock: Clock, restart: Make) -> None:
    first = Stepped(kept.store, clock, bus=RecordingBus())
    first.settle()
    work = taken(first)
    stop(first, work.execution_id)
    clock.move(10)
    again = restart(bus=RecordingBus())
    again.settle()
    assert beat(again, work).body["cancel"] is True
    again.advance(20)
    assert len(again.events(ExecutionCancelled)) == 1


# --- dead letters and retries by hand ------------------------------------------------------------


def dead(desk: Stepped, **told: Any) -> str:
    """An execution that has failed twice."""
    desk.manual(retry=STEADY | {"max_attempts": 2}, **told)
    id_ = desk.trigger(payload={"day": 1})
    desk.report(desk.executor.started[-1], "failed", error=BOOM)
    desk.advance(10)
    assert desk.report(desk.executor.started[-1], "failed", error=BOOM).body["status"] == "dead"
    assert len(desk.events(ExecutionDeadLettered)) == 1
    return id_


def test_dead_letter_is_tried_again(desk: Stepped) -> None:
    id_ = dead(desk)
    reply = desk.ask("execution.retry", {"id": id_})
    assert reply.ok
    assert (reply.body["status"], reply.body["attempt"]) == ("pending", 3)
    work = desk.executor.started[-1]
    assert (work.execution_id, work.attempt, work.lease) == (id_, 3, "3.1")
    assert work.payload == {"day": 1}
    assert desk.report(work).body["status"] == "succeeded"


def test_dead_letter_is_tried_again_by_an_owner_that_never_knew_it(
    desk: Stepped, restart: Make
) -> None:
    id_ = dead(desk)
    again = restart()
    again.settle()
    assert again.ask("execution.retry", {"id": id_}).ok
    (work,) = again.executor.started
    assert (work.attempt, work.payload) == (3, {"day": 1})
    third = restart(name="third")
    third.settle()
    assert [event.outcome for event in third.events(AttemptFailed)][-1] == "lost"
    (work,) = third.executor.started
    assert (work.attempt, work.payload) == (4, {"day": 1})
    assert third.report(work).ok


def test_retry_of_an_ended_schedule_runs_and_lets_it_rest_again(
    desk: Stepped, restart: Make
) -> None:
    desk.create(retry={"max_attempts": 1}, max_executions=1)
    desk.advance(60)
    (work,) = desk.executor.started
    desk.report(work, "failed", error=BOOM)
    again = restart()
    again.settle()
    assert again.ask("execution.retry", {"id": work.execution_id}).ok
    third = restart(name="third")
    third.settle()
    assert third.executor.started == []
    (failed,) = third.events(AttemptFailed)[1:]
    assert failed.outcome == "lost"
    assert third.runs() == []


def test_retry_of_a_retry_that_is_delayed_is_due_now(desk: Stepped) -> None:
    desk.manual(retry=STEADY)
    id_ = desk.trigger()
    desk.report(desk.executor.started[0], "failed", error=BOOM)
    assert desk.ask("execution.retry", {"id": id_}).body["status"] == "pending"
    assert [work.attempt for work in desk.executor.started] == [1, 2]
    (event,) = desk.events(ExecutionRequeued)
    assert event.failures == 1


def test_retry_under_a_key_is_done_once(desk: Stepped) -> None:
    id_ = dead(desk)
    first = desk.ask("execution.retry", {"id": id_}, key="k")
    desk.report(desk.executor.started[-1], "failed", error=BOOM | {"final": True})
    again = desk.ask("execution.retry", {"id": id_}, key="k")
    assert (again.body["attempt"], number(again)) == (first.body["attempt"], number(first))
    assert len(desk.events(ExecutionRequeued)) == 1


def test_what_has_succeeded_or_runs_is_not_tried_again(desk: Stepped) -> None:
    desk.manual()
    id_ = desk.trigger()
    running = desk.ask("execution.retry", {"id": id_})
    desk.report(desk.executor.started[0])
    done = desk.ask("execution.retry", {"id": id_})
    for reply, state in ((running, "running"), (done, "succeeded")):
        assert (reply.status, reply.body["error"]["state"]) == (409, state)


def test_requeued_work_elsewhere_is_published_under_its_new_lease(idle: Stepped) -> None:
    work = taken(idle, retry={"max_attempts": 1})
    idle.report(work, "failed", error=BOOM)
    idle.ask("execution.retry", {"id": work.execution_id})
    assert idle.bus is not None
    assert idle.bus.outstanding[work.execution_id].lease == "2.1"


def test_retry_and_its_outcome_in_one_commit(desk: Stepped) -> None:
    """The stream's versions follow one another though the execution was known to nobody."""
    id_ = dead(desk)
    replies = desk.send("execution.retry", {"id": id_})
    replies += desk.send("execution.cancel", {"id": id_})
    desk.settle()
    assert [len(desk.events(kind)) for kind in (ExecutionRequeued, ExecutionCancelled)] == [1, 1]
    assert desk.ask("execution.retry", {"id": id_}).body["attempt"] == 3


# --- reports that come again ---------------------------------------------------------------------


def test_report_that_comes_again_gets_its_first_answer(desk: Stepped) -> None:
    desk.manual(retry=STEADY | {"max_attempts": 2})
    desk.trigger()
    first_work = desk.executor.started[0]
    first = desk.report(first_work, "failed", error=BOOM)
    assert first.body["status"] == "delayed"
    desk.advance(10)
    second_work = desk.executor.started[1]
    assert desk.report(first_work, "failed", error=BOOM).body["status"] == "delayed"
    second = desk.report(second_work, "failed", error=BOOM)
    assert second.body["status"] == "dead"
    assert desk.report(first_work, "failed", error=BOOM).body["status"] == "delayed"
    assert desk.report(second_work, "failed", error=BOOM).body["status"] == "dead"
    desk.ask("execution.retry", {"id": first_work.execution_id})
    assert desk.report(second_work, "failed", error=BOOM).body["status"] == "dead"
    assert len(desk.events(AttemptFailed)) == 2
