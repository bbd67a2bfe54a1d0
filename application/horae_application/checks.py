"""Conditions and checks: functions that somebody serves by name, asked by the owner of what needs them.

A question is no event and has no lease: the answer is, and a new owner asks again what has none. What
is not answered in time has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from horae_application.dispatch import work_of
from horae_application.draft import Draft
from horae_application.lines import Lines
from horae_application.messages import CheckAnswered
from horae_application.services import NoResponders, ServiceError
from horae_application.work import Work
from horae_domain.identity import partition_of_stream

CHECK_TIMEOUT = 30.0
"""Seconds that a condition or a check may take."""


class Ask(NamedTuple):
    """A question: whether an execution's conditions are met."""

    work: Work
    names: tuple[str, ...]


class CheckRunner(Protocol):
    """Finds the answers. Called from the engine's thread, after the commit; it must not block."""

    def ask(self, asks: Sequence[Ask]) -> None:
        """Find the answer to each; it comes as a `CheckAnswered`."""
        ...


class Elsewhere(Protocol):
    """Carries questions to other processes, in any language."""

    async def check(self, work: Work, name: str) -> Any:
        """What they answer, as JSON.

        Raises:
            ServiceError: they failed; `NoResponders` if nobody serves the name.
        """
        ...


class Checks:
    """What this owner has asked and not heard yet."""

    def __init__(self, runner: CheckRunner | None) -> None:
        self._runner = runner
        self._asked: set[str] = set()

    def committed(self, draft: Draft, lines: Lines) -> None:
        """Ask what has come up."""
        if self._runner is None:
            return
        asks = [
            ask
            for stream in {*draft.seen, *(each for each, _ in draft.changed())}
            for ask in self._new(stream, draft, lines)
        ]
        if asks:
            self._runner.ask(asks)

    def _new(self, stream: str, draft: Draft, lines: Lines) -> list[Ask]:
        line = lines.get(stream)
        if line is None or not line.parked:
            return []
        asks = []
        for run in line.parked.values():
            if run.asks(draft.at) and run.id not in self._asked:
                self._asked.add(run.id)
                asks.append(Ask(work_of(line, run), line.definition_of(run).requires))
        return asks

    def answered(self, commands: Iterable[object]) -> None:
        """These answers have come, whatever they did."""
        for command in commands:
            if isinstance(command, CheckAnswered):
                self._asked.discard(command.execution_id)

    def drop_partitions(self, partitions: Iterable[int]) -> None:
        """These belong to another owner now, who asks for himself."""
        gone = frozenset(partitions)
        self._asked = {each for each in self._asked if partition_of_stream(each) not in gone}


def truth_of(value: Any) -> bool:
    """What a condition has answered.

    Raises:
        TypeError: it is neither true nor false, nor an object with such a `met`.
    """
    met = value.get("met") if isinstance(value, Mapping) else value
    if not isinstance(met, bool):
        raise TypeError(f"a condition answers true or false, this one {type(met).__name__}")
    return met


class Nobody:
    """No other process can be asked: the port `Elsewhere` where there is no NATS."""

    async def check(self, work: Work, name: str) -> Any:
        """Nobody serves it."""
        del work
        raise NoResponders(f"nobody serves the check {name}")


async def answer_of(work: Work, name: str, call: Any) -> bool:
    """Whether a condition is met, by the answer of `call(work, name)`, bounded in time.

    Raises:
        TimeoutError: it has not answered in time.
    """
    async with asyncio.timeout(CHECK_TIMEOUT):
        return truth_of(await call(work, name))


def error_of(error: BaseException) -> dict[str, Any]:
    """What went wrong, as the log keeps it."""
    if isinstance(error, TimeoutError):
        return {"type": "CheckTimeout", "message": f"no answer in {CHECK_TIMEOUT:g} s"}
    kind = error.type if isinstance(error, ServiceError) else type(error).__name__
    return {"type": kind, "message": str(error)[:1000]}


def question(work: Work, name: str) -> dict[str, Any]:
    """The body of a question to another process."""
    told = {
        "name": name,
        "tenant": work.tenant,
        "schedule_id": work.schedule_id,
        "execution_id": work.execution_id,
        "due": work.due,
        "payload": work.payload,
        "trigger": work.trigger,
        "metadata": work.metadata,
        "correlation_id": work.correlation_id,
    }
    plain: dict[str, Any] = msgspec.to_builtins(told)
    return plain
