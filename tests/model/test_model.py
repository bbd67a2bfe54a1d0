"""The domain does what the reference says, and a domain with a defect is found out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import Flaky
from hypothesis.stateful import run_state_machine_as_test

from horae_domain import decider, firing, ledger, overlap
from horae_domain import execution as executions
from horae_domain.decision import Decision
from horae_domain.definition import Definition
from horae_domain.errors import HoraeError
from horae_domain.events import Event, ExecutionEvent, ExecutionRequested
from horae_domain.execution import Execution
from horae_domain.ledger import Line
from horae_domain.policies import CatchUpMode
from horae_domain.recurrence import Occurrence
from horae_domain.schedule import Cause
from tests.model.machine import Beside

pytestmark = pytest.mark.no_cover  # tracing would take as long again; examples cover the lines

HISTORIES = int(os.environ.get("HORAE_HISTORIES", "150"))
"""`make model` plays ten thousand."""
PARTS = max(1, HISTORIES // 250)
"""Of which each has a seed of its own, so that they can be played side by side."""

PLAY = settings(
    max_examples=HISTORIES // PARTS,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
FIND = (Phase.explicit, Phase.generate)


@pytest.mark.parametrize("part", range(PARTS))
def test_domain_agrees_with_the_reference(part: int) -> None:
    seeded = seed(part)(type("Beside", (Beside,), {}))
    run_state_machine_as_test(seeded, settings=PLAY)


# --- it can fail ----------------------------------------------------------------------------------


def _release_without_room(decision: Decision, cause: Cause) -> None:
    for run in decision.require().buffered():
        line = decision.require()
        definition = line.definition_of(run)
        decision.add(executions.release(run, definition, 1, line.next_due, cause))


def _first_instead_of_latest(
    decision: Decision, passed: Sequence[Occurrence], cause: Cause, *, final: bool
) -> None:
    mode = decision.require().definition.catch_up.mode
    chosen = passed[:1] if mode is CatchUpMode.LATEST else passed
    CATCH_UP(decision, chosen, cause, final=final)


def _one_try_too_many(execution: Execution, *arguments: Any) -> datetime | None:
    fewer = msgspec.structs.replace(execution, failures=max(0, execution.failures - 1))
    return RETRY_AT(fewer, *arguments)


def _without_range(decision: Decision, cause: Cause) -> None:
    """What came due while paused is decided by nobody."""


def _never_cools(line: Line, execution: Execution, now: datetime) -> bool:
    return False


def _counts_all(line: Line, event: ExecutionEvent, run: Execution) -> dict[str, Any]:
    changes = CHANGES(line, event, run)
    if isinstance(event, ExecutionRequested) and event.kind == "key":
        changes = {**changes, "fired": line.fired + 1}
    return changes


def _keeps_the_lost(execution: Execution, definition: Definition, cause: Cause) -> list[Event]:
    return []


CATCH_UP = firing._catch_up
RETRY_AT = executions.retry_at
CHANGES = ledger._execution_changes

PLANTED = {
    "buffered runs are released though others are unfinished": (
        overlap, "release", _release_without_room,
    ),
    "catch-up takes the first instead of the latest": (firing, "_catch_up", _first_instead_of_latest),
    "one try more than asked for": (executions, "retry_at", _one_try_too_many),
    "a pause leaves no decision": (decider, "close_pause", _without_range),
    "the cooldown is forgotten for what was buffered": (Line, "cools", _never_cools),
    "triggers by hand count for the limit": (ledger, "_execution_changes", _counts_all),
    "attempts of a lost owner go on": (executions, "lose", _keeps_the_lost),
}  # fmt: skip


SOON = 91
"""A seed by which each is found among the first histories; others take longer."""


@pytest.mark.parametrize("defect", PLANTED)
def test_a_defect_is_found(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, planted = PLANTED[defect]
    monkeypatch.setattr(owner, name, planted)
    seeded = seed(SOON)(type("Beside", (Beside,), {}))
    with pytest.raises((AssertionError, KeyError, Flaky, HoraeError)):
        run_state_machine_as_test(seeded, settings=settings(PLAY, max_examples=1_000, phases=FIND))
