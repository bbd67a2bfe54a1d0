"""Executions that wait outside of their line, of which memory holds no more than until when they do.

They wait for a confirmation, or for the end of a delay. Each has a row of its own in the ledger, under its
own id. It is folded from its stream when an event comes, or when its deadline does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from horae_application.ports import LedgerRow
from horae_domain.execution import Execution
from horae_domain.identity import partition_of_stream, schedule_stream, to_bytes, to_text
from horae_domain.instants import to_micros

FOR_EVENT = b"W"
"""How the state of the row begins of what waits for a confirmation; that of a line is another one."""
FOR_TIME = b"D"
"""The same of what waits for the end of a delay."""


def row_of_wait(run: Execution) -> LedgerRow:
    """The ledger's row of an execution that waits."""
    until = run.returns_at
    due = None if until is None else to_micros(until)
    state = (FOR_TIME if run.aside else FOR_EVENT) + to_bytes(stream_of(run))
    return LedgerRow(partition_of_stream(run.id), run.id, due, state)


def is_wait(state: bytes) -> bool:
    """True if a row of the ledger is that of an execution that waits."""
    return state.startswith((FOR_EVENT, FOR_TIME))


def is_delay(state: bytes) -> bool:
    """True if such a row is of what waits for the end of a delay."""
    return state.startswith(FOR_TIME)


def stream_in(state: bytes) -> str:
    """The schedule's stream of such a row."""
    return to_text(state[1:])


def stream_of(run: Execution) -> str:
    """The stream of an execution's schedule."""
    return schedule_stream(run.tenant, run.schedule_id)


class Late(NamedTuple):
    """An execution that has waited long enough, and its schedule's stream."""

    id: str
    stream: str


class Deadlines:
    """When executions that wait have waited long enough, as far ahead as the store was read.

    Those of a schedule that has no room for them wait until it has, in the order of their deadlines.
    """

    def __init__(self, room: Callable[[str], int]) -> None:
        self._room = room
        self._heap: list[tuple[int, str]] = []
        self._due: dict[str, tuple[int, str]] = {}
        self._held: dict[str, list[tuple[int, str]]] = {}

    @property
    def held(self) -> bool:
        """True if the deadlines of some have passed whose schedules have no room."""
        return bool(self._held)

    def note(self, late: Late, due: int) -> None:
        """One has to be looked at then."""
        if self._due.get(late.id) != (due, late.stream):
            self._due[late.id] = due, late.stream
            heapq.heappush(self._heap, (due, late.id))

    def forget(self, ids: Iterable[str]) -> None:
        """These wait no longer."""
        for id_ in ids:
            self._due.pop(id_, None)

    def drop(self, partitions: Collection[int]) -> None:
        """These belong to another owner now."""
        self.forget([id_ for id_ in self._due if partition_of_stream(id_) in partitions])
        for stream in [each for each in self._held if partition_of_stream(each) in partitions]:
            del self._held[stream]

    def next(self) -> int | None:
        """The first deadline, in microseconds."""
        while self._heap and not self._waits(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: int, limit: int) -> list[Late]:
        """Those whose deadline has passed, at most `limit`, the first ones first."""
        late: list[Late] = []
        rooms: dict[str, int] = {}
        for _ in range(limit):
            if (first := self.next()) is None or first > now:
                break
            due, id_ = heapq.heappop(self._heap)
            stream = self._due[id_][1]
            room = rooms[stream] if stream in rooms else self._room(stream)
            rooms[stream] = room - 1
            if room <= 0:
                heapq.heappush(self._held.setdefault(stream, []), (due, id_))
                continue
            del self._due[id_]
            late.append(Late(id_, stream))
        return late

    def release(self) -> None:
        """Let those go on whose schedules have room again."""
        for stream in list(self._held):
            held = self._held[stream]
            for _ in range(min(self._room(stream), len(held))):
                heapq.heappush(self._heap, heapq.heappop(held))
            if not held:
                del self._held[stream]

    def _waits(self, due: int, id_: str) -> bool:
        return id_ in self._due and self._due[id_][0] == due
