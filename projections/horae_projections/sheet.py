"""The rows that a stretch of events touches, between the view store and the fold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from horae_domain.events import (
    NAMES,
    CommandScheduled,
    Event,
    ExecutionBuffered,
    ExecutionChecking,
    ExecutionEvent,
    ExecutionHeld,
    ExecutionRequested,
    ExecutionSkipped,
    ExternalEventReceived,
    HistoryErased,
    LimitEvent,
    RequestAnswered,
    ScheduleCreated,
    ScheduleErased,
)
from horae_projections.places import places_of, text_of, waits_of
from horae_projections.ports import NOWHERE, Change, Key, Places
from horae_projections.rows import (
    ALL_QUEUES,
    DECISIONS,
    EXECUTIONS,
    QUEUES,
    SCHEDULES,
    WAITS,
    ExecutionRow,
    Row,
    WaitRow,
    decision_id,
    pack,
    unpack,
)

BORN = (
    ExecutionRequested,
    ExecutionBuffered,
    ExecutionChecking,
    ExecutionHeld,
    ExecutionSkipped,
)


class _Slot:
    """A row, and what the store has of it: its places, and rows that follow from it."""

    __slots__ = ("places", "row", "waits")

    def __init__(self, row: Row | None, places: Places, waits: dict[str, WaitRow]) -> None:
        self.row = row
        self.places = places
        self.waits = waits


class Sheet:
    """Rows in memory, the same as in the store but for what has not been collected yet.

    Args:
        keep: how many rows it remembers between batches, the last used ones.
    """

    def __init__(self, keep: int = 10_000) -> None:
        self._keep = keep
        self._slots: OrderedDict[Key, _Slot] = OrderedDict()
        self._touched: dict[Key, None] = {}
        self._places: dict[tuple[str, str], None] = {}
        """Tenants and queues of executions that were put and whose queues were not asked for."""

    def missing(self, events: list[Event]) -> list[Key]:
        """Rows that have to be put before these events can be projected."""
        wanted: dict[Key, None] = {}
        born: set[Key] = set()
        for event in events:
            for key in needed(event):
                if key in self._slots:
                    self._slots.move_to_end(key)
                elif key not in born:
                    wanted[key] = None
            if (begun := _BEGUN.get(type(event))) is not None:
                born.add(begun(event))
        return list(wanted)

    def missing_queues(self, events: list[Event]) -> list[Key]:
        """The same for the queues of their executions, once these have been put.

        A queue's row stays once it is here, so only executions that are new here can miss theirs.
        """
        places, self._places = self._places, {}
        for event in events:
            if isinstance(event, LimitEvent):
                places[event.tenant, getattr(event, "queue", ALL_QUEUES)] = None
            elif isinstance(event, BORN) and not isinstance(event, ExecutionSkipped):
                places[event.tenant, event.queue] = None
        wanted = {
            Key(QUEUES, tenant, name): None
            for tenant, queue in places
            for name in (queue, ALL_QUEUES)
        }
        return [key for key in wanted if key not in self._slots]

    def put(self, key: Key, stored: bytes | None) -> None:
        """What the store has of a row."""
        row = None if stored is None else unpack(key.table, stored)
        if row is None:
            self._slots[key] = _Slot(None, NOWHERE, {})
        else:
            self._slots[key] = _Slot(row, places_of(key.id, row), waits_of(key.id, row))
            if isinstance(row, ExecutionRow):
                self._places[key.tenant, row.queue] = None

    def get(self, key: Key) -> Any:
        """A row that is about to be changed, or None."""
        slot = self._slots.get(key)
        if slot is None or slot.row is None:
            return None
        self._touched[key] = None
        return slot.row

    def set(self, key: Key, row: Row) -> None:
        """Begin a row, or replace it by another."""
        slot = self._slots.get(key)
        if slot is None:
            self._slots[key] = _Slot(row, NOWHERE, {})
        else:
            slot.row = row
        self._touched[key] = None

    def remove(self, key: Key) -> None:
        """Take a row away, whether there is one or not."""
        slot = self._slots.get(key)
        if slot is not None and slot.row is not None:
            slot.row = None
            self._touched[key] = None

    def collect(self) -> list[Change]:
        """What has changed since the last time."""
        changes = []
        for key in self._touched:
            slot = self._slots[key]
            row, before = slot.row, slot.places
            slot.places = NOWHERE if row is None else places_of(key.id, row)
            changes.append(_change(key, row, before, slot.places))
            waits = {} if row is None else waits_of(key.id, row)
            if waits != slot.waits:
                changes += _changes_of_waits(key.tenant, slot.waits, waits)
                slot.waits = waits
        self._touched.clear()
        return changes

    def trim(self) -> None:
        """Forget the rows that were not used for the longest time."""
        for _ in range(len(self._slots) - self._keep):
            key, slot = self._slots.popitem(last=False)
            if key.table == QUEUES:
                self._slots[key] = slot

    def clear(self) -> None:
        """Forget everything: the store may have something else."""
        self._slots.clear()
        self._touched.clear()
        self._places.clear()


def _change(key: Key, row: Row | None, before: Places, after: Places) -> Change:
    return Change(
        key,
        None if row is None else pack(row),
        "" if row is None else text_of(row),
        _only_in(after, before),
        _only_in(before, after),
    )


def _only_in(these: Places, those: Places) -> Places:
    """What is in one and not in the other; most rows are new, or keep their places."""
    if not those or not these:
        return these
    return NOWHERE if these == those else dict(these.items() - those.items())


def _changes_of_waits(
    tenant: str, before: dict[str, WaitRow], after: dict[str, WaitRow]
) -> list[Change]:
    changes = []
    for id_ in before.keys() | after.keys():
        old, new = before.get(id_), after.get(id_)
        if old != new:
            places = [NOWHERE if row is None else places_of(id_, row) for row in (old, new)]
            changes.append(_change(Key(WAITS, tenant, id_), new, *places))
    return changes


def erased_keys(event: HistoryErased | ScheduleErased) -> list[Key]:
    """The schedule's row, and those that go."""
    keys = [Key(SCHEDULES, event.tenant, event.schedule_id)]
    keys += [Key(EXECUTIONS, event.tenant, id_) for id_ in event.executions]
    if isinstance(event, HistoryErased):
        keys += [Key(EXECUTIONS, event.tenant, id_) for id_ in event.older]
    else:
        keys += [Key(DECISIONS, event.tenant, decision_id(each)) for each in event.decisions]
    return keys


# --- which rows an event is about ----------------------------------------------------------------


def needed(event: Event) -> Sequence[Key]:
    """The rows that an event changes and does not begin."""
    return _NEEDED[type(event)](event)


def _nothing(_: Event) -> Sequence[Key]:
    return ()


def _schedule(event: Event) -> Key:
    return Key(SCHEDULES, event.tenant, event.schedule_id)


def _execution(event: ExecutionEvent) -> Key:
    return Key(EXECUTIONS, event.tenant, event.execution_id)


def _only_schedule(event: Event) -> Sequence[Key]:
    return (_schedule(event),)


def _with_execution(event: ExecutionEvent) -> Sequence[Key]:
    return (_schedule(event), _execution(event))


def _created(event: ScheduleCreated) -> Sequence[Key]:
    return () if event.incarnation == 1 else (_schedule(event),)


def _needs(kind: type[Event]) -> Callable[[Any], Sequence[Key]]:
    if issubclass(kind, RequestAnswered | ExternalEventReceived | LimitEvent | CommandScheduled):
        return _nothing
    if issubclass(kind, HistoryErased | ScheduleErased):
        return erased_keys
    if issubclass(kind, ExecutionEvent) and kind not in BORN:
        return _with_execution
    return _created if kind is ScheduleCreated else _only_schedule


_NEEDED = {kind: _needs(kind) for kind in NAMES}
_BEGUN: dict[type[Event], Callable[[Any], Key]] = {
    ScheduleCreated: _schedule,
    CommandScheduled: _schedule,
    **dict.fromkeys(BORN, _execution),
}
"""The row that an event begins, if there was none before."""
