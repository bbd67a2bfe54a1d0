"""Scheduled commands: given events, when one is scheduled, withdrawn or due, then events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from histories import at, cause, definition, given, like, said

from horae_domain import commands, decider, firing
from horae_domain.codec import encode
from horae_domain.commands import Intent
from horae_domain.decision import Decision
from horae_domain.definition import restore_definition
from horae_domain.errors import IdempotencyConflict, InvalidTrigger
from horae_domain.events import (
    CommandScheduled,
    ExecutionCancelled,
    ExecutionRequested,
    ScheduleCancelled,
    ScheduleCompleted,
    ScheduleCreated,
    ScheduleUpdated,
)
from horae_domain.identity import command_id
from horae_domain.ledger import fold
from horae_domain.schedule import Cause

ID = command_id("default", "reminder:o-1")


def intent(due: float | None = 60, **told: Any) -> Intent:
    asked: dict[str, Any] = {
        "tenant": "default",
        "id": ID,
        "command": "SendReminder",
        "data": {"order_id": "o-1"},
        "due": None if due is None else at(due),
        "after": None,
        "metadata": {},
        "policies": {},
    }
    return Intent(**(asked | told))


def schedule(wanted: Intent, seconds: float = 0, **told: Any) -> Any:
    return lambda decision: commands.schedule(decision, wanted, cause(seconds, **told))


def cancel(seconds: float) -> Any:
    return lambda decision: commands.cancel(decision, cause(seconds))


def scheduled(seconds: float = 0, **told: Any) -> CommandScheduled:
    """The event of a command that was scheduled then for the sixtieth second."""
    about = {"schedule_id": ID, "command": "SendReminder", "data": {"order_id": "o-1"}}
    return CommandScheduled(at=at(seconds), **(about | {"due": at(60)} | told))


def withdrawn(*events: Any, seconds: float) -> tuple[bool, list[Any]]:
    """What a cancel answers, and its events."""
    decision = Decision(fold(events))
    return commands.cancel(decision, cause(seconds)), decision.events


def test_command_waits_for_its_instant():
    given().when(schedule(intent())).then(scheduled())


def test_command_waits_for_a_delay():
    after = given().when(schedule(intent(None, after=timedelta(minutes=5)), 10))
    (event,) = after.then(scheduled(10, due=None, after="5m"))
    line = fold([event])
    assert line is not None
    assert line.next_due == at(310)


def test_command_says_on_whose_word_and_keeps_what_belongs_to_it():
    wanted = intent(metadata={"team": "mail"}, policies={"priority": "high"})
    told = {"correlation_id": "corr-1", "actor": "ann"}
    given().when(schedule(wanted, command_id="0193", **told)).then(
        scheduled(metadata={"team": "mail"}, policies={"priority": "high"}, **told)
    )


def test_command_is_a_schedule_that_fires_once_however_late():
    line = fold([scheduled(metadata={"team": "mail"}, policies={"priority": "high"})])
    assert line is not None
    assert line.definition == definition(
        id=ID,
        trigger={"type": "once", "at": at(60), "allow_past": True},
        action={"type": "function", "name": "command:SendReminder"},
        payload={"order_id": "o-1"},
        metadata={"team": "mail"},
        priority="high",
        catch_up={"mode": "all", "window": "36500d"},
    )
    assert commands.is_command(line.definition)
    years = 86_400 * 365 * 90
    requested, _ = given(scheduled()).when(firing_at(years)).after
    assert isinstance(requested, ExecutionRequested)
    assert requested.due == at(60)


def firing_at(seconds: float) -> Any:
    return lambda decision: firing.settle(decision, cause(seconds))


@pytest.mark.parametrize(
    "event",
    [
        scheduled(),
        scheduled(due=None, after="5m"),
        scheduled(data=None, metadata={"a": [1]}, policies={"retry": {"max_attempts": 1}}),
    ],
)
def test_definition_of_a_command_is_in_canonical_form(event):
    told = event.created().definition
    assert told == restore_definition(told).canonical()


def test_stored_form_has_few_bytes():
    stored = encode(scheduled(0.123456))
    assert len(stored) < 190
    assert len(encode(scheduled(0.123456).created())) > 1.8 * len(stored)


def test_run_belongs_to_what_scheduled_it_and_is_told_the_command():
    requested, completed = given(scheduled(correlation_id="corr-1")).when(firing_at(60)).after
    assert requested == like(ExecutionRequested, correlation_id="corr-1", due=at(60), run_number=1)
    assert completed == like(ScheduleCompleted, reason="exhausted")


def test_manual_trigger_of_a_command_belongs_to_who_triggered_it():
    asked = decider.Trigger("k", None, False, cause(1, correlation_id="corr-2"))
    history = given(scheduled(correlation_id="corr-1"))
    (requested,) = history.when(lambda decision: decider.trigger(decision, asked)).after
    assert requested == like(ExecutionRequested, correlation_id="corr-2")


def test_same_command_again_changes_nothing_even_after_it_was_done_or_moved():
    line = fold([scheduled()])
    assert line is not None
    moved = ScheduleUpdated(
        at=at(1),
        schedule_id=ID,
        definition=line.definition.canonical() | {"trigger": {"type": "once", "at": at(90)}},
        revision=2,
        anchor=at(1),
        next_due=at(90),
    )
    done = ScheduleCompleted(at=at(60), schedule_id=ID, reason="exhausted")
    for events in ([scheduled()], [scheduled(), moved], [scheduled(), done]):
        given(*events).when(schedule(intent(), 100)).then()


@pytest.mark.parametrize(
    "other",
    [
        {"data": {"order_id": "o-2"}},
        {"command": "SendMail"},
        {"due": 61},
        {"due": None, "after": timedelta(seconds=60)},
        {"metadata": {"team": "mail"}},
        {"policies": {"priority": "high"}},
    ],
)
def test_another_command_under_the_same_key_is_a_conflict(other):
    with pytest.raises(IdempotencyConflict) as caught:
        given(scheduled()).when(schedule(intent(**other), 5))
    assert caught.value.field == "Horae-Idempotency-Key"


def test_schedule_that_is_no_command_is_a_conflict():
    created = ScheduleCreated(
        at=at(0), schedule_id=ID, definition=definition(id=ID).canonical(), anchor=at(0)
    )
    with pytest.raises(IdempotencyConflict):
        given(created).when(schedule(intent()))
    again = ScheduleCreated(
        at=at(0), schedule_id=ID, definition=definition(id=ID).canonical(), anchor=at(0), revision=2
    )
    with pytest.raises(IdempotencyConflict):
        given(again).when(schedule(intent()))


def test_instant_in_the_past_is_refused_unless_allowed():
    with pytest.raises(InvalidTrigger, match="in the past") as caught:
        given().when(schedule(intent(60), 61))
    assert (caught.value.field, caught.value.value) == ("at", "2026-01-05T00:01:00Z")
    (event,) = given().when(schedule(intent(60, allow_past=True), 61)).then(scheduled(61))
    line = fold([event])
    assert line is not None
    assert line.next_due == at(61)


def test_waiting_command_can_be_cancelled_once():
    answer, events = withdrawn(scheduled(), seconds=59)
    assert answer
    assert events == [like(ScheduleCancelled, schedule_id=ID, at=at(59))]
    assert withdrawn(scheduled(), *events, seconds=59) == (False, [])


def test_due_command_that_nobody_has_taken_can_be_cancelled_and_has_its_decision():
    answer, events = withdrawn(scheduled(), seconds=61)
    assert answer
    assert events == [
        like(ExecutionRequested, due=at(60)),
        like(ScheduleCompleted, reason="exhausted"),
        like(ExecutionCancelled, reason="cancelled"),
    ]
    assert withdrawn(scheduled(), *events, seconds=62) == (False, [])


def test_running_command_is_not_cancelled_but_one_that_waits_for_its_retry_is():
    history = given(scheduled()).when(firing_at(60))
    events = [*history.before, *history.after]
    run = history.after[0].execution_id  # type: ignore[attr-defined]
    decision = Decision(fold(events))
    decider.start(decision, run, "engine-1", cause(60))
    events += decision.events
    assert withdrawn(*events, seconds=61) == (False, [])
    decision = Decision(fold(events))
    decider.report(decision, run, said("failed", error={"type": "E", "message": ""}), cause(62))
    events += decision.events
    answer, last = withdrawn(*events, seconds=63)
    assert answer
    assert last == [like(ExecutionCancelled, execution_id=run)]


@pytest.mark.parametrize("told", [{}, {"trigger": {"type": "once", "after": "1h"}}])
def test_what_is_no_command_is_not_cancelled(told):
    created = ScheduleCreated(
        at=at(0),
        schedule_id="job",
        definition=definition(**told).canonical(),
        anchor=at(0),
        next_due=at(60),
    )
    assert withdrawn(created, seconds=1) == (False, [])
    assert withdrawn(seconds=1) == (False, [])


def test_paused_command_can_be_cancelled():
    history = given(scheduled()).when(
        lambda decision: decider.command(decision, decider.PauseSchedule("", Cause(at(1))))
    )
    answer, events = withdrawn(*history.before, *history.after, seconds=70)
    assert answer
    assert events[-1] == like(ScheduleCancelled, schedule_id=ID)


def test_ids_of_commands_are_short_and_of_one_key_in_one_tenant():
    assert len(ID) == 21
    assert command_id("default", "reminder:o-1") == ID
    assert len({ID, command_id("other", "reminder:o-1"), command_id("default", "k")}) == 3


def test_what_travels_with_the_request_goes_with_the_command():
    given().when(schedule(intent(), carried={"baggage": "desk=a"})).then(
        scheduled(carried={"baggage": "desk=a"})
    )
