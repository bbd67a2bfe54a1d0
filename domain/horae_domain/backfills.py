"""Backfills that go on: occurrences of a past window, run by and by (G11)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from horae_domain.events import (
    ExecutionRequested,
    OccurrencesDecided,
    ScheduleBackfillCompleted,
    ScheduleBackfillStarted,
)


class Order(StrEnum):
    """What an occurrence of a backfill does while others are unfinished."""

    BUFFER_ALL = "buffer_all"
    ALLOW = "allow"
    SKIP = "skip"


class Backfill(msgspec.Struct, frozen=True, array_like=True):
    """How far a backfill has come."""

    cursor: datetime
    """Every occurrence of the window up to it is decided."""
    last: datetime
    order: Order
    count: int
    revision: int
    anchor: datetime
    decided: int = 0

    @property
    def left(self) -> int:
        """How many have no decision yet."""
        return self.count - self.decided


Backfills = Mapping[str, Backfill]

Moves = (
    ScheduleBackfillStarted | ScheduleBackfillCompleted | ExecutionRequested | OccurrencesDecided
)


def followed(backfills: Backfills, event: Moves) -> dict[str, Backfill]:
    """The backfills after an event of one of them."""
    id_ = event.backfill_id or ""
    match event:
        case ScheduleBackfillStarted():
            begun = Backfill(
                event.start, event.last, Order(event.overlap), event.count, event.revision,
                event.anchor,
            )  # fmt: skip
            return {**backfills, id_: begun}
        case ScheduleBackfillCompleted():
            return {name: each for name, each in backfills.items() if name != id_}
        case ExecutionRequested():
            return _moved(backfills, id_, event.due, 1)
        case _:
            return _moved(backfills, id_, event.last, event.count or 0)


def _moved(backfills: Backfills, id_: str, cursor: datetime, count: int) -> dict[str, Backfill]:
    found = backfills[id_]
    moved = msgspec.structs.replace(found, cursor=cursor, decided=found.decided + count)
    return {**backfills, id_: moved}
