"""Histories of executions that wait for confirmations, take steps, and fall back.

As in `histories`, the replay of all events is compared with what the decisions left; what waits is
known from its own stream alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from histories import History, at, cause, streams

from horae_domain import decider, external, waits
from horae_domain.definition import Definition
from horae_domain.events import Event, ExternalEventReceived
from horae_domain.execution import Execution
from horae_domain.execution import evolve as evolve_execution
from horae_domain.replaying import replay

WAIT = {"event": "Paid", "match": {"order": "trigger.data.order"}, "timeout": "10 minutes"}
STEADY = {"max_attempts": 2, "delay": "10s", "jitter": 0}


def function(name: str) -> dict[str, Any]:
    return {"type": "function", "name": name}


def step(name: str, *, undo: bool = True) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "action": function(name)}
    return told | ({"compensate": function(f"un{name}")} if undo else {})


def paid(
    seconds: float, order: object = "o-1", id_: str = "e-1", **told: Any
) -> ExternalEventReceived:
    said = {"type": "Paid", "source": "shop", "data": {"order": order}} | told
    return ExternalEventReceived(at=at(seconds), id=id_, **said)


class SagaHistory(History):
    """A schedule that is triggered by hand, and its executions."""

    def __init__(self, **told: Any) -> None:
        super().__init__(**{"trigger": {"type": "manual"}, "overlap": "allow", **told})

    def do(self, act: Callable[..., object], *args: object) -> list[Event]:
        events = super().do(act, *args)
        for id_, run in self.waiting.items():
            assert self.told_of(id_) == run
        replay(self.events)
        return events

    @property
    def terms(self) -> Definition:
        return self.line.definition

    @property
    def waiter(self) -> Execution:
        """The only execution that waits."""
        (only,) = self.waiting.values()
        return only

    def begin(self, seconds: float, payload: Any = None, key: str = "k") -> list[Event]:
        return self.trigger(seconds, key, {"order": "o-1"} if payload is None else payload)

    def confirm(self, event: ExternalEventReceived, run: Execution | None = None) -> list[Event]:
        at_ = (event.at - at(0)).total_seconds()
        return self.do(waits.confirm, (run or self.waiter).id, event, cause(at_))

    def confirm_at(self, seconds: float, event: ExternalEventReceived) -> list[Event]:
        return self.do(waits.confirm, self.waiter.id, event, cause(seconds))

    def expire(self, seconds: float, run: Execution | None = None) -> list[Event]:
        return self.do(decider.expire, (run or self.waiter).id, cause(seconds))

    def end(self, event: ExternalEventReceived, id_: str) -> list[Event]:
        at_ = (event.at - at(0)).total_seconds()
        return self.do(external.end, id_, event, cause(at_))

    @property
    def last(self) -> Execution:
        """The execution of the last event, as its stream tells it."""
        id_ = [stream for stream in streams(self.events) if stream != "job"][-1]
        found: Execution | None = None
        for event in streams(self.events)[id_]:
            found = evolve_execution(found, event)
        assert found is not None
        return found
