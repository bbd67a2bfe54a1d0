"""Batches for the store's tests."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID, uuid4

from horae_application.ports import Batch, LedgerRow, NewEvent

START = 1_780_000_000_000_000


class MovedClock:
    """Microseconds that the test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += round(seconds * 1_000_000)


def event(stream: str, version: int = 1, name: str = "schedule.created.v1", n: int = 0) -> NewEvent:
    return NewEvent(stream, version, name, b'{"n":%d}' % n)


def batch(
    *events: NewEvent,
    epochs: dict[int, int] | None = None,
    ledger: Iterable[LedgerRow] = (),
    settled: Iterable[tuple[int, str]] = (),
) -> Batch:
    return Batch(epochs or {}, events, tuple(ledger), tuple(settled))


def stream_number(n: int) -> str:
    return str(UUID(int=n))


def new_stream() -> str:
    return str(uuid4())
