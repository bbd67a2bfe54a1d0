"""What other owners have recorded, for the partitions of this one.

An external event, and the end of an execution, is known everywhere by its position in the log. An owner
reads from where its partitions have got to; a new owner begins where the ledger says that the former one
was. Whatever is read twice is decided once, since the ids of executions follow from what triggered them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from horae_application.listening import Listening
from horae_application.ports import EventStore, LedgerRow, StoredEvent
from horae_domain.events import NAMES, ExternalEventReceived
from horae_domain.external import Ending
from horae_domain.identity import tail_stream

PAGE = 500
"""Events read at once."""
BEHIND = 1_000
"""Positions that the ledger's place of a partition may be behind."""

_EVENTS = (NAMES[ExternalEventReceived],)
_OUTCOMES = tuple(NAMES[kind] for kind in Ending.__args__)
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(int).decode


class Page(NamedTuple):
    """Some events of the log, and the partitions that do not know them."""

    rows: Sequence[StoredEvent]
    since: Mapping[int, int]
    """Up to which position each of these partitions knows all."""
    until: int
    """Up to which position they know all after these."""


class Tail:
    """Up to which position the partitions of this owner know what happened."""

    def __init__(self, store: EventStore, listening: Listening) -> None:
        self._store = store
        self._listening = listening
        self._known: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self.news = False
        """True if there may be more."""

    @property
    def through(self) -> int:
        """Up to where all partitions know everything; the log's beginning without any."""
        return min(self._known.values(), default=0)

    def begin(self, partitions: Iterable[int]) -> None:
        """Go on where the former owners were."""
        wanted = {tail_stream(each): each for each in partitions}
        rows = self._store.lines(list(wanted))
        for stream, partition in wanted.items():
            at = _decode(rows[stream].state) if stream in rows else 0
            self._known[partition] = self._written[partition] = at
        self.news = True

    def drop(self, partitions: Iterable[int]) -> None:
        """These are somebody else's."""
        for each in partitions:
            self._known.pop(each, None)
            self._written.pop(each, None)

    def page(self) -> Page | None:
        """What is to be decided next; None if all is known."""
        if not self.news:
            return None
        head = self._store.head()
        for each in self._known.keys() - self._listening.index.partitions.keys():
            self._known[each] = max(self._known[each], head)  # nobody listens there
        first = self.through
        since = {part: at for part, at in self._known.items() if at < head}
        if not since:
            self.news = False
            return None
        names = _EVENTS + (_OUTCOMES if self._listening.chained else ())
        rows = self._store.read_named(first, head, names, PAGE)
        return Page(rows, since, rows[-1].position if len(rows) == PAGE else head)

    def passed(self, page: Page) -> None:
        """All of a page is decided."""
        for each in page.since:
            if each in self._known:
                self._known[each] = max(self._known[each], page.until)

    def own(self, positions: Sequence[int]) -> None:
        """This owner has committed: what lies directly behind it was decided with it."""
        for each, at in self._known.items():
            if at == positions[0] - 1:
                self._known[each] = positions[-1]

    def rows(self, partitions: Iterable[int]) -> list[LedgerRow]:
        """The places of partitions that a commit should keep."""
        return [
            LedgerRow(each, tail_stream(each), None, _encode(self._known[each]))
            for each in partitions
            if each in self._listening.index.partitions
            and self._known.get(each, 0) - self._written.get(each, 0) >= BEHIND
        ]

    def kept(self, rows: Iterable[LedgerRow]) -> None:
        """They are committed."""
        for row in rows:
            self._written[row.partition] = _decode(row.state)
