"""How long a round waits for company."""

from __future__ import annotations

import math
from collections.abc import Sequence

from horae_application import messages
from horae_application.dispatch import Dispatch
from horae_application.lines import Lines
from horae_application.ports import Clock
from horae_application.task import Task

LINGER = 0.005
"""Seconds that outcomes may wait for company, where the engine has a thread of its own."""
BUSY = 600
"""Lines due a second from which on instants are taken together, `TICK` seconds apart."""
TICK = 0.004
ENOUGH = 256
"""Outcomes that need no more company."""
_PATIENT = (messages.ReportExecution, messages.HeartbeatExecution)
"""Commands for whose answer nobody waits."""


class Pace:
    """Lets outcomes, and instants that are dense, share a commit.

    Args:
        linger: seconds that outcomes may wait; with none, instants do not wait either.
    """

    def __init__(self, clock: Clock, lines: Lines, dispatch: Dispatch, linger: float) -> None:
        self._clock = clock
        self._lines = lines
        self._dispatch = dispatch
        self._linger = linger
        self._held_since: float | None = None
        self._rate = 0.0
        self._counted_at = 0.0

    def company(self, tasks: Sequence[Task], now: int) -> float:
        """Seconds that outcomes may wait for others, so that a commit carries several.

        Nobody waits for them, unless work waits for their slots, or something else is decided now.
        """
        if not self._linger:
            return 0.0
        wake = self._lines.next_wake()
        alone = all(isinstance(task.command, _PATIENT) for task in tasks)
        if not tasks or not alone or self._dispatch.waiting or (wake is not None and wake <= now):
            self._held_since = None
            return 0.0
        moment = self._clock.monotonic()
        self._held_since = self._held_since or moment
        rest = self._held_since + self._linger - moment
        if rest <= 0 or len(tasks) >= ENOUGH:
            self._held_since = None
            return 0.0
        return rest if wake is None else min(rest, (wake - now) / 1_000_000)

    def count(self, due: int) -> None:
        """Follow how many lines come due a second, over about a quarter of one."""
        moment = self._clock.monotonic()
        self._rate *= math.exp(-4 * max(0.0, moment - self._counted_at))
        self._rate += 4 * due
        self._counted_at = moment

    def until(self, seconds: float) -> float:
        """Seconds until the next round, which has something to do in so many."""
        return max(seconds, TICK) if self._linger and self._rate > BUSY else seconds
