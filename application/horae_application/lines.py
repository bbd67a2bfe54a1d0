"""The ledger's lines that an owner holds in memory, and when each next needs it.

What waits far ahead stays in the store: memory holds lines with live executions, lines due soon,
and a bounded number of recently used ones. The store's `due` index is read a window at a time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from horae_application.listening import NOBODY, Listening
from horae_application.log import get_logger
from horae_application.ports import EventStore, LedgerRow, StoredEvent
from horae_application.pulse import Pulse
from horae_application.quarantine import MAX_REASON
from horae_application.waiting import Deadlines, Late, is_delay, is_wait, stream_in, stream_of
from horae_domain import execution as executions
from horae_domain import schedule as schedules
from horae_domain.codec import Undecodable, decode
from horae_domain.events import NAMES, ScheduleQuarantined
from horae_domain.execution import Execution
from horae_domain.identity import NOWHERE, partition_of_stream, schedule_stream
from horae_domain.instants import from_micros, to_micros
from horae_domain.ledger import Line, live_ids, pack, unpack
from horae_domain.listeners import Listener
from horae_domain.schedule import Schedule, Status

WINDOW = 5_000_000
"""How far ahead of now, in microseconds, timers are read from the store."""
PAGE = 5_000
"""Timers read at once."""
FIRST = (-1, NOBODY)
"""Before every line that is due at some time; see `listening.LISTENS`."""
FOREVER = 2**62
"""After every timer, in microseconds."""
CACHE = 2_000
"""Lines kept although nothing of theirs is alive or due soon."""
UNFINISHED = 1_000
"""Unfinished executions of a schedule, from which on none whose wait is over comes back to its line."""
AHEAD = 250
"""The same of those that wait for a worker: whatever changes a line looks at all that it holds."""

_log = get_logger("horae.lines")


class Broken(NamedTuple):
    """A schedule that cannot be read or evaluated; without an id if not even that can be read."""

    reason: str
    tenant: str = ""
    id: str = ""
    version: int = 0
    """How many events its stream has."""


def fold_schedule(rows: Iterable[StoredEvent]) -> Schedule | None:
    """A schedule from its stored stream."""
    schedule: Schedule | None = None
    for row in rows:
        schedule = schedules.evolve(schedule, decode(row.name, row.state))
    return schedule


def fold_execution(rows: Iterable[StoredEvent]) -> Execution | None:
    """An execution from its stored stream."""
    execution: Execution | None = None
    for row in rows:
        execution = executions.evolve(execution, decode(row.name, row.state))
    return execution


def _broken(stream: str, rows: Sequence[StoredEvent], reason: str) -> Broken:
    """Whose stream it is, by the first event that can be read and fits."""
    for row in rows:
        with suppress(Undecodable):
            event = decode(row.name, row.state)
            if schedule_stream(event.tenant, event.schedule_id) == stream:
                return Broken(reason, event.tenant, event.schedule_id, len(rows))
    return Broken(reason)


def _shifted(run: Execution, by: timedelta) -> Execution:
    moved = {
        name: instant + by
        for name in ("deadline", "silent_by", "resume_at", "start_by", "end_by", "stop_by")
        if (instant := getattr(run, name)) is not None
    }
    return msgspec.structs.replace(run, **moved)


def row_of(line: Line, stream: str) -> LedgerRow:
    """The stored form of a line; due at 0 says that a new owner has to look at it at once."""
    due: int | None = 0
    if not line.unsettled:
        wake = line.wake
        due = None if wake is None else to_micros(wake)
    return LedgerRow(partition_of_stream(stream), stream, due, pack(line))


class Lines:
    """The lines of the partitions that this owner holds."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._lines: dict[str, Line] = {}
        self._runs: dict[str, str] = {}
        self._heap: list[tuple[int, str]] = []
        self._wakes: dict[str, int] = {}
        self._moved: set[str] = set()
        self._prefetch: list[str] = []
        self._horizon = 0
        self._kept = 0
        self._now = from_micros(0)
        self.deadlines = Deadlines(self.room_of)
        """Of executions that wait outside of their lines."""
        self.pulse = Pulse()
        """What was heard of the attempts in memory."""
        self.listening = Listening(store)
        """Who listens for external events."""
        self.window = WINDOW
        self.partitions: frozenset[int] = frozenset()
        self._unread: frozenset[int] = frozenset()
        self.quarantined: dict[str, Broken] = {}
        """What cannot be held as a line; commands on it are refused."""
        self.unrecorded: dict[str, Broken] = {}
        """Those of them whose end the owner has still to record."""

    # --- lines ------------------------------------------------------------------------------------

    def get(self, stream: str) -> Line | None:
        """The line in memory, if it is there."""
        return self._lines.get(stream)

    def listened(self, stream: str) -> Line | None:
        """The same, by what was heard of its attempts."""
        line = self._lines.get(stream)
        return None if line is None else self.pulse.listened(line, self._now)

    def waiting_of(self, listeners: Iterable[Listener]) -> list[str]:
        """The executions among them that no line in memory holds."""
        named = [each.execution_id for each in listeners if each.execution_id is not None]
        return [id_ for id_ in named if id_ not in self._runs]

    def room_of(self, stream: str) -> int:
        """How many executions whose wait is over may come back to a line now."""
        live = line.live if (line := self._lines.get(stream)) is not None else {}
        ready = sum(run.status is executions.Status.PENDING for run in live.values())
        return min(UNFINISHED - len(live), AHEAD - ready)

    def owner_of(self, execution_id: str) -> str | None:
        """The schedule's stream of an execution in memory that can still change."""
        return self._runs.get(execution_id)

    def all(self) -> Iterable[tuple[str, Line]]:
        """Every line in memory."""
        return self._lines.items()

    def load(
        self, streams: Iterable[str], extra: Sequence[str] = ()
    ) -> dict[str, list[StoredEvent]]:
        """Bring lines into memory, and return the events of the `extra` streams."""
        missing = [stream for stream in streams if stream not in self._lines]
        if not missing and not extra:
            return {}
        events = self._store.load(list(dict.fromkeys([*missing, *extra])))
        known = [stream for stream in missing if stream in events]
        if known:
            self._restore(known, events)
        return {stream: events[stream] for stream in extra if stream in events}

    def _restore(self, streams: Sequence[str], events: dict[str, list[StoredEvent]]) -> None:
        rows = self._store.lines(streams)
        ids = [each for row in rows.values() for each in live_ids(row.state)]
        runs = self._store.load(ids) if ids else {}
        for stream in streams:
            state = rows[stream].state if stream in rows else b""
            try:
                schedule = fold_schedule(events[stream])
                live = {
                    each: run
                    for each in live_ids(state)
                    if (run := fold_execution(runs[each])) is not None
                }
                if schedule is not None:
                    self.put(stream, unpack(state, schedule, live))
                    self.pulse.begin(live.values(), self._now)
                    self.quarantined.pop(stream, None)
                    self.unrecorded.pop(stream, None)
            except Exception as error:  # noqa: BLE001 - whatever is stored, the others go on
                self._quarantine(stream, events[stream], error)

    def _quarantine(self, stream: str, rows: Sequence[StoredEvent], error: Exception) -> None:
        if stream in self.quarantined:
            return
        reason = str(error) if isinstance(error, Undecodable) else repr(error)
        broken = _broken(stream, rows, reason[:MAX_REASON])
        self.quarantined[stream] = broken
        _log.error("quarantined", stream=str(stream), schedule_id=broken.id, reason=reason)
        if broken.id and rows[-1].name != NAMES[ScheduleQuarantined]:
            self.unrecorded[stream] = broken

    def busy_partitions(self) -> set[int]:
        """Partitions with attempts that run inside this process."""
        return {partition_of_stream(id_) for id_, _ in self.running_here(self.partitions)}

    def running_here(self, partitions: Iterable[int]) -> list[tuple[str, str]]:
        """(execution, lease) of the attempts in some partitions that run inside this process."""
        wanted = frozenset(partitions)
        return [
            (run.id, run.lease)
            for stream, line in self._lines.items()
            for run in line.live.values()
            if run.local and partition_of_stream(stream) in wanted
        ]

    def put(self, stream: str, line: Line) -> None:
        """Take over a committed line."""
        before = self._lines.get(stream)
        for each in (*before.live, *before.parked) if before is not None else ():
            if line.find(each) is None:
                self._runs.pop(each, None)
                self.pulse.forget([each])
        for each in (*line.live, *line.parked):
            self._runs[each] = stream
        self._lines[stream] = line
        self._moved.discard(stream)

    def drop(self, streams: Iterable[str]) -> None:
        """Forget lines; they are loaded again when needed."""
        for stream in streams:
            line = self._lines.pop(stream, None)
            self._moved.discard(stream)
            for each in (*line.live, *line.parked) if line else ():
                self._runs.pop(each, None)
                self.pulse.forget([each])

    def drop_partitions(self, partitions: Iterable[int]) -> None:
        """Forget all of some partitions."""
        gone = frozenset(partitions)
        self.deadlines.drop(gone)
        self.partitions -= gone
        self._unread -= gone
        self.listening.drop(gone)
        self.drop([each for each in self._lines if partition_of_stream(each) in gone])
        for stream in [each for each in self._wakes if partition_of_stream(each) in gone]:
            del self._wakes[stream]

    def forgive(self, partitions: Iterable[int]) -> None:
        """Whoever owns them now finds out for himself what cannot be evaluated."""
        gone = frozenset(partitions)
        for stream in [each for each in self.quarantined if partition_of_stream(each) in gone]:
            del self.quarantined[stream]
            self.unrecorded.pop(stream, None)

    def can_pass(self, stream: str, line: Line, wake: datetime | None) -> bool:
        """True if a line that is not held need not be: the store brings it when it is due."""
        soon = wake is not None and to_micros(wake) < self._horizon
        return line.idle and not line.unsettled and not soon and stream not in self._lines

    def _idle(self, stream: str, line: Line) -> bool:
        return not line.live and stream not in self._wakes

    def trim(self) -> None:
        """Forget lines that are neither alive nor due soon, if there are too many.

        The look at all of them is worth it only when `CACHE` have come since the last one.
        """
        self._kept = min(self._kept, len(self._lines) + CACHE)
        if len(self._lines) <= max(CACHE, self._kept):
            return
        idle = [stream for stream, line in self._lines.items() if self._idle(stream, line)]
        self.drop(idle[: max(0, len(idle) - CACHE // 2)])
        self._kept = len(self._lines) + CACHE

    # --- wakes ------------------------------------------------------------------------------------

    def schedule(self, stream: str, wake: datetime | None) -> None:
        """Note when a line next needs its owner.

        What lies beyond the horizon is read from the store in time, but for lines with work out,
        which the store's index has at 0.
        """
        micros = None if wake is None else to_micros(wake)
        if micros is None or (micros >= self._horizon and not self._held(stream)):
            self._wakes.pop(stream, None)
            return
        if self._wakes.get(stream) != micros:
            self._wakes[stream] = micros
            heapq.heappush(self._heap, (micros, stream))

    def follow(self, waiting: Mapping[str, Execution | None]) -> None:
        """Executions that begin to wait, or no longer do."""
        for id_, run in waiting.items():
            until = None if run is None else run.returns_at
            micros = None if until is None else to_micros(until)
            if run is None or micros is None or micros >= self._horizon:
                self.deadlines.forget([id_])
            else:
                self.deadlines.note(Late(id_, stream_of(run)), micros)
        self.deadlines.release()

    def recall(self, stream: str, line: Line) -> None:
        """If a schedule has just been cancelled: look at those whose delay goes on at once."""
        before = self._lines.get(stream)
        cancelled = line.schedule.status is Status.CANCELLED
        if not cancelled or before is None or before.schedule is line.schedule:
            return
        partitions, after = frozenset((partition_of_stream(stream),)), (0, NOWHERE)
        while line.schedule.delays:
            rows = self._store.due(partitions, after, FOREVER, PAGE)
            for row in rows:
                if is_delay(row.state) and stream_in(row.state) == stream:
                    self.deadlines.note(Late(row.stream, stream), 0)
            if len(rows) < PAGE:
                return
            after = (rows[-1].due or 0, rows[-1].stream)

    def _held(self, stream: str) -> bool:
        """True if the store does not know when a line next needs its owner."""
        line = self._lines.get(stream)
        return stream in self._moved or (line is not None and line.unsettled)

    def shift(self, by: timedelta) -> None:
        """The clock was set: deadlines and delays are as far away as they were.

        The store has them as they were until their line changes; a new owner goes by that.
        """
        self.pulse.shift(by)
        for stream, line in self._lines.items():
            if line.live:
                live = {id_: _shifted(run, by) for id_, run in line.live.items()}
                self._lines[stream] = msgspec.structs.replace(line, live=live)
                self._moved.add(stream)
                self.schedule(stream, self._lines[stream].wake)

    def next_wake(self) -> int | None:
        """When the first line needs its owner, or the next window has to be read; microseconds."""
        while self._heap and self._wakes.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        first = self._heap[0][0] if self._heap else None
        if (deadline := self.deadlines.next()) is not None:
            first = deadline if first is None else min(first, deadline)
        if not self.partitions:
            return first
        refill = self._horizon - self.window // 2
        return refill if first is None else min(first, refill)

    def pop_due(self, now: int, limit: int) -> list[str]:
        """Lines that are due, at most `limit`, soonest first."""
        due: list[str] = []
        while self._heap and self._heap[0][0] <= now and len(due) < limit:
            micros, stream = heapq.heappop(self._heap)
            if self._wakes.get(stream) == micros:
                del self._wakes[stream]
                due.append(stream)
        return due

    def add_partitions(self, partitions: Iterable[int], now: int) -> None:
        """Begin with partitions just claimed; `refill` reads them, again if the store fails it."""
        added = frozenset(partitions)
        if not self.partitions:
            self._horizon = now + self.window
        self.partitions |= added
        self._unread |= added

    def refill(self, now: int) -> None:
        """Read what is due or alive in new partitions, and the next window when one runs out."""
        self._now = from_micros(now)
        if self._unread:
            self.listening.read(self._unread)
            self._scan(self._unread, FIRST, self._horizon)
            self._unread = frozenset()
        if not self.partitions or now < self._horizon - self.window // 2:
            return
        horizon = now + self.window
        self._scan(self.partitions, (self._horizon, NOWHERE), horizon)
        self._horizon = horizon

    def _scan(self, partitions: frozenset[int], after: tuple[int, str], before: int) -> None:
        while True:
            rows = self._store.due(partitions, after, before, PAGE)
            for row in rows:
                assert row.due is not None  # noqa: S101 - the index holds no others
                if is_wait(row.state):
                    self.deadlines.note(Late(row.stream, stream_in(row.state)), row.due)
                    continue
                held = row.stream in self._lines
                if row.due == 0 and held:
                    continue  # what is alive here is known better than the store does
                self._wakes[row.stream] = row.due
                heapq.heappush(self._heap, (row.due, row.stream))
                if not held:
                    self._prefetch.append(row.stream)
            if len(rows) < PAGE:
                return
            after = (rows[-1].due or 0, rows[-1].stream)

    def prefetch(self, limit: int) -> bool:
        """Bring lines that will be due soon into memory; True if there are more."""
        if not self._prefetch:
            return False
        chunk, self._prefetch = self._prefetch[:limit], self._prefetch[limit:]
        self.load([stream for stream in chunk if stream in self._wakes])
        return bool(self._prefetch)
