"""The domain beside the reference: the same commands at the same instants, the same history."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from horae_domain import decider, firing
from horae_domain.decision import Decision
from horae_domain.definition import Definition, parse_definition
from horae_domain.errors import HoraeError
from horae_domain.events import (
    Event,
    ExecutionBuffered,
    ExecutionEvent,
    ExecutionRequested,
    ExecutionSkipped,
    OccurrencesDecided,
)
from horae_domain.execution import Execution, Outcome, Report
from horae_domain.execution import evolve as evolve_execution
from horae_domain.ledger import Line, evolve, live_ids, pack, unpack
from horae_domain.schedule import (
    CancelSchedule,
    CreateSchedule,
    PauseSchedule,
    ResumeSchedule,
    UpdateSchedule,
)
from tests.domain.histories import START, at, cause
from tests.model.reference import Model, Policy, Refused, Run

HERE = "this process"
SPANS = st.sampled_from([0.0, 0.5, 1.0, 9.0, 30.0, 60.0, 61.0, 150.0, 600.0])

policies = st.builds(
    Policy,
    every=st.sampled_from([1.0, 10.0, 60.0]),
    overlap=st.sampled_from(
        ["skip", "buffer_one", "buffer_all", "cancel_other", "terminate_other", "allow"]
    ),
    catch_up=st.sampled_from(["all", "latest", "skip"]),
    window=st.sampled_from([0.0, 25.0, 300.0]),
    concurrency=st.none() | st.integers(1, 3),
    max_executions=st.none() | st.integers(1, 8),
    cooldown=st.none() | st.sampled_from([5.0, 90.0]),
    max_attempts=st.integers(1, 3),
    delay=st.sampled_from([0.0, 2.0, 45.0]),
    timeout=st.none() | st.sampled_from([3.0, 70.0]),
)


def definition(policy: Policy) -> Definition:
    """A policy as somebody would write it."""
    return parse_definition(
        {
            "id": "job",
            "trigger": {"type": "interval", "every": policy.every},
            "action": {"type": "queue", "queue": "q"},
            "overlap": policy.overlap,
            "catch_up": {"mode": policy.catch_up, "window": policy.window},
            "concurrency": policy.concurrency,
            "max_executions": policy.max_executions,
            "cooldown": policy.cooldown,
            "retry": {"max_attempts": policy.max_attempts, "delay": policy.delay, "jitter": 0},
            "timeout": {"start_to_close": policy.timeout},
        }
    )


def second(instant: datetime) -> float:
    return (instant - START).total_seconds()


REASONS = {"catch_up_window": "missed"}


class Beside(RuleBasedStateMachine):
    """One schedule, told the same twice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.keys = 0
        self.executions: dict[str, Execution] = {}
        """Every execution as the events tell it, the skipped ones, too."""
        self.fates: dict[float, str] = {}
        """The decision on each occurrence, as the events tell it."""
        self.replayed: Line | None = None
        """The fold of all events."""
        self.line: Line
        self.model: Model

    # --- the two sides ----------------------------------------------------------------------------

    def both(self, model: Any, act: Any, *arguments: Any) -> None:
        """Do it on both sides; they agree on whether it can be done."""
        decision = Decision(self.line)
        try:
            act(decision, *arguments)
            refused = False
        except HoraeError:
            refused = True
        before = self.model.copy()
        try:
            model(self.model)
        except Refused:
            self.model = before
            assert refused, "only the reference refuses"
            return
        assert not refused, "only the domain refuses"
        self.take_over(decision)

    def take_over(self, decision: Decision) -> None:
        assert decision.line is not None
        self.line = decision.line
        for event in decision.events:
            self.replayed = evolve(self.replayed, event)
            if isinstance(event, ExecutionEvent):
                run = evolve_execution(self.executions.get(event.execution_id), event)
                assert run is not None
                self.executions[run.id] = run
            self.note(event)

    def runs(self) -> dict[str, Execution]:
        """What has fired or waits to, by the names that the reference gives them."""
        return {_name(run): run for run in self.executions.values() if run.reason is None}

    def pick(self, data: Any, *statuses: str) -> tuple[Run, Execution] | None:
        names = sorted(n for n, run in self.model.runs.items() if run.status in statuses)
        if not names:
            return None
        name = data.draw(st.sampled_from(names))
        return self.model.runs[name], self.runs()[name]

    # --- rules ------------------------------------------------------------------------------------

    @initialize(policy=policies)
    def create(self, policy: Policy) -> None:
        decision = Decision(None)
        decider.command(decision, CreateSchedule("default", definition(policy), cause(0)))
        self.model = Model(policy)
        self.take_over(decision)

    @rule(span=SPANS)
    def time_passes(self, span: float) -> None:
        self.now += span

    @rule()
    def wake(self) -> None:
        self.both(lambda model: model.wake(self.now), firing.settle, cause(self.now))

    @rule(policy=policies)
    def update(self, policy: Policy) -> None:
        asked = UpdateSchedule(definition(policy), None, cause(self.now))
        self.both(lambda model: model.update(policy, self.now), decider.command, asked)

    @rule()
    def pause(self) -> None:
        asked = PauseSchedule("", cause(self.now))
        self.both(lambda model: model.pause(self.now), decider.command, asked)

    @rule()
    def resume(self) -> None:
        asked = ResumeSchedule("", cause(self.now))
        self.both(lambda model: model.resume(self.now), decider.command, asked)

    @precondition(lambda self: self.now > 300)
    @rule()
    def cancel(self) -> None:
        asked = CancelSchedule("", cause(self.now))
        self.both(lambda model: model.cancel(self.now), decider.command, asked)

    @rule()
    def trigger(self) -> None:
        self.keys += 1
        key = f"key-{self.keys}"
        asked = decider.Trigger(key, None, False, cause(self.now))
        self.both(lambda model: model.trigger(key, self.now), decider.trigger, asked)

    @rule(data=st.data())
    def pull(self, data: Any) -> None:
        """A worker elsewhere takes what is ready, or is not."""
        found = self.pick(data, "pending", "delayed")
        if found is not None:
            run, execution = found
            self.both(
                lambda model: model.start(model.runs[run.name], self.now, local=False),
                decider.take, execution.id, "far", None, cause(self.now),
            )  # fmt: skip

    @rule(data=st.data())
    def hand_over(self, data: Any) -> None:
        """The owner starts what is ready in its own process, as it does after it has settled."""
        self.wake()
        ready = [
            name
            for name, run in sorted(self.model.runs.items())
            if self.model.ready(run, self.now) and self.line.may_start(self.runs()[name])
        ]
        if ready:
            name = data.draw(st.sampled_from(ready))
            id_ = self.runs()[name].id
            self.both(
                lambda model: model.start(model.runs[name], self.now, local=True),
                decider.start, id_, HERE, cause(self.now),
            )  # fmt: skip

    @rule(
        data=st.data(), outcome=st.sampled_from(["succeeded", "succeeded", "failed", "cancelled"])
    )
    def report(self, data: Any, outcome: str) -> None:
        found = self.pick(data, "running")
        if found is not None:
            run, execution = found
            said = Report(execution.lease, Outcome(outcome))
            self.both(
                lambda model: model.report(model.runs[run.name], outcome, self.now),
                decider.report, execution.id, said, cause(self.now),
            )  # fmt: skip

    @rule(data=st.data())
    def cancel_run(self, data: Any) -> None:
        found = self.pick(data, "pending", "delayed", "running", "buffered")
        if found is not None:
            run, execution = found
            self.both(
                lambda model: model.cancel_run(model.runs[run.name], self.now),
                decider.cancel, execution.id, "enough", cause(self.now),
            )  # fmt: skip

    @rule()
    def another_owner(self) -> None:
        """It begins with what is stored: the packed line, and the streams of what is alive."""
        state = pack(self.line)
        alive = {id_: self.executions[id_] for id_ in live_ids(state)}
        restored = unpack(state, self.line.schedule, alive)
        assert restored == self.line
        self.line = restored
        self.both(
            lambda model: model.owner_lost(self.now), decider.recover, "another", cause(self.now)
        )

    # --- agreement --------------------------------------------------------------------------------

    @invariant()
    def they_agree(self) -> None:
        if self.replayed is None:
            return
        line, model = self.line, self.model
        assert str(line.schedule.status) == model.status
        assert line.fired == model.fired
        assert line.cooldown_until == (
            None if model.cooldown_until is None else at(model.cooldown_until)
        )
        assert {name: str(run.status) for name, run in self.runs().items()} == {
            name: run.status for name, run in model.runs.items()
        }
        assert self.fates == model.fates
        assert self.replayed == line

    def note(self, event: Event) -> None:
        """What an event decides on occurrences."""
        match event:
            case ExecutionRequested() | ExecutionBuffered() if event.kind != "key":
                self.decided(second(event.due), "decided")
            case ExecutionSkipped() if event.kind != "key":
                self.decided(second(event.due), REASONS.get(event.reason, event.reason))
            case OccurrencesDecided():
                for instant in self.between(event):
                    self.decided(instant, REASONS.get(event.reason, event.reason))
            case _:
                pass

    def decided(self, instant: float, decision: str) -> None:
        assert instant not in self.fates, f"{instant} is decided twice"
        self.fates[instant] = decision

    def between(self, event: OccurrencesDecided) -> list[float]:
        """The instants of a range, which all have one distance."""
        every = self.line.schedule.definitions[event.revision].trigger.every  # type: ignore[union-attr]
        count = (event.last - event.first) // every + 1
        return [second(event.first + every * n) for n in range(count)]


def _name(run: Execution) -> str:
    return run.nominal if run.kind == "key" else f"@{second(run.due):g}"
