"""How much of the machine an executor may use before it takes no new work (G12)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

WINDOW = 10.0
"""Seconds over which processor time is averaged."""
EVERY = 1.0
"""Seconds between looks."""


class Usage(Protocol):
    """What this process uses; an adapter stands in the infrastructure."""

    def memory(self) -> int:
        """Resident bytes."""
        ...

    def cpu(self) -> float:
        """Seconds of processor time so far, over all threads."""
        ...


class Bounds:
    """Compares what the process uses with what it may use.

    Args:
        usage: what it uses.
        max_memory: resident bytes; None is without bound.
        max_cpu: percent of one core, averaged over `window` seconds; None is without bound.
        window: seconds.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        usage: Usage,
        *,
        max_memory: int | None = None,
        max_cpu: float | None = None,
        window: float = WINDOW,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._usage = usage
        self._max_memory = max_memory
        self._max_cpu = max_cpu
        self._window = window
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque()

    def set(self, *, max_memory: int | None, max_cpu: float | None) -> None:
        """Compare with these from now on."""
        self._max_memory, self._max_cpu = max_memory, max_cpu

    @property
    def any(self) -> bool:
        """True if there is one."""
        return self._max_memory is not None or self._max_cpu is not None

    def look(self) -> str | None:
        """Why no new work should be taken, None if there is room."""
        over = [each for each in (self._over_memory(), self._over_cpu()) if each is not None]
        return "; ".join(over) or None

    def _over_memory(self) -> str | None:
        if self._max_memory is None:
            return None
        used = self._usage.memory()
        if used <= self._max_memory:
            return None
        return f"memory: {_mebibytes(used)} used, {_mebibytes(self._max_memory)} allowed"

    def _over_cpu(self) -> str | None:
        if self._max_cpu is None:
            return None
        now = self._clock()
        self._samples.append((now, self._usage.cpu()))
        while len(self._samples) > 2 and self._samples[1][0] <= now - self._window:  # noqa: PLR2004
            self._samples.popleft()
        (since, before), (_, after) = self._samples[0], self._samples[-1]
        if now - since < self._window:
            return None  # a short burst says nothing
        percent = 100 * (after - before) / (now - since)
        if percent <= self._max_cpu:
            return None
        return f"cpu: {percent:.0f} % of a core used, {self._max_cpu:g} % allowed"


def _mebibytes(count: int) -> str:
    return f"{count / 1024**2:.0f} MiB"
