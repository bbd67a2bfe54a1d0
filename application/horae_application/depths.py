"""How deep a command stands in a chain of schedules that make each other fire (`horae_domain.circles`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

from horae_application import messages
from horae_application.creating import CreateTogether
from horae_application.lines import fold_execution
from horae_application.ports import StoredEvent
from horae_application.task import Task
from horae_domain.circles import deepened, depth_of
from horae_domain.codec import Undecodable, decode
from horae_domain.events import ExecutionEvent
from horae_domain.execution import Execution
from horae_domain.tracing import CAUSATION

DEEPENING = (messages.TriggerSchedule, messages.CreateSchedule, CreateTogether)
"""Commands by which schedules can make each other fire without end."""
_EXECUTION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def causing(task: Task) -> list[str]:
    """The execution in whose name a schedule is triggered or made."""
    cause = task.request.carried.get(CAUSATION, "")
    deepens = isinstance(task.command, DEEPENING) and _EXECUTION.fullmatch(cause)
    return [cause] if deepens else []


def carried_by(task: Task, loaded: Mapping[str, list[StoredEvent]]) -> Mapping[str, str]:
    """What a task carries, one deeper than the execution that causes it."""
    carried: Mapping[str, str] = task.request.carried
    for id_ in causing(task):
        carried = deepened(carried, depth_of(_execution(loaded.get(id_, []))) + 1)
    return carried


def _execution(rows: list[StoredEvent]) -> Execution | None:
    """The execution of a stream; None if it is erased, unreadable, or none."""
    with suppress(Undecodable):
        if rows and isinstance(decode(rows[0].name, rows[0].state), ExecutionEvent):
            return fold_execution(rows)
    return None
