"""Following the log: what a waiting reader sleeps on, and a subscription that misses nothing."""

from __future__ import annotations

from threading import Condition

from eventsourcing.persistence import ApplicationRecorder, ListenNotifySubscription

POLL = 0.1
"""Seconds between the looks of a subscription; a hint wakes it earlier, none can be missed."""


class Head:
    """The highest position, for threads of this process that wait for it to move."""

    def __init__(self, position: int) -> None:
        self.position = position
        self._moved = Condition()
        self._closed = False

    def advance(self, position: int) -> None:
        """The log has reached `position`."""
        with self._moved:
            self.position = max(position, self.position)
            self._moved.notify_all()

    def wait(self, after: int, timeout: float) -> bool:
        """Whether the log reaches beyond `after` within `timeout` seconds."""
        with self._moved:
            self._moved.wait_for(lambda: self._closed or self.position > after, timeout)
            return self.position > after

    def close(self) -> None:
        """Wake everybody; no move will come."""
        with self._moved:
            self._closed = True
            self._moved.notify_all()


class PollingSubscription(ListenNotifySubscription[ApplicationRecorder]):
    """The library's subscription, with a poll as its guarantee.

    The library has none for SQLite, and its own for PostgreSQL can overlook the last event until
    the next one comes, and ends when its LISTEN connection does.
    """

    def _loop_on_pull(self) -> None:
        try:
            while not self._has_been_stopped:
                self._pull()
                self._has_been_notified.wait(POLL)
        except BaseException as error:  # noqa: BLE001  (raised again by the thread that iterates)
            self._thread_error = error
            self.stop()
