import pytest
from histories import History, at, cause, definition, like, said

from horae_domain import conditions
from horae_domain.conditions import Looked
from horae_domain.definition import restore_definition
from horae_domain.errors import HoraeError
from horae_domain.events import (
    ExecutionRequested,
    ExecutionSkipped,
    ScheduleChecked,
    ScheduleCompleted,
)
from horae_domain.occurrences import kind_of

PRICE = {"type": "condition", "check": "price", "when": "price > 1", "every": "1 minute"}


def watching(mode="level", **told):
    return History(trigger=PRICE | {"mode": mode}, **told)


def look(history, seconds, *, holds, revision=1, tick=None, error=None):
    tick = at(seconds) if tick is None else tick
    asked = Looked(tick, revision, holds, {"price": 2}, error)
    return history.do(conditions.judge, asked, cause(seconds))


def test_a_level_fires_at_each_look_at_which_it_holds():
    history = watching(overlap="allow")
    assert look(history, 60, holds=True) == [
        like(ScheduleChecked, tick=at(60), outcome="held"),
        like(ExecutionRequested, kind="condition", due=at(60)),
    ]
    assert look(history, 120, holds=True) == [like(ExecutionRequested, due=at(120))]


def test_what_fires_is_told_what_was_seen():
    [_, fired] = look(watching(), 60, holds=True)
    assert fired.trigger == {
        "check": "price", "at": "2026-01-05T00:01:00Z", "data": {"price": 2}, "when": "price > 1",
    }  # fmt: skip
    plain = History(trigger={"type": "condition", "check": "price", "every": "1 minute"})
    [_, fired] = look(plain, 60, holds=True)
    assert "when" not in fired.trigger


def test_a_level_that_cannot_fire_is_asked_again_later():
    history = watching()
    assert len(look(history, 60, holds=True)) == 2
    assert look(history, 120, holds=True) == []
    assert history.line.through == at(60)


def test_an_edge_that_cannot_fire_is_skipped():
    history = watching("edge")
    look(history, 60, holds=True)
    look(history, 120, holds=False)
    assert look(history, 180, holds=True)[-1] == like(
        ExecutionSkipped, reason="overlap", due=at(180), kind="condition"
    )


@pytest.mark.parametrize(("mode", "decided"), [("level", []), ("edge", ["cooldown"])])
def test_within_a_cooldown_nothing_fires_and_at_its_end_again(mode, decided):
    history = watching(mode, cooldown="5m")
    look(history, 60, holds=True)
    history.start(60)
    history.report(60, said())
    assert history.line.cooldown_until == at(360)
    look(history, 299, holds=False)
    events = look(history, 359, holds=True)[1:]
    assert [event.reason for event in events] == decided
    look(history, 359.5, holds=False)
    assert look(history, 360, holds=True)[-1] == like(ExecutionRequested, due=at(360))


def test_what_is_due_is_decided_before_a_look():
    history = watching(end_at="2026-01-05T00:01:00Z")
    assert look(history, 61, holds=True, tick=at(60)) == [like(ScheduleCompleted)]


def test_an_edge_fires_when_it_begins_to_hold():
    history = watching("edge", overlap="allow")
    assert len(look(history, 60, holds=True)) == 2
    assert look(history, 120, holds=True) == []
    assert look(history, 180, holds=False) == [like(ScheduleChecked, outcome="not_held")]
    assert look(history, 240, holds=True)[-1] == like(ExecutionRequested, due=at(240))


def test_looks_that_change_nothing_are_no_events():
    history = watching()
    assert look(history, 60, holds=False) == [like(ScheduleChecked, outcome="not_held")]
    assert look(history, 120, holds=False) == []


def test_a_check_that_fails_is_recorded_once_and_fires_nothing():
    history = watching()
    broken = {"type": "Boom", "message": "no feed"}
    assert look(history, 60, holds=False, error=broken) == [like(ScheduleChecked, outcome="failed")]
    assert look(history, 120, holds=False, error=broken) == []
    assert look(history, 180, holds=True)[-1] == like(ExecutionRequested, due=at(180))


def test_an_answer_that_is_out_of_date_changes_nothing():
    paused = watching()
    paused.pause(30)
    assert look(paused, 60, holds=True) == []
    edited = watching()
    edited.update(30, trigger=PRICE | {"when": "price > 3"})
    assert look(edited, 60, holds=True) == []
    fired = watching(overlap="allow")
    look(fired, 60, holds=True)
    assert look(fired, 61, holds=True, tick=at(60)) == []
    other = watching()
    other.update(30, trigger={"type": "manual"})
    assert look(other, 60, holds=True, revision=2) == []


def test_no_look_is_before_the_start_and_none_is_taken_twice():
    line = watching(start_at="2026-01-05T00:02:00Z").line
    assert conditions.tick_at(line, at(119)) is None
    assert conditions.tick_at(line, at(120)) == at(120)
    history = watching()
    assert conditions.tick_at(history.line, at(59)) is None
    assert conditions.tick_at(history.line, at(60)) == at(60)
    look(history, 60, holds=True)
    assert conditions.tick_at(history.line, at(119)) is None
    assert conditions.tick_at(history.line, at(120)) == at(120)


def test_the_next_look_lies_between_the_start_and_the_end():
    line = watching(start_at="2026-01-05T00:02:00Z", end_at="2026-01-05T00:04:00Z").line
    assert [line.tick_after(each) for each in (None, at(119), at(120), at(239), at(240))] == [
        at(120), at(120), at(180), at(240), None,
    ]  # fmt: skip


def test_only_a_schedule_that_watches_has_looks_behind_it():
    assert watching().line.tick_before(at(90)) == at(60)
    assert History(trigger={"type": "manual"}).line.tick_before(at(90)) is None
    assert watching(end_at="2026-01-05T00:01:00Z").line.tick_before(at(500)) == at(60)


@pytest.mark.parametrize(
    ("trigger", "kind"),
    [
        (PRICE, "condition"),
        ({"type": "event", "event": "a"}, "event"),
        ({"type": "outcome", "schedule": "a", "of": ["succeeded"]}, "chain"),
        ({"type": "manual"}, "key"),
        ({"type": "rrule", "rule": "FREQ=DAILY"}, "calendar"),
    ],
)
def test_identities_are_of_the_triggers_kind(trigger, kind):
    assert kind_of(definition(trigger=trigger)) == kind


def test_what_was_accepted_is_not_read_again():
    for trigger in (
        PRICE | {"when": "price >"},
        {"type": "rrule", "rule": "FREQ=NEVER"},
    ):
        content = {"id": "job", "trigger": trigger, "action": {"type": "function", "name": "f"}}
        with pytest.raises(HoraeError):
            definition(**content)
        assert restore_definition(content).id == "job"


def test_a_check_is_asked_every_100_milliseconds_at_most():
    with pytest.raises(HoraeError) as refused:
        definition(trigger=PRICE | {"every": "99ms"})
    assert refused.value.field == "trigger.every"
