"""Executions that wait for confirmations (W4, W5) and fall back (W7)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from histories import History, at, cause, definition, like, said
from sagas import STEADY, WAIT, SagaHistory, function, paid, step

from horae_domain import decider, external, waits
from horae_domain.errors import IllegalState, InvalidField
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    AwaitingConfirmation,
    Because,
    ConfirmationLate,
    ConfirmationReceived,
    ConfirmationTimedOut,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionConfirmed,
    ExecutionDeadLettered,
    ExecutionFailed,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSucceeded,
    ExecutionTimedOut,
    FallbackStarted,
    ScheduleCancelled,
    ScheduleTripped,
    StageCompleted,
)
from horae_domain.execution import Status
from horae_domain.external import wants_of
from horae_domain.listeners import Role
from horae_domain.stages import command_of, deeds

THEN = {"then": function("finalise")}
RESCUE = {"fallback": function("rescue")}
NONE = {"action": {"type": "none"}}


def waiting(**told):
    history = SagaHistory(**{**NONE, "wait_for": WAIT | THEN | RESCUE, **told})
    history.begin(1)
    return history


# --- beginning -----------------------------------------------------------------------------------


def test_nothing_is_done_first_where_there_is_no_action():
    history = SagaHistory(**NONE, wait_for=WAIT | THEN)
    assert history.begin(1) == [
        like(ExecutionRequested),
        like(
            AwaitingConfirmation,
            waits=[{"event": "Paid", "match": {"order": "o-1"}}],
            need=1,
            deadline=at(601),
        ),
    ]
    assert history.live == []
    assert history.waiter.status is Status.WAITING
    assert history.waiter.waits_until == at(601)
    assert command_of(history.terms, history.waiter) is None


def test_wait_begins_when_the_action_has_succeeded():
    history = SagaHistory(wait_for={**WAIT, "match": {"id": "result.payment.id"}} | THEN)
    history.begin(1)
    history.start(2)
    report = said(result={"payment": {"id": 7}})
    assert history.report(3, report) == [
        like(StageCompleted, stage="", next="wait", attempt=1, result={"payment": {"id": 7}}),
        like(AwaitingConfirmation, waits=[{"event": "Paid", "match": {"id": 7}}], deadline=at(603)),
    ]
    assert history.report(4, report, history.waiter) == []


def test_what_waits_is_in_nobodys_way():
    history = SagaHistory(**NONE, wait_for=WAIT, overlap="skip")
    for number in range(3):
        assert history.begin(1 + number, key=f"k{number}")[0] == like(ExecutionRequested)
    assert len(history.waiting) == 3
    assert history.line.wake is None


def test_what_was_buffered_begins_to_wait_when_it_is_released():
    history = SagaHistory(overlap="buffer_all")
    history.begin(1, key="a")
    history.update(2, trigger={"type": "manual"}, overlap="buffer_all", **NONE, wait_for=WAIT)
    assert history.begin(3, key="b") == [like(ExecutionBuffered)]
    history.start(4)
    assert history.report(5, said()) == [
        like(ExecutionSucceeded),
        like(ExecutionReleased),
        like(AwaitingConfirmation),
    ]


def test_wait_for_ever_has_no_deadline():
    history = SagaHistory(**NONE, wait_for=WAIT | {"timeout": None})
    history.begin(1)
    assert history.waiter.waits_until is None
    assert history.expire(10**9) == []


def test_value_that_nobody_knows_falls_back_at_once():
    history = SagaHistory(**NONE, wait_for=WAIT | THEN | RESCUE)
    error = {
        "type": "UnresolvedMatch",
        "message": "wait_for.match.order: trigger.data.order leads nowhere",
    }
    because = Because(end="failed", reason="match_unresolved", error=error)
    assert history.begin(1, {"other": 1})[1:] == [
        like(FallbackStarted, stage="unconfirmed", because=because, run={})
    ]
    assert history.run.ready(at(1))


def test_value_that_nobody_knows_fails_without_a_fallback():
    history = SagaHistory(**NONE, wait_for=WAIT)
    assert history.begin(1, {"other": 1})[1:] == [like(ExecutionFailed)]


def test_literal_numbers_are_wanted_as_they_are():
    wait = WAIT | {"match": {"order": "payload.order", "count": 2, "ok": True}}
    history = SagaHistory(**NONE, wait_for=wait)
    history.begin(1)
    data = {"order": "o-1", "count": 2.0, "ok": 1}
    assert history.confirm(paid(2, data=data)) == []
    assert history.confirm(paid(2, data=data | {"ok": True}))[0] == like(ExecutionConfirmed)


# --- confirmations -------------------------------------------------------------------------------


def test_confirmation_runs_what_follows_with_its_data():
    history = waiting()
    told = history.confirm(paid(5))
    assert told == [like(ExecutionConfirmed)]
    run = history.run
    assert (run.status, run.stage, run.resume_at) == (Status.PENDING, "then", at(5))
    command = command_of(history.terms, run)
    assert command is not None
    assert (command.id, command.action.type) == (f"{run.id}:then", "function")
    assert command.payload == {"order": "o-1"}
    assert history.start(6) == [like(AttemptStarted, attempt=1, stage="then")]
    assert history.report(7, said(result="done")) == [like(ExecutionSucceeded, result="done")]


def test_confirmation_is_the_end_where_nothing_follows():
    history = SagaHistory(**NONE, wait_for=WAIT)
    history.begin(1)
    assert history.confirm(paid(5)) == [
        like(ExecutionConfirmed),
        like(ExecutionSucceeded, result={"order": "o-1"}),
    ]


@pytest.mark.parametrize(
    "event",
    [
        paid(5, order="o-2"),
        paid(5, data={}),
        paid(5, data=None),
        paid(5, type="Refunded"),
        paid(5, type="Paid.twice"),
    ],
)
def test_event_that_is_none_of_those_awaited_changes_nothing(event):
    history = waiting()
    assert history.confirm(event) == []
    assert history.waiter.status is Status.WAITING


@pytest.mark.parametrize(
    ("pattern", "type_", "fits"),
    [
        ("order.*", "order.paid", True),
        ("order.*", "order.paid.twice", False),
        ("order.*", "order", False),
        ("order.>", "order.paid.twice", True),
        ("order.>", "order", False),
        (">", "order", True),
    ],
)
def test_types_are_awaited_by_token(pattern, type_, fits):
    history = waiting(wait_for=WAIT | {"event": pattern})
    assert bool(history.confirm(paid(5, type=type_))) is fits


def test_same_event_confirms_two_that_wait_for_it():
    history = waiting()
    history.begin(2, key="other")
    for run in list(history.waiting.values()):
        assert history.confirm(paid(5), run) == [like(ExecutionConfirmed)]
    assert history.waiting == {}


def test_execution_that_does_not_wait_is_confirmed_by_nothing():
    history = waiting()
    run = history.waiter
    history.confirm(paid(5))
    assert history.confirm(paid(6, id_="e-2"), run) == []


def test_all_of_several_have_to_come():
    wait = {
        "events": [
            {"event": "Paid", "match": {"order": "payload.order"}},
            {"event": "Shipped", "match": {"order": "payload.order"}},
        ],
        "then": function("finalise"),
    }
    history = waiting(wait_for=wait)
    assert history.waiter.need == 2
    assert history.confirm(paid(5)) == [like(ConfirmationReceived)]
    assert history.confirm(paid(6, id_="e-1")) == []
    assert history.confirm(paid(6, id_="e-2")) == []
    assert [type_ for _, type_, _ in waits.missing(history.waiter)] == ["Shipped"]
    assert history.confirm(paid(7, type="Shipped", id_="e-3")) == [like(ExecutionConfirmed)]
    command = command_of(history.terms, history.run)
    assert command is not None
    assert command.payload == [{"order": "o-1"}, {"order": "o-1"}]


@pytest.mark.parametrize(("need", "needed"), [("any", 1), ("all", 3), (2, 2)])
def test_some_of_several_are_enough(need, needed):
    events = [{"event": name, "match": {"order": "payload.order"}} for name in "ABC"]
    history = waiting(wait_for={"events": events, "need": need})
    for index in range(needed):
        told = history.confirm(paid(2 + index, type="ABC"[index], id_=f"e-{index}"))
        last = index + 1 == needed
        assert told[0] == like(ExecutionConfirmed if last else ConfirmationReceived)


# --- deadlines -----------------------------------------------------------------------------------


def test_deadline_runs_the_fallback_with_the_reason():
    history = waiting()
    assert history.expire(600.9) == []
    told = history.expire(601)
    assert told == [
        like(ConfirmationTimedOut, received=0),
        like(FallbackStarted, stage="unconfirmed"),
    ]
    run = history.run
    assert run.because is not None
    assert (run.because.reason, run.because.end) == ("confirmation_not_received", "timed_out")
    command = command_of(history.terms, run)
    assert command is not None
    assert (command.id, command.payload) == (f"{run.id}:unconfirmed", {"order": "o-1"})
    history.start(602)
    assert history.report(603, said()) == [like(ExecutionSucceeded)]


def test_what_follows_a_wait_is_told_how_long_it_was():
    history = waiting(retry={"max_attempts": 1}, **RESCUE)
    assert (history.run.waited, waits.limit(history.terms, history.run)) == (None, None)
    history.confirm(paid(5))
    assert (history.run.waited, waits.limit(history.terms, history.run)) == (4.0, 600.0)
    history.start(6)
    history.report(7, said("failed"))
    assert (history.run.waited, history.run.wait_since) == (4.0, None)
    history.start(8)
    history.report(9, said("failed", "2.1"))
    history.requeue(700, history.last)
    assert history.run.waited == 4.0


def test_wait_without_a_timeout_has_a_length_and_no_limit():
    history = waiting(wait_for=WAIT | THEN | {"timeout": None})
    history.confirm(paid(5))
    assert (history.run.waited, waits.limit(history.terms, history.run)) == (4.0, None)


def test_deadline_takes_the_fallback_of_all_where_the_wait_has_none():
    history = waiting(wait_for=WAIT, **RESCUE)
    assert history.expire(601)[1] == like(FallbackStarted, stage="fallback")


def test_deadline_without_a_fallback_times_the_execution_out():
    history = waiting(wait_for=WAIT)
    assert history.expire(601) == [
        like(ConfirmationTimedOut),
        like(
            ExecutionTimedOut,
            error={
                "type": "ConfirmationTimeout",
                "message": "confirmation_not_received: nothing came within 10m",
                "reason": "confirmation_not_received",
            },
        ),
    ]
    assert history.line.failures == 1


def test_deadlines_without_a_fallback_pause_the_schedule():
    history = waiting(wait_for=WAIT, pause_on_failures=1)
    assert history.expire(601)[-1] == like(ScheduleTripped, failures=1)


def test_execution_as_a_whole_may_time_out_before():
    late = {"type": "Timeout", "message": "not ended within overall"}
    history = waiting(timeout={"overall": "1 minute"})
    assert history.expire(61) == [like(ExecutionTimedOut, error=late)]
    history = waiting(timeout={"overall": "1 minute"}, **RESCUE)
    assert history.expire(61) == [like(FallbackStarted, stage="fallback")]
    assert history.run.bound is None


def test_fallback_that_fails_is_retried_and_then_dead():
    history = waiting(retry=STEADY)
    history.expire(601)
    history.start(602)
    boom = {"type": "Boom", "message": "no"}
    assert history.report(603, said("failed", error=boom)) == [
        like(AttemptFailed, retry_at=at(613))
    ]
    history.start(613)
    told = history.report(614, said("failed", "2.1", error=boom))
    assert told == [like(AttemptFailed, retry_at=None), like(ExecutionDeadLettered)]


def test_fallback_that_fails_is_dead_even_where_nothing_is_retried():
    history = waiting(retry={"max_attempts": 1})
    history.expire(601)
    history.start(602)
    assert history.report(603, said("failed", final=True))[-1] == like(ExecutionDeadLettered)
    assert history.requeue(700, history.last) == [like(ExecutionRequeued, stage="unconfirmed")]
    assert history.start(701) == [like(AttemptStarted, stage="unconfirmed", attempt=2)]


def test_failed_confirmation_falls_back_too():
    history = waiting(**RESCUE, retry={"max_attempts": 1})
    history.confirm(paid(5))
    history.start(6)
    told = history.report(7, said("failed"))
    assert told == [like(AttemptFailed), like(FallbackStarted, stage="fallback")]


def test_event_received_before_the_deadline_confirms_after_it():
    history = waiting()
    assert history.confirm_at(700, paid(600)) == [like(ExecutionConfirmed)]


def test_event_received_after_the_deadline_is_late():
    history = waiting()
    assert history.confirm(paid(601)) == [
        like(ConfirmationTimedOut),
        like(FallbackStarted),
        like(ConfirmationLate, event_id="e-1", status="pending"),
    ]


def test_event_that_comes_when_all_is_over_is_recorded_and_changes_nothing():
    history = waiting(wait_for=WAIT)
    history.expire(601)
    before = history.last
    told = history.do(waits.late, before, paid(700), cause(700))
    assert told == [like(ConfirmationLate, status="timed_out", source="shop", type="Paid")]
    assert history.last.status is Status.TIMED_OUT


# --- what people do ------------------------------------------------------------------------------


def test_what_waits_can_be_cancelled():
    history = waiting()
    run = history.waiter
    assert history.cancel_run(5, run) == [like(ExecutionCancelled, reason="enough")]
    assert history.waiting == {}
    assert history.expire(700, run) == []


def test_what_waits_is_cancelled_by_an_event():
    history = waiting()
    told = history.end(paid(5), history.waiter.id)
    assert told == [like(ExecutionCancelled, event_id="e-1", event_source="shop")]


def test_what_waits_outlives_its_schedule():
    history = waiting(retry=STEADY)
    assert history.cancel(5) == [like(ScheduleCancelled)]
    assert history.expire(601)[-1] == like(FallbackStarted)
    history.start(602)
    told = history.report(603, said("failed", error={"type": "Boom", "message": ""}))
    assert told == [like(AttemptFailed, retry_at=at(613))]


def test_what_has_timed_out_waits_anew_when_it_is_requeued():
    history = waiting(wait_for=WAIT)
    history.expire(601)
    assert history.requeue(700, history.last) == [
        like(ExecutionRequeued, stage="wait"),
        like(AwaitingConfirmation, deadline=at(1300)),
    ]
    history.confirm(paid(701))
    with pytest.raises(IllegalState):
        history.requeue(702, history.last)


# --- plain actions -------------------------------------------------------------------------------


def test_failed_action_falls_back():
    history = History(**RESCUE, retry=STEADY)
    history.settle(60)
    history.start(60)
    boom = {"type": "Boom", "message": "no", "stack": "…"}
    history.report(61, said("failed", error=boom))
    history.start(71)
    told = history.report(72, said("failed", "2.1", error=boom))
    because = Because(end="dead", reason="failed", error={"type": "Boom", "message": "no"})
    assert told == [
        like(AttemptFailed),
        like(FallbackStarted, stage="fallback", because=because, run={}),
    ]
    assert history.run.failures == 0


def test_action_that_was_not_started_in_time_falls_back():
    history = History(**RESCUE, timeout={"schedule_to_start": "10s"})
    history.settle(60)
    assert history.settle(70) == [like(FallbackStarted)]
    assert history.run.because == Because(
        end="timed_out",
        reason="timed_out",
        error={"type": "Timeout", "message": "not started within schedule_to_start"},
    )


def test_cancelled_action_does_not_fall_back():
    history = History(**RESCUE)
    history.settle(60)
    assert history.cancel_run(61) == [like(ExecutionCancelled)]


# --- definitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"wait_for": {}}, "wait_for"),
        ({"wait_for": WAIT | {"events": [WAIT]}}, "wait_for.events[0].timeout"),
        ({"wait_for": {"event": "Paid"}}, "wait_for"),
        ({"wait_for": WAIT | {"match": {"order": "elsewhere.id"}}}, "wait_for.match.order"),
        ({"wait_for": WAIT | {"match": {"or..der": "payload.id"}}}, "wait_for.match.or..der.[key]"),
        ({"wait_for": WAIT | {"match": {}}}, "wait_for.match"),
        ({"wait_for": WAIT | {"event": "a.>.b"}}, "wait_for.event"),
        ({"wait_for": WAIT | {"need": 2}}, "wait_for"),
        ({"wait_for": WAIT | {"timeout": 0}}, "wait_for.timeout"),
        ({"wait_for": WAIT | {"then": {"type": "steps", "steps": []}}}, "wait_for.then.type"),
        ({"action": {"type": "none"}}, None),
        ({"action": {"type": "steps", "steps": []}}, "action.steps"),
        ({"action": {"type": "steps", "steps": [step("a"), step("a")]}}, "action.steps"),
        ({"fallback": "rescue"}, "fallback"),
    ],
)
def test_what_cannot_be_waited_for_is_refused_by_its_field(told, field):
    with pytest.raises(InvalidField) as caught:
        definition(**told)
    assert caught.value.field == field


def test_all_that_may_be_done_is_known_by_its_field():
    found = definition(
        action={"type": "steps", "steps": [step("a"), step("b", undo=False)]},
        wait_for=WAIT | THEN | RESCUE,
        **RESCUE,
    )
    assert [path for path, _ in deeds(found)] == [
        "fallback",
        "wait_for.then",
        "wait_for.fallback",
        "action.steps[0].action",
        "action.steps[0].compensate",
        "action.steps[1].action",
    ]
    assert [path for path, _ in deeds(definition(**RESCUE))] == ["action", "fallback"]


def test_canonical_form_keeps_all_of_it():
    found = definition(
        action={"type": "steps", "steps": [step("a")]}, wait_for=WAIT | THEN | RESCUE, **RESCUE
    )
    told = found.canonical()
    assert told["fallback"] == function("rescue")
    assert told["wait_for"]["then"] == function("finalise")
    assert told["action"]["steps"][0]["compensate"] == function("una")
    assert definition(**{name: told[name] for name in told if name != "id"}) == found
    assert found.wait_for is not None
    assert found.wait_for.timeout == timedelta(minutes=10)


# --- what comes before ---------------------------------------------------------------------------


def wanted(history, run):
    return [(each.listener.role, each.event, each.match) for each in wants_of(history.terms, run)]


def test_what_may_confirm_it_is_kept_until_it_waits():
    history = SagaHistory(wait_for=WAIT | {"match": {"order": "payload.order", "id": "result.id"}})
    history.begin(1)
    history.start(2)
    assert wanted(history, history.run) == [(Role.KEEP, "Paid", (("order", "o-1"),))]
    for number in (1, 2):
        data = {"order": "o-1", "id": number}
        told = history.do(
            waits.keep, history.run.id, paid(3, data=data, id_=f"e-{number}"), cause(3)
        )
        assert told[0] == like(ConfirmationReceived)
    assert history.do(waits.keep, history.run.id, paid(4, id_="e-1"), cause(4)) == []
    told = history.report(5, said(result={"id": 2}))
    assert told[1:] == [
        like(AwaitingConfirmation),
        like(ExecutionConfirmed),
        like(ExecutionSucceeded, result={"order": "o-1", "id": 2}),
    ]


def test_values_may_be_facts_of_the_trigger():
    match = {"run": "trigger.execution_id", "how": "trigger.outcome", "rows": "trigger.data.rows"}
    history = SagaHistory(
        **NONE, wait_for=WAIT | {"match": match}, trigger={"type": "outcome", "schedule": "load"}
    )
    facts = {"execution_id": "x-1", "outcome": "succeeded", "data": {"rows": 3}}
    happened = external.Happening("chain", "x-1:succeeded", at(1), facts)
    _, awaiting = history.do(external.fire, happened, cause(1))
    values = {"run": "x-1", "how": "succeeded", "rows": 3}
    assert awaiting.waits == [{"event": "Paid", "match": values}]


def test_not_all_that_come_before_are_kept():
    history = SagaHistory(wait_for=WAIT | {"match": {"order": 1}})
    history.begin(1)
    assert wanted(history, history.run) == [(Role.KEEP, "Paid", (("order", 1),))]
    for number in range(waits.MAX_EARLY):
        history.do(waits.keep, history.run.id, paid(3, id_=f"e-{number}"), cause(3))
    assert history.do(waits.keep, history.run.id, paid(3, id_="more"), cause(3)) == []
    assert history.do(waits.keep, "gone", paid(3), cause(3)) == []


def test_what_waits_listens_for_what_is_missing_and_what_would_cancel_it():
    ends = {"event": "Withdrawn", "match": {"order": "trigger.data.order"}}
    history = waiting(cancel_on=ends)
    match = (("order", "o-1"),)
    assert wanted(history, history.waiter) == [
        (Role.CANCEL, "Withdrawn", match),
        (Role.CONFIRM, "Paid", match),
    ]
    history.do(decider.confirm, history.waiter.id, paid(4), cause(4))
    assert wanted(history, history.run) == [(Role.CANCEL, "Withdrawn", match)]
    assert history.do(decider.confirm, history.run.id, paid(5, id_="e-2"), cause(5)) == []


def test_what_does_not_wait_listens_for_nothing():
    history = SagaHistory()
    history.begin(1)
    assert wanted(history, history.run) == []


def test_value_that_is_missing_is_not_known_before():
    history = SagaHistory(wait_for=WAIT)
    history.begin(1, {"other": 1})
    assert wanted(history, history.run) == [(Role.KEEP, "Paid", ())]


def test_schedules_own_payload_is_what_runs_without_another_one_are_given():
    history = History(payload={"day": "today"})
    history.settle(60)
    command = command_of(history.line.definition, history.run)
    assert command is not None
    assert (command.payload, command.id) == ({"day": "today"}, history.run.id)
