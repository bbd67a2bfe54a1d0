"""What the domain's tests are told in: given events, when a command, then events.

Seconds count from `START`. After every step the replay of all events, and the packed form of the
line, are compared with the line that the decisions left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from horae_domain import backfilling, decider, firing, planning, timers
from horae_domain.backfills import Order
from horae_domain.codec import decode, encode, name_of
from horae_domain.decider import Trigger
from horae_domain.decision import Decision
from horae_domain.definition import Definition, parse_definition
from horae_domain.events import Event, ExecutionEvent, ExecutionRequested
from horae_domain.execution import Execution, Outcome, Report
from horae_domain.execution import evolve as evolve_execution
from horae_domain.ledger import Line, evolve_handed_over, fold, live_ids, pack, unpack
from horae_domain.policies import Priority
from horae_domain.schedule import (
    CancelSchedule,
    Cause,
    CreateSchedule,
    PauseSchedule,
    ResumeSchedule,
    Schedule,
    ScheduleCommand,
    UpdateSchedule,
)
from horae_domain.schedule import evolve as evolve_schedule

START = datetime(2026, 1, 5, tzinfo=UTC)
HERE = "engine-1"
"""The worker of this process."""

MINUTELY = {"type": "interval", "every": "1 minute"}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def cause(seconds: float, **told: Any) -> Cause:
    return Cause(at(seconds), **told)


def definition(**told: Any) -> Definition:
    """A definition that fires every minute unless told."""
    content = {
        "id": "job",
        "trigger": MINUTELY,
        "action": {"type": "function", "name": "work"},
    }
    return parse_definition(content | told)


def create(seconds: float = 0, tenant: str = "default", **told: Any) -> CreateSchedule:
    return CreateSchedule(tenant, definition(**told), cause(seconds))


def said(outcome: str = "succeeded", lease: str = "1.1", **told: Any) -> Report:
    return Report(lease, Outcome(outcome), **told)


class like:  # noqa: N801 - reads as a word in `then(like(...))`
    """Equals an event of a kind that has these values, whatever else it says."""

    def __init__(self, kind: type[Event], /, **values: Any) -> None:
        self.kind, self.values = kind, values

    def __eq__(self, other: object) -> bool:
        return type(other) is self.kind and all(
            getattr(other, name) == value for name, value in self.values.items()
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.kind.__name__}(…{self.values})"


class given:  # noqa: N801 - reads as a word in `given(...).when(...).then(...)`
    """Events that hold; `when` decides on them, `then` says what must come of it."""

    def __init__(self, *events: Event) -> None:
        self.before = list(events)
        self.after: list[Event] = []

    def when(self, act: ScheduleCommand | Callable[[Decision], object]) -> given:
        decision = Decision(fold(self.before))
        if callable(act):
            act(decision)
        else:
            decider.command(decision, act)
        self.after = decision.events
        assert fold([*self.before, *self.after]) == decision.line
        return self

    def then(self, *expected: object) -> list[Event]:
        assert self.after == list(expected)
        return self.after


class History:
    """A schedule's line through time, by the commands that made it."""

    def __init__(self, seconds: float = 0, **told: Any) -> None:
        self.events: list[Event] = []
        self._line: Line | None = None
        self.waiting: dict[str, Execution] = {}
        self.command(create(seconds, **told))

    @property
    def line(self) -> Line:
        assert self._line is not None
        return self._line

    @property
    def live(self) -> list[Execution]:
        return list(self.line.live.values())

    @property
    def parked(self) -> list[Execution]:
        return list(self.line.parked.values())

    @property
    def run(self) -> Execution:
        """The only execution that is unfinished, in its line or outside."""
        (only,) = [*self.live, *self.waiting.values()]
        return only

    def do(self, act: Callable[..., object], *args: object) -> list[Event]:
        decision = Decision(self._line, *self.waiting.values())
        act(decision, *args)
        self._line, self.waiting = decision.line, decision.waiting
        self.events += decision.events
        self.check()
        return decision.events

    def check(self) -> None:
        assert fold(self.events) == self._line
        assert len(streams(self.events)["job"]) == self.line.schedule.version
        assert stored(self.events, self.line) == self._line

    def command(self, asked: ScheduleCommand) -> list[Event]:
        return self.do(decider.command, asked)

    def settle(self, seconds: float) -> list[Event]:
        return self.do(firing.advance, cause(seconds))

    def update(self, seconds: float, expected: int | None = None, **told: Any) -> list[Event]:
        return self.command(UpdateSchedule(definition(**told), expected, cause(seconds)))

    def pause(self, seconds: float) -> list[Event]:
        return self.command(PauseSchedule("", cause(seconds)))

    def resume(self, seconds: float) -> list[Event]:
        return self.command(ResumeSchedule("", cause(seconds)))

    def cancel(self, seconds: float) -> list[Event]:
        return self.command(CancelSchedule("", cause(seconds)))

    def trigger(self, seconds: float, key: str, payload: Any = None) -> list[Event]:
        asked = Trigger(key, payload, payload is not None, cause(seconds))
        return self.do(decider.trigger, asked)

    def plan(self, asked: planning.OccurrenceCommand) -> list[Event]:
        return self.do(planning.plan, asked)

    def backfill(
        self, seconds: float, first: float, last: float, order: str = "buffer_all", id_: str = "b"
    ) -> list[Event]:
        asked = backfilling.BackfillSchedule(
            id_, at(first), at(last), Order(order), "again", cause(seconds)
        )
        return self.do(backfilling.backfill, asked)

    def skip(self, seconds: float, due: float, note: str = "", **told: Any) -> list[Event]:
        return self.plan(planning.SkipOccurrence(at(due), note, cause(seconds, **told)))

    def move(self, seconds: float, due: float, to: float, note: str = "") -> list[Event]:
        return self.plan(planning.MoveOccurrence(at(due), at(to), note, cause(seconds)))

    def hold(self, seconds: float, due: float, note: str = "") -> list[Event]:
        return self.plan(planning.HoldOccurrence(at(due), note, cause(seconds)))

    def approve(self, seconds: float, due: float, note: str = "") -> list[Event]:
        return self.plan(planning.ApproveOccurrence(at(due), note, cause(seconds)))

    def set_payload(self, seconds: float, due: float, payload: Any, note: str = "") -> list[Event]:
        asked = planning.SetOccurrencePayload(at(due), payload, note, cause(seconds))
        return self.plan(asked)

    def start(self, seconds: float, run: Execution | None = None) -> list[Event]:
        return self.do(decider.start, (run or self.run).id, HERE, cause(seconds))

    def take(self, seconds: float, lease: str | None = None, worker: str = "far") -> list[Event]:
        return self.do(decider.take, self.run.id, worker, lease, cause(seconds))

    def report(self, seconds: float, report: Report, run: Execution | None = None) -> list[Event]:
        return self.do(decider.report, (run or self.run).id, report, cause(seconds))

    def ask_to_stop(self, seconds: float, grace: float = 30) -> list[Event]:
        asked = ("enough", timedelta(seconds=grace), cause(seconds))
        return self.do(decider.ask_to_stop, self.run.id, *asked)

    def cancel_run(self, seconds: float, run: Execution | None = None) -> list[Event]:
        return self.do(decider.cancel, (run or self.run).id, "enough", cause(seconds))

    def reprioritize(self, seconds: float, priority: str, run: Execution) -> list[Event]:
        asked = Priority(priority)
        return self.do(decider.reprioritize, run.id, asked, cause(seconds))

    def requeue(self, seconds: float, run: Execution) -> list[Event]:
        return self.do(decider.requeue, self.told(run), cause(seconds))

    def move_timer(self, seconds: float, kind: str, to: float, note: str = "") -> list[Event]:
        asked = (timers.of_execution(kind, self.run.id, self.run.attempt), at(to), note)
        return self.do(timers.move, *asked, cause(seconds))

    def cancel_timer(self, seconds: float, kind: str, note: str = "") -> list[Event]:
        id_ = timers.of_execution(kind, self.run.id, self.run.attempt)
        return self.do(timers.cancel, id_, note, cause(seconds))

    def told(self, run: Execution) -> Execution:
        """The execution as its stream tells it, though it has ended."""
        return self.told_of(run.id)

    def told_of(self, id_: str) -> Execution:
        found: Execution | None = None
        for event in streams(self.events)[id_]:
            found = evolve_execution(found, event)
        assert found is not None
        return found

    def recover(self, seconds: float, owner: str) -> list[Event]:
        return self.do(decider.recover, owner, cause(seconds))

    def hand_over(self) -> ExecutionRequested:
        """Give the last event's execution to a worker of this process in the same commit."""
        requested = self.events[-1]
        assert isinstance(requested, ExecutionRequested)
        handed, self._line = evolve_handed_over(self.line, requested, HERE)
        self.events[-1] = handed
        self.check()
        return handed


def streams(events: Sequence[Event]) -> dict[str, list[Event]]:
    """The events by their stream, as the store keeps them."""
    found: dict[str, list[Event]] = {}
    for event in events:
        stream = event.execution_id if isinstance(event, ExecutionEvent) else event.schedule_id
        found.setdefault(stream, []).append(event)
    return found


def stored(events: Sequence[Event], line: Line) -> Line:
    """The line as a new owner reads it: its packed form and its streams' events, through bytes."""
    read = [decode(name_of(event), encode(event)) for event in events]
    packed = pack(line)
    live: dict[str, Execution] = {}
    schedule: Schedule | None = None
    for stream, own in streams(read).items():
        run: Execution | None = None
        for event in own:
            run = evolve_execution(run, event)
            if run is None:
                schedule = evolve_schedule(schedule, event)
        if stream in live_ids(packed):
            assert run is not None
            assert run.version == len(own)
            live[stream] = run
    assert schedule is not None
    return unpack(packed, schedule, live)
