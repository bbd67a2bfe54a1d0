"""Buffers, supersession, lanes and priorities as an engine carries them out, over each store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from stepping import START, Clock, Recorder, RecordingBus, Stepped, Wrapped, reported

from horae_application.ports import StoreUnavailable
from horae_domain.errors import InvalidField
from horae_domain.events import ExecutionDropped
from horae_infrastructure.store.memory import MemoryStore

QUEUE = {"type": "queue", "queue": "reports"}
UNBOUNDED = {"start_to_close": None}
Make = Callable[..., Stepped]


def triggered(desk: Stepped, *payloads: Any, **told: Any) -> list[str]:
    """A manual schedule and what its triggers, a second apart, are answered."""
    desk.manual(**({"timeout": UNBOUNDED} | told))
    said = []
    for payload in payloads:
        desk.clock.move(1)
        reply = desk.ask("schedule.trigger", {"id": "job", "payload": payload})
        assert reply.ok, reply
        said.append(reply.body["status"])
    return said


def finish(desk: Stepped) -> None:
    """Report the attempt that has run longest."""
    work = next(iter(desk.executor.running.values()))
    assert desk.report(work).ok


def payloads(desk: Stepped) -> list[Any]:
    return [work.payload for work in desk.executor.started]


def waiting(desk: Stepped) -> list[str]:
    """The ids of what is buffered, in order."""
    (line,) = (line for _, line in desk.engine.lines.all())
    return list(line.parked)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("skip", ["pending", "skipped", "skipped"]),
        ("buffer_one", ["pending", "buffered", "skipped"]),
        ("buffer_all", ["pending", "buffered", "buffered"]),
        ("cancel_other", ["pending", "buffered", "buffered"]),
        ("terminate_other", ["pending", "pending", "pending"]),
        ("allow", ["pending", "pending", "pending"]),
    ],
)
def test_trigger_is_told_what_the_policy_made_of_it(
    desk: Stepped, policy: str, said: list[str]
) -> None:
    assert triggered(desk, 1, 2, 3, overlap=policy) == said


def test_buffered_work_starts_in_order_each_in_the_commit_of_the_former_outcome(
    desk: Stepped,
) -> None:
    triggered(desk, 1, 2, 3, overlap="buffer_all")
    assert payloads(desk) == [1]
    finish(desk)
    assert payloads(desk) == [1, 2]
    finish(desk)
    finish(desk)
    assert payloads(desk) == [1, 2, 3]
    assert desk.names()[-7:] == [
        "execution.succeeded", "execution.released", "execution.attempt_started",
        "execution.succeeded", "execution.released", "execution.attempt_started",
        "execution.succeeded",
    ]  # fmt: skip


def test_terminated_handler_is_stopped_and_the_newer_one_started(desk: Stepped) -> None:
    triggered(desk, 1, 2, overlap="terminate_other")
    former, newer = desk.executor.started
    assert desk.executor.stopped == [(former.execution_id, former.lease)]
    assert newer.payload == 2
    late = desk.ask("execution.report", reported(former))
    assert late.body["error"]["code"] == "stale_lease"


def test_handler_that_stops_when_it_is_asked_makes_way(desk: Stepped) -> None:
    triggered(desk, 1, 2, 3, overlap="cancel_other")
    assert payloads(desk) == [1]
    assert desk.count("execution.cancellation_requested") == 1
    desk.clock.move(5)
    desk.report(desk.executor.started[0], "failed")
    assert payloads(desk) == [1, 3]
    assert [event.reason for event in desk.events(ExecutionDropped)] == ["superseded"]


def test_handler_that_does_not_stop_is_fenced_after_the_grace(desk: Stepped) -> None:
    triggered(desk, 1, 2, overlap="cancel_other")
    former = desk.executor.started[0]
    desk.advance(29)
    assert payloads(desk) == [1]
    desk.advance(1)
    assert desk.executor.stopped == [(former.execution_id, former.lease)]
    assert payloads(desk) == [1, 2]


def test_report_at_the_end_of_the_grace_comes_too_late(desk: Stepped) -> None:
    triggered(desk, 1, 2, overlap="cancel_other")
    desk.clock.move(30)
    late = desk.report(desk.executor.started[0])
    assert late.body["error"]["code"] == "stale_lease"
    assert desk.count("execution.succeeded") == 0


# --- take-over -----------------------------------------------------------------------------------


def test_buffer_survives_a_take_over(desk: Stepped, restart: Make) -> None:
    triggered(desk, 1, 2, 3, overlap="buffer_all")
    before = waiting(desk)
    again = restart()
    again.settle()
    assert waiting(again) == before
    assert payloads(again) == [1], "the lost attempt is repeated"
    for _ in range(3):
        finish(again)
    assert payloads(again) == [1, 2, 3]
    assert waiting(again) == []


def test_loss_that_was_the_last_try_lets_the_buffer_go_on(desk: Stepped, restart: Make) -> None:
    triggered(desk, 1, 2, overlap="buffer_all", retry={"max_attempts": 1})
    again = restart()
    again.settle()
    assert payloads(again) == [2]


def test_buffer_behind_a_retry_keeps_nobody_busy_and_survives_a_take_over(
    desk: Stepped, restart: Make
) -> None:
    retry = {"delay": "1 hour", "max_delay": "1 hour", "jitter": 0}
    triggered(desk, 1, 2, overlap="buffer_all", retry=retry)
    desk.report(desk.executor.started[0], "failed")
    again = restart()
    again.settle()
    assert again.engine.lines.next_wake() > again.clock.micros()
    again.advance(3599)
    assert again.executor.started == []
    again.advance(1)
    finish(again)
    assert payloads(again) == [1, 2]


def test_paused_buffer_keeps_nobody_busy_and_survives_a_take_over(
    desk: Stepped, restart: Make
) -> None:
    triggered(desk, 1, 2, 3, overlap="buffer_all")
    desk.ask("schedule.pause", {"id": "job"})
    finish(desk)
    second, third = waiting(desk)
    again = restart()
    again.settle()
    assert again.ask("execution.cancel", {"id": second}).body["status"] == "cancelled"
    again.advance(3600)
    assert again.executor.started == []
    assert again.ask("schedule.resume", {"id": "job"}).ok
    assert [work.execution_id for work in again.executor.started] == [third]


def test_release_after_a_cooldown_survives_a_take_over(desk: Stepped, restart: Make) -> None:
    desk.create(every="1 minute", overlap="buffer_one", timeout=UNBOUNDED)
    desk.advance(120)
    desk.report(desk.executor.started[0], cooldown="1 hour")
    assert len(desk.executor.started) == 1
    again = restart()
    again.advance(3599)
    assert again.executor.started == []
    again.advance(1)
    assert again.count("execution.released") == 1
    assert len(again.executor.started) == 1


def test_long_skips_at_a_full_buffer_need_no_owner_even_after_a_take_over(
    desk: Stepped, restart: Make
) -> None:
    desk.create(every="1 minute", overlap="buffer_one", timeout=UNBOUNDED, action=QUEUE)
    desk.advance(60 * 30)
    assert desk.count("execution.skipped") == 10
    again = restart(bus=RecordingBus())
    again.advance(60 * 30)
    (run,) = again.runs()
    body = {"execution_id": run.id, "lease": "1.1"}
    assert again.ask("execution.start", body).ok
    assert again.ask("execution.report", body | {"outcome": "succeeded"}).ok
    assert again.count("execution.released") == 1
    assert again.count("schedule.occurrences_decided") >= 1
    assert again.count("execution.skipped") == 10


def test_cancelled_schedule_is_settled_when_its_last_run_ends(desk: Stepped) -> None:
    triggered(desk, 1, 2, overlap="buffer_all")
    desk.ask("schedule.cancel", {"id": "job"})
    assert [event.reason for event in desk.events(ExecutionDropped)] == ["schedule_cancelled"]
    finish(desk)
    assert list(desk.engine.lines.all()) == []


def test_schedule_that_cannot_be_evaluated_drops_what_is_buffered(
    desk: Stepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.create(every="1 minute", overlap="buffer_all", timeout=UNBOUNDED)
    desk.advance(120)

    def broken(*_: Any) -> None:
        raise RuntimeError("no such zone")

    monkeypatch.setattr("horae_domain.firing._decide_due", broken)
    desk.advance(60)
    assert desk.count("schedule.quarantined") == 1
    assert [event.reason for event in desk.events(ExecutionDropped)] == ["schedule_quarantined"]


# --- lanes ---------------------------------------------------------------------------------------


def customers(desk: Stepped, *ids: str, **told: Any) -> None:
    told = {"concurrency_key": "customer.id", **told}
    triggered(desk, *({"customer": {"id": each}} for each in ids), **told)


def ids(works: Any) -> str:
    return "".join(work.payload["customer"]["id"] for work in works)


def test_each_customer_has_a_buffer_of_its_own(desk: Stepped) -> None:
    customers(desk, "a", "b", "a", "b", "a", overlap="buffer_all")
    assert ids(desk.executor.started) == "ab"
    of_b = desk.executor.started[1]
    desk.report(of_b)
    assert ids(desk.executor.started) == "abb"
    finish(desk)
    assert ids(desk.executor.started) == "abba"


def test_as_many_run_at_once_of_each_customer_as_the_concurrency_says(desk: Stepped) -> None:
    customers(desk, "a", "a", "a", "b", "b", "c", overlap="allow", concurrency=2)
    assert ids(desk.executor.started) == "aabbc"
    finish(desk)
    assert ids(desk.executor.started) == "aabbca"


def test_as_much_is_published_of_each_customer_as_the_concurrency_says(clock: Clock) -> None:
    bus = RecordingBus()
    desk = Stepped(MemoryStore(clock=clock.micros), clock, bus=bus)
    desk.settle()
    customers(desk, "a", "a", "b", "b", overlap="allow", concurrency=1, action=QUEUE)
    assert ids(bus.published) == "ab"
    work = bus.published[0]
    body = {"execution_id": work.execution_id, "lease": work.lease}
    assert desk.ask("execution.start", body).ok
    assert desk.ask("execution.report", reported(work)).ok
    assert ids(bus.published) == "aba"


# --- priorities ----------------------------------------------------------------------------------


def reprioritize(desk: Stepped, id_: str, priority: str) -> Any:
    return desk.ask("execution.reprioritize", {"id": id_, "priority": priority})


def test_buffered_work_that_became_more_urgent_is_released_first(desk: Stepped) -> None:
    triggered(desk, 1, 2, 3, overlap="buffer_all")
    reply = reprioritize(desk, waiting(desk)[-1], "critical")
    assert (reply.body["status"], reply.body["priority"]) == ("buffered", "critical")
    finish(desk)
    assert payloads(desk) == [1, 3]
    assert desk.executor.started[-1].priority == "critical"


@pytest.fixture
def narrow(clock: Clock) -> Stepped:
    """An engine with one slot, which is taken."""
    desk = Stepped(MemoryStore(clock=clock.micros), clock, executor=Recorder(slots=1))
    desk.settle()
    desk.manual("first")
    desk.trigger("first")
    return desk


def test_work_that_waits_for_a_slot_is_handed_out_by_its_new_priority(narrow: Stepped) -> None:
    narrow.manual(overlap="allow")
    one, two, three = (narrow.trigger() for _ in range(3))
    reprioritize(narrow, three, "high")
    reprioritize(narrow, one, "low")
    for _ in range(4):
        finish(narrow)
    assert [work.execution_id for work in narrow.executor.started[1:]] == [three, two, one]


def test_work_that_is_handed_out_in_the_commit_of_its_new_priority_is_handed_out_once(
    narrow: Stepped,
) -> None:
    narrow.manual()
    id_ = narrow.trigger()
    narrow.executor.slots = 5
    reprioritize(narrow, id_, "low")
    assert [work.execution_id for work in narrow.executor.started[1:]] == [id_]


def test_refused_commit_leaves_the_order_as_it_was(clock: Clock) -> None:
    store = Wrapped(MemoryStore(clock=clock.micros))
    desk = Stepped(store, clock, executor=Recorder(slots=0))  # type: ignore[arg-type]
    desk.settle()
    desk.manual(overlap="allow")
    one = desk.trigger()
    clock.move(1)
    two = desk.trigger()
    store.fail("append", StoreUnavailable("gone"))
    (reply,) = [desk.send("execution.reprioritize", {"id": two, "priority": "critical"})]
    desk.engine.round()
    assert reply[0].status == 503
    desk.executor.slots = 1
    desk.manual("wake")
    assert [work.execution_id for work in desk.executor.started] == [one]


def test_work_that_waits_for_the_bus_is_published_by_its_new_priority(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("horae_application.crews.UNTOLD", 1)
    bus = RecordingBus()
    desk = Stepped(MemoryStore(clock=clock.micros), clock, bus=bus)
    desk.settle()
    desk.manual(action=QUEUE, overlap="allow")
    one, two, three = (desk.trigger() for _ in range(3))
    reprioritize(desk, three, "critical")
    assert reprioritize(desk, one, "low").ok, "it is on the bus already, and stays there"
    for work in (bus.published[0], *(None, None)):
        taken = work or bus.published[-1]
        body = {"execution_id": taken.execution_id, "lease": taken.lease}
        assert desk.ask("execution.start", body).ok
    assert [work.execution_id for work in bus.published] == [one, three, two]


def test_what_runs_or_has_ended_keeps_its_priority(desk: Stepped) -> None:
    triggered(desk, 1, overlap="skip")
    id_ = desk.executor.started[0].execution_id
    refused = reprioritize(desk, id_, "low")
    assert (refused.status, refused.body["error"]["code"]) == (409, "illegal_state")
    assert refused.body["error"]["state"] == "running"
    finish(desk)
    assert reprioritize(desk, id_, "low").body["error"]["state"] == "succeeded"


@pytest.mark.parametrize("priority", ["urgent", "", None, 1])
def test_priority_that_does_not_exist_is_refused(desk: Stepped, priority: Any) -> None:
    triggered(desk, 1, 2, overlap="buffer_all")
    with pytest.raises(InvalidField) as caught:
        reprioritize(desk, waiting(desk)[0], priority)
    assert caught.value.field == "priority"


def test_retried_command_does_not_undo_a_later_one(desk: Stepped) -> None:
    triggered(desk, 1, 2, overlap="buffer_all")
    (id_,) = waiting(desk)
    body = {"id": id_, "priority": "high"}
    assert desk.ask("execution.reprioritize", body, key="k").ok
    assert reprioritize(desk, id_, "low").ok
    assert desk.ask("execution.reprioritize", body, key="k").body["priority"] == "high"
    assert desk.count("execution.reprioritised") == 2


def test_release_is_told_who_runs_when(desk: Stepped) -> None:
    desk.create(every="1 minute", overlap="buffer_all", timeout=UNBOUNDED)
    desk.advance(180)
    finish(desk)
    released = desk.executor.started[-1]
    assert (released.run_number, released.due) == (2, START + timedelta(seconds=120))
