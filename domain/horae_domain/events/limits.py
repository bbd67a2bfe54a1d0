"""Events of queues and tenants."""

from __future__ import annotations

from horae_domain.events.base import Event


class LimitEvent(Event, frozen=True, kw_only=True):
    """Of a queue or a tenant: it is about no schedule."""

    schedule_id: str = ""


class QueueLimited(LimitEvent, frozen=True, kw_only=True):
    """From here on so many executions of a queue run at once, and so many attempts begin in a while.

    All limits are said; none is no limit.
    """

    queue: str
    concurrency: int | None = None
    rate: int | None = None
    per: float | None = None
    """Seconds in which at most `rate` attempts begin."""


class QueuePaused(LimitEvent, frozen=True, kw_only=True):
    """Nothing of a queue begins until it is resumed; what runs goes on."""

    queue: str
    note: str = ""


class QueueResumed(LimitEvent, frozen=True, kw_only=True):
    """What waits in a queue begins again."""

    queue: str
    note: str = ""


class TenantLimited(LimitEvent, frozen=True, kw_only=True):
    """The same limits for all executions of a tenant, and its weight beside other tenants."""

    concurrency: int | None = None
    rate: int | None = None
    per: float | None = None
    weight: int = 1
