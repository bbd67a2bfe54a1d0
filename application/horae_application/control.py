"""What whoever runs an attempt can tell its handler, and hear from it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Stopped(Exception):
    """The attempt was asked to stop, and has stopped without a result."""


class Control:
    """Of one attempt; every method may be called from any thread."""

    def __init__(self, beat: Callable[[Any], None] | None = None) -> None:
        self.asked = False
        """True if the attempt should stop."""
        self._lock = threading.Lock()
        self._means: list[Callable[[], object]] = []
        self.beat: Callable[[Any], None] = beat or _nothing
        """Carries a heartbeat with its progress to whoever owns the attempt."""

    def by(self, means: Callable[[], object]) -> None:
        """How the handler can be stopped; done at once if it was asked to already."""
        with self._lock:
            late = self.asked
            if not late:
                self._means.append(means)
        if late:
            means()

    def stop(self) -> None:
        """Ask the handler to stop, once."""
        with self._lock:
            means = [] if self.asked else self._means
            self.asked = True
        for each in means:
            each()

    def fence(self) -> None:
        """Let a thread know that its outcome counts no more; whatever else runs is ended."""
        self.asked = True


def _nothing(progress: Any) -> None:
    """Nobody listens."""
