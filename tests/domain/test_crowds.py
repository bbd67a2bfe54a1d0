"""Random crowds: much is triggered at once, so that much is buffered, released and dropped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from histories import History, at, cause, definition, said
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lanes_model import lanes_hold, limits_hold

from horae_domain import decider
from horae_domain.errors import HoraeError
from horae_domain.execution import Execution, Status
from horae_domain.policies import Priority
from horae_domain.schedule import PauseSchedule, ResumeSchedule, UpdateSchedule

pytestmark = pytest.mark.no_cover  # tracing would take as long again; examples cover the lines

buffering = {
    "overlap": st.sampled_from(["buffer_one", "buffer_all", "buffer_all", "cancel_other"]),
    "concurrency": st.integers(1, 3),
    "concurrency_key": st.sampled_from([None, None, "a"]),
    "max_executions": st.sampled_from([None, None, None, 4, 9]),
    "cooldown": st.sampled_from([None, None, "2s"]),
}
crowds = st.fixed_dictionaries(
    {
        "trigger": st.sampled_from([{"type": "manual"}, {"type": "interval", "every": "1s"}]),
        "catch_up": st.just({"mode": "all", "window": 3600}),
        "timeout": st.just({"start_to_close": None}),
        "retry": st.just({"max_attempts": 2, "delay": "3s", "jitter": 0}),
        **buffering,
    }
)


class Crowd(RuleBasedStateMachine):
    """A schedule that is asked for more than it may run at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.asked = 0
        self.content: dict[str, Any] = {}
        self.history: History

    def attempt(self, act: Any, *arguments: object) -> None:
        before = self.history.line
        try:
            self.history.do(act, *arguments)
        except HoraeError:
            assert self.history.line is before

    @initialize(content=crowds)
    def begin(self, content):
        self.content = content
        self.history = History(0, **content)

    @rule(data=st.data())
    def start(self, data):
        ready = [run for run in self.history.live if run.ready(at(self.now))]
        if ready:
            run = data.draw(st.sampled_from(ready))
            self.attempt(decider.take, run.id, "far", None, cause(self.now))

    @rule(seconds=st.sampled_from([1, 1, 2, 5]))
    def pass_time(self, seconds):
        self.now += seconds
        self.history.settle(self.now)

    @rule(payloads=st.lists(st.sampled_from([None, {"a": 1}, {"a": 2}]), min_size=1, max_size=4))
    def trigger(self, payloads):
        for payload in payloads:
            self.asked += 1
            told = decider.Trigger(f"k{self.asked}", payload, payload is not None, cause(self.now))
            self.attempt(decider.trigger, told)

    @precondition(lambda self: self.history.live)
    @rule(
        data=st.data(),
        outcome=st.sampled_from(["succeeded", "succeeded", "succeeded", "failed"]),
        cooldown=st.sampled_from([None, None, timedelta(seconds=3)]),
    )
    def finish(self, data, outcome, cooldown):
        self.end(data.draw(st.sampled_from(self.history.live)), outcome, cooldown)

    @precondition(lambda self: self.history.live)
    @rule()
    def finish_all(self):
        for run in self.history.live:
            self.end(run, "succeeded", None)

    def end(self, run: Execution, outcome: str, cooldown: timedelta | None) -> None:
        if run.status is not Status.RUNNING:
            self.attempt(decider.take, run.id, "far", None, cause(self.now))
        taken = self.history.line.live.get(run.id)
        if taken is not None and taken.status is Status.RUNNING:
            report = said(outcome, taken.lease, cooldown=cooldown)
            self.history.do(decider.report, run.id, report, cause(self.now))

    @precondition(lambda self: self.history.parked)
    @rule(data=st.data(), priority=st.sampled_from(list(Priority)))
    def reprioritize(self, data, priority):
        run = data.draw(st.sampled_from(self.history.parked))
        self.attempt(decider.reprioritize, run.id, priority, cause(self.now))

    @precondition(lambda self: self.history.parked)
    @rule(data=st.data())
    def cancel_buffered(self, data):
        run = data.draw(st.sampled_from(self.history.parked))
        self.attempt(decider.cancel, run.id, "", cause(self.now))

    @precondition(lambda self: self.history.parked)
    @rule(content=st.fixed_dictionaries({}, optional=buffering))
    def update(self, content):
        self.content = self.content | content
        asked = UpdateSchedule(definition(**self.content), None, cause(self.now))
        self.attempt(decider.command, asked)

    @precondition(lambda self: self.history.parked)
    @rule(seconds=st.sampled_from([0, 1, 5]))
    def pause_for_a_while(self, seconds):
        self.attempt(decider.command, PauseSchedule("", cause(self.now)))
        self.now += seconds
        self.finish_all()
        self.attempt(decider.command, ResumeSchedule("", cause(self.now)))

    @precondition(lambda self: self.history.live)
    @rule()
    def change_owner(self):
        self.history.recover(self.now, f"engine-{len(self.history.events)}")

    @invariant()
    def nothing_with_a_free_way_is_left_behind(self):
        line = self.history.line
        if line.schedule.status.ended:
            assert not line.parked
        if line.active:
            for run in self.history.parked:
                if not line.crowded(line.lane_of(run)):
                    assert line.cools(run, at(self.now))
                    assert line.wake is not None
                    assert line.wake <= line.cooldown_until

    def teardown(self):
        if hasattr(self, "history"):
            lanes_hold(self.history.events)
            limits_hold(self.history.events)


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
