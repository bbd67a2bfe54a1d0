"""What external events, and the outcomes of other executions, do to a schedule (T5, T11, W2)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from histories import History, at, cause, definition, like, said

from horae_domain import external, waits
from horae_domain.circles import MAX_DEPTH
from horae_domain.definition import parse_definition
from horae_domain.errors import InvalidExpression, InvalidField, InvalidTrigger
from horae_domain.events import (
    AttemptFailed,
    AwaitingConfirmation,
    ConfirmationReceived,
    DelayEnded,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionConfirmed,
    ExecutionDeadLettered,
    ExecutionDropped,
    ExecutionFailed,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionSkipped,
    ExecutionSucceeded,
    ExecutionTimedOut,
    ExternalEventReceived,
    FallbackStarted,
    ScheduleCompleted,
    TimerMoved,
)
from horae_domain.execution import Status
from horae_domain.identity import schedule_stream
from horae_domain.listeners import OUTCOME, Interest, Listener, Role
from horae_domain.policies import Overlap

TRADES = {"type": "event", "event": "trade.*"}
LATER = TRADES | {"delay": "5 minutes"}
WORK = {"type": "function", "name": "work"}
AFTER = {"type": "outcome", "schedule": "load", "of": ["succeeded", "failed"]}
STREAM = schedule_stream("default", "job")


def event(seconds: float, id_: str = "e-1", **told: Any) -> ExternalEventReceived:
    facts = {"type": "trade.submitted", "source": "desk", "data": {"amount": 5}} | told
    return ExternalEventReceived(at=at(seconds), id=id_, **facts)


def receive(history: History, seconds: float, id_: str = "e-1", **told: Any) -> list[Any]:
    happened = external.happening(event(seconds, id_, **told))
    return history.do(external.fire, happened, cause(seconds))


def follow(history: History, seconds: float, ended: Any, depth: int = 0) -> list[Any]:
    happened = external.chained(ended, depth)
    return history.do(external.fire, happened, cause(seconds))


def ended(kind: Any = ExecutionSucceeded, seconds: float = 9, /, **told: Any) -> Any:
    facts = {"attempt": 1} if kind is ExecutionSucceeded else {}
    return kind(at=at(seconds), schedule_id="load", execution_id="x-1", **facts | told)


# --- triggers ------------------------------------------------------------------------------------


def test_event_fires_with_its_data_as_payload_and_its_facts():
    history = History(trigger=TRADES)
    [requested] = receive(history, 7)
    assert requested == like(
        ExecutionRequested,
        kind="event",
        due=at(7),
        nominal="desk#e-1",
        run_number=1,
        overridden=False,
        trigger={
            "event": "trade.submitted",
            "source": "desk",
            "id": "e-1",
            "at": "2026-01-05T00:00:07Z",
            "data": {"amount": 5},
        },
    )
    assert history.run.status is Status.PENDING
    assert history.line.payload_of(history.run) == {"amount": 5}


def test_schedule_with_a_payload_of_its_own_keeps_it():
    history = History(trigger=TRADES, payload={"mine": 1})
    receive(history, 7)
    assert history.line.payload_of(history.run) == {"mine": 1}
    assert history.run.trigger["data"] == {"amount": 5}


def test_execution_waits_for_the_delay_after_the_event():
    history = History(trigger=LATER)
    receive(history, 7)
    assert (history.run.status, history.run.resume_at) == (Status.DELAYED, at(307))
    assert history.live == []
    assert history.run.returns_at == at(307)
    assert history.line.wake is None
    assert history.settle(306) == []
    assert history.settle(307) == [like(DelayEnded)]
    assert (history.run.status, history.waiting) == (Status.PENDING, {})
    assert history.run.resume_at == at(307)
    history.start(308)
    assert history.report(309, said()) == [like(ExecutionSucceeded)]


def test_delay_is_kept_in_the_line_where_an_unfinished_execution_is_in_the_way():
    history = History(trigger=LATER, overlap="skip")
    receive(history, 7)
    assert (history.run.status, history.waiting) == (Status.DELAYED, {})
    assert history.line.wake == at(307)
    assert not history.run.ready(at(306))
    assert history.run.ready(at(307))
    assert not history.line.unsettled


def test_schedule_knows_whether_its_executions_may_be_delayed():
    assert History(trigger=LATER).line.schedule.delays
    assert not History(trigger=TRADES).line.schedule.delays
    assert not History().line.schedule.delays


def test_delay_ends_with_the_cancellation_of_its_schedule():
    history = History(trigger=LATER)
    receive(history, 7)
    history.cancel(8)
    assert history.settle(9) == [like(ExecutionCancelled, reason="schedule_cancelled")]
    assert history.waiting == {}


def test_wait_begins_with_the_end_of_the_delay_and_knows_what_came_before():
    wait = {"event": "paid", "match": {"amount": "trigger.data.amount"}, "then": WORK}
    history = History(trigger=LATER, action={"type": "none"}, wait_for=wait)
    receive(history, 7)
    early = event(8, "early", type="paid")
    assert history.do(waits.keep, history.run.id, early, cause(8)) == [like(ConfirmationReceived)]
    assert history.settle(307) == [
        like(DelayEnded), like(AwaitingConfirmation), like(ExecutionConfirmed)
    ]  # fmt: skip


def test_wait_begins_when_its_delay_is_moved_to_this_very_instant():
    wait = {"event": "paid", "match": {"amount": "trigger.data.amount"}, "then": WORK}
    history = History(trigger=LATER, action={"type": "none"}, wait_for=wait, overlap="skip")
    receive(history, 7)
    assert history.move_timer(8, "delay", 8) == [like(TimerMoved), like(AwaitingConfirmation)]


def test_fallback_of_what_was_over_with_its_delay_carries_all_of_it():
    history = History(trigger=LATER, timeout={"overall": 60}, fallback=WORK)
    receive(history, 7)
    [fallback] = history.settle(400)
    assert fallback == like(FallbackStarted, stage="fallback")
    assert history.run.trigger["id"] == "e-1"
    assert history.waiting == {}


def test_delay_counts_from_the_event_not_from_its_arrival():
    history = History(trigger=LATER)
    receive(history, 200, occurred_at=at(-100))
    assert history.run.due == at(200)
    assert history.run.status is Status.PENDING


def test_timeouts_of_a_delayed_execution_begin_with_the_end_of_the_delay():
    bounds = {"schedule_to_start": 10, "overall": 60}
    history = History(trigger=LATER, timeout=bounds)
    receive(history, 7)
    assert (history.run.start_by, history.run.end_by) == (at(317), at(367))


def test_events_do_not_wait_for_one_another_unless_told():
    history = History(trigger=TRADES)
    for number in range(3):
        receive(history, number, f"e-{number}")
    assert len(history.live) == 3
    assert definition(trigger=TRADES).overlap is Overlap.ALLOW
    assert definition(trigger=AFTER).overlap is Overlap.ALLOW
    assert definition(trigger=TRADES, overlap="skip").overlap is Overlap.SKIP
    assert definition().overlap is Overlap.SKIP


def test_definition_with_an_event_reads_back_as_it_was():
    first = definition(trigger=LATER, cancel_on={"event": "x", "match": {"a": "trigger.data.a"}})
    assert parse_definition(first.canonical()) == first


def test_events_obey_the_overlap_policy():
    history = History(trigger=TRADES, overlap="buffer_all")
    receive(history, 1)
    [buffered] = receive(history, 2, "e-2")
    assert buffered == like(ExecutionBuffered, kind="event", blocked_by=history.run.id)
    history.start(3)
    released = history.report(4, said())[1]
    assert released == like(ExecutionReleased, run_number=2)
    assert history.run.status is Status.PENDING


def test_buffered_event_that_is_released_before_its_delay_is_over_waits_on():
    history = History(trigger=LATER, overlap="buffer_all")
    receive(history, 0)
    receive(history, 290, "e-2")
    history.start(300)
    history.report(301, said())
    assert (history.run.status, history.run.resume_at) == (Status.DELAYED, at(590))


def test_event_behind_a_run_is_skipped_where_the_policy_says_so():
    history = History(trigger=TRADES, overlap="skip")
    receive(history, 1)
    [skipped] = receive(history, 2, "e-2")
    assert skipped == like(ExecutionSkipped, reason="overlap", blocked_by=history.run.id)
    assert skipped.trigger["id"] == "e-2"


def test_values_of_the_event_are_lanes():
    history = History(
        trigger=TRADES, overlap="skip", concurrency_key="book", payload=None, concurrency=1
    )
    receive(history, 1, "a", data={"book": "x"})
    receive(history, 2, "b", data={"book": "y"})
    [skipped] = receive(history, 3, "c", data={"book": "x"})
    assert skipped == like(ExecutionSkipped, reason="overlap", blocked_by=history.live[0].id)
    assert len(history.live) == 2


def test_same_event_is_the_same_execution_whatever_the_delay_is_by_then():
    happened = external.happening(event(7))
    history = History(trigger=TRADES)
    before = external.identity_of(history.line, happened)
    history.update(8, trigger=LATER)
    assert external.identity_of(history.line, happened) == before
    assert receive(history, 7)[0].execution_id == before


def test_same_event_is_the_same_execution_whatever_triggers_the_schedule_by_then():
    happened = external.happening(event(7))
    listening, other = History(trigger=TRADES), History(trigger={"type": "manual"})
    assert external.identity_of(listening.line, happened) == external.identity_of(
        other.line, happened
    )


def test_event_without_a_source_has_its_id_alone():
    history = History(trigger=TRADES)
    [requested] = receive(history, 7, source="")
    assert requested.nominal == "e-1"
    assert "source" not in requested.trigger


def test_sources_and_ids_are_not_mixed_up():
    labels = {
        external.label_of(source, id_)
        for source in ("", "a", "a#b", "a%23b", "a#")
        for id_ in ("a", "b", "a#b", "#b", "b#")
    }
    assert len(labels) == 25


def test_event_while_paused_is_recorded_as_skipped():
    history = History(trigger=TRADES)
    history.pause(1)
    assert receive(history, 2) == [
        like(ExecutionSkipped, reason="paused", kind="event", nominal="desk#e-1")
    ]
    history.resume(3)
    assert receive(history, 4, "e-2")[0] == like(ExecutionRequested, run_number=1)


@pytest.mark.parametrize("seconds", [9, 31])
def test_event_outside_the_bounds_is_none_of_the_schedules(seconds):
    history = History(
        trigger=TRADES,
        start_at=at(10).isoformat(),
        end_at=at(30).isoformat(),
    )
    assert not [each for each in receive(history, seconds) if isinstance(each, ExecutionRequested)]


def test_bounds_are_inclusive():
    history = History(trigger=TRADES, start_at=at(10).isoformat(), end_at=at(30).isoformat())
    assert receive(history, 10)
    assert receive(history, 30, "e-2")


def test_schedule_of_events_completes_after_its_end():
    history = History(trigger=TRADES, end_at=at(30).isoformat())
    assert history.line.wake == at(30) + timedelta(microseconds=1)
    assert history.settle(30) == []
    assert history.settle(31) == [like(ScheduleCompleted, reason="end_at")]
    assert receive(history, 32) == []


def test_schedule_of_events_that_could_hear_of_none_is_refused():
    with pytest.raises(InvalidTrigger, match="never fire"):
        History(50, trigger=TRADES, end_at=at(30).isoformat())


def test_schedule_completes_with_the_last_of_its_executions():
    history = History(trigger=TRADES, max_executions=1)
    assert receive(history, 1)[1] == like(ScheduleCompleted, reason="max_executions")
    assert receive(history, 2, "e-2") == []


def test_schedule_of_events_that_has_no_bound_stays():
    history = History(trigger=TRADES)
    assert history.settle(1_000_000) == []
    assert history.line.wake is None


def test_cooldown_after_a_firing_holds_for_events():
    history = History(trigger=TRADES, cooldown=60)
    receive(history, 1)
    assert receive(history, 60, "e-2") == [like(ExecutionSkipped, reason="cooldown")]
    assert receive(history, 61, "e-3")[0] == like(ExecutionRequested, run_number=2)


@pytest.mark.parametrize(
    ("text", "fires"),
    [
        ("data.amount > 4", True),
        ("data.amount > 5", False),
        ("event.type == 'trade.submitted' && event.source == 'desk' && event.id == 'e-1'", True),
        ("event.source == ''", False),
    ],
)
def test_filter_decides_which_events_are_the_schedules(text, fires):
    history = History(trigger=TRADES | {"filter": text})
    assert receive(history, 1) == [like(ExecutionRequested)] * fires


def test_filter_that_cannot_be_evaluated_is_recorded():
    history = History(trigger=TRADES | {"filter": "data.price > 4"})
    [skipped] = receive(history, 1)
    assert skipped == like(ExecutionSkipped, reason="filter_error")
    assert "price" in skipped.note


def test_filter_that_is_no_expression_is_refused():
    with pytest.raises(InvalidExpression) as caught:
        History(trigger=TRADES | {"filter": "data.amount >"})
    assert caught.value.field == "trigger.filter"
    with pytest.raises(InvalidExpression):
        History(trigger=TRADES | {"filter": "amount > 4"})


def test_trigger_of_another_kind_hears_nothing():
    assert receive(History(), 1) == []
    assert follow(History(trigger=TRADES), 1, ended()) == []


def test_event_says_nothing_of_a_calendar_that_comes_later():
    history = History(trigger=LATER)
    receive(history, 1)
    history.update(2, trigger={"type": "interval", "every": 60})
    assert history.line.next_due == at(62)
    assert history.line.through == at(2)


def test_failed_execution_is_tried_again_with_its_facts():
    history = History(trigger=TRADES, retry={"max_attempts": 1})
    receive(history, 1)
    history.start(2)
    run = history.run
    history.report(3, said("failed", error={"type": "E", "message": ""}))
    history.requeue(4, run)
    assert history.run.trigger == run.trigger
    assert history.line.payload_of(history.run) == {"amount": 5}


# --- who listens ---------------------------------------------------------------------------------


def test_schedule_listens_while_it_is_enabled_and_has_not_ended():
    history = History(trigger=TRADES)
    listening = [Interest("default", "trade.*", Listener(Role.TRIGGER, STREAM))]
    assert external.wants(history.line) == listening
    history.pause(1)
    assert external.wants(history.line) == listening
    history.update(2, trigger=TRADES, enabled=False)
    assert external.wants(history.line) == []
    assert receive(history, 3) == []
    history.resume(4)
    assert external.wants(history.line) == listening
    history.cancel(5)
    assert external.wants(history.line) == []


def test_schedule_that_is_made_disabled_hears_nothing():
    history = History(trigger=TRADES, enabled=False)
    assert external.wants(history.line) == []
    assert receive(history, 1) == []


def test_schedules_listen_for_outcomes_and_not_for_calendars():
    assert external.wants(History().line) == []
    [wanted] = external.wants(History(trigger=AFTER).line)
    assert wanted.event == OUTCOME + "load"
    assert external.wants(History(trigger=AFTER, enabled=False).line) == []


# --- ended by an event ---------------------------------------------------------------------------

ENDS = {"event": "ticket.resolved", "match": {"ticket.id": "trigger.data.ticket_id"}}


def ticket(**told: Any) -> History:
    history = History(trigger=LATER, cancel_on=ENDS, **told)
    receive(history, 1, data={"ticket_id": 7})
    return history


def test_execution_listens_for_the_event_that_ends_it():
    history = ticket()
    assert external.wants_of(history.line.definition, history.run) == [
        Interest(
            "default",
            "ticket.resolved",
            Listener(Role.CANCEL, STREAM, history.run.id),
            (("ticket.id", 7),),
        )
    ]


def test_event_ends_an_execution_before_its_outcome():
    history, resolved = ticket(), event(2, "e-2", type="ticket.resolved")
    run = history.run
    cancelled = history.do(external.end, run.id, resolved, cause(2))
    assert cancelled == [
        like(
            ExecutionCancelled,
            reason="cancelled_by_event",
            event_source="desk",
            event_id="e-2",
        )
    ]
    assert history.do(external.end, run.id, resolved, cause(3)) == []
    assert external.wants_of(history.line.definition, history.told(run)) == []


def test_event_that_ends_an_execution_makes_room():
    history = ticket(overlap="buffer_all")
    receive(history, 2, "e-2", data={"ticket_id": 8})
    first = history.run
    events = history.do(external.end, first.id, event(3, "e-3"), cause(3))
    assert events[1] == like(ExecutionReleased)


def test_execution_that_has_not_the_value_to_compare_is_ended_by_no_event():
    history = History(trigger=TRADES, cancel_on=ENDS)
    receive(history, 1, data={"other": 1})
    assert external.wants_of(history.line.definition, history.run) == []


def test_each_of_several_events_ends_an_execution():
    moved = {"event": "ticket.moved", "match": {"id": "trigger.data.ticket_id"}}
    lost = {"event": "ticket.lost", "match": {"id": "trigger.data.lost_id"}}
    history = History(trigger=LATER, cancel_on=[ENDS, moved, lost])
    receive(history, 1, data={"ticket_id": 7})
    definition_, run = history.line.definition, history.run
    found = [(each.event, each.match) for each in external.wants_of(definition_, run)]
    assert found == [("ticket.resolved", (("ticket.id", 7),)), ("ticket.moved", (("id", 7),))]
    assert history.line.schedule.listens_for_runs
    assert parse_definition(definition_.canonical()) == definition_


def test_values_may_come_from_the_payload():
    ends = {"event": "stop", "match": {"id": "payload.id"}}
    history = History(trigger={"type": "manual"}, cancel_on=ends, payload={"id": 1})
    history.trigger(1, "k", {"id": 2})
    [wanted] = external.wants_of(history.line.definition, history.run)
    assert wanted.match == (("id", 2),)
    history.cancel_run(2)
    history.trigger(3, "other")
    [wanted] = external.wants_of(history.line.definition, history.run)
    assert wanted.match == (("id", 1),)


def test_event_that_comes_with_the_timeout_finds_it_decided():
    history = ticket(timeout={"overall": 10})
    run = history.run
    events = history.do(external.end, run.id, event(400, "e-2"), cause(400))
    assert events == [like(ExecutionTimedOut)]


# --- outcomes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "told", "outcome", "data"),
    [
        (ExecutionSucceeded, {"result": {"rows": 3}}, "succeeded", {"rows": 3}),
        (ExecutionFailed, {"attempt": 1, "error": {"type": "E"}}, "failed", {"type": "E"}),
        (ExecutionDeadLettered, {"attempt": 2, "error": {"type": "E"}}, "failed", {"type": "E"}),
        (ExecutionTimedOut, {"attempt": 1, "error": {"type": "T"}}, "timed_out", {"type": "T"}),
        (ExecutionCancelled, {"reason": "why"}, "cancelled", {"reason": "why"}),
        (ExecutionDropped, {"reason": "why"}, "skipped", {"reason": "why"}),
        (
            ExecutionSkipped,
            {"reason": "paused", "kind": "key", "due": at(1), "nominal": "k", "revision": 1},
            "skipped",
            {"reason": "paused"},
        ),
    ],
)
def test_outcome_triggers_with_what_it_said(kind, told, outcome, data):
    history = History(trigger=AFTER | {"of": [outcome]})
    over = ended(kind, **told)
    assert external.outcome_of(over) == outcome
    assert external.listens_for(history.line, outcome)
    [requested] = follow(history, 9, over)
    assert requested == like(
        ExecutionRequested,
        kind="chain",
        nominal=f"x-1:{outcome}",
        trigger={
            "schedule": "load",
            "execution_id": "x-1",
            "outcome": outcome,
            "depth": 1,
            "at": "2026-01-05T00:00:09Z",
            "data": data,
        },
    )


def test_execution_waits_for_the_delay_after_the_outcome():
    history = History(trigger=AFTER | {"delay": "1 hour"})
    (requested,) = follow(history, 9, ended())
    run = history.run
    assert (requested.due, run.status, run.resume_at) == (at(3609), Status.DELAYED, at(3609))
    assert not run.ready(at(3608.9))
    assert run.ready(at(3609))


def test_same_outcome_is_the_same_execution_whatever_the_delay_is_by_then():
    happened = external.chained(ended(), 0)
    soon, late = (History(trigger=AFTER | told) for told in ({}, {"delay": "1 hour"}))
    assert external.identity_of(soon.line, happened) == external.identity_of(late.line, happened)


def test_other_events_are_no_outcome():
    failed = AttemptFailed(
        at=at(1), schedule_id="load", execution_id="x-1", attempt=1, outcome="failed", error={}
    )
    assert external.outcome_of(failed) is None
    assert external.outcomes([failed, ended(), event(1)]) == [ended()]


def test_only_outcomes_that_are_listed_are_listened_for():
    assert not external.listens_for(History(trigger=AFTER).line, "skipped")
    assert not external.listens_for(History(trigger=TRADES).line, "succeeded")


def test_chain_ends_at_its_greatest_depth():
    history = History(trigger=AFTER)
    [last] = follow(history, 9, ended(), depth=MAX_DEPTH - 1)
    assert last.trigger["depth"] == MAX_DEPTH
    history = History(trigger=AFTER)
    [cut] = follow(history, 9, ended(), depth=MAX_DEPTH)
    assert cut == like(ExecutionSkipped, reason="chain_too_deep")


# --- definitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern", ["", "a b", "a..b", "a.>.b", "a*", "*a.b", ">a", ".a", "a.", "a" * 256, "a\n"]
)
def test_pattern_that_is_none_is_refused_by_its_field(pattern):
    with pytest.raises(InvalidTrigger) as caught:
        definition(trigger={"type": "event", "event": pattern})
    assert caught.value.field == "trigger.event"


@pytest.mark.parametrize(
    ("trigger", "field"),
    [
        ({"type": "event"}, "trigger.event"),
        ({"type": "event", "event": "a", "delay": "soon"}, "trigger.delay"),
        ({"type": "event", "event": "a", "filter": ""}, "trigger.filter"),
        ({"type": "event", "event": "a", "filter": "x" * 2001}, "trigger.filter"),
        ({"type": "outcome", "schedule": "a b"}, "trigger.schedule"),
        ({"type": "outcome", "schedule": "a", "of": []}, "trigger.of"),
        ({"type": "outcome", "schedule": "a", "delay": "soon"}, "trigger.delay"),
        ({"type": "outcome", "schedule": "a", "of": ["done"]}, "trigger.of[0]"),
    ],
)
def test_bad_trigger_is_refused_by_its_field(trigger, field):
    with pytest.raises(InvalidTrigger) as caught:
        definition(trigger=trigger)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"match": {}}, "cancel_on.event"),
        ({"event": "a", "match": {"id": "x"}}, "cancel_on.match.id"),
        ([{"event": "a"}, {"event": "a*"}], "cancel_on[1].event"),
        ([{"event": "a"}] * 17, "cancel_on"),
        ([], "cancel_on"),
        ("ticket.resolved", "cancel_on"),
    ],
)
def test_what_cannot_end_an_execution_is_refused_by_its_field(told, field):
    with pytest.raises(InvalidField) as caught:
        definition(cancel_on=told)
    assert caught.value.field == field


def test_as_many_events_as_are_allowed_may_end_an_execution():
    assert len(definition(cancel_on=[{"event": "a"}] * 16).ends) == 16
    assert definition(cancel_on={"event": "a"}).ends == definition(cancel_on=[{"event": "a"}]).ends
    assert definition().ends == ()


@pytest.mark.parametrize("place", ["ticket_id", "trigger..x", "event.id", ""])
def test_values_come_from_the_trigger_or_the_payload(place):
    with pytest.raises(Exception, match=r"cancel_on\.match"):
        definition(cancel_on={"event": "a", "match": {"id": place}})
