"""External events and outcomes between owners: what one records, another decides on, once (T5, T11)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from stepping import WORK, Clock, Stepped

from horae_application.ports import EventStore
from horae_domain.events import ExecutionCancelled, ExecutionRequested
from horae_domain.identity import partition_of
from horae_domain.instants import from_micros

pytestmark = pytest.mark.postgres

TRADES = {"type": "event", "event": "trade.*"}
ENDS = {"event": "ticket.resolved", "match": {"ticket": "trigger.data.ticket"}}


class Pair:
    """Two engines over one database, which share the partitions."""

    def __init__(self, stores: list[EventStore], clock: Clock) -> None:
        self.stores = stores
        self.clock = clock
        self.engines = [
            Stepped(store, clock, name=name) for store, name in zip(stores, "ab", strict=True)
        ]

    def share(self, *engines: Stepped) -> None:
        """Let these engines share all partitions."""
        sharing = engines or tuple(self.engines)
        deadline = time.monotonic() + 100
        while sum(len(each.engine.ownership.epochs) for each in sharing) < 64 or any(
            len(each.engine.ownership.epochs) != 64 // len(sharing) for each in sharing
        ):
            assert time.monotonic() < deadline
            for each in sharing:
                each.engine.ownership.next_tick = 0.0
                each.settle()

    def settle(self) -> None:
        """Let both hear of what the other has done."""
        for _ in range(2):
            for each in self.engines:
                each.engine.hear()
                each.settle()

    def id_of(self, owner: int, pattern: str = "job-{}") -> str:
        """An id whose partition an engine owns."""
        epochs = self.engines[owner].engine.ownership.epochs
        return next(
            name
            for name in (pattern.format(index) for index in range(10_000))
            if partition_of("default", name) in epochs
        )

    def create(self, owner: int, pattern: str = "job-{}", **told: Any) -> str:
        id_ = self.id_of(owner, pattern)
        assert self.engines[owner].create(id_, **told).ok
        return id_

    def publish(self, by: int, id_: str = "e-1", type_: str = "trade.done", **told: Any) -> Any:
        return self.engines[by].ask("event.publish", {"type": type_, "id": id_} | told)

    def fired(self) -> list[str]:
        return [each.schedule_id for each in self.engines[0].events(ExecutionRequested)]


@pytest.fixture
def pair(postgres_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    from horae_infrastructure.store.postgres import PostgresStore

    stores: list[EventStore] = [PostgresStore(postgres_url), PostgresStore(postgres_url)]
    clock.time = from_micros(stores[0].now())
    monkeypatch.setattr(PostgresStore, "now", lambda _: clock.micros())
    made = Pair(stores, clock)
    made.share()
    yield made
    for each in stores:
        each.close()


def test_every_owner_decides_on_an_event_once(pair: Pair):
    ids = [pair.create(0, trigger=TRADES), pair.create(1, trigger=TRADES)]
    assert pair.publish(0).body["recorded"]
    assert pair.fired() == [ids[0]]
    pair.settle()
    assert sorted(pair.fired()) == sorted(ids)
    assert pair.publish(1).body["duplicate"]
    pair.settle()
    assert len(pair.fired()) == 2


def test_event_before_the_creation_is_none_of_the_schedules(pair: Pair):
    pair.create(0, trigger=TRADES)
    pair.publish(0)
    late = pair.create(1, trigger=TRADES)
    edited = pair.create(1, "edited-{}", trigger={"type": "manual"})
    changed = {"id": edited, "trigger": TRADES, "action": WORK}
    assert pair.engines[1].ask("schedule.update", changed).ok
    pair.settle()
    assert late not in pair.fired()
    assert edited not in pair.fired()
    pair.publish(0, "e-2")
    pair.settle()
    assert {late, edited} <= set(pair.fired())


def test_event_ends_an_execution_of_another_owner(pair: Pair):
    opened = {"type": "event", "event": "ticket.opened", "delay": "1 hour"}
    pair.create(1, trigger=opened, cancel_on=ENDS)
    pair.publish(0, "o-1", "ticket.opened", data={"ticket": 1})
    pair.publish(0, "r-1", "ticket.resolved", data={"ticket": 1})
    pair.settle()
    assert pair.engines[0].events(ExecutionCancelled) == []
    pair.publish(0, "r-2", "ticket.resolved", data={"ticket": 1})
    pair.settle()
    [cancelled] = pair.engines[0].events(ExecutionCancelled)
    assert cancelled.event_id == "r-2"


def test_owner_that_takes_over_decides_on_what_the_former_one_had_not_heard(pair: Pair):
    first, second = pair.engines
    near = pair.create(0, trigger=TRADES)
    far = pair.create(1, trigger=TRADES)
    pair.publish(0)
    assert pair.fired() == [near]
    second.engine._close()  # it ends without having heard
    pair.share(first)
    assert sorted(pair.fired()) == sorted([near, far])
    first.engine.hear()
    first.settle()
    assert len(pair.fired()) == 2


def test_owner_that_takes_over_does_not_decide_again(pair: Pair):
    first, second = pair.engines
    pair.create(0, trigger=TRADES)
    pair.create(1, trigger=TRADES)
    pair.publish(1)
    pair.settle()
    assert len(pair.fired()) == 2
    second.engine._close()
    pair.share(first)
    first.engine.hear()
    first.settle()
    assert len(pair.fired()) == 2


def test_outcome_triggers_in_the_partition_of_another_owner(pair: Pair):
    first, _ = pair.engines
    upstream = pair.create(0, trigger={"type": "manual"})
    after = {"type": "outcome", "schedule": upstream}
    near = pair.create(0, "near-{}", trigger=after)
    far = pair.create(1, "far-{}", trigger=after)
    first.trigger(upstream)
    first.report(first.executor.started[0], result=5)
    pair.settle()
    pair.settle()
    assert sorted(pair.fired()) == sorted([upstream, near, far])
    [work] = pair.engines[1].executor.started
    assert (work.payload, work.trigger["depth"]) == (5, 1)
