"""A history for the tests of the views, told event by event."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

from horae_application.ports import Batch, NewEvent
from horae_domain.codec import encode, name_of
from horae_domain.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    ExecutionRequested,
    ExecutionSucceeded,
    ScheduleCreated,
)
from horae_infrastructure.store.memory import MemoryStore
from horae_projections.projector import Projector
from horae_projections.queries import Queries

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def execution_id(number: int) -> str:
    return str(uuid.UUID(int=number))


def definition(id_: str, **changes) -> dict:
    return {
        "id": id_,
        "trigger": {"type": "interval", "every": "1m"},
        "action": {"type": "function", "name": "build"},
    } | changes


def created(id_: str = "a", *, when: datetime = NOW, tenant="default", actor=None, **changes):
    next_due = changes.pop("next_due", when + timedelta(minutes=1))
    return ScheduleCreated(
        at=when,
        tenant=tenant,
        schedule_id=id_,
        actor=actor,
        definition=definition(id_, **changes),
        anchor=when,
        next_due=next_due,
    )


def requested(number: int = 1, id_: str = "a", *, when: datetime | None = None, **changes):
    when = when or at(60 * number)
    told = {
        "kind": "interval",
        "due": when,
        "nominal": when.isoformat(),
        "revision": 1,
        "next_due": when + timedelta(minutes=1),
    }
    return ExecutionRequested(
        at=when, schedule_id=id_, execution_id=execution_id(number), **(told | changes)
    )


def started(number: int = 1, attempt: int = 1, id_: str = "a", *, seconds: float = 61, **changes):
    told = {"worker": "w1", "deadline": at(seconds + 300)} | changes
    return AttemptStarted(
        at=at(seconds), schedule_id=id_, execution_id=execution_id(number), attempt=attempt, **told
    )


def attempt_failed(number: int = 1, attempt: int = 1, *, seconds: float = 62, **changes):
    told = {
        "outcome": "failed",
        "error": {"type": "ValueError", "message": "no", "stack": "…"},
    } | changes
    return AttemptFailed(
        at=at(seconds),
        schedule_id="a",
        execution_id=execution_id(number),
        attempt=attempt,
        **told,
    )


def succeeded(number: int = 1, attempt: int = 1, id_: str = "a", *, seconds: float = 63, **changes):
    return ExecutionSucceeded(
        at=at(seconds), schedule_id=id_, execution_id=execution_id(number), attempt=attempt,
        **changes,
    )  # fmt: skip


class Desk:
    """A log, a view of it, its projector and the queries."""

    def __init__(self, views, log: MemoryStore | None = None) -> None:
        self.log = log or MemoryStore()
        self.views = views
        self.now = NOW
        self.projector = Projector(self.log, views, idle=0.05)
        self.queries = Queries(
            views,
            self.log,
            probes=lambda _: {"views": self.projector.health},
            progress=self.projector,
            now=lambda: self.now,
        )

    def write(self, *events: Event) -> int:
        """Append events and return the last position."""
        new = [NewEvent(uuid.uuid4(), 1, name_of(each), encode(each)) for each in events]
        return self.log.append(Batch({}, new, [], []))[-1]

    def write_raw(self, name: str, state: bytes) -> None:
        self.log.append(Batch({}, [NewEvent(uuid.uuid4(), 1, name, state)], [], []))

    async def tell(self, *events: Event) -> None:
        """Append events and project them."""
        self.write(*events)
        await self.projector.catch_up()

    async def ask(self, name: str, tenant: str = "default", **body) -> dict:
        """The answer to a query; `from_` stands for `from`."""
        content = {key.rstrip("_"): value for key, value in body.items()}
        answer = await self.queries.answer(tenant, name, json.dumps(content, default=str).encode())
        json.dumps(answer)  # what is answered is JSON
        return answer
