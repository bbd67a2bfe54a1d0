"""What the answer to a check does: the conditions that an occurrence requires (G1)."""

from __future__ import annotations

from typing import Any, NamedTuple

from horae_domain import execution as executions
from horae_domain import overlap
from horae_domain.decision import Decision
from horae_domain.execution import Status
from horae_domain.firing import go_on, settle
from horae_domain.schedule import Cause


class Verdict(NamedTuple):
    """What came of checking an occurrence's conditions, one after the other."""

    met: bool
    condition: str | None = None
    """The first one that was not met, or that failed."""
    error: dict[str, Any] | None = None
    """`type` and `message` of what went wrong."""


def judge(decision: Decision, id_: str, verdict: Verdict, cause: Cause) -> None:
    """Let an occurrence fire whose conditions are met, skip it if not; nothing if it has ended.

    Before, what is due is decided.
    """
    settle(decision, cause)
    line = decision.require()
    run = line.find(id_)
    if run is None or run.status is not Status.CHECKING:
        return
    definition = line.definition_of(run)
    condition = verdict.condition or ""
    if verdict.error is not None:
        events = executions.check_failed(run, definition, condition, verdict.error, cause)
        decision.add(*events)
    elif verdict.met:
        met = executions.conditions_met(run, definition, cause)
        overlap.approve(decision, run, met, cause)
    else:
        decision.add(*executions.drop(run, f"condition_not_met:{condition}", cause))
    go_on(decision, cause)
