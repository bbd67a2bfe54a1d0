"""Executions that wait for a confirmation, of which memory holds no more than when it is too late.

Each has a row of its own in the ledger, under its own id. It is folded from its stream when an event
comes, or when its deadline does.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable

from horae_application.ports import LedgerRow
from horae_domain.execution import Execution
from horae_domain.identity import partition_of_stream
from horae_domain.instants import to_micros

MARK = b"W"
"""The state of such a row; that of a line is another one."""


def row_of_wait(run: Execution) -> LedgerRow:
    """The ledger's row of an execution that waits."""
    until = run.waits_until
    due = None if until is None else to_micros(until)
    return LedgerRow(partition_of_stream(run.id), run.id, due, MARK)


def is_wait(state: bytes) -> bool:
    """True if a row of the ledger is that of an execution that waits."""
    return state == MARK


class Deadlines:
    """When executions that wait have waited long enough, as far ahead as the store was read."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._due: dict[str, int] = {}

    def note(self, id_: str, due: int) -> None:
        """One has to be looked at then."""
        if self._due.get(id_) != due:
            self._due[id_] = due
            heapq.heappush(self._heap, (due, id_))

    def forget(self, ids: Iterable[str]) -> None:
        """These wait no longer."""
        for id_ in ids:
            self._due.pop(id_, None)

    def drop(self, partitions: Collection[int]) -> None:
        """These belong to another owner now."""
        self.forget([id_ for id_ in self._due if partition_of_stream(id_) in partitions])

    def next(self) -> int | None:
        """The first deadline, in microseconds."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: int, limit: int) -> list[str]:
        """Those whose deadline has passed, at most `limit`, the first ones first."""
        due: list[str] = []
        while len(due) < limit and (first := self.next()) is not None and first <= now:
            id_ = heapq.heappop(self._heap)[1]
            del self._due[id_]
            due.append(id_)
        return due
