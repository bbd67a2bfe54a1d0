"""What commands do and answer, after their commit and not before."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from stepping import (
    START,
    WORK,
    Clock,
    Recorder,
    RecordingBus,
    Stepped,
    Wrapped,
    number,
    reported,
    same_partition,
)

from horae_application.messages import COMMANDS, read_command
from horae_domain.errors import HoraeError, error_from_json
from horae_domain.events import (
    ExecutionFailed,
    ExecutionRequested,
    ExecutionSkipped,
    ReportRefused,
    RequestAnswered,
    ScheduleCreated,
    ScheduleTripped,
    ScheduleUpdated,
)
from horae_infrastructure.store.memory import MemoryStore


def code(reply: Any) -> tuple[int, str]:
    return reply.status, reply.body["error"]["code"]


# --- every command -------------------------------------------------------------------------------


def test_schedule_lives_from_creation_to_cancellation(desk: Stepped) -> None:
    created = desk.create()
    assert created.body["status"] == "active"
    assert created.body["revision"] == 1
    changed = {"id": "job", "trigger": {"type": "interval", "every": "2 minutes"}, "action": WORK}
    updated = desk.ask("schedule.update", changed | {"expected_revision": 1})
    assert updated.body["revision"] == 2
    assert desk.ask("schedule.pause", {"id": "job", "note": "audit"}).body["status"] == "paused"
    assert desk.ask("schedule.resume", {"id": "job"}).body["status"] == "active"
    assert desk.ask("schedule.cancel", {"id": "job"}).body["status"] == "cancelled"
    assert desk.names() == [
        "schedule.created",
        "schedule.updated",
        "schedule.paused",
        "schedule.resumed",
        "schedule.cancelled",
    ]


def test_every_command_is_read_and_decided_or_refused_with_a_code(desk: Stepped) -> None:
    unknown = "00000000-0000-0000-0000-000000000000"
    bodies: dict[str, dict[str, Any]] = {
        "schedule.create": {"id": "a", "trigger": {"type": "manual"}, "action": WORK},
        "schedule.update": {"id": "no", "trigger": {"type": "manual"}, "action": WORK},
        "schedule.patch": {"id": "no"},
        "schedule.retag": {"id": "no"},
        "schedule.pause": {"id": "no"},
        "schedule.resume": {"id": "no"},
        "schedule.cancel": {"id": "no"},
        "schedule.trigger": {"id": "no"},
        "schedule.backfill": {
            "id": "no",
            "from": "2026-01-05T07:00:00Z",
            "to": "2026-01-05T07:00:00Z",
        },
        "occurrence.skip": {"id": "no", "at": "2026-01-05T09:00:00Z"},
        "occurrence.hold": {"id": "no", "at": "2026-01-05T09:00:00Z"},
        "occurrence.approve": {"id": "no", "at": "2026-01-05T09:00:00Z"},
        "occurrence.move": {"id": "no", "at": "2026-01-05T09:00:00Z", "to": "2026-01-06T09:00:00Z"},
        "occurrence.set_payload": {"id": "no", "at": "2026-01-05T09:00:00Z", "payload": 1},
        "timer.move": {"id": f"overall:{unknown}", "to": "2026-01-06T09:00:00Z"},
        "timer.cancel": {"id": "occurrence:no@2026-01-05T09:00:00Z"},
        "event.publish": {"type": "trade.done"},
        "execution.start": {"execution_id": unknown},
        "execution.report": {"execution_id": unknown, "lease": "1.1", "outcome": "succeeded"},
        "execution.heartbeat": {"execution_id": unknown, "lease": "1.1"},
        "execution.cancel": {"id": unknown},
        "execution.reprioritize": {"id": unknown, "priority": "high"},
        "execution.retry": {"id": unknown},
        "command.schedule": {"command": "Remind", "after": "1h", "key": "k"},
        "command.cancel": {"id": "no"},
        "dead_letter.requeue": {"id": unknown},
        "queue.limit": {"queue": "q", "concurrency": 1},
        "queue.pause": {"queue": "q"},
        "queue.resume": {"queue": "q"},
        "tenant.limit": {"rate": "1 per second"},
        "history.sweep_schedule": {"id": "no", "executions": [unknown]},
    }
    assert bodies.keys() == COMMANDS.keys() - {
        "schedule.create_many",
        "schedule.bulk",
        "schedule.validate",
        "history.sweep",
    }
    codes = {name: desk.ask(name, body) for name, body in bodies.items()}
    assert codes.pop("schedule.create").ok
    assert codes.pop("command.schedule").ok
    assert codes.pop("event.publish").body["recorded"] is False
    assert codes.pop("command.cancel").body["cancelled"] is False
    limits = [codes.pop(f"queue.{name}") for name in ("limit", "pause", "resume")]
    assert all(reply.ok for reply in (*limits, codes.pop("tenant.limit")))
    kinds = {name: code(reply)[1] for name, reply in codes.items()}
    assert set(kinds.values()) == {"schedule_not_found", "execution_not_found"}
    assert {name for name, kind in kinds.items() if kind == "execution_not_found"} == {
        "execution.start",
        "execution.report",
        "execution.heartbeat",
        "execution.cancel",
        "execution.reprioritize",
        "execution.retry",
        "timer.move",
        "dead_letter.requeue",
    }
    assert desk.names() == [
        "schedule.created",
        "command.scheduled",
        "queue.limited",
        "queue.paused",
        "queue.resumed",
        "tenant.limited",
    ], "refusals leave no event"


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("schedule.trigger", b'{"id":"a b"}', "id"),
        ("schedule.trigger", b'{"id":"a","key":""}', "key"),
        ("schedule.trigger", b"[]", None),
        ("schedule.trigger", b"{", None),
        ("schedule.trigger", b'{"id":"a","more":1}', "more"),
        ("execution.report", b'{"execution_id":"x","lease":"1.1","outcome":"failed"}', None),
        ("schedule.nothing", b"{}", "name"),
        ("schedule.create", b'{"id":"a"}', "trigger"),
        ("schedule.create_many", b'{"schedules":[]}', "schedules"),
        ("schedule.update", b'{"id":"a","expected_revision":"x"}', None),
        ("schedule.patch", b'{"tags":["x"]}', "id"),
        ("schedule.patch", b'{"id":"a","expected_revision":"x"}', "expected_revision"),
        ("schedule.patch", b'{"id":"a","payload":' + b"[" * 300 + b"]" * 300 + b"}", "payload"),
        ("schedule.trigger", b'{"id":"a","payload":' + b"[" * 5000 + b"]" * 5000 + b"}", None),
    ],
)
def test_bad_request_is_a_typed_error_that_names_the_field(
    name: str, body: bytes, field: str | None
) -> None:
    with pytest.raises(HoraeError) as caught:
        read_command(name, body)
    assert caught.value.status == 400
    if field is not None:
        assert caught.value.field == field


def test_refused_update_leaves_revision_and_log_alone(desk: Stepped) -> None:
    desk.create()
    other = {"id": "job", "trigger": {"type": "manual"}, "action": WORK, "expected_revision": 7}
    assert code(desk.ask("schedule.update", other)) == (409, "revision_conflict")
    assert desk.names() == ["schedule.created"]


def test_patch_is_merged_into_the_definition_and_validated_as_a_whole(desk: Stepped) -> None:
    desk.create(retry={"max_attempts": 7, "delay": "5s"})
    patched = desk.ask("schedule.patch", {"id": "job", "retry": {"max_attempts": 2}, "name": "A"})
    assert patched.body["revision"] == 2
    definition = desk.events(ScheduleUpdated)[0].definition
    assert definition["retry"] == {"max_attempts": 2, "delay": "5s"}
    assert definition["name"] == "A"
    wrong = desk.ask("schedule.patch", {"id": "job", "retry": {"max_attempts": 0}, "name": "B"})
    assert (code(wrong), wrong.body["error"]["field"]) == (
        (400, "invalid_field"),
        "retry.max_attempts",
    )
    assert desk.count("schedule.updated") == 1


def test_patch_is_guarded_by_its_revision_and_its_key(desk: Stepped) -> None:
    desk.create()
    body = {"id": "job", "tags": ["x"], "expected_revision": 1}
    first = desk.ask("schedule.patch", body, key="k")
    assert desk.ask("schedule.patch", body, key="k").body == first.body
    assert code(desk.ask("schedule.patch", body)) == (409, "revision_conflict")
    assert code(desk.ask("schedule.patch", body | {"tags": []}, key="k"))[1] == (
        "idempotency_conflict"
    )


def test_answers_come_after_the_commit_and_never_before(clock: Clock) -> None:
    store = Wrapped(MemoryStore(clock=clock.micros))
    desk = Stepped(store, clock)  # type: ignore[arg-type]
    desk.settle()
    replies = desk.send(
        "schedule.create", {"id": "a", "trigger": {"type": "manual"}, "action": WORK}
    )
    seen: list[int] = []
    store.fail("append", lambda: seen.append(len(replies)))
    desk.settle()
    assert seen == [0]
    assert replies[0].ok


def test_many_commands_share_one_append(clock: Clock) -> None:
    store = Wrapped(MemoryStore(clock=clock.micros))
    desk = Stepped(store, clock)  # type: ignore[arg-type]
    desk.settle()
    waiting = [
        desk.send("schedule.create", {"id": f"s{n}", "trigger": {"type": "manual"}, "action": WORK})
        for n in range(300)
    ]
    desk.settle()
    assert store.calls.count("append") == 1
    positions = [number(replies[0]) for replies in waiting]
    assert positions == list(range(1, 301))


def test_tasks_of_partitions_not_owned_are_told_to_go_elsewhere(
    desk: Stepped, clock: Clock
) -> None:
    desk.engine.ownership.epochs.clear()
    reply = desk.ask("schedule.pause", {"id": "job"})
    assert reply.status == 503
    assert reply.body["error"]["moved"] is True
    assert desk.names() == []


# --- idempotency ---------------------------------------------------------------------------------


def test_same_content_is_answered_with_the_first_position(desk: Stepped) -> None:
    first = desk.create()
    desk.create("other")
    desk.ask("schedule.pause", {"id": "job"})
    assert number(desk.create()) == number(first) == 1


def test_same_content_has_the_first_position_after_a_restart(desk: Stepped, restart: Any) -> None:
    first = desk.create()
    desk.create("other")
    assert number(restart().create()) == number(first)


def test_same_content_in_one_batch_has_the_first_position(desk: Stepped) -> None:
    body = {"id": "a", "trigger": {"type": "manual"}, "action": WORK}
    first, _, second = (
        desk.send("schedule.create", body),
        desk.send("schedule.create", body | {"id": "b"}),
        desk.send("schedule.create", body),
    )
    desk.settle()
    assert number(first[0]) == number(second[0])
    assert desk.count("schedule.created") == 2


def test_same_id_with_other_content_is_a_conflict(desk: Stepped) -> None:
    desk.create()
    assert code(desk.create(every="5 minutes")) == (409, "schedule_exists")


def test_key_with_the_same_body_has_the_first_answer(desk: Stepped, restart: Any) -> None:
    body = {"id": "a", "trigger": {"type": "manual"}, "action": WORK}
    first = desk.ask("schedule.create", body, key="k")
    desk.ask("schedule.cancel", {"id": "a"})
    again = desk.ask("schedule.create", body, key="k")
    assert again.body == first.body
    later = restart()
    assert later.ask("schedule.create", body, key="k").body == first.body
    assert later.count("schedule.created") == 1


def test_key_with_another_body_is_a_conflict_even_after_a_restart(
    desk: Stepped, restart: Any
) -> None:
    body = {"id": "a", "trigger": {"type": "manual"}, "action": WORK}
    desk.ask("schedule.create", body, key="k")
    for process in (lambda: desk, restart):
        each = process()
        reply = each.ask("schedule.create", body | {"id": "b"}, key="k")
        assert code(reply) == (409, "idempotency_conflict")
        assert each.count("schedule.created") == 1


def test_key_twice_in_one_batch_is_decided_once(desk: Stepped) -> None:
    desk.create("a")
    body = {
        "id": "a",
        "trigger": {"type": "interval", "every": "7 minutes"},
        "action": WORK,
        "expected_revision": 1,
    }
    first = desk.send("schedule.update", body, key="k")
    second = desk.send("schedule.update", body, key="k")
    desk.settle()
    assert first[0].ok
    assert second[0].body == first[0].body
    assert len(desk.events(RequestAnswered)) == 1


def test_key_with_two_bodies_in_one_batch_is_a_conflict(desk: Stepped) -> None:
    body = {"id": "a", "trigger": {"type": "manual"}, "action": WORK}
    first = desk.send("schedule.create", body, key="k")
    second = desk.send("schedule.create", body | {"id": "b"}, key="k")
    desk.settle()
    assert first[0].ok
    assert code(second[0]) == (409, "idempotency_conflict")
    assert len(desk.events(ScheduleCreated)) == 1


def test_keys_of_tenants_do_not_meet(desk: Stepped) -> None:
    body = {"id": "a", "trigger": {"type": "manual"}, "action": WORK}
    assert desk.ask("schedule.create", body, key="k", tenant="one").ok
    assert desk.ask("schedule.create", body | {"id": "b"}, key="k", tenant="two").ok


def test_refusal_is_not_remembered_under_its_key(desk: Stepped) -> None:
    assert not desk.ask("schedule.trigger", {"id": "job"}, key="k").ok
    desk.manual()
    assert desk.ask("schedule.trigger", {"id": "job"}, key="k").ok


# --- trigger -------------------------------------------------------------------------------------


def test_trigger_with_a_key_twice_is_one_execution(desk: Stepped, restart: Any) -> None:
    desk.manual()
    first = desk.trigger(key="k")
    assert desk.trigger(key="k") == first
    desk.report(desk.executor.started[0])
    assert desk.trigger(key="k") == first
    later = restart()
    assert later.trigger(key="k") == first
    assert later.count("execution.requested") == 1


def test_trigger_with_a_key_twice_in_one_batch_is_one_execution(desk: Stepped) -> None:
    desk.manual(overlap="allow")
    first = desk.send("schedule.trigger", {"id": "job", "key": "k"})
    second = desk.send("schedule.trigger", {"id": "job", "key": "k"})
    desk.settle()
    assert first[0].body["execution_id"] == second[0].body["execution_id"]
    assert len(desk.executor.started) == 1


def test_skipped_trigger_with_a_key_twice_in_one_batch_is_one_decision(desk: Stepped) -> None:
    desk.manual()
    desk.trigger(key="first")
    two = [desk.send("schedule.trigger", {"id": "job", "key": "k"}) for _ in range(2)]
    desk.settle()
    assert [replies[0].body["status"] for replies in two] == ["skipped", "skipped"]
    assert len(desk.events(ExecutionSkipped)) == 1


def test_trigger_after_the_schedule_has_ended_repeats_its_first_answer(desk: Stepped) -> None:
    desk.manual()
    first = desk.trigger(key="k")
    desk.report(desk.executor.started[0])
    desk.ask("schedule.cancel", {"id": "job"})
    again = desk.ask("schedule.trigger", {"id": "job", "key": "k"})
    assert again.ok
    assert again.body["execution_id"] == first
    assert again.body["status"] == "succeeded"
    assert code(desk.ask("schedule.trigger", {"id": "job", "key": "new"})) == (409, "illegal_state")


def test_trigger_overrides_the_payload_even_with_null(desk: Stepped) -> None:
    desk.manual(payload={"day": 1}, overlap="allow")
    desk.trigger()
    desk.trigger(payload={"day": 2})
    desk.trigger(payload=None)
    assert [work.payload for work in desk.executor.started] == [{"day": 1}, {"day": 2}, None]


@pytest.mark.parametrize("state", ["running", "ended", "skipped", "same batch"])
def test_trigger_with_a_key_and_another_payload_is_a_conflict(desk: Stepped, state: str) -> None:
    desk.manual()
    if state == "skipped":
        desk.trigger(key="in the way")
    asked = [desk.send("schedule.trigger", {"id": "job", "key": "k", "payload": 1})]
    if state == "same batch":
        asked.append(desk.send("schedule.trigger", {"id": "job", "key": "k", "payload": 2}))
    desk.settle()
    if state == "ended":
        desk.report(desk.executor.started[0])
    for payload in ({"payload": 2}, {"payload": None}, {}):
        reply = desk.ask("schedule.trigger", {"id": "job", "key": "k", **payload})
        assert code(reply) == (409, "idempotency_conflict")
        assert reply.body["error"]["field"] == "key"
    again = desk.ask("schedule.trigger", {"id": "job", "key": "k", "payload": 1})
    assert again.body["execution_id"] == asked[0][0].body["execution_id"]
    if state == "same batch":
        assert code(asked[1][0]) == (409, "idempotency_conflict")


def test_skipped_trigger_says_why_each_time(desk: Stepped, restart: Any) -> None:
    desk.manual()
    desk.trigger(key="first")
    first = desk.ask("schedule.trigger", {"id": "job", "key": "k"})
    assert (first.body["status"], first.body["reason"]) == ("skipped", "overlap")
    desk.report(desk.executor.started[0])
    assert "reason" not in desk.ask("schedule.trigger", {"id": "job", "key": "new"}).body
    again = restart().ask("schedule.trigger", {"id": "job", "key": "k"})
    assert again.body == first.body


# --- what a reply says ---------------------------------------------------------------------------


def test_reply_of_a_paused_schedule_has_no_next_instant(desk: Stepped) -> None:
    assert desk.create().body["next_due"] == "2026-01-05T08:01:00Z"
    assert desk.ask("schedule.pause", {"id": "job"}).body["next_due"] is None
    changed = {"id": "job", "trigger": {"type": "interval", "every": "2 minutes"}, "action": WORK}
    assert desk.ask("schedule.update", changed).body["next_due"] is None
    assert desk.ask("schedule.resume", {"id": "job"}).body["next_due"] == "2026-01-05T08:02:00Z"


def test_schedule_before_its_start_is_pending_in_replies_too(desk: Stepped) -> None:
    created = desk.create(start_at="2026-01-05T09:00:00Z")
    assert (created.body["status"], created.body["next_due"]) == ("pending", "2026-01-05T09:00:00Z")
    desk.clock.move(3600)
    desk.settle()
    assert desk.ask("schedule.resume", {"id": "job"}).body["status"] == "active"


# --- failures in a row ---------------------------------------------------------------------------


def test_failures_in_a_row_are_counted_across_a_restart(desk: Stepped, restart: Any) -> None:
    desk.create(pause_on_failures=2, retry={"max_attempts": 1})
    desk.advance(60)
    desk.report(desk.executor.started[0], "failed")
    later = restart()
    later.advance(60)
    reply = later.report(later.executor.started[0], "failed")
    (tripped,) = later.events(ScheduleTripped)
    assert (tripped.failures, tripped.execution_id) == (2, reply.body["execution_id"])
    assert later.ask("schedule.pause", {"id": "job"}).body["status"] == "paused"
    later.advance(3600)
    assert later.count("execution.requested") == 2


# --- tenants -------------------------------------------------------------------------------------


def test_tenants_have_schedules_of_the_same_id(desk: Stepped) -> None:
    body = {"id": "a", "trigger": {"type": "manual"}, "action": WORK}
    for tenant in ("one", "two"):
        assert desk.ask("schedule.create", body, tenant=tenant).body["revision"] == 1
    desk.ask("schedule.cancel", {"id": "a"}, tenant="one")
    assert desk.ask("schedule.trigger", {"id": "a"}, tenant="two").ok
    assert not desk.ask("schedule.trigger", {"id": "a"}, tenant="one").ok


@pytest.mark.parametrize("ended", [False, True])
def test_executions_of_another_tenant_do_not_exist(desk: Stepped, ended: bool) -> None:
    desk.manual()
    desk.trigger()
    work = desk.executor.started[0]
    if ended:
        desk.report(work)
    before = len(desk.names())
    for name, body in (
        ("execution.report", reported(work)),
        ("execution.start", {"execution_id": work.execution_id, "lease": "1.1"}),
        ("execution.cancel", {"id": work.execution_id}),
    ):
        reply = desk.ask(name, body, tenant="stranger")
        assert code(reply) == (404, "execution_not_found"), name
    assert len(desk.names()) == before


# --- reports -------------------------------------------------------------------------------------


def test_report_repeated_has_its_first_answer_and_no_second_event(desk: Stepped) -> None:
    desk.manual()
    desk.trigger()
    work = desk.executor.started[0]
    first = desk.report(work)
    second = desk.report(work)
    assert first.ok
    assert second.ok
    assert desk.count("execution.succeeded") == 1


def test_report_twice_in_one_batch_is_accepted_once(desk: Stepped) -> None:
    desk.manual()
    desk.trigger()
    work = desk.executor.started[0]
    replies = [desk.send("execution.report", reported(work)) for _ in range(2)]
    desk.settle()
    assert [reply[0].status for reply in replies] == [200, 200]
    assert desk.count("execution.succeeded") == 1


def test_report_of_a_stale_lease_is_recorded_and_changes_nothing(desk: Stepped) -> None:
    desk.manual()
    desk.trigger()
    work = desk.executor.started[0]
    reply = desk.ask("execution.report", reported(work) | {"lease": "0.9"})
    assert code(reply) == (409, "stale_lease")
    assert number(reply) == len(desk.names())
    assert len(desk.events(ReportRefused)) == 1
    assert desk.report(work).ok


def test_stale_report_of_what_has_ended_is_recorded_under_its_partition(desk: Stepped) -> None:
    desk.manual()
    desk.trigger()
    work = desk.executor.started[0]
    desk.report(work)
    batches: list[Any] = []
    append = desk.store.append
    desk.store.append = lambda batch: batches.append(batch) or append(batch)  # type: ignore[method-assign,func-returns-value]
    try:
        reply = desk.ask("execution.report", reported(work) | {"lease": "9.9"})
    finally:
        del desk.store.append
    assert code(reply) == (409, "stale_lease")
    assert len(batches[0].epochs) == 1


def test_cancel_then_report_in_one_batch_cancels(desk: Stepped) -> None:
    desk.manual()
    id_ = desk.trigger()
    work = desk.executor.started[0]
    cancelled = desk.send("execution.cancel", {"id": id_})
    late = desk.send("execution.report", reported(work))
    desk.settle()
    assert cancelled[0].ok
    assert code(late[0]) == (409, "stale_lease")
    assert desk.executor.stopped == [(id_, work.lease)]
    assert desk.count("execution.cancelled") == 1
    assert desk.count("execution.succeeded") == 0


def test_report_then_cancel_in_one_batch_succeeds(desk: Stepped) -> None:
    desk.manual()
    id_ = desk.trigger()
    accepted = desk.send("execution.report", reported(desk.executor.started[0]))
    late = desk.send("execution.cancel", {"id": id_})
    desk.settle()
    assert accepted[0].ok
    assert code(late[0]) == (409, "illegal_state")
    assert desk.count("execution.cancelled") == 0


def test_cancel_twice_is_the_same(desk: Stepped) -> None:
    desk.manual()
    id_ = desk.trigger()
    for _ in range(2):
        assert desk.ask("execution.cancel", {"id": id_}).body["status"] == "cancelled"
    both = [desk.send("execution.cancel", {"id": id_}) for _ in range(2)]
    desk.settle()
    assert all(each[0].ok for each in both)
    assert desk.count("execution.cancelled") == 1


@pytest.mark.parametrize("first", ["timeout", "report"])
def test_report_and_timeout_at_one_instant_have_one_winner(desk: Stepped, first: str) -> None:
    desk.manual(timeout={"start_to_close": "10 seconds"}, retry={"max_attempts": 1})
    desk.trigger()
    work = desk.executor.started[0]
    desk.clock.move(10 if first == "timeout" else 9.999999)
    reply = desk.report(work)
    desk.clock.move(1)
    desk.settle()
    if first == "timeout":
        assert code(reply) == (409, "stale_lease")
        assert desk.count("execution.timed_out") == 1
    else:
        assert reply.ok
        assert desk.count("execution.timed_out") == 0


def test_report_after_the_deadline_loses_although_more_is_due_than_fits_a_round(
    desk: Stepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("horae_application.engine.MAX_DUE", 1)
    desk.manual("job", timeout={"start_to_close": "10 seconds"}, retry={"max_attempts": 1})
    desk.trigger()
    work = desk.executor.started[0]
    desk.create(same_partition("job"), every="5 seconds")
    desk.clock.move(10)
    assert code(desk.report(work)) == (409, "stale_lease")
    assert desk.count("execution.succeeded") == 0
    assert desk.count("execution.timed_out") == 1


def test_handler_that_failed_is_tried_again_after_its_delay_and_then_fails(desk: Stepped) -> None:
    desk.manual(retry={"max_attempts": 2, "delay": "10 seconds", "jitter": 0})
    desk.trigger()
    error = {"type": "ValueError", "message": "no"}
    desk.report(desk.executor.started[0], "failed", error=error)
    desk.advance(9)
    assert len(desk.executor.started) == 1
    desk.advance(1)
    assert [work.attempt for work in desk.executor.started] == [1, 2]
    assert desk.report(desk.executor.started[1], "failed", error=error).body["status"] == "dead"
    assert desk.count("execution.dead_lettered") == 1


def test_failure_that_is_final_is_not_retried_whatever_the_policy(desk: Stepped) -> None:
    desk.manual(retry={"max_attempts": 4, "delay": "10 seconds"})
    desk.trigger()
    error = {"type": "PayloadInvalid", "message": "no number", "final": True}
    reply = desk.report(desk.executor.started[0], "failed", error=error)
    assert reply.body["status"] == "failed"
    desk.advance(600)
    assert len(desk.executor.started) == 1
    (failed,) = desk.events(ExecutionFailed)
    assert failed.error == {"type": "PayloadInvalid", "message": "no number"}


def test_again_asks_again_after_its_delay_and_is_no_retry(desk: Stepped) -> None:
    desk.manual(retry={"max_attempts": 1})
    desk.trigger()
    for turn in range(3):
        desk.report(desk.executor.started[turn], "again", after="30 seconds", limit=3)
        desk.advance(30)
    assert len(desk.executor.started) == 4
    desk.report(desk.executor.started[3], "again", after="30 seconds", limit=3)
    assert desk.count("execution.failed") == 1


def test_execution_start_gives_the_lease_of_queued_work(clock: Clock) -> None:
    bus = RecordingBus()
    desk = Stepped(MemoryStore(clock=clock.micros), clock, bus=bus)
    desk.settle()
    desk.manual(action={"type": "queue", "queue": "reports"})
    id_ = desk.trigger()
    work = bus.published[0]
    reply = desk.ask("execution.start", {"execution_id": id_, "lease": work.lease, "worker": "w"})
    assert reply.body["lease"] == work.lease == "1.1"
    redelivered = desk.ask("execution.start", {"execution_id": id_, "lease": "1.1"})
    assert redelivered.body["lease"] == "1.2"
    assert not desk.ask("execution.report", reported(work)).ok
    assert desk.ask("execution.report", reported(work) | {"lease": "1.2"}).ok
    assert code(desk.ask("execution.start", {"execution_id": id_})) == (409, "illegal_state")


def test_pause_and_fire_at_one_instant_fire_first(desk: Stepped) -> None:
    desk.create()
    desk.clock.move(60)
    assert desk.ask("schedule.pause", {"id": "job"}).ok
    desk.advance(600)
    assert len(desk.events(ExecutionRequested)) == 1


def test_pause_before_the_instant_keeps_it_from_firing(desk: Stepped) -> None:
    desk.create()
    desk.clock.move(59.999999)
    desk.ask("schedule.pause", {"id": "job"})
    desk.advance(600)
    assert desk.events(ExecutionRequested) == []


def test_update_and_fire_at_one_instant_decide_under_the_old_revision(desk: Stepped) -> None:
    desk.create(overlap="allow")
    desk.clock.move(60)
    changed = {"id": "job", "trigger": {"type": "interval", "every": "10 s"}, "action": WORK}
    assert desk.ask("schedule.update", changed).body["revision"] == 2
    assert [event.revision for event in desk.events(ExecutionRequested)] == [1]


def test_position_rests_on_the_log_after_a_restart(desk: Stepped, restart: Any) -> None:
    desk.create()
    desk.ask("schedule.pause", {"id": "job"})
    again = restart()
    assert number(again.ask("schedule.pause", {"id": "job"})) == 2
    assert number(again.ask("schedule.pause", {"id": "nobody"})) == 2


def test_start_of_the_engine_is_no_event(desk: Stepped, restart: Any) -> None:
    later = restart()
    later.settle()
    assert later.names() == []
    assert desk.clock.now() == START


def test_body_of_a_keyed_request_is_compared_as_it_came(desk: Stepped) -> None:
    desk.manual()
    raw = msgspec.json.encode({"id": "job"})
    assert desk.ask("schedule.trigger", raw, key="k").ok
    assert not desk.ask("schedule.trigger", raw + b" ", key="k").ok


def test_executor_without_room_leaves_work_waiting(clock: Clock) -> None:
    desk = Stepped(MemoryStore(clock=clock.micros), clock, executor=Recorder(slots=0))
    desk.settle()
    desk.manual()
    desk.trigger()
    assert desk.executor.started == []
    desk.executor.slots = 1
    desk.settle()
    assert len(desk.executor.started) == 1


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("schedule.pause", {"id": "gone"}, "schedule_not_found: no such schedule [gone]"),
        ("schedule.resume", {"id": "job"}, "illegal_state: schedule job is cancelled"),
        (
            "occurrence.skip",
            {"id": "job", "at": "2020-01-01T00:00:00Z"},
            "illegal_state: schedule job is cancelled",
        ),
    ],
)
def test_refusal_as_text_names_what_it_is_about(
    desk: Stepped, name: str, body: dict[str, Any], said: str
) -> None:
    desk.create()
    desk.ask("schedule.cancel", {"id": "job"})
    reply = desk.ask(name, body)
    assert str(error_from_json(reply.status, reply.body)) == said
