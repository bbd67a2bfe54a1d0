"""Measure the views in Valkey: rebuild speed, memory of a schedule, latency of lists.

python benchmarks/views.py rebuild [EVENTS]     requirement P8: 20,000 events/s
python benchmarks/views.py memory [ROWS]        requirement P1: 400 and 900 bytes
python benchmarks/views.py lists [SCHEDULES]    requirement P2: p99 20 ms of 100,000
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import NamedTuple

import redis

from horae_domain.codec import encode, name_of
from horae_domain.events import Event, ExecutionRequested, ExecutionSucceeded, ScheduleCreated
from horae_infrastructure.embedded import Valkey
from horae_infrastructure.views import open_views
from horae_projections.projector import Projector
from horae_projections.queries import Queries

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Row(NamedTuple):
    position: int
    name: str
    state: bytes


class Log:
    """A log that is a list."""

    identity = "3f9a2b1c"

    def __init__(self, events: Iterator[Event]) -> None:
        self.rows = [Row(n, name_of(event), encode(event)) for n, event in enumerate(events, 1)]

    def read(self, after: int, limit: int) -> Sequence[Row]:
        return self.rows[after : after + limit]

    def head(self) -> int:
        return len(self.rows)

    def wait(self, after: int, timeout: float) -> bool:  # noqa: ARG002
        return False


def created(id_: str, **definition: object) -> ScheduleCreated:
    actor = definition.pop("actor", None)
    when = definition.pop("when", NOW)
    return ScheduleCreated(
        at=when, schedule_id=id_, anchor=when, next_due=when + timedelta(hours=1), actor=actor,
        definition={
            "id": id_,
            "trigger": {"type": "interval", "every": "1m"},
            "action": {"type": "function", "name": "build_report"},
        } | definition,
    )  # fmt: skip


def firings(count: int, schedules: int = 1000) -> Iterator[Event]:
    """Plain successes of recurring schedules: two events each."""
    for number in range(schedules):
        yield created(f"schedule-{number:05}", tags=["reports"])
    for number in range((count - schedules) // 2):
        id_ = f"schedule-{number % schedules:05}"
        due = NOW + timedelta(seconds=60 * (number // schedules))
        about = {"schedule_id": id_, "execution_id": str(uuid.uuid4())}
        yield ExecutionRequested(
            at=due, kind="interval", due=due, nominal=due.isoformat(), revision=1, worker="w-1",
            run_number=number, deadline=due + timedelta(minutes=5),
            next_due=due + timedelta(minutes=1), **about,
        )  # fmt: skip
        yield ExecutionSucceeded(
            at=due + timedelta(milliseconds=3),
            attempt=1,
            started_at=due,
            result={"rows": 3},
            **about,
        )


async def rebuild(url: str, count: int) -> None:
    log = Log(firings(count))
    gc.freeze()  # a log is not in the projector's memory
    views = open_views(url)
    begun = perf_counter()
    await Projector(log, views).catch_up()
    took = perf_counter() - begun
    print(f"rebuild: {len(log.rows)} events in {took:.2f} s: {len(log.rows) / took:,.0f} events/s")
    await views.close()


def used(client: redis.Redis) -> int:
    return client.info("memory")["used_memory"]


async def memory(url: str, count: int) -> None:
    kinds = {
        "waiting one-time": lambda n: created(
            f"reminder-{n:06}",
            trigger={"type": "once", "at": "2026-12-01T09:00:00Z"},
            payload={"order": f"o-{n}"},
            when=NOW + timedelta(microseconds=n),
        ),
        "waiting one-time, uuid, creator": lambda n: created(
            str(uuid.UUID(int=n * 7919)),
            trigger={"type": "once", "at": "2026-12-01T09:00:00Z"},
            payload={"order": f"o-{n}"},
            actor="desk",
            when=NOW + timedelta(microseconds=n),
        ),
        "recurring, all orders": lambda n: created(
            f"nightly-report-{n:06}",
            name=f"Nightly report {n:06}",
            tags=["reports", "nightly"],
            trigger={"type": "cron", "expression": "0 2 * * *", "timezone": "Europe/Berlin"},
            payload={"day": "yesterday"},
            catch_up={"mode": "all"},
            priority="high",
            actor="ann",
            when=NOW + timedelta(microseconds=n),
        ),
    }
    with redis.Redis.from_url(url) as client:
        for kind, make in kinds.items():
            client.flushall()
            before = used(client)
            views = open_views(url)
            await Projector(Log(make(n) for n in range(count)), views).catch_up()
            print(f"memory: {(used(client) - before) / count:.0f} bytes for a {kind}")
            for key in sorted(client.keys("*:[ors]s:*")):
                size = client.memory_usage(key, samples=0)
                print(f"    {size / count:6.1f}  {key.decode().split('}:')[1]}")
            await views.close()


async def lists(url: str, count: int) -> None:
    chance = random.Random(1)
    types = [{"type": "cron", "expression": "0 2 * * *"}, {"type": "interval", "every": "1m"},
             {"type": "once", "at": "2026-12-01T09:00:00Z"}, {"type": "manual"}]  # fmt: skip

    def events() -> Iterator[Event]:
        for n in range(count):
            when = NOW + timedelta(seconds=n)
            yield created(
                f"schedule-{n:06}", when=when, name=f"{chance.choice(['Report', 'Sync', 'Mail'])} {n}",
                trigger=types[n % 4], tags=[f"team-{n % 20}", f"rare-{n % 5000}"],
                priority=["low", "medium", "high", "critical"][n % 4], actor=f"user-{n % 100}",
                action={"type": "function", "name": f"handler-{n % 50}"},
            )  # fmt: skip

    views = open_views(url)
    log = Log(events())
    projector = Projector(log, views)
    begun = perf_counter()
    await projector.catch_up()
    print(f"{count} schedules in {perf_counter() - begun:.1f} s")
    queries = Queries(views, log, progress=projector)
    half = (NOW + timedelta(seconds=count // 2)).isoformat()
    near = (NOW + timedelta(seconds=count // 2 + 2000)).isoformat()
    asked = {
        "all": {},
        "newest": {"order": "desc"},
        "by name": {"sort": "name"},
        "by next run": {"sort": "next_run"},
        "by priority": {"sort": "priority"},
        "type": {"type": "cron"},
        "status": {"status": "active"},
        "handler": {"handler": "handler-7"},
        "creator by name": {"created_by": "user-7", "sort": "name"},
        "tag (5 %)": {"tags": ["team-3"]},
        "tag (5 %) by name": {"tags": ["team-3"], "sort": "name"},
        "rare tag": {"tags": ["rare-3"]},
        "any of tags": {"tags": ["team-3", "team-4"]},
        "all of tags": {"tags_all": ["team-3", "rare-3"]},
        "name contains": {"name_contains": "report 77"},
        "name contains, many": {"name_contains": "report"},
        "created range": {"created_from": half, "created_to": near},
        "next run range": {"next_from": half, "next_to": near},
        "wide next run range": {"next_from": half},
        "next run range by name": {"next_from": half, "next_to": near, "sort": "name"},
        "tag, type, status": {"tags": ["team-3"], "type": "manual", "status": "active"},
    }
    for name, body in asked.items():
        content = json.dumps(body | {"limit": 50}).encode()
        times = []
        for _ in range(60):
            begun = perf_counter()
            answer = await queries.answer("default", "schedule.list", content)
            times.append((perf_counter() - begun) * 1000)
        times.sort()
        print(
            f"{name:26} total {answer['total']:6}  p50 {times[30]:6.2f} ms  p99 {times[-1]:6.2f} ms"
        )
    for name, body in [("schedule.get", {"id": "schedule-000007", "executions": 10})]:
        times = []
        for _ in range(1000):
            begun = perf_counter()
            await queries.answer("default", name, json.dumps(body).encode())
            times.append((perf_counter() - begun) * 1000)
        times.sort()
        print(f"{name:26} p50 {times[500]:6.2f} ms  p99 {times[990]:6.2f} ms")
    await views.close()


def main(what: str, count: str | None = None) -> None:
    programs = {
        "rebuild": (rebuild, 100_000),
        "memory": (memory, 10_000),
        "lists": (lists, 100_000),
    }
    program, usual = programs[what]
    with Valkey() as server:
        asyncio.run(program(server.url, int(count or usual)))


if __name__ == "__main__":
    main(*sys.argv[1:])
