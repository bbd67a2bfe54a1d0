"""Engines over each store of a single process, and over PostgreSQL where two share one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stepping import Clock, Stepped, Wrapped

from horae_application.ports import EventStore
from horae_infrastructure.store.memory import MemoryStore
from horae_infrastructure.store.sqlite import SqliteStore

Make = Callable[..., Stepped]


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Kept:
    """A store that is closed and opened again, as a process that restarts does."""

    def __init__(self, kind: str, clock: Clock, path: Path) -> None:
        self._open = {
            "memory": lambda: self._memory,
            "sqlite": lambda: SqliteStore(path / "horae.db", clock=clock.micros),
        }[kind]
        self.kind = kind
        self._memory = MemoryStore(clock=clock.micros)
        self.store: EventStore = self._open()

    def reopen(self) -> EventStore:
        if self.kind == "sqlite":
            self.store.close()
        self.store = self._open()
        return self.store


@pytest.fixture(params=["memory", "sqlite"])
def kept(request: pytest.FixtureRequest, clock: Clock, tmp_path: Path) -> Iterator[Kept]:
    made = Kept(request.param, clock, tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def desk(kept: Kept, clock: Clock) -> Stepped:
    """An engine over each store."""
    stepped = Stepped(kept.store, clock)
    stepped.settle()
    return stepped


@pytest.fixture
def restart(kept: Kept, clock: Clock) -> Make:
    """Another process over the same data."""

    def again(**told: Any) -> Stepped:
        return Stepped(kept.reopen(), clock, **({"name": "engine-again"} | told))

    return again


@pytest.fixture
def faulty(clock: Clock) -> tuple[Stepped, Wrapped]:
    """An engine over a store that fails when it is told to."""
    store = Wrapped(MemoryStore(clock=clock.micros))
    stepped = Stepped(store, clock)  # type: ignore[arg-type]
    stepped.settle()
    return stepped, store
