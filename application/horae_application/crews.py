"""How much work for executors elsewhere may be on the bus.

An executor says what it pulls and how many slots it has. What it runs for this owner is known here,
so what may still go to it is, too. Executors that pull the same are a pool.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence

from horae_application.backlog import Turns
from horae_application.ports import Hands, Pulled
from horae_domain.execution import Execution, Status
from horae_domain.identity import partition_of_stream

UNTOLD = 32
"""Executions of one function or queue on the bus that wait to be taken, where nobody has said how
many slots there are for it."""
LEAD = 0.05
"""Seconds for which there is work on the bus beyond what fills the slots, by what was taken lately,
so that none is idle while the next is on its way."""
MANY = 1_000
"""Pools of which it is known what was taken lately."""

Pool = frozenset[str]
"""Executors by name; of what nobody has announced, its own name."""


class Crews:
    """Who pulls what, and how many of their slots this owner does not use."""

    def __init__(self) -> None:
        self._hands: Sequence[Hands] = ()
        self._slots: dict[str, int] = {}
        self._pools: dict[Pulled, Pool] = {}
        self._rivals: dict[Pool, list[Pool]] = {}
        self._open: set[Pool] = set()
        """Pools of which something is also pulled by who does not say how many slots he has."""
        self._turns: dict[Pool, Turns] = {}
        self._taken: dict[str, tuple[str, str]] = {}
        """The executor that runs an execution, and the stream of its schedule."""
        self._busy: Counter[str] = Counter()
        self._lately: dict[Pool, tuple[float, int]] = {}
        """How much was taken of what a pool pulls, fading within `LEAD`, and when it was counted."""

    def __contains__(self, id_: str) -> bool:
        return id_ in self._taken

    def __bool__(self) -> bool:
        """True if something is known to run elsewhere."""
        return bool(self._taken)

    # --- who is there -----------------------------------------------------------------------------

    def hear(self, hands: Sequence[Hands]) -> None:
        """These are there now."""
        if hands == self._hands:
            return
        self._hands, self._slots = hands, {}
        for each in hands:
            if each.slots is not None:
                self._slots[each.executor] = max(each.slots, self._slots.get(each.executor, 0))
        self._pools = _pools_of([each for each in hands if each.slots is not None])
        untold = {what for each in hands if each.slots is None for what in each.pulls}
        self._open = {self._pools[what] for what in untold & self._pools.keys()}
        pools = set(self._pools.values())
        self._rivals = {
            pool: [other for other in pools if not other.isdisjoint(pool)] for pool in pools
        }
        self._turns = {pool: self._turns.get(pool) or Turns() for pool in pools}

    def pool(self, pulled: Pulled) -> Pool:
        """Those that pull it."""
        return self._pools.get(pulled) or frozenset({" ".join(pulled)})

    def rivals(self, pool: Pool) -> Sequence[Pool]:
        """The pools that have an executor in common with one, and itself."""
        return self._rivals.get(pool, (pool,))

    def turns(self, pool: Pool) -> Turns:
        """Whose turn it is in a pool."""
        return self._turns.get(pool) or Turns()

    def room(self, pool: Pool, at: int) -> int:
        """How much may be on the bus of what a pool and its rivals pull."""
        lately = int(sum(self._taken_lately(each, at) for each in self.rivals(pool)))
        if pool not in self._rivals:
            return max(UNTOLD, lately)
        free = sum(max(0, self._slots[each] - self._busy[each]) for each in pool)
        return free + max(UNTOLD if pool in self._open else 1, lately)

    def _taken_lately(self, pool: Pool, at: int) -> float:
        count, since = self._lately.get(pool, (0.0, at))
        return count * math.exp(min(0, since - at) / 1_000_000 / LEAD)

    # --- what they do -----------------------------------------------------------------------------

    def count(self, pulled: Pulled, at: int) -> None:
        """Something was taken from the bus, at an instant in microseconds."""
        pool = self.pool(pulled)
        self._lately[pool] = self._taken_lately(pool, at) + 1, at
        if len(self._lately) > MANY:
            self._lately = {each: last for each, last in self._lately.items() if last[1] == at}

    def note(self, id_: str, stream: str, run: Execution | None) -> None:
        """An execution is run by whoever has taken it, or by nobody any more."""
        runs = run is not None and run.status is Status.RUNNING and not run.local
        worker = run.worker if run is not None and runs else None
        before, _ = self._taken.pop(id_, (None, stream))
        if before is not None:
            self._busy[before] -= 1
            if not self._busy[before]:
                del self._busy[before]
        if worker is not None:
            self._taken[id_] = worker, stream
            self._busy[worker] += 1

    def drop_partitions(self, gone: Collection[int]) -> None:
        """What runs there is another owner's."""
        for id_, (_, stream) in list(self._taken.items()):
            if partition_of_stream(stream) in gone:
                self.note(id_, stream, None)


def _pools_of(hands: Sequence[Hands]) -> dict[Pulled, Pool]:
    """Who pulls what; pools that are the same are one object, and so found at once."""
    pulled: dict[Pulled, set[str]] = {}
    for each in hands:
        for what in each.pulls:
            pulled.setdefault(what, set()).add(each.executor)
    pools: dict[Pool, Pool] = {}
    for executors in pulled.values():
        pools.setdefault(frozenset(executors), frozenset(executors))
    return {what: pools[frozenset(executors)] for what, executors in pulled.items()}
