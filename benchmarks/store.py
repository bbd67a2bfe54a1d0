"""Measures the event store: appends, reads, and bytes on disk.

    python benchmarks/store.py [sqlite] [postgres] [--lines 100000] [--seconds 2]

A decision is two events of about 330 and 200 bytes and one line of the ledger. PostgreSQL is the
embedded server with its durable defaults.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from horae_application.ports import Batch, EventStore, LedgerRow, NewEvent
from horae_domain.identity import NOWHERE, partition_of_stream
from horae_infrastructure.store.postgres import PostgresStore
from horae_infrastructure.store.sqlite import SqliteStore

CREATED = b'{"definition":"' + b"x" * 312 + b'"}'
SUCCEEDED = b'{"result":"' + b"y" * 187 + b'"}'
NOW = 1_780_000_000_000_000


def decisions(count: int) -> Batch:
    events, lines = [], []
    for _ in range(count):
        execution, schedule = str(uuid4()), str(uuid4())
        events.append(NewEvent(execution, 1, "execution.requested.v1", CREATED))
        events.append(NewEvent(execution, 2, "execution.succeeded.v1", SUCCEEDED))
        lines.append(LedgerRow(partition_of_stream(schedule), schedule, NOW, b""))
    return Batch(dict.fromkeys(range(4), 0), events, lines, ())


def waiting(count: int) -> tuple[Batch, list[str]]:
    """One-time schedules: one event and one line each."""
    streams = [str(uuid4()) for _ in range(count)]
    lines = [
        LedgerRow(random.randrange(64), s, NOW + random.randrange(10**12), b"") for s in streams
    ]
    return Batch(
        {}, [NewEvent(s, 1, "schedule.created.v1", CREATED) for s in streams], lines, ()
    ), (streams)


def percentile(times: Sequence[float], share: float) -> float:
    return sorted(times)[int(len(times) * share)] * 1000


def timed(call: Callable[[], Any], repeat: int = 20) -> float:
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def appends(store: EventStore, seconds: float) -> None:
    for size in (1, 16, 256):
        batches = [decisions(size) for _ in range(50)]
        events, times = 0, []
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            batch = decisions(size) if len(times) >= len(batches) else batches[len(times)]
            started = time.perf_counter()
            store.append(batch)
            times.append(time.perf_counter() - started)
            events += len(batch.events)
        print(
            f"  append {size:3} decisions: {events / sum(times):8.0f} events/s,"
            f" p50 {percentile(times, 0.5):6.2f} ms, p99 {percentile(times, 0.99):6.2f} ms"
        )


def fill(store: EventStore, lines: int) -> list[str]:
    streams: list[str] = []
    while len(streams) < lines:
        batch, made = waiting(min(1000, lines - len(streams)))
        store.append(batch)
        streams += made
    return streams


def reads(store: EventStore, streams: list[str]) -> None:
    chosen = random.sample(streams, 500)
    print(f"  load 500 streams:  {timed(lambda: store.load(chosen)) / 500 * 1e6:6.2f} µs a stream")
    print(f"  lines of 500:      {timed(lambda: store.lines(chosen)) / 500 * 1e6:6.2f} µs a line")
    print(f"  load 1 stream:     {timed(lambda: store.load(chosen[:1]), 200) * 1e6:6.0f} µs")
    print(
        f"  read 500 events:   {timed(lambda: store.read(1000, 500)) / 500 * 1e6:6.2f} µs an event"
    )
    middle = (NOW + 10**12 // 2, NOWHERE)
    for name, partitions in (("64", range(64)), ("16", range(16)), ("1", range(1))):
        took = timed(lambda p=partitions: store.due(p, middle, NOW + 10**12, 500))
        print(f"  due, 500 lines of {name:>2} partitions: {took * 1000:6.2f} ms")
    took = timed(lambda: store.due(range(64), None, NOW, 500))
    print(f"  due, none of 64 partitions: {took * 1e6:6.0f} µs")


@contextmanager
def sqlite() -> Iterator[tuple[EventStore, Callable[[], int]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "horae.db"
        store = SqliteStore(path)

        def size() -> int:
            with store._transaction() as writer:
                pass
            writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return path.stat().st_size

        yield store, size
        store.close()


@contextmanager
def postgres() -> Iterator[tuple[EventStore, Callable[[], int]]]:
    from horae_infrastructure.embedded import Postgres

    with Postgres() as server:
        store = PostgresStore(server.url)

        def size() -> int:
            tables = ("horae_events", "horae_ledger")
            sql = " + ".join(f"pg_total_relation_size('{table}')" for table in tables)
            return int(store._rows(f"SELECT {sql}")[0][0])

        yield store, size
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("adapters", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    for name in options.adapters:
        print(name)
        with {"sqlite": sqlite, "postgres": postgres}[name]() as (store, size):
            empty = size()
            started = time.perf_counter()
            streams = fill(store, options.lines)
            took = time.perf_counter() - started
            each = (size() - empty) / options.lines
            print(
                f"  {options.lines} waiting one-time schedules: {each:.0f} bytes each, in {took:.1f} s"
            )
            reads(store, streams)
            appends(store, options.seconds)


if __name__ == "__main__":
    main()
