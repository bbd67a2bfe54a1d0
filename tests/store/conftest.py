"""Every adapter of the event store, opened anew for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from horae_application.ports import EventStore
from horae_infrastructure.store.memory import MemoryStore
from horae_infrastructure.store.sqlite import SqliteStore
from store_examples import MovedClock


class Adapter:
    """Opens stores over the same data, and closes them after the test."""

    def __init__(self, kind: str, opened: Callable[[], EventStore], clock: MovedClock) -> None:
        self.kind = kind
        self.clock = clock
        self._opened = opened
        self._stack = ExitStack()

    def open(self) -> EventStore:
        store = self._opened()
        self._stack.callback(store.close)
        return store

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(
    params=["memory", "sqlite"],
)
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Adapter]:
    clock = MovedClock()
    match request.param:
        case "memory":
            memory = MemoryStore(clock=clock)
            opened: Callable[[], EventStore] = lambda: memory  # noqa: E731
        case "sqlite":
            opened = lambda: SqliteStore(tmp_path / "horae.db", clock=clock)  # noqa: E731
    made = Adapter(request.param, opened, clock)
    yield made
    made.close()


@pytest.fixture
def store(adapter: Adapter) -> EventStore:
    return adapter.open()
