"""Which partitions this engine owns, and how they are shared with the other engines.

The store's clock runs the leases. A partition is owned under an epoch; whoever claims it raises
the epoch, and the store refuses what was decided under an older one, so that an engine which was
stopped past its lease can commit nothing, whatever it still believes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from horae_application.log import get_logger
from horae_application.ports import PARTITIONS, EventStore, Fenced
from horae_application.ports import Ownership as Owned

TTL = 4.0
"""Seconds that an engine's lease runs; one that is killed is replaced after at most this."""
TICK = 1.0
"""Seconds between renewals."""

_log = get_logger("horae.ownership")
_NOTHING: frozenset[int] = frozenset()


class Change(NamedTuple):
    """What a tick has changed."""

    won: frozenset[int] = _NOTHING
    lost: frozenset[int] = _NOTHING


class Ownership:
    """The partitions of one engine, by epoch.

    Attributes:
        owner: this engine's name; it takes another one after its lease has run out.
        epochs: the epoch of each partition owned.
        directory: for each partition the address of its owner, None while it has none.
    """

    def __init__(self, store: EventStore, name: str, address: str = "") -> None:
        self._store = store
        self._name = name
        self._lives = 0
        self.owner = name
        self.address = address
        self.epochs: dict[int, int] = {}
        self.directory: dict[int, str | None] = {}
        self.next_tick = 0.0

    def tick(self, now: float, busy: Callable[[], Iterable[int]]) -> Change:
        """Renew the lease and take this engine's share, if it is time.

        Args:
            now: seconds of the monotonic clock.
            busy: partitions with work running in this process; they are not given away yet.
        """
        if now < self.next_tick:
            return Change()
        if self._store.single_process:
            change = self._claim(range(PARTITIONS)) if not self.epochs else Change()
            self.next_tick = math.inf
            return change
        self.next_tick = now + TICK
        try:
            self._store.join(self.owner, self.address, TTL)
        except Fenced:
            _log.warning("the lease has run out", owner=self.owner, partitions=len(self.epochs))
            return self.begin_again()
        return self._share(busy)

    def lost(self, partitions: Iterable[int]) -> None:
        """The store has refused an append for these."""
        for each in partitions:
            self.epochs.pop(each, None)
        self.next_tick = 0.0

    def leave(self) -> None:
        """Give up all partitions."""
        self.epochs.clear()
        self._store.leave(self.owner)

    def begin_again(self) -> Change:
        """Own nothing any more, and go on under another name."""
        lost = frozenset(self.epochs)
        self._lives += 1
        self.owner = f"{self._name}.{self._lives}"
        self.epochs.clear()
        self.next_tick = 0.0
        return Change(lost=lost)

    def _share(self, busy: Callable[[], Iterable[int]]) -> Change:
        members = {member.owner: member.address for member in self._store.members()}
        owned = self._store.ownership()
        self.directory = {each.partition: members.get(each.owner or "") for each in owned}
        share = math.ceil(PARTITIONS / max(1, len(members)))
        if len(self.epochs) > share:
            return self._give(len(self.epochs) - share, busy)
        free = [each.partition for each in owned if self._free(each, members)]
        wanted = free[: share - len(self.epochs)]
        return self._claim(wanted) if wanted else Change()

    def _give(self, count: int, busy: Callable[[], Iterable[int]]) -> Change:
        kept = set(busy())
        given = frozenset([each for each in self.epochs if each not in kept][:count])
        if not given:
            return Change()
        self._store.release(self.owner, given)
        for each in given:
            del self.epochs[each]
        return Change(lost=given)

    def _free(self, each: Owned, members: Mapping[str, str]) -> bool:
        """True if it can be claimed; so can one that is ours by a claim whose answer was lost."""
        unheard = each.owner == self.owner and each.partition not in self.epochs
        return unheard or each.owner not in members

    def _claim(self, partitions: Iterable[int]) -> Change:
        won = self._store.claim(self.owner, partitions)
        self.epochs |= won
        for each in won:
            self.directory[each] = self.address
        if won:
            _log.info("partitions claimed", owner=self.owner, partitions=len(won))
        return Change(won=frozenset(won))
