"""What the application needs from outside, as protocols; adapters stand in `horae_infrastructure`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from horae_application.messages import Reply, Request
from horae_application.work import Work
from horae_domain.actions import Deed
from horae_domain.errors import HoraeError

PARTITIONS = 64
"""Number of partitions; fixed when a store is created."""


class StoreError(HoraeError):
    """Root of what an event store raises."""

    code = "store_error"
    status = 503


class Fenced(StoreError):
    """Nothing was written: another owner has claimed `partitions` since."""

    code = "store_fenced"

    def __init__(self, partitions: Iterable[int]) -> None:
        self.partitions = frozenset(partitions)
        super().__init__(f"partitions {sorted(self.partitions)} belong to another owner")


class AlreadyWritten(StoreError):
    """Nothing was written: `stream` already has `version` (the store's unique key)."""

    code = "store_already_written"

    def __init__(self, stream: str | None, version: int | None) -> None:
        self.stream = stream
        self.version = version
        super().__init__(f"stream {stream} already has version {version}")


class Crowded(StoreError):
    """Attempts would begin that a limit has no room for; `keys` are those of the limits."""

    code = "store_crowded"

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = frozenset(keys)
        super().__init__(f"no room for {', '.join(sorted(self.keys))}")


class StoreUnavailable(StoreError):
    """Nothing was written: the store cannot be reached or has no room. May be tried again."""

    code = "store_unavailable"


class CommitUnknown(StoreError):
    """The connection failed during the commit: it may or may not have happened."""

    code = "store_commit_unknown"


class NewEvent(NamedTuple):
    """One event to append; `version` counts from 1 in its stream."""

    stream: str
    version: int
    name: str
    """Stable name with version, such as `schedule.created.v1`; the stored event's topic."""
    state: bytes


class StoredEvent(NamedTuple):
    """One event as the log holds it."""

    position: int
    recorded_at: int
    """Microseconds since the epoch on the store's clock; never decreases with the position."""
    stream: str
    version: int
    name: str
    state: bytes


class LedgerRow(NamedTuple):
    """The ledger's line of one schedule, written in the same transaction as its events.

    It is derived: folding the log gives the same lines.
    """

    partition: int
    stream: str
    """The schedule's stream."""
    due: int | None
    """When the schedule next needs its owner, in microseconds since the epoch; None is never."""
    state: bytes
    """The folded line, opaque to the store; empty when the schedule's own events say all."""


class Use(NamedTuple):
    """How a batch changes what is used of a limit."""

    key: str
    """Of a queue or a tenant."""
    change: int
    """How many more run after it; fewer if negative."""
    starts: int
    """How many attempts begin in it."""
    most: int
    """How many more than before it run at most once an attempt has begun, read in its order."""


class Setting(NamedTuple):
    """What limits the executions that are counted under a key."""

    key: str
    concurrency: int | None
    """The most that run at once."""
    rate: int | None
    """The most attempts that begin within any `per`."""
    per: int | None
    """Microseconds."""
    paused: bool
    """True if nothing begins."""
    weight: int = 1


class Usage(NamedTuple):
    """A setting, and how much of it is used."""

    setting: Setting
    running: int
    starts: list[tuple[int, int]]
    """(until, count) of the attempts that count for its rate up to an instant, microseconds."""
    head: int | None = None
    """The urgency of the most urgent execution that waits for it at another living engine."""


class Batch(NamedTuple):
    """What one commit writes: all of it or nothing."""

    epochs: Mapping[int, int]
    """The epoch under which the writer decided, for each partition it touches."""
    events: Sequence[NewEvent]
    ledger: Sequence[LedgerRow]
    """Lines to insert or replace."""
    settled: Sequence[tuple[int, str]]
    """(partition, stream) of lines to delete."""
    at: int = 0
    """When it was decided, microseconds: what rates go by."""
    uses: Sequence[Use] = ()
    """What it uses of limits, each key once; counted for all keys, limited or not."""
    settings: Sequence[Setting] = ()
    """Limits to set anew."""
    erased: Sequence[str] = ()
    """Streams to delete before the events are written; the numbers that they had stay empty."""


class Member(NamedTuple):
    """One engine process, alive while its lease runs (on the store's clock)."""

    owner: str
    expires_at: int
    address: str
    """Where commands for its partitions are forwarded to."""


class Ownership(NamedTuple):
    """Who owns a partition, under which epoch."""

    partition: int
    epoch: int
    owner: str | None


class EventLog(Protocol):
    """What is read of a store.

    Synchronous: it is called from the engine's thread and from readers' threads, never from an
    event loop. Every method is safe to call from several threads.
    """

    identity: str
    """Of the store; a restored or promoted one has another."""

    def read(self, after: int, limit: int) -> list[StoredEvent]:
        """The next events of the log with a position greater than `after`, in order."""
        ...

    def read_named(
        self, after: int, until: int, names: Sequence[str], limit: int
    ) -> list[StoredEvent]:
        """The events of some names with positions after one and up to another, in order."""
        ...

    def head(self) -> int:
        """The highest position written, 0 for an empty log."""
        ...

    def wait(self, after: int, timeout: float) -> bool:
        """Block this thread until the log reaches beyond `after`; False after `timeout` seconds.

        False comes early when the store is closed.
        """
        ...

    def close(self) -> None:
        """Release connections and files. Idempotent."""
        ...


class EventStore(EventLog, Protocol):
    """The event log, the ledger's lines, and the ownership of partitions; synchronous as the log."""

    single_process: bool
    """True if no other process can write (a lock file says so)."""

    def append(self, batch: Batch) -> Sequence[int]:
        """Write a batch in one durable transaction and return the positions of its events.

        Raises:
            Fenced: an epoch is not the partition's current one.
            AlreadyWritten: an event's (stream, version) is taken.
            Crowded: attempts begin in it that a limit, as it is set now, has no room for.
            StoreUnavailable: nothing was written.
            CommitUnknown: it may have been.
        """
        ...

    def load(self, streams: Sequence[str]) -> dict[str, list[StoredEvent]]:
        """All events of some streams, each in order of version; absent streams are left out."""
        ...

    def lines(self, streams: Sequence[str]) -> dict[str, LedgerRow]:
        """The ledger's lines of some schedules; absent ones are left out."""
        ...

    def due(
        self, partitions: Iterable[int], after: tuple[int, str] | None, before: int, limit: int
    ) -> list[LedgerRow]:
        """Lines with `due < before`, in order of (due, stream), beginning after a key."""
        ...

    def limits(self, owner: str, waiting: Mapping[str, int]) -> list[Usage]:
        """All settings that limit something, with what is used of them at the moment.

        Args:
            owner: who asks.
            waiting: for each key the urgency of the most urgent execution that waits for it here,
                the smallest first; it is told to the others that ask.
        """
        ...

    def now(self) -> int:
        """The store's clock, in microseconds since the epoch."""
        ...

    def join(self, owner: str, address: str, ttl: float) -> None:
        """Register an engine, or renew its lease for `ttl` seconds.

        Raises:
            Fenced: the lease had run out and partitions of `owner` were claimed by others;
                the engine must drop what it holds and join under a new name.
        """
        ...

    def members(self) -> list[Member]:
        """Engines whose lease runs."""
        ...

    def ownership(self) -> list[Ownership]:
        """All partitions, in order."""
        ...

    def claim(self, owner: str, partitions: Iterable[int]) -> dict[int, int]:
        """Take those partitions that have no other living owner and return their new epochs.

        A claim whose answer was lost is made again so.
        Each claim increments the partition's epoch under the append lock, so that an append of
        the former owner is refused from then on. A single-process store ignores leases: its lock
        file is the proof that a former owner is gone, and everything asked for is granted. On
        another store a claimer without a running lease of its own is granted nothing.
        """
        ...

    def release(self, owner: str, partitions: Iterable[int]) -> None:
        """Give up partitions, if `owner` still holds them."""
        ...

    def leave(self, owner: str) -> None:
        """Give up everything and end the lease."""
        ...

    def forget_requests(self, before: int, limit: int) -> int:
        """Erase records of requests that are older than an instant; how many, at most `limit`.

        They are in no partition (`is_request` knows their streams), so nobody owns them. The
        instant is in microseconds since the epoch.
        """
        ...

    def compact(self) -> None:
        """Give room that erased events have left back, as far as the store does that by itself."""
        ...


class Clock(Protocol):
    """Where the time comes from; tests and simulations move it."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


class Forwarder(Protocol):
    """Carries a request to the engine that owns its partition."""

    async def forward(self, address: str, request: Request) -> Reply:
        """The owner's reply.

        Raises:
            Unavailable: nobody answered at `address`; whether it was done is not known.
        """
        ...


Pulled = tuple[str, str, str]
"""A tenant, `function` or `queue`, and the name of it: what work is pulled by."""


class Hands(NamedTuple):
    """An executor in another process, by what it says of itself."""

    executor: str
    slots: int | None
    """How many attempts it runs at once; None if it does not say."""
    pulls: frozenset[Pulled]


class WorkBus(Protocol):
    """Carries work to executors elsewhere; at least once, in no promised order.

    Called from the engine's thread, after the commit; it must not block.
    """

    def publish(self, works: Sequence[Work]) -> None:
        """Hand work over. It is published again after the bus has lost its storage."""
        ...

    def withdraw(self, execution_ids: Sequence[str]) -> None:
        """These need no delivery any more: taken, ended, or another owner's."""
        ...

    def hands(self) -> Sequence[Hands]:
        """Executors that have lately said what they pull."""
        ...


class LocalExecutor(Protocol):
    """Runs handlers inside this process, off the engine's thread.

    Called from the engine's thread, after the commit; it must not block.
    """

    def serves(self, action: Deed) -> bool:
        """True if this process can do such work."""
        ...

    def hold(self, count: int) -> int:
        """Keep up to so many free slots for the commit in the making, and say how many.

        They are kept in place of those of the call before, until `start`.
        """
        ...

    def start(self, works: Sequence[Work]) -> None:
        """Begin attempts in the slots held; each ends in one report to the engine."""
        ...

    def ask_to_stop(self, leases: Sequence[tuple[str, str]]) -> None:
        """Ask attempts, given as (execution id, lease), to stop: their outcome still counts."""
        ...

    def stop(self, leases: Sequence[tuple[str, str]]) -> None:
        """Cancel attempts, given as (execution id, lease): their outcome no longer counts."""
        ...
