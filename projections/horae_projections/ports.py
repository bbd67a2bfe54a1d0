"""What projections need from outside, as protocols; view adapters stand in `horae_infrastructure`.

A view holds, for each tenant, rows in tables and, for each table, two kinds of index: *orders*,
which sort row ids by a number or a text, each divided into cells of which a row is in one, and
*sets* of row ids. That is enough to answer every list from the index alone, and every operation on
it is one that cannot fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from horae_domain.errors import Unavailable

INFINITY = float("inf")
"""The number of what has no time: it sorts behind everything."""


class ViewUnavailable(Unavailable):
    """The view store cannot be reached, or holds nothing that can be answered from."""


class StaleProjector(Exception):
    """Nothing was written: the view does not stand at the expected position.

    Attributes:
        current: where it stands; None if the view is gone.
    """

    def __init__(self, current: str | None) -> None:
        self.current = current
        super().__init__(f"the view stands at {current}")


class ViewMisconfigured(Exception):
    """The view store would lose rows by itself (an eviction policy); it is not used so."""


class LogRow(Protocol):
    """An event as the log holds it."""

    @property
    def position(self) -> int:
        """Its number."""
        ...

    @property
    def recorded_at(self) -> int:
        """Microseconds since the epoch; it never decreases with the position."""
        ...

    @property
    def name(self) -> str:
        """The stable name of its kind."""
        ...

    @property
    def state(self) -> bytes:
        """Its stored form."""
        ...


class LogReader(Protocol):
    """The event log; synchronous, called from threads."""

    @property
    def identity(self) -> str:
        """Of the store; a restored one has another."""
        ...

    def read(self, after: int, limit: int) -> Sequence[LogRow]:
        """The next events with a position greater than `after`, in order."""
        ...

    def read_named(
        self, after: int, until: int, names: Sequence[str], limit: int
    ) -> Sequence[LogRow]:
        """The events of some names with positions after one and up to another, in order."""
        ...

    def head(self) -> int:
        """The highest position written, 0 for an empty log."""
        ...

    def wait(self, after: int, timeout: float) -> bool:
        """Block this thread until the log reaches beyond `after`; False after `timeout` seconds."""
        ...


class Key(NamedTuple):
    """Names one row."""

    table: str
    tenant: str
    id: str


PlaceKey = float | str | None
"""What a row is sorted by in a cell of an order, all of one type there; None in a set, which has no order.

A number is an integer below 2**53 or infinity.
"""
Places = Mapping[str, PlaceKey]
"""Places of a row in the indexes: names of cells and of sets, with the row's key there."""
NOWHERE: Places = {}


class Change(NamedTuple):
    """A row's new content (None deletes it), and how its places differ from before.

    A place that it keeps with another key is both dropped and added.
    """

    key: Key
    row: bytes | None
    text: str = ""
    """What `Listing.contains` and an order by text see; empty stands for the id."""
    add: Places = NOWHERE
    drop: Places = NOWHERE


class Step(NamedTuple):
    """Changes that become visible in one atomic step together with the position they lead to."""

    expected: str | None
    """Where the view has to stand; None begins a view that does not exist."""
    position: str
    changes: Sequence[Change]


class Range(NamedTuple):
    """Rows whose key in an order by number lies within both inclusive bounds."""

    order: str
    low: float
    high: float


class Mark(NamedTuple):
    """A place in a list: after the row `id` with `key`, in the group of that number."""

    group: int
    key: float | str
    id: str


class Listing(NamedTuple):
    """A page of the rows of a table that satisfy all conditions."""

    table: str
    tenant: str
    order: str
    """Name of the order; its cell `c` is the index `order:c`."""
    groups: Sequence[Sequence[str]]
    """The cells to look in; rows of an earlier group come first."""
    limit: int
    base: str = "created"
    """An order by number that has every row of the table."""
    text: bool = False
    """True if the keys of `order` are texts."""
    within: Sequence[Range] = ()
    all_of: Sequence[str] = ()
    any_of: Sequence[str] = ()
    only: Sequence[str] = ()
    """If any are given, only rows with these ids."""
    contains: str = ""
    descending: bool = False
    after: Mark | None = None
    totals: bool = True
    """False if nobody asks how many rows the whole list has."""


class Rows(NamedTuple):
    """Rows as they were at one position; None for those that do not exist."""

    position: str
    rows: Sequence[bytes | None]


class Page(NamedTuple):
    """A page as it was at one position, the number of all rows of the list, and where it ends."""

    position: str
    total: int
    rows: Sequence[tuple[str, bytes]]
    end: Mark | None
    """Where the next page begins; None if this one is the last."""


class ViewStore(Protocol):
    """Versions of a view, of which one is live: the one that queries read.

    Every method may raise ViewUnavailable.
    """

    async def check(self) -> None:
        """See that the store answers and keeps what it is given.

        Raises:
            ViewMisconfigured: it would evict rows.
        """
        ...

    async def live(self) -> str | None:
        """The name of the live version."""
        ...

    async def publish(self, version: str | None, *, instead_of: str | None) -> bool:
        """Make a version the live one, if the live one is still `instead_of`.

        All others are forgotten, even such as somebody else is building.
        """
        ...

    async def drop(self, version: str) -> None:
        """Forget a version; its position goes first."""
        ...

    async def position(self, version: str) -> str | None:
        """Where a version stands; None if it does not exist."""
        ...

    async def apply(self, version: str, steps: Sequence[Step]) -> None:
        """Take steps one after the other, each atomic.

        Raises:
            StaleProjector: a step was refused; those before it are done, those after it are not.
        """
        ...

    async def load(self, version: str, keys: Sequence[Key]) -> list[bytes | None]:
        """Rows of a version, for the projector."""
        ...

    async def rows(self, keys: Sequence[Key]) -> Rows:
        """Rows of the live version, as they were at one position.

        Raises:
            ViewUnavailable: there is no live version.
        """
        ...

    async def page(self, listing: Listing) -> Page:
        """A page of the live version.

        Raises:
            ViewUnavailable: there is no live version.
        """
        ...

    async def close(self) -> None:
        """Release connections. Idempotent."""
        ...
