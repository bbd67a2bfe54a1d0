"""What becomes of an occurrence that was decided and has not fired."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from horae_domain.definition import Definition
from horae_domain.events import (
    Event,
    ExecutionApproved,
    ExecutionCheckFailed,
    ExecutionConditionsMet,
    ExecutionDropped,
    ExecutionReleased,
)
from horae_domain.execution_state import Execution, about
from horae_domain.schedule import Cause
from horae_domain.timeouts import bounds

CHECK_PAUSE = timedelta(seconds=1)
"""How long a condition that could not be checked waits for the second try; then twice as long."""
LONGEST_CHECK_PAUSE = timedelta(seconds=30)


def approve(execution: Execution, cause: Cause) -> list[Event]:
    """Let what is held wait for its way like others that are buffered."""
    return [ExecutionApproved(**about(execution, cause))]


def conditions_met(execution: Execution, definition: Definition, cause: Cause) -> list[Event]:
    """Let what met its conditions wait for its way like others that are buffered."""
    met = list(definition.requires)
    return [ExecutionConditionsMet(conditions=met, **about(execution, cause))]


def check_failed(
    execution: Execution,
    definition: Definition,
    condition: str,
    error: dict[str, Any],
    cause: Cause,
) -> list[Event]:
    """Check again soon, as long as the occurrence is not overdue; then it is skipped for that."""
    pause = min(CHECK_PAUSE * 2 ** min(execution.failures, 16), LONGEST_CHECK_PAUSE)
    comes = execution.moved_to or execution.due
    again = cause.at + pause if cause.at + pause <= comes + definition.catch_up.window else None
    failed = ExecutionCheckFailed(
        condition=condition, error=error, retry_at=again, **about(execution, cause)
    )
    if again is not None:
        return [failed]
    return [failed, *drop(execution, f"condition_failed:{condition}", cause)]


def drop(
    execution: Execution, reason: str, cause: Cause, *, blocked_by: str | None = None
) -> list[Event]:
    """End what is buffered or held without having fired."""
    return [ExecutionDropped(reason=reason, blocked_by=blocked_by, **about(execution, cause))]


def release(
    execution: Execution,
    definition: Definition,
    run_number: int | None,
    next_due: datetime | None,
    cause: Cause,
) -> ExecutionReleased:
    """Let what is buffered fire."""
    ready = max(cause.at, execution.due) if execution.trigger else cause.at
    return ExecutionReleased(
        run_number=run_number,
        next_due=next_due,
        **bounds(definition, ready),
        **about(execution, cause),
    )
