"""Random histories with plans for single occurrences: every instant has exactly one decision."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from histories import History, at, cause, definition, said
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from test_properties import (
    DECISIONS,
    ids_are_decided_once,
    instants_are_decided_once,
    outcomes_are_accepted_once,
)

from horae_domain import decider, planning
from horae_domain.errors import HoraeError
from horae_domain.events import Event
from horae_domain.execution import Status
from horae_domain.occurrences import due_by
from horae_domain.plans import Verdict
from horae_domain.schedule import PauseSchedule, ResumeSchedule, UpdateSchedule

FAR = datetime(9000, 1, 1, tzinfo=UTC)

contents = st.fixed_dictionaries(
    {
        "trigger": st.sampled_from(
            [
                {"type": "interval", "every": "1m"},
                {"type": "interval", "every": "1m", "anchor": "2026-01-05T00:00:00Z"},
                {"type": "cron", "expression": "* * * * *"},
                {"type": "once", "after": 90},
            ]
        ),
        "overlap": st.sampled_from(["skip", "allow", "allow", "buffer_all", "terminate_other"]),
        "catch_up": st.sampled_from(
            [{"mode": "all"}, {"mode": "latest"}, {"mode": "skip"}, {"window": 0}]
        ),
    },
    optional={
        "max_executions": st.integers(1, 9),
        "end_at": st.sampled_from(["2026-01-05T00:06:00Z", "2026-01-05T00:20:00Z"]),
    },
)


class PlannedLine(RuleBasedStateMachine):
    """A schedule whose occurrences somebody skips, moves, holds and approves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.history: History

    def attempt(self, act: Any, *arguments: object) -> None:
        before = self.history.line
        try:
            self.history.do(act, *arguments)
        except HoraeError:
            assert self.history.line is before

    @initialize(content=contents)
    def begin(self, content):
        self.history = History(0, **content)

    @rule(seconds=st.sampled_from([0, 1, 29, 30, 60, 90, 400]))
    def pass_time(self, seconds):
        self.now += seconds

    @rule(seconds=st.sampled_from([0, 1, 29, 30, 60, 60, 90, 400]))
    def settle(self, seconds):
        self.now += seconds
        self.history.settle(self.now)

    @rule(data=st.data(), kind=st.sampled_from(["skip", "move", "move", "hold", "payload"]))
    def plan(self, data, kind):
        """An occurrence that comes, or one that has plans already."""
        line = self.history.line
        after = max(at(self.now), line.through)
        coming = due_by(line.definition, line.schedule.anchor, after, FAR, 4, tenant="t")
        known = {each.due for each in coming} | {plan.due for plan in line.plans.values()}
        due = data.draw(st.sampled_from(sorted(known | {at(1)})))
        to = data.draw(st.sampled_from([at(self.now + each) for each in (0, 30, 61, 400)] + [due]))
        told = ("why", cause(self.now, actor="ann"))
        asked = {
            "skip": planning.SkipOccurrence(due, *told),
            "move": planning.MoveOccurrence(due, to, *told),
            "hold": planning.HoldOccurrence(due, *told),
            "payload": planning.SetOccurrencePayload(due, {"by": "hand"}, *told),
        }[kind]
        self.attempt(planning.plan, asked)

    @rule(data=st.data(), approved=st.booleans())
    def answer(self, data, approved):
        """What is held, or is to be held or skipped."""
        line = self.history.line
        due = [run.due for run in line.parked.values() if run.status is Status.HELD]
        due += [plan.due for plan in line.plans.values() if plan.verdict is not Verdict.NONE]
        if due:
            kind = planning.ApproveOccurrence if approved else planning.SkipOccurrence
            asked = kind(data.draw(st.sampled_from(due)), "", cause(self.now))
            self.attempt(planning.plan, asked)

    @precondition(lambda self: len(self.history.events) % 4 == 3)
    @rule(content=contents)
    def update(self, content):
        asked = UpdateSchedule(definition(**content), None, cause(self.now))
        self.attempt(decider.command, asked)

    @precondition(lambda self: len(self.history.events) % 4 > 1)
    @rule(kind=st.sampled_from([PauseSchedule, ResumeSchedule, ResumeSchedule]))
    def pause_or_resume(self, kind):
        self.attempt(decider.command, kind("", cause(self.now)))

    @precondition(lambda self: self.history.live)
    @rule()
    def finish(self):
        run = self.history.live[0]
        if run.status is not Status.RUNNING:
            self.history.start(self.now, run)
        if run.id in self.history.line.live:
            lease = self.history.line.live[run.id].lease
            self.history.report(self.now, said(lease=lease), run)

    @invariant()
    def somebody_wakes_for_what_is_due(self):
        line = self.history.line
        if line.fires_by(at(self.now)) and not line.waits_for_run:
            assert line.wake is not None
            assert line.wake <= at(self.now)

    @invariant()
    def plans_end(self):
        line = self.history.line
        for plan in line.plans.values():
            assert plan.due > line.through or plan.waits_at is not None
        if line.schedule.status.ended:
            assert not line.plans
            assert not line.parked

    def teardown(self):
        if hasattr(self, "history"):
            events = self.history.events
            ids_are_decided_once(events)
            outcomes_are_accepted_once(events)
            instants_are_decided_once(events, self.history.line)
            names_are_decided_once(events)


TestPlannedLine = PlannedLine.TestCase
TestPlannedLine.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)


def names_are_decided_once(events: list[Event]) -> None:
    """Whether it was moved or not."""
    decided = Counter(
        (event.kind, event.nominal) for event in events if isinstance(event, DECISIONS)
    )
    assert all(times == 1 for times in decided.values())
