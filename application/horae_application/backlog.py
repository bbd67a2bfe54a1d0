"""What is ready and waits for a slot of this process's executor.

Each queue has a heap of its own, so that one without room holds up no other. Where slots are
scarce tenants take turns, by weight, however much each has waiting; within a tenant the most urgent
goes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection

Entry = tuple[int, int, str, str]
"""Urgency, due, execution, and the stream of its schedule: the order of those that wait."""
Place = tuple[str, str]
"""Tenant and queue."""


class Turns:
    """Tenants take turns, by weight, however much each has waiting."""

    def __init__(self) -> None:
        self._now = 0.0
        self._after: dict[str, float] = {}
        self._most = 100

    def of(self, tenant: str) -> float:
        """When a tenant has its next turn: the lower, the sooner."""
        return max(self._now, self._after.get(tenant, 0.0))

    def served(self, tenant: str, weight: int) -> None:
        """A tenant has had a turn; the next one is its own the later, the less its weight is."""
        turn = self._now = self.of(tenant)
        self._after[tenant] = turn + 1 / weight
        if len(self._after) > self._most:
            self._after = {each: at for each, at in self._after.items() if at > turn}
            self._most = 2 * len(self._after) + 100


class Backlog:
    """Heaps of entries by tenant and queue."""

    def __init__(self) -> None:
        self._heaps: dict[str, dict[str, list[Entry]]] = {}
        self._count = 0
        self._turns = Turns()

    def __len__(self) -> int:
        return self._count

    def push(self, place: Place, entry: Entry) -> None:
        """Let an execution wait."""
        tenant, queue = place
        heapq.heappush(self._heaps.setdefault(tenant, {}).setdefault(queue, []), entry)
        self._count += 1

    def first(self, closed: Collection[Place]) -> tuple[Place, Entry] | None:
        """Whose turn it is, leaving out the places that are closed."""
        found = [
            (self._turns.of(tenant), entry, (tenant, queue))
            for tenant, queues in self._heaps.items()
            if (best := _most_urgent(tenant, queues, closed)) is not None
            for entry, queue in (best,)
        ]
        if not found:
            return None
        _, entry, place = min(found)
        return place, entry

    def pop(self, place: Place) -> Entry:
        """Take the most urgent entry of a place away."""
        tenant, queue = place
        heap = self._heaps[tenant][queue]
        entry = heapq.heappop(heap)
        self._count -= 1
        if not heap:
            del self._heaps[tenant][queue]
            if not self._heaps[tenant]:
                del self._heaps[tenant]
        return entry

    def served(self, tenant: str, weight: int) -> None:
        """A tenant has had a turn."""
        self._turns.served(tenant, weight)

    def remove(self, gone: Callable[[Entry], bool]) -> list[Entry]:
        """Take entries away, and return them."""
        removed: list[Entry] = []
        heaps, self._heaps, self._count = self._heaps, {}, 0
        for tenant, queues in heaps.items():
            for queue, heap in queues.items():
                for entry in heap:
                    if gone(entry):
                        removed.append(entry)
                    else:
                        self.push((tenant, queue), entry)
        return removed


def _most_urgent(
    tenant: str, queues: dict[str, list[Entry]], closed: Collection[Place]
) -> tuple[Entry, str] | None:
    open_ = (
        (heap[0], queue)
        for queue, heap in queues.items()
        if not closed or (tenant, queue) not in closed
    )
    return min(open_, default=None)
