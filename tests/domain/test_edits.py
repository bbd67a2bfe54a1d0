"""Edits of a part of a definition: patches and tags."""

from __future__ import annotations

import pytest
from histories import History, at, cause, create, definition, given, like
from test_schedules import cancelled, created, paused, refused

from horae_domain.edits import PatchSchedule, RetagSchedule, merge_patch
from horae_domain.errors import (
    IllegalState,
    InvalidField,
    InvalidTrigger,
    RevisionConflict,
    ScheduleNotFound,
)
from horae_domain.events import ExecutionRequested, ScheduleUpdated
from horae_domain.schedule import Status

ONCE = {"type": "once", "at": "2026-01-05T00:10:00Z"}

RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), RFC_7396)
def test_merge_patch_is_that_of_the_standard(target, patch, result):
    assert merge_patch(target, patch) == result


def test_merge_patch_leaves_its_target_as_it_is():
    target = {"a": {"b": "c"}}
    merge_patch(target, {"a": {"b": "d"}})
    assert target == {"a": {"b": "c"}}


def patch(seconds: float, expected: int | None = None, **fields: object) -> PatchSchedule:
    return PatchSchedule(fields, expected, cause(seconds))


def retag(seconds: float, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> RetagSchedule:
    return RetagSchedule(add, remove, cause(seconds))


# --- patch ---------------------------------------------------------------------------------------


def test_patch_changes_what_it_names_and_keeps_the_rest():
    history = History(tags=["a"], retry={"max_attempts": 7, "delay": "5s"})
    (updated,) = history.command(patch(10, retry={"max_attempts": 2}, description="new"))
    assert updated == like(ScheduleUpdated, revision=2, at=at(10))
    expected = definition(
        tags=["a"], retry={"max_attempts": 2, "delay": "5s"}, description="new"
    ).canonical()
    assert updated.definition == expected


def test_patch_with_null_gives_the_default_again():
    history = History(cooldown="5s", retry={"max_attempts": 7}, timeout={"start_to_close": None})
    history.command(patch(10, cooldown=None, retry=None, timeout={"start_to_close": None}))
    assert history.line.definition == definition()


def test_patch_replaces_a_trigger_whose_other_fields_it_removes():
    history = History()
    cron = {"type": "cron", "expression": "0 * * * *"}
    history.command(patch(10, trigger=cron | {"every": None}))
    assert history.line.definition == definition(trigger=cron)
    assert history.line.next_due == at(3600)


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"trigger": {"type": "cron", "expression": "0 * * * *"}}, InvalidTrigger, "trigger.every"),
        ({"trigger": {"every": "never"}}, InvalidTrigger, "trigger.every"),
        ({"colour": "red"}, InvalidField, "colour"),
        ({"retry": {"max_attempts": 0}}, InvalidField, "retry.max_attempts"),
        ({"trigger": None}, InvalidTrigger, "trigger"),
        ({"id": "another"}, InvalidField, "id"),
        ({"end_at": at(20).isoformat()}, InvalidTrigger, "end_at"),
    ],
)
def test_patch_that_leads_to_no_definition_is_refused_whole(fields, kind, field):
    error = refused([created()], patch(10, **fields))
    assert (type(error), error.field) == (kind, field)


def test_patch_of_the_expected_revision_is_done_and_of_another_refused_first():
    given(created()).when(patch(10, 1, tags=["x"])).then(like(ScheduleUpdated, revision=2))
    error = refused([created()], patch(10, 4, colour="red"))
    assert isinstance(error, RevisionConflict)
    assert error.details == {"revision": 1}


def test_patch_that_changes_nothing_does_nothing():
    given(created()).when(patch(10)).then()
    given(created()).when(patch(10, priority="medium", cooldown=None)).then()


def test_patch_of_none_or_of_an_ended_schedule_is_refused():
    assert isinstance(refused([], patch(10, tags=["x"])), ScheduleNotFound)
    assert isinstance(refused([created(), cancelled(5)], patch(10, colour=1)), IllegalState)


def test_patch_decides_first_what_was_due_under_the_former_revision():
    history = History()
    fired, updated = history.command(patch(60, trigger={"every": "5 minutes"}))
    assert fired == like(ExecutionRequested, due=at(60), revision=1)
    assert updated == like(ScheduleUpdated, next_due=at(360))


def test_patch_leaves_a_pause():
    history = History()
    history.pause(10)
    history.command(patch(20, tags=["x"]))
    assert history.line.schedule.status is Status.PAUSED


def test_patch_of_what_is_not_its_time_is_taken_though_no_instant_is_left():
    history = History(trigger=ONCE)
    history.pause(10)
    history.command(patch(900, description="too late"))
    assert history.line.schedule.definition.description == "too late"
    assert history.line.schedule.status is Status.PAUSED
    history.resume(901)
    assert history.line.schedule.status is Status.COMPLETED


def test_patch_of_the_time_to_one_that_has_passed_is_refused():
    events = [*given().when(create(trigger=ONCE)).after, paused(10)]
    with pytest.raises(InvalidTrigger) as caught:
        given(*events).when(patch(900, trigger={"at": "2026-01-05T00:14:00Z"}))
    assert caught.value.field == "trigger.at"


# --- tags ----------------------------------------------------------------------------------------


def test_tags_are_taken_away_and_added_at_the_end():
    history = History(tags=["a", "b", "c"])
    history.command(retag(10, add=("d", "a", "d"), remove=("b", "gone")))
    assert history.line.definition.tags == ("a", "c", "d")
    assert history.line.schedule.revision == 2


def test_tag_that_is_taken_away_and_added_is_there():
    history = History(tags=["a", "b"])
    history.command(retag(10, add=("a",), remove=("a",)))
    assert history.line.definition.tags == ("b", "a")


def test_tags_that_are_as_asked_change_nothing():
    given(created(tags=["a"])).when(retag(10, add=("a",), remove=("b",))).then()


def test_too_many_tags_are_refused():
    error = refused([created()], retag(10, add=tuple(f"t{n}" for n in range(65))))
    assert (type(error), error.field) == (InvalidField, "tags")
