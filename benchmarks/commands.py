"""C1: what commands that wait cost. An engine embedded in a process of its own, with views in Valkey.

The same file is that process: `python benchmarks/commands.py fill|wait COUNT`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import redis
import structlog
from pydantic import BaseModel

from horae import Context, Horae
from horae.client import Client
from horae_domain.identity import command_id
from horae_infrastructure.embedded import Postgres, Valkey
from horae_infrastructure.settings import Settings

Row = dict[str, Any]
LANES = 512
CANCELS = 1_000
IDLE = 15.0
app = Horae("bench")
fired: asyncio.Queue[float] = asyncio.Queue()


class SendReminder(BaseModel):
    order_id: str


@app.command
async def send_reminder(ctx: Context, command: SendReminder) -> str:
    fired.put_nowait(time.time() - ctx.due.timestamp())
    return command.order_id


# --- the engine's process ------------------------------------------------------------------------


async def fill(client: Client, count: int) -> Row:
    """Schedule commands for the next three years, many at once."""
    base = datetime(2031, 6, 1, tzinfo=UTC)
    numbers = iter(range(count))

    async def lane() -> None:
        for number in numbers:
            order = SendReminder(order_id=f"o-{number}")
            at = base + timedelta(seconds=random.randrange(90_000_000))
            await client.schedule(order, at, idempotency_key=f"reminder:{number}")

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(LANES)))
    seconds = time.perf_counter() - began
    while True:  # until the views have them
        listed = await client.list_schedules(type="command", status="active", limit=1)
        if listed["total"] == count:
            return {"per_s": round(count / seconds)}
        await asyncio.sleep(0.5)


async def probe(client: Client) -> Row:
    """A command that is due soon is carried out."""
    at = datetime.now(UTC) + timedelta(milliseconds=500)
    await client.schedule(SendReminder(order_id="probe"), at)
    return {"first_late_ms": round(1000 * await asyncio.wait_for(fired.get(), 60), 2)}


async def cancel(client: Client, count: int) -> Row:
    """One after the other."""
    times = []
    for number in random.sample(range(count), min(count, CANCELS)):
        began = time.perf_counter()
        withdrawn = await client.cancel(command_id("default", f"reminder:{number}"))
        times.append(time.perf_counter() - began)
        assert withdrawn
    times.sort()
    return {
        f"cancel_p{share}_ms": round(1000 * times[len(times) * share // 100], 2)
        for share in (50, 99)
    }


async def child(mode: str, count: int) -> None:
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(30),
    )
    async with app.serve(Settings.read()) as runtime:
        client = runtime.client()
        if mode == "fill":
            say(await fill(client, count))
            return
        say(await probe(client))
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
        )
        await lines.readline()
        say(await cancel(client, count))


def say(answer: Row) -> None:
    print(json.dumps(answer), flush=True)


# --- the driver ----------------------------------------------------------------------------------


@contextmanager
def engine(mode: str, count: int, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, __file__, mode, str(count)],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def heard(process: subprocess.Popen[str]) -> Row:
    assert process.stdout is not None
    answer: Row = json.loads(process.stdout.readline())
    return answer


def disk(url: str, directory: Path) -> int:
    if url.startswith("sqlite"):
        import sqlite3

        with sqlite3.connect(f"file:{directory}/c1.db?mode=ro", uri=True) as db:
            pages = db.execute("pragma page_count").fetchone()[0]
            return int(pages) * int(db.execute("pragma page_size").fetchone()[0])
    import psycopg

    with psycopg.connect(url) as connection:
        row = connection.execute("select pg_database_size(current_database())").fetchone()
        assert row is not None
        return int(row[0])


def measure(url: str, directory: Path, valkey: str, count: int) -> Row:
    environment = {
        "HORAE_STORE_URL": url,
        "HORAE_REDIS_URL": valkey,
        "HORAE_DATA_DIR": str(directory),
    }
    with engine("wait", 0, environment) as process:
        heard(process)  # the tables and the views are there
    with redis.Redis.from_url(valkey) as views:
        empty = (disk(url, directory), views.info("memory")["used_memory"])
        with engine("fill", count, environment) as process:
            row = {"waiting": count, **heard(process)}
            process.wait(120)
        row["bytes_on_disk"] = round((disk(url, directory) - empty[0]) / count)
        row["bytes_in_valkey"] = round((views.info("memory")["used_memory"] - empty[1]) / count)
    began = time.perf_counter()
    with engine("wait", count, environment) as process:
        row |= heard(process)
        row["ready_s"] = round(time.perf_counter() - began, 2)
        watched = psutil.Process(process.pid)
        time.sleep(10)
        before = sum(watched.cpu_times()[:2])
        time.sleep(IDLE)
        used = sum(watched.cpu_times()[:2]) - before
        row["idle_cpu_percent"] = round(100 * used / IDLE, 2)
        row["memory_mb"] = round(watched.memory_full_info().pss / 1e6, 1)
        assert process.stdin is not None
        process.stdin.write("cancel\n")
        process.stdin.flush()
        row |= heard(process)
    return row


def commands(store: str, count: int) -> Row:
    with tempfile.TemporaryDirectory() as folder, Valkey() as valkey:
        if store == "sqlite":
            return measure(f"sqlite:///{folder}/c1.db", Path(folder), valkey.url, count)
        with Postgres() as server:
            return measure(server.url, Path(folder), valkey.url, count)


if __name__ == "__main__":
    asyncio.run(child(sys.argv[1], int(sys.argv[2])))
