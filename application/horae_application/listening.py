"""Who listens for external events in the partitions of this owner, kept with the ledger's lines.

What a schedule or an execution listens for follows from its line. The ledger has a row of it as soon as it is
committed, so that a new owner reads who listens without reading what waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from horae_application.messages import PublishEvent
from horae_application.ports import EventStore, LedgerRow
from horae_application.task import Task
from horae_domain.decision import Decision
from horae_domain.execution import Execution
from horae_domain.external import wants, wants_of
from horae_domain.identity import listener_stream, partition_of_stream
from horae_domain.ledger import Line
from horae_domain.listeners import ORDER, Interest, Listener, Listeners, Role

LISTENS = -2
"""The `due` of the ledger's rows that say who listens: before all that are due at some time."""
PAGE = 5_000
KEPT = 10_000
"""Waits that are over of which it is known who waited, the latest ones."""

NOBODY = "00000000-0000-0000-0000-000000000000"
"""An id before all others."""


class Row(NamedTuple):
    """What the ledger keeps of one interest."""

    tenant: str
    event: str
    role: str
    stream: str
    execution_id: str | None
    match: list[tuple[str, Any]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Row]).decode

Who = tuple[str, str | None]
"""A schedule's stream, and of an execution its id."""


class Listening:
    """The committed listeners of some partitions."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.index = Listeners()
        self.past = Past()

    def read(self, partitions: Collection[int]) -> None:
        """Learn from the ledger who listens there; whoever is known already stays."""
        after = (LISTENS - 1, NOBODY)
        while True:
            rows = self._store.due(partitions, after, LISTENS + 1, PAGE)
            for row in rows:
                for interest in unpack(row.state):
                    self.index.add(interest)
            if len(rows) < PAGE:
                return
            after = (LISTENS, rows[-1].stream)

    def drop(self, partitions: Collection[int]) -> None:
        """These are somebody else's."""
        self.index.drop(partitions)
        self.past.index.drop(partitions)

    def elsewhere(self, tenant: str, type_: str) -> bool:
        """True if somebody may listen in the partitions of others."""
        del tenant, type_
        return not self._store.single_process

    @property
    def chained(self) -> bool:
        """True if somebody here may be triggered by outcomes."""
        return self.index.outcomes > 0

    def concerned(self, task: Task) -> list[Listener]:
        """Whom the event of a task may concern."""
        command = task.command
        if not isinstance(command, PublishEvent):
            return []
        return self.index.match(task.request.tenant, command.type, command.data)

    def apply(self, hearing: Hearing) -> None:
        """Take over what a committed draft has changed."""
        for who in hearing.changed:
            for interest in hearing.was[who]:
                self.index.remove(interest)
            for interest in hearing.now[who]:
                self.index.add(interest)
            self.past.follow(who, hearing.was[who], hearing.now[who])
        self.past.learn(hearing.over)


class Past:
    """Who waited for a confirmation until lately, so that one that comes late is known as such."""

    def __init__(self) -> None:
        self.index = Listeners()
        self._kept: OrderedDict[Who, list[Interest]] = OrderedDict()

    def follow(self, who: Who, before: list[Interest], after: list[Interest]) -> None:
        """Somebody listens for something else than before."""
        if _confirms(after):
            self._forget(who)
        elif waited := _confirms(before):
            self._kept[who] = waited
            for interest in waited:
                self.index.add(interest)
            if len(self._kept) > KEPT:
                self._forget(next(iter(self._kept)))

    def learn(self, lately: Past) -> None:
        """Take over those who have waited lately."""
        for who, waited in lately._kept.items():
            self.follow(who, waited, [])

    def _forget(self, who: Who) -> None:
        for interest in self._kept.pop(who, ()):
            self.index.remove(interest)


def _confirms(interests: list[Interest]) -> list[Interest]:
    return [each for each in interests if each.listener.role is Role.CONFIRM]


class Hearing:
    """What the decisions of one draft change in who listens."""

    def __init__(self, listening: Listening) -> None:
        self._committed = listening.index
        self._past = listening.past.index
        self._own = Listeners()
        self.over = Past()
        """Whose waits end in this draft."""
        self.was: dict[Who, list[Interest]] = {}
        self.now: dict[Who, list[Interest]] = {}

    def note(self, stream: str, decision: Decision, execution_ids: Collection[str]) -> None:
        """A decision has led from one form of a line to another, in these executions."""
        before, after = decision.before, decision.line
        if after is None:
            return
        if before is None or before.schedule is not after.schedule:
            self._change((stream, None), wants(before) if before else [], wants(after))
        if not execution_ids or not after.schedule.listens_for_runs:
            return
        for id_ in execution_ids:
            was = _wants_of(before, id_, decision.given)
            self._change((stream, id_), was, _wants_of(after, id_, decision.waiting))

    def _change(self, who: Who, before: list[Interest], after: list[Interest]) -> None:
        if before == after and who not in self.now:
            return
        self.was.setdefault(who, before)
        self.over.follow(who, self.now.get(who, before), after)
        for interest in self.now.get(who, ()):
            self._own.remove(interest)
        self.now[who] = after
        for interest in after:
            self._own.add(interest)

    def match(self, tenant: str, type_: str, data: Any) -> list[Listener]:
        """Who listens for an event, as the decisions of this draft leave it."""
        found = self._committed.match(tenant, type_, data)
        if not self.now:
            return found
        kept = [each for each in found if (each.stream, each.execution_id) not in self.now]
        return sorted([*kept, *self._own.match(tenant, type_, data)], key=_order)

    def late(self, tenant: str, type_: str, data: Any) -> list[Listener]:
        """Who waited for an event until lately, as the decisions of this draft leave it."""
        found = dict.fromkeys(self._past.match(tenant, type_, data))
        found |= dict.fromkeys(self.over.index.match(tenant, type_, data))
        return [
            each
            for each in found
            if not _confirms(self.now.get((each.stream, each.execution_id), []))
        ]

    def hears(self, tenant: str, type_: str) -> bool:
        """True if anybody may listen for a type."""
        return self._committed.hears(tenant, type_) or self._own.hears(tenant, type_)

    @property
    def changed(self) -> list[Who]:
        """Whose interests are others after this draft."""
        return [who for who, before in self.was.items() if self.now[who] != before]

    def rows(self) -> tuple[list[LedgerRow], list[tuple[int, str]]]:
        """The ledger's rows to write, and those to delete."""
        rows, gone = [], []
        for who in self.changed:
            partition, stream = partition_of_stream(who[0]), listener_stream(*who)
            if self.now[who]:
                rows.append(LedgerRow(partition, stream, LISTENS, pack(self.now[who])))
            else:
                gone.append((partition, stream))
        return rows, gone


def _wants_of(line: Line | None, id_: str, waiting: Mapping[str, Execution]) -> list[Interest]:
    """What an execution listens for, though it waits outside of its line."""
    if line is None or (run := line.find(id_) or waiting.get(id_)) is None:
        return []
    return wants_of(line.definition_of(run), run)


def _order(listener: Listener) -> int:
    return ORDER.index(listener.role)


def pack(interests: Iterable[Interest]) -> bytes:
    """The ledger's form of what one listens for."""
    return _encode(
        [
            Row(each.tenant, each.event, str(each.listener.role), *each.listener[1:], [*each.match])
            for each in interests
        ]
    )


def unpack(state: bytes) -> list[Interest]:
    """What was packed."""
    return [
        Interest(
            row.tenant,
            row.event,
            Listener(Role(row.role), row.stream, row.execution_id),
            tuple((path, value) for path, value in row.match),
        )
        for row in _decode(state)
    ]
