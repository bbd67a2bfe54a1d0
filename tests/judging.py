"""Reads the log in its order, and finds where it breaks a limit of a queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from horae_domain import execution as executions
from horae_domain.events import (
    AttemptStarted,
    Event,
    ExecutionEvent,
    ExecutionRequested,
    QueueLimited,
    QueuePaused,
    QueueResumed,
)
from horae_domain.execution import Execution, Status


class Judge:
    """Reads the log in its order, and finds where it breaks a limit."""

    def __init__(self) -> None:
        self.runs: dict[str, Execution] = {}
        self.limits: dict[str, QueueLimited] = {}
        self.paused: set[str] = set()
        self.begun: dict[str, list[datetime]] = {}
        self.running: Counter[str] = Counter()

    def read(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case QueueLimited():
                    self.limits[event.queue] = event
                    self.begun[event.queue] = []
                case QueuePaused():
                    self.paused.add(event.queue)
                case QueueResumed():
                    self.paused.discard(event.queue)
                case ExecutionEvent():
                    self._execution(event)
                case _:
                    pass

    def _execution(self, event: ExecutionEvent) -> None:
        before = self.runs.get(event.execution_id)
        after = executions.evolve(before, event)
        assert after is not None
        self.runs[event.execution_id] = after
        was = before is not None and before.status is Status.RUNNING
        now = after.status is Status.RUNNING
        self.running[after.queue] += now - was
        requested = isinstance(event, ExecutionRequested) and event.worker is not None
        if requested or (isinstance(event, AttemptStarted) and event.delivery == 1):
            self._begins(after.queue, event.at)

    def _begins(self, queue: str, at: datetime) -> None:
        assert queue not in self.paused, f"{queue} is paused"
        limit = self.limits.get(queue)
        if limit is None:
            return
        if limit.concurrency is not None:
            assert self.running[queue] <= limit.concurrency, f"{self.running[queue]} of {queue}"
        if limit.rate is not None:
            begun = self.begun[queue]
            begun.append(at)
            since = at - timedelta(seconds=limit.per or 0)
            assert sum(each > since for each in begun) <= limit.rate, f"too fast in {queue}"
