"""External events through the engine: recorded with what follows from them, once (T5, T11, W2)."""

from __future__ import annotations

from typing import Any

import pytest
from stepping import WORK, Recorder, Stepped, number, same_partition

from horae_application.listening import LISTENS
from horae_application.ports import AlreadyWritten, StoreUnavailable
from horae_domain.circles import MAX_DEPTH
from horae_domain.events import (
    ExecutionCancelled,
    ExecutionRequested,
    ExecutionSkipped,
    ExternalEventReceived,
    ScheduleQuarantined,
)
from horae_domain.identity import external_event_stream

TRADES = {"type": "event", "event": "trade.*"}
LATER = TRADES | {"delay": "5 minutes"}


def publish(desk: Stepped, id_: str = "e-1", type_: str = "trade.done", **told: Any) -> Any:
    return desk.ask("event.publish", {"type": type_, "id": id_, "data": {"n": 1}} | told)


def started(desk: Stepped) -> list[str]:
    return [work.schedule_id for work in desk.executor.started]


# --- one commit ----------------------------------------------------------------------------------


def test_event_and_what_it_starts_are_one_commit(desk: Stepped):
    desk.create(trigger=TRADES)
    before = desk.store.head()
    reply = publish(desk)
    assert reply.body == {
        "ok": True,
        "id": "e-1",
        "source": "",
        "type": "trade.done",
        "recorded": True,
        "duplicate": False,
        "position": reply.body["position"],
    }
    assert desk.names()[before:] == ["external_event.received", "execution.requested"]
    [work] = desk.executor.started
    assert work.payload == {"n": 1}
    assert work.trigger == {
        "kind": "event",
        "event": "trade.done",
        "id": "e-1",
        "at": "2026-01-05T08:00:00Z",
        "delay": "0s",
        "data": {"n": 1},
    }
    [requested] = desk.events(ExecutionRequested)
    assert requested.worker == "engine"
    assert number(reply) == before + 1


def test_event_that_nobody_listens_for_is_not_recorded(desk: Stepped):
    desk.create(trigger=TRADES)
    reply = publish(desk, type_="order.done")
    assert (reply.ok, reply.body["recorded"]) == (True, False)
    assert desk.count("external_event.received") == 0


def test_same_event_triggers_the_same_schedule_once(desk: Stepped, restart):
    desk.create(trigger=TRADES)
    first = publish(desk)
    again = publish(desk)
    assert (again.body["duplicate"], again.body["position"]) == (True, first.body["position"])
    later = restart()
    later.settle()
    assert publish(later).body["duplicate"]
    assert later.count("execution.requested") == 1


def test_same_event_twice_in_one_commit_triggers_once(desk: Stepped):
    desk.create(trigger=TRADES)
    body = {"type": "trade.done", "id": "e-1"}
    replies = desk.send("event.publish", body) + desk.send("event.publish", body)
    first, second = (desk.send("event.publish", body) for _ in range(2))
    desk.settle()
    assert replies == []
    assert first[0].body["duplicate"]
    assert second[0].body["duplicate"]
    assert desk.count("execution.requested") == 1


def test_source_and_id_together_are_the_event(desk: Stepped):
    desk.create(trigger=TRADES)
    publish(desk, source="a")
    publish(desk, source="b")
    publish(desk, id_="e-2", source="a")
    assert desk.count("execution.requested") == 3


def test_identity_of_an_event_of_another_type_is_refused(desk: Stepped):
    desk.create(trigger={"type": "event", "event": ">"})
    publish(desk)
    told = [desk.send("event.publish", {"type": type_, "id": "e-2"}) for type_ in ("a", "b")]
    reply = publish(desk, type_="trade.lost")
    assert (reply.status, reply.body["error"]["code"]) == (409, "idempotency_conflict")
    assert reply.body["error"]["field"] == "id"
    assert [each.status for (each,) in told] == [200, 409]
    assert desk.count("execution.requested") == 2


def test_idempotency_key_is_the_id_unless_told(desk: Stepped):
    desk.create(trigger=TRADES)
    for _ in range(2):
        reply = desk.ask("event.publish", {"type": "trade.done"}, key="k-1")
    assert (reply.body["id"], reply.body["duplicate"]) == ("k-1", True)


def test_event_before_the_creation_of_a_schedule_is_none_of_its(desk: Stepped):
    desk.create("other", trigger=TRADES)
    publish(desk)
    desk.create(trigger=TRADES)
    assert publish(desk).body["duplicate"]
    assert [each.schedule_id for each in desk.events(ExecutionRequested)] == ["other"]


@pytest.mark.parametrize("first", ["event", "schedule"])
def test_order_within_one_commit_decides(desk: Stepped, first: str):
    desk.create("keeper", trigger=TRADES)
    definition = {"id": "job", "trigger": TRADES, "action": WORK}
    asked = [("event.publish", {"type": "trade.done"}), ("schedule.create", definition)]
    for name, body in asked if first == "event" else reversed(asked):
        desk.send(name, body)
    desk.settle()
    fired = {each.schedule_id for each in desk.events(ExecutionRequested)}
    assert ("job" in fired) is (first == "schedule")


def test_schedule_that_was_cancelled_hears_nothing(desk: Stepped):
    desk.create(trigger=TRADES)
    desk.ask("schedule.cancel", {"id": "job"})
    assert publish(desk).body["recorded"] is False


def test_schedule_listens_again_after_an_edit(desk: Stepped):
    desk.create(trigger=TRADES)
    changed = {"id": "job", "trigger": {"type": "event", "event": "order.>"}, "action": WORK}
    assert desk.ask("schedule.update", changed).ok
    assert not publish(desk).body["recorded"]
    assert publish(desk, type_="order.done.late").body["recorded"]


def test_tenants_have_events_of_their_own(desk: Stepped):
    desk.create(trigger=TRADES)
    body = {"type": "trade.done", "id": "e-1"}
    assert not desk.ask("event.publish", body, tenant="acme").body["recorded"]
    assert publish(desk).body["recorded"]


def test_several_schedules_hear_an_event_the_most_urgent_first(desk: Stepped):
    for name, priority in (("a", "low"), ("b", "critical"), ("c", "medium"), ("d", "high")):
        desk.create(name, trigger=TRADES, priority=priority)
    publish(desk)
    assert [each.schedule_id for each in desk.events(ExecutionRequested)] == ["b", "d", "c", "a"]
    assert started(desk) == ["b", "d", "c", "a"]


def test_schedule_whose_evaluation_fails_keeps_no_other_from_the_event(
    desk: Stepped, monkeypatch: pytest.MonkeyPatch
):
    from horae_domain import external

    desk.create("bad", trigger=TRADES, priority="high")
    desk.create("good", trigger=TRADES)
    real = external.fire

    def fire(decision: Any, *told: Any) -> object:
        if decision.line.schedule.id == "bad":
            raise ZeroDivisionError
        return real(decision, *told)

    monkeypatch.setattr(external, "fire", fire)
    assert publish(desk).ok
    assert started(desk) == ["good"]
    assert [each.schedule_id for each in desk.events(ScheduleQuarantined)] == ["bad"]


# --- delays --------------------------------------------------------------------------------------


def test_delay_survives_a_restart(desk: Stepped, restart):
    desk.create(trigger=LATER)
    publish(desk)
    desk.advance(200)
    later = restart(executor=Recorder())
    later.settle()
    later.advance(99)
    assert started(later) == []
    later.advance(2)
    [work] = later.executor.started
    assert work.trigger["delay"] == "5m"
    assert work.due == later.events(ExecutionRequested)[0].due


def test_event_of_the_past_has_waited_already(desk: Stepped):
    desk.create(trigger=LATER)
    publish(desk, time="2026-01-05T07:50:00Z")
    assert started(desk) == ["job"]


def test_event_cannot_come_from_the_future(desk: Stepped):
    desk.create(trigger=LATER)
    publish(desk, time="2027-01-05T07:50:00Z")
    desk.advance(300)
    assert started(desk) == ["job"]


def test_event_that_is_too_old_is_refused(desk: Stepped):
    desk.create(trigger=TRADES)
    reply = publish(desk, time="2025-12-01T00:00:00Z")
    assert reply.body["error"]["code"] == "invalid_field"
    assert reply.body["error"]["field"] == "time"
    assert desk.count("external_event.received") == 0


# --- listeners after a restart -------------------------------------------------------------------


def test_listeners_are_known_after_a_restart(desk: Stepped, restart):
    desk.create(trigger=TRADES)
    desk.create("idle")
    later = restart(executor=Recorder())
    later.settle()
    assert publish(later).body["recorded"]
    assert started(later) == ["job"]


def test_rows_of_listeners_are_no_timers(desk: Stepped, restart):
    desk.create(trigger=TRADES)
    [row] = desk.store.due(range(64), None, 0, 10)
    assert row.due == LISTENS
    later = restart()
    assert later.engine.step() > 0
    desk.ask("schedule.cancel", {"id": "job"}) if later is desk else later.ask(
        "schedule.cancel", {"id": "job"}
    )
    assert later.store.due(range(64), None, 0, 10) == []


# --- ended by events -----------------------------------------------------------------------------

ENDS = {"event": "ticket.resolved", "match": {"ticket": "trigger.data.ticket"}}
OPENED = {"type": "event", "event": "ticket.opened", "delay": "1 hour"}


def open_ticket(desk: Stepped, ticket: int) -> None:
    publish(desk, f"open-{ticket}", "ticket.opened", data={"ticket": ticket})


def resolve(desk: Stepped, ticket: object) -> Any:
    return publish(desk, f"done-{ticket}", "ticket.resolved", data={"ticket": ticket})


def test_event_ends_only_the_execution_that_it_is_about(desk: Stepped):
    desk.create(trigger=OPENED, cancel_on=ENDS)
    open_ticket(desk, 1)
    open_ticket(desk, 2)
    resolve(desk, 2)
    [cancelled] = desk.events(ExecutionCancelled)
    assert (cancelled.reason, cancelled.event_id) == ("cancelled_by_event", "done-2")
    desk.advance(3601)
    [work] = desk.executor.started
    assert work.payload == {"ticket": 1}


def test_execution_is_ended_after_a_restart(desk: Stepped, restart):
    desk.create(trigger=OPENED, cancel_on=ENDS)
    open_ticket(desk, 1)
    later = restart(executor=Recorder())
    later.settle()
    assert resolve(later, 1).body["recorded"]
    later.advance(3601)
    assert started(later) == []


def test_running_attempt_is_fenced_by_the_event(desk: Stepped):
    desk.create(trigger=OPENED | {"delay": 0}, cancel_on=ENDS)
    open_ticket(desk, 1)
    [work] = desk.executor.started
    resolve(desk, 1)
    assert desk.executor.stopped == [(work.execution_id, work.lease)]


def test_nobody_listens_for_what_would_end_an_execution_that_has_ended(desk: Stepped):
    desk.create(trigger=OPENED | {"delay": 0}, cancel_on=ENDS)
    open_ticket(desk, 1)
    desk.report(desk.executor.started[0])
    assert resolve(desk, 1).body["recorded"] is False


def test_event_that_ends_one_and_triggers_another_does_both_in_that_order(desk: Stepped):
    ends = {"event": "tick", "match": {"k": "trigger.data.k"}}
    desk.create(trigger={"type": "event", "event": "tick", "delay": 60}, cancel_on=ends)
    publish(desk, "1", "tick", data={"k": 1})
    publish(desk, "2", "tick", data={"k": 1})
    names = [name for name in desk.names() if name.startswith("execution.")]
    assert names == ["execution.requested", "execution.cancelled", "execution.requested"]
    desk.advance(61)
    assert [work.trigger["id"] for work in desk.executor.started] == ["2"]


# --- outcomes ------------------------------------------------------------------------------------


def after(upstream: str, *of: str) -> dict[str, Any]:
    return {"type": "outcome", "schedule": upstream, "of": of or ("succeeded",)}


@pytest.mark.parametrize("near", [True, False])
def test_outcome_triggers_in_the_same_commit(desk: Stepped, near: bool):
    upstream = same_partition("job") if near else "elsewhere"
    desk.manual(upstream)
    desk.create(trigger=after(upstream))
    desk.trigger(upstream)
    before = desk.store.head()
    desk.report(desk.executor.started[0], result={"rows": 3})
    assert desk.names()[before:] == ["execution.succeeded", "execution.requested"]
    work = desk.executor.started[1]
    assert work.payload == {"rows": 3}
    assert work.trigger["kind"] == "outcome"
    assert work.trigger["schedule"] == upstream
    assert work.trigger["depth"] == 1


def test_only_the_outcomes_that_are_named_trigger(desk: Stepped):
    desk.manual("up", retry={"max_attempts": 1})
    desk.create(trigger=after("up", "failed"))
    desk.trigger("up")
    desk.report(desk.executor.started[0])
    assert started(desk) == ["up"]
    desk.trigger("up")
    desk.report(desk.executor.started[1], "failed", error={"type": "E", "message": "no"})
    assert started(desk) == ["up", "up", "job"]
    assert desk.executor.started[2].payload["type"] == "E"


def test_timeout_triggers(desk: Stepped):
    desk.manual("up", retry={"max_attempts": 1}, timeout={"start_to_close": "10s"})
    desk.create(trigger=after("up", "timed_out"))
    desk.trigger("up")
    desk.advance(11)
    assert started(desk) == ["up", "job"]


def test_skipped_occurrence_triggers(desk: Stepped):
    desk.manual("up")
    desk.create(trigger=after("up", "skipped"))
    desk.trigger("up")
    desk.ask("schedule.trigger", {"id": "up"})
    assert started(desk) == ["up", "job"]


def test_same_outcome_of_an_execution_triggers_once(desk: Stepped, restart):
    desk.manual("up", retry={"max_attempts": 1})
    desk.create(trigger=after("up", "failed"))
    id_ = desk.trigger("up")
    desk.report(desk.executor.started[0], "failed", error={"type": "E", "message": ""})
    desk.report(desk.executor.started[1])
    later = restart(executor=Recorder())
    later.settle()
    later.ask("execution.retry", {"id": id_})
    later.report(later.executor.started[0], "failed", error={"type": "E", "message": ""})
    assert started(later) == ["up"]
    assert later.count("execution.requested") == 2


def test_circle_of_outcomes_is_cut_and_said(desk: Stepped):
    desk.create("a", trigger=after("b", "succeeded", "skipped"))
    desk.create("b", trigger=after("a", "succeeded", "skipped"))
    desk.trigger("a")
    seen = 0
    while seen < len(desk.executor.started):
        desk.report(desk.executor.started[seen])
        seen += 1
    assert seen == MAX_DEPTH + 1
    [cut] = desk.events(ExecutionSkipped)
    assert (cut.reason, cut.trigger["depth"]) == ("chain_too_deep", MAX_DEPTH + 1)


def test_circle_that_only_skips_comes_to_an_end(desk: Stepped):
    for name, other in (("a", "b"), ("b", "a")):
        desk.create(name, trigger=after(other, "skipped"), cooldown="1 hour")
    desk.trigger("a")
    desk.create("c", trigger=after("c", "skipped"))
    desk.manual("d")
    desk.trigger("d")
    desk.ask("schedule.trigger", {"id": "d"})
    assert desk.count("execution.skipped") == 1


# --- failures ------------------------------------------------------------------------------------


def test_event_whose_commit_failed_is_not_acknowledged_and_comes_again(faulty):
    desk, store = faulty
    desk.create(trigger=TRADES)
    store.fail("append", StoreUnavailable("no room"))
    replies = desk.send("event.publish", {"type": "trade.done", "id": "e-1"})
    with pytest.raises(StoreUnavailable):
        desk.engine.step()
    assert replies[0].status == 503
    assert publish(desk).body["duplicate"] is False
    assert desk.count("execution.requested") == 1


def test_event_that_another_engine_records_at_the_same_time_is_a_duplicate(faulty):
    desk, store = faulty
    desk.create(trigger=TRADES)
    stream = external_event_stream("default", "", "e-1")

    def elsewhere() -> None:
        from horae_application.ports import Batch, NewEvent
        from horae_domain.codec import encode

        event = ExternalEventReceived(at=desk.clock.now(), type="trade.done", id="e-1")
        new = NewEvent(stream, 1, "external_event.received.v1", encode(event))
        store._store.append(Batch({}, [new], [], []))
        raise AlreadyWritten(stream, 1)

    store.fail("append", elsewhere)
    replies = desk.send("event.publish", {"type": "trade.done", "id": "e-1"})
    with pytest.raises(AlreadyWritten):
        desk.engine.step()
    assert desk.engine.lines.get(desk.events()[0] and next(iter(desk.engine.lines.all()))[0])
    desk.settle()
    assert replies[0].body["duplicate"] is True
