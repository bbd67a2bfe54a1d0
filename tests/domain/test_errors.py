"""What errors say as text."""

from __future__ import annotations

import pytest

from horae_domain.errors import (
    HoraeError,
    IllegalState,
    InvalidField,
    RevisionConflict,
    ScheduleNotFound,
    TimerNotFound,
    Unavailable,
    error_from_json,
    reason_of,
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ScheduleNotFound("no such schedule", field="id", value="nightly"),
         "schedule_not_found: no such schedule [nightly]"),
        (IllegalState("schedule nightly is paused", field="id", schedule_id="nightly"),
         "illegal_state: schedule nightly is paused"),
        (IllegalState("it is decided already", value="2026-01-05", schedule_id="nightly"),
         "illegal_state: it is decided already [2026-01-05, nightly]"),
        (TimerNotFound("nothing waits", value="retry:e-1@2", execution_id="e-1"),
         "timer_not_found: nothing waits [retry:e-1@2]"),
        (RevisionConflict("schedule a is at revision 3", value=2),
         "revision_conflict: schedule a is at revision 3 [2]"),
        (Unavailable("the views did not answer"), "unavailable: the views did not answer"),
    ],
)  # fmt: skip
def test_text_has_the_code_and_what_it_is_about_once(error: HoraeError, text: str) -> None:
    assert str(error) == text


def test_text_that_begins_with_the_code_does_not_say_it_twice() -> None:
    first = Unavailable("nobody listens")
    assert str(Unavailable(str(first))) == "unavailable: nobody listens"


def test_value_of_a_field_stays_out_of_the_text() -> None:
    error = InvalidField("action.url: no user", field="action.url", value="https://me:secret@host")
    assert str(error) == "invalid_field: action.url: no user"
    error.details["schedule_id"] = "nightly"
    assert str(error) == "invalid_field: action.url: no user [nightly]"


def test_code_of_another_release_is_told() -> None:
    refusal = {"error": {"code": "on_strike", "message": "not today", "execution_id": "e-1"}}
    assert str(error_from_json(409, refusal)) == "on_strike: not today [e-1]"


def test_reason_of_any_error_is_without_its_code() -> None:
    assert reason_of(ScheduleNotFound("no such schedule", value="a")) == "no such schedule [a]"
    assert reason_of(ValueError("too late")) == "too late"


def test_reason_of_an_error_that_fails_to_say_it_is_told_as_well() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert reason_of(Mute()) == "<an error that cannot be shown>"
