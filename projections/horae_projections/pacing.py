"""How fast a projector goes on: not at the cost of the commits, unless somebody waits for the view."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

PACE = 0.02
"""Seconds between the beginnings of two stretches: a look at the log and a round trip to the view's
server for each commit would cost more than the commits."""
SHARE = 3.0
"""How much longer than a burst took the next one waits while the engine of this process is behind."""
LONGEST = 0.2
"""Seconds that it waits at most for that."""


class Pacing:
    """Rests between the parts of a projector's work; whoever waits for the view ends them.

    Args:
        behind: true while the engine of this process has not begun what is due.
    """

    def __init__(self, behind: Callable[[], bool]) -> None:
        self._behind = behind
        self._began = 0.0
        self._awaited = 0
        self._urgent = asyncio.Event()

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Somebody waits for the view."""
        self._awaited += 1
        self._urgent.set()
        try:
            yield
        finally:
            self._awaited -= 1

    async def gather(self) -> None:
        """Let what follows closely come together."""
        loop = asyncio.get_running_loop()
        await self._rest(self._began + PACE - loop.time())
        self._began = loop.time()

    async def give_way(self, since: float) -> None:
        """Leave the processor to an engine that is behind, after a burst begun at a time of the loop."""
        if self._behind():
            spent = asyncio.get_running_loop().time() - since
            await self._rest(min(SHARE * spent, LONGEST))

    async def _rest(self, seconds: float) -> None:
        self._urgent.clear()
        if seconds > 0 and not self._awaited:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._urgent.wait()
