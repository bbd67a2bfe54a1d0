"""The event store in memory: for embedding without durability, and for tests.

It keeps every rule of the port but survival of the process.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from threading import RLock
from typing import Any
from uuid import UUID, uuid4

import eventsourcing.popo as library
from eventsourcing.persistence import Notification, NotSupportedError
from eventsourcing.persistence import StoredEvent as LibraryEvent

from horae_application.ports import (
    PARTITIONS,
    AlreadyWritten,
    Batch,
    Fenced,
    LedgerRow,
    Member,
    NewEvent,
    Ownership,
    StoredEvent,
    Usage,
)
from horae_domain.identity import is_request
from horae_infrastructure.store.common import system_clock
from horae_infrastructure.store.memory_limits import LimitsInMemory
from horae_infrastructure.store.tail import Head


class MemoryStore:
    """An `EventStore` in this process's memory.

    Args:
        clock: microseconds since the epoch; the store's clock.
        partitions: their number.
    """

    single_process = True

    def __init__(
        self, *, clock: Callable[[], int] = system_clock, partitions: int = PARTITIONS
    ) -> None:
        self.identity = uuid4().hex
        self._clock = clock
        self._lock = RLock()
        self._log: list[StoredEvent | None] = []
        self._recorded_at = 0
        self._streams: dict[str, dict[int, StoredEvent]] = {}
        self._ledger: dict[str, LedgerRow] = {}
        self._due: list[tuple[int, str]] = []
        self._owners = [Ownership(partition, 0, None) for partition in range(partitions)]
        self._members: dict[str, Member] = {}
        self._lost: dict[str, set[int]] = {}
        self._limits = LimitsInMemory()
        self._head = Head(0)
        self.recorder = MemoryRecorder(self)
        """The log for stock `eventsourcing` readers."""

    def append(self, batch: Batch) -> Sequence[int]:
        """Write a batch, all of it or nothing; see the port."""
        with self._lock:
            self._fence(batch)
            self._refuse_taken(batch.events)
            self._limits.take(batch)
            for stream in batch.erased:
                self._erase(stream)
            first = len(self._log) + 1
            recorded_at = self._recorded_at = max(self._clock(), self._recorded_at)
            for position, event in enumerate(batch.events, first):
                stored = StoredEvent(position, recorded_at, *event)
                self._log.append(stored)
                self._streams.setdefault(event.stream, {})[event.version] = stored
            for row in batch.ledger:
                self._set_line(row.stream, row)
            for partition, stream in batch.settled:
                line = self._ledger.get(stream)
                if line is not None and line.partition == partition:
                    self._set_line(stream, None)
            positions = range(first, len(self._log) + 1)
        if positions:
            self._head.advance(positions[-1])
            self.recorder.wake()
        return positions

    def load(self, streams: Sequence[str]) -> dict[str, list[StoredEvent]]:
        """All events of some streams, each in order of version; absent streams are left out."""
        with self._lock:
            return {
                stream: [events[version] for version in sorted(events)]
                for stream in streams
                if (events := self._streams.get(stream))
            }

    def lines(self, streams: Sequence[str]) -> dict[str, LedgerRow]:
        """The ledger's lines of some schedules; absent ones are left out."""
        with self._lock:
            return {s: line for s in streams if (line := self._ledger.get(s)) is not None}

    def due(
        self, partitions: Iterable[int], after: tuple[int, str] | None, before: int, limit: int
    ) -> list[LedgerRow]:
        """Lines with `due < before`, in order of (due, stream), beginning after a key."""
        wanted = frozenset(partitions)
        found: list[LedgerRow] = []
        with self._lock:
            start = 0 if after is None else bisect_right(self._due, after)
            for index in range(start, len(self._due)):
                due, stream = self._due[index]
                if due >= before or len(found) == limit:
                    break
                line = self._ledger[stream]
                if line.partition in wanted:
                    found.append(line)
        return found

    def limits(self, owner: str, waiting: Mapping[str, int]) -> list[Usage]:
        """All settings that limit something, with what is used of them at the moment."""
        alive = {member.owner for member in self.members()}
        with self._lock:
            return self._limits.usages(owner, waiting, alive)

    def read(self, after: int, limit: int) -> list[StoredEvent]:
        """The next events of the log with a position greater than `after`, in order."""
        after = max(after, 0)
        with self._lock:
            found = (event for event in islice(self._log, after, None) if event is not None)
            return list(islice(found, limit))

    def read_named(
        self, after: int, until: int, names: Sequence[str], limit: int
    ) -> list[StoredEvent]:
        """The events of some names with positions after one and up to another, in order."""
        with self._lock:
            rows = self._log[max(after, 0) : until]
            found = [row for row in rows if row is not None and row.name in names]
        return found[:limit]

    def head(self) -> int:
        """The highest position written, 0 for an empty log."""
        return self._head.position

    def wait(self, after: int, timeout: float) -> bool:
        """Block this thread until the log reaches beyond `after`; False after `timeout` seconds."""
        return self._head.wait(after, timeout)

    def now(self) -> int:
        """The store's clock, in microseconds since the epoch."""
        return self._clock()

    def join(self, owner: str, address: str, ttl: float) -> None:
        """Register an engine, or renew its lease; see the port."""
        with self._lock:
            if lost := self._lost.get(owner):
                raise Fenced(lost)
            expires_at = self._clock() + round(ttl * 1_000_000)
            self._members[owner] = Member(owner, expires_at, address)

    def members(self) -> list[Member]:
        """Engines whose lease runs."""
        now = self._clock()
        with self._lock:
            return [m for _, m in sorted(self._members.items()) if m.expires_at > now]

    def ownership(self) -> list[Ownership]:
        """All partitions, in order."""
        with self._lock:
            return list(self._owners)

    def claim(self, owner: str, partitions: Iterable[int]) -> dict[int, int]:
        """Take partitions, whoever had them: no other process can live on this store."""
        epochs: dict[int, int] = {}
        with self._lock:
            for partition in sorted(set(partitions)):
                _, epoch, former = self._owners[partition]
                if former is not None and former != owner:
                    self._lost.setdefault(former, set()).add(partition)
                self._owners[partition] = Ownership(partition, epoch + 1, owner)
                epochs[partition] = epoch + 1
        return epochs

    def release(self, owner: str, partitions: Iterable[int]) -> None:
        """Give up partitions, if `owner` still holds them."""
        with self._lock:
            for partition in partitions:
                held = self._owners[partition]
                if held.owner == owner:
                    self._owners[partition] = held._replace(owner=None)

    def leave(self, owner: str) -> None:
        """Give up everything and end the lease."""
        with self._lock:
            self.release(owner, range(len(self._owners)))
            self._members.pop(owner, None)
            self._lost.pop(owner, None)

    def close(self) -> None:
        """Wake who waits; what is in memory can still be read. Idempotent."""
        self._head.close()

    def forget_requests(self, before: int, limit: int) -> int:
        """Erase old records of requests; see the port."""
        with self._lock:
            old = [
                stream
                for stream, events in self._streams.items()
                if is_request(stream) and next(iter(events.values())).recorded_at < before
            ][:limit]
            for stream in old:
                self._erase(stream)
        return len(old)

    def compact(self) -> None:
        """Nothing is left behind."""

    def _erase(self, stream: str) -> None:
        for event in self._streams.pop(stream, {}).values():
            self._log[event.position - 1] = None

    def _fence(self, batch: Batch) -> None:
        current = {held.partition: held.epoch for held in self._owners}
        if stale := [p for p, epoch in batch.epochs.items() if current.get(p) != epoch]:
            raise Fenced(stale)

    def _refuse_taken(self, events: Sequence[NewEvent]) -> None:
        seen: set[tuple[str, int]] = set()
        for event in events:
            key = (event.stream, event.version)
            if key in seen or event.version in self._streams.get(event.stream, {}):
                raise AlreadyWritten(*key)
            seen.add(key)

    def _set_line(self, stream: str, line: LedgerRow | None) -> None:
        old = self._ledger.pop(stream, None)
        if old is not None and old.due is not None:
            del self._due[bisect_left(self._due, (old.due, stream))]
        if line is not None:
            self._ledger[stream] = line
            if line.due is not None:
                insort(self._due, (line.due, stream))


class MemoryRecorder(library.POPOApplicationRecorder):
    """A memory store's log as the library's application sequence, with its subscription."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self._store = store

    def wake(self) -> None:
        """Tell the subscriptions that there is more."""
        self._notify_listeners()

    def insert_events(
        self,
        stored_events: Sequence[LibraryEvent],  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> Sequence[int] | None:
        """Refused: an append must carry the epochs of its partitions."""
        raise NotSupportedError("Horae's log is written by the owners of its partitions")

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[LibraryEvent]:
        """Events of one stream."""
        stream = originator_id if isinstance(originator_id, UUID) else UUID(originator_id)
        events = [
            LibraryEvent(stream, e.version, e.name, e.state)
            for e in self._store.load([str(stream)]).get(str(stream), ())
            if (gt is None or e.version > gt) and (lte is None or e.version <= lte)
        ]
        return (events[::-1] if desc else events)[:limit]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Events of the log from `start`."""
        after = (start or 1) - 1 if inclusive_of_start else start or 0
        end = self._store.head() if stop is None else stop
        room = max(end - after, 0)
        chosen = [
            Notification(UUID(e.stream), e.version, e.name, e.state, id=e.position)
            for e in self._store.read(after, room if topics else min(room, limit))
            if not topics or e.name in topics
        ]
        return chosen[:limit]

    def max_notification_id(self) -> int | None:
        """The highest position, None for an empty log."""
        return self._store.head() or None
