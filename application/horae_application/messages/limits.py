"""Commands about queues and tenants: what limits them, and who waits."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from horae_application.messages.base import Command
from horae_domain.fields import Duration, Identifier, Model
from horae_domain.identity import limits_stream
from horae_domain.limits import MAX_RATE, Rate, checked_rate, parse_rate
from horae_domain.wire import Note


class RateLimit(Model):
    """At most `count` attempts begin within any `per`."""

    count: Annotated[int, Field(ge=1, le=MAX_RATE)]
    per: Duration


Concurrency = Annotated[int, Field(ge=1, le=100_000)]


class LimitCommand(Command):
    """Fields that are left out stay as they are, null lifts a limit."""

    concurrency: Concurrency | None = None
    rate: RateLimit | str | None = None

    @field_validator("rate")
    @classmethod
    def _readable(cls, value: RateLimit | str | None) -> RateLimit | str | None:
        if value is not None:
            _rate_of(value)
        return value

    @property
    def changes(self) -> dict[str, Any]:
        """The limits that were given, by name."""
        told = {name: getattr(self, name) for name in self.model_fields_set & LIMITS}
        if told.get("rate") is not None:
            told["rate"] = _rate_of(told["rate"])
        return told


def _rate_of(value: RateLimit | str) -> Rate:
    if isinstance(value, RateLimit):
        return checked_rate(Rate(value.count, value.per), field="rate")
    return parse_rate(value, field="rate")


LIMITS = frozenset({"concurrency", "rate", "weight"})


class QueueCommand(Command):
    """About one queue."""

    queue: Identifier

    def limited(self, tenant: str) -> str:
        """The stream of the queue."""
        return limits_stream(tenant, self.queue)


class LimitQueue(LimitCommand, QueueCommand):
    """`queue.limit`: how many of a queue run at once, and how many attempts begin in a while."""

    name = "queue.limit"


class PauseQueue(QueueCommand):
    """`queue.pause`: let nothing of a queue begin; what runs goes on."""

    name = "queue.pause"
    note: Note = ""


class ResumeQueue(QueueCommand):
    """`queue.resume`: let what waits begin."""

    name = "queue.resume"
    note: Note = ""


class LimitTenant(LimitCommand):
    """`tenant.limit`: the same for all that a tenant runs, and its `weight` beside other tenants."""

    name = "tenant.limit"
    weight: Annotated[int, Field(ge=1, le=100)] = 1

    def limited(self, tenant: str) -> str:
        """The stream of the tenant's limits."""
        return limits_stream(tenant, None)
