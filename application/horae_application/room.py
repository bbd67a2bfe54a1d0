"""What an owner knows of the limits of queues and tenants, and how much room they have.

The store has the last word: it counts what runs in the transaction of each commit and refuses one
in which attempts begin without room. What is known here keeps an owner from asking in vain; where
other engines use the same limits, it is looked up while something waits, and when it was wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from itertools import accumulate
from math import inf
from typing import NamedTuple

from horae_application.ports import EventStore, Setting, Usage, Use
from horae_domain.limits import counts_until, use_key

LOOK = 0.05
"""Seconds between looks at limits that other engines use too, while something waits for them."""
REST = 1.0
"""The same while nothing does."""
TURN = 1_000_000
"""By how many microseconds of urgency what waits at another engine goes before what waits here."""


class Why(StrEnum):
    """Why there is no room."""

    PAUSED = "paused"
    CONCURRENCY = "as many run as may"
    RATE = "as many have begun as may"
    TURN = "what waits elsewhere comes first"


class Lack(NamedTuple):
    """What has no room, and why."""

    key: str
    why: Why


class Uses:
    """What one commit uses of limits, by key."""

    def __init__(self) -> None:
        self.changes: Counter[str] = Counter()
        self.starts: Counter[str] = Counter()
        self._steps: dict[str, list[tuple[int, int]]] = {}
        self._first: dict[str, int] = {}
        """The first event by which an attempt begins."""
        self.ended: dict[str, int] = {}
        """The last event after which one fewer runs."""

    def count(self, tenant: str, queue: str, change: int, starts: int, index: int) -> None:
        """Executions of a queue begin, or end, by the event of an index."""
        for key in (use_key(tenant, queue), tenant):
            self.changes[key] += change
            self.starts[key] += starts
            self._steps.setdefault(key, []).append((index, change))
            if starts:
                self._first[key] = min(index, self._first.get(key, index))
            if change < 0:
                self.ended[key] = index

    def all(self) -> list[Use]:
        """What the store has to count."""
        return [
            Use(key, change, starts, self._most(key) if starts else change)
            for key, change in self.changes.items()
            if (starts := self.starts[key]) or change
        ]

    def _most(self, key: str) -> int:
        """How many more run at most from the first event on by which an attempt begins."""
        steps = sorted(self._steps[key])
        sums = accumulate(change for _, change in steps)
        first = self._first[key]
        return max(more for (index, _), more in zip(steps, sums, strict=True) if index >= first)


class Room:
    """The limits that hold, as they were at the last look and by what was committed since."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._usages: dict[str, Usage] = {}
        self._stale = True
        self._looked = 0.0
        self._waiting: dict[str, int] = {}
        self._shut: frozenset[str] = frozenset()
        self.opens_at: int | None = None
        """When something that waits for a rate may begin, microseconds."""

    # --- what is known ----------------------------------------------------------------------------

    def look(self, owner: str, moment: float) -> None:
        """Ask the store, if it is time to.

        Args:
            owner: this engine's name.
            moment: seconds of the monotonic clock.
        """
        if not self._stale and moment < self.next_look:
            return
        if not self._stale:
            self._shut = frozenset()
        found = self._store.limits(owner, self._waiting)
        self._usages = {usage.setting.key: usage for usage in found}
        self._stale, self._looked = False, moment

    @property
    def next_look(self) -> float:
        """When the store is asked again, in seconds of the monotonic clock."""
        if self._waiting and not self._store.single_process:
            return self._looked + LOOK
        if self._store.single_process and not self._shut:
            return inf
        return self._looked + REST

    def forget(self) -> None:
        """What is known may be wrong: ask before anything else is decided."""
        self._stale = True

    def crowded(self, keys: frozenset[str]) -> None:
        """The store has refused a commit for these: nothing of theirs begins in the next one."""
        self._shut = keys
        self._stale = True

    def committed(self, uses: Uses, settings: Iterable[Setting], at: int) -> None:
        """A commit of this owner has happened."""
        for setting in settings:
            usage = self._usages.get(setting.key)
            if usage is None or usage.setting.per != setting.per:
                self._stale = True  # how much is used is not known of what nothing limited
            else:
                self._usages[setting.key] = usage._replace(setting=setting)
        for key, change in uses.changes.items():
            if (usage := self._usages.get(key)) is not None:
                starts = _begun(usage, uses.starts[key], at)
                self._usages[key] = usage._replace(running=usage.running + change, starts=starts)

    def weight(self, tenant: str) -> int:
        """How many turns a tenant has where others have one."""
        usage = self._usages.get(tenant)
        return 1 if usage is None else usage.setting.weight

    # --- room -------------------------------------------------------------------------------------

    def lack(
        self, tenant: str, queue: str, uses: Uses, at: int, *, head: int | None = None, out: int = 0
    ) -> Lack | None:
        """What has no room for one more attempt; None if it may begin.

        Args:
            tenant: whose.
            queue: of which.
            uses: of the commit in the making.
            at: when, microseconds.
            head: its urgency, if it waits for its turn beside what waits at other engines.
            out: how many may begin without this owner's doing, because others have them in hand.
        """
        if not self._usages:
            return None
        for key in (use_key(tenant, queue), tenant):
            usage = self._usages.get(key)
            why = None if usage is None else _lack(usage, uses, at, head, out)
            if key in self._shut:
                why = why or Why.TURN
            if why is not None:
                return Lack(key, why)
        return None

    def too_late(self, tenant: str, queue: str, uses: Uses, index: int) -> bool:
        """True if a start recorded at an index would come before the end that makes room for it."""
        return any(
            index < uses.ended.get(key, -1)
            and (usage := self._usages.get(key)) is not None
            and usage.setting.concurrency is not None
            for key in (use_key(tenant, queue), tenant)
        )

    def wait(self, lacks: Iterable[tuple[Lack, int]], at: int) -> None:
        """What waits for room here: what it lacks and how urgent it is."""
        self._waiting.clear()
        self.opens_at = None
        for lack, head in lacks:
            if lack.why is not Why.PAUSED:
                self._waiting[lack.key] = min(head, self._waiting.get(lack.key, head))
            if lack.why is Why.RATE:
                opens = [until for until, _ in self._usages[lack.key].starts if until > at]
                self.opens_at = min([*opens, self.opens_at or opens[0]])


def _lack(usage: Usage, uses: Uses, at: int, head: int | None, out: int) -> Why | None:
    setting = usage.setting
    if setting.paused:
        return Why.PAUSED
    running = usage.running + uses.changes[setting.key] + out
    if setting.concurrency is not None and running >= setting.concurrency:
        return Why.CONCURRENCY
    begun = sum(count for until, count in usage.starts if until > at)
    if setting.rate is not None and begun + uses.starts[setting.key] + out >= setting.rate:
        return Why.RATE
    if head is not None and usage.head is not None and usage.head + TURN < head:
        return Why.TURN
    return None


def _begun(usage: Usage, starts: int, at: int) -> list[tuple[int, int]]:
    """What counts for the rate after so many more attempts."""
    per = usage.setting.per
    if per is None or not starts:
        return usage.starts
    return [*(each for each in usage.starts if each[0] > at), (counts_until(at, per), starts)]
