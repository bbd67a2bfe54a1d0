"""Random histories of one line: whatever happens, every instant has exactly one decision."""

from __future__ import annotations

import string
from bisect import bisect_left, bisect_right
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from histories import HERE, History, at, cause, create, definition, said
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lanes_model import ENDS, lanes_hold, limits_hold

from horae_domain import decider
from horae_domain.checking import Verdict, judge
from horae_domain.codec import decode, encode, name_of
from horae_domain.decision import Decision
from horae_domain.definition import Definition, parse_definition
from horae_domain.edits import PatchSchedule
from horae_domain.errors import HoraeError
from horae_domain.events import (
    NAMES,
    AttemptStarted,
    Because,
    Confirmation,
    Event,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionChecking,
    ExecutionDropped,
    ExecutionEvent,
    ExecutionHeld,
    ExecutionReleased,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSkipped,
    ExecutionSucceeded,
    OccurrencesDecided,
    ReportRefused,
    ScheduleCancelled,
    ScheduleCompleted,
    ScheduleCreated,
    ScheduleResumed,
    ScheduleTripped,
    ScheduleUpdated,
)
from horae_domain.execution import FAILURES
from horae_domain.identity import execution_id
from horae_domain.ledger import Line, evolve
from horae_domain.occurrences import TICK, due_by
from horae_domain.policies import Overlap, Priority
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import CreateSchedule, UpdateSchedule

pytestmark = pytest.mark.no_cover  # tracing would take as long again; examples cover the lines

# --- definitions ---------------------------------------------------------------------------------

durations = st.sampled_from(["100ms", "700ms", "1s", "13s", "1m", "7m"])
triggers = st.one_of(
    st.builds(lambda every: {"type": "interval", "every": every}, durations),
    st.sampled_from(["* * * * *", "*/5 * * * * *", "7 * * * *", "0 2 * * *"]).map(
        lambda text: {"type": "cron", "expression": text, "timezone": "Europe/Berlin"}
    ),
    st.floats(0, 500).map(lambda after: {"type": "once", "after": round(after, 3)}),
    st.just({"type": "manual"}),
)
names = st.text(string.ascii_letters, min_size=1, max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
policies: dict[str, st.SearchStrategy[Any]] = {
    "overlap": st.sampled_from(["skip", *(str(each) for each in Overlap)]),
    "catch_up": st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["all", "latest", "skip"]),
            "window": st.sampled_from([0, 5, 60, 300, 3600]),
        }
    ),
    "retry": st.fixed_dictionaries(
        {"max_attempts": st.integers(1, 3), "delay": durations, "jitter": st.sampled_from([0, 1])}
    ),
    "timeout": st.fixed_dictionaries(
        {"start_to_close": st.none() | durations},
        optional={
            "schedule_to_start": durations,
            "overall": durations,
            "heartbeat": st.sampled_from(["1s", "13s"]),
        },
    ),
    "cooldown": st.none() | durations,
    "concurrency": st.none() | st.integers(1, 3),
    "concurrency_key": st.sampled_from([None, None, "a", "b.c"]),
    "payload": st.sampled_from([None, {"a": 1}]),
    "priority": st.sampled_from(["medium", "medium", "low", "high"]),
    "max_executions": st.none() | st.integers(1, 6),
    "pause_on_failures": st.none() | st.integers(1, 3),
    "enabled": st.sampled_from([True, True, True, False]),
    "requires": st.sampled_from([(), (), "open"]),
}
contents = st.fixed_dictionaries({"trigger": triggers}, optional=policies)

# --- a line through time -------------------------------------------------------------------------

DECISIONS = (
    ExecutionRequested, ExecutionBuffered, ExecutionChecking, ExecutionHeld, ExecutionSkipped,
)  # fmt: skip


class OneLine(RuleBasedStateMachine):
    """A schedule, its executions, and everybody who may touch them, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.owner = HERE
        self.history: History

    def attempt(self, act: Any, *arguments: object) -> None:
        """Do it if the state allows; a refusal must not have decided anything that counts."""
        before = self.history.line
        try:
            self.history.do(act, *arguments)
        except HoraeError:
            assert self.history.line is before

    @initialize(content=contents)
    def begin(self, content):
        self.history = History(0, **content)

    @rule(seconds=st.sampled_from([0, 0.05, 0.1, 1, 4.999, 13, 60, 300, 1000, 9000]))
    def pass_time(self, seconds):
        self.now = round(self.now + seconds, 6)

    @rule()
    def settle(self):
        self.history.settle(self.now)

    @rule()
    def settle_all(self):
        for _ in range(200):
            if not self.history.line.fires_by(at(self.now)):
                break
            self.history.settle(self.now)
        assert not self.history.line.fires_by(at(self.now))

    @rule(content=contents)
    def update(self, content):
        asked = UpdateSchedule(definition(**content), None, cause(self.now))
        self.attempt(decider.command, asked)

    @rule(fields=st.fixed_dictionaries({}, optional=policies))
    def patch(self, fields):
        self.attempt(decider.command, PatchSchedule(fields, None, cause(self.now)))

    @rule(content=contents)
    def create_again(self, content):
        asked = CreateSchedule("default", definition(**content), cause(self.now))
        self.attempt(decider.command, asked)

    @rule(command=st.sampled_from(["PauseSchedule", "ResumeSchedule", "ResumeSchedule"]))
    def pause_or_resume(self, command):
        from horae_domain import schedule

        self.attempt(decider.command, getattr(schedule, command)("", cause(self.now)))

    @precondition(lambda self: len(self.history.events) > 15)
    @rule()
    def cancel(self):
        from horae_domain.schedule import CancelSchedule

        self.attempt(decider.command, CancelSchedule("", cause(self.now)))

    @rule(
        key=st.sampled_from("abcdefgh"),
        payload=st.sampled_from([None, {"a": 1}, {"a": 2}, {"b": {"c": 1}}, {"b": 1}]),
    )
    def trigger(self, key, payload):
        """As the engine does: a key whose execution exists is answered, not decided."""
        line = self.history.line
        id_ = decider.trigger_id("default", "job", line.schedule.incarnation, key)
        if not any(getattr(event, "execution_id", None) == id_ for event in self.history.events):
            told = payload is not None
            self.attempt(decider.trigger, decider.Trigger(key, payload, told, cause(self.now)))

    @precondition(lambda self: self.history.live)
    @rule(data=st.data())
    def start(self, data):
        run = data.draw(st.sampled_from(self.history.live))
        if run.ready(at(self.now)) and self.history.line.may_start(run):
            self.history.do(decider.start, run.id, self.owner, cause(self.now))

    @precondition(lambda self: self.history.live)
    @rule(data=st.data(), lease=st.sampled_from([None, "1.1", "1.2", "2.1"]))
    def take(self, data, lease):
        run = data.draw(st.sampled_from(self.history.live))
        self.attempt(decider.take, run.id, "far", lease, cause(self.now))

    @precondition(lambda self: self.history.live)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["succeeded", "succeeded", "failed", "again", "cancelled"]),
        lease=st.sampled_from([None, None, None, "1.1", "2.1"]),
        limit=st.none() | st.integers(0, 2),
        cooldown=st.none() | st.just(timedelta(seconds=20)),
    )
    def report(self, data, outcome, lease, limit, cooldown):
        run = data.draw(st.sampled_from(self.history.live))
        report = said(outcome, lease or run.lease, limit=limit, cooldown=cooldown)
        self.history.do(decider.report, run.id, report, cause(self.now))
        accepted = report.lease in self.history.told_of(run.id).closed
        again = self.history.do(decider.report, run.id, report, cause(self.now))
        assert not (accepted and again)

    @precondition(lambda self: any(isinstance(each, ENDS) for each in self.history.events))
    @rule(data=st.data())
    def requeue(self, data):
        ids = [each.execution_id for each in self.history.events if isinstance(each, ENDS)]
        id_ = data.draw(st.sampled_from(ids))
        run = self.history.told_of(id_)
        self.attempt(decider.requeue, run, cause(self.now))

    @precondition(lambda self: self.history.live)
    @rule(data=st.data())
    def retry_now(self, data):
        run = data.draw(st.sampled_from(self.history.live))
        self.attempt(decider.requeue, run, cause(self.now))

    @precondition(lambda self: self.history.live or self.history.parked)
    @rule(data=st.data())
    def cancel_execution(self, data):
        run = data.draw(st.sampled_from([*self.history.live, *self.history.parked]))
        self.attempt(decider.cancel, run.id, "", cause(self.now))

    @precondition(lambda self: self.history.live)
    @rule(data=st.data(), grace=st.sampled_from([0, 1, 30]))
    def ask_to_stop(self, data, grace):
        run = data.draw(st.sampled_from(self.history.live))
        asked = ("", timedelta(seconds=grace), cause(self.now))
        self.attempt(decider.ask_to_stop, run.id, *asked)

    @precondition(lambda self: self.history.live or self.history.parked)
    @rule(data=st.data(), priority=st.sampled_from(list(Priority)))
    def reprioritize(self, data, priority):
        run = data.draw(st.sampled_from([*self.history.live, *self.history.parked]))
        self.attempt(decider.reprioritize, run.id, priority, cause(self.now))

    @precondition(lambda self: self.checked())
    @rule(data=st.data(), met=st.booleans(), fails=st.booleans())
    def answer_check(self, data, met, fails):
        run = data.draw(st.sampled_from(self.checked()))
        error = {"type": "Boom", "message": ""} if fails else None
        self.attempt(judge, run.id, Verdict(met, "open", error), cause(self.now))

    def checked(self):
        now = at(self.now)
        return [run for run in self.history.parked if run.asks(now)]

    @rule()
    def change_owner(self):
        self.owner = f"engine-{len(self.history.events)}"
        self.history.recover(self.now, self.owner)

    @invariant()
    def somebody_wakes_for_what_is_due(self):
        line = self.history.line
        if line.fires_by(at(self.now)) and not line.waits_for_run:
            assert line.wake is not None
            assert line.wake <= at(self.now)
        if line.waits_for_run:
            assert line.live

    @invariant()
    def nothing_with_a_free_way_is_left_behind(self):
        line = self.history.line
        if line.schedule.status.ended:
            assert not line.parked
        if line.schedule.status == "active":
            for run in self.history.parked:
                if run.status == "checking":
                    assert line.unsettled or line.wake <= run.resume_at
                elif not line.crowded(line.lane_of(run)):
                    assert run.kind != "key"
                    assert line.wake <= line.cooldown_until

    def teardown(self):
        if hasattr(self, "history"):
            events = self.history.events
            ids_are_decided_once(events)
            outcomes_are_accepted_once(events)
            limits_hold(events)
            lanes_hold(events)
            failures_in_a_row_pause(events)
            instants_are_decided_once(events, self.history.line)


TestOneLine = OneLine.TestCase
TestOneLine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def ids_are_decided_once(events: list[Event]) -> None:
    """What is parked is released, dropped or cancelled, once, and nothing else is released."""
    decisions = [event.execution_id for event in events if isinstance(event, DECISIONS)]
    assert len(set(decisions)) == len(decisions)
    waiting: set[str] = set()
    for event in events:
        match event:
            case ExecutionBuffered() | ExecutionChecking() | ExecutionHeld():
                waiting.add(event.execution_id)
            case ExecutionReleased() | ExecutionDropped():
                waiting.remove(event.execution_id)
            case ExecutionCancelled():
                waiting.discard(event.execution_id)
            case AttemptStarted():
                assert event.execution_id not in waiting


def outcomes_are_accepted_once(events: list[Event]) -> None:
    ended: set[str] = set()
    for event in events:
        id_ = event.execution_id if isinstance(event, ExecutionEvent) else None
        if isinstance(event, ExecutionRequeued):
            ended.discard(event.execution_id)
        if id_ in ended:
            assert isinstance(event, ReportRefused)
        if isinstance(event, ENDS):
            assert id_ is not None
            ended.add(id_)


def failures_in_a_row_pause(events: list[Event]) -> None:
    """One failure too many in a row is followed by a pause, and nothing else is."""
    line: Line | None = None
    row, owed = 0, False
    for event in events:
        if owed and isinstance(event, ScheduleTripped):
            assert event.failures == row
            owed = False
        assert not isinstance(event, ScheduleTripped) or (line is not None and line.active)
        line = evolve(line, event)
        assert line is not None
        if isinstance(event, ExecutionSucceeded | ScheduleResumed | ScheduleCreated):
            row = 0
        if isinstance(event, FAILURES):
            row += 1
            limit = line.definition.pause_on_failures
            owed = line.active and limit is not None and row >= limit
            since = event.at
        owed = owed and line.active
        assert not owed or event.at == since
    assert not owed


class Reign:
    """The time under one revision of the definition, and what it had to decide."""

    def __init__(
        self, event: ScheduleCreated | ScheduleUpdated, former: Reign | None, line: Line
    ) -> None:
        self.definition = parse_definition(event.definition)
        self.anchor = event.anchor
        once = self.definition.trigger.type == "once"
        self.anew = (
            former is None
            or isinstance(event, ScheduleCreated)
            or former.definition.trigger != self.definition.trigger
        )
        if once and self.anew:
            self.after = event.at - TICK
        else:
            self.after = event.at if self.anew else min(event.at, line.through)

    def occurrences(self, through: datetime) -> list[Occurrence]:
        return due_by(
            self.definition, self.anchor, self.after, through, 1_000_000, tenant="default"
        )


class Elsewhere:
    """The instants of a revision that passed while their occurrence was moved elsewhere."""

    def __init__(self) -> None:
        self.passed: set[tuple[int, str]] = set()

    def note(self, before: Line | None, event: Event, after: Line, revision: int) -> None:
        through = event.at if isinstance(event, ScheduleCancelled) else after.through
        self.passed |= {
            (revision, nominal)
            for nominal, plan in (before.plans if before is not None else {}).items()
            if before is not None and plan.away and before.through < plan.due <= through
        }


def span_of(event: Any) -> tuple[datetime, datetime, int | None] | None:
    """The first and the last instant that an event decides, and how many it says that there are."""
    if isinstance(event, OccurrencesDecided):
        return event.first, event.last, event.count
    if isinstance(event, DECISIONS) and event.kind != "key":
        return event.due, event.due, 1
    return None


def instants_are_decided_once(events: list[Event], line: Line) -> None:
    """What each revision decided is what was due in its time, each instant once.

    What was moved elsewhere is decided there, once, by whichever revision is in force then.
    """
    reigns: dict[int, Reign] = {}
    ends: dict[int, datetime] = {}
    decided: dict[int, list[tuple[datetime, datetime, int | None]]] = {}
    moved: Counter[tuple[int, str]] = Counter()
    elsewhere = Elsewhere()
    revision = 0
    then: Line | None = None

    def decided_last() -> datetime:
        found = decided.get(revision)
        return max(last for _, last, _ in found) if found else reigns[revision].after

    for event in events:
        before, then = then, evolve(then, event)
        assert then is not None
        elsewhere.note(before, event, then, revision)
        match event:
            case ScheduleCreated() | ScheduleUpdated():
                reign = Reign(event, reigns.get(revision), then)
                ends.setdefault(revision, event.at if reign.anew else reign.after)
                revision = event.revision
                reigns[revision] = reign
            case ScheduleCompleted():
                ends.setdefault(revision, decided_last())
            case ScheduleCancelled():
                ends.setdefault(revision, event.at)
            case _:
                pass
        span = span_of(event)
        if span is not None and event.moved_to is None:
            decided.setdefault(event.revision, []).append(span)
        elif span is not None:
            moved[then.schedule.incarnation, event.nominal] += 1
        if then.spent:
            ends.setdefault(revision, decided_last())
    ends.setdefault(revision, line.through)
    assert all(times == 1 for times in moved.values())
    assert decided.keys() <= reigns.keys()
    for number, reign in reigns.items():
        every = reign.occurrences(ends[number])
        due = [each.due for each in every if (number, each.nominal) not in elsewhere.passed]
        others = sorted({each.due for each in every} - set(due))
        covered: list[datetime] = []
        for first, last, count in decided.get(number, []):
            inside = between(due, first, last)
            assert inside[:1] == [first]
            assert count in (None, len(inside))
            assert not between(others, first, last)
            covered += inside
        assert sorted(covered) == due


def between(ordered: list[datetime], first: datetime, last: datetime) -> list[datetime]:
    return ordered[bisect_left(ordered, first) : bisect_right(ordered, last)]


# --- functions -----------------------------------------------------------------------------------


@given(contents, json_values, st.lists(names, max_size=3), st.floats(1, 9))
def test_canonical_definition_reads_as_itself(content, payload, tags, backoff):
    told = {"payload": payload, "metadata": {"m": payload}, "tags": tags}
    found = definition(**(content | told | {"retry": {"backoff": backoff}}))
    canonical = found.canonical()
    assert parse_definition(canonical) == found
    assert parse_definition(canonical).canonical() == canonical
    (event,) = made(found)
    assert decode(name_of(event), encode(event)) == event


def made(found: Definition) -> list[Event]:
    decision = Decision(None)
    decider.command(decision, CreateSchedule("default", found, cause(0)))
    return decision.events[:1]


instants = st.integers(0, 10**15).map(lambda micros: at(0) + timedelta(microseconds=micros))
confirmations = st.builds(
    Confirmation,
    index=st.integers(0, 9),
    event_id=names,
    type=names,
    source=names,
    data=json_values,
)
reasons = st.builds(
    Because, end=names, reason=names, error=st.dictionaries(names, json_values, max_size=2),
    event_source=st.none() | names, event_id=st.none() | names,
)  # fmt: skip
by_type: dict[str, st.SearchStrategy[Any]] = {
    "datetime": instants,
    "str": st.text(st.characters(codec="utf-8"), max_size=8),
    "int": st.integers(0, 2**53),
    "bool": st.booleans(),
    "Any": json_values,
    "float": st.floats(0, 1e9),
    "dict[str, Any]": st.dictionaries(names, json_values, max_size=3),
    "list[str]": st.lists(names, max_size=3),
    "list[dict[str, Any]]": st.lists(st.dictionaries(names, json_values, max_size=2), max_size=2),
    "Confirmation": confirmations,
    "list[Confirmation]": st.lists(confirmations, max_size=2),
    "Because": reasons,
    "list[Any]": st.lists(json_values, max_size=3),
    "list[int]": st.lists(st.integers(0, 2**53), max_size=3),
    "dict[str, str]": st.dictionaries(names, names, max_size=3),
    "dict[str, int]": st.dictionaries(names, st.integers(0, 2**53), max_size=3),
}


def strategy_of(annotation: str) -> st.SearchStrategy[Any]:
    plain = annotation.removesuffix(" | None")
    return by_type[plain] if plain == annotation else st.none() | by_type[plain]


def events_of(kind: type[Event]) -> st.SearchStrategy[Event]:
    annotations = {}
    for base in reversed(kind.__mro__[:-2]):
        annotations |= getattr(base, "__annotations__", {})
    fields = set(kind.__struct_fields__)
    told = {name: strategy_of(text) for name, text in annotations.items() if name in fields}
    return st.builds(kind, **told)


@given(st.one_of([events_of(kind) for kind in NAMES]))
def test_every_event_survives_its_stored_form(event):
    state = encode(event)
    again = decode(name_of(event), state)
    assert again == event
    assert encode(again) == state


@given(instants, st.integers(1, 5), names)
def test_ids_depend_on_incarnation_and_key(instant, incarnation, key):
    one = execution_id("t", "s", incarnation, "calendar", key, instant)
    assert one == execution_id("t", "s", incarnation, "calendar", key, instant)
    assert one != execution_id("t", "s", incarnation + 1, "calendar", key, instant)
    assert one != execution_id("t", "s", incarnation, "calendar", key + "x", instant)
    assert one != execution_id("t", "s", incarnation, "interval", key, instant)
    assert one != execution_id("u", "s", incarnation, "calendar", key, instant)


@given(st.lists(st.floats(0, 50), max_size=30))
def test_interval_does_not_drift_however_late_it_is_decided(delays):
    history = History(overlap="allow", catch_up={"mode": "all"})
    for index, delay in enumerate(delays, start=1):
        history.settle(60 * index + delay)
    due = [event.due for event in history.events if isinstance(event, ExecutionRequested)]
    assert due == [at(60 * index) for index in range(1, len(delays) + 1)]


def test_histories_begin_with_a_creation():
    assert isinstance(made(create().definition)[0], ScheduleCreated)
