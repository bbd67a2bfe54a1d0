"""How long history is kept, and what is said of it before it goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from horae_domain import decider
from horae_domain.decision import Decision
from horae_domain.definition import parse_definition
from horae_domain.events import Event, ExecutionSkipped, HistoryErased
from horae_domain.execution import Outcome, Report, Status, evolve
from horae_domain.firing import settle
from horae_domain.ledger import Line, fold
from horae_domain.ledger import evolve as evolve_line
from horae_domain.retention import Ended, Retention, erase, erase_schedule
from horae_domain.schedule import CancelSchedule, Cause, CreateSchedule

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def at(days: float) -> datetime:
    return T0 + days * DAY


def created(**told: Any) -> tuple[Decision, Line]:
    definition = parse_definition(
        {
            "id": "job",
            "trigger": {"type": "interval", "every": "1d"},
            "action": {"type": "function", "name": "work"},
            **told,
        }
    )
    decision = Decision(None)
    decider.command(decision, CreateSchedule("default", definition, Cause(at(0))))
    return decision, decision.require()


def fired(days: int) -> tuple[list[Event], Line, list[Ended]]:
    """A schedule whose runs succeed at once: its events, its line, its runs."""
    decision, _ = created()
    events, runs = list(decision.events), []
    for day in range(1, days + 1):
        decision = Decision(decision.line)
        cause = Cause(at(day))
        settle(decision, cause)
        [run] = decision.require().live.values()
        decider.start(decision, run.id, "w", cause)
        lease = decision.run(run.id).lease
        decider.report(decision, run.id, Report(lease, Outcome.SUCCEEDED), cause)
        own = [each for each in decision.events if getattr(each, "execution_id", "") == run.id]
        ended = None
        for each in own:
            ended = evolve(ended, each)
        assert ended is not None
        runs.append(Ended(ended, own))
        events += decision.events
    return events, decision.require(), runs


@pytest.mark.parametrize(
    ("status", "kind", "days", "kept"),
    [
        (Status.SUCCEEDED, "interval", 6, True),
        (Status.SUCCEEDED, "interval", 7, False),
        (Status.SUCCEEDED, "key", 29, True),
        (Status.SUCCEEDED, "event", 30, False),
        (Status.DEAD, "interval", 29, True),
        (Status.DEAD, "interval", 30, False),
        (Status.SKIPPED, "calendar", 8, True),
        (Status.RUNNING, "interval", 1000, True),
        (Status.BUFFERED, "interval", 1000, True),
    ],
)
def test_age_counts_from_the_end_by_how_it_ended(
    status: Status, kind: str, days: int, kept: bool
) -> None:
    import msgspec

    _, _, [ended] = fired(1)
    run = msgspec.structs.replace(ended.run, status=status, kind=kind)
    assert Retention().keeps(run, at(1), at(1 + days)) is kept


def test_an_execution_ended_with_its_last_event() -> None:
    run, other = fired(2)[2]
    assert Ended(run.run, [*run.events, *other.events]).at == at(2)


def test_line_folded_from_what_is_left_is_the_line() -> None:
    events, line, runs = fired(3)
    first = erase(line, runs[:1], None, Cause(at(10)))
    second = erase(line, runs[1:2], first, Cause(at(11)))
    gone = {each.run.id for each in runs[:2]}
    left = [each for each in events if getattr(each, "execution_id", "") not in gone]
    assert fold([*left, second]) == line
    assert second.gone == {"counted": 2, "fired": 2, "succeeded": 2}
    assert (second.last_due, second.last_execution_id) == (runs[1].run.due, runs[1].run.id)
    assert erase(line, [], second, Cause(at(12))).last_due == runs[1].run.due


def test_what_was_said_of_a_former_incarnation_says_nothing() -> None:
    _, line, runs = fired(1)
    former = erase(line, runs, None, Cause(at(9)))
    foreign = HistoryErased(
        at=at(9), schedule_id="job", executions=[], incarnation=7, line=former.line,
        gone={"fired": 9},
    )  # fmt: skip
    assert evolve_line(line, foreign) is line
    assert evolve_line(None, former) is None
    assert erase(line, runs, foreign, Cause(at(9)), older=["o"]).gone["fired"] == 1


def test_skipped_occurrence_did_not_fire() -> None:
    _, line, [ended] = fired(1)
    skipped = ExecutionSkipped(
        at=at(2), schedule_id="job", execution_id=ended.run.id, kind="interval", due=at(2),
        nominal="n", revision=1, reason="overlap",
    )  # fmt: skip
    run = evolve(None, skipped)
    assert run is not None
    event = erase(line, [Ended(run, [skipped])], None, Cause(at(40)))
    assert (event.gone, event.last_due) == ({"skipped": 1}, None)


def test_only_finished_one_time_schedules_go_as_a_whole() -> None:
    kept, late = Retention(), at(200)
    decision, line = created()
    decider.command(decision, CancelSchedule("", Cause(at(1))))
    assert kept.keeps_schedule(decision.require(), late)
    decision, line = created(trigger={"type": "once", "at": "2026-01-05T00:00:00Z"})
    assert kept.keeps_schedule(line, late), "it waits"
    decider.command(decision, CancelSchedule("", Cause(at(1))))
    assert kept.keeps_schedule(decision.require(), at(90))
    assert not kept.keeps_schedule(decision.require(), at(91))
    event = erase_schedule(decision.require().schedule, ["x"], [1], Cause(late))
    assert (event.executions, event.decisions, event.schedule_id) == (["x"], [1], "job")
