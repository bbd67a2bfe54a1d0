"""Sagas have one outcome each, whatever happens meanwhile; and a simulation that can fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

import horae_application.lines
import horae_application.listening
from horae_application.listening import Listening
from horae_domain import execution, external, stages, waits
from horae_domain.definition import Definition
from horae_domain.errors import HoraeError
from horae_domain.events import ExecutionFailed
from horae_domain.execution import Execution
from horae_domain.external import Happening
from horae_domain.listeners import Interest, Role
from horae_domain.recurrence import Occurrence
from tests.model.saga_histories import play

pytestmark = pytest.mark.no_cover  # tracing would take as long again; examples cover the lines

HISTORIES = int(os.environ.get("HORAE_HISTORIES", "200"))
PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_every_saga_has_one_outcome(part: int) -> None:
    for seed in range(part, HISTORIES, PARTS):
        play(seed)


# --- it can fail ---------------------------------------------------------------------------------


def _no_wait(state: bytes) -> bool:
    return False


def _keeps_nothing(*arguments: Any) -> None:
    """What comes before the wait is forgotten."""


def _no_fallback(definition: Any, reason: str) -> None:
    return None


def _reads_none(role: Role) -> Callable[[Listening, Any], None]:
    """A new owner does not learn who listens so."""

    def read(self: Listening, partitions: Any) -> None:
        READ(self, partitions)
        for group in list(self.index._all()):
            for table in group.values():
                for held in table.values():
                    for packed in [each for each in held if each[0] == list(Role).index(role)]:
                        del held[packed]

    return read


def _no_delay(line: Any, happened: Happening) -> Occurrence:
    return Occurrence(happened.at, happened.key, instant=happened.at)


def _deaf_while_delayed(definition: Definition, run: Execution) -> list[Interest]:
    return [] if run.aside else WANTS(definition, run)


READ = Listening.read
WANTS = external.wants_of

PLANTED = {
    "deadlines end with their owner": (horae_application.lines, "is_wait", _no_wait),
    "listeners end with their owner": (Listening, "read", _reads_none(Role.CONFIRM)),
    "withdrawals end with their owner": (Listening, "read", _reads_none(Role.CANCEL)),
    "a delay is over at once": (external, "_occurrence", _no_delay),
    "what is delayed hears of nothing": (
        horae_application.listening, "wants_of", _deaf_while_delayed,
    ),
    "what comes before the wait is forgotten": (waits, "keep", _keeps_nothing),
    "a fallback that fails is dropped": (
        execution, "_BAD_ENDS", execution._BAD_ENDS | {"dead": ExecutionFailed},
    ),
    "nobody falls back": (stages, "fallback_for", _no_fallback),
}  # fmt: skip


@pytest.mark.parametrize("defect", PLANTED)
def test_a_defect_of_sagas_is_found(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, planted = PLANTED[defect]
    monkeypatch.setattr(owner, name, planted)
    with pytest.raises((AssertionError, HoraeError, msgspec.ValidationError)):
        _play_many()


def _play_many() -> None:
    for seed in range(300):
        play(seed)
