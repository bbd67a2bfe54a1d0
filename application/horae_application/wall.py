"""The time by which an owner decides: the wall clock, while it can be believed (R4).

A wall clock that moves more than `TOLERANCE` against the monotonic one has been set, or the machine
was asleep. The store's clock says whether it is right now: if so, time goes on from there; if not,
nothing fires until they agree. A store of this process alone has the same clock, and agrees at once.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from horae_application.log import get_logger
from horae_application.ports import Clock, EventStore
from horae_domain.instants import from_micros

TOLERANCE = timedelta(seconds=2)
"""How far the wall clock may be from the monotonic one and from the store's."""
RECHECK = 1.0
"""Seconds between looks at the store's clock while it is not agreed with."""
CHECK = 30.0
"""The same while it is."""

_log = get_logger("horae.wall")


class Wall:
    """One owner's time.

    Attributes:
        held: True while the clock is not believed.
    """

    def __init__(self, clock: Clock, store: EventStore) -> None:
        self._clock = clock
        self._store = store
        self._believed: datetime | None = None
        self._since = 0.0
        self._next_check = 0.0
        self._last = from_micros(0)
        self.held = False

    def look(self) -> tuple[datetime, timedelta]:
        """The time to decide by, and by how much the clock was set since it was last believed.

        The time goes back only with a clock that was set back and is right now: else it would
        stand still for as long, and timeouts with it.

        Raises:
            StoreError: the store was asked and did not say.
        """
        wall, moment = self._clock.now(), self._clock.monotonic()
        if self._believed is None:
            expected = wall
        else:
            expected = self._believed + timedelta(seconds=moment - self._since)
        moved = wall - expected
        strange = self.held or abs(moved) > TOLERANCE
        if moment >= self._next_check or (strange and not self.held):
            right = self._right(moment)
            self.held, strange = not right, not right
            self._next_check = moment + (CHECK if right else RECHECK)
        if strange:
            self._last = max(self._last, expected)
            return self._last, timedelta()
        return self._believe(wall, moment, moved)

    def _believe(
        self, wall: datetime, moment: float, moved: timedelta
    ) -> tuple[datetime, timedelta]:
        self._believed, self._since = wall, moment
        if abs(moved) <= TOLERANCE:
            self._last = max(self._last, wall)
            return self._last, timedelta()
        _log.warning("the clock was set", seconds=moved.total_seconds())
        self._last = wall
        return wall, moved

    def _right(self, moment: float) -> bool:
        """True if the wall clock agrees with the store's."""
        if self._store.single_process:
            return True
        before = self._clock.now()
        stored = from_micros(self._store.now())
        after = self._clock.now()
        right = before - TOLERANCE <= stored <= after + TOLERANCE
        if not right:
            if self._believed is None:
                self._believed, self._since = stored, moment
            if not self.held:
                _log.error("held: the clock is wrong", clock=str(after), store=str(stored))
        return right
