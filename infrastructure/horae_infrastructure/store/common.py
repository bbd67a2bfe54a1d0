"""What the adapters of the event store share."""

from __future__ import annotations

import time

from horae_application.ports import Setting
from horae_domain.identity import NOWHERE
from horae_infrastructure.store.errors import StoreFormat

FORMAT = 1
"""Level of the tables; a store of a higher one is refused."""

LOST_KEPT = 86_400_000_000
"""Microseconds for which a store remembers whom it took a partition from."""

FIRST = (-(2**63), NOWHERE)
"""A key of (due, stream) before all others."""


def limits_something(setting: Setting) -> bool:
    """True if a setting is more than that of something never limited."""
    limited = setting.concurrency is not None or setting.rate is not None
    return limited or setting.paused or setting.weight != 1


def system_clock() -> int:
    """Microseconds since the epoch on this machine's clock."""
    return time.time_ns() // 1000


def check_level(level: int, found: int, partitions: int) -> None:
    """Compare a store's format level and number of partitions with this process's.

    Raises:
        StoreFormat: a newer Horae wrote it, or it has another number of partitions.
    """
    if level > FORMAT:
        raise StoreFormat("format", level, FORMAT)
    if found != partitions:
        raise StoreFormat("partitions", found, partitions)
