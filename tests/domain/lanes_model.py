"""What the overlap policies promise, told by the events alone, beside the ledger's own counting."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from horae_domain.events import (
    Event,
    ExecutionBuffered,
    ExecutionCancelled,
    ExecutionChecking,
    ExecutionConditionsMet,
    ExecutionDeadLettered,
    ExecutionDropped,
    ExecutionFailed,
    ExecutionReleased,
    ExecutionReprioritised,
    ExecutionRequested,
    ExecutionRequeued,
    ExecutionSucceeded,
    ExecutionTimedOut,
)
from horae_domain.ledger import Line, evolve
from horae_domain.policies import Overlap, Priority

Began = ExecutionRequested | ExecutionBuffered | ExecutionChecking

ENDS = (
    ExecutionSucceeded,
    ExecutionFailed,
    ExecutionTimedOut,
    ExecutionCancelled,
    ExecutionDeadLettered,
    ExecutionDropped,
)


class Lanes:
    """The unfinished and the buffered of each value of the key, by the events alone."""

    def __init__(self) -> None:
        self.checked: dict[str, Began] = {}
        self.waits: dict[str, Began] = {}
        self.runs: dict[str, Began] = {}
        self.ended: dict[str, Began] = {}
        self.priorities: dict[str, str] = {}

    def value(self, line: Line, event: Began) -> object:
        """The value by which it counts; all values are the same without a key."""
        told: Any = event.payload
        if not event.overridden:
            told = line.schedule.definitions[event.revision].payload
        for name in (line.definition.concurrency_key or "").split(".") if self.keyed(line) else ():
            if not isinstance(told, dict) or name not in told:
                return "nothing"
            told = told[name]
        return json.dumps(told) if self.keyed(line) else None

    @staticmethod
    def keyed(line: Line) -> bool:
        return line.definition.concurrency_key is not None

    def has_room(self, line: Line, event: Began) -> bool:
        value = self.value(line, event)
        same = [each for each in self.runs.values() if self.value(line, each) == value]
        told = line.definition
        return told.overlap is Overlap.ALLOW or len(same) < (told.concurrency or 1)

    def first_of(self, line: Line, lane: object, now: datetime) -> str:
        """Who is released next: the most urgent of those that may, then the oldest."""
        cools = line.cooldown_until is not None and now < line.cooldown_until
        spent = line.definition.max_executions is not None and (
            line.fired >= line.definition.max_executions
        )
        may = [
            event
            for event in self.waits.values()
            if self.value(line, event) == lane and (event.kind == "key" or not (cools or spent))
        ]

        def order(event: Began) -> tuple[datetime, int]:
            rank = Priority(self.priorities[event.execution_id]).rank
            return event.at + rank * timedelta(minutes=1), rank

        return min(may, key=order).execution_id

    def take(self, event: Event) -> None:
        match event:
            case ExecutionRequested():
                self.runs[event.execution_id] = event
            case ExecutionBuffered():
                self.waits[event.execution_id] = event
                self.priorities[event.execution_id] = event.priority
            case ExecutionChecking():
                self.checked[event.execution_id] = event
                self.priorities[event.execution_id] = event.priority
            case ExecutionConditionsMet():
                self.waits[event.execution_id] = self.checked.pop(event.execution_id)
            case ExecutionReprioritised():
                self.priorities[event.execution_id] = event.priority
            case ExecutionReleased():
                self.runs[event.execution_id] = self.waits.pop(event.execution_id)
            case ExecutionRequeued() if event.execution_id in self.ended:
                self.runs[event.execution_id] = self.ended.pop(event.execution_id)
            case _ if isinstance(event, ENDS):
                id_ = event.execution_id
                found = (each.pop(id_, None) for each in (self.runs, self.waits, self.checked))
                run = next((each for each in [*found] if each is not None), None)
                if run is not None:
                    self.ended[id_] = run


def lanes_hold(events: list[Event]) -> None:
    """Nothing fires without room, what waits goes by urgency and age, buffers keep their bounds."""
    lanes = Lanes()
    line: Line | None = None
    for event in events:
        if line is not None:
            match event:
                case ExecutionRequested():
                    assert lanes.has_room(line, event)
                case ExecutionReleased():
                    waited = lanes.waits[event.execution_id]
                    assert lanes.has_room(line, waited)
                    lane = lanes.value(line, waited)
                    assert lanes.first_of(line, lane, event.at) == event.execution_id
                    assert line.schedule.status == "active"
                case ExecutionBuffered():
                    assert not lanes.has_room(line, event)
                    assert line.definition.overlap not in {"skip", "terminate_other", "allow"}
                    if line.definition.overlap in {"buffer_one", "cancel_other"}:
                        lane = lanes.value(line, event)
                        others = [lanes.value(line, each) for each in lanes.waits.values()]
                        assert lane not in others
        lanes.take(event)
        line = evolve(line, event)


def limits_hold(events: list[Event]) -> None:
    line: Line | None = None
    for event in events:
        if isinstance(event, ExecutionRequested | ExecutionReleased):
            assert line is not None
            limit = line.definition.max_executions
            after = evolve(line, event)
            assert after is not None
            assert after.fired == line.fired or limit is None or line.fired < limit
        line = evolve(line, event)
