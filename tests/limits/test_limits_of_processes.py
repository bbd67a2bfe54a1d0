"""Engines on one PostgreSQL never run more of a queue than its limit, whoever is killed or stopped.

What runs is what the handlers themselves have noted; the log says the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from judging import Judge

from horae import connect, manual
from horae.client import Client
from horae_application.ownership import TTL
from horae_domain.codec import decode
from horae_domain.events import ExecutionSucceeded
from horae_infrastructure.store.postgres import PostgresStore

# What is killed leaves no measurement.
pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.no_cover]

LIMIT = 3
SCHEDULES = 16
EACH = 8
PATIENCE = 240.0
FEWEST = 20
"""Of 64 partitions."""


class Cluster:
    """Processes over the same servers, and what their handlers note."""

    def __init__(self, directory: Path, store_url: str, nats_url: str) -> None:
        self.tenant = f"limits-{uuid.uuid4().hex[:8]}"
        self.ledger = directory / "ledger"
        self.ledger.touch()
        self.nats_url = nats_url
        self._directory = directory
        self._environment = os.environ | {
            "HORAE_STORE_URL": store_url,
            "HORAE_NATS_URL": nats_url,
            "HORAE_REDIS_URL": "memory://",
            "HORAE_TENANT": self.tenant,
            "HORAE_EVENTS": "false",
            "HORAE_ALLOW_UNSAFE_STORE": "true",
            "LEDGER": str(self.ledger),
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    async def begin(self, roles: str) -> subprocess.Popen[bytes]:
        """Start a process and wait until it is ready."""
        number = len(self.processes)
        data = {"HORAE_DATA_DIR": str(self._directory / f"data-{number}")}
        with (self._directory / f"log-{number}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "node.py"), roles],
                env=self._environment | data,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.processes.append(process)
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End it at once, and note when; its handlers are gone with it."""
        process.kill()
        process.wait()
        with self.ledger.open("a") as file:
            file.write(json.dumps({"what": "killed", "pid": process.pid}) + "\n")

    def busy(self) -> subprocess.Popen[bytes]:
        """The process that has begun the latest run: it has room that others wait for."""
        pid = next(line["pid"] for line in reversed(self.lines()) if line["what"] == "start")
        return next(each for each in self.processes if each.pid == pid)

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.ledger.read_text().splitlines()]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@asynccontextmanager
async def cluster(
    directory: Path, store_url: str, nats_url: str
) -> AsyncIterator[tuple[Cluster, Client]]:
    made = Cluster(directory, store_url, nats_url)
    try:
        async with connect(nats_url, tenant=made.tenant) as client:
            yield made, client
    finally:
        made.close()


def most_at_once(lines: list[dict[str, str]]) -> int:
    """How many handlers ran at once at most."""
    running: dict[str, str] = {}
    most = 0
    for line in lines:
        match line["what"]:
            case "start":
                running[line["run"]] = line["pid"]
            case "end":
                running.pop(line["run"], None)
            case _:
                running = {run: pid for run, pid in running.items() if pid != line["pid"]}
        most = max(most, len(running))
    return most


async def load(client: Client) -> None:
    await client.limit_queue("few", concurrency=LIMIT)
    retry = {"max_attempts": 50, "delay": "100ms", "max_delay": "1s"}
    await client.create_schedules(
        {
            "id": f"job-{number}",
            "trigger": manual(),
            "action": {"type": "function", "name": "work"},
            "queue": "few",
            "overlap": "allow",
            "retry": retry,
        }
        for number in range(SCHEDULES)
    )
    for turn in range(EACH):
        await asyncio.gather(
            *(
                client.trigger_schedule(f"job-{number}", key=f"turn-{turn}")
                for number in range(SCHEDULES)
            )
        )


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(what):
            await asyncio.sleep(0.05)


def ended(made: Cluster, count: int) -> Callable[[], bool]:
    return lambda: sum(line["what"] == "end" for line in made.lines()) >= count


def judged(store_url: str) -> int:
    """Read the log, see that it breaks no limit, and count what has succeeded."""
    store = PostgresStore(store_url, allow_unsafe=True)
    try:
        events = [decode(row.name, row.state) for row in store.read(0, 1_000_000)]
    finally:
        store.close()
    Judge().read(events)
    return sum(isinstance(event, ExecutionSucceeded) for event in events)


def shared(store_url: str) -> Callable[[], bool]:
    """Two engines have about as many partitions each."""

    def asked() -> bool:
        with psycopg.connect(store_url) as connection:
            rows = connection.execute(
                "SELECT count(*) FROM horae_partitions WHERE owner IS NOT NULL GROUP BY owner"
            ).fetchall()
        return len(rows) > 1 and min(rows)[0] >= FEWEST

    return asked


async def test_an_engine_that_is_killed_leaves_its_room_to_the_other(
    tmp_path: Path, postgres_url: str, nats_url: str
) -> None:
    async with cluster(tmp_path, postgres_url, nats_url) as (made, client):
        await made.begin("engine,executor")
        await made.begin("engine,executor")
        await until(shared(postgres_url))
        loading = asyncio.create_task(load(client))
        await until(ended(made, SCHEDULES))
        made.kill(made.busy())
        await loading
        await until(ended(made, 2 * SCHEDULES))
        await made.begin("engine,executor")
        await until(lambda: judged(postgres_url) == SCHEDULES * EACH)
        assert most_at_once(made.lines()) == LIMIT
        assert len({line["pid"] for line in made.lines() if line["what"] == "end"}) > 1


async def test_an_engine_that_was_stopped_and_goes_on_breaks_no_limit(
    tmp_path: Path, postgres_url: str, nats_url: str
) -> None:
    async with cluster(tmp_path, postgres_url, nats_url) as (made, client):
        first = await made.begin("engine")
        await made.begin("engine")
        await made.begin("executor")
        await until(shared(postgres_url))
        loading = asyncio.create_task(load(client))
        await until(ended(made, SCHEDULES))
        first.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2 * TTL)
        first.send_signal(signal.SIGCONT)
        await loading
        await until(lambda: judged(postgres_url) == SCHEDULES * EACH)
        assert most_at_once(made.lines()) == LIMIT
