"""Connections for readers: lent one at a time, kept for the next reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Generic, Protocol, TypeVar

from horae_application.ports import StoreUnavailable

_IDLE = 8
"""Idle connections kept; a burst of more readers opens and closes its own."""


class _Connection(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=_Connection)


class Pool(Generic[C]):
    """Lends connections that `connect` makes; one that met an error is closed, never reused."""

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._idle: list[C] = []
        self._lock = Lock()
        self.closed = False

    @contextmanager
    def lend(self) -> Iterator[C]:
        """A connection for the length of the block.

        Raises:
            StoreUnavailable: the pool is closed.
        """
        connection = self._take()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)

    def _take(self) -> C:
        with self._lock:
            if self.closed:
                raise StoreUnavailable("the store is closed")
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def _give_back(self, connection: C) -> None:
        with self._lock:
            if not self.closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def drop_idle(self) -> None:
        """Close the idle connections, which a server's end has made useless."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back. Idempotent."""
        self.closed = True
        self.drop_idle()
