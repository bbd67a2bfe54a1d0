"""What every benchmark needs: servers, an engine and views in processes of their own, and an honest account.

All processes are counted (engine, views, NATS, Valkey, PostgreSQL; the driver is excluded): CPU seconds
over the measured window and proportional memory at its end.
"""

from __future__ import annotations

import array
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from horae.client import Client
from horae_infrastructure.embedded import Nats, Postgres, Valkey
from horae_infrastructure.nats.client import NatsCaller
from horae_infrastructure.nats.connection import close, connect

NODE = Path(__file__).with_name("node.py")
STORES = ("sqlite", "postgres")


class Failed(Exception):
    """A run or a decision is missing: the figures of such a measurement mean nothing."""


class Bench:
    """One engine with its servers."""

    def __init__(self, store: str, concurrency: int) -> None:
        self.store = store
        self.concurrency = concurrency
        self._stack = ExitStack()
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self.directory.chmod(0o755)
        self.records = self.directory / "records.bin"

    def __enter__(self) -> Bench:
        self.nats = self._stack.enter_context(Nats())
        self.valkey = self._stack.enter_context(Valkey())
        self.postgres = None
        url = f"sqlite:///{self.directory}/bench.db"
        if self.store == "postgres":
            self.postgres = self._stack.enter_context(Postgres())
            url = self.postgres.url
        self.url = url
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._stack.close()

    def start(self) -> float:
        """Start the processes; seconds until both are ready."""
        began = time.perf_counter()
        self.node = self._begin("engine,executor")
        self.views = self._begin("views")
        return time.perf_counter() - began

    def _begin(self, roles: str) -> subprocess.Popen[str]:
        env = os.environ | {
            "HORAE_STORE_URL": self.url,
            "HORAE_NATS_URL": self.nats.url,
            "HORAE_REDIS_URL": self.valkey.url,
            "HORAE_DATA_DIR": str(self.directory),
            "HORAE_CONCURRENCY": str(self.concurrency),
            "HORAE_EVENTS": "false",
            "BENCH_RECORDS": str(self.records),
        }
        node = subprocess.Popen(
            [sys.executable, str(NODE), roles],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            cwd=NODE.parent.parent,
        )
        assert node.stdout is not None
        line = node.stdout.readline()
        if not json.loads(line or "{}").get("ready"):
            raise Failed(f"{roles} did not start: {line!r}")
        return node

    def stop(self) -> None:
        """End the processes."""
        for node in (self.node, self.views):
            node.terminate()
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                raise Failed("a process did not stop within 30 s") from None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A client in the driver's process."""
        nc = await connect(self.nats.url, name="bench")
        try:
            yield Client(NatsCaller(nc))
        finally:
            await close(nc)

    # --- account ----------------------------------------------------------------------------------

    def processes(self) -> dict[str, list[psutil.Process]]:
        """By name, each with its children."""
        roots = {
            "engine": self.node.pid,
            "views": self.views.pid,
            "nats": self.nats.pid,
            "valkey": self.valkey.pid,
        }
        if self.postgres is not None:
            roots["postgres"] = self.postgres.pid
        found = {}
        for name, pid in roots.items():
            process = psutil.Process(pid)
            found[name] = [process, *process.children(recursive=True)]
        return found

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by name."""
        return {
            name: sum(_seconds(each) for each in processes)
            for name, processes in self.processes().items()
        }

    def memory(self) -> dict[str, float]:
        """Proportional memory in MB, by name."""
        return {
            name: round(sum(_pss(each) for each in processes) / 1e6, 1)
            for name, processes in self.processes().items()
        }

    # --- runs -------------------------------------------------------------------------------------

    async def runs(self, expected: int, timeout: float) -> list[tuple[float, float]]:
        """(due, start) of the handlers' runs in seconds, once there are `expected`."""
        deadline = time.monotonic() + timeout
        while True:
            self.node.send_signal(signal.SIGUSR1)
            await asyncio.sleep(0.25)
            numbers = array.array("d")
            if self.records.exists():
                numbers.frombytes(self.records.read_bytes())
            found = list(zip(numbers[0::2], numbers[1::2], strict=True))
            if len(found) >= expected:
                return found
            if time.monotonic() > deadline:
                raise Failed(f"{len(found)} runs of {expected}")

    async def forget_runs(self) -> None:
        """Begin a new record."""
        self.node.send_signal(signal.SIGUSR2)
        await asyncio.sleep(0.1)

    def count_events(self) -> dict[str, int]:
        """Events in the store by name, read without the engine."""
        query = "select {topic}, count(*) from {table} group by 1"
        if self.postgres is None:
            import sqlite3

            with sqlite3.connect(f"file:{self.directory}/bench.db?mode=ro", uri=True) as db:
                rows = db.execute(query.format(topic="topic", table="horae_events")).fetchall()
        else:
            import psycopg

            with psycopg.connect(self.url) as db:
                rows = db.execute(query.format(topic="topic", table="horae_events")).fetchall()
        return dict(rows)

    async def settled(self, name: str, expected: int, timeout: float = 30.0) -> None:
        """Wait until the store has so many events of a name."""
        deadline = time.monotonic() + timeout
        while (found := self.count_events().get(name, 0)) < expected:
            if time.monotonic() > deadline:
                raise Failed(f"{found} events {name} of {expected}")
            await asyncio.sleep(0.2)
        if found > expected:
            raise Failed(f"{found} events {name}, more than {expected}")


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


def _pss(process: psutil.Process) -> float:
    try:
        return process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0


def usage(before: dict[str, float], after: dict[str, float], seconds: float) -> dict[str, float]:
    """Percent of one core, by name."""
    return {name: round(100 * (after[name] - before[name]) / seconds, 2) for name in after}


def percentiles(values: Sequence[float], unit: float = 1000.0) -> dict[str, float]:
    """p50, p90, p99 and max, in milliseconds unless told."""
    ordered = sorted(values)
    return {
        label: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * unit, 3)
        for label, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))
    }


def lateness(runs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Milliseconds from the due instant to the handler's start."""
    return percentiles([start - due for due, start in runs])


def show(name: str, store: str, rows: list[dict[str, Any]], target: str) -> dict[str, Any]:
    """Print a table, and return what goes into the JSON."""
    print(f"\n{name} on {store} (aim: {target})")
    for row in rows:
        print("  " + "  ".join(f"{key}={_text(value)}" for key, value in row.items()))
    return {"benchmark": name, "store": store, "aim": target, "rows": rows}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} {each}" for key, each in value.items()) + "}"
    return str(value)
