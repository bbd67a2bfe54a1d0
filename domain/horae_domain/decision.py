"""One decision in the making: its events, and the line that they lead to."""

from __future__ import annotations

from horae_domain.errors import ExecutionNotFound, ScheduleNotFound
from horae_domain.events import AwaitingConfirmation, Event, ExecutionEvent, ExecutionRequested
from horae_domain.execution import Execution
from horae_domain.execution import evolve as evolve_execution
from horae_domain.execution_evolving import RETURNS
from horae_domain.ledger import Line, evolve


class Decision:
    """Collects the events of one decision and the line that they lead to."""

    def __init__(self, line: Line | None, *waiting: Execution, settled: bool = False) -> None:
        self.before = line
        self.line = line
        self.events: list[Event] = []
        self.settled = settled
        """True once the timeouts that are over at its instant are decided."""
        self.given = {run.id: run for run in waiting}
        self.waiting = dict(self.given)
        """Executions that wait outside of their line; those that were given and those that begin to."""

    def add(self, *events: Event) -> None:
        """Record events and fold them, so that what follows is decided on them."""
        for event in events:
            self.events.append(event)
            back = self._follow(event) if isinstance(event, ExecutionEvent) else None
            self.line = evolve(self.line, event, back)

    def _follow(self, event: ExecutionEvent) -> Execution | None:
        """Know what waits outside of the line; what comes back to it by the event."""
        run = self.waiting.pop(event.execution_id, None)
        if run is None and isinstance(event, AwaitingConfirmation):
            run = self.require().find(event.execution_id)
        begins = isinstance(event, ExecutionRequested) and event.aside
        after = evolve_execution(run, event) if run is not None or begins else None
        if after is not None and after.outside:
            self.waiting[after.id] = after
        return after if isinstance(event, RETURNS) else None

    def require(self) -> Line:
        """The line.

        Raises:
            ScheduleNotFound: there is none.
        """
        if self.line is None:
            raise ScheduleNotFound("no such schedule", field="id")
        return self.line

    def fate(self, run: Execution) -> Execution:
        """What becomes of an execution by this decision, though it may end in it."""
        alive = self.require().find(run.id) or self.waiting.get(run.id)
        if alive is not None:
            return alive
        for event in self.events:
            if isinstance(event, ExecutionEvent) and event.execution_id == run.id:
                run = evolve_execution(run, event) or run
        return run

    def run(self, id_: str) -> Execution:
        """An execution that can still change.

        Raises:
            ExecutionNotFound: the line has none of this id.
        """
        run = self.require().find(id_) or self.waiting.get(id_)
        if run is None:
            raise ExecutionNotFound("no such live execution", field="execution_id", value=id_)
        return run
