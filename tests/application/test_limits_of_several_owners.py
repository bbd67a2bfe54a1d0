"""Limits hold over engines that come, go, sleep and hand partitions over; nothing waits for ever."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from judging import Judge
from stepping import WORK, Clock, Recorder, Stepped, events_of

from horae_application.ownership import TICK, TTL
from horae_application.ports import StoreError
from horae_domain.execution import Status
from horae_infrastructure.store.memory import MemoryStore

QUEUES = ("mail", "print", "free")
STEPS = 120


class Leased(MemoryStore):
    """Several owners share it, as they do a database."""

    single_process = False


class World:
    """Engines over one store; each may be asleep, and one that was killed has others in its place."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = Clock()
        self.store = Leased(clock=self.clock.micros)
        self.engines: list[Stepped] = []
        self.asleep: dict[str, float] = {}
        self.count = 0
        self.read = 0
        self.judge = Judge()
        self.wanted = 0
        self.begin()
        self.begin()

    def begin(self) -> None:
        self.count += 1
        desk = Stepped(self.store, self.clock, name=f"e{self.count}", executor=Recorder(slots=6))
        self.engines.append(desk)

    def awake(self) -> list[Stepped]:
        now = self.clock.seconds
        return [
            each for each in self.engines if self.asleep.get(each.engine.ownership._name, 0) <= now
        ]

    def round(self, desk: Stepped) -> None:
        for _ in range(50):
            try:
                if desk.engine.step() > 0 and desk.engine._inbox.empty():
                    break
            except StoreError:
                continue

    def check(self) -> None:
        """The log breaks no limit, and the store has counted what it says."""
        events = events_of(self.store)
        self.judge.read(events[self.read :])
        self.read = len(events)
        counted = self.store._limits._running
        assert {q: counted[f"default/{q}"] for q in QUEUES} == {
            q: self.judge.running[q] for q in QUEUES
        }
        assert counted["default"] == sum(self.judge.running.values())

    def ask(self, name: str, body: dict[str, Any]) -> bool:
        """A command at whoever owns it, if somebody does."""
        for desk in self.awake():
            replies = desk.send(name, body)
            self.round(desk)
            if replies and replies[0].ok:
                return True
        return False

    def finish(self, desk: Stepped, count: int) -> None:
        for (_, _), work in list(desk.executor.running.items())[:count]:
            body = {"execution_id": work.execution_id, "lease": work.lease, "outcome": "succeeded"}
            desk.executor.running.pop((work.execution_id, work.lease), None)
            desk.send("execution.report", body)
        self.round(desk)

    def act(self) -> None:
        chance = self.random.random()
        queue = self.random.choice(QUEUES[:2])
        if chance < 0.35:
            schedule = f"{self.random.choice(QUEUES)}-{self.random.randrange(6)}"
            self.wanted += self.ask("schedule.trigger", {"id": schedule})
        elif chance < 0.65:
            self.finish(self.random.choice(self.engines), self.random.randint(1, 3))
        elif chance < 0.72:
            limits = self.random.choice(
                [
                    {"concurrency": 1, "rate": None},
                    {"concurrency": 3, "rate": None},
                    {"rate": "2 per 5 seconds"},
                    {"concurrency": None},
                ]
            )
            self.ask("queue.limit", {"queue": queue, **limits})
        elif chance < 0.78:
            self.ask(self.random.choice(["queue.pause", "queue.resume"]), {"queue": queue})
        elif chance < 0.82:
            victim = self.random.choice(self.engines)
            self.asleep[victim.engine.ownership._name] = self.clock.seconds + 2 * TTL
        elif chance < 0.85 and len(self.engines) < 4:
            self.begin()
        elif chance < 0.88 and len(self.engines) > 1:
            self.engines.remove(self.random.choice(self.engines))
        else:
            self.clock.move(self.random.choice([0.06, TICK, 2 * TTL]))
        for desk in self.awake():
            self.round(desk)
        self.check()

    def drain(self) -> None:
        """All limits are small, nothing is paused: everything has its outcome in the end."""
        self.asleep.clear()
        self.settle()
        for queue in QUEUES[:2]:
            assert self.ask("queue.resume", {"queue": queue})
            assert self.ask("queue.limit", {"queue": queue, "concurrency": 1, "rate": None})
        for _ in range(2000):
            self.settle(0.06)
            for desk in self.engines:
                self.finish(desk, 16)
            self.check()
            if not any(run.status.alive for run in self.judge.runs.values()):
                return
        raise AssertionError("something waits for ever")

    def settle(self, seconds: float = TICK) -> None:
        for _ in range(1 if seconds < TICK else 12):
            self.clock.move(seconds)
            for desk in self.engines:
                self.round(desk)


@pytest.mark.parametrize("seed", range(25))
def test_limits_hold_whoever_owns_what(seed: int) -> None:
    world = World(seed)
    world.settle()
    for queue in QUEUES:
        for number in range(6):
            definition = {
                "id": f"{queue}-{number}",
                "trigger": {"type": "manual"},
                "action": WORK,
                "queue": queue,
                "overlap": "allow",
                "retry": {"max_attempts": 20},
            }
            assert world.ask("schedule.create", definition)
    for _ in range(STEPS):
        world.act()
    world.drain()
    done = sum(run.status is Status.SUCCEEDED for run in world.judge.runs.values())
    assert done == len(world.judge.runs) >= world.wanted > 0


def test_one_busy_engine_has_the_whole_limit_while_others_idle() -> None:
    world = World(0)
    world.settle()
    first, second = world.engines
    assert world.ask("queue.limit", {"queue": "mail", "concurrency": 5})
    names = iter(range(10_000))
    while len(first.executor.running) + len(second.executor.running) < 5:
        made = {"id": f"job-{next(names)}", "trigger": {"type": "manual"}, "action": WORK}
        replies = first.send("schedule.create", made | {"queue": "mail"})
        world.round(first)
        if replies[0].ok:  # a schedule in a partition of the first
            world.ask("schedule.trigger", {"id": made["id"]})
    assert len(first.executor.running) == 5


def test_two_busy_engines_share_a_limit_of_one_by_age() -> None:
    world = World(0)
    world.settle()
    first, second = world.engines
    assert world.ask("queue.limit", {"queue": "mail", "concurrency": 1})
    ids: dict[str, str] = {}
    for number in range(40):
        made = {"id": f"job-{number}", "trigger": {"type": "manual"}, "action": WORK}
        assert world.ask("schedule.create", made | {"queue": "mail", "overlap": "allow"})
    for number in range(40):
        world.clock.move(3)
        assert world.ask("schedule.trigger", {"id": f"job-{number}"})
        world.check()
    order: list[str] = []
    for _ in range(400):
        for desk in (first, second):
            order += [work.schedule_id for work in desk.executor.running.values()]
            world.finish(desk, 1)
        world.settle(0.06)
        world.check()
    ids = {work.schedule_id: "first" for work in first.executor.started}
    assert 0 < len(ids) < 40, "both own some"
    assert order == [f"job-{number}" for number in range(40)], "the oldest goes first"
