"""One decision in the making: its events, and the line that they lead to."""

from __future__ import annotations

from horae_domain.errors import ExecutionNotFound, ScheduleNotFound
from horae_domain.events import Event
from horae_domain.execution import Execution
from horae_domain.ledger import Line, evolve


class Decision:
    """Collects the events of one decision and the line that they lead to."""

    def __init__(self, line: Line | None) -> None:
        self.line = line
        self.events: list[Event] = []

    def add(self, *events: Event) -> None:
        """Record events and fold them, so that what follows is decided on them."""
        for event in events:
            self.events.append(event)
            self.line = evolve(self.line, event)

    def require(self) -> Line:
        """The line.

        Raises:
            ScheduleNotFound: there is none.
        """
        if self.line is None:
            raise ScheduleNotFound("no such schedule", field="id")
        return self.line

    def run(self, id_: str) -> Execution:
        """An execution that can still change.

        Raises:
            ExecutionNotFound: the line has none of this id.
        """
        run = self.require().find(id_)
        if run is None:
            raise ExecutionNotFound("no such live execution", field="execution_id", value=id_)
        return run
