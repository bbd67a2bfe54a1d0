"""Commands on a schedule: given events, when a command, then events or a refusal."""

from __future__ import annotations

from typing import Any

import pytest
from histories import History, at, cause, create, definition, given, like

from horae_domain import decider, schedule
from horae_domain.decision import Decision
from horae_domain.errors import (
    HoraeError,
    IllegalState,
    InvalidTrigger,
    RevisionConflict,
    ScheduleExists,
    ScheduleNotFound,
)
from horae_domain.events import (
    Event,
    ExecutionCancelled,
    ExecutionRequested,
    OccurrencesDecided,
    RequestAnswered,
    ScheduleCancelled,
    ScheduleCompleted,
    ScheduleCreated,
    SchedulePaused,
    ScheduleQuarantined,
    ScheduleResumed,
    ScheduleUpdated,
)
from horae_domain.ledger import fold
from horae_domain.schedule import (
    CancelSchedule,
    Cause,
    CreateSchedule,
    PauseSchedule,
    ResumeSchedule,
    Status,
    UpdateSchedule,
)
from horae_domain.zones import tzdata_version

ABOUT: dict[str, Any] = {"schedule_id": "job"}
MANUAL = {"type": "manual"}


def created(seconds: float = 0, **told: Any) -> ScheduleCreated:
    """The event of a schedule created then, every minute unless told."""
    asked = definition(**told)
    due = None if asked.trigger.type == "manual" else at(seconds + 60)
    return ScheduleCreated(
        at=at(seconds),
        definition=asked.canonical(),
        anchor=at(seconds),
        next_due=due,
        tzdata=tzdata_version(),
        **ABOUT,
    )


def paused(seconds: float, note: str = "") -> SchedulePaused:
    return SchedulePaused(at=at(seconds), note=note, **ABOUT)


def cancelled(seconds: float, note: str = "") -> ScheduleCancelled:
    return ScheduleCancelled(at=at(seconds), note=note, **ABOUT)


def refused(events: list[Event], command: Any) -> HoraeError:
    """The error of a command, which must leave the decision as it was."""
    decision = Decision(fold(events))
    with pytest.raises(HoraeError) as caught:
        decider.command(decision, command)
    assert decision.events == []
    return caught.value


# --- create --------------------------------------------------------------------------------------


def test_created_schedule_says_its_definition_anchor_and_first_instant():
    given().when(create()).then(created())


def test_events_say_on_whose_word_they_were_decided():
    word = Cause(at(0), "c-1", "corr-1", "ann")
    (event,) = given().when(CreateSchedule("acme", definition(), word)).after
    told = (event.tenant, event.command_id, event.correlation_id, event.actor)
    assert told == ("acme", "c-1", "corr-1", "ann")
    line = fold([event])
    assert line is not None
    assert (line.schedule.created_by, line.schedule.tenant) == ("ann", "acme")


def test_disabled_schedule_is_created_paused():
    events = (
        given()
        .when(create(enabled=False))
        .then(created(enabled=False), paused(0, "created disabled"))
    )
    line = fold(events)
    assert line is not None
    assert line.schedule.status is Status.PAUSED
    assert line.schedule.note == "created disabled"
    assert line.wake is None


def test_manual_schedule_has_no_instants():
    given().when(create(trigger=MANUAL)).then(created(trigger=MANUAL))


def test_creating_the_same_content_again_does_nothing():
    given(created()).when(create(500)).then()
    given(created(), paused(1)).when(create(500)).then()


def test_content_is_compared_without_what_has_its_default():
    same = create(1, trigger={"type": "interval", "every": "PT60S"}, priority="medium")
    given(created()).when(same).then()


def test_creating_other_content_is_a_conflict():
    error = refused([created()], create(5, tags=["x"]))
    assert isinstance(error, ScheduleExists)
    assert (error.field, error.value) == ("id", "job")


def test_ended_schedule_can_be_created_again_as_another_incarnation():
    events = [created(), cancelled(10)]
    (again,) = given(*events).when(create(20)).after
    assert again == like(
        ScheduleCreated, incarnation=2, revision=2, next_due=at(80), anchor=at(20), at=at(20)
    )
    line = fold([*events, again])
    assert line is not None
    assert line.schedule.version == 3
    assert sorted(line.schedule.definitions) == [1, 2]
    assert (line.through, line.next_due, line.fired) == (at(20), at(80), 0)


def test_executions_of_another_incarnation_have_other_ids():
    history = History(0, overlap="allow")
    (first,) = history.trigger(1, "k")
    history.cancel(2)
    history.command(create(3, overlap="allow"))
    (second,) = history.trigger(4, "k")
    assert first.execution_id != second.execution_id


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"trigger": {"type": "once", "at": "2026-01-04T23:59:59.999999Z"}}, "trigger.at"),
        ({"end_at": "2026-01-05T00:00:59Z"}, "end_at"),
        ({"trigger": {"type": "once", "after": "10s"}, "start_at": at(11)}, "trigger"),
        ({"trigger": {"type": "once", "after": "10s"}, "end_at": at(9)}, "end_at"),
    ],
)
def test_schedule_that_would_never_fire_is_refused(told, field):
    error = refused([], create(0, **told))
    assert isinstance(error, InvalidTrigger)
    assert error.field == field


def test_refusal_of_a_past_instant_says_what_allows_it():
    error = refused([], create(0, trigger={"type": "once", "at": "2026-01-04T23:00:00Z"}))
    assert error.value == "2026-01-04T23:00:00Z"
    assert "allow_past" in error.message


def test_past_instant_that_is_allowed_is_due_at_once():
    once = {"type": "once", "at": "2020-01-01T00:00:00Z", "allow_past": True}
    history = History(0, trigger=once)
    assert history.line.wake == at(0)
    fired, done = history.settle(0)
    assert fired == like(ExecutionRequested, due=at(0), kind="once", run_number=1, next_due=None)
    assert done == like(ScheduleCompleted, reason="exhausted")


def test_once_now_is_not_in_the_past():
    history = History(0, trigger={"type": "once", "at": at(0)})
    assert [type(each) for each in history.settle(0)] == [ExecutionRequested, ScheduleCompleted]


def test_once_after_nothing_is_due_at_once():
    assert History(0, trigger={"type": "once", "after": 0}).line.wake == at(0)


@pytest.mark.parametrize(
    ("told", "shown"), [({"start_at": at(600)}, Status.PENDING), ({}, Status.ACTIVE)]
)
def test_schedule_is_shown_as_pending_before_its_start(told, shown):
    history = History(**told)
    assert schedule.shown_status(history.line.schedule, at(599)) is shown
    assert schedule.shown_status(history.line.schedule, at(600)) is Status.ACTIVE
    history.pause(1)
    assert schedule.shown_status(history.line.schedule, at(2)) is Status.PAUSED


# --- update --------------------------------------------------------------------------------------


def update(seconds: float, expected: int | None = None, **told: Any) -> UpdateSchedule:
    return UpdateSchedule(definition(**told), expected, cause(seconds))


def test_update_raises_the_revision_and_keeps_the_anchor_of_the_same_trigger():
    given(created()).when(update(30, description="new")).then(
        ScheduleUpdated(
            at=at(30),
            definition=definition(description="new").canonical(),
            revision=2,
            anchor=at(0),
            next_due=at(60),
            tzdata=tzdata_version(),
            **ABOUT,
        )
    )


def test_update_with_another_trigger_begins_at_the_update():
    other = {"type": "interval", "every": "2 minutes"}
    given(created()).when(update(30, trigger=other)).then(
        like(ScheduleUpdated, anchor=at(30), next_due=at(150))
    )


def test_interval_whose_start_is_moved_is_anchored_anew():
    given(created()).when(update(30, start_at=at(45))).then(
        like(ScheduleUpdated, anchor=at(45), next_due=at(45))
    )


def test_delay_of_a_once_trigger_counts_from_its_creation_after_an_update():
    once = {"type": "once", "after": "1 minute"}
    given(created(trigger=once)).when(update(30, trigger=once, start_at=at(1))).then(
        like(ScheduleUpdated, anchor=at(0), next_due=at(60))
    )


def test_update_without_change_does_nothing():
    given(created()).when(update(30, 1)).then()


def test_update_of_the_expected_revision_is_done():
    given(created()).when(update(30, 1, tags=["a"])).then(like(ScheduleUpdated, revision=2))


def test_update_of_another_revision_is_a_conflict():
    error = refused([created()], update(30, 7, tags=["a"]))
    assert isinstance(error, RevisionConflict)
    assert error.to_json() == {
        "code": "revision_conflict",
        "message": "schedule job is at revision 1",
        "field": "expected_revision",
        "value": "7",
        "revision": 1,
    }


def test_unexpected_revision_is_a_conflict_even_without_change():
    assert isinstance(refused([created()], update(30, 2)), RevisionConflict)


def test_update_to_what_never_fires_is_refused():
    error = refused([created()], update(30, end_at=at(40)))
    assert (error.code, error.field) == ("invalid_trigger", "end_at")


def test_update_that_disables_pauses_and_one_that_enables_resumes():
    history = History(0)
    assert history.update(10, enabled=False) == [
        like(ScheduleUpdated, revision=2),
        like(SchedulePaused, note="disabled"),
    ]
    assert history.settle(70) == []
    assert history.update(100) == [
        like(OccurrencesDecided, reason="paused", count=1),
        like(ScheduleUpdated, revision=3),
        like(ScheduleResumed, next_due=at(120), note="enabled"),
    ]
    assert history.settle(120) == [like(ExecutionRequested, due=at(120))]


def test_update_that_enables_a_once_schedule_at_its_instant_lets_it_fire():
    once = {"type": "once", "at": at(100)}
    history = History(0, enabled=False)
    history.update(100, trigger=once)
    assert history.settle(100) == [
        like(ExecutionRequested, due=at(100)),
        like(ScheduleCompleted, reason="exhausted"),
    ]


def test_update_at_the_instant_that_a_pause_has_skipped_does_not_offer_it_again():
    once = {"type": "once", "at": at(100)}
    history = History(0, trigger=once, enabled=False)
    assert history.update(100, trigger=once) == [
        like(OccurrencesDecided, first=at(100), reason="paused"),
        like(ScheduleUpdated, next_due=None),
        like(ScheduleResumed, next_due=None),
        like(ScheduleCompleted, reason="exhausted"),
    ]


def test_pause_of_an_operator_survives_an_update():
    history = History(0)
    history.pause(1)
    assert history.update(2, tags=["x"]) == [like(ScheduleUpdated)]
    assert history.line.schedule.status is Status.PAUSED


def test_update_that_disables_a_paused_schedule_leaves_its_note():
    history = History(0)
    history.command(PauseSchedule("holiday", cause(1)))
    assert history.update(2, enabled=False) == [like(ScheduleUpdated)]
    assert history.line.schedule.note == "holiday"


def test_update_that_enables_a_resumed_schedule_only_updates():
    history = History(0, enabled=False)
    history.resume(1)
    assert history.update(2) == [like(ScheduleUpdated)]


# --- pause, resume, cancel -----------------------------------------------------------------------


def test_pause_is_idempotent():
    given(created()).when(PauseSchedule("why", cause(5))).then(paused(5, "why"))
    given(created(), paused(5)).when(PauseSchedule("again", cause(6))).then()


def test_resume_goes_on_after_its_instant():
    given(created(), paused(5)).when(ResumeSchedule("go", cause(30))).then(
        ScheduleResumed(at=at(30), note="go", next_due=at(60), **ABOUT)
    )
    line = fold([created(), paused(5, "why"), ScheduleResumed(at=at(30), note="go", **ABOUT)])
    assert line is not None
    assert (line.schedule.status, line.schedule.note) == (Status.ACTIVE, "")


def test_resume_of_an_active_schedule_does_nothing():
    given(created()).when(ResumeSchedule("", cause(30))).then()


def test_manual_schedule_resumes_without_instants():
    events = [created(trigger=MANUAL), paused(5)]
    given(*events).when(ResumeSchedule("", cause(30))).then(
        ScheduleResumed(at=at(30), next_due=None, **ABOUT)
    )


def test_cancel_is_idempotent():
    given(created()).when(CancelSchedule("done", cause(5))).then(cancelled(5, "done"))
    given(created(), cancelled(5)).when(CancelSchedule("", cause(6))).then()


def test_cancel_ends_what_has_not_started_and_leaves_what_runs():
    history = History(0, overlap="allow")
    history.trigger(1, "running")
    running = history.run
    history.start(1)
    history.trigger(2, "waiting")
    events = history.cancel(3)
    assert events == [
        like(ScheduleCancelled),
        like(ExecutionCancelled, reason="schedule_cancelled"),
    ]
    assert history.run.id == running.id
    assert history.cancel(4) == []
    assert not history.line.settled
    assert history.line.schedule.next_due is None


def test_cancel_ends_a_paused_schedule_and_records_its_pause():
    history = History(0)
    history.pause(30)
    assert history.cancel(130) == [
        like(OccurrencesDecided, reason="paused", count=2, first=at(60), last=at(120)),
        like(ScheduleCancelled),
    ]


# --- refusals ------------------------------------------------------------------------------------

ENDS = {
    "cancelled": cancelled(5),
    "completed": ScheduleCompleted(at=at(5), reason="end_at", **ABOUT),
    "failed": ScheduleQuarantined(at=at(5), reason="no such zone", **ABOUT),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "command",
    [update(9, tags=["x"]), PauseSchedule("", cause(9)), ResumeSchedule("", cause(9))],
    ids=lambda each: type(each).__name__,
)
def test_ended_schedule_does_not_change(end, command):
    error = refused([created(), ENDS[end]], command)
    assert isinstance(error, IllegalState)
    assert error.field == "id"
    assert error.details == {"state": end}


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_what_ended_by_itself_cannot_be_cancelled(end):
    error = refused([created(), ENDS[end]], CancelSchedule("", cause(9)))
    assert error.details == {"state": end}


@pytest.mark.parametrize(
    "command",
    [
        update(9),
        PauseSchedule("", cause(9)),
        ResumeSchedule("", cause(9)),
        CancelSchedule("", cause(9)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_command_on_no_schedule_is_refused(command):
    error = refused([], command)
    assert isinstance(error, ScheduleNotFound)
    assert error.field == "id"


# --- state ---------------------------------------------------------------------------------------


def test_end_keeps_its_reason_and_has_no_next_instant():
    for name, end in ENDS.items():
        line = fold([created(), end])
        assert line is not None
        assert line.schedule.status == name
        assert line.schedule.next_due is None
        assert line.next_due is None
        assert line.wake is None
        assert line.settled
        assert line.schedule.changed_at == at(5)
    noted = fold([created(), ENDS["completed"]])
    assert noted is not None
    assert noted.schedule.note == "end_at"
    noted = fold([created(), ENDS["failed"]])
    assert noted is not None
    assert noted.schedule.note == "no such zone"
    noted = fold([created(), cancelled(5, "enough")])
    assert noted is not None
    assert noted.schedule.note == "enough"


def test_events_before_a_creation_say_nothing():
    assert fold([paused(1)]) is None
    assert schedule.evolve(None, paused(1)) is None


def test_events_of_others_leave_a_schedule_as_it_is():
    before = schedule.evolve(None, created())
    other = RequestAnswered(at=at(1), request="f00", reply={}, **ABOUT)
    assert schedule.evolve(before, other) is before
    history = fold([created(), other])
    assert history == fold([created()])


def test_definitions_of_all_revisions_stay_known():
    history = History(0)
    history.update(1, description="second")
    found = history.line.schedule
    assert found.definitions[1].description == ""
    assert found.definitions[2] == found.definition
    assert found.definition.description == "second"
    assert found.changed_at == at(1)
    assert found.created_at == at(0)
    assert found.revision == 2


def test_decided_ranges_count_as_events_but_change_nothing():
    before = fold([created()])
    decided = OccurrencesDecided(
        at=at(90), decision="missed", reason="r", first=at(60), last=at(60), revision=1, **ABOUT
    )
    after = fold([created(), decided])
    assert before is not None
    assert after is not None
    assert after.schedule.version == 2
    assert after.schedule.changed_at == at(0)
    assert after.schedule.next_due == before.schedule.next_due


def test_pause_after_the_limit_was_reached_leaves_no_decisions():
    history = History()
    history.settle(60)
    history.pause(61)
    history.update(62, max_executions=1)
    assert [type(event).__name__ for event in history.resume(200)] == [
        "ScheduleResumed",
        "ScheduleCompleted",
    ]
