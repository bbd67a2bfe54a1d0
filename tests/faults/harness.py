"""Drives one run: load, faults in turn, healing, draining, and the end."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.cluster import Cluster
from tests.faults.journal import Journal
from tests.faults.load import Client, Load, end_all, standing

IN_FLIGHT = 100
"""Handlers that run when something is killed."""
MOST, CALM = 2, 8.0
"""With over so many times as many, the next fault waits for some seconds: handlers that are killed
again and again would never end, and the backlog would only grow."""


class InFlight:
    """Follows the ledger: which handlers have begun and neither ended nor lost their process."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._offset = 0
        self._open: dict[str, int] = {}

    def count(self, dead: set[int]) -> int:
        """How many run now, those of dead processes left out."""
        if self._ledger.exists():
            with self._ledger.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._offset += len(line)
                    self._take(json.loads(line))
        self._open = {nonce: pid for nonce, pid in self._open.items() if pid not in dead}
        return len(self._open)

    def _take(self, note: dict) -> None:
        if note["what"] == "start":
            self._open[note["nonce"]] = note["pid"]
        else:
            self._open.pop(note["nonce"], None)


class Run:
    """One run with its seed.

    Args:
        cluster: the processes.
        seed: of all choices.
        in_flight: handlers that must run before a fault.
        slow: schedules that keep that many running; each has four to five at once.
    """

    def __init__(
        self, cluster: Cluster, seed: int, *, in_flight: int = IN_FLIGHT, slow: int = 32
    ) -> None:
        self.cluster = cluster
        self.seed = seed
        self.rng = random.Random(seed)
        self._wanted = in_flight
        self._slow = slow
        self._faults = Journal(cluster.folder / "faults.log")
        self.client = Client(Journal(cluster.intents))
        self._watch = InFlight(cluster.ledger)
        self.load = Load(self.client, self.rng)
        self.say: Callable[[str], None] = lambda _: None

    def fault(self, what: str, **fields) -> None:
        """Note what was done to the system."""
        self._faults.note(what=what, **fields)

    def measured(self, name: str, value: object) -> None:
        """Note a figure for the report."""
        self._faults.note(what="measured", name=name, value=value)

    def failed(self, text: str) -> None:
        """Note a promise that the scenario itself saw broken."""
        self._faults.note(what="failed", text=text)
        self.say(f"FAILED {text}")

    async def begin(self) -> None:
        """Start everything and put it under load."""
        await asyncio.to_thread(self.cluster.start)
        await self.client.connect(self.cluster.nats.url)
        self._faults.note(what="begin", seed=self.seed)
        await self.load.start(self._slow)

    def running(self) -> int:
        """Handlers that run now."""
        dead = {
            pid
            for each in self.cluster.processes.values()
            for pid in (each.pids if not each.alive else each.pids[:-1])
        }
        return self._watch.count(dead)

    async def busy(self, patience: float = 300) -> int:
        """Wait until enough handlers run, and for a while until what former faults left is done."""
        began = time.monotonic()
        while not self._wanted <= (running := self.running()) <= MOST * self._wanted:
            waited = time.monotonic() - began
            if running > self._wanted and waited > CALM:
                break
            if waited > patience:
                raise RuntimeError(f"only {running} handlers run, {self._wanted} were asked for")
            await asyncio.sleep(0.05)
        return running

    async def kill(self, target: str, *, wipe: bool = False) -> None:
        """Kill one process at a moment by the seed, and bring it back; with `wipe` without its data."""
        await self.busy()
        await asyncio.sleep(self.rng.uniform(0, 1.1))
        while (running := self.running()) < self._wanted:
            await asyncio.sleep(0.02)
        victim = self.cluster.servers.get(target) or self.cluster.processes[target]
        pid = victim.pid
        await asyncio.to_thread(victim.kill)
        self._faults.note(what="kill", target=target, victim=pid, in_flight=running, wipe=wipe)
        if wipe and target == "nats":
            wiped = self.cluster.folder / "nats" / "jetstream"
            wiped.rename(self.cluster.folder / f"wiped-{time.time_ns()}")
        await asyncio.sleep(self.rng.uniform(0, 0.8))
        await asyncio.to_thread(victim.start)
        self._faults.note(what="back", target=target)
        self.say(f"killed {target} ({running} in flight)")
        if self.rng.random() < 0.25:
            await asyncio.sleep(self.rng.uniform(1, 3))

    async def end(self, settle: float = 300) -> None:
        """Heal, let every command and execution come to its end, and stop all in order."""
        await self.load.stop()
        await asyncio.sleep(2)
        ids = [each["id"] for each in standing(self._slow)]
        some = [id_ for id_ in ids if id_.startswith(("slow-", "queued-", "three-"))]
        await end_all(self.client, some)
        frontier = time.time()
        self._faults.note(what="frontier")
        await asyncio.sleep(3)
        deadline = time.monotonic() + settle
        while time.monotonic() < deadline and self.unfinished(frontier):
            await asyncio.sleep(0.5)
        self._faults.note(what="drained", unfinished=self.unfinished(frontier))
        await end_all(self.client, [id_ for id_ in ids if id_ not in some])
        await self._compare_views()
        await self.client.close()
        codes = await asyncio.to_thread(self.cluster.stop)
        self._faults.note(what="stopped", codes=codes)

    async def _compare_views(self, patience: float = 120) -> None:
        """The read models that survived or were rebuilt have as many rows as the store."""
        deadline = time.monotonic() + patience
        while True:
            stored = {
                "execution.list": self._count(
                    "SELECT count(*) FROM horae_events WHERE topic IN"
                    " ('execution.requested.v1', 'execution.buffered.v1', 'execution.skipped.v1',"
                    " 'execution.held.v1')"
                ),
                "schedule.list": self._count(
                    "SELECT count(DISTINCT originator_id) FROM horae_events"
                    " WHERE topic = 'schedule.created.v1'"
                ),
            }
            shown = {name: await self.client.total(name) for name in stored}
            if shown == stored:
                self.measured("rows of the views, as in the store", shown)
                return
            if time.monotonic() > deadline:
                self.failed(f"the views have {shown}, the store {stored}")
                return
            await asyncio.sleep(0.5)

    def unfinished(self, before: float) -> int:
        """Executions decided before an instant that have no end yet, by the store itself."""
        return self._count(
            "SELECT count(DISTINCT originator_id) FROM horae_events AS first WHERE topic IN"
            " ('execution.requested.v1', 'execution.buffered.v1', 'execution.held.v1')"
            f" AND recorded_at < {int(before * 1e6)} AND NOT EXISTS"
            " (SELECT 1 FROM horae_events AS later WHERE later.originator_id ="
            " first.originator_id AND later.topic IN ('execution.succeeded.v1',"
            " 'execution.failed.v1', 'execution.timed_out.v1', 'execution.cancelled.v1',"
            " 'execution.dropped.v1', 'execution.dead_lettered.v1'))"
        )

    def _count(self, sql: str) -> int:
        if self.cluster.postgres is None:
            uri = f"file:{self.cluster.folder}/horae.db?mode=ro"
            with sqlite3.connect(uri, uri=True) as connection:
                return connection.execute(sql).fetchone()[0]
        import psycopg

        with psycopg.connect(self.cluster.store_url) as connection:
            return connection.execute(sql).fetchone()[0]
