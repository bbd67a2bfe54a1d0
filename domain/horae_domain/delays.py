"""Executions that stand aside: they wait for the end of a delay, and their schedule's line does not hold them.

Where nothing that is unfinished is in another one's way, many may wait, and none of them has to be known.
"""

from __future__ import annotations

from horae_domain import execution as executions
from horae_domain import waits
from horae_domain.decision import Decision
from horae_domain.events import DelayEnded
from horae_domain.execution import Execution
from horae_domain.schedule import Cause, Status


def end(decision: Decision, cause: Cause) -> None:
    """Let those go on whose delay is over; their schedule's cancellation ends them before."""
    for run in [run for run in decision.waiting.values() if run.aside]:
        _end(decision, run, cause)


def _end(decision: Decision, run: Execution, cause: Cause) -> None:
    definition = decision.require().definition_of(run)
    if decision.require().schedule.status is Status.CANCELLED:
        decision.add(*executions.cancel(run, definition, "schedule_cancelled", cause))
    elif run.late(cause.at):
        decision.add(*executions.expire(run, definition, cause))
    elif run.ready(cause.at):
        carried = executions.carried(run)
        decision.add(DelayEnded(run=carried, **executions.about(run, cause)))
        waits.begin(decision, run.id, cause)
