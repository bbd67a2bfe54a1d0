"""Conditions and checks: functions that somebody serves by name, asked by the owner of what needs them.

A question is no event and has no lease: the answer is, and a new owner asks again what has none. What
is not answered in time has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from horae_application.attempt import work_of
from horae_application.draft import Draft
from horae_application.lines import Lines
from horae_application.messages import CheckAnswered, TickAnswered
from horae_application.result import encodable
from horae_application.services import NoResponders, ServiceError
from horae_application.task import Task
from horae_application.work import Work
from horae_domain.conditions import tick_at
from horae_domain.errors import HoraeError, reason_of
from horae_domain.expressions import holds
from horae_domain.identity import partition_of_stream, schedule_stream
from horae_domain.instants import format_instant
from horae_domain.ledger import Line
from horae_domain.triggers import ConditionTrigger

CHECK_TIMEOUT = 30.0
"""Seconds that a condition or a check may take."""


class Ask(NamedTuple):
    """A question: whether an execution's conditions are met, or whether a schedule's one holds."""

    work: Work
    names: tuple[str, ...]
    tick: bool = False
    """True if it is a schedule's, at the instant `due`."""
    when: str | None = None
    """The expression over what the check of a schedule answers."""


class CheckRunner(Protocol):
    """Finds the answers. Called from the engine's thread, after the commit; it must not block."""

    def ask(self, asks: Sequence[Ask]) -> None:
        """Find the answer to each; it comes as a `CheckAnswered` or a `TickAnswered`."""
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
        """Executions, and streams of schedules."""
        self._looked: dict[str, datetime] = {}
        """The last tick at which the check of a schedule was asked."""

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
        if line is None:
            return []
        asks = self._tick(stream, line, draft.at)
        for run in line.parked.values():
            if run.asks(draft.at) and run.id not in self._asked:
                self._asked.add(run.id)
                asks.append(Ask(work_of(line, run), line.definition_of(run).requires))
        return asks

    def _tick(self, stream: str, line: Line, now: datetime) -> list[Ask]:
        """Ask the check of a schedule, unless it is at it still or was asked at this tick."""
        if line.ticks is None:
            self._looked.pop(stream, None)
            return []
        tick = tick_at(line, now)
        if tick is None or stream in self._asked or self._looked.get(stream) == tick:
            return []
        trigger = line.definition.trigger
        assert isinstance(trigger, ConditionTrigger)  # noqa: S101 - only these have ticks
        self._asked.add(stream)
        self._looked[stream] = tick
        return [Ask(work_of_tick(line, tick), (trigger.check,), tick=True, when=trigger.when)]

    def answered(self, tasks: Iterable[Task]) -> None:
        """The answers among these have come, whatever they did."""
        for task in tasks:
            command = task.command
            if isinstance(command, CheckAnswered):
                self._asked.discard(command.execution_id)
            elif isinstance(command, TickAnswered):
                self._asked.discard(schedule_stream(task.request.tenant, command.id))

    def drop_partitions(self, partitions: Iterable[int]) -> None:
        """These belong to another owner now, who asks for himself."""
        gone = frozenset(partitions)
        self._asked = {each for each in self._asked if partition_of_stream(each) not in gone}
        self._looked = {
            each: tick
            for each, tick in self._looked.items()
            if partition_of_stream(each) not in gone
        }


def work_of_tick(line: Line, tick: datetime) -> Work:
    """What a check is told of the schedule that asks."""
    definition = line.definition
    return Work(
        execution_id="",
        schedule_id=line.schedule.id,
        tenant=line.schedule.tenant,
        attempt=1,
        lease="1.1",
        due=tick,
        action=definition.action.model_dump(mode="json"),
        payload=definition.payload,
        revision=line.schedule.revision,
        trigger={"kind": "condition", "at": format_instant(tick)},
        metadata=definition.metadata,
    )


def truth_of(value: Any) -> bool:
    """What a condition has answered.

    Raises:
        TypeError: it is neither true nor false, nor an object with such a `met`.
    """
    met = value.get("met") if isinstance(value, Mapping) else value
    if not isinstance(met, bool):
        raise TypeError(f"a condition answers true or false, this one {type(met).__name__}")
    return met


def data_of(value: Any, when: str | None) -> tuple[bool, Any]:
    """Whether the condition of a schedule holds by what its check has answered, and the data.

    Raises:
        TypeError: the check has not answered with an object.
        HoraeError: the expression is none, or cannot be evaluated on the data.
    """
    answered = isinstance(value, Mapping) and value.get("ok") is True
    data = value.get("data", value.get("met")) if answered else value
    data = encodable(data, what="the answer of the check")
    if when is None and isinstance(data, bool):
        return data, None
    if not isinstance(data, dict):
        raise TypeError(f"a check answers with an object, this one with {type(data).__name__}")
    return (truth_of(data) if when is None else holds(when, data)), data


class Nobody:
    """No other process can be asked: the port `Elsewhere` where there is no NATS."""

    async def check(self, work: Work, name: str) -> Any:
        """Nobody serves it."""
        del work
        raise NoResponders(f"nobody serves the check {name}")


async def answer_of(work: Work, name: str, call: Any) -> Any:
    """What `call(work, name)` answers, bounded in time.

    Raises:
        TimeoutError: it has not answered in time.
    """
    async with asyncio.timeout(CHECK_TIMEOUT):
        return await call(work, name)


def error_of(error: BaseException) -> dict[str, Any]:
    """What went wrong, as the log keeps it."""
    if isinstance(error, TimeoutError):
        return {"type": "CheckTimeout", "message": f"no answer in {CHECK_TIMEOUT:g} s"}
    kind = type(error).__name__
    if isinstance(error, HoraeError):
        kind = error.type if isinstance(error, ServiceError) else error.code
    return {"type": kind, "message": reason_of(error)[:1000]}


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
